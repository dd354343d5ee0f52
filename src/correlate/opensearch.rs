//! OpenSearch as Data Prepper writes it: a document for each span, attributes with `@` for each `.` of their names, and in
//! newer versions as they are.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::json;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable, kind_of, unreadable, with_margin};
use super::document::Document;
use super::index::Index;
use crate::model::{RemoteSettings, ServiceName, TraceId, Window};

/// Where Data Prepper writes to.
const USUAL_INDEX: &str = "otel-v1-apm-span-*";

/// OpenSearch with the indices of spans, and its Dashboards.
pub(super) struct OpenSearch {
    index: Index,
    ui: Option<String>,
}

impl OpenSearch {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        Ok(Self {
            index: Index::new(settings, USUAL_INDEX)?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }
}

#[async_trait]
impl Api for OpenSearch {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let filter = json!([
            {"range": {"startTime": range(with_margin(around))}},
            {"terms": {"traceId": ids}},
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
            {"range": {"startTime": range(window)}},
            {"term": {"serviceName": &service.name}},
        ]);
        let range = range(window);
        let what = format!("spans of {} in {range}", service.name);
        let answer = self.index.spans(filter, &what, read, asking).await?;
        Ok(answer.within(&service.name, window))
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        self.index.answers(asking).await
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        // Dashboards is elsewhere than OpenSearch.
        let ui = self.ui.as_deref()?.trim_end_matches('/');
        Some(format!(
            "{ui}/app/observability-traces#/traces?traceId={id}"
        ))
    }
}

/// `startTime` has nanoseconds.
fn range(window: Window) -> serde_json::Value {
    let time = |at| humantime::format_rfc3339_nanos(at).to_string();
    json!({"gte": time(window.from), "lte": time(window.to)})
}

fn read(document: &Document) -> Result<BackendSpan, Unavailable> {
    let id = |key: &str| document.any(&[key]);
    let (Some(trace_id), Some(span_id), Some(start)) = (
        id("traceId").and_then(|id| id.parse().ok()),
        id("spanId").and_then(|id| id.parse().ok()),
        document.time(&["startTime"]),
    ) else {
        return Err(unreadable("a document without ids or a time"));
    };
    let status = document.any(&["status.code"]);
    let mut tags = attributes(document, &["span.attributes.", "attributes."]);
    let scope = ["instrumentationScope.name", "instrumentationLibrary.name"];
    if let Some(scope) = document.any(&scope) {
        tags.insert("otel.scope.name".to_owned(), scope.to_owned());
    }
    Ok(BackendSpan {
        trace_id,
        span_id,
        parent: id("parentSpanId").and_then(|id| id.parse().ok()),
        service: id("serviceName").unwrap_or_default().to_owned(),
        name: id("name").unwrap_or_default().to_owned(),
        kind: kind_of(id("kind").unwrap_or_default()),
        start,
        duration: Duration::from_nanos(document.number(&["durationInNanos"]).unwrap_or_default()),
        is_error: matches!(status, Some("2" | "ERROR" | "Error" | "STATUS_CODE_ERROR")),
        message: document.any(&["status.message"]).map(str::to_owned),
        tags,
        resource: attributes(document, &["resource.attributes."]),
    })
}

fn attributes(document: &Document, prefixes: &[&str]) -> HashMap<String, String> {
    let all = prefixes.iter().flat_map(|prefix| document.below(prefix));
    all.map(|(key, value)| (key.replace('@', "."), value.to_owned()))
        .collect()
}
