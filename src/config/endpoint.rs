//! URLs: usable or not, shown without what may be a credential.

use std::ops::Range;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use super::checked::Findings;
use super::complaint::Complaint;
use crate::model::{Header, HttpEndpoint, Network, Secret, TlsSettings};

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

/// Where a server is: a URL over HTTP, or a Unix-domain socket.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) url: Url,
    pub(super) socket: Option<PathBuf>,
}

/// The path that requests over a Unix-domain socket ask for, unless the user names one: what SDKs serve by default.
const SOCKET_PATH: &str = "/mcp";

/// Reads `http://`, `https://` and `unix:///path/to.sock`, which may be followed by `:/path` to ask for.
///
/// # Errors
/// What is wrong, to stand after "the URL".
pub(super) fn parse_address(text: &str) -> Result<Address, String> {
    if let Some(rest) = text.strip_prefix("unix://") {
        let (socket, path) = match rest.split_once(":/") {
            Some((socket, path)) => (socket, format!("/{path}")),
            None => (rest, SOCKET_PATH.to_owned()),
        };
        if !socket.starts_with('/') || socket.len() < 2 {
            return Err("has to name a file: unix:///run/mcp.sock".to_owned());
        }
        if SocketAddr::from_pathname(socket).is_err() {
            return Err("the path is too long for a Unix-domain socket".to_owned());
        }
        let url = Url::parse(&format!("http://localhost{path}"));
        return Ok(Address {
            url: url.map_err(|error| error.to_string())?,
            socket: Some(PathBuf::from(socket)),
        });
    }
    match Url::parse(text) {
        Ok(url) if url.scheme() == "unix" => Err("write unix:///run/mcp.sock".to_owned()),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Err(format!(
            "{}:// is not supported, only http://, https:// and unix://",
            url.scheme()
        )),
        Ok(url) if url.host_str().is_none_or(str::is_empty) => Err("names no host".to_owned()),
        Ok(url) => Ok(Address { url, socket: None }),
        Err(error) => Err(error.to_string()),
    }
}

/// The address of a server, or a complaint.
pub(super) fn check_address(
    text: &str,
    span: &Range<usize>,
    out: &mut Findings,
) -> Option<Address> {
    match parse_address(text) {
        Ok(address) => Some(address),
        Err(problem) => {
            out.error(
                Complaint::at(span.clone(), "`url` is no usable URL", problem)
                    .help("for example \"https://weather.example/mcp\""),
            );
            None
        }
    }
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

/// A header's value as it may be shown: `${VAR}`, also after the name of a scheme (`Bearer ${VAR}`), or stars.
pub(super) fn shown_header(typed: &str) -> String {
    match typed.split_once(' ') {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphabetic()) => {
            format!("{scheme} {}", mask(rest.trim()))
        }
        _ => mask(typed).to_owned(),
    }
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
    address: Address,
    shown: String,
    mut headers: Vec<Header>,
    secrets: &mut Vec<Secret>,
) -> HttpEndpoint {
    let Address { mut url, socket } = address;
    // A server may repeat a value as it was sent or as it is meant.
    for pair in url.query().unwrap_or_default().split('&') {
        secrets.push(Secret::new(
            pair.split_once('=').map_or(pair, |(_, value)| value),
        ));
    }
    for (_, value) in url.query_pairs() {
        secrets.push(Secret::new(value));
    }
    if let Some(value) = take_credentials(&mut url, secrets) {
        headers.push(Header {
            name: http::header::AUTHORIZATION,
            value,
            shown: "***".to_owned(),
        });
    }
    HttpEndpoint {
        url,
        socket,
        shown,
        headers,
        network: Network::default(),
        tls: TlsSettings::default(),
    }
}

/// Takes user and password out of a URL; answers them as Basic authentication.
pub(super) fn take_credentials(url: &mut Url, secrets: &mut Vec<Secret>) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = url.password().map(decoded);
    let pair = format!("{user}:{}", password.as_deref().unwrap_or_default());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    secrets.extend(url.password().map(Secret::new));
    secrets.extend(password.map(Secret::new));
    url.set_username("").ok();
    url.set_password(None).ok();
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    secrets.push(Secret::new(encoded));
    Some(value)
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
