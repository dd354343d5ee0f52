//! The grammar of `tracestate` (W3C Trace Context, section 3.3).

/// Members of one list.
const MAX_MEMBERS: usize = 32;
/// Every implementation has to pass on at least this many characters.
const MAX_LENGTH: usize = 512;

/// Checks a whole header value; empty is allowed and means that none is sent.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn check(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    if value.len() > MAX_LENGTH {
        return Err(format!("longer than {MAX_LENGTH} characters"));
    }
    let members: Vec<_> = value.split(',').map(str::trim).collect();
    if members.len() > MAX_MEMBERS {
        return Err(format!("more than {MAX_MEMBERS} members"));
    }
    let mut keys = Vec::new();
    for member in members {
        let Some((key, value)) = member.split_once('=') else {
            return Err(format!("`{member}` is not key=value"));
        };
        if !is_key(key) {
            return Err(format!("`{key}` is no key"));
        }
        if !is_value(value) {
            return Err(format!("the value of `{key}` is not allowed"));
        }
        if keys.contains(&key) {
            return Err(format!("`{key}` stands twice"));
        }
        keys.push(key);
    }
    Ok(())
}

fn is_key(key: &str) -> bool {
    let starts_well = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '*' | '/' | '@')
    };
    starts_well && key.len() <= 256 && key.chars().all(allowed)
}

fn is_value(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 256
        && value
            .bytes()
            .all(|b| (0x20..=0x7e).contains(&b) && b != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_grammar() {
        for good in ["", "alivemcp=probe,vendor=otlp", "a@b=1", "1=x, b=y z"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "alivemcp", "=x", "A=1", "a=1,a=2", "a=", "a=ü", "a=b=c", "a=1,",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
