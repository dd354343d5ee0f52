//! Redirects: where to, and whether it is followed.

use http::header::LOCATION;
use http::{Method, StatusCode};
use url::Url;

use super::fault::Fault;
use super::head::Head;
use super::limits;
use crate::model::{Reason, Redirects};

/// Whether `status` sends us elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// They do not come to an end.
pub(super) fn too_many() -> Fault {
    let limit = limits::MAX_REDIRECTS;
    Fault::new(Reason::Redirect, format!("more than {limit} redirects"))
}

/// Same scheme, host and port.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Where `head`, an answer from `from`, sends us, if that is allowed.
pub(super) fn target(
    allowed: Redirects,
    from: &Url,
    method: &Method,
    head: &Head,
) -> Result<Url, Fault> {
    let status = head.status();
    let to = head
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| from.join(location).ok());
    let refusal = match &to {
        None => Some("without a usable Location".to_owned()),
        Some(to) => refusal(allowed, from, to, method, status),
    };
    match (to, refusal) {
        (Some(to), None) => Ok(to),
        (_, why) => Err(Fault::new(
            Reason::Redirect,
            format!("HTTP {status} {}", why.unwrap_or_default()),
        )
        .with_status(status.as_u16())),
    }
}

/// Why a redirect is not followed.
fn refusal(
    allowed: Redirects,
    from: &Url,
    to: &Url,
    method: &Method,
    status: StatusCode,
) -> Option<String> {
    let place = to.origin().ascii_serialization();
    let keeps_the_post = *method == Method::GET
        || matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
    if !keeps_the_post {
        let path = to.path();
        return Some(format!("to {place}{path} would turn the POST into a GET"));
    }
    match allowed {
        Redirects::Off => Some(format!("to {place}, and redirects are off")),
        Redirects::SameOrigin if !is_same_origin(from, to) => {
            Some(format!("to another origin, {place}"))
        }
        _ if from.scheme() == "https" && to.scheme() != "https" => {
            Some(format!("from https to {place}"))
        }
        _ if !matches!(to.scheme(), "http" | "https") => Some(format!("to {place}")),
        _ => None,
    }
}
