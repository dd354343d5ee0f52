//! `${VAR}` and `${file:PATH}` in strings of the configuration.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use crate::model::Secret;

/// A string after substitution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Substituted {
    /// What it means. May hold secrets.
    pub(super) value: String,
    /// What was typed: may be shown.
    pub(super) shown: String,
    /// What was put in.
    pub(super) secrets: Vec<Secret>,
}

/// Where values come from.
pub(super) struct Sources<'a> {
    /// Looks up an environment variable.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// What the paths of `${file:PATH}` are relative to.
    pub(super) folder: &'a Path,
    /// The time of judging.
    pub(super) now: SystemTime,
}

/// Largest file that is read as a secret, bytes: a token or a certificate chain.
const MAX_FILE: u64 = 64 * 1024;

/// Replaces every `${...}` of `typed`; `$${` stands for `${` itself.
///
/// # Errors
/// A sentence for the first thing that cannot be put in.
pub(super) fn substitute(typed: &str, sources: &Sources<'_>) -> Result<Substituted, String> {
    let mut result = Substituted {
        shown: typed.to_owned(),
        ..Substituted::default()
    };
    let mut rest = typed;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            result.value.push_str(before);
            result.value.push_str("${");
            rest = after;
            continue;
        }
        let Some((name, after)) = after.split_once('}') else {
            return Err("`${` without `}`".to_owned());
        };
        let value = look_up(name, sources)?;
        result.value.push_str(before);
        result.value.push_str(&value);
        if !is_port(&value) {
            result.secrets.push(Secret::new(value));
        }
        rest = after;
    }
    result.value.push_str(rest);
    Ok(result)
}

/// A port is put in like a token, and masking it would make messages unreadable.
fn is_port(value: &str) -> bool {
    value.len() <= 5 && value.parse::<u16>().is_ok()
}

fn look_up(name: &str, sources: &Sources<'_>) -> Result<String, String> {
    let Some(path) = name.strip_prefix("file:") else {
        return (sources.env)(name)
            .ok_or_else(|| format!("the environment variable `{name}` is not set"));
    };
    let path = sources.folder.join(path);
    let text = String::from_utf8(read_limited(&path, MAX_FILE)?)
        .map_err(|_| format!("cannot read {}: it is not UTF-8", path.display()))?;
    // Editors and `echo` end a file with a line end that is no part of the secret.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A whole file of at most `limit` bytes. The length is counted while reading: what metadata say of a device or a
/// pipe means nothing.
///
/// # Errors
/// A sentence with the path.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{shown} is larger than {limit} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_in(typed: &str) -> Result<Substituted, String> {
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "from-file\n").unwrap();
        substitute(
            typed,
            &Sources {
                env: &env,
                folder: folder.path(),
                now: SystemTime::UNIX_EPOCH,
            },
        )
    }

    #[test]
    fn puts_in_and_shows_what_was_typed() {
        let text = put_in("Bearer ${TOKEN}/${file:key}").unwrap();
        assert_eq!(text.value, "Bearer s3cret/from-file");
        assert_eq!(text.shown, "Bearer ${TOKEN}/${file:key}");
        assert_eq!(
            text.secrets,
            [Secret::new("s3cret"), Secret::new("from-file")]
        );
        assert_eq!(
            put_in("$${TOKEN} costs $5").unwrap().value,
            "${TOKEN} costs $5"
        );
    }

    #[test]
    fn says_what_is_missing() {
        for (typed, word) in [
            ("${NOSUCH}", "NOSUCH"),
            ("${TOKEN", "without"),
            ("${file:nosuch}", "nosuch"),
        ] {
            assert!(put_in(typed).unwrap_err().contains(word), "{typed}");
        }
    }
}
