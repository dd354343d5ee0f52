//! Arize Phoenix: spans of a project. It keeps neither the resource nor the scope, and of the kind only what it calls so.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable, ui, unreadable, with_margin};
use super::document::{Document, time};
use super::entry::mark_entries;
use super::http::Http;
use crate::model::{RemoteSettings, ServiceName, SpanKind, Text, TraceId, Window};

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Spans of one page: as many as it gives at most.
const PAGE: usize = 1_000;

/// Pages of one answer; what is behind them is cut.
const MOST_PAGES: usize = 10;

/// Where spans go that name no project.
const USUAL_PROJECT: &str = "default";

/// A Phoenix server, and the project of an MCP server in it.
pub(super) struct Phoenix {
    http: Http,
    ui: Option<String>,
    project: String,
}

impl Phoenix {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        let project = settings.option("project").unwrap_or(USUAL_PROJECT);
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            ui: settings.option("ui").map(str::to_owned),
            project: project.to_owned(),
        })
    }

    fn url(&self) -> Result<Url, Unavailable> {
        self.http.below(&["v1", "projects", &self.project, "spans"])
    }

    /// Every page of `url`.
    async fn pages(&self, url: Url, asking: &Asking) -> Result<Answer, Unavailable> {
        let mut answer = Answer::default();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut page = url.clone();
            page.query_pairs_mut()
                .append_pair("limit", &PAGE.to_string())
                .extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let reply = self.http.get(page, asking).await?;
            if reply.status != StatusCode::OK {
                return Err(reply.plain_refusal());
            }
            let found: Page = reply.json()?;
            for span in found.data {
                answer.spans.push(span.read(&self.project)?);
            }
            cursor = found.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        if cursor.is_some() {
            answer.cut = Some(Text::new(format!("{} spans", MOST_PAGES * PAGE)));
        }
        mark_entries(&mut answer.spans);
        Ok(answer)
    }
}

fn in_window(url: &mut Url, window: Window) {
    let time = |at| humantime::format_rfc3339_micros(at).to_string();
    url.query_pairs_mut()
        .append_pair("start_time", &time(window.from))
        .append_pair("end_time", &time(window.to + Duration::from_micros(1)));
}

#[async_trait]
impl Api for Phoenix {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        if ids.is_empty() {
            return Ok(Answer::default());
        }
        let mut url = self.url()?;
        in_window(&mut url, with_margin(around));
        let ids = ids.iter().map(|id| ("trace_id", id.to_string()));
        url.query_pairs_mut().extend_pairs(ids);
        self.pages(url, asking).await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let mut url = self.url()?;
        in_window(&mut url, window);
        let answer = self.pages(url, asking).await?;
        Ok(answer.within(&service.name, window))
    }

    fn service(&self, _service: Option<&ServiceName>) -> Option<ServiceName> {
        Some(ServiceName {
            name: self.project.clone(),
            attributes: Default::default(),
        })
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let url = self.http.below(&["v1", "projects", &self.project])?;
        let reply = self.http.get(url, asking).await?;
        reply.json::<OneProject>().map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        ui(
            &self.http,
            self.ui.as_deref(),
            &format!("redirects/traces/{id}"),
        )
    }
}

#[derive(Deserialize)]
struct OneProject {
    #[serde(rename = "data")]
    _data: Value,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<PhoenixSpan>,
    /// There is more: where it goes on.
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct PhoenixSpan {
    name: String,
    context: Context,
    parent_id: Option<String>,
    start_time: String,
    end_time: String,
    status_code: String,
    #[serde(default)]
    status_message: String,
    #[serde(default)]
    attributes: Value,
}

#[derive(Deserialize)]
struct Context {
    trace_id: String,
    span_id: String,
}

impl PhoenixSpan {
    fn read(self, project: &str) -> Result<BackendSpan, Unavailable> {
        let (Ok(trace_id), Ok(span_id), Some(start)) = (
            self.context.trace_id.parse(),
            self.context.span_id.parse(),
            time(&self.start_time),
        ) else {
            return Err(unreadable("a span without ids or a time"));
        };
        let end = time(&self.end_time).unwrap_or(start);
        let attributes = Document::of(&self.attributes);
        Ok(BackendSpan {
            trace_id,
            span_id,
            parent: self.parent_id.and_then(|parent| parent.parse().ok()),
            service: project.to_owned(),
            name: self.name,
            kind: SpanKind::Other,
            start,
            duration: end.duration_since(start).unwrap_or_default(),
            is_error: self.status_code == "ERROR",
            message: Some(self.status_message).filter(|message| !message.is_empty()),
            tags: attributes
                .below("")
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            resource: Default::default(),
        })
    }
}
