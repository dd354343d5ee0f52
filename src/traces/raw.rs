//! A span that lies in somebody's buffer: read from a request or a block, written into a block, never kept.

use std::borrow::Cow;

/// What all formats are read into. Its lists are reused from span to span.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RawSpan<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) tracestate: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    /// As OTLP numbers it.
    pub(super) kind: u8,
    /// Nanoseconds since the epoch.
    pub(super) start: u64,
    pub(super) duration: u64,
    /// As OTLP numbers it.
    pub(super) status: u8,
    pub(super) message: Cow<'a, str>,
    pub(super) attributes: Vec<RawAttribute<'a>>,
    pub(super) events: Vec<RawEvent<'a>>,
    pub(super) links: Vec<RawLink>,
    /// Attributes, events and links that were left out.
    pub(super) dropped: u32,
}

/// Trace and span.
pub(super) type RawLink = ([u8; 16], [u8; 8]);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawAttribute<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: RawValue<'a>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum RawValue<'a> {
    #[default]
    Empty,
    Text(Cow<'a, str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Cow<'a, [u8]>),
    /// An array or a map, written as JSON.
    Json(Cow<'a, str>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawEvent<'a> {
    pub(super) at: u64,
    pub(super) name: Cow<'a, str>,
    pub(super) attributes: Vec<RawAttribute<'a>>,
}

impl RawSpan<'_> {
    /// The first attribute of that name.
    pub(super) fn attribute(&self, key: &str) -> Option<&RawValue<'_>> {
        find(&self.attributes, key)
    }
}

pub(super) fn find<'a>(attributes: &'a [RawAttribute<'a>], key: &str) -> Option<&'a RawValue<'a>> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| &attribute.value)
}
