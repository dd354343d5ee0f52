//! One request, from its head to its answer.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request};
use hyper::body::Incoming;
use subtle::ConstantTimeEq;

use super::answer::{Answer, Dialect, Refusal, refused, taken};
use super::forward::Passed;
use super::{Shared, body, limits, question};
use crate::traces::admission::Tally;
use crate::traces::pending::{Encoding, Taken};

const HTTP_PATH: &str = "/v1/traces";
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Before a message of gRPC: whether it is compressed, and its length.
const GRPC_PREFIX: usize = 5;

pub(super) async fn answer(request: Request<Incoming>, shared: &Shared) -> Answer {
    let (head, body) = request.into_parts();
    let dialect = dialect(&head.headers);
    if question::is_one(&head) && dialect != Dialect::Grpc {
        return question::answer(&head, body, shared).await;
    }
    match take(&head, dialect, body, shared).await {
        Ok(tally) => taken(dialect, &tally),
        Err(refusal) => {
            shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            refused(dialect, &refusal)
        }
    }
}

fn dialect(headers: &HeaderMap) -> Dialect {
    match value(headers, &CONTENT_TYPE) {
        "application/x-protobuf" | "application/protobuf" => Dialect::Http(Encoding::Protobuf),
        kind if kind.starts_with("application/grpc") => Dialect::Grpc,
        // Whoever sends neither can read this best.
        _ => Dialect::Http(Encoding::Json),
    }
}

/// A header without its parameters.
fn value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let value = value.unwrap_or_default();
    value
        .split_once(';')
        .map_or(value, |(value, _)| value)
        .trim()
}

async fn take(
    head: &Parts,
    dialect: Dialect,
    body: Incoming,
    shared: &Shared,
) -> Result<Tally, Refusal> {
    let path = head.uri.path().trim_end_matches('/');
    match (dialect, path) {
        (Dialect::Http(_), HTTP_PATH) | (Dialect::Grpc, GRPC_PATH) => {}
        _ => return Err(Refusal::NotFound),
    }
    if head.method != Method::POST {
        return Err(Refusal::Method);
    }
    if !is_authorized(head, shared) {
        return Err(Refusal::Unauthorized);
    }
    let encoding = match dialect {
        Dialect::Grpc => Encoding::Protobuf,
        Dialect::Http(encoding) => encoding,
    };
    let kind = value(&head.headers, &CONTENT_TYPE);
    if dialect == Dialect::Http(Encoding::Json) && kind != "application/json" {
        return Err(Refusal::MediaType(format!("content type {kind:?}")));
    }
    let is_gzip = match dialect {
        Dialect::Grpc => is_gzip(&head.headers, &HeaderName::from_static("grpc-encoding"))?,
        Dialect::Http(_) => is_gzip(&head.headers, &CONTENT_ENCODING)?,
    };
    let (whole, _counted) = body::receive(body, limits::BODY, &shared.in_flight).await?;
    let (message, is_gzip) = match dialect {
        Dialect::Grpc => unframed(whole, is_gzip)?,
        Dialect::Http(_) => (whole, is_gzip),
    };
    let passed = Passed {
        body: message,
        is_gzip,
        encoding,
    };
    take_in(passed, shared)
}

/// Puts a request's spans in, and passes it on when something of it is good.
pub(super) fn take_in(passed: Passed, shared: &Shared) -> Result<Tally, Refusal> {
    let bytes = if passed.is_gzip {
        Cow::Owned(body::gunzip(&passed.body)?)
    } else {
        Cow::Borrowed(passed.body.as_ref())
    };
    match shared
        .intake
        .take(passed.encoding, &bytes, SystemTime::now())
    {
        Taken::In(tally) => {
            let counts = &shared.counts;
            counts.accepted.fetch_add(tally.accepted, Ordering::Relaxed);
            counts
                .rejected
                .fetch_add(tally.rejected(), Ordering::Relaxed);
            drop(bytes);
            if let (Some(forward), 1..) = (&shared.forward, tally.accepted) {
                forward.pass(passed);
            }
            Ok(tally)
        }
        Taken::Undecodable(why) => Err(Refusal::Undecodable(why.0)),
        Taken::Full => Err(Refusal::Busy),
    }
}

/// The comparison takes the same time wherever the token is wrong.
pub(super) fn is_authorized(head: &Parts, shared: &Shared) -> bool {
    let Some(token) = &shared.token else {
        return true;
    };
    let shown = head
        .headers
        .get(AUTHORIZATION)
        .map_or(&b""[..], |v| v.as_bytes());
    let Some((scheme, shown)) = shown.split_at_checked("Bearer ".len()) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(shown.ct_eq(token.expose().as_bytes()))
}

fn is_gzip(headers: &HeaderMap, name: &HeaderName) -> Result<bool, Refusal> {
    match value(headers, name) {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        other => Err(Refusal::MediaType(format!("{name} {other:?}"))),
    }
}

/// The one message of a unary call.
fn unframed(body: Bytes, may_be_gzip: bool) -> Result<(Bytes, bool), Refusal> {
    let wrong = || Refusal::Undecodable("it is not one message of gRPC".to_owned());
    let (prefix, message) = body.split_first_chunk::<GRPC_PREFIX>().ok_or_else(wrong)?;
    let [flag, length @ ..] = *prefix;
    let is_gzip = match flag {
        0 => false,
        1 if may_be_gzip => true,
        _ => return Err(wrong()),
    };
    if message.len() != u32::from_be_bytes(length) as usize {
        return Err(wrong());
    }
    Ok((body.slice(GRPC_PREFIX..), is_gzip))
}
