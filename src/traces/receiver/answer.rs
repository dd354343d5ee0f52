//! What senders are answered, in the words of each protocol.

use std::convert::Infallible;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::body::Unusable;
use super::limits;
use crate::traces::admission::Tally;
use crate::traces::cursor::{put_bytes, put_varint};
use crate::traces::pending::Encoding;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// How the sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Http(Encoding),
    Grpc,
}

/// Why a request is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Undecodable(String),
    TooLarge,
    TooSlow,
    /// It may come again.
    Busy,
    Unauthorized,
    NotFound,
    Method,
    MediaType(String),
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::TooLarge => Self::TooLarge,
            Unusable::Busy => Self::Busy,
            Unusable::TooSlow => Self::TooSlow,
            Unusable::BrokenOff => Self::Undecodable("the body broke off".to_owned()),
            Unusable::NotGzip => Self::Undecodable("the body is not gzip".to_owned()),
        }
    }
}

impl Refusal {
    /// HTTP's status and gRPC's code.
    fn codes(&self) -> (StatusCode, u8) {
        match self {
            Self::Undecodable(_) => (StatusCode::BAD_REQUEST, 3),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 8),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, 4),
            // The protocol's code for back-pressure; RESOURCE_EXHAUSTED is not retried by everybody.
            Self::Busy => (StatusCode::TOO_MANY_REQUESTS, 14),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, 16),
            Self::NotFound => (StatusCode::NOT_FOUND, 12),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, 12),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, 12),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Undecodable(why) => format!("cannot decode the request: {why}"),
            Self::TooLarge => format!(
                "the request is larger than {} bytes, or {} decompressed",
                limits::BODY,
                limits::DECODED
            ),
            Self::TooSlow => "the request's body took too long".to_owned(),
            Self::Busy => "too many spans are waiting to be stored: come again".to_owned(),
            Self::Unauthorized => "no `Authorization: Bearer` with the right token".to_owned(),
            Self::NotFound => "only traces are taken here: POST /v1/traces".to_owned(),
            Self::Method => "only POST is taken here".to_owned(),
            Self::MediaType(what) => format!("{what} is not taken here"),
        }
    }
}

/// Everything that may be kept is.
pub(super) fn taken(dialect: Dialect, tally: &Tally) -> Answer {
    match dialect {
        Dialect::Http(Encoding::Json) => {
            let answer = match tally.rejected() {
                0 => json!({}),
                rejected => json!({"partialSuccess": {
                    "rejectedSpans": rejected.to_string(), "errorMessage": tally.message()
                }}),
            };
            http(
                StatusCode::OK,
                Encoding::Json,
                answer.to_string().into_bytes(),
            )
        }
        Dialect::Http(Encoding::Protobuf) => {
            http(StatusCode::OK, Encoding::Protobuf, response(tally))
        }
        Dialect::Grpc => {
            let message = response(tally);
            let mut frame = vec![0];
            frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
            frame.extend_from_slice(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body =
                Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
            let mut answer = Response::new(body.boxed_unsync());
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            answer
        }
    }
}

/// Nothing of it is kept.
pub(super) fn refused(dialect: Dialect, refusal: &Refusal) -> Answer {
    let (status, code) = refusal.codes();
    let message = refusal.message();
    let mut answer = match dialect {
        Dialect::Http(Encoding::Json) => {
            let body = json!({"code": code, "message": message}).to_string();
            http(status, Encoding::Json, body.into_bytes())
        }
        Dialect::Http(Encoding::Protobuf) => http(
            status,
            Encoding::Protobuf,
            rpc_status(code, &message, false),
        ),
        Dialect::Grpc => return grpc_refused(refusal, code, &message),
    };
    let headers = answer.headers_mut();
    match refusal {
        Refusal::Busy => drop(headers.insert(RETRY_AFTER, limits::RETRY_AFTER.into())),
        Refusal::Method => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
        Refusal::Unauthorized => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    answer
}

fn http(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *answer.status_mut() = status;
    let content_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Without a message the status stands in the head.
fn grpc_refused(refusal: &Refusal, code: u8, message: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()).boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", u16::from(code).into());
    let escaped = percent_encoding::utf8_percent_encode(message, percent_encoding::CONTROLS);
    if let Ok(message) = escaped.to_string().parse() {
        headers.insert("grpc-message", message);
    }
    if *refusal == Refusal::Busy {
        let details = STANDARD_NO_PAD.encode(rpc_status(code, message, true));
        if let Ok(details) = details.parse() {
            headers.insert("grpc-status-details-bin", details);
        }
    }
    answer
}

/// `ExportTraceServiceResponse`; empty when all is well.
fn response(tally: &Tally) -> Vec<u8> {
    let mut out = Vec::new();
    if tally.rejected() > 0 {
        let mut partial = vec![1 << 3];
        put_varint(&mut partial, tally.rejected());
        partial.push(2 << 3 | 2);
        put_bytes(&mut partial, tally.message().as_bytes());
        out.push(1 << 3 | 2);
        put_bytes(&mut out, &partial);
    }
    out
}

/// `google.rpc.Status`, with a `RetryInfo` for who may come again.
fn rpc_status(code: u8, message: &str, again: bool) -> Vec<u8> {
    let mut out = vec![1 << 3, code, 2 << 3 | 2];
    put_bytes(&mut out, message.as_bytes());
    if again {
        let mut delay = vec![1 << 3];
        put_varint(&mut delay, limits::RETRY_AFTER);
        let mut info = vec![1 << 3 | 2];
        put_bytes(&mut info, &delay);
        let mut any = vec![1 << 3 | 2];
        put_bytes(&mut any, b"type.googleapis.com/google.rpc.RetryInfo");
        any.push(2 << 3 | 2);
        put_bytes(&mut any, &info);
        out.push(3 << 3 | 2);
        put_bytes(&mut out, &any);
    }
    out
}
