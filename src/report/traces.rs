//! Traces in a list: what the embedded backend has, newest first, or in groups.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::colour::painted;
use super::json::SCHEMA;
use super::table::{Look, dash, draw, short};
use super::{millis, rfc3339};
use crate::model::{State, Text};
use crate::traces::{Outcome, Project, TraceList, TraceSummary};

/// What traces are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The session that they name.
    Session,
    /// Each project in them.
    Project,
    /// Each service in them.
    Service,
    /// Each tool that was called.
    Tool,
}

/// The table of `traces`.
pub fn table(list: &TraceList, look: Look) -> String {
    if list.traces.is_empty() {
        return "no traces\n".to_owned();
    }
    let header = [
        "TRACE", "STATUS", "STARTED", "DURATION", "SPANS", "SERVICE", "NAME", "SESSION",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(list.traces.iter().map(row));
    let states: Vec<_> = list
        .traces
        .iter()
        .map(|trace| as_bad_as(trace.outcome))
        .collect();
    let mut text = format!("{}\n", draw(rows, &states, look));
    if list.truncated {
        text.push_str("\nThere are more: raise --limit, or ask for fewer.\n");
    }
    text
}

fn row(trace: &TraceSummary) -> [String; 8] {
    let status = match trace.errors {
        0 => trace.outcome.as_str().to_owned(),
        errors => format!("{} ({errors})", trace.outcome.as_str()),
    };
    [
        trace.id.to_string(),
        status,
        rfc3339(trace.started),
        short(trace.duration),
        spans(trace),
        joined(&trace.services),
        trace.name.to_string(),
        trace
            .session
            .as_ref()
            .map_or_else(dash, |session| session.to_string()),
    ]
}

/// How many, as far as they are read.
pub(super) fn spans(trace: &TraceSummary) -> String {
    let more = if trace.truncated { "+" } else { "" };
    format!("{}{more}", trace.spans)
}

fn joined(texts: &[Text]) -> String {
    let texts: Vec<_> = texts.iter().map(Text::as_str).collect();
    match texts.as_slice() {
        [] => dash(),
        texts => texts.join(", "),
    }
}

/// The colour of an outcome is that of the state that is as bad.
pub(super) fn as_bad_as(outcome: Outcome) -> State {
    match outcome {
        Outcome::Ok => State::Up,
        Outcome::Error => State::Down,
        Outcome::Blocked => State::Degraded,
    }
}

/// The document of `traces --format json`, and of `/api/traces`.
pub fn json(list: &TraceList) -> Value {
    json!({
        "schema": SCHEMA,
        "traces": list.traces.iter().map(summary).collect::<Vec<_>>(),
        "truncated": list.truncated,
    })
}

/// A trace in a list.
pub(super) fn summary(trace: &TraceSummary) -> Value {
    json!({
        "trace_id": trace.id,
        "started_at": rfc3339(trace.started),
        "duration_ms": millis(trace.duration),
        "spans": trace.spans,
        "service": trace.services.first(),
        "services": trace.services,
        "projects": trace.projects,
        "name": trace.name,
        "status": trace.outcome,
        "errors": trace.errors,
        "session": trace.session,
        "tools": trace.tools,
        "truncated": trace.truncated,
    })
}

/// Traces of one group.
struct Grouped {
    traces: usize,
    spans: usize,
    errors: usize,
    first: SystemTime,
    last: SystemTime,
    longest: Duration,
}

/// The latest group first. A trace counts in each group that it is in.
fn groups(list: &TraceList, by: Group) -> Vec<(String, Grouped)> {
    let mut groups: BTreeMap<String, Grouped> = BTreeMap::new();
    for trace in &list.traces {
        let names: Vec<&Text> = match by {
            Group::Session => trace.session.iter().collect(),
            Group::Project => trace.projects.iter().collect(),
            Group::Service => trace.services.iter().collect(),
            Group::Tool => trace.tools.iter().collect(),
        };
        for name in names {
            let group = groups.entry(name.to_string()).or_insert(Grouped {
                traces: 0,
                spans: 0,
                errors: 0,
                first: trace.started,
                last: trace.started,
                longest: Duration::ZERO,
            });
            group.traces += 1;
            group.spans += trace.spans;
            group.errors += usize::from(trace.outcome != Outcome::Ok);
            group.first = group.first.min(trace.started);
            group.last = group.last.max(trace.started);
            group.longest = group.longest.max(trace.duration);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.last));
    groups
}

impl Group {
    fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Project => "project",
            Self::Service => "service",
            Self::Tool => "tool",
        }
    }
}

/// The table of `traces --by`.
pub fn grouped_table(list: &TraceList, by: Group, look: Look) -> String {
    let groups = groups(list, by);
    if groups.is_empty() {
        return format!("no traces name a {}\n", by.word());
    }
    let header = [
        by.word().to_uppercase(),
        "TRACES".to_owned(),
        "SPANS".to_owned(),
        "FAILED".to_owned(),
        "LONGEST".to_owned(),
        "FIRST".to_owned(),
        "LAST".to_owned(),
    ];
    let mut rows = vec![header];
    rows.extend(groups.into_iter().map(|(name, group)| {
        [
            name,
            group.traces.to_string(),
            group.spans.to_string(),
            group.errors.to_string(),
            short(group.longest),
            rfc3339(group.first),
            rfc3339(group.last),
        ]
    }));
    format!("{}\n", draw(rows, &[], look))
}

/// The document of `traces --by ... --format json`.
pub fn grouped_json(list: &TraceList, by: Group) -> Value {
    let groups: Vec<_> = groups(list, by)
        .into_iter()
        .map(|(name, group)| {
            json!({
                by.word(): name,
                "traces": group.traces,
                "spans": group.spans,
                "failed": group.errors,
                "longest_ms": millis(group.longest),
                "first_started_at": rfc3339(group.first),
                "last_started_at": rfc3339(group.last),
            })
        })
        .collect();
    json!({ "schema": SCHEMA, "groups": groups, "truncated": list.truncated })
}

/// The document of `/api/projects`.
pub fn projects(projects: &[Project]) -> Value {
    let projects: Vec<_> = projects
        .iter()
        .map(|project| {
            json!({
                "id": project.name,
                "name": project.name,
                "traces": project.traces,
                "spans": project.spans,
                "errors": project.errors,
                "first_seen": rfc3339(project.first_seen),
                "last_seen": rfc3339(project.last_seen),
            })
        })
        .collect();
    json!({ "schema": SCHEMA, "projects": projects })
}

/// An outcome as it is shown.
pub(super) fn shown(outcome: Outcome, colour: bool) -> String {
    painted(outcome.as_str(), as_bad_as(outcome), colour)
}
