//! Heimdall: a project for each MCP server. It keeps no resource, no scope and no kind, cuts times to milliseconds, and
//! takes a trace's own status from the first batch that came: only the spans' is read.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable, ui, unreadable};
use super::document::{Document, time};
use super::entry::mark_entries;
use super::http::{Http, Reply};
use crate::model::{Coverage, RemoteSettings, ServiceName, SpanKind, Text, TraceId, Window};

/// For one query: the whole project comes at once, up to a thousand traces.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Traces that it keeps of a project; the newest push out the oldest.
const KEPT: usize = 1_000;

/// A Heimdall server, and the project of an MCP server in it.
pub(super) struct Heimdall {
    http: Http,
    ui: Option<String>,
    project: String,
}

impl Heimdall {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        let project = settings.option("project");
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            ui: settings.option("ui").map(str::to_owned),
            project: project.ok_or("heimdall needs `project`")?.to_owned(),
        })
    }

    async fn trace(&self, id: TraceId, asking: &Asking) -> Result<Vec<BackendSpan>, Unavailable> {
        let id = id.to_string();
        let url = self.http.below(&["api", "traces", &self.project, &id])?;
        let reply = self.http.get(url, asking).await?;
        if reply.status == StatusCode::NOT_FOUND && is_missing(&reply) {
            return Ok(Vec::new());
        }
        reply.json::<HeimdallTrace>()?.spans(&self.project)
    }
}

/// `{"error": "Trace not found"}`: any other 404 is of a path that there is not.
fn is_missing(reply: &Reply) -> bool {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    serde_json::from_slice::<Refused>(&reply.body)
        .is_ok_and(|refused| refused.error == "Trace not found")
}

#[async_trait]
impl Api for Heimdall {
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
        // All of the project: it takes no other question.
        let url = self.http.below(&["api", "traces", &self.project])?;
        let reply = self.http.get(url, asking).await?;
        let traces: Vec<HeimdallTrace> = reply.json()?;
        let is_full = traces.len() >= KEPT;
        let mut answer = Answer::default();
        for trace in traces {
            answer.spans.extend(trace.spans(&self.project)?);
        }
        let first = answer.spans.iter().map(|span| span.start).min();
        if is_full && first.is_none_or(|first| first >= window.from) {
            answer.cut = Some(Text::new(format!("the newest {KEPT} traces")));
        } else if is_full {
            // What was pushed out came before what is there, but need not have begun before it.
            answer.coverage = Coverage::Sampled(Text::new(format!(
                "the newest {KEPT} traces of project {}",
                self.project
            )));
        }
        Ok(answer.within(&service.name, window))
    }

    fn service(&self, _service: Option<&ServiceName>) -> Option<ServiceName> {
        Some(ServiceName {
            name: self.project.clone(),
            attributes: Default::default(),
        })
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let url = self.http.below(&["api", "projects"])?;
        let reply = self.http.get(url, asking).await?;
        reply.json::<Vec<Value>>().map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        // Its pages are served elsewhere than its API.
        let base = self.ui.as_deref()?;
        ui(&self.http, Some(base), &format!("traces/{id}"))
    }
}

#[derive(Deserialize)]
struct HeimdallTrace {
    trace_id: String,
    spans: Vec<HeimdallSpan>,
}

#[derive(Deserialize)]
struct HeimdallSpan {
    span_id: String,
    #[serde(default)]
    parent_span_id: Option<String>,
    #[serde(default)]
    name: String,
    start_time: String,
    #[serde(default)]
    end_time: String,
    status: String,
    /// The status' message, whatever its name says.
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    metadata: Value,
}

impl HeimdallTrace {
    fn spans(self, project: &str) -> Result<Vec<BackendSpan>, Unavailable> {
        let Ok(trace_id) = self.trace_id.parse() else {
            return Err(unreadable("a trace id that is none"));
        };
        let spans: Result<Vec<_>, _> = self
            .spans
            .into_iter()
            .map(|span| span.read(trace_id, project))
            .collect();
        let mut spans = spans?;
        mark_entries(&mut spans);
        Ok(spans)
    }
}

impl HeimdallSpan {
    fn read(self, trace_id: TraceId, project: &str) -> Result<BackendSpan, Unavailable> {
        let (Ok(span_id), Some(start)) = (self.span_id.parse(), time(&self.start_time)) else {
            return Err(unreadable("a span without an id or a time"));
        };
        let end = time(&self.end_time).unwrap_or(start);
        let metadata = Document::of(&self.metadata);
        Ok(BackendSpan {
            trace_id,
            span_id,
            parent: self.parent_span_id.and_then(|parent| parent.parse().ok()),
            service: project.to_owned(),
            name: self.name,
            kind: SpanKind::Other,
            start,
            duration: end.duration_since(start).unwrap_or_default(),
            is_error: self.status != "OK",
            message: self.error_type.filter(|message| !message.is_empty()),
            tags: metadata
                .below("")
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            resource: Default::default(),
        })
    }
}
