//! Trace and span ids of W3C Trace Context.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The instrumentation scope of our own spans, by which a backend's answer tells them from
/// others': the service's name may be changed by the environment, this not.
pub const OWN_SCOPE: &str = "mcpprobe";

/// A 128-bit trace id, written as 32 lower-case hex digits; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// A 64-bit span id, written as 16 lower-case hex digits; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// A fresh id. Not cryptographic: it has to be unique, not secret.
    pub fn random() -> Self {
        Self((fastrand::u128(1..)).to_be_bytes())
    }
}

impl SpanId {
    /// A fresh id.
    pub fn random() -> Self {
        Self((fastrand::u64(1..)).to_be_bytes())
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Written at once: two ids for each request make `{:02x}` per byte show up in profiles.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    f.write_str(&text)
}

/// Reads hex of at most `N` bytes; shorter ids are padded on the left, because
/// some backends strip leading zeros.
fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(text, 16).ok().filter(|n| *n != 0)?;
    let bytes = number.to_be_bytes();
    bytes.get(16 - N..)?.try_into().ok()
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no hex id, or is all zero.
#[derive(Debug, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a hex id")
    }
}

impl std::error::Error for BadId {}

impl FromStr for TraceId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        read_hex(text).map(Self).ok_or(BadId)
    }
}

impl FromStr for SpanId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        read_hex(text).map(Self).ok_or(BadId)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SpanId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_write() {
        let id = TraceId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        let id = SpanId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn stripped_zeros_are_restored_and_nonsense_is_refused() {
        let id: TraceId = "abc".parse().unwrap();
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        for bad in ["", "0", "xyz", "+1", "0123456789abcdef0"] {
            assert_eq!(bad.parse::<SpanId>(), Err(BadId), "{bad}");
        }
    }
}
