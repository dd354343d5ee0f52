//! URLs: usable or not, shown without what may be a credential.

use std::ops::Range;

use base64::Engine;
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::checked::Findings;
use super::complaint::Complaint;
use crate::model::{HttpEndpoint, Secret};

/// A URL over HTTP with a host, or a complaint.
pub(super) fn check_url(
    text: &str,
    span: &Range<usize>,
    key: &str,
    out: &mut Findings,
) -> Option<Url> {
    let problem = match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!(
                "{}:// is not supported, only http:// and https://",
                url.scheme()
            )
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => "names no host".to_owned(),
        Ok(url) => return Some(url),
        Err(error) => error.to_string(),
    };
    out.error(
        Complaint::at(span.clone(), format!("`{key}` is no usable URL"), problem)
            .help("for example \"https://weather.example/mcp\""),
    );
    None
}

/// What was typed for a URL, without what may be a credential: its user and the values of its query. What is put
/// in from elsewhere stays as it was typed (`${VAR}`).
pub(super) fn shown_url(typed: &str) -> String {
    let typed = typed.split('#').next().unwrap_or_default();
    let (base, query) = match typed.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (typed, None),
    };
    let mut shown = match base.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            let user = authority.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", rest.get(user..).unwrap_or_default())
        }
        None => base.to_owned(),
    };
    if let Some(query) = query {
        let masked: Vec<_> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => format!("{name}={}", mask(value)),
                None => mask(pair).to_owned(),
            })
            .collect();
        shown.push('?');
        shown.push_str(&masked.join("&"));
    }
    shown
}

/// A value that is nothing but `${...}` shows where it comes from.
fn mask(value: &str) -> &str {
    let inside = value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    if inside.is_some_and(|name| !name.contains(['$', '}'])) {
        value
    } else {
        "***"
    }
}

/// An endpoint; a user and password in the URL become the `Authorization` header.
pub(super) fn http_endpoint(
    mut url: Url,
    shown: String,
    mut headers: Vec<(HeaderName, HeaderValue)>,
    secrets: &mut Vec<Secret>,
) -> HttpEndpoint {
    // A server may repeat a value as it was sent or as it is meant.
    for pair in url.query().unwrap_or_default().split('&') {
        secrets.push(Secret::new(
            pair.split_once('=').map_or(pair, |(_, value)| value),
        ));
    }
    for (_, value) in url.query_pairs() {
        secrets.push(Secret::new(value));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = decoded(url.username());
        let password = url.password().map(decoded);
        let pair = format!("{user}:{}", password.as_deref().unwrap_or_default());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {encoded}")) {
            value.set_sensitive(true);
            headers.push((http::header::AUTHORIZATION, value));
        }
        secrets.extend(url.password().map(Secret::new));
        secrets.extend(password.map(Secret::new));
        secrets.push(Secret::new(encoded));
        url.set_username("").ok();
        url.set_password(None).ok();
    }
    HttpEndpoint {
        url,
        shown,
        headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_credential() {
        for (typed, shown) in [
            ("https://user:pass@host/mcp", "https://host/mcp"),
            (
                "https://host/mcp?key=abc&flag",
                "https://host/mcp?key=***&***",
            ),
            (
                "https://user:pass@host/?k=${K}&l=a${L}",
                "https://host/?k=${K}&l=***",
            ),
            (
                "https://host/${PATH_TOKEN}/mcp",
                "https://host/${PATH_TOKEN}/mcp",
            ),
            ("http://host:8080/mcp#part", "http://host:8080/mcp"),
        ] {
            assert_eq!(shown_url(typed), shown);
        }
    }
}
