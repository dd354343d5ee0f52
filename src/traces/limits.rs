//! How much of a span is kept. What is above is cut or left out, and the span says so.

/// Attributes of a span, events of one, links of one, attributes of an event: the SDKs' own default.
pub(super) const LIST: usize = 128;

/// Bytes of an attribute's value: enough for a URL or the beginning of a stack trace, and what mcp-devtools cuts at.
pub(super) const VALUE: usize = 4_096;

/// Bytes of a key, a name, a status' description or a `tracestate`: the longest one of the conventions has 60.
pub(super) const NAME: usize = 512;

/// Bytes of a whole span, after which nothing is added to it: of 4 KB values it could have 66 MB else.
pub(super) const SPAN: usize = 64 * 1024;

/// Arrays and maps in one another: more are no telemetry but an attack.
pub(super) const DEPTH: usize = 8;

/// Spans of one request; SDKs send 512, collectors 8,192. What is above is rejected, and the request told so.
pub(super) const SPANS: u64 = 65_536;

/// How a cut value ends.
pub(super) const MARK: char = '…';

/// `text` with at most `limit` bytes, and whether it had more.
pub(super) fn cut(text: &str, limit: usize) -> (&str, bool) {
    if text.len() <= limit {
        return (text, false);
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
    (text.get(..end.unwrap_or(0)).unwrap_or_default(), true)
}
