//! Elastic APM: documents of the APM server (transactions and spans, attributes as labels), and those of EDOT, which are
//! OpenTelemetry's own.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde_json::json;

use super::asking::Asking;
use super::backend::{
    Answer, Api, BackendSpan, Unavailable, kind_of, outer_millis, unreadable, with_margin,
};
use super::document::Document;
use super::index::Index;
use crate::model::{RemoteSettings, ServiceName, SpanKind, TraceId, Window};

/// Where the APM server and EDOT write to.
const USUAL_INDEX: &str = "traces-apm*,traces-*.otel-*";

/// Attributes that the judge reads and that a label would not show the name of: a label has `_` for each `.`.
const LABELLED: [&str; 21] = [
    "mcp.method.name",
    "mcp.session.id",
    "mcp.operation",
    "mcp.tool.name",
    "mcp.error_code",
    "mcpprobe.target",
    "mcpprobe.state",
    "mcpprobe.layer",
    "gen_ai.operation.name",
    "gen_ai.tool.name",
    "heimdall.span_kind",
    "openinference.span.kind",
    "error.type",
    "rpc.response.status_code",
    "rpc.jsonrpc.error_code",
    "http.target",
    "http.route",
    "user_agent.synthetic.type",
    "http.user_agent",
    "exception.message",
    "http.status_code",
];

/// Elasticsearch with the indices of spans, and Kibana.
pub(super) struct Elastic {
    index: Index,
    ui: Option<String>,
}

impl Elastic {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        Ok(Self {
            index: Index::new(settings, USUAL_INDEX)?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }
}

#[async_trait]
impl Api for Elastic {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        // In one kind of index `trace.id` is the field, in the other an alias of `trace_id`; a field that there is not
        // matches nothing.
        let filter = json!([
            {"range": {"@timestamp": range(with_margin(around))}},
            {"bool": {"minimum_should_match": 1, "should": [
                {"terms": {"trace.id": ids}},
                {"terms": {"trace_id": ids}},
            ]}},
            {"bool": {"must_not": {"term": {"processor.event": "metric"}}}},
        ]);
        let what = format!("{} traces by their ids", ids.len());
        self.index.spans(filter, &what, read, asking).await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let filter = json!([
            {"range": {"@timestamp": range(window)}},
            {"bool": {"minimum_should_match": 1, "should": [
                {"term": {"service.name": &service.name}},
                {"term": {"resource.attributes.service.name": &service.name}},
            ]}},
            {"bool": {"must_not": {"term": {"processor.event": "metric"}}}},
        ]);
        let what = format!("spans of {} from {}", service.name, shown(window));
        let answer = self.index.spans(filter, &what, read, asking).await?;
        Ok(answer.within(&service.name, window))
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        self.index.answers(asking).await
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        // Kibana is elsewhere than Elasticsearch.
        let ui = self.ui.as_deref()?.trim_end_matches('/');
        Some(format!("{ui}/app/apm/link-to/trace/{id}"))
    }
}

/// In milliseconds, which both kinds of index know whatever their precision.
fn range(window: Window) -> serde_json::Value {
    let (from, to) = outer_millis(window);
    json!({"gte": from.to_string(), "lte": to.to_string(), "format": "epoch_millis"})
}

fn shown(window: Window) -> String {
    let time = humantime::format_rfc3339_seconds;
    format!("{} to {}", time(window.from), time(window.to))
}

fn read(document: &Document) -> Result<BackendSpan, Unavailable> {
    let span = document
        .any(&["span_id"])
        .or_else(|| id_of_apm(document))
        .and_then(|id| id.parse().ok());
    let micros = document.number(&["timestamp.us"]);
    let start = match micros {
        Some(micros) => Some(UNIX_EPOCH + Duration::from_micros(micros)),
        None => document.time(&["@timestamp"]),
    };
    let trace = document
        .any(&["trace_id", "trace.id"])
        .and_then(|id| id.parse().ok());
    let (Some(trace_id), Some(span_id), Some(start)) = (trace, span, start) else {
        return Err(unreadable("a document without ids or a time"));
    };
    let outcome = document.any(&["status.code", "event.outcome"]);
    Ok(BackendSpan {
        trace_id,
        span_id,
        parent: document
            .any(&["parent_span_id", "parent.id"])
            .and_then(|id| id.parse().ok()),
        service: document
            .any(&["resource.attributes.service.name", "service.name"])
            .unwrap_or_default()
            .to_owned(),
        name: document
            .any(&["name", "span.name", "transaction.name"])
            .unwrap_or_default()
            .to_owned(),
        kind: kind(document),
        start,
        duration: duration(document),
        is_error: matches!(outcome, Some("Error" | "failure")),
        message: document.any(&["status.message"]).map(str::to_owned),
        tags: tags(document),
        resource: resource(document),
    })
}

/// A span of the APM server's names its transaction too.
fn id_of_apm(document: &Document) -> Option<&str> {
    match document.any(&["processor.event"]) {
        Some("span") => document.any(&["span.id"]),
        _ => document.any(&["transaction.id", "span.id"]),
    }
}

fn kind(document: &Document) -> SpanKind {
    if let Some(kind) = document.any(&["kind", "span.kind"]) {
        return kind_of(kind);
    }
    match document.any(&["transaction.type"]) {
        Some("request") => SpanKind::Server,
        _ => SpanKind::Other,
    }
}

fn duration(document: &Document) -> Duration {
    let micros = document.number(&["span.duration.us", "transaction.duration.us"]);
    let nanos = document.number(&["duration"]);
    match (nanos, micros) {
        (Some(nanos), _) => Duration::from_nanos(nanos),
        (None, micros) => Duration::from_micros(micros.unwrap_or_default()),
    }
}

fn tags(document: &Document) -> HashMap<String, String> {
    let mut tags: HashMap<_, _> = document
        .below("attributes.")
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for (key, value) in document
        .below("labels.")
        .chain(document.below("numeric_labels."))
    {
        let known = LABELLED.iter().find(|name| name.replace('.', "_") == key);
        let name = match (known, key.strip_prefix("mcp_")) {
            (Some(name), _) => (*name).to_owned(),
            // Whatever it was called, it is of MCP.
            (None, Some(rest)) => format!("mcp.{rest}"),
            (None, None) => key.to_owned(),
        };
        tags.insert(name, value.to_owned());
    }
    let fields: [(&str, &[&str]); 5] = [
        ("otel.scope.name", &["scope.name", "service.framework.name"]),
        ("http.response.status_code", &["http.response.status_code"]),
        ("url.path", &["url.path"]),
        ("user_agent.original", &["user_agent.original"]),
        ("error.type", &["error.type"]),
    ];
    for (name, keys) in fields {
        if let Some(value) = document.any(keys) {
            tags.entry(name.to_owned()).or_insert(value.to_owned());
        }
    }
    tags
}

/// The APM server has fields of its own for the usual ones.
fn resource(document: &Document) -> HashMap<String, String> {
    let mut resource: HashMap<_, _> = document
        .below("resource.attributes.")
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for (name, key) in [
        ("deployment.environment", "service.environment"),
        ("deployment.environment.name", "service.environment"),
        ("service.version", "service.version"),
        ("service.instance.id", "service.node.name"),
        ("host.name", "host.hostname"),
    ] {
        if let Some(value) = document.any(&[key]) {
            resource.entry(name.to_owned()).or_insert(value.to_owned());
        }
    }
    resource
}
