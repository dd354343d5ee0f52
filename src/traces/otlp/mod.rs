//! OTLP's trace request in both of its encodings, read span by span into the door's buffers.
//!
//! Both readers take any bytes: what is no request is [`Undecodable`], and what was let in of it is taken back by the
//! caller.

pub(super) mod json;
mod nested;
pub(super) mod protobuf;

/// Why the bytes are no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undecodable(pub(super) String);
