//! The lines that complaints show, with everything starred out that may be a secret.
//!
//! This works on the text and not on what was parsed: after a syntax error or under a misspelt key nobody knows what
//! a value is. So only the values of keys that never hold a secret are left readable.

/// Keys whose values are never secret.
const HARMLESS: &[&str] = &[
    "name",
    "every",
    "cron",
    "timezone",
    "timeout",
    "profile",
    "era",
    "redirects",
    "trace_context",
    "tags",
    "window",
    "recheck",
    "backend",
    "traces",
    "otlp_http",
    "otlp_grpc",
    "keep_content",
    "region",
    "site",
    "api",
    "dataset",
    "database",
    "table",
    "index",
    "project",
    "account",
    "team",
    "environment",
    "tenant",
    "org",
    "datasource",
    "path",
    "keep",
    "keep_failures",
    "max_size",
    "cwd",
    "service",
    "tracestate",
    "resource",
    "description",
    "depth",
    "expect",
    "auth_challenge",
    "tools",
    "min_tools",
    "max_latency",
    "max_transport",
    "max_http",
    "max_initialize",
    "max_tools_list",
    "certificate_days",
    "down",
    "protocol",
    "resolver",
    "ip",
    "source_address",
    "server_name",
    "insecure_skip_verify",
    "ca_file",
    "cert_file",
    "parent",
    "confirm",
    "confirm_delay",
    "down_after",
    "up_after",
    "intermittent",
    "flapping",
    "server",
    "servers",
    "tag",
    "severity",
    "layer",
    "verdict",
    "channels",
    "after",
    "repeat",
    "hours",
    "duration",
    "type",
    "group",
    "retry_first",
    "retry_max",
    "give_up_after",
    "rate_limit",
    "fallback",
    "resend",
    "tls",
    "format",
];

/// The same text, byte by byte as long, so that marks keep their place.
pub(super) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        masked.push_str(&masked_line(line));
    }
    masked
}

fn masked_line(line: &str) -> String {
    let trimmed = line.trim_start();
    // A table's head and a comment of its own line hold no value, but a comment may hold one that is switched off.
    if trimmed.starts_with('[') && !trimmed.contains('=') && !trimmed.contains(['"', '\'']) {
        return line.to_owned();
    }
    let Some((key, value)) = line.split_once('=') else {
        return starred(line);
    };
    let name = key.trim().trim_start_matches('#').trim();
    // The last line of PEM in a string of several lines looks like a key without a value.
    let is_base64 = value.trim().trim_matches('=').is_empty() && name.contains(char::is_uppercase);
    if is_base64 || !name.chars().all(is_key_character) {
        return starred(line);
    }
    // An `=` is another value on the line, and five dashes are PEM, with a key perhaps, where a file should be named.
    if HARMLESS.contains(&name) && !value.contains('=') && !value.contains("-----") {
        return line.to_owned();
    }
    format!("{key}={}", starred_strings(value))
}

/// Letters and digits starred out.
fn starred(text: &str) -> String {
    let star = |c: char| std::iter::repeat_n('*', c.len_utf8());
    let mut starred = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            starred.extend(star(c));
        } else {
            starred.push(c);
        }
    }
    starred
}

/// Everything starred out but the names in inline tables (`{ name = ... }`), numbers aside from strings, and `${NAME}`.
fn starred_strings(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find(['"', '\'']) {
        let (before, quoted) = rest.split_at(at);
        out.push_str(&starred_bare(before));
        let quote = quoted.chars().next().unwrap_or('"');
        let inner = quoted.get(1..).unwrap_or_default();
        let end = inner
            .find(quote)
            .unwrap_or(inner.trim_end_matches(['\n', '\r']).len());
        let (string, after) = inner.split_at(end);
        out.push(quote);
        // A quoted key of an inline table is a name.
        let closing = after.get(1..).unwrap_or_default();
        let is_key = after.starts_with(quote) && closing.trim_start().starts_with('=');
        out.push_str(&if is_key {
            string.to_owned()
        } else {
            starred_but_variables(string)
        });
        match after.strip_prefix(quote) {
            Some(after) => {
                out.push(quote);
                rest = after;
            }
            None => rest = after,
        }
    }
    out.push_str(&starred_bare(rest));
    out
}

/// Outside of strings stand the keys of inline tables, numbers, and what should have been a string.
fn starred_bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_key_character) {
        let (before, word) = rest.split_at(at);
        out.push_str(before);
        let end = word.find(|c| !is_key_character(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        let is_key = after.trim_start().starts_with('=');
        let is_value = word.parse::<f64>().is_ok() || matches!(word, "true" | "false");
        out.push_str(&if is_key || is_value {
            word.to_owned()
        } else {
            starred(word)
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_key_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn starred_but_variables(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    let mut rest = string;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        out.push_str(&starred(before));
        out.push_str("${");
        out.push_str(name);
        out.push('}');
        rest = after;
    }
    out.push_str(&starred(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_starred_and_the_rest_can_be_read() {
        for (line, shown) in [
            ("name = \"weather\"", "name = \"weather\""),
            ("[[server]]", "[[server]]"),
            ("ca_file = \"tls/ca.pem\"", "ca_file = \"tls/ca.pem\""),
            ("key_file = \"key.pem\"", "key_file = \"***.***\""),
            (
                "cert_file = \"-----BEGIN X\"",
                "cert_file = \"-----***** *\"",
            ),
            ("url = \"http://u:p@h\"", "url = \"****://*:*@*\""),
            (
                "headers = { \"X\" = \"tok\" }",
                "headers = { \"X\" = \"***\" }",
            ),
            (
                "headers = { A = \"Bearer ${T}x\" }",
                "headers = { A = \"****** ${T}*\" }",
            ),
            ("environ = { A = 'tok", "environ = { A = '***"),
            ("every = 5", "every = 5"),
            ("headers = { A = tok-1", "headers = { A = ***-*"),
            ("command = 3", "command = 3"),
            ("tok-en", "***-**"),
            ("c2VjcmV0cw==", "**********=="),
            ("c2VjcmV0cw=", "**********="),
            ("every =", "every ="),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    proptest! {
        #[test]
        fn the_length_never_changes(text in any::<String>()) {
            prop_assert_eq!(masked(&text).len(), text.len());
        }
    }
}
