//! Jaeger's v1 query API: the one that answers an empty search with 200 and an empty list, so that "nothing" and
//! "cannot say" are told apart.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use url::Url;

use crate::model::{ServiceName, SpanId, SpanKind, Text, TraceId, Window};

/// For one query. A Jaeger whose storage hangs never answers at all.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Traces of one search. As many as this means that there may be more: Jaeger says nothing when it cuts.
pub(super) const SEARCH_LIMIT: usize = 1_500;

/// Bytes of one answer: a full search of ordinary traces is some 20 MB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A Jaeger query service.
pub struct Jaeger {
    client: reqwest::Client,
    base: Url,
    asked: Mutex<Vec<String>>,
}

/// A span as Jaeger has it, ours or another's.
#[derive(Clone, Debug)]
pub(super) struct BackendSpan {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) service: String,
    pub(super) name: String,
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) tags: HashMap<String, String>,
    pub(super) resource: HashMap<String, String>,
}

impl BackendSpan {
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(String::as_str)
    }

    pub(super) fn kind(&self) -> SpanKind {
        match self.tag("span.kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            _ => SpanKind::Other,
        }
    }

    pub(super) fn is_error(&self) -> bool {
        self.tag("error") == Some("true") || self.tag("otel.status_code") == Some("ERROR")
    }

    pub(super) fn resource_matches(&self, service: &ServiceName) -> bool {
        service
            .attributes
            .iter()
            .all(|(key, value)| self.resource.get(key) == Some(value))
    }
}

/// The backend could not say.
pub(super) type Unavailable = Text;

impl Jaeger {
    /// A client for the query service at `base`.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(QUERY_TIMEOUT).build()?;
        Ok(Self {
            client,
            base,
            asked: Mutex::new(Vec::new()),
        })
    }

    /// The same backend with no queries remembered: one for each inquiry, which may run beside others.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self {
            client: self.client.clone(),
            base: self.base.clone(),
            asked: Mutex::default(),
        }
    }

    /// The queries made so far, for the verdict's evidence; forgotten by the call.
    pub fn take_queries(&self) -> Vec<String> {
        self.asked
            .lock()
            .map(|mut asked| std::mem::take(&mut *asked))
            .unwrap_or_default()
    }

    /// All spans of one trace; empty when there is none.
    pub(super) async fn trace(&self, id: TraceId) -> Result<Vec<BackendSpan>, Unavailable> {
        let url = self.url(&format!("api/traces/{id}"))?;
        let traces = self.ask(url, true).await?;
        Ok(spans(traces))
    }

    /// All spans of the traces in which `service` has a span in `window`, and whether there may be more.
    pub(super) async fn search(
        &self,
        service: &str,
        window: Window,
    ) -> Result<(Vec<BackendSpan>, bool), Unavailable> {
        let mut url = self.url("api/traces")?;
        url.query_pairs_mut()
            .append_pair("service", service)
            .append_pair("start", &micros(window.from).to_string())
            .append_pair("end", &micros(window.to).to_string())
            .append_pair("limit", &SEARCH_LIMIT.to_string());
        let traces = self.ask(url, false).await?;
        let cut = traces.len() >= SEARCH_LIMIT;
        Ok((spans(traces), cut))
    }

    /// Whether it answers at all, for when there is nothing else to ask.
    pub(super) async fn answers(&self) -> Result<(), Unavailable> {
        let url = self.url("api/services")?;
        self.ask::<serde::de::IgnoredAny>(url, false)
            .await
            .map(drop)
    }

    fn url(&self, path: &str) -> Result<Url, Unavailable> {
        let mut base = self.base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.join(path)
            .map_err(|error| Text::new(format!("{path}: {error}")))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        url: Url,
        missing_is_empty: bool,
    ) -> Result<Vec<T>, Unavailable> {
        // Relative to the base, which may hold a credential in its path.
        let base = self.base.path().trim_end_matches('/');
        let path = url.path().strip_prefix(base).unwrap_or_default();
        let query = url.query().map(|query| format!("?{query}"));
        let shown = format!("GET {path}{}", query.unwrap_or_default());
        if let Ok(mut asked) = self.asked.lock() {
            asked.push(shown);
        }
        // No trace context goes along: Jaeger would add its own spans to the very trace that is asked for.
        let mut answer = self
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| why(&error))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| why(&error))? {
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(Text::new(format!(
                    "its answer is larger than {MAX_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&piece);
        }
        let Ok(page) = serde_json::from_slice::<Page<T>>(&body) else {
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
            return Err(Text::new(format!("HTTP {status}")));
        }
        Ok(page.data.unwrap_or_default())
    }
}

fn why(error: &reqwest::Error) -> Text {
    if error.is_timeout() {
        return Text::new(format!(
            "no answer within {}",
            humantime::format_duration(QUERY_TIMEOUT)
        ));
    }
    if error.is_connect() {
        return Text::new("no connection");
    }
    // The URL may hold credentials of the user's.
    let mut source = std::error::Error::source(error);
    let mut last = "the request failed".to_owned();
    while let Some(inner) = source {
        last = inner.to_string();
        source = inner.source();
    }
    Text::new(last)
}

fn micros(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros()
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
    Some(BackendSpan {
        trace_id: span.trace_id.parse().ok()?,
        span_id: span.span_id.parse().ok()?,
        parent,
        service: process.map(|p| p.service_name.clone()).unwrap_or_default(),
        name: span.operation_name,
        start: UNIX_EPOCH + Duration::from_micros(span.start_time),
        duration: Duration::from_micros(span.duration),
        tags: tags(span.tags),
        resource: process.map(|p| tags_of(&p.tags)).unwrap_or_default(),
    })
}

fn tags(tags: Vec<JaegerTag>) -> HashMap<String, String> {
    tags.into_iter()
        .map(|tag| (tag.key, plain(&tag.value)))
        .collect()
}

fn tags_of(tags: &[JaegerTag]) -> HashMap<String, String> {
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
