//! Zipkin's v2 API. It folds the letters of services and names, keeps an error as a tag, and has resource attributes
//! among the span's own.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;

use super::asking::Asking;
use super::backend::{
    Answer, Api, BackendSpan, Unavailable, kind_of, outer_millis, ui, unreadable,
};
use super::http::{Http, Reply};
use crate::model::{RemoteSettings, ServiceName, SpanId, Text, TraceId, Window};

/// For one query. A Zipkin whose storage hangs answers late or never.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Traces of one search. As many as this means that there may be more: Zipkin says nothing when it cuts.
const SEARCH_LIMIT: usize = 1_500;

/// A Zipkin server.
pub(super) struct Zipkin {
    http: Http,
    ui: Option<String>,
}

impl Zipkin {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn trace(&self, id: TraceId, asking: &Asking) -> Result<Vec<BackendSpan>, Unavailable> {
        let url = self.http.url(&format!("api/v2/trace/{id}"))?;
        let reply = self.http.get(url, asking).await?;
        if reply.status == StatusCode::NOT_FOUND && names(&reply, id) {
            return Ok(Vec::new());
        }
        spans_of(read(&reply)?)
    }
}

/// `ID not found`, perhaps without its leading zeros: any other 404 is of a path that there is not.
fn names(reply: &Reply, id: TraceId) -> bool {
    let said = String::from_utf8_lossy(&reply.body);
    said.strip_suffix(" not found")
        .is_some_and(|named| named.parse() == Ok(id))
}

fn read<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, Unavailable> {
    match reply.status {
        StatusCode::OK => reply.json(),
        _ => Err(reply.plain_refusal()),
    }
}

#[async_trait]
impl Api for Zipkin {
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
        let (from, to) = outer_millis(window);
        let mut url = self.http.url("api/v2/traces")?;
        url.query_pairs_mut()
            .append_pair("serviceName", &service.name)
            .append_pair("endTs", &to.to_string())
            .append_pair("lookback", &(to.saturating_sub(from)).to_string())
            .append_pair("limit", &SEARCH_LIMIT.to_string());
        let traces: Vec<Vec<ZipkinSpan>> = read(&self.http.get(url, asking).await?)?;
        let cut = (traces.len() >= SEARCH_LIMIT)
            .then(|| Text::new(format!("{SEARCH_LIMIT} traces of {}", service.name)));
        let mut answer = Answer {
            cut,
            ..Answer::default()
        };
        for trace in traces {
            answer.spans.extend(spans_of(trace)?);
        }
        Ok(answer.within(&service.name, window))
    }

    fn service(&self, service: Option<&ServiceName>) -> Option<ServiceName> {
        service.map(|service| ServiceName {
            name: service.name.to_lowercase(),
            attributes: service.attributes.clone(),
        })
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let url = self.http.url("api/v2/services")?;
        read::<Vec<String>>(&self.http.get(url, asking).await?).map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        ui(
            &self.http,
            self.ui.as_deref(),
            &format!("zipkin/traces/{id}"),
        )
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: String,
    timestamp: Option<u64>,
    duration: Option<u64>,
    local_endpoint: Option<LocalEndpoint>,
    #[serde(default)]
    tags: HashMap<String, String>,
    #[serde(default)]
    shared: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalEndpoint {
    #[serde(default)]
    service_name: String,
}

fn spans_of(trace: Vec<ZipkinSpan>) -> Result<Vec<BackendSpan>, Unavailable> {
    // A span whose reporter did not keep the time began after the earliest one that has it.
    let earliest = trace.iter().filter_map(|span| span.timestamp).min();
    trace.into_iter().map(|span| span.read(earliest)).collect()
}

impl ZipkinSpan {
    fn read(self, earliest: Option<u64>) -> Result<BackendSpan, Unavailable> {
        let (Ok(trace_id), Ok(id)) = (self.trace_id.parse(), self.id.parse::<SpanId>()) else {
            return Err(unreadable("a span without an id"));
        };
        let Some(start) = self.timestamp.or(earliest) else {
            return Err(unreadable("a span without a time"));
        };
        let parent = self.parent_id.and_then(|parent| parent.parse().ok());
        // Both halves of a B3 call have one id; here each has its own, and the server's is the child.
        let (span_id, parent) = match self.shared {
            true => (SpanId(id.0.map(|byte| !byte)), Some(id)),
            false => (id, parent),
        };
        let tag = |key: &str| self.tags.get(key).map(String::as_str);
        let error = tag("error").filter(|error| *error != "false");
        let message = tag("otel.status_description").or(error.filter(|error| *error != "true"));
        Ok(BackendSpan {
            trace_id,
            span_id,
            parent,
            service: self
                .local_endpoint
                .map(|endpoint| endpoint.service_name)
                .unwrap_or_default(),
            name: self.name,
            kind: kind_of(&self.kind),
            start: UNIX_EPOCH + Duration::from_micros(start),
            duration: Duration::from_micros(self.duration.unwrap_or_default()),
            is_error: error.is_some() || tag("otel.status_code") == Some("ERROR"),
            message: message.map(str::to_owned),
            resource: self.tags.clone(),
            tags: self.tags,
        })
    }
}
