//! Grafana Tempo: traces by id as OTLP, and a TraceQL search, whose answer has of each span what it was told to select.
//!
//! A trace is found by its id at once, by a search only when its ingester has let go of it, some ten seconds later:
//! so [`Api::searchable`] asks for our own spans the way that the server's are searched for.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::asking::Asking;
use super::backend::{
    Answer, Api, BackendSpan, Unavailable, kind_of, outer_millis, outer_seconds, unreadable,
    with_margin,
};
use super::http::{Http, Reply};
use super::otlp::{Attribute, ResourceSpans, spans, whole};
use super::service::PLACES;
use crate::model::{Coverage, RemoteSettings, ServiceName, Text, TraceId, Window};

/// For one query: a search reads from object storage.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Traces of one search. As many as this means that there may be more: Tempo says nothing when it cuts.
const SEARCH_LIMIT: usize = 1_500;

/// Spans of one trace in a search's answer: as many as Tempo gives unless it is told otherwise. Of more it says that
/// they matched.
const SPANS_PER_TRACE: usize = 100;

/// What the judge reads from a span, besides those that every search selects.
const ATTRIBUTES: [&str; 23] = [
    "mcp.method.name",
    "mcp.session.id",
    "mcp.session_id",
    "mcp.operation",
    "mcp.tool.name",
    "mcp.tool_name",
    "mcp.type",
    "mcp.error_code",
    "gen_ai.operation.name",
    "gen_ai.tool.name",
    "heimdall.span_kind",
    "openinference.span.kind",
    "error.type",
    "rpc.response.status_code",
    "rpc.jsonrpc.error_code",
    "http.response.status_code",
    "http.status_code",
    "url.path",
    "http.target",
    "http.route",
    "user_agent.original",
    "http.user_agent",
    "user_agent.synthetic.type",
];

/// A Tempo query frontend.
pub(super) struct Tempo {
    http: Http,
    /// Grafana, and the name of this Tempo in it: Tempo has no pages of its own.
    grafana: Option<(Url, String)>,
}

impl Tempo {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        let grafana = match (settings.option("ui"), settings.option("datasource")) {
            (Some(ui), Some(datasource)) => {
                let base = format!("{}/", ui.trim_end_matches('/'));
                let url = Url::parse(&base).and_then(|base| base.join("explore"));
                let url = url.map_err(|error| format!("`ui` of tempo: {error}"))?;
                Some((url, datasource.to_owned()))
            }
            _ => None,
        };
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            grafana,
        })
    }

    async fn trace(&self, id: TraceId, asking: &Asking) -> Result<Answer, Unavailable> {
        let url = self.http.url(&format!("api/v2/traces/{id}"))?;
        let reply = self.http.get(url, asking).await?;
        // Before 2.7 there is no v2; since then an unknown trace is an empty one.
        if reply.status == StatusCode::NOT_FOUND {
            return self.trace_by_v1(id, asking).await;
        }
        let found: ById = read(&reply)?;
        let cut = match found.status.as_deref() {
            None | Some("COMPLETE") => None,
            Some(_) => Some(Text::new(format!("only a part of trace {id}"))),
        };
        Ok(Answer {
            spans: spans(found.trace.resource_spans)?,
            cut,
            coverage: Coverage::Full,
        })
    }

    async fn trace_by_v1(&self, id: TraceId, asking: &Asking) -> Result<Answer, Unavailable> {
        let url = self.http.url(&format!("api/traces/{id}"))?;
        let reply = self.http.get(url, asking).await?;
        // Tempo says nothing with it; a path that there is not has words.
        if reply.status == StatusCode::NOT_FOUND && reply.body.is_empty() {
            return Ok(Answer::default());
        }
        let found: ByIdV1 = read(&reply)?;
        Ok(Answer {
            spans: spans(found.batches)?,
            ..Answer::default()
        })
    }

    async fn query(
        &self,
        query: &str,
        window: Window,
        limit: usize,
        asking: &Asking,
    ) -> Result<Found, Unavailable> {
        let (start, end) = outer_seconds(window);
        let mut url = self.http.url("api/search")?;
        // Without both ends only recent data is searched.
        url.query_pairs_mut()
            .append_pair("q", query)
            .append_pair("start", &start.to_string())
            .append_pair("end", &end.to_string())
            .append_pair("limit", &limit.to_string())
            .append_pair("spss", &SPANS_PER_TRACE.to_string());
        read(&self.http.get(url, asking).await?)
    }
}

fn read<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, Unavailable> {
    match reply.status {
        StatusCode::OK => reply.json(),
        _ => Err(reply.plain_refusal()),
    }
}

/// A TraceQL string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The resource attributes that tell where it is, or whether it is another one of its name.
fn places(service: &ServiceName) -> impl Iterator<Item = &str> {
    let own = service.attributes.keys().map(String::as_str);
    let others = PLACES.into_iter();
    own.chain(others.filter(|key| !service.attributes.contains_key(*key)))
}

/// The spans of a service, with all that the judge reads. Its resource attributes are compared here and not there, where
/// a number never equals its digits.
fn search_query(service: &ServiceName) -> String {
    let mut selected: Vec<_> = ["name", "kind", "status", "statusMessage"]
        .map(str::to_owned)
        .into();
    selected.extend(ATTRIBUTES.map(|name| format!("span.{name}")));
    let keys = places(service);
    selected.extend(keys.map(|key| format!("resource.{}", quoted(key))));
    format!(
        "{{ resource.service.name = {} }} | select({})",
        quoted(&service.name),
        selected.join(", ")
    )
}

#[async_trait]
impl Api for Tempo {
    async fn traces(
        &self,
        ids: &[TraceId],
        _around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        // No window: one that does not hold a span leaves out the block that it is in.
        let mut all = Answer::default();
        for answer in join_all(ids.iter().map(|id| self.trace(*id, asking))).await {
            let answer = answer?;
            all.spans.extend(answer.spans);
            all.cut = all.cut.or(answer.cut);
        }
        Ok(all)
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let query = search_query(service);
        let found = self.query(&query, window, SEARCH_LIMIT, asking).await?;
        let cut = found.cut(SEARCH_LIMIT);
        let mut answer = Answer {
            cut: cut.map(|cut| Text::new(format!("{cut} of {}", service.name))),
            ..Answer::default()
        };
        for trace in found.traces {
            let id: TraceId = trace.id()?;
            for span in trace.span_sets().flat_map(|set| &set.spans) {
                answer.spans.push(span.read(id, service)?);
            }
        }
        Ok(answer.within(&service.name, window))
    }

    async fn searchable(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Option<BTreeSet<TraceId>>, Unavailable> {
        if ids.is_empty() {
            return Ok(Some(BTreeSet::new()));
        }
        // Tempo strips leading zeros in one place and another: whichever it compares with, one of the two is it.
        let mut forms = BTreeSet::new();
        for id in ids {
            let id = id.to_string();
            forms.insert(id.trim_start_matches('0').to_owned());
            forms.insert(id);
        }
        let forms: Vec<_> = forms
            .iter()
            .map(|id| format!("trace:id = {}", quoted(id)))
            .collect();
        let query = format!("{{ {} }}", forms.join(" || "));
        // Theirs may be in it too, so that a limit of their number would leave none out.
        let found = self
            .query(&query, with_margin(around), 2 * ids.len(), asking)
            .await?;
        let seen: Result<_, _> = found.traces.iter().map(FoundTrace::id).collect();
        seen.map(Some)
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        // `/ready` and `/api/echo` say yes while no query is answered.
        let now = SystemTime::now();
        let from = now - Duration::from_secs(60);
        let window = Window { from, to: now };
        self.query("{ }", window, 1, asking).await.map(drop)
    }

    fn link(&self, id: TraceId, at: SystemTime) -> Option<String> {
        let (explore, datasource) = self.grafana.as_ref()?;
        let (from, to) = outer_millis(with_margin(Window { from: at, to: at }));
        let source = json!({"type": "tempo", "uid": datasource});
        let query =
            json!({"refId": "A", "datasource": source, "queryType": "traceql", "query": id});
        let panes = json!({"trace": {
            "datasource": datasource,
            "queries": [query],
            "range": {"from": from.to_string(), "to": to.to_string()},
        }});
        let mut url = explore.clone();
        url.query_pairs_mut()
            .append_pair("schemaVersion", "1")
            .append_pair("panes", &panes.to_string());
        Some(url.into())
    }
}

#[derive(Deserialize)]
struct ById {
    trace: Trace,
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    /// Left out for a trace that there is not.
    #[serde(default)]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
struct ByIdV1 {
    batches: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
struct Found {
    traces: Vec<FoundTrace>,
    #[serde(default)]
    metrics: Metrics,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    #[serde(default)]
    completed_jobs: Value,
    #[serde(default)]
    total_jobs: Value,
}

impl Found {
    fn cut(&self, limit: usize) -> Option<String> {
        let jobs = |value| whole(value).unwrap_or_default();
        let (done, all) = (
            jobs(&self.metrics.completed_jobs),
            jobs(&self.metrics.total_jobs),
        );
        let is_cut = |set: &SpanSet| set.matched.is_some_and(|all| all > set.spans.len());
        if self.traces.len() >= limit {
            Some(format!("{limit} traces"))
        } else if done < all {
            Some(format!("{done} of {all} parts of a search"))
        } else if self.traces.iter().any(|t| t.span_sets().any(is_cut)) {
            Some(format!("{SPANS_PER_TRACE} spans in one trace"))
        } else {
            None
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundTrace {
    #[serde(rename = "traceID")]
    trace_id: String,
    span_set: Option<SpanSet>,
    #[serde(default)]
    span_sets: Vec<SpanSet>,
}

impl FoundTrace {
    fn id(&self) -> Result<TraceId, Unavailable> {
        let id = self.trace_id.parse();
        id.map_err(|_| unreadable("a trace id that is none"))
    }

    /// `spanSet` is the first of `spanSets`, for who does not know those.
    fn span_sets(&self) -> impl Iterator<Item = &SpanSet> {
        let alone = self.span_set.iter().filter(|_| self.span_sets.is_empty());
        self.span_sets.iter().chain(alone)
    }
}

#[derive(Deserialize)]
struct SpanSet {
    #[serde(default)]
    spans: Vec<FoundSpan>,
    matched: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSpan {
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(default)]
    name: String,
    start_time_unix_nano: Value,
    #[serde(default)]
    duration_nanos: Value,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

impl FoundSpan {
    fn read(&self, trace_id: TraceId, service: &ServiceName) -> Result<BackendSpan, Unavailable> {
        let tags: HashMap<_, _> = self
            .attributes
            .iter()
            .map(|attribute| (attribute.key.clone(), attribute.text()))
            .collect();
        let tag = |key: &str| tags.get(key).cloned();
        let start = whole(&self.start_time_unix_nano).map(Duration::from_nanos);
        let (Some(start), Ok(span_id)) = (start, self.span_id.parse()) else {
            return Err(unreadable("a span without an id or a time"));
        };
        // A Tempo that does not select would make every span nobody's.
        let (Some(kind), Some(status)) = (tag("kind"), tag("status")) else {
            return Err(unreadable("a span without the kind and status asked for"));
        };
        Ok(BackendSpan {
            trace_id,
            span_id,
            // Not asked for: whose parent matters is asked for by its trace's id.
            parent: None,
            service: service.name.clone(),
            name: match self.name.as_str() {
                "" => tag("name").unwrap_or_default(),
                name => name.to_owned(),
            },
            kind: kind_of(&kind),
            start: UNIX_EPOCH + start,
            duration: Duration::from_nanos(whole(&self.duration_nanos).unwrap_or_default()),
            is_error: status == "error",
            message: tag("statusMessage").filter(|message| !message.is_empty()),
            resource: places(service)
                .filter_map(|key| Some((key.to_owned(), tag(key)?)))
                .collect(),
            tags,
        })
    }
}
