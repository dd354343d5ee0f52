//! A span as somebody recorded it and the embedded trace backend keeps it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::{SpanId, Text, TraceId, escaped};

/// A whole span, ours or another's. Everything in it is bounded at ingestion.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSpan {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// The span that it is a part of; a span that nobody may have recorded.
    pub parent: Option<SpanId>,
    /// W3C `tracestate`; empty when there was none.
    pub tracestate: Text,
    /// `service.name` of its resource; empty when it has none.
    pub service: Text,
    /// What is said of the process that recorded it. One list for all spans that came with it.
    pub resource: Arc<Vec<Attribute>>,
    /// Name of the library that recorded it.
    pub scope: Text,
    /// The library's version.
    pub scope_version: Text,
    /// Its name.
    pub name: Text,
    /// Whether it takes a request, makes one, or neither.
    pub kind: RecordedKind,
    /// When it began, by the clock of who recorded it.
    pub start: SystemTime,
    /// How long it took; zero for one that ended before it began.
    pub duration: Duration,
    /// What who recorded it says of its success.
    pub status: SpanStatus,
    /// In the order in which they came.
    pub attributes: Vec<Attribute>,
    /// In the order in which they came.
    pub events: Vec<SpanEvent>,
    /// Spans of other traces, or of this one.
    pub links: Vec<SpanLink>,
    /// Attributes, events and links that are not kept: because of a limit, or because of what they may hold.
    pub dropped: u32,
}

/// `SpanKind` of OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedKind {
    /// Neither takes a request nor makes one, or does not say.
    #[default]
    Internal,
    /// Takes a request.
    Server,
    /// Makes one.
    Client,
    /// Sends a message.
    Producer,
    /// Receives one.
    Consumer,
}

impl RecordedKind {
    /// As in Jaeger's `span.kind` and in every JSON contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// `Status` of OTLP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing is said, which is what a success is told with.
    #[default]
    Unset,
    /// Somebody says that it is a success, whatever else is there.
    Ok,
    /// It failed; the description may be empty.
    Error(Text),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The key.
    pub key: Text,
    /// The value.
    pub value: AttributeValue,
}

/// A value as it came, with nothing escaped: shown by its `Display`, which escapes.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// A string; one that was cut ends in `…`.
    Text(String),
    /// An integer.
    Int(i64),
    /// A number.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array or a map, as JSON; one that was cut ends in `…`, and is no JSON any more.
    Json(String),
    /// There is none.
    Empty,
}

impl AttributeValue {
    /// The string, unless it is something else.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as text, with nothing escaped: for comparing, not for showing.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) | Self::Json(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Double(number) => number.to_string(),
            Self::Bool(bool) => bool.to_string(),
            Self::Bytes(bytes) => hex(bytes),
            Self::Empty => String::new(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.plain()))
    }
}

/// As the value that it is; a map or an array as the JSON text that it is kept as.
impl Serialize for AttributeValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) | Self::Json(text) => serializer.serialize_str(text),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Double(number) => serializer.serialize_f64(*number),
            Self::Bool(bool) => serializer.serialize_bool(*bool),
            Self::Bytes(bytes) => serializer.serialize_str(&hex(bytes)),
            Self::Empty => serializer.serialize_unit(),
        }
    }
}

/// Something that happened in a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// When.
    pub at: SystemTime,
    /// What.
    pub name: Text,
    /// More about it.
    pub attributes: Vec<Attribute>,
}

/// A span that has to do with this one without being its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLink {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
}

impl RecordedSpan {
    /// When it ended.
    pub fn end(&self) -> SystemTime {
        self.start.checked_add(self.duration).unwrap_or(self.start)
    }

    /// Bytes that it takes, roughly, with what is said of its process: that is one list for many spans here, and stands
    /// beside each of them wherever they are shown or compared.
    pub fn size(&self) -> usize {
        let events = self.events.iter().map(|event| {
            size_of::<SpanEvent>() + event.name.as_str().len() + sizes(&event.attributes)
        });
        let message = match &self.status {
            SpanStatus::Error(message) => message.as_str().len(),
            SpanStatus::Unset | SpanStatus::Ok => 0,
        };
        size_of::<Self>()
            + self.name.as_str().len()
            + self.tracestate.as_str().len()
            + message
            + sizes(&self.attributes)
            + sizes(&self.resource)
            + events.sum::<usize>()
            + self.links.len() * size_of::<SpanLink>()
    }

    /// The first of its attributes of that name.
    pub fn attribute(&self, key: &str) -> Option<&AttributeValue> {
        find(&self.attributes, key)
    }

    /// The first of its resource's attributes of that name.
    pub fn resource_attribute(&self, key: &str) -> Option<&AttributeValue> {
        find(&self.resource, key)
    }
}

fn sizes(attributes: &[Attribute]) -> usize {
    let size = |attribute: &Attribute| {
        let value = match &attribute.value {
            AttributeValue::Text(text) | AttributeValue::Json(text) => text.len(),
            AttributeValue::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Attribute>() + attribute.key.as_str().len() + value
    };
    attributes.iter().map(size).sum()
}

fn find<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a AttributeValue> {
    attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == key)
        .map(|attribute| &attribute.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_value_cannot_act_on_a_terminal() {
        let value = AttributeValue::Text("a\u{1b}[31m\nb".to_owned());
        assert_eq!(value.to_string(), "a\\u{1b}[31m\\nb");
        assert_eq!(value.as_str(), Some("a\u{1b}[31m\nb"));
        assert_eq!(AttributeValue::Bytes(vec![0, 255]).to_string(), "00ff");
    }
}
