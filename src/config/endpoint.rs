//! URLs: usable or not, shown without what may be a credential.

use std::ops::Range;

use base64::Engine;
use http::{HeaderName, HeaderValue};
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

/// The URL without what may be a credential: its user and the values of its query.
pub(super) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    if !shown.username().is_empty() || shown.password().is_some() {
        // Both only fail for URLs without a host.
        shown.set_username("").ok();
        shown.set_password(None).ok();
    }
    if let Some(query) = url.query() {
        let masked: Vec<_> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) => format!("{name}=***"),
                None => pair.to_owned(),
            })
            .collect();
        shown.set_query(Some(&masked.join("&")));
    }
    shown.set_fragment(None);
    shown.into()
}

/// An endpoint; a user and password in the URL become the `Authorization` header.
pub(super) fn http_endpoint(
    mut url: Url,
    shown: String,
    mut headers: Vec<(HeaderName, HeaderValue)>,
    secrets: &mut Vec<Secret>,
) -> HttpEndpoint {
    for (_, value) in url.query_pairs() {
        secrets.push(Secret::new(value));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let pair = format!("{}:{}", url.username(), url.password().unwrap_or_default());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        if let Some(password) = url.password() {
            secrets.push(Secret::new(password));
        }
        if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {encoded}")) {
            value.set_sensitive(true);
            headers.push((http::header::AUTHORIZATION, value));
        }
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
