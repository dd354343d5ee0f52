//! `mcpprobe incidents replay`: an alert policy over the recorded probes.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Exit, Trouble, load, terminal};
use crate::alert::{Replay, Seen};
use crate::cli::{Format, ReplayArgs};
use crate::model::{State, Target};
use crate::report;
use crate::report::replay::{Replayed, Story};
use crate::store::{IncidentFilter, Reader};

pub(super) fn run(args: &ReplayArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let reader = Reader::open(&config.store.path)?;
    let now = SystemTime::now();
    let since = now.checked_sub(args.since).unwrap_or(now);
    let targets: Vec<Arc<Target>> = config.targets.into_iter().map(Arc::new).collect();
    let silences = reader.silences(None)?;
    let mut replay = Replay::new(config.alerting, &targets, silences, since);
    let mut probes = 0;
    for probe in reader.recorded(since)? {
        let probe = probe?;
        probes += 1;
        let found = Seen {
            at: probe.started_at,
            state: if probe.isolated {
                State::Unknown
            } else {
                probe.state
            },
            failed_layer: probe.layer,
            reason: probe.reason,
            message: probe.message.unwrap_or_default(),
            trace_id: probe.trace_id,
            doubtful: false,
        };
        replay.probe(&probe.target, found, probe.confirmation, probe.ended_at);
    }
    let (incidents, notices) = replay.end();
    let replayed = Replayed {
        since,
        probes,
        would: Story::of(incidents, notices),
        was: what_was(&reader, since, &targets)?,
    };
    let text = match args.format {
        Format::Table => report::replay::table(&replayed, now, terminal::look()),
        Format::Json => report::json::document(&report::replay::json(&replayed)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

/// The incidents of these targets that there were, with their notices.
fn what_was(reader: &Reader, since: SystemTime, targets: &[Arc<Target>]) -> Result<Story, String> {
    let filter = IncidentFilter {
        since: Some(since),
        ..IncidentFilter::default()
    };
    let ours = |server: &Option<String>| {
        let server = server.as_deref();
        server.is_none_or(|server| targets.iter().any(|target| target.name == server))
    };
    let mut incidents = reader.incidents(&filter)?;
    incidents.retain(|incident| ours(&incident.server));
    let mut notices = Vec::new();
    for incident in &incidents {
        if let Some(detail) = reader.incident_detail(&incident.id)? {
            notices.extend(detail.notices.into_iter().map(|stored| stored.notice));
        }
    }
    Ok(Story::of(incidents, notices))
}
