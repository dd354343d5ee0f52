//! A JSON-RPC call as it stands in a request, and the span that it leaves.

use std::collections::HashMap;

use http::{HeaderMap, response};
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};
use serde_json::{Value, json};

const SESSION_HEADER: &str = "mcp-session-id";
const INTERNAL_ERROR: i64 = -32603;

/// A request or notification of the client.
pub(crate) struct Call {
    pub(crate) method: String,
    tool: Option<String>,
    /// `null` for a notification.
    id: Value,
    session: Option<String>,
    /// The caller's `traceparent` and `tracestate`.
    trace_context: HashMap<String, String>,
}

impl Call {
    /// `None` when the body is no call: a GET, a DELETE, an answer of the client's, or no JSON.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let message: Value = serde_json::from_slice(body).ok()?;
        let method = message["method"].as_str()?.to_owned();
        let params = &message["params"];
        let tool = params["name"].as_str().filter(|_| method == "tools/call");
        Some(Self {
            tool: tool.map(str::to_owned),
            id: message["id"].clone(),
            session: header(headers, SESSION_HEADER),
            trace_context: trace_context(headers, &params["_meta"]),
            method,
        })
    }

    pub(crate) fn start_span(&self, tracer: &SdkTracer) -> Span {
        let parent = TraceContextPropagator::new().extract(&self.trace_context);
        let name = match &self.tool {
            Some(tool) => format!("{} {tool}", self.method),
            None => self.method.clone(),
        };
        let mut attributes = vec![KeyValue::new("mcp.method.name", self.method.clone())];
        let id = match &self.id {
            Value::Null => None,
            Value::String(id) => Some(id.clone()),
            id => Some(id.to_string()),
        };
        attributes.extend(id.map(|id| KeyValue::new("jsonrpc.request.id", id)));
        attributes.extend(
            self.session
                .clone()
                .map(|id| KeyValue::new("mcp.session.id", id)),
        );
        attributes.extend(
            self.tool
                .clone()
                .map(|tool| KeyValue::new("gen_ai.tool.name", tool)),
        );
        tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, &parent)
    }

    /// A JSON-RPC error that answers this call.
    pub(crate) fn error(&self, message: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.id, "error": { "code": INTERNAL_ERROR, "message": message } })
    }
}

/// The context in `_meta` is the MCP client's own span and goes before that in the HTTP headers,
/// which may be of a proxy on the way.
fn trace_context(headers: &HeaderMap, meta: &Value) -> HashMap<String, String> {
    let in_meta = meta["traceparent"].is_string();
    ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| {
            let value = match in_meta {
                true => meta[name].as_str().map(str::to_owned),
                false => header(headers, name),
            };
            Some((name.to_owned(), value?))
        })
        .collect()
}

/// Writes into the span what the answer says: its session, and whether and how it failed.
pub(crate) fn record_answer(span: &mut Span, head: &response::Parts, body: &[u8]) {
    if let Some(session) = header(&head.headers, SESSION_HEADER) {
        span.set_attribute(KeyValue::new("mcp.session.id", session));
    }
    span.set_attribute(KeyValue::new(
        "http.response.status_code",
        i64::from(head.status.as_u16()),
    ));
    let message = json_rpc_answer(head, body);
    if let Some(code) = message["error"]["code"].as_i64() {
        let text = message["error"]["message"].as_str().unwrap_or_default();
        span.set_attribute(KeyValue::new("rpc.response.status_code", code.to_string()));
        fail(span, code.to_string(), text.to_owned());
    } else if message["result"]["isError"] == true {
        fail(span, "tool_error".to_owned(), String::new());
    } else if head.status.as_u16() >= 400 {
        fail(
            span,
            head.status.as_str().to_owned(),
            String::from_utf8_lossy(body).into_owned(),
        );
    }
}

fn fail(span: &mut Span, error_type: String, description: String) {
    span.set_attribute(KeyValue::new("error.type", error_type));
    span.set_status(Status::error(description));
}

/// The response in a body of either form; `null` when there is none.
fn json_rpc_answer(head: &response::Parts, body: &[u8]) -> Value {
    let content_type = header(&head.headers, "content-type").unwrap_or_default();
    if !content_type.starts_with("text/event-stream") {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    // One line of data per message is how the SDK writes them; notifications may come before.
    String::from_utf8_lossy(body)
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok())
        .find(|message: &Value| message.get("result").is_some() || message.get("error").is_some())
        .unwrap_or_default()
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
