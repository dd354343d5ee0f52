//! `channels`: what there is, and a notice by which to try one.

use std::path::Path;
use std::time::SystemTime;

use tabled::builder::Builder;
use tabled::settings::{Padding, Style};

use super::{Exit, Trouble, terminal};
use crate::alert::{Channel, Message, http_client};
use crate::cli::{ChannelsAction, ChannelsArgs};
use crate::config::nearest;
use crate::model::{
    ChannelKind, ChannelSettings, Incident, IncidentKind, Notice, NoticeEvent, Resolution,
    Severity, State, TraceId,
};

/// Runs the command.
pub(super) async fn run(args: &ChannelsArgs) -> Result<Exit, Trouble> {
    match &args.action {
        Some(ChannelsAction::Test { name, file }) => test(name, file).await,
        None => list(&args.file),
    }
}

fn list(file: &Path) -> Result<Exit, Trouble> {
    let channels = super::load(file)?.alerting.channels;
    let mut table = Builder::default();
    table.push_record(["NAME", "TYPE", "GROUP", "RATE LIMIT", "FALLBACK"]);
    for channel in &channels {
        let rate = channel.rate_limit.map_or_else(
            || "off".to_owned(),
            |limit| {
                format!(
                    "{} per {}",
                    limit.count,
                    humantime::format_duration(limit.within)
                )
            },
        );
        table.push_record([
            channel.name.clone(),
            channel.kind.as_str().to_owned(),
            humantime::format_duration(channel.group).to_string(),
            rate,
            channel.fallback.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let mut table = table.build();
    table.with(Style::blank()).with(Padding::new(0, 1, 0, 0));
    terminal::print(&format!("{table}\n"));
    Ok(Exit::Ok)
}

async fn test(name: &str, file: &Path) -> Result<Exit, Trouble> {
    let channels = super::load(file)?.alerting.channels;
    let names: Vec<_> = channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    let Some(settings) = channels.iter().find(|channel| channel.name == name) else {
        let hint = match nearest(name, &names) {
            Some(near) => format!("; did you mean {near}?"),
            None if names.is_empty() => "; the file has no [[channel]]".to_owned(),
            None => format!("; there are: {}", names.join(", ")),
        };
        return Err(format!("no channel is called {name}{hint}").into());
    };
    let kind = settings.kind.as_str();
    let http = http_client().map_err(|error| format!("no HTTP client: {error}"))?;
    let notice = test_notice(settings, SystemTime::now());
    let key = notice.key();
    let channel = Channel::new(settings.clone(), http);
    let started = std::time::Instant::now();
    let mut result = channel.deliver(&Message::of(notice.clone()), &[]).await;
    if result.is_ok() && matches!(settings.kind, ChannelKind::Pagerduty { .. }) {
        // It would stay open, and wake one after the other.
        result = channel.deliver(&Message::of(ended(notice)), &[]).await;
    }
    match result {
        Ok(()) => {
            terminal::print(&format!(
                "{name} ({kind}) has taken the test notice {key} after {} ms\n",
                started.elapsed().as_millis()
            ));
            Ok(Exit::Ok)
        }
        Err(failure) => Err(format!(
            "{name} ({kind}) has not taken the test notice {key}: {}",
            failure.why
        )
        .into()),
    }
}

/// A notice that cannot be taken for a real one.
fn test_notice(settings: &ChannelSettings, now: SystemTime) -> Notice {
    let id = format!(
        "test-{}",
        TraceId::random().to_string().get(..12).unwrap_or("0")
    );
    Notice {
        channel: settings.name.clone(),
        sequence: 1,
        event: NoticeEvent::Opened,
        created_at: now,
        due_at: now,
        incident: Incident {
            id,
            server: Some("TEST".to_owned()),
            kind: IncidentKind::Outage,
            severity: Severity::Info,
            state: State::Down,
            failed_layer: None,
            reason: None,
            message: "this is only a test of the channel; nothing is down".into(),
            trace_id: None,
            first_failed_at: now,
            opened_at: now,
            resolved_at: None,
            resolution: None,
            flapping: false,
            acknowledged: None,
            suppressed: None,
            verdict: None,
            verdict_reason: None,
            provisional: None,
        },
        tags: vec!["test".to_owned()],
        endpoint: None,
        links: Vec::new(),
        command: None,
        take: None,
    }
}

/// The end of what a test notice has opened.
fn ended(notice: Notice) -> Notice {
    let mut notice = notice;
    notice.sequence += 1;
    notice.event = NoticeEvent::Resolved;
    notice.incident.resolved_at = Some(notice.created_at);
    notice.incident.resolution = Some(Resolution::Recovered);
    notice
}
