//! `mcpprobe traces` and `mcpprobe trace`: what the embedded trace backend has.

use std::path::Path;
use std::time::SystemTime;

use super::{Exit, Trouble, load, terminal};
use crate::cli::{Format, GroupBy, TraceArgs, TraceStatus, TracesArgs};
use crate::config::Config;
use crate::model::{BackendSettings, TraceId};
use crate::report;
use crate::report::trace::Detail;
use crate::report::traces::Group;
use crate::traces::{Outcome, Reader, TraceFilter, summary};

/// Traces that are counted in groups: more would be slow, and tell no more.
const MAX_GROUPED: usize = 50_000;

pub(super) fn list(args: &TracesArgs) -> Result<Exit, Trouble> {
    let reader = reader(&load(&args.file)?, &args.file)?;
    let now = SystemTime::now();
    let filter = TraceFilter {
        service: args.service.clone(),
        outcome: args.status.map(outcome),
        since: now.checked_sub(args.since),
        until: None,
        min_duration: args.min_duration,
        session: args.session.clone(),
        tool: args.tool.clone(),
        project: args.project.clone(),
    };
    let group = args.by.map(group);
    let limit = if group.is_some() {
        MAX_GROUPED
    } else {
        args.limit
    };
    let list = reader
        .list(&filter, limit)
        .map_err(|why| format!("the traces cannot be read: {why}"))?;
    let text = match (args.format, group) {
        (Format::Table, None) => report::traces::table(&list, terminal::look()),
        (Format::Table, Some(by)) => report::traces::grouped_table(&list, by, terminal::look()),
        (Format::Json, None) => report::json::document(&report::traces::json(&list)),
        (Format::Json, Some(by)) => {
            report::json::document(&report::traces::grouped_json(&list, by))
        }
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

pub(super) fn show(args: &TraceArgs) -> Result<Exit, Trouble> {
    let reader = reader(&load(&args.file)?, &args.file)?;
    let id: TraceId = args
        .id
        .parse()
        .map_err(|_| format!("{} is no trace's id: 32 hexadecimal digits", args.id))?;
    let found = reader
        .trace(id)
        .map_err(|why| format!("the traces cannot be read: {why}"))?;
    let spans = &found.spans;
    let Some(summary) = summary(id, &found) else {
        return Err(format!(
            "there is no trace {id}: it never came, or is older than what is kept"
        )
        .into());
    };
    let detail = match &args.span {
        None if args.attributes => Detail::All,
        None => Detail::None,
        Some(span) => {
            let wanted = span
                .parse()
                .map_err(|_| format!("{span} is no span's id: 16 hexadecimal digits"))?;
            if !spans.iter().any(|span| span.span_id == wanted) {
                return Err(format!("the trace has no span {span}").into());
            }
            Detail::Of(wanted)
        }
    };
    let text = match args.format {
        Format::Table => report::trace::waterfall(&summary, spans, detail, terminal::look()),
        Format::Json => report::json::document(&report::trace::json(&summary, spans)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

/// Of the file of the embedded backend, whoever writes to it now.
fn reader(config: &Config, file: &Path) -> Result<Reader, String> {
    let embedded = config
        .traces
        .iter()
        .find_map(|traces| match &traces.backend {
            BackendSettings::Embedded(embedded) => Some(embedded),
            BackendSettings::Remote(_) => None,
        });
    let Some(embedded) = embedded else {
        let other = match config.traces.first() {
            None => "has no [traces]".to_owned(),
            Some(traces) => format!("keeps its traces in {}", traces.name),
        };
        return Err(format!(
            "{} {other}: only what the embedded backend received can be shown ([traces] backend = \"embedded\")",
            file.display()
        ));
    };
    if !embedded.path.exists() {
        return Err(format!(
            "{} has not been made yet: `mcpprobe watch {}` receives traces",
            embedded.path.display(),
            file.display()
        ));
    }
    Ok(Reader::open(&embedded.path))
}

fn outcome(status: TraceStatus) -> Outcome {
    match status {
        TraceStatus::Ok => Outcome::Ok,
        TraceStatus::Error => Outcome::Error,
        TraceStatus::Blocked => Outcome::Blocked,
    }
}

fn group(by: GroupBy) -> Group {
    match by {
        GroupBy::Session => Group::Session,
        GroupBy::Project => Group::Project,
        GroupBy::Service => Group::Service,
        GroupBy::Tool => Group::Tool,
    }
}
