//! Datadog's search for spans: 300 requests an hour for a whole organization, and every span for 15 minutes only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::asking::Asking;
use super::attributes::flat;
use super::backend::{Answer, Api, BackendSpan, Question, Unavailable, page, widened};
use super::budget::Budget;
use super::http::{Http, Reply};
use super::quote::double_quoted;
use crate::model::{
    Coverage, RemoteSettings, ServiceName, SpanId, SpanKind, Text, TraceId, Window,
};

/// "This endpoint is rate limited to 300 requests per hour", for the organization.
pub(super) const LIMIT: (usize, Duration) = (300, Duration::from_secs(3600));

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Spans of one page, the most that there are.
const PAGE: usize = 1_000;

/// Pages of one answer: more would spend the hour's requests on one busy service.
const MAX_PAGES: usize = 5;

/// For so long every span that came in is found; later only what a retention filter kept.
const LIVE: Duration = Duration::from_secs(15 * 60);

/// Characters of a service's name that are kept.
const LONGEST_SERVICE: usize = 100;

/// An organization at one of Datadog's sites.
pub(super) struct Datadog {
    http: Http,
    ui: Option<String>,
}

impl Datadog {
    pub(super) fn new(
        settings: &RemoteSettings,
        budget: Option<Arc<Budget>>,
    ) -> Result<Self, String> {
        let own = settings.url.as_ref().and_then(own_ui);
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, budget)?,
            ui: settings.option("ui").map(str::to_owned).or(own),
        })
    }

    /// At most `pages` pages of what `query` finds.
    async fn find(
        &self,
        query: &str,
        window: Window,
        pages: usize,
        asking: &Asking,
    ) -> Result<Found, Unavailable> {
        let url = self.http.url("api/v2/spans/events/search")?;
        let time = |at| humantime::format_rfc3339_millis(at).to_string();
        // Milliseconds: the last one is in the window too.
        let (from, to) = (
            time(window.from),
            time(window.to + Duration::from_millis(1)),
        );
        let mut found = Found::default();
        let mut cursor: Option<String> = None;
        for number in 1..=pages {
            let mut page = json!({ "limit": PAGE });
            if let Some(cursor) = &cursor {
                page["cursor"] = json!(cursor);
            }
            let body = json!({ "data": { "type": "search_request", "attributes": {
                "filter": { "from": from, "to": to, "query": query },
                "options": { "timezone": "UTC" },
                "page": page,
                "sort": "timestamp",
            }}});
            let shown = format!("{query} from {from} to {to}, page {number}");
            let reply = self
                .http
                .post_json(url.clone(), &body, &shown, asking)
                .await?;
            let answer = read(&reply)?;
            let after = answer.meta.page.after.filter(|after| !after.is_empty());
            found.more = after.is_some() && !answer.data.is_empty();
            found.spans.extend(answer.data);
            // A cursor that leads to itself would never end.
            if !found.more || after == cursor {
                break;
            }
            cursor = after;
        }
        Ok(found)
    }
}

#[derive(Default)]
struct Found {
    spans: Vec<Item>,
    more: bool,
}

impl Found {
    fn answer(
        self,
        ids: &[TraceId],
        service: Option<&ServiceName>,
        coverage: Coverage,
        what: &str,
    ) -> Result<Answer, Unavailable> {
        let count = self.spans.len();
        let spans: Option<Vec<_>> = self
            .spans
            .into_iter()
            .map(|item| span(item.attributes, ids, service))
            .collect();
        Ok(Answer {
            spans: spans.ok_or_else(|| Text::new("a span in its answer has no ids or times"))?,
            cut: self
                .more
                .then(|| Text::new(format!("{count} spans of {what}"))),
            coverage,
        })
    }
}

#[async_trait]
impl Api for Datadog {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let found = self
            .find(&of_traces(ids), widened(around), MAX_PAGES, asking)
            .await?;
        found.answer(ids, None, Coverage::Full, "our probes' traces")
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let coverage = kept(window, SystemTime::now());
        let found = self
            .find(&of_service(service), window, MAX_PAGES, asking)
            .await?;
        found.answer(&[], Some(service), coverage, &service.name)
    }

    async fn both(
        &self,
        question: Question<'_>,
        asking: &Asking,
    ) -> Option<Result<Answer, Unavailable>> {
        let Question { ids, service, .. } = question;
        let coverage = kept(question.since, SystemTime::now());
        let query = format!("{} OR {}", of_service(service), of_traces(ids));
        // One page only: what does not fit has to be asked for in another way.
        let found = self.find(&query, widened(question.whole), 1, asking).await;
        Some(found.and_then(|found| found.answer(ids, Some(service), coverage, &service.name)))
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let now = SystemTime::now();
        let last_minute = Window {
            from: now - Duration::from_secs(60),
            to: now,
        };
        self.find("*", last_minute, 1, asking).await.map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        page(self.ui.as_deref(), id)
    }
}

/// `api.datadoghq.com` is looked at in `app.datadoghq.com`, `api.us3.datadoghq.com` in `us3.datadoghq.com`.
fn own_ui(api: &Url) -> Option<String> {
    let site = api.host_str()?.strip_prefix("api.")?;
    let host = match site.split('.').count() {
        2 => format!("app.{site}"),
        _ => site.to_owned(),
    };
    Some(format!("https://{host}/apm/trace/{{trace_id}}"))
}

fn kept(window: Window, now: SystemTime) -> Coverage {
    let age = now.duration_since(window.from).unwrap_or_default();
    if age <= LIVE {
        return Coverage::Full;
    }
    Coverage::RetentionFiltered(Text::new(
        "Datadog has every span for 15 minutes, later only those that a retention filter kept",
    ))
}

/// By the lower half as a number, which is what Datadog counts by, and by the whole as OTLP brought it.
fn of_traces(ids: &[TraceId]) -> String {
    let halves: Vec<_> = ids.iter().map(|id| lower_half(*id).to_string()).collect();
    let wholes: Vec<_> = ids.iter().map(TraceId::to_string).collect();
    format!(
        "trace_id:({}) OR @otel.trace_id:({})",
        halves.join(" OR "),
        wholes.join(" OR ")
    )
}

fn of_service(service: &ServiceName) -> String {
    format!("service:{}", double_quoted(&as_kept(&service.name)))
}

fn lower_half(id: TraceId) -> u64 {
    let [_, _, _, _, _, _, _, _, low @ ..] = id.0;
    u64::from_be_bytes(low)
}

/// A service's name as Datadog keeps it: lower case, and what is no letter, digit or `_:./-` is one underscore.
fn as_kept(name: &str) -> String {
    let mut kept = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        let may_stay = c.is_alphanumeric() || matches!(c, ':' | '.' | '/' | '-');
        if may_stay {
            kept.push(c);
        } else if !kept.ends_with('_') {
            kept.push('_');
        }
    }
    let kept: String = kept.chars().take(LONGEST_SERVICE).collect();
    kept.trim_matches('_').to_owned()
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Item>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default)]
    page: After,
    status: Option<String>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Default, Deserialize)]
struct After {
    after: Option<String>,
}

#[derive(Deserialize)]
struct Warning {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct Item {
    attributes: Map<String, Value>,
}

fn read(reply: &Reply) -> Result<Page, Unavailable> {
    if !reply.status.is_success() {
        return Err(reply.refusal(&said(&reply.body)));
    }
    let page: Page = reply.json()?;
    if let Some(status) = page.meta.status.as_deref()
        && status != "done"
    {
        return Err(Text::new(format!("its answer is not whole: {status}")));
    }
    match page.meta.warnings.first() {
        Some(warning) => Err(Text::new(format!(
            "its answer may not be whole: {} {}",
            warning.title, warning.detail
        ))),
        None => Ok(page),
    }
}

/// `{"errors": ["..."]}`, or of objects.
fn said(body: &[u8]) -> String {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return String::new();
    };
    let errors = body.get("errors").and_then(Value::as_array);
    let first = errors.and_then(|errors| errors.first());
    match first {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(error)) => flat(error).remove("detail").unwrap_or_default(),
        _ => String::new(),
    }
}

/// `None` when it says neither who it is nor when it was.
fn span(
    mut item: Map<String, Value>,
    ids: &[TraceId],
    service: Option<&ServiceName>,
) -> Option<BackendSpan> {
    let mut tags = HashMap::new();
    for part in ["attributes", "custom"] {
        if let Some(Value::Object(part)) = item.remove(part) {
            tags.extend(flat(&part));
        }
    }
    let own = flat(&item);
    let text = |key: &str| own.get(key).map(String::as_str);
    let tag = |key: &str| tags.get(key).map(String::as_str);
    let start: SystemTime = time(text("start_timestamp")?)?;
    let end = text("end_timestamp").and_then(time).unwrap_or(start);
    let name = text("service").unwrap_or_default();
    let service = match service {
        // It is kept in another way of writing.
        Some(service) if as_kept(&service.name) == name => service.name.clone(),
        _ => name.to_owned(),
    };
    let is_error = is_error(&own, &tags);
    let message = ["otel.status_description", "error.message", "error.msg"]
        .iter()
        .find_map(|key| tag(key))
        .map(str::to_owned);
    let kind = match tag("span.kind") {
        Some("server") => SpanKind::Server,
        Some("client") => SpanKind::Client,
        _ => SpanKind::Other,
    };
    let trace_id = trace_id(tag("otel.trace_id"), text("trace_id"), ids)?;
    for (theirs, ours) in [
        ("http.useragent", "user_agent.original"),
        ("env", "deployment.environment"),
        ("otel.library.name", "otel.scope.name"),
    ] {
        let value = tags.get(theirs).or_else(|| own.get(theirs)).cloned();
        if let Some(value) = value {
            tags.entry(ours.to_owned()).or_insert(value);
        }
    }
    Some(BackendSpan {
        trace_id,
        span_id: span_id(text("span_id")?)?,
        parent: text("parent_id").and_then(span_id),
        service,
        name: text("resource_name").unwrap_or_default().to_owned(),
        kind,
        start,
        duration: end.duration_since(start).unwrap_or_default(),
        is_error,
        message,
        // What was the span's and what was the resource's is one here.
        resource: tags.clone(),
        tags,
    })
}

/// By OpenTelemetry's status where there is one; else by what Datadog's own tracers say.
fn is_error(own: &HashMap<String, String>, tags: &HashMap<String, String>) -> bool {
    if let Some(status) = tags.get("otel.status_code") {
        return status.eq_ignore_ascii_case("error");
    }
    let status = own.get("status").or_else(|| tags.get("status"));
    status.is_some_and(|status| status == "error")
        || tags.contains_key("error.type")
        || tags.contains_key("error.message")
}

fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// The whole id where it was kept. Of a half, the one that was asked for, or one with nothing in front.
fn trace_id(whole: Option<&str>, own: Option<&str>, ids: &[TraceId]) -> Option<TraceId> {
    if let Some(whole) = whole.and_then(|id| id.parse().ok()) {
        return Some(whole);
    }
    let own = own?;
    let half = match own.parse::<u64>() {
        Ok(number) => number,
        Err(_) => {
            let id: TraceId = own.parse().ok()?;
            if own.len() > 16 {
                return Some(id);
            }
            lower_half(id)
        }
    };
    ids.iter()
        .find(|id| lower_half(**id) == half)
        .copied()
        .or_else(|| format!("{half:x}").parse().ok())
}

/// A number, but hexadecimal where it cannot be one.
fn span_id(text: &str) -> Option<SpanId> {
    match text.parse::<u64>() {
        Ok(0) => None,
        Ok(number) => format!("{number:x}").parse().ok(),
        Err(_) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::quote::tests::{any_name, read};
    use proptest::prelude::*;

    #[test]
    fn a_service_is_asked_for_as_it_is_kept() {
        assert_eq!(as_kept("Weather MCP (prod)"), "weather_mcp_prod");
        assert_eq!(as_kept("weather-mcp"), "weather-mcp");
    }

    #[test]
    fn a_half_of_an_id_is_that_of_the_whole_that_was_asked_for() {
        let asked: TraceId = "0102030405060708090a0b0c0d0e0f10".parse().unwrap();
        let half = lower_half(asked).to_string();
        assert_eq!(trace_id(None, Some(&half), &[asked]), Some(asked));
        let padded: TraceId = "090a0b0c0d0e0f10".parse().unwrap();
        assert_eq!(trace_id(None, Some(&half), &[]), Some(padded));
        assert_eq!(
            trace_id(Some(&asked.to_string()), Some(&half), &[]),
            Some(asked)
        );
    }

    proptest! {
        #[test]
        fn no_name_of_a_service_changes_the_query(name in any_name()) {
            let service = ServiceName { name: name.clone(), attributes: Default::default() };
            let query = of_service(&service);
            let literal = query.strip_prefix("service:").unwrap();
            prop_assert_eq!(read(literal), (as_kept(&name), ""));
            prop_assert!(!as_kept(&name).contains(['*', '?', '"', '\\', '\n', ' ']));
        }
    }
}
