//! The head of an answer: what its status and content type mean for MCP.

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;

use super::fault::Fault;
use crate::model::Reason;

/// The head of an answer, and the rest of it.
pub(super) type Head = Response<Incoming>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentKind {
    Json,
    EventStream,
    Other,
}

impl ContentKind {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if essence.eq_ignore_ascii_case("text/event-stream") {
            Self::EventStream
        } else {
            Self::Other
        }
    }
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The statuses with a meaning of their own, before any body: 401, 403, 407, 429.
pub(super) fn refused(head: &Head) -> Option<Fault> {
    let status = head.status();
    // A server may offer several schemes, each on a line of its own.
    let lines: Vec<_> = head
        .headers()
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .map(shown)
        .collect();
    let challenge = (!lines.is_empty()).then(|| lines.join(", "));
    let fault = match (status, challenge) {
        (StatusCode::UNAUTHORIZED, Some(challenge)) => {
            let (scheme, says) = challenge.split_once(' ').unwrap_or((&challenge, ""));
            let scheme = scheme.trim_end_matches(',');
            let mut message =
                format!("HTTP 401 Unauthorized: the server asks for a credential ({scheme})");
            if !says.is_empty() {
                message.push_str(": ");
                message.push_str(says);
            }
            Fault::new(Reason::AuthRequired, message)
        }
        (StatusCode::FORBIDDEN, Some(challenge)) if challenge.contains("insufficient_scope") => {
            Fault::new(
                Reason::AuthRequired,
                "HTTP 403 Forbidden: the credential's scope is insufficient",
            )
        }
        (StatusCode::FORBIDDEN, _) => Fault::new(Reason::Forbidden, "HTTP 403 Forbidden"),
        (StatusCode::TOO_MANY_REQUESTS, _) => Fault::new(
            Reason::RateLimited,
            format!("HTTP 429 Too Many Requests{}", retry_after(head)),
        ),
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => Fault::new(
            Reason::Proxy,
            "HTTP 407: a proxy on the way asks for a credential",
        ),
        (StatusCode::UNAUTHORIZED, None) => Fault::new(
            Reason::HttpStatus,
            "HTTP 401 Unauthorized, without a challenge (WWW-Authenticate)",
        ),
        _ => return None,
    };
    Some(fault.with_status(status.as_u16()))
}

pub(super) fn bad_status(head: &Head) -> Fault {
    let status = head.status();
    let mut message = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    };
    message.push_str(&retry_after(head));
    Fault::new(Reason::HttpStatus, message).with_status(status.as_u16())
}

/// When the server wants to be asked again, to stand after the status. A date or seconds; more is nonsense.
fn retry_after(head: &Head) -> String {
    match head.headers().get(RETRY_AFTER) {
        Some(value) if value.len() <= 40 => format!(" (Retry-After: {})", shown(value)),
        _ => String::new(),
    }
}

pub(super) fn bad_content_type(head: &Head) -> Fault {
    let status = head.status();
    let message = match head.headers().get(CONTENT_TYPE) {
        Some(found) => format!(
            "HTTP {} with content type {}, which MCP cannot use",
            status.as_u16(),
            shown(found)
        ),
        None => format!("HTTP {} without a content type", status.as_u16()),
    };
    Fault::new(Reason::ContentType, message).with_status(status.as_u16())
}
