//! Honeycomb's Query Data API: a query is created, run, and its result waited for. It answers with aggregates only,
//! so that a group by the span's own id is the span; and ten times a minute, so that everything is one query.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::asking::Asking;
use super::attributes::{flat, number};
use super::backend::{Answer, Api, BackendSpan, Question, Unavailable, widened};
use super::budget::Budget;
use super::http::{Http, Reply};
use crate::model::{Coverage, RemoteSettings, ServiceName, SpanKind, Text, TraceId, Window};

/// Results that may be created: "10 requests per minute". Queries and looks at a result are not counted.
pub(super) const LIMIT: (usize, Duration) = (10, Duration::from_secs(60));

/// For one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a result is looked at, and for how long: most are there after the first second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS: usize = 40;

/// Groups of one result: the most that there are without a time series.
const GROUPS: usize = 10_000;

/// Results are created for what is not older than this.
const REACH: Duration = Duration::from_secs(7 * 24 * 3600);

/// New attributes are seen after so long.
const COLUMNS_ANEW: Duration = Duration::from_secs(600);

/// Datasets whose columns are looked up where none is named: those written to last.
const DATASETS: usize = 20;

/// Columns of one query; 100 is the most.
const COLUMNS: usize = 60;

/// The environment as a whole.
const ALL: &str = "__all__";

/// The column that we make: an event's own time is none.
const START: &str = "mcpprobe_start";

/// Without these there are no spans.
const NEEDED: [&str; 3] = ["trace.trace_id", "trace.span_id", "name"];

/// What the judge reads of a span.
const WANTED: [&str; 25] = [
    "trace.parent_id",
    "service.name",
    "span.kind",
    "duration_ms",
    "error",
    "status_message",
    "library.name",
    "gen_ai.operation.name",
    "gen_ai.tool.name",
    "heimdall.span_kind",
    "openinference.span.kind",
    "http.response.status_code",
    "http.status_code",
    "error.type",
    "rpc.response.status_code",
    "rpc.jsonrpc.error_code",
    "exception.message",
    "user_agent.original",
    "http.user_agent",
    "url.path",
    "http.target",
    "http.route",
    "service.namespace",
    "deployment.environment",
    "deployment.environment.name",
];

/// What may be asked for by `service`, and the names of MCP, of which there are many.
const WANTED_BEGINNINGS: [&str; 4] = ["mcp.", "k8s.", "cloud.", "service."];

/// Arguments and results are nobody's business.
const CONTENT: [&str; 4] = ["argument", "result", "input", "output"];

/// An environment of Honeycomb, or one dataset of it.
pub(super) struct Honeycomb {
    http: Http,
    budget: Option<Arc<Budget>>,
    dataset: Option<String>,
    ui: Option<String>,
    columns: Mutex<Option<(Instant, BTreeSet<String>)>>,
}

impl Honeycomb {
    pub(super) fn new(
        settings: &RemoteSettings,
        budget: Option<Arc<Budget>>,
    ) -> Result<Self, String> {
        Ok(Self {
            // Only the results are counted, see `run`.
            http: Http::new(settings, REQUEST_TIMEOUT, None)?,
            budget,
            dataset: settings.option("dataset").map(segment),
            ui: trace_page(settings),
            columns: Mutex::default(),
        })
    }

    fn dataset(&self) -> &str {
        self.dataset.as_deref().unwrap_or(ALL)
    }

    async fn spans(
        &self,
        filters: Value,
        any: bool,
        service: Option<&ServiceName>,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let (start, end) = whole_minutes(window);
        let oldest = SystemTime::now() - REACH;
        if window.from < oldest {
            return Err(Text::new("it answers nothing that is older than 7 days"));
        }
        // Before anything is asked: a query without a result would be for nothing.
        if let Some(budget) = &self.budget {
            asking.turn(budget).await?;
        }
        let breakdowns = self.breakdowns(service, asking).await?;
        let query = json!({
            "calculations": [{ "op": "COUNT" }],
            "calculated_fields": [{ "name": START, "expression": "EVENT_TIMESTAMP()" }],
            "filters": filters,
            "filter_combination": if any { "OR" } else { "AND" },
            "breakdowns": breakdowns,
            "start_time": start,
            "end_time": end,
            "limit": GROUPS,
        });
        let shown = format!("{filters} from {start} to {end}");
        let groups = self.run(&query, &shown, asking).await?;
        let count = groups.len();
        let mut spans = Vec::with_capacity(count);
        let mut stands_for = 1.0_f64;
        for group in &groups {
            // Events of spans and links are rows as well, without an id of their own.
            if group.data.get("trace.span_id").is_none_or(Value::is_null) {
                continue;
            }
            stands_for = stands_for.max(group.data.get("COUNT").and_then(number).unwrap_or(1.0));
            let span = span(&group.data);
            spans.push(span.ok_or_else(|| Text::new("a row of its result has no ids or time"))?);
        }
        Ok(Answer {
            spans,
            cut: (count >= GROUPS).then(|| Text::new(format!("{GROUPS} spans"))),
            coverage: match stands_for > 1.0 {
                true => Coverage::Sampled(Text::new(format!(
                    "one of its spans stands for {stands_for:.0}"
                ))),
                false => Coverage::Full,
            },
        })
    }

    /// Creates the query, runs it, and waits for the result.
    async fn run(
        &self,
        query: &Value,
        shown: &str,
        asking: &Asking,
    ) -> Result<Vec<Group>, Unavailable> {
        let dataset = self.dataset();
        let url = self.http.url(&format!("1/queries/{dataset}"))?;
        let reply = self.http.post_json(url, query, shown, asking).await?;
        let Created { id } = read(&reply)?;
        let url = self.http.url(&format!("1/query_results/{dataset}"))?;
        let body = json!({
            "query_id": id,
            "disable_series": true,
            "disable_total_by_aggregate": true,
            "disable_other_by_aggregate": true,
            "limit": GROUPS,
        });
        let shown = format!("query_id {id}");
        let reply = self.http.post_json(url, &body, &shown, asking).await?;
        if let Some(budget) = &self.budget
            && reply.status == StatusCode::TOO_MANY_REQUESTS
        {
            // It does not say for how long: the limit is one by the minute.
            budget.pause(reply.wants_to_be_left_alone());
        }
        let Created { id } = read(&reply)?;
        let path = format!("1/query_results/{dataset}/{}", segment(&id));
        for _ in 0..LOOKS {
            let reply = self.http.get(self.http.url(&path)?, asking).await?;
            let result: QueryResult = read(&reply)?;
            if result.complete {
                let data = result
                    .data
                    .ok_or_else(|| Text::new("its result is complete and holds nothing"))?;
                return Ok(data.results.unwrap_or_default());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let waited = humantime::format_duration(LOOK_EVERY * u32::try_from(LOOKS).unwrap_or(1));
        Err(Text::new(format!(
            "its result was not ready after {waited}"
        )))
    }

    /// A query that names a column that there is not is refused as a whole.
    async fn breakdowns(
        &self,
        service: Option<&ServiceName>,
        asking: &Asking,
    ) -> Result<Vec<String>, Unavailable> {
        let columns = self.columns(asking).await?;
        if let Some(missing) = NEEDED.iter().find(|name| !columns.contains(**name)) {
            return Err(Text::new(format!(
                "it has no column {missing}: no span has ever arrived there"
            )));
        }
        let of_service = service.into_iter().flat_map(|s| s.attributes.keys());
        let first = NEEDED
            .iter()
            .chain(&WANTED)
            .map(|name| (*name).to_owned())
            .chain(of_service.cloned());
        let others = columns
            .iter()
            .filter(|name| {
                WANTED_BEGINNINGS
                    .iter()
                    .any(|start| name.starts_with(start))
                    && !CONTENT.iter().any(|word| name.contains(word))
            })
            .cloned();
        let mut chosen: Vec<String> = Vec::new();
        for name in first.chain(others) {
            if chosen.len() < COLUMNS && columns.contains(&name) && !chosen.contains(&name) {
                chosen.push(name);
            }
        }
        chosen.push(START.to_owned());
        Ok(chosen)
    }

    async fn columns(&self, asking: &Asking) -> Result<BTreeSet<String>, Unavailable> {
        let mut known = self.columns.lock().await;
        if let Some((at, columns)) = known.as_ref()
            && at.elapsed() < COLUMNS_ANEW
        {
            return Ok(columns.clone());
        }
        let mut found = BTreeSet::new();
        for dataset in self.datasets(asking).await? {
            let url = self.http.url(&format!("1/columns/{dataset}"))?;
            let columns: Vec<Column> = read(&self.http.get(url, asking).await?)?;
            found.extend(columns.into_iter().map(|column| column.key_name));
        }
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Those whose columns there may be: the environment as a whole has no list of them.
    async fn datasets(&self, asking: &Asking) -> Result<Vec<String>, Unavailable> {
        if let Some(dataset) = &self.dataset {
            return Ok(vec![dataset.clone()]);
        }
        let url = self.http.url("1/datasets")?;
        let mut datasets: Vec<Dataset> = read(&self.http.get(url, asking).await?)?;
        datasets.sort_by(|a, b| b.last_written_at.cmp(&a.last_written_at));
        let latest = datasets.iter().take(DATASETS);
        Ok(latest.map(|dataset| segment(&dataset.slug)).collect())
    }
}

#[async_trait]
impl Api for Honeycomb {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let filters = json!([of_traces(ids)]);
        self.spans(filters, false, None, widened(around), asking)
            .await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let filters = json!([of_service(service)]);
        let mut answer = self
            .spans(filters, false, Some(service), window, asking)
            .await?;
        // It was asked in whole minutes.
        answer.spans.retain(|span| window.holds(span.start));
        Ok(answer)
    }

    async fn both(
        &self,
        question: Question<'_>,
        asking: &Asking,
    ) -> Option<Result<Answer, Unavailable>> {
        let Question { ids, service, .. } = question;
        let filters = json!([of_service(service), of_traces(ids)]);
        let window = widened(question.whole);
        let answer = self.spans(filters, true, Some(service), window, asking);
        Some(answer.await)
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let reply = self.http.get(self.http.url("1/auth")?, asking).await?;
        read::<serde::de::IgnoredAny>(&reply).map(drop)
    }

    fn link(&self, id: TraceId, at: SystemTime) -> Option<String> {
        let at = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let page = super::backend::page(self.ui.as_deref(), id)?;
        // Without a time it looks for the trace in the last hours only.
        Some(match page.contains("trace_id=") {
            true => {
                let (from, to) = (at.saturating_sub(3_600), at + 3_600);
                format!("{page}&trace_start_ts={from}&trace_end_ts={to}")
            }
            false => page,
        })
    }
}

/// The usual one needs the team, and an environment.
fn trace_page(settings: &RemoteSettings) -> Option<String> {
    let team = settings.option("team");
    let environment = settings.option("environment");
    let (Some(team), Some(environment)) = (team, environment) else {
        return settings.option("ui").map(str::to_owned);
    };
    let host = settings.url.as_ref().and_then(|url| url.host_str());
    let usual = match host {
        Some("api.eu1.honeycomb.io") => "https://ui.eu1.honeycomb.io",
        _ => "https://ui.honeycomb.io",
    };
    let base = settings.option("ui").unwrap_or(usual).trim_end_matches('/');
    let (team, environment) = (segment(team), segment(environment));
    Some(format!(
        "{base}/{team}/environments/{environment}/trace?trace_id={{trace_id}}"
    ))
}

/// A part of a path, whatever is in it.
fn segment(name: impl AsRef<str>) -> String {
    const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    utf8_percent_encode(name.as_ref(), &KEPT).to_string()
}

/// Times are cut to the minute, in longer windows to more: what is asked for has to lie within.
fn whole_minutes(window: Window) -> (u64, u64) {
    const HOUR: u64 = 3_600;
    let seconds = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let (from, to) = (seconds(window.from), seconds(window.to) + 1);
    let grain = match to.saturating_sub(from) {
        // One grain less, for what is added may make it longer.
        length if length < 6 * HOUR - 120 => 60,
        length if length < 48 * HOUR - 600 => 300,
        _ => 1_800,
    };
    (from / grain * grain, to.div_ceil(grain) * grain)
}

fn of_traces(ids: &[TraceId]) -> Value {
    // An id whose first half is zero is kept without it.
    let short = |id: &String| id.strip_prefix("0000000000000000").map(str::to_owned);
    let ids: Vec<_> = ids.iter().map(TraceId::to_string).collect();
    let all: Vec<_> = ids.iter().filter_map(short).chain(ids.clone()).collect();
    json!({ "column": "trace.trace_id", "op": "in", "value": all })
}

fn of_service(service: &ServiceName) -> Value {
    json!({ "column": "service.name", "op": "=", "value": service.name })
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

#[derive(Deserialize)]
struct QueryResult {
    complete: bool,
    data: Option<ResultData>,
}

#[derive(Deserialize)]
struct ResultData {
    results: Option<Vec<Group>>,
}

#[derive(Deserialize)]
struct Group {
    data: Map<String, Value>,
}

#[derive(Deserialize)]
struct Column {
    key_name: String,
}

#[derive(Deserialize)]
struct Dataset {
    slug: String,
    last_written_at: Option<String>,
}

fn read<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, Unavailable> {
    if reply.status.is_success() {
        return reply.json();
    }
    let told: Option<Map<String, Value>> = serde_json::from_slice(&reply.body).ok();
    let message = told.and_then(|told| Some(told.get("error")?.as_str()?.to_owned()));
    Err(reply.refusal(&message.unwrap_or_default()))
}

/// `None` when it says neither who it is nor when it was.
fn span(row: &Map<String, Value>) -> Option<BackendSpan> {
    let seconds = row.get(START).and_then(number)?;
    let millis = row.get("duration_ms").and_then(number).unwrap_or_default();
    let mut tags = flat(row);
    if let Some(scope) = tags.get("library.name").cloned() {
        tags.insert("otel.scope.name".to_owned(), scope);
    }
    let tag = |key: &str| tags.get(key).map(String::as_str);
    Some(BackendSpan {
        trace_id: tag("trace.trace_id")?.parse().ok()?,
        span_id: tag("trace.span_id")?.parse().ok()?,
        parent: tag("trace.parent_id").and_then(|id| id.parse().ok()),
        service: tag("service.name").unwrap_or_default().to_owned(),
        name: tag("name").unwrap_or_default().to_owned(),
        kind: match tag("span.kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            _ => SpanKind::Other,
        },
        start: SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?,
        duration: Duration::try_from_secs_f64(millis / 1_000.0).ok()?,
        is_error: tag("error") == Some("true"),
        message: tag("status_message").map(str::to_owned),
        resource: tags.clone(),
        tags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    proptest! {
        #[test]
        fn what_is_asked_for_lies_within_what_is_answered(
            from in 0_u64..10_000_000,
            length in 0_u64..600_000,
        ) {
            let window = Window { from: at(from), to: at(from + length) };
            let (start, end) = whole_minutes(window);
            // As the documentation cuts.
            let grain = match end - start {
                ..=21_600 => 60,
                21_601..=172_800 => 300,
                _ => 1_800,
            };
            prop_assert!(start / grain * grain <= from);
            prop_assert!(end / grain * grain > from + length);
        }

        #[test]
        fn a_dataset_is_one_part_of_the_path(name in any::<String>()) {
            let path = segment(&name);
            prop_assert!(!path.contains(['/', '?', '#', ' ', '\\']));
        }
    }
}
