//! SigNoz's query range, version 5: rows of spans, with the fields that are selected.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::asking::Asking;
use super::backend::{
    Answer, Api, BackendSpan, Unavailable, kind_of, outer_millis, ui, unreadable, with_margin,
};
use super::document::Document;
use super::http::{Http, Reply};
use crate::model::{RemoteSettings, ServiceName, Text, TraceId, Window};

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows of one answer: as many as it gives at most.
const MOST: usize = 10_000;

/// Columns of a span, which are no attributes.
const COLUMNS: [&str; 7] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "kind_string",
    "duration_nano",
    "status_message",
];

/// What the judge reads from a span's attributes.
const ATTRIBUTES: [&str; 26] = [
    "mcp.method.name",
    "mcp.session.id",
    "mcp.session_id",
    "mcp.operation",
    "mcp.tool.name",
    "mcp.tool_name",
    "mcp.type",
    "mcp.error_code",
    "mcpprobe.state",
    "mcpprobe.layer",
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
    "exception.message",
];

/// Resource attributes that tell two deployments of one service apart. Another one is never equal, which makes no verdict.
const RESOURCE: [&str; 6] = [
    "deployment.environment.name",
    "deployment.environment",
    "service.namespace",
    "service.version",
    "k8s.cluster.name",
    "k8s.namespace.name",
];

/// A SigNoz server.
pub(super) struct SigNoz {
    http: Http,
    ui: Option<String>,
}

impl SigNoz {
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            ui: settings.option("ui").map(str::to_owned),
        })
    }

    async fn spans(
        &self,
        expression: &str,
        window: Window,
        limit: usize,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let url = self.http.url("api/v5/query_range")?;
        let body = query(expression, window, limit);
        let reply = self.http.post_json(url, &body, expression, asking).await?;
        let rows = read(&reply)?;
        let spans: Result<Vec<_>, _> = rows.iter().map(span).collect();
        let spans = spans?;
        Ok(Answer {
            cut: (spans.len() >= MOST).then(|| Text::new(format!("{MOST} spans"))),
            spans,
            ..Answer::default()
        })
    }
}

fn query(expression: &str, window: Window, limit: usize) -> Value {
    let field = |name: &str, context: &str| json!({"name": name, "fieldContext": context});
    let mut fields: Vec<_> = COLUMNS.iter().map(|name| field(name, "span")).collect();
    fields.push(field("has_error", "span"));
    fields.push(field("scope.name", "scope"));
    fields.push(field("service.name", "resource"));
    fields.extend(ATTRIBUTES.iter().map(|name| field(name, "attribute")));
    fields.extend(RESOURCE.iter().map(|name| field(name, "resource")));
    let (start, end) = outer_millis(window);
    let (start, end) = (millis(start), millis(end));
    json!({
        "schemaVersion": "v1",
        "start": start,
        "end": end,
        "requestType": "raw",
        "compositeQuery": {"queries": [{"type": "builder_query", "spec": {
            "name": "A",
            "signal": "traces",
            "filter": {"expression": expression},
            "selectFields": fields,
            "order": [{"key": {"name": "timestamp"}, "direction": "desc"}],
            "limit": limit,
            "offset": 0,
        }}]},
    })
}

fn millis(millis: u128) -> u64 {
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// A string of a filter.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[derive(Deserialize)]
struct Page {
    status: String,
    data: PageData,
}

#[derive(Deserialize)]
struct PageData {
    data: Results,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<QueryResult>,
}

#[derive(Deserialize)]
struct QueryResult {
    /// Null where there is none.
    rows: Option<Vec<Row>>,
}

#[derive(Deserialize)]
struct Row {
    timestamp: Value,
    data: Value,
}

fn read(reply: &Reply) -> Result<Vec<Row>, Unavailable> {
    if !reply.status.is_success() {
        return Err(refusal(reply));
    }
    let page: Page = reply.json()?;
    if page.status != "success" {
        return Err(unreadable("it does not call it a success"));
    }
    let [result] = <[_; 1]>::try_from(page.data.data.results)
        .map_err(|_| unreadable("another number of results than one"))?;
    Ok(result.rows.unwrap_or_default())
}

fn refusal(reply: &Reply) -> Unavailable {
    #[derive(Deserialize)]
    struct Refused {
        error: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice::<Refused>(&reply.body) {
        Ok(refused) => reply.refusal(&refused.error.message),
        Err(_) => reply.plain_refusal(),
    }
}

#[async_trait]
impl Api for SigNoz {
    async fn traces(
        &self,
        ids: &[TraceId],
        around: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        if ids.is_empty() {
            return Ok(Answer::default());
        }
        let ids: Vec<_> = ids.iter().map(|id| quoted(&id.to_string())).collect();
        let expression = format!("trace_id IN ({})", ids.join(", "));
        self.spans(&expression, with_margin(around), MOST, asking)
            .await
    }

    async fn search(
        &self,
        service: &ServiceName,
        window: Window,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let expression = format!("service.name = {}", quoted(&service.name));
        let answer = self.spans(&expression, window, MOST, asking).await?;
        Ok(answer.within(&service.name, window))
    }

    async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let to = SystemTime::now();
        let from = to - Duration::from_secs(60);
        let window = Window { from, to };
        self.spans("has_error = true", window, 1, asking)
            .await
            .map(drop)
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        ui(&self.http, self.ui.as_deref(), &format!("trace/{id}"))
    }
}

fn span(row: &Row) -> Result<BackendSpan, Unavailable> {
    let fields = Document::of(&row.data);
    let start = Document::of(&json!({"timestamp": row.timestamp})).time(&["timestamp"]);
    let id = |key: &str| fields.any(&[key]);
    let (Some(trace_id), Some(span_id), Some(start)) = (
        id("trace_id").and_then(|id| id.parse().ok()),
        id("span_id").and_then(|id| id.parse().ok()),
        start,
    ) else {
        return Err(unreadable("a row without ids or a time"));
    };
    let (Some(kind), Some(has_error)) = (id("kind_string"), id("has_error")) else {
        return Err(unreadable("a row without the kind and status asked for"));
    };
    let mut tags: HashMap<_, _> = ATTRIBUTES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), id(name)?.to_owned())))
        .collect();
    if let Some(scope) = fields.any(&["scope.name", "scope_name"]) {
        tags.insert("otel.scope.name".to_owned(), scope.to_owned());
    }
    Ok(BackendSpan {
        trace_id,
        span_id,
        parent: id("parent_span_id").and_then(|id| id.parse().ok()),
        service: id("service.name").unwrap_or_default().to_owned(),
        name: id("name").unwrap_or_default().to_owned(),
        kind: kind_of(kind),
        start,
        duration: Duration::from_nanos(fields.number(&["duration_nano"]).unwrap_or_default()),
        is_error: has_error == "true",
        message: fields.any(&["status_message"]).map(str::to_owned),
        tags,
        resource: RESOURCE
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), id(name)?.to_owned())))
            .collect(),
    })
}
