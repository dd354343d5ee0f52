//! New Relic's spans by NRQL, asked through NerdGraph: a query language in a query language, whose errors come with
//! HTTP 200.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::asking::Asking;
use super::attributes::{flat, number};
use super::backend::{Answer, Api, BackendSpan, Unavailable, page, widened};
use super::budget::Budget;
use super::http::{Http, Reply};
use super::quote::{all_single_quoted, single_quoted};
use crate::model::{Coverage, RemoteSettings, ServiceName, SpanKind, Text, TraceId, Window};

/// An account has 3,000 NRQL queries a minute, each request here makes two; persons and dashboards need most of them.
pub(super) const LIMIT: (usize, Duration) = (300, Duration::from_secs(60));

/// What NRQL is given, in seconds; it has 5 unless told otherwise.
const NRQL_TIMEOUT: u64 = 20;

/// For one request, so that NRQL's own answer comes first.
const QUERY_TIMEOUT: Duration = Duration::from_secs(25);

/// Spans are kept for so long unless the account pays for more.
const KEPT: Duration = Duration::from_secs(8 * 24 * 3600);

/// The spans and how many there are: `LIMIT MAX` cuts without saying so, and at another number in each account.
const QUERY: &str = "query($account: Int!, $spans: Nrql!, $total: Nrql!, $timeout: Seconds!) { actor { account(id: $account) { spans: nrql(query: $spans, timeout: $timeout) { results } total: nrql(query: $total, timeout: $timeout) { results } } } }";

/// An account of New Relic.
pub(super) struct NewRelic {
    http: Http,
    account: u64,
    ui: Option<String>,
}

impl NewRelic {
    pub(super) fn new(
        settings: &RemoteSettings,
        budget: Option<Arc<Budget>>,
    ) -> Result<Self, String> {
        let account = settings.option("account").unwrap_or_default();
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, budget)?,
            account: account
                .parse()
                .map_err(|_| "`account` of New Relic is no number".to_owned())?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn spans(
        &self,
        condition: &str,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let url = self.http.url("graphql")?;
        let [spans, total] = queries(condition, window);
        let body = json!({
            "query": QUERY,
            "variables": {
                "account": self.account,
                "spans": spans,
                "total": total,
                "timeout": NRQL_TIMEOUT,
            },
        });
        let reply = self.http.post_json(url, &body, &spans, asking).await?;
        let account = read(&reply)?;
        let total = account.total.results.first();
        let total = total
            .and_then(|row| row.get("count").and_then(number))
            .ok_or_else(|| Text::new("it does not say how many spans there are"))?;
        let rows = account.spans.results;
        let found = rows.len();
        let spans: Option<Vec<_>> = rows.into_iter().map(|row| span(&row)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand rows")]
        let is_cut = (found as f64) < total;
        Ok(Answer {
            spans: spans.ok_or_else(|| Text::new("a span in its answer has no ids or time"))?,
            cut: is_cut.then(|| Text::new(format!("{found} of {total} spans"))),
            coverage: coverage(window, SystemTime::now()),
        })
    }
}

#[async_trait]
impl Api for NewRelic {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        if ids.is_empty() {
            return Ok(Answer::default());
        }
        let ids = all_single_quoted(ids.iter().map(TraceId::to_string));
        let condition = format!("trace.id IN ({ids})");
        self.spans(&condition, widened(around), asking).await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        self.spans(&of_service(service), window, asking).await
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let now = SystemTime::now();
        let nobody = Window { from: now, to: now };
        self.spans("trace.id = ''", nobody, asking).await.map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        page(self.ui.as_deref(), id)
    }
}

/// OpenTelemetry's name, or that of New Relic's own agents.
fn of_service(service: &ServiceName) -> String {
    let name = single_quoted(&service.name);
    format!("(service.name = {name} OR appName = {name})")
}

/// Milliseconds since 1970; the last one is asked for too.
fn queries(condition: &str, window: Window) -> [String; 2] {
    let millis = |at| super::backend::micros(at) / 1_000;
    let (from, to) = (millis(window.from), millis(window.to) + 1);
    let of = format!("FROM Span WHERE {condition} SINCE {from} UNTIL {to}");
    [
        format!("SELECT * {of} LIMIT MAX"),
        format!("SELECT count(*) {of}"),
    ]
}

fn coverage(window: Window, now: SystemTime) -> Coverage {
    let age = now.duration_since(window.from).unwrap_or_default();
    if age > KEPT {
        return Coverage::RetentionFiltered(Text::new("New Relic keeps spans for 8 days"));
    }
    // Its own agents send a sample, OpenTelemetry's SDKs what they were told: the answer does not say which.
    Coverage::Unknown
}

#[derive(Deserialize)]
struct Graph {
    data: Option<Data>,
    errors: Option<Vec<GraphError>>,
}

#[derive(Deserialize)]
struct GraphError {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Data {
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    account: Option<Account>,
}

#[derive(Deserialize)]
struct Account {
    spans: Rows,
    total: Rows,
}

#[derive(Deserialize)]
struct Rows {
    results: Vec<Map<String, Value>>,
}

fn read(reply: &Reply) -> Result<Account, Unavailable> {
    // A refusal is told in the same form, and with its errors an answer may have no data, or a part of it.
    let errors: Option<Errors> = serde_json::from_slice(&reply.body).ok();
    let error = errors.and_then(|told| told.errors?.into_iter().next());
    let message = error.map(|error| error.message);
    if !reply.status.is_success() {
        return Err(reply.refusal(message.as_deref().unwrap_or_default()));
    }
    if let Some(message) = message {
        return Err(Text::new(message));
    }
    let graph: Graph = reply.json()?;
    if graph.errors.is_some_and(|errors| !errors.is_empty()) {
        return Err(Text::new("it answered with an error that says nothing"));
    }
    let actor = graph.data.and_then(|data| data.actor);
    actor
        .and_then(|actor| actor.account)
        .ok_or_else(|| Text::new("the account is not one that this key may ask about"))
}

#[derive(Deserialize)]
struct Errors {
    errors: Option<Vec<GraphError>>,
}

/// `None` when it says neither who it is nor when it was.
fn span(row: &Map<String, Value>) -> Option<BackendSpan> {
    let millis = row.get("timestamp").and_then(number)?;
    let duration = row.get("duration.ms").and_then(number).unwrap_or_default();
    let mut tags = flat(row);
    if let Some(scope) = tags.get("otel.library.name").cloned() {
        tags.entry("otel.scope.name".to_owned()).or_insert(scope);
    }
    let tag = |key: &str| tags.get(key).map(String::as_str);
    let parent = tag("parent.id").or_else(|| tag("parentId"));
    let service = tag("service.name").or_else(|| tag("appName"));
    Some(BackendSpan {
        trace_id: tag("trace.id").or_else(|| tag("traceId"))?.parse().ok()?,
        span_id: tag("id").or_else(|| tag("guid"))?.parse().ok()?,
        parent: parent.and_then(|id| id.parse().ok()),
        service: service.unwrap_or_default().to_owned(),
        name: tag("name").unwrap_or_default().to_owned(),
        kind: match tag("span.kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            _ => SpanKind::Other,
        },
        start: SystemTime::UNIX_EPOCH + duration_of(millis)?,
        duration: duration_of(duration)?,
        is_error: is_error(&tags),
        message: tag("otel.status_description")
            .or_else(|| tag("error.message"))
            .map(str::to_owned),
        resource: tags.clone(),
        tags,
    })
}

fn is_error(tags: &HashMap<String, String>) -> bool {
    match tags.get("otel.status_code") {
        Some(status) => status.eq_ignore_ascii_case("error"),
        None => tags.contains_key("error.class") || tags.contains_key("error.message"),
    }
}

fn duration_of(millis: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(millis / 1_000.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::quote::tests::{any_name, read};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_name_of_a_service_changes_the_query(name in any_name()) {
            let service = ServiceName { name: name.clone(), attributes: Default::default() };
            let query = of_service(&service);
            let (first, rest) = read(query.strip_prefix("(service.name = ").unwrap());
            let (second, end) = read(rest.strip_prefix(" OR appName = ").unwrap());
            prop_assert_eq!((first, second, end), (name.clone(), name, ")"));
        }
    }
}
