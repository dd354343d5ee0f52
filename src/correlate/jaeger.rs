//! Jaeger's v1 query API: the one that answers an empty search with 200 and an empty list, so that "nothing" and
//! "cannot say" are told apart.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::Deserialize;
use url::Url;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable, micros, ui};
use super::http::Http;
use crate::model::{Coverage, RemoteSettings, ServiceName, SpanKind, Text, TraceId, Window};

/// For one query. A Jaeger whose storage hangs never answers at all.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Traces of one search. As many as this means that there may be more: Jaeger says nothing when it cuts.
const SEARCH_LIMIT: usize = 1_500;

/// A Jaeger query service.
pub(super) struct Jaeger {
    http: Http,
    ui: Option<String>,
}

impl Jaeger {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn trace(&self, id: TraceId, asking: &Asking) -> Result<Vec<BackendSpan>, Unavailable> {
        let url = self.http.url(&format!("api/traces/{id}"))?;
        let traces = self.ask(url, true, asking).await?;
        Ok(spans(traces))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        url: Url,
        missing_is_empty: bool,
        asking: &Asking,
    ) -> Result<Vec<T>, Unavailable> {
        let reply = self.http.get(url, asking).await?;
        let status = reply.status;
        let Ok(page) = serde_json::from_slice::<Page<T>>(&reply.body) else {
            return Err(Text::new(format!(
                "HTTP {status} and an answer that is none of Jaeger's"
            )));
        };
        let errors = page.errors.unwrap_or_default();
        let missing = missing_is_empty
            && status == reqwest::StatusCode::NOT_FOUND
            && errors.iter().any(|error| error.code == Some(404));
        if missing {
            return Ok(Vec::new());
        }
        if let Some(error) = errors.first() {
            return Err(Text::new(format!("HTTP {status}: {}", error.msg)));
        }
        if !status.is_success() {
            return Err(reply.refusal(""));
        }
        Ok(page.data.unwrap_or_default())
    }
}

#[async_trait]
impl Api for Jaeger {
    async fn traces(
        &self,
        ids: &[TraceId],
        _around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        Answer::of_each(ids.iter().map(|id| self.trace(*id, asking))).await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let mut url = self.http.url("api/traces")?;
        url.query_pairs_mut()
            .append_pair("service", &service.name)
            .append_pair("start", &micros(window.from).to_string())
            .append_pair("end", &micros(window.to).to_string())
            .append_pair("limit", &SEARCH_LIMIT.to_string());
        let traces = self.ask(url, false, asking).await?;
        let cut = (traces.len() >= SEARCH_LIMIT)
            .then(|| Text::new(format!("{SEARCH_LIMIT} traces of {}", service.name)));
        Ok(Answer {
            spans: spans(traces),
            cut,
            coverage: Coverage::Full,
        })
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let url = self.http.url("api/services")?;
        self.ask::<serde::de::IgnoredAny>(url, false, asking)
            .await
            .map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        ui(&self.http, self.ui.as_deref(), &format!("trace/{id}"))
    }
}

#[derive(Deserialize)]
struct Page<T> {
    data: Option<Vec<T>>,
    errors: Option<Vec<JaegerError>>,
}

#[derive(Deserialize)]
struct JaegerError {
    code: Option<i64>,
    #[serde(default)]
    msg: String,
}

#[derive(Deserialize)]
struct JaegerTrace {
    spans: Vec<JaegerSpan>,
    #[serde(default)]
    processes: HashMap<String, JaegerProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(default)]
    references: Vec<JaegerReference>,
    start_time: u64,
    duration: u64,
    #[serde(default)]
    tags: Vec<JaegerTag>,
    #[serde(rename = "processID", default)]
    process_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerReference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct JaegerTag {
    key: String,
    value: serde_json::Value,
}

#[derive(Deserialize)]
struct JaegerProcess {
    #[serde(rename = "serviceName")]
    service_name: String,
    #[serde(default)]
    tags: Vec<JaegerTag>,
}

fn spans(traces: Vec<JaegerTrace>) -> Vec<BackendSpan> {
    traces
        .into_iter()
        .flat_map(|trace| {
            let processes = trace.processes;
            trace
                .spans
                .into_iter()
                .filter_map(move |span| backend_span(span, &processes))
        })
        .collect()
}

fn backend_span(
    span: JaegerSpan,
    processes: &HashMap<String, JaegerProcess>,
) -> Option<BackendSpan> {
    let process = processes.get(&span.process_id);
    let parent = span
        .references
        .iter()
        .find(|reference| reference.ref_type == "CHILD_OF" && reference.trace_id == span.trace_id)
        .and_then(|reference| reference.span_id.parse().ok());
    let tags = tags(&span.tags);
    let tag = |key: &str| tags.get(key).map(String::as_str);
    Some(BackendSpan {
        trace_id: span.trace_id.parse().ok()?,
        span_id: span.span_id.parse().ok()?,
        parent,
        service: process.map(|p| p.service_name.clone()).unwrap_or_default(),
        name: span.operation_name,
        kind: match tag("span.kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            _ => SpanKind::Other,
        },
        is_error: tag("error") == Some("true") || tag("otel.status_code") == Some("ERROR"),
        message: tag("otel.status_description").map(str::to_owned),
        start: UNIX_EPOCH + Duration::from_micros(span.start_time),
        duration: Duration::from_micros(span.duration),
        resource: process.map(|p| self::tags(&p.tags)).unwrap_or_default(),
        tags,
    })
}

fn tags(tags: &[JaegerTag]) -> HashMap<String, String> {
    tags.iter()
        .map(|tag| (tag.key.clone(), plain(&tag.value)))
        .collect()
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
