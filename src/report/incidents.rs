//! Incidents: a list, or one with everything that is known of it.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::json::SCHEMA;
use super::table::{Look, dash, draw};
use super::{as_bad_as, rfc3339, shown_time, verdict};
use crate::model::{
    Asked, CommonCause, Incident, Judgement, State, Text, TimelineEntry, escaped, escaped_lines,
    spoken,
};
use crate::store::{IncidentDetail, StoredNotice};

/// What a backend was asked, and what that means.
pub type Told<'a> = (&'a Asked, &'a Judgement);

/// The table of `incidents`.
pub fn table(
    incidents: &[Incident],
    causes: &[CommonCause],
    now: SystemTime,
    look: Look,
) -> String {
    if incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    let head = [
        "ID", "STATE", "SERVER", "SEVERITY", "KIND", "SINCE", "LASTED", "LAYER", "WHY",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(incidents.iter().map(|incident| row(incident, now)));
    let states: Vec<_> = incidents.iter().map(colour).collect();
    format!("{}\n{}", draw(rows, &states, look), causes_text(causes))
}

/// Incidents that are one, a line for each group.
pub fn causes_text(causes: &[CommonCause]) -> String {
    let line = |cause: &CommonCause| format!("\none cause: {}\n", escaped(&cause.says_of_whom()));
    causes.iter().map(line).collect()
}

pub(super) fn causes_json(causes: &[CommonCause]) -> Vec<Value> {
    causes.iter().map(cause_json).collect()
}

/// One of them.
pub fn cause_json(cause: &CommonCause) -> Value {
    json!({
        "text": Text::new(cause.says()),
        "incidents": cause.incidents,
        "servers": cause.servers,
        "host": cause.host,
        "failed_layer": cause.layer,
        "reason": cause.reason,
        "verdict": cause.verdict,
        "since": rfc3339(cause.since),
    })
}

fn row(incident: &Incident, now: SystemTime) -> [String; 9] {
    let end = incident.resolved_at.unwrap_or(now);
    let lasted = end
        .duration_since(incident.first_failed_at)
        .unwrap_or_default();
    [
        incident.id.clone(),
        standing(incident),
        incident.server.clone().unwrap_or_else(dash),
        incident.severity.to_string(),
        incident.kind.to_string(),
        shown_time(incident.first_failed_at),
        spoken(lasted),
        incident
            .failed_layer
            .map_or_else(dash, |layer| layer.as_str().to_owned()),
        format!("{}{}", why(incident), marks(incident)),
    ]
}

/// What has ended is history.
fn colour(incident: &Incident) -> State {
    match incident.resolved_at {
        Some(_) => State::Unknown,
        None => as_bad_as(incident.severity),
    }
}

fn standing(incident: &Incident) -> String {
    match (incident.resolution, incident.resolved_at) {
        (Some(resolution), _) => resolution.to_string(),
        (None, Some(_)) => "resolved".to_owned(),
        (None, None) => "open".to_owned(),
    }
}

pub(super) fn why(incident: &Incident) -> String {
    match incident.reason {
        Some(reason) => format!("{reason}: {}", incident.message),
        None => incident.message.to_string(),
    }
}

/// What else has to be known to understand why somebody was told, or was not.
pub(super) fn marks(incident: &Incident) -> String {
    let mut marks = Vec::new();
    if incident.flapping {
        marks.push("flapping".to_owned());
    }
    if let Some(acknowledged) = &incident.acknowledged {
        marks.push(format!("acknowledged by {}", acknowledged.by));
    }
    if let Some(why) = &incident.suppressed {
        marks.push(why.to_string());
    }
    marks.iter().map(|mark| format!(" [{mark}]")).collect()
}

/// One incident, and what the trace backend was last known to say of it. `file` is the configuration, for the commands
/// that go on from here.
pub fn one(
    detail: &IncidentDetail,
    verdict: Option<Told<'_>>,
    file: &str,
    now: SystemTime,
) -> String {
    let incident = &detail.incident;
    let mut text = String::new();
    for (name, value) in facts(incident, now) {
        text.push_str(&format!("{name:<14}{value}\n"));
    }
    if let Some((asked, judgement)) = verdict {
        text.push_str("\nverdict\n");
        let grounds = verdict::grounds(asked, judgement);
        text.push_str(&format!("  {}\n", judgement.verdict.in_plain_words()));
        for line in grounds.trim_end().lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str("\ntimeline\n");
    for TimelineEntry {
        at,
        what,
        text: told,
        ..
    } in &detail.timeline
    {
        text.push_str(&format!("  {}  {what:<12}  {told}\n", shown_time(*at)));
    }
    if !detail.notices.is_empty() {
        text.push_str("\nnotices\n");
    }
    for stored in &detail.notices {
        let notice = &stored.notice;
        text.push_str(&format!(
            "  {} #{} {}: {}\n",
            notice.channel,
            notice.sequence,
            notice.event,
            delivery(stored)
        ));
    }
    if let Some(conversation) = &detail.conversation {
        text.push_str("\nthe first failed probe\n");
        text.push_str(conversation);
        text.push('\n');
    }
    let mut text = escaped_lines(text.trim_end()).into_owned();
    text.push_str(&advice(incident, &escaped(file)));
    text
}

fn facts(incident: &Incident, now: SystemTime) -> Vec<(&'static str, String)> {
    let end = incident.resolved_at.unwrap_or(now);
    let lasted = end.duration_since(incident.first_failed_at);
    let mut facts = vec![
        ("incident", incident.id.clone()),
        (
            "server",
            incident
                .server
                .clone()
                .unwrap_or_else(|| "mcpprobe itself".to_owned()),
        ),
        (
            "what",
            format!(
                "{}, {}{}",
                incident.kind,
                incident.severity,
                marks(incident)
            ),
        ),
        (
            "state",
            format!("{}, {}", standing(incident), incident.state.as_str()),
        ),
        (
            "since",
            format!(
                "{} ({})",
                shown_time(incident.first_failed_at),
                spoken(lasted.unwrap_or_default())
            ),
        ),
    ];
    if let Some(at) = incident.resolved_at {
        facts.push(("until", shown_time(at)));
    }
    if let Some(layer) = incident.failed_layer {
        facts.push(("layer", layer.as_str().to_owned()));
    }
    facts.push(("why", why(incident)));
    if let Some(verdict) = incident.verdict {
        let mark = match incident.provisional {
            Some(true) => " (provisional)",
            _ => "",
        };
        let reason = incident.verdict_reason.as_ref();
        let reason = reason.map(|reason| format!(": {reason}"));
        facts.push((
            "verdict",
            format!("{verdict}{mark}{}", reason.unwrap_or_default()),
        ));
    }
    if let Some(trace) = incident.trace_id {
        facts.push(("trace", trace.to_string()));
    }
    facts
}

/// What to do next with it.
fn advice(incident: &Incident, file: &str) -> String {
    let id = &incident.id;
    let mut text = "\n\n".to_owned();
    if incident.resolved_at.is_none() && incident.acknowledged.is_none() {
        text.push_str(&format!("`mcpprobe incidents ack {id} {file}` takes it.\n"));
    }
    if incident.server.is_some() {
        text.push_str(&format!(
            "`mcpprobe correlate {file} --incident {id}` asks the trace backend again; with `--again` it judges what is stored.\n"
        ));
    }
    if let Some(reason) = incident.reason {
        text.push_str(&format!(
            "`mcpprobe explain {reason}` says what that means and what to look at first.\n"
        ));
    }
    text
}

/// How far a notice has come.
pub(super) fn delivery(stored: &StoredNotice) -> String {
    let attempts = match stored.attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    let why = stored.last_error.as_ref().map(|why| format!(": {why}"));
    let why = why.unwrap_or_default();
    match (stored.delivered_at, stored.given_up_at) {
        (Some(at), _) => format!("delivered {}, {attempts}", shown_time(at)),
        (None, Some(at)) => format!("given up {}, {attempts}{why}", shown_time(at)),
        (None, None) => format!("waiting, {attempts}{why}"),
    }
}

/// The document of `incidents --format json`.
pub fn json(incidents: &[Incident], causes: &[CommonCause]) -> Value {
    json!({
        "schema": SCHEMA,
        "incidents": incidents.iter().map(incident_json).collect::<Vec<_>>(),
        "causes": causes_json(causes),
    })
}

/// The document of `incidents show --format json`.
pub fn one_json(detail: &IncidentDetail, verdict: Option<Told<'_>>) -> Value {
    let entry = |entry: &TimelineEntry| json!({ "at": rfc3339(entry.at), "what": entry.what, "text": entry.text });
    json!({
        "schema": SCHEMA,
        "incident": incident_json(&detail.incident),
        "timeline": detail.timeline.iter().map(entry).collect::<Vec<_>>(),
        "notices": detail.notices.iter().map(notice_json).collect::<Vec<_>>(),
        "conversation": detail.conversation,
        "verdict": verdict.map(|(asked, judgement)| verdict::told(asked, judgement)),
    })
}

pub(super) fn incident_json(incident: &Incident) -> Value {
    let acknowledged = incident.acknowledged.as_ref();
    json!({
        "id": incident.id,
        "server": incident.server,
        "kind": incident.kind,
        "severity": incident.severity,
        "state": incident.state,
        "failed_layer": incident.failed_layer,
        "reason": incident.reason,
        "message": incident.message,
        "trace_id": incident.trace_id.map(|id| id.to_string()),
        "first_failed_at": rfc3339(incident.first_failed_at),
        "opened_at": rfc3339(incident.opened_at),
        "resolved_at": incident.resolved_at.map(rfc3339),
        "resolution": incident.resolution,
        "flapping": incident.flapping,
        "acknowledged": acknowledged.map(|it| json!({ "at": rfc3339(it.at), "by": it.by })),
        "suppressed": incident.suppressed,
        "verdict": incident.verdict,
        "verdict_reason": incident.verdict_reason,
        "provisional": incident.provisional,
    })
}

pub(super) fn notice_json(stored: &StoredNotice) -> Value {
    let notice = &stored.notice;
    json!({
        "incident": notice.incident.id,
        "channel": notice.channel,
        "sequence": notice.sequence,
        "event": notice.event,
        "created_at": rfc3339(notice.created_at),
        "attempts": stored.attempts,
        "delivered_at": stored.delivered_at.map(rfc3339),
        "given_up_at": stored.given_up_at.map(rfc3339),
        "last_error": stored.last_error,
    })
}
