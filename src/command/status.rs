//! `mcpprobe status`: what a `watch` knows, from another shell.

use std::time::{Duration, SystemTime};

use super::{Exit, Trouble, load, terminal};
use crate::cli::{Format, StatusArgs};
use crate::config::Config;
use crate::model::{TargetStatus, Text};
use crate::report;
use crate::store::{self, Reader};

pub(super) fn run(args: &StatusArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let path = &config.store.path;
    let reader = Reader::open_if_made(path)?;
    let targets = match &reader {
        Some(reader) => config
            .targets
            .iter()
            .map(|target| {
                let status = reader.status(&target.name)?;
                Ok(explained(status, &config))
            })
            .collect::<Result<Vec<_>, String>>()?,
        None => config
            .targets
            .iter()
            .map(|target| TargetStatus::unknown(&target.name))
            .collect(),
    };
    if !store::is_watched(path) {
        let what = if reader.is_some() {
            "this is what the last one knew"
        } else {
            "none has run yet"
        };
        terminal::complain(&format!(
            "warning: no `mcpprobe watch {}` is running; {what}",
            args.file.display()
        ));
    }
    let text = match args.format {
        Format::Table => report::table::status(&targets, SystemTime::now(), terminal::look()),
        Format::Json => report::json::document(&report::json::status(&targets)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

/// An incident without a verdict says why it has none.
fn explained(mut status: TargetStatus, config: &Config) -> TargetStatus {
    if status.incident.is_some() && status.verdict.is_none() {
        let why = match &config.traces {
            None => "there is no [traces] to ask".to_owned(),
            Some(traces) => {
                let first = traces.recheck.first().copied().unwrap_or_default();
                let first = humantime::format_duration(Duration::from_secs(first.as_secs()));
                format!("the trace backend is first asked {first} after the failure")
            }
        };
        status.verdict_reason = Some(Text::new(why));
    }
    status
}
