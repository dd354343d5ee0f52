//! A verdict and what it rests on: for a person who was woken, and for a program.

use serde::Serialize;
use serde_json::{Value, json};

use super::json::SCHEMA;
use super::{rfc3339, shown_time};
use crate::model::{Asked, BackendKind, Control, Judgement, Query, ServerSpan, escaped_lines};

/// Queries that a table shows: the rest asks the same of other probes, and stands in the JSON.
const QUERIES_SHOWN: usize = 8;

/// The document of `correlate --format json`.
pub fn json(asked: &Asked, judgement: &Judgement) -> Value {
    let mut document = json!({ "schema": SCHEMA });
    if let (Some(to), Value::Object(told)) = (document.as_object_mut(), told(asked, judgement)) {
        to.extend(told);
    }
    document
}

/// The same without a version, for where it is a part of another document.
pub(super) fn told(asked: &Asked, judgement: &Judgement) -> Value {
    let evidence = &asked.evidence;
    let queries = asked.queries.iter();
    json!({
        "server": asked.target,
        "incident": asked.incident,
        "at": rfc3339(asked.at),
        "verdict": judgement.verdict,
        "provisional": asked.provisional,
        "reason": judgement.reason,
        "window": { "from": rfc3339(evidence.baseline.from), "to": rfc3339(evidence.gap.to) },
        "backend": asked.backend.kind,
        "counts": {
            "service_spans": judgement.service_spans,
            "error_spans": judgement.error_spans,
            "probe_trace_spans": judgement.probe_trace_spans,
        },
        "controls": judgement.controls,
        "queries": queries.clone().map(|query| &query.text).collect::<Vec<_>>(),
        "spans": judgement.telling.iter().map(Span::of).collect::<Vec<_>>(),
        // Beyond the contract.
        "plain": judgement.verdict.in_plain_words(),
        "rule": judgement.rule,
        "rule_number": judgement.rule.number(),
        "asked_at": rfc3339(asked.asked_at),
        "asked": asked.backend,
        "queried_at": queries.map(|query| rfc3339(query.at)).collect::<Vec<_>>(),
        "links": asked.links,
    })
}

#[derive(Serialize)]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    service: &'a str,
    name: &'a str,
    status: &'static str,
    error_type: Option<&'a str>,
    message: Option<&'a str>,
    start: String,
}

impl<'a> Span<'a> {
    fn of(span: &'a ServerSpan) -> Self {
        Self {
            trace_id: span.trace_id.to_string(),
            span_id: span.span_id.to_string(),
            service: span.service.as_str(),
            name: span.name.as_str(),
            status: if span.is_error { "error" } else { "ok" },
            error_type: span.error_type.as_ref().map(|t| t.as_str()),
            message: span.message.as_ref().map(|t| t.as_str()),
            start: rfc3339(span.start),
        }
    }
}

/// The text of `correlate`.
pub fn text(asked: &Asked, judgement: &Judgement) -> String {
    let mark = if asked.provisional {
        " (provisional)"
    } else {
        ""
    };
    let mut text = format!("{}{mark}: {}\n", judgement.verdict, judgement.reason);
    text.push_str(judgement.verdict.in_plain_words());
    text.push_str("\n\n");
    text.push_str(&grounds(asked, judgement));
    text.push_str(&queries(&asked.queries));
    escaped_lines(&text).into_owned()
}

/// What a verdict rests on.
pub(super) fn grounds(asked: &Asked, judgement: &Judgement) -> String {
    let (from, to) = (asked.evidence.baseline.from, asked.evidence.gap.to);
    let mut text = format!(
        "rule {} ({}), by what {} said {}\n",
        judgement.rule.number(),
        judgement.rule.as_str(),
        who(asked),
        shown_time(asked.asked_at),
    );
    text.push_str(&format!(
        "asked about {} to {}: {} spans of the server, {} of them errors, {} in our failed probes' traces\n\n",
        rfc3339(from),
        rfc3339(to),
        judgement.service_spans,
        judgement.error_spans,
        judgement.probe_trace_spans
    ));
    for control in &judgement.controls {
        text.push_str(&control_line(control));
    }
    if !judgement.telling.is_empty() {
        text.push('\n');
    }
    for span in &judgement.telling {
        text.push_str(&span_line(span));
    }
    let pages = asked.links.iter().map(ToString::to_string);
    let seen: Vec<_> = pages.chain(command(asked, judgement)).collect();
    for place in &seen {
        text.push_str(&format!("\n  see {place}"));
    }
    if !seen.is_empty() {
        text.push('\n');
    }
    text
}

/// What draws the trace that tells most, where there is no page for it.
fn command(asked: &Asked, judgement: &Judgement) -> Option<String> {
    let is_ours = asked.backend.kind == BackendKind::Embedded.as_str();
    let telling = judgement.telling.first().map(|span| span.trace_id);
    let failed = || asked.evidence.failed.first().map(|probe| probe.trace_id);
    let id = telling.or_else(failed).filter(|_| is_ours)?;
    Some(format!("mcpprobe trace {id}"))
}

fn who(asked: &Asked) -> String {
    let backend = &asked.backend;
    let mut who = backend.name.clone();
    if backend.name != backend.kind {
        who.push_str(&format!(", which is {},", backend.kind));
    }
    if let Some(url) = &backend.url {
        who.push_str(&format!(" at {url}"));
    }
    who
}

fn control_line(control: &Control) -> String {
    let held = if control.held { "holds   " } else { "does not" };
    format!(
        "  {held}  {:<22}  {}: {}\n",
        control.control,
        control.in_words(),
        control.detail
    )
}

fn span_line(span: &ServerSpan) -> String {
    let status = if span.is_error { "error" } else { "ok" };
    let said = [&span.error_type, &span.message].into_iter().flatten();
    let said: String = said.map(|part| format!(", {part}")).collect();
    format!(
        "  {} {} {} {status}{said} (trace {})\n",
        rfc3339(span.start),
        span.service,
        span.name,
        span.trace_id
    )
}

fn queries(queries: &[Query]) -> String {
    let mut text = String::new();
    for query in queries.iter().take(QUERIES_SHOWN) {
        text.push_str(&format!("\n  {}  {}", rfc3339(query.at), query.text));
    }
    let more = queries.len().saturating_sub(QUERIES_SHOWN);
    if more > 0 {
        text.push_str(&format!("\n  and {more} more queries"));
    }
    if !queries.is_empty() {
        text.push('\n');
    }
    text
}
