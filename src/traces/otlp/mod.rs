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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::traces::admission::{Admission, Rules};
    use crate::traces::block::Encoder;
    use crate::traces::sample;

    fn read(bytes: &[u8]) -> (Result<(), Undecodable>, Result<(), Undecodable>) {
        let (mut encoder, mut rules) = (Encoder::default(), Rules::new(false));
        let day = Duration::from_secs(24 * 3600);
        let mut admission = Admission::new(&mut encoder, &mut rules, SystemTime::now(), day);
        let protobuf = protobuf::read(bytes, &mut admission);
        (protobuf, json::read(bytes, &mut admission))
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn changed_requests_are_read_or_refused(
            places: Vec<(prop::sample::Index, u8)>, end: prop::sample::Index,
        ) {
            let mut span = sample::span(1, 1, Duration::ZERO);
            span.attributes = vec![sample::text("a", "b")];
            let mut bytes = sample::bytes("weather", vec![span]);
            for (place, byte) in places {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(end.index(bytes.len()) + 1);
            let _ = read(&bytes);
        }

        #[test]
        fn any_json_is_read_or_refused(inner in "[\\[\\]{},:\"a-z0-9]{0,60}") {
            let _ = read(inner.as_bytes());
            let wrapped = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"attributes\":[{inner}]}}]}}]}}]}}");
            let _ = read(wrapped.as_bytes());
        }
    }
}
