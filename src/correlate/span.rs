//! A backend's span, read: whose it is, and what it says of the server.

use std::collections::HashMap;

use super::backend::BackendSpan;
use crate::model::{
    ClockSkew, Fellows, OWN_SCOPE, ServerSpan, ServiceName, SpanId, SpanKind, Text, TraceId,
};

pub(super) fn is_own(span: &BackendSpan) -> bool {
    let scope = span
        .tag("otel.scope.name")
        .or_else(|| span.tag("otel.library.name"));
    match scope {
        Some(scope) => scope == OWN_SCOPE,
        None => is_written_as_ours(span),
    }
}

/// Where the backend has dropped the scope: our names with attributes that nobody else writes with them. Only our
/// phases (`dns`, ...) carry none; they are nobody's then, for they take no requests.
fn is_written_as_ours(span: &BackendSpan) -> bool {
    match span.name.as_str() {
        "mcp.session" => span.tag("mcpprobe.state").is_some(),
        "mcp.transport" => span.tag("mcpprobe.layer").is_some(),
        // A server may call its own spans so, but does not say that it is a test that asks.
        name => {
            span.kind != SpanKind::Server
                && span.tag("user_agent.synthetic.type") == Some("test")
                && span.tag("mcp.operation").is_some()
                && span.tag("mcp.operation") == name.strip_prefix("mcp.")
        }
    }
}

pub(super) fn has_mcp_attributes(span: &BackendSpan) -> bool {
    let is_of_mcp = |key: &String| {
        key.starts_with("mcp.") || key == "gen_ai.tool.name" || key == "heimdall.span_kind"
    };
    span.tags.keys().any(is_of_mcp)
        || span.tag("openinference.span.kind") == Some("TOOL")
        || span.tag("gen_ai.operation.name") == Some("execute_tool")
}

pub(super) fn is_foreign_mcp(span: &BackendSpan) -> bool {
    !is_own(span) && has_mcp_attributes(span)
}

pub(super) fn server_span(
    span: &BackendSpan,
    all: &HashMap<(TraceId, SpanId), BackendSpan>,
    service: Option<&ServiceName>,
    skew: ClockSkew,
) -> ServerSpan {
    let text = |keys: &[&str]| keys.iter().find_map(|key| span.tag(key)).map(Text::new);
    let http_status = ["http.response.status_code", "http.status_code"]
        .iter()
        .find_map(|key| span.tag(key)?.parse().ok());
    let error_type = text(&["error.type", "rpc.response.status_code", "mcp.error_code"]);
    ServerSpan {
        trace_id: span.trace_id,
        span_id: span.span_id,
        ancestors: ancestors(span, all),
        service: Text::new(&span.service),
        resource_matches: service.is_none_or(|service| span.resource_matches(service)),
        name: Text::new(&span.name),
        kind: span.kind,
        has_mcp_attributes: has_mcp_attributes(span),
        is_health_check: is_health_check(span),
        start: match service {
            Some(service) if span.service == service.name => skew.ours(span.start),
            _ => span.start,
        },
        duration: span.duration,
        is_error: span.is_error,
        is_callers_fault: is_callers_fault(span, http_status),
        http_status,
        error_type,
        message: span
            .message
            .as_deref()
            .filter(|message| !message.is_empty())
            .or_else(|| span.tag("exception.message"))
            .map(Text::new),
        fellows: Fellows::default(),
    }
}

/// Nearest first. A span whose parent the backend does not have still names it.
fn ancestors(span: &BackendSpan, all: &HashMap<(TraceId, SpanId), BackendSpan>) -> Vec<SpanId> {
    let mut chain = Vec::new();
    let mut next = span.parent;
    while let Some(parent) = next {
        // A cycle can only come from a broken exporter.
        if chain.contains(&parent) {
            break;
        }
        chain.push(parent);
        next = all
            .get(&(span.trace_id, parent))
            .and_then(|span| span.parent);
    }
    chain
}

/// JSON-RPC -32600 to -32602, HTTP 4xx, and a tool that says that it was called wrongly.
fn is_callers_fault(span: &BackendSpan, http_status: Option<u16>) -> bool {
    let code = [
        "rpc.response.status_code",
        "mcp.error_code",
        "rpc.jsonrpc.error_code",
        "error.type",
    ]
    .iter()
    .find_map(|key| span.tag(key)?.parse::<i64>().ok());
    let by_code =
        code.is_some_and(|code| (-32602..=-32600).contains(&code) || (400..=499).contains(&code));
    let by_status = http_status.is_some_and(|status| (400..=499).contains(&status));
    by_code || by_status || span.tag("error.type") == Some("tool_error")
}

/// Health checks go on as long as the process lives and say nothing about MCP. A span that names a method of
/// MCP is none, whatever its path.
pub(super) fn is_health_check(span: &BackendSpan) -> bool {
    const WORDS: [&str; 16] = [
        "health",
        "healthz",
        "healthcheck",
        "health-check",
        "health_check",
        "heartbeat",
        "live",
        "livez",
        "liveness",
        "ready",
        "readyz",
        "readiness",
        "metrics",
        "ping",
        "status",
        "up",
    ];
    const AGENTS: [&str; 3] = ["kube-probe", "ELB-HealthChecker", "GoogleHC"];
    if let Some(method) = span.tag("mcp.method.name") {
        return method == "ping";
    }
    let agent = ["user_agent.original", "http.user_agent"]
        .iter()
        .find_map(|key| span.tag(key));
    let by_agent = agent.is_some_and(|agent| AGENTS.iter().any(|known| agent.starts_with(known)));
    let path = ["url.path", "http.target", "http.route"]
        .iter()
        .find_map(|key| span.tag(key))
        .or_else(|| span.name.split_whitespace().last());
    let path = path
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default();
    let last = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .map(|(_, last)| last);
    let by_path = last.is_some_and(|last| WORDS.contains(&last));
    by_agent || by_path || span.name.starts_with("grpc.health")
}
