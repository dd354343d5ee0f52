//! `mcpprobe status`: what a `watch` knows, from another shell.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::{Exit, Trouble, causes, load, terminal};
use crate::cli::{Format, StatusArgs};
use crate::config::Config;
use crate::model::{Silence, Target, TargetStatus, Text};
use crate::report;
use crate::report::status::StatusReport;
use crate::store::{self, Reader};

/// How long a notice that nobody got is told of: over a weekend and the days that it takes to come to it.
const GIVEN_UP_SHOWN: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn run(args: &StatusArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let path = &config.store.path;
    let now = SystemTime::now();
    let reader = Reader::open_if_made(path)?;
    let watched = store::is_watched(path);
    let report = match &reader {
        Some(reader) => read(reader, &config, watched, now)?,
        None => StatusReport {
            watched,
            targets: config
                .targets
                .iter()
                .map(|target| TargetStatus::unknown(&target.name))
                .collect(),
            quiet: quiet(&config, &[], now),
            ..StatusReport::default()
        },
    };
    if !watched {
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
        Format::Table => report::status::table(&report, now, terminal::look()),
        Format::Json => report::json::document(&report::status::json(&report, now)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

fn read(
    reader: &Reader,
    config: &Config,
    watched: bool,
    now: SystemTime,
) -> Result<StatusReport, String> {
    let status = |target: &Target| Ok(explained(reader.status(&target.name)?, config));
    let targets: Result<_, String> = config.targets.iter().map(status).collect();
    let silences = reader.silences(Some(now))?;
    let shown_since = now.checked_sub(GIVEN_UP_SHOWN).unwrap_or(now);
    let incidents = reader.open_incidents()?;
    Ok(StatusReport {
        watched,
        targets: targets?,
        causes: causes(&incidents, config),
        quiet: quiet(config, &silences, now),
        incidents,
        undelivered: reader.undelivered()?,
        given_up: reader.given_up(shown_since)?,
        facts: reader.facts()?,
        silences,
    })
}

/// The servers of which no notice opens now, with the reason.
fn quiet(config: &Config, silences: &[Silence], now: SystemTime) -> BTreeMap<String, Text> {
    let windows = &config.alerting.maintenance;
    let windows: Vec<_> = windows.iter().filter(|window| window.holds(now)).collect();
    let why = |target: &Target| {
        let mut silences = silences.iter().filter(|silence| silence.holds(now));
        let silence = silences.find(|silence| silence.covers(target));
        let silence = silence.map(|silence| {
            let until = humantime::format_rfc3339_seconds(silence.until);
            format!(
                "silenced until {until} by {}: {}",
                silence.by, silence.reason
            )
        });
        silence.or_else(|| {
            let window = windows.iter().find(|window| window.covers(target))?;
            Some(format!("maintenance: {}", window.name))
        })
    };
    let targets = config.targets.iter();
    targets
        .filter_map(|target| Some((target.name.clone(), Text::new(why(target)?))))
        .collect()
}

/// An incident without a verdict says why it has none.
fn explained(mut status: TargetStatus, config: &Config) -> TargetStatus {
    if status.incident.is_some() && status.verdict.is_none() {
        let target = config.targets.iter().find(|t| t.name == status.name);
        let name = target.and_then(|target| target.traces.as_ref());
        let traces = match name {
            Some(name) => config.traces.iter().find(|traces| traces.name == *name),
            None => config.traces.first(),
        };
        let why = match traces {
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
