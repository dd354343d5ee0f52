//! OTLP as JSON: what Jaeger's v3 API and Tempo answer with. Read strictly: a span that cannot be understood makes the
//! answer unreadable, for a span that is passed over would be silence.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

use super::backend::{BackendSpan, Unavailable, kind_of, unreadable};
use crate::model::{SpanId, SpanKind, TraceId};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceSpans {
    #[serde(default)]
    resource: Resource,
    /// Under its old name in what was stored before 2023.
    #[serde(default, alias = "instrumentationLibrarySpans")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default, alias = "instrumentationLibrary")]
    scope: Scope,
    #[serde(default)]
    spans: Vec<Span>,
}

#[derive(Default, Deserialize)]
struct Scope {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: Value,
    start_time_unix_nano: Value,
    end_time_unix_nano: Value,
    #[serde(default)]
    attributes: Vec<Attribute>,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: String,
}

/// A key and a value of a type.
#[derive(Deserialize)]
pub(super) struct Attribute {
    pub(super) key: String,
    #[serde(default)]
    value: Value,
}

impl Attribute {
    /// The value as a string, whatever its type: 64-bit integers are strings in protobuf's JSON anyway.
    pub(super) fn text(&self) -> String {
        let inner = match &self.value {
            Value::Object(typed) => typed.values().find(|value| !value.is_null()),
            other => Some(other),
        };
        match inner {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

pub(super) fn spans(all: Vec<ResourceSpans>) -> Result<Vec<BackendSpan>, Unavailable> {
    let mut found = Vec::new();
    for of_resource in all {
        let resource = attributes(&of_resource.resource.attributes);
        for of_scope in of_resource.scope_spans {
            for span in of_scope.spans {
                found.push(span.read(&resource, &of_scope.scope.name)?);
            }
        }
    }
    Ok(found)
}

fn attributes(all: &[Attribute]) -> HashMap<String, String> {
    all.iter()
        .map(|attribute| (attribute.key.clone(), attribute.text()))
        .collect()
}

impl Span {
    fn read(
        self,
        resource: &HashMap<String, String>,
        scope: &str,
    ) -> Result<BackendSpan, Unavailable> {
        let time = |value: &Value| whole(value).map(Duration::from_nanos);
        let (Some(start), Some(end)) = (
            time(&self.start_time_unix_nano),
            time(&self.end_time_unix_nano),
        ) else {
            return Err(unreadable("a span without a time"));
        };
        let mut tags = attributes(&self.attributes);
        if !scope.is_empty() {
            tags.insert("otel.scope.name".to_owned(), scope.to_owned());
        }
        Ok(BackendSpan {
            trace_id: trace_id(&self.trace_id)?,
            span_id: span_id(&self.span_id)?,
            parent: match self.parent_span_id.as_str() {
                "" => None,
                parent => span_id(parent).ok(),
            },
            service: resource.get("service.name").cloned().unwrap_or_default(),
            name: self.name,
            kind: match (&self.kind, self.kind.as_u64()) {
                (Value::String(word), _) => kind_of(word),
                (_, Some(2)) => SpanKind::Server,
                (_, Some(3)) => SpanKind::Client,
                _ => SpanKind::Other,
            },
            start: UNIX_EPOCH + start,
            duration: end.saturating_sub(start),
            is_error: match &self.status.code {
                Value::String(word) => word == "STATUS_CODE_ERROR",
                code => code.as_u64() == Some(2),
            },
            message: Some(self.status.message).filter(|message| !message.is_empty()),
            tags,
            resource: resource.clone(),
        })
    }
}

/// A number, or one in a string.
pub(super) fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// Hex, or base64 as protobuf's own JSON has it. The latter of 8 or 16 bytes always ends in `=`, which hex never does.
fn bytes_of(id: &str) -> Option<Vec<u8>> {
    id.ends_with('=')
        .then(|| base64::engine::general_purpose::STANDARD.decode(id).ok())
        .flatten()
}

fn trace_id(text: &str) -> Result<TraceId, Unavailable> {
    let bytes = bytes_of(text).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(TraceId)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| unreadable("a trace id that is none"))
}

fn span_id(text: &str) -> Result<SpanId, Unavailable> {
    let bytes = bytes_of(text).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(SpanId)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| unreadable("a span id that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_in_hex_and_in_base64() {
        let hex = trace_id("768c769e5f7bdbb6696f1bf34879adf0").unwrap();
        assert_eq!(trace_id("dox2nl9727ZpbxvzSHmt8A=="), Ok(hex));
        assert_eq!(span_id("n04vCOj947s="), span_id("9f4e2f08e8fde3bb"));
        assert!(trace_id("n04vCOj947s=").is_err());
        assert!(span_id("").is_err());
    }

    #[test]
    fn a_span_without_an_id_or_a_time_is_no_silence() {
        let with = |span: &str| {
            let all = format!(r#"[{{"scopeSpans":[{{"spans":[{span}]}}]}}]"#);
            serde_json::from_str(&all).is_ok_and(|all| spans(all).is_ok())
        };
        let whole = r#"{"traceId":"ab","spanId":"cd","startTimeUnixNano":"5","endTimeUnixNano":7}"#;
        assert!(with(whole));
        for (part, other) in [
            (r#""ab""#, r#""""#),
            (r#""cd""#, r#""zz""#),
            (r#""5""#, r#""later""#),
            ("7", "null"),
        ] {
            assert!(!with(&whole.replace(part, other)), "{part}");
        }
    }
}
