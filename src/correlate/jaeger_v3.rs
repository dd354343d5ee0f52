//! Jaeger's v3 query API, the documented one: OTLP as JSON. An empty search is a 404 with a body of its own.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable, ui, unreadable};
use super::http::{Http, Reply};
use super::otlp::{ResourceSpans, spans};
use crate::model::{Coverage, RemoteSettings, ServiceName, Text, TraceId, Window};

/// For one query. A Jaeger whose storage hangs never answers at all.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Traces of one search. As many as this means that there may be more: Jaeger says nothing when it cuts.
const SEARCH_LIMIT: usize = 1_500;

/// A Jaeger query service.
pub(super) struct JaegerV3 {
    http: Http,
    ui: Option<String>,
}

impl JaegerV3 {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn trace(&self, id: TraceId, asking: &Asking) -> Result<Vec<BackendSpan>, Unavailable> {
        let url = self.http.url(&format!("api/v3/traces/{id}"))?;
        self.ask(url, asking).await
    }

    async fn ask(&self, url: Url, asking: &Asking) -> Result<Vec<BackendSpan>, Unavailable> {
        read(&self.http.get(url, asking).await?)
    }
}

/// The body is a stream: one or more objects, of which a later one may be an error.
fn read(reply: &Reply) -> Result<Vec<BackendSpan>, Unavailable> {
    let mut found = Vec::new();
    let mut pieces = 0;
    for piece in serde_json::Deserializer::from_slice(&reply.body).into_iter() {
        let Ok(piece) = piece else {
            return Err(not_jaegers(reply));
        };
        pieces += 1;
        match piece {
            Piece::Error { error } if error.is_nothing_found() && found.is_empty() => {}
            Piece::Error { error } => {
                return Err(Text::new(format!(
                    "HTTP {}: {}",
                    reply.status, error.message
                )));
            }
            Piece::Result { result } => found.extend(spans(result.resource_spans)?),
        }
    }
    if pieces == 0 {
        return Err(not_jaegers(reply));
    }
    if !reply.status.is_success() && reply.status != StatusCode::NOT_FOUND {
        return Err(reply.refusal(""));
    }
    Ok(found)
}

fn not_jaegers(reply: &Reply) -> Unavailable {
    match reply.status {
        StatusCode::OK => unreadable("none of Jaeger's"),
        _ => reply.refusal("an answer that is none of Jaeger's"),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Result { result: TracesData },
    Error { error: JaegerError },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TracesData {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JaegerError {
    http_code: Option<u16>,
    #[serde(default)]
    message: String,
}

impl JaegerError {
    /// `No traces found`, which is an answer. A 404 of a path that there is not has other words.
    fn is_nothing_found(&self) -> bool {
        self.http_code == Some(404) && self.message.ends_with("found")
    }
}

#[async_trait]
impl Api for JaegerV3 {
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
        let mut url = self.http.url("api/v3/traces")?;
        let limit = SEARCH_LIMIT.to_string();
        let time = |at| humantime::format_rfc3339_nanos(at).to_string();
        // Attributes are not asked for: some versions pass over them without a word.
        url.query_pairs_mut()
            .append_pair("query.service_name", &service.name)
            .append_pair("query.start_time_min", &time(window.from))
            .append_pair("query.start_time_max", &time(window.to))
            // The same limit by its name since 2.9, and before.
            .append_pair("query.search_depth", &limit)
            .append_pair("query.num_traces", &limit);
        let spans = self.ask(url, asking).await?;
        let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id).collect();
        let cut = (traces.len() >= SEARCH_LIMIT)
            .then(|| Text::new(format!("{SEARCH_LIMIT} traces of {}", service.name)));
        Ok(Answer {
            spans,
            cut,
            coverage: Coverage::Full,
        })
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        #[derive(Deserialize)]
        struct Services {
            #[serde(rename = "services")]
            _services: serde::de::IgnoredAny,
        }
        let url = self.http.url("api/v3/services")?;
        let reply = self.http.get(url, asking).await?;
        reply.json::<Services>().map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        ui(&self.http, self.ui.as_deref(), &format!("trace/{id}"))
    }
}
