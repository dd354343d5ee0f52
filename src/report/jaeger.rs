//! Answers in the shape of Jaeger's v1 query API, for Grafana and Jaeger's own UI.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::model::{
    Attribute, AttributeValue, RecordedKind, RecordedSpan, SpanId, SpanStatus, Text, TraceId,
};
use crate::traces::FoundSpans;

/// The envelope of every answer. Jaeger's own never tells a total of traces either.
pub fn envelope(data: Vec<Value>) -> Value {
    json!({ "data": data, "total": 0, "limit": 0, "offset": 0, "errors": null })
}

/// The same of what was too large for one answer: clients that read `errors` are told, and have what fits.
pub fn cut_envelope(data: Vec<Value>) -> Value {
    let mut envelope = envelope(data);
    let why = "the answer is cut: ask for fewer traces, or for a shorter time";
    if let Some(errors) = envelope.get_mut("errors") {
        *errors = json!([{ "code": 206, "msg": why }]);
    }
    envelope
}

/// The same of names, which are counted.
pub fn names(names: &[Text]) -> Value {
    json!({ "data": names, "total": names.len(), "limit": 0, "offset": 0, "errors": null })
}

/// A refusal.
pub fn error(code: u16, message: &str) -> Value {
    json!({
        "data": null, "total": 0, "limit": 0, "offset": 0,
        "errors": [{ "code": code, "msg": message }],
    })
}

/// Operations with the kinds of their spans.
pub fn operations(operations: &[(Text, RecordedKind)]) -> Vec<Value> {
    operations
        .iter()
        .map(|(name, kind)| json!({ "name": name, "spanKind": kind.as_str() }))
        .collect()
}

/// Which service called which, and how often, as `/api/dependencies` tells it.
#[derive(Default)]
pub struct Calls(BTreeMap<(String, String), u64>);

impl Calls {
    /// Those of one trace.
    pub fn add(&mut self, trace: &[RecordedSpan]) {
        let mut owners: HashMap<SpanId, Vec<&Text>> = HashMap::new();
        for span in trace {
            owners.entry(span.span_id).or_default().push(&span.service);
        }
        for span in trace {
            // Of several that share the parent's id, the service itself called nobody.
            let callers = span.parent.and_then(|parent| owners.get(&parent));
            let callers = callers.filter(|callers| !callers.contains(&&span.service));
            if let Some(caller) = callers.and_then(|callers| callers.first()) {
                let pair = (caller.to_string(), span.service.to_string());
                *self.0.entry(pair).or_default() += 1;
            }
        }
    }

    /// All so far.
    pub fn told(self) -> Vec<Value> {
        let call = |((parent, child), calls): ((String, String), u64)| json!({ "parent": parent, "child": child, "callCount": calls });
        self.0.into_iter().map(call).collect()
    }
}

/// A trace as Jaeger tells it.
pub fn trace(id: TraceId, found: &FoundSpans) -> Value {
    let spans = &found.spans;
    let mut processes: Vec<(&Text, &[Attribute])> = Vec::new();
    let known: BTreeSet<_> = spans.iter().map(|span| span.span_id).collect();
    let told: Vec<_> = spans
        .iter()
        .map(|span| {
            let process = (&span.service, span.resource.as_slice());
            let place = processes.iter().position(|known| *known == process);
            let place = place.unwrap_or_else(|| {
                processes.push(process);
                processes.len() - 1
            });
            self::span(span, id, &format!("p{}", place + 1), &known)
        })
        .collect();
    let processes: Map<_, _> = processes
        .iter()
        .enumerate()
        .map(|(place, (service, resource))| {
            let resource = resource
                .iter()
                .filter(|attribute| attribute.key.as_str() != "service.name");
            let process = json!({ "serviceName": service, "tags": tags(resource) });
            (format!("p{}", place + 1), process)
        })
        .collect();
    let cut = "it has more spans than fit into an answer: the others are not here";
    let warnings = found.truncated.then_some([cut]);
    json!({ "traceID": id, "spans": told, "processes": processes, "warnings": warnings })
}

fn span(span: &RecordedSpan, id: TraceId, process: &str, known: &BTreeSet<SpanId>) -> Value {
    let parent = span
        .parent
        .map(|parent| json!({ "refType": "CHILD_OF", "traceID": id, "spanID": parent }));
    let links = span.links.iter().map(|link| {
        json!({ "refType": "FOLLOWS_FROM", "traceID": link.trace_id, "spanID": link.span_id })
    });
    let references: Vec<_> = parent.into_iter().chain(links).collect();
    let mut all = tags(span.attributes.iter());
    let mut tag = |key: &str, kind: &str, value: Value| {
        all.push(json!({ "key": key, "type": kind, "value": value }));
    };
    tag("span.kind", "string", json!(span.kind.as_str()));
    if !span.scope.as_str().is_empty() {
        tag("otel.scope.name", "string", json!(span.scope));
        tag("otel.scope.version", "string", json!(span.scope_version));
    }
    if !span.tracestate.as_str().is_empty() {
        tag("w3c.tracestate", "string", json!(span.tracestate));
    }
    match &span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => tag("otel.status_code", "string", json!("OK")),
        SpanStatus::Error(message) => {
            tag("otel.status_code", "string", json!("ERROR"));
            tag("error", "bool", json!(true));
            if !message.as_str().is_empty() {
                tag("otel.status_description", "string", json!(message));
            }
        }
    }
    let logs: Vec<_> = span
        .events
        .iter()
        .map(|event| {
            let mut fields = vec![json!({ "key": "event", "type": "string", "value": event.name })];
            fields.extend(tags(event.attributes.iter()));
            json!({ "timestamp": micros(event.at), "fields": fields })
        })
        .collect();
    let lost = span.parent.filter(|parent| !known.contains(parent));
    let warnings = lost.map(|parent| vec![format!("invalid parent span IDs={parent}")]);
    json!({
        "traceID": id,
        "spanID": span.span_id,
        "operationName": span.name,
        "references": references,
        "startTime": micros(span.start),
        "duration": u64::try_from(span.duration.as_micros()).unwrap_or(u64::MAX),
        "tags": all,
        "logs": logs,
        "processID": process,
        "warnings": warnings,
    })
}

fn tags<'a>(attributes: impl Iterator<Item = &'a Attribute>) -> Vec<Value> {
    attributes
        .map(|attribute| {
            let kind = match &attribute.value {
                AttributeValue::Int(_) => "int64",
                AttributeValue::Double(_) => "float64",
                AttributeValue::Bool(_) => "bool",
                AttributeValue::Bytes(_) => "binary",
                AttributeValue::Text(_) | AttributeValue::Json(_) | AttributeValue::Empty => {
                    "string"
                }
            };
            json!({ "key": attribute.key, "type": kind, "value": attribute.value })
        })
        .collect()
}

fn micros(at: SystemTime) -> u64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
