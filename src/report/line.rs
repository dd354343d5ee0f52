//! One line per event of `watch`: text for people, JSON for machines.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::colour::painted;
use super::{json::harmless, rfc3339, table};
use crate::model::{Judgement, ProbeResult, State, Target, escaped};

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// For people.
    Text {
        /// States may be coloured in events; those go to stdout, all else to stderr.
        colour: bool,
    },
    /// One JSON object per line.
    Json,
}

/// A target's state has changed, or is what it was `before` by the first result of a run.
pub fn change(format: LineFormat, target: &Target, before: State, result: &ProbeResult) -> String {
    let failure = result.failure.as_ref();
    let at = rfc3339(result.started_at);
    let LineFormat::Text { colour } = format else {
        let before = (before != result.state).then_some(before);
        return line(json!({
            "time": at,
            "event": before.map_or("state", |_| "state_changed"),
            "name": target.name,
            "before": before,
            "state": result.state,
            "failed_layer": failure.map(|f| f.layer),
            "reason": result.reason(),
            "message": result.message(),
            "trace_id": result.trace_id.to_string(),
        }));
    };
    let layer = failure
        .map(|failure| format!("{}: ", failure.layer.as_str()))
        .unwrap_or_default();
    let detail = match (result.reason(), result.message()) {
        (Some(reason), Some(message)) => format!("{layer}{reason}: {message}"),
        _ => {
            let tools = result
                .tools
                .map(|tools| format!(", {tools} tools"))
                .unwrap_or_default();
            format!("{}{tools}", table::short(result.duration))
        }
    };
    let state = format!("{:<13}", result.state.as_str());
    let state = painted(&state, result.state, colour);
    format!(
        "{at}  {:<16}  {state}  {detail}  trace {}",
        escaped(&target.name),
        result.trace_id
    )
}

/// A verdict on a target's incident.
pub fn verdict(
    format: LineFormat,
    target: &str,
    incident: &str,
    judgement: &Judgement,
    provisional: bool,
    at: SystemTime,
) -> String {
    let at = rfc3339(at);
    if format == LineFormat::Json {
        return line(json!({
            "time": at,
            "event": "verdict",
            "name": target,
            "incident": incident,
            "verdict": judgement.verdict,
            "provisional": provisional,
            "reason": judgement.reason,
        }));
    }
    let mark = if provisional { " (provisional)" } else { "" };
    format!(
        "{at}  {:<16}  verdict        {}{mark}: {}",
        escaped(target),
        judgement.verdict,
        judgement.reason
    )
}

/// Something about mcpprobe itself.
pub fn message(format: LineFormat, at: SystemTime, level: &str, text: &str) -> String {
    let at = rfc3339(at);
    match format {
        LineFormat::Json => line(json!({ "time": at, "event": level, "message": text })),
        LineFormat::Text { .. } => format!("{at}  {level}: {}", escaped(text)),
    }
}

fn line(object: Value) -> String {
    harmless(object.to_string())
}
