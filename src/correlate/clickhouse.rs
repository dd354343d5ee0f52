//! ClickHouse with the table of the collector's exporter (`otel_traces`). Values go as bound parameters; what a user names
//! as database and table is quoted.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::asking::Asking;
use super::backend::{
    Answer, Api, BackendSpan, Unavailable, kind_of, nanos, unreadable, with_margin,
};
use super::http::{Http, Reply};
use super::otlp::whole;
use crate::model::{RemoteSettings, ServiceName, Text, TraceId, Window};

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows of one answer: of ordinary spans some 40 MB.
const MOST: usize = 20_000;

/// The exporter's table.
const USUAL_TABLE: &str = "otel_traces";

/// A ClickHouse server, over HTTP.
pub(super) struct ClickHouse {
    http: Http,
    table: String,
    ui: Option<String>,
}

impl ClickHouse {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        let table = quoted(settings.option("table").unwrap_or(USUAL_TABLE));
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            table: match settings.option("database") {
                Some(database) => format!("{}.{table}", quoted(database)),
                None => table,
            },
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn spans(
        &self,
        condition: &str,
        window: Window,
        parameters: &[(&str, String)],
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let mut url = self.http.url("")?;
        url.query_pairs_mut()
            .extend_pairs(parameters.iter())
            .append_pair("param_from", &nanos(window.from).to_string())
            .append_pair("param_to", &nanos(window.to).to_string())
            // Else an error in the middle would come after a 200.
            .append_pair("wait_end_of_query", "1");
        let query = format!(
            "SELECT TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, ResourceAttributes, ScopeName, \
             SpanAttributes, toUnixTimestamp64Nano(Timestamp) AS Start, Duration, StatusCode, StatusMessage \
             FROM {} WHERE {condition} \
             AND Timestamp >= fromUnixTimestamp64Nano({{from:Int64}}) \
             AND Timestamp < fromUnixTimestamp64Nano({{to:Int64}}) \
             LIMIT {} FORMAT JSON",
            self.table,
            // One more, by which a cut is told.
            MOST + 1
        );
        let reply = self.http.post_text(url, query, asking).await?;
        let rows: Vec<Row> = read(&reply)?;
        let cut = (rows.len() > MOST).then(|| Text::new(format!("{MOST} spans")));
        let spans: Result<_, _> = rows.into_iter().map(Row::read).collect();
        Ok(Answer {
            spans: spans?,
            cut,
            ..Answer::default()
        })
    }
}

/// An identifier in backticks.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A whole document: what breaks off does not parse, and says how many rows it has.
fn read<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<Vec<T>, Unavailable> {
    #[derive(Deserialize)]
    struct Page<T> {
        data: Vec<T>,
        rows: usize,
        exception: Option<String>,
    }
    let is_error = reply.headers.contains_key("x-clickhouse-exception-code");
    if !reply.status.is_success() || is_error {
        return Err(reply.plain_refusal());
    }
    let page: Page<T> = reply.json()?;
    if let Some(exception) = page.exception {
        return Err(Text::new(format!("a part of an answer: {exception}")));
    }
    if page.rows != page.data.len() {
        return Err(unreadable("another number of rows than it says"));
    }
    Ok(page.data)
}

#[async_trait]
impl Api for ClickHouse {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
        let ids = ("param_ids", format!("[{}]", ids.join(",")));
        let condition = "TraceId IN {ids:Array(String)}";
        self.spans(condition, with_margin(around), &[ids], asking)
            .await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let name = ("param_service", escaped(&service.name));
        let condition = "ServiceName = {service:String}";
        self.spans(condition, window, &[name], asking).await
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let url = self.http.url("")?;
        let query = format!("SELECT 1 FROM {} LIMIT 1 FORMAT JSON", self.table);
        read::<Value>(&self.http.post_text(url, query, asking).await?).map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        // ClickHouse has no pages for traces: `ui` is that of who has, with a place for the id.
        let ui = self.ui.as_deref()?;
        ui.contains("{trace_id}")
            .then(|| ui.replace("{trace_id}", &id.to_string()))
    }
}

/// A parameter is read like a field of a tab-separated file.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    span_name: String,
    span_kind: String,
    service_name: String,
    resource_attributes: HashMap<String, String>,
    scope_name: String,
    span_attributes: HashMap<String, String>,
    /// A number or its digits, by a setting.
    start: Value,
    duration: Value,
    status_code: String,
    status_message: String,
}

impl Row {
    fn read(self) -> Result<BackendSpan, Unavailable> {
        let (Ok(trace_id), Ok(span_id), Some(start)) = (
            self.trace_id.parse(),
            self.span_id.parse(),
            whole(&self.start),
        ) else {
            return Err(unreadable("a row without ids or a time"));
        };
        let mut tags = self.span_attributes;
        if !self.scope_name.is_empty() {
            tags.insert("otel.scope.name".to_owned(), self.scope_name);
        }
        Ok(BackendSpan {
            trace_id,
            span_id,
            parent: self.parent_span_id.parse().ok(),
            service: self.service_name,
            name: self.span_name,
            kind: kind_of(&self.span_kind),
            start: UNIX_EPOCH + Duration::from_nanos(start),
            duration: Duration::from_nanos(whole(&self.duration).unwrap_or_default()),
            is_error: matches!(self.status_code.as_str(), "Error" | "STATUS_CODE_ERROR"),
            message: Some(self.status_message).filter(|message| !message.is_empty()),
            tags,
            resource: self.resource_attributes,
        })
    }
}
