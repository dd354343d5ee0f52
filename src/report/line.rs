//! One line per event of `watch`: text for people, JSON for machines.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::colour::painted;
use super::{json::harmless, rfc3339, table};
use crate::model::{Incident, Judgement, ProbeResult, State, Target, TimelineEntry, escaped};

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
    let before = (before != result.state).then_some(before);
    let event = before.map_or("state", |_| "state_changed");
    probe(format, target, event, Word::State(before), result)
}

/// A probe has failed, and others will tell whether that counts.
pub fn suspicion(format: LineFormat, target: &Target, result: &ProbeResult) -> String {
    probe(format, target, "suspected", Word::Plain("suspect"), result)
}

/// The probe after a failed one has passed: that failure does not count.
pub fn refuted(format: LineFormat, target: &Target, result: &ProbeResult) -> String {
    probe(format, target, "refuted", Word::Plain("refuted"), result)
}

/// What stands where a state does.
enum Word {
    /// The result's state, and the one before, where that was another.
    State(Option<State>),
    Plain(&'static str),
}

fn probe(
    format: LineFormat,
    target: &Target,
    event: &str,
    word: Word,
    result: &ProbeResult,
) -> String {
    let failure = result.failure.as_ref();
    let at = rfc3339(result.started_at);
    let LineFormat::Text { colour } = format else {
        let before = match word {
            Word::State(before) => before,
            Word::Plain(_) => None,
        };
        return line(json!({
            "time": at,
            "event": event,
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
    let word = match word {
        Word::State(_) => painted(
            &format!("{:<13}", result.state.as_str()),
            result.state,
            colour,
        ),
        Word::Plain(word) => format!("{word:<13}"),
    };
    format!(
        "{at}  {:<16}  {word}  {detail}  trace {}",
        escaped(&target.name),
        result.trace_id
    )
}

/// Something that happened to an incident.
pub fn incident(format: LineFormat, incident: &Incident, entry: &TimelineEntry) -> String {
    let at = rfc3339(entry.at);
    if format == LineFormat::Json {
        return line(json!({
            "time": at,
            "event": format!("incident_{}", entry.what),
            "name": incident.server,
            "incident": incident.id,
            "kind": incident.kind,
            "severity": incident.severity,
            "state": incident.state,
            "first_failed_at": rfc3339(incident.first_failed_at),
            "message": entry.text,
        }));
    }
    format!(
        "{at}  {:<16}  incident       {} {} {} ({}): {}",
        escaped(incident.server.as_deref().unwrap_or("mcpprobe")),
        incident.id,
        incident.kind,
        entry.what,
        incident.severity,
        entry.text
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
