//! Axiom's spans by APL: tables that come by columns, and answers that may be partial with HTTP 200.

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

/// Axiom's own limits depend on the plan and are told in headers; this keeps a hundred incidents from finding them.
pub(super) const LIMIT: (usize, Duration) = (60, Duration::from_secs(60));

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Rows of one answer; without a limit there are 1,000, and the server may have a lower one.
const ROWS: usize = 10_000;

/// A dataset at Axiom.
pub(super) struct Axiom {
    http: Http,
    path: &'static str,
    dataset: String,
    ui: Option<String>,
}

impl Axiom {
    pub(super) fn new(
        settings: &RemoteSettings,
        budget: Option<Arc<Budget>>,
    ) -> Result<Self, String> {
        let host = settings.url.as_ref().and_then(|url| url.host_str());
        let is_api = host.is_some_and(|host| host.starts_with("api."));
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, budget)?,
            // Edge deployments do not serve the older one, and the API not the newer one.
            path: match is_api {
                true => "v1/datasets/_apl",
                false => "v1/query/_apl",
            },
            dataset: settings.option("dataset").unwrap_or_default().to_owned(),
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn spans(
        &self,
        condition: &str,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let mut url = self.http.url(self.path)?;
        url.query_pairs_mut().append_pair("format", "tabular");
        let apl = apl(&self.dataset, condition);
        let time = |at| humantime::format_rfc3339_nanos(at).to_string();
        let (from, to) = (time(window.from), time(window.to));
        let body = json!({ "apl": apl, "startTime": from, "endTime": to });
        let shown = format!("{apl} from {from} to {to}");
        let reply = self.http.post_json(url, &body, &shown, asking).await?;
        let result = read(&reply)?;
        let mut spans = Vec::new();
        let mut rows = 0;
        for table in result.tables {
            for row in table.rows()? {
                rows += 1;
                let span = span(&row);
                spans
                    .push(span.ok_or_else(|| Text::new("a row of its answer has no ids or time"))?);
            }
        }
        let matched = result.status.rows_matched.unwrap_or_default();
        let is_cut = rows >= ROWS || matched > rows;
        Ok(Answer {
            spans,
            cut: is_cut.then(|| Text::new(format!("{rows} spans"))),
            coverage: Coverage::Full,
        })
    }
}

#[async_trait]
impl Api for Axiom {
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
        let condition = format!("['trace_id'] in ({ids})");
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
        let last_second = Window {
            from: now - Duration::from_secs(1),
            to: now,
        };
        self.spans("['trace_id'] == ''", last_second, asking)
            .await
            .map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        page(self.ui.as_deref(), id)
    }
}

fn of_service(service: &ServiceName) -> String {
    format!("['service.name'] == {}", single_quoted(&service.name))
}

fn apl(dataset: &str, condition: &str) -> String {
    let dataset = single_quoted(dataset);
    format!("[{dataset}] | where {condition} | sort by _time asc | limit {ROWS}")
}

#[derive(Deserialize)]
struct Tabular {
    status: Status,
    tables: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    is_partial: bool,
    rows_matched: Option<usize>,
}

#[derive(Deserialize)]
struct Table {
    fields: Vec<Field>,
    columns: Option<Vec<Vec<Value>>>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
}

impl Table {
    /// Each row by the names of its fields.
    fn rows(self) -> Result<Vec<Map<String, Value>>, Unavailable> {
        let columns = self.columns.unwrap_or_default();
        let count = columns.first().map_or(0, Vec::len);
        let is_even = columns.iter().all(|column| column.len() == count);
        if !is_even || (count > 0 && columns.len() != self.fields.len()) {
            return Err(Text::new("the columns of its answer do not fit"));
        }
        let mut rows = vec![Map::new(); count];
        for (field, column) in self.fields.iter().zip(columns) {
            for (row, value) in rows.iter_mut().zip(column) {
                if !value.is_null() {
                    row.insert(field.name.clone(), value);
                }
            }
        }
        Ok(rows)
    }
}

fn read(reply: &Reply) -> Result<Tabular, Unavailable> {
    if !reply.status.is_success() {
        let told: Option<Map<String, Value>> = serde_json::from_slice(&reply.body).ok();
        let message = told.and_then(|told| Some(told.get("message")?.as_str()?.to_owned()));
        return Err(reply.refusal(&message.unwrap_or_default()));
    }
    let result: Tabular = reply.json()?;
    if result.status.is_partial {
        return Err(Text::new("its answer is partial"));
    }
    Ok(result)
}

/// Where Axiom puts what was on the span, and on its resource.
const OF_SPAN: [&str; 2] = ["attributes.custom.", "attributes."];
const OF_RESOURCE: [&str; 2] = ["resource.custom.", "resource."];

/// `None` when it says neither who it is nor when it was.
fn span(row: &Map<String, Value>) -> Option<BackendSpan> {
    let mut tags = HashMap::new();
    let mut resource = HashMap::new();
    for (key, value) in flat(row) {
        let without = |prefixes: [&str; 2]| {
            let mut found = prefixes
                .iter()
                .filter_map(|prefix| key.strip_prefix(prefix));
            found.next().map(str::to_owned)
        };
        if let Some(key) = without(OF_SPAN) {
            tags.insert(key, value);
        } else if let Some(key) = without(OF_RESOURCE) {
            resource.insert(key, value);
        } else {
            // `service.name` and its like are lifted out of the resource.
            resource.insert(key.clone(), value.clone());
            tags.entry(key).or_insert(value);
        }
    }
    if let Some(scope) = tags.get("scope.name").cloned() {
        tags.insert("otel.scope.name".to_owned(), scope);
    }
    let own = |key: &str| resource.get(key).map(String::as_str);
    Some(BackendSpan {
        trace_id: own("trace_id")?.parse().ok()?,
        span_id: own("span_id")?.parse().ok()?,
        parent: own("parent_span_id").and_then(|id| id.parse().ok()),
        service: own("service.name").unwrap_or_default().to_owned(),
        name: own("name").unwrap_or_default().to_owned(),
        kind: match own("kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            _ => SpanKind::Other,
        },
        start: humantime::parse_rfc3339(own("_time")?).ok()?,
        duration: row.get("duration").and_then(duration).unwrap_or_default(),
        is_error: own("error") == Some("true")
            || own("status.code").is_some_and(|code| code.eq_ignore_ascii_case("error")),
        message: own("status.message").map(str::to_owned),
        resource,
        tags,
    })
}

/// A timespan: nanoseconds, or as text `1m2.5s`.
fn duration(value: &Value) -> Option<Duration> {
    if let Some(nanos) = number(value) {
        return Duration::try_from_secs_f64(nanos / 1e9).ok();
    }
    let mut seconds = 0.0;
    let mut rest = value.as_str()?;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        let one = match unit.trim() {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += amount.parse::<f64>().ok()? * one;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::quote::tests::{any_name, read};
    use proptest::prelude::*;

    #[test]
    fn a_timespan_is_nanoseconds_or_text() {
        let of = |value: Value| duration(&value).map(|d| d.as_micros());
        assert_eq!(of(json!(1_500_000)), Some(1_500));
        assert_eq!(of(json!("1500000")), Some(1_500));
        assert_eq!(of(json!("1.5ms")), Some(1_500));
        assert_eq!(of(json!("1m2.5s")), Some(62_500_000));
        assert_eq!(of(json!("soon")), None);
    }

    proptest! {
        #[test]
        fn no_name_changes_the_query(dataset in any_name(), name in any_name()) {
            let service = ServiceName { name: name.clone(), attributes: Default::default() };
            let query = apl(&dataset, &of_service(&service));
            let (first, rest) = read(query.strip_prefix('[').unwrap());
            let rest = rest.strip_prefix("] | where ['service.name'] == ").unwrap();
            let (second, end) = read(rest);
            prop_assert_eq!((first, second), (dataset, name));
            prop_assert_eq!(end, " | sort by _time asc | limit 10000");
        }
    }
}
