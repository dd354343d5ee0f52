//! Notices as data files write them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use mcpprobe::alert::Message;
use mcpprobe::model::{
    Acknowledgement, Incident, IncidentKind, Layer, Link, Notice, NoticeEvent, Reason, Resolution,
    Severity, State, Text, TraceId, Verdict,
};
use serde::Deserialize;

use crate::support::here;

/// A notice; what is left out is as ordinary as can be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    pub(super) incident: Option<String>,
    pub(super) sequence: Option<u32>,
    pub(super) event: Option<NoticeEvent>,
    pub(super) server: Option<String>,
    pub(super) kind: Option<IncidentKind>,
    pub(super) severity: Option<Severity>,
    pub(super) state: Option<State>,
    pub(super) layer: Option<Layer>,
    pub(super) reason: Option<Reason>,
    pub(super) message: Option<String>,
    pub(super) first_failed: Option<String>,
    pub(super) created: Option<String>,
    pub(super) resolved: Option<String>,
    pub(super) resolution: Option<Resolution>,
    pub(super) verdict: Option<Verdict>,
    pub(super) verdict_reason: Option<String>,
    pub(super) provisional: Option<bool>,
    pub(super) flapping: bool,
    pub(super) trace_id: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) endpoint: Option<String>,
    pub(super) links: Vec<Link>,
    pub(super) command: Option<String>,
    pub(super) acknowledged_by: Option<String>,
}

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Written {
    pub(super) fn notice(&self, channel: &str) -> Notice {
        let first_failed_at = time(
            self.first_failed
                .as_deref()
                .unwrap_or("2026-11-21T03:12:51Z"),
        );
        let created_at = self
            .created
            .as_deref()
            .map_or(first_failed_at + Duration::from_secs(25), time);
        let event = self.event.unwrap_or(NoticeEvent::Opened);
        Notice {
            channel: channel.to_owned(),
            sequence: self.sequence.unwrap_or(1),
            event,
            created_at,
            due_at: created_at,
            incident: Incident {
                id: self.incident.clone().unwrap_or("62280dc6fb724da0".into()),
                server: match self.kind {
                    Some(IncidentKind::Isolated) => None,
                    _ => Some(self.server.clone().unwrap_or("weather".into())),
                },
                kind: self.kind.unwrap_or(IncidentKind::Outage),
                severity: self.severity.unwrap_or(Severity::Critical),
                state: self.state.unwrap_or(State::Down),
                failed_layer: self.layer,
                reason: self.reason,
                message: self.message.as_deref().unwrap_or_default().into(),
                trace_id: self
                    .trace_id
                    .as_deref()
                    .and_then(|id| id.parse::<TraceId>().ok()),
                first_failed_at,
                opened_at: first_failed_at + Duration::from_secs(6),
                resolved_at: self.resolved.as_deref().map(time),
                resolution: self.resolution,
                flapping: self.flapping,
                acknowledged: self.acknowledged_by.as_deref().map(|by| Acknowledgement {
                    at: created_at,
                    by: by.into(),
                }),
                suppressed: None,
                verdict: self.verdict,
                verdict_reason: self.verdict_reason.as_deref().map(Text::from),
                provisional: self.provisional,
            },
            tags: self.tags.clone(),
            endpoint: self.endpoint.as_deref().map(Text::from),
            links: self.links.clone(),
            command: self.command.clone(),
            take: None,
        }
    }
}

/// The notice of `data/notices/NAME.toml`, which has one.
pub(super) fn of_file(name: &str, channel: &str) -> Notice {
    message_of_file(name, channel).first
}

/// All notices of `data/notices/NAME.toml` as one message.
pub(super) fn message_of_file(name: &str, channel: &str) -> Message {
    case(&here(&format!("data/notices/{name}.toml"))).message(channel)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    notice: Vec<Written>,
    /// The subject.
    subject: String,
    /// The plain text.
    text: String,
}

impl Case {
    fn message(&self, channel: &str) -> Message {
        let mut notices = self.notice.iter().map(|written| written.notice(channel));
        Message {
            first: notices.next().unwrap(),
            others: notices.collect(),
        }
    }
}

fn case(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_notice_has_the_words_of_its_file() {
    let mut files: Vec<_> = std::fs::read_dir(here("data/notices"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "only {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let case = case(&path);
        let message = case.message("oncall");
        let story = mcpprobe::alert::text::story(&message);
        let text = mcpprobe::alert::text::plain(&story);
        if story.subject != case.subject || text.trim_end() != case.text.trim_end() {
            wrong.push(format!(
                "{}:\nsubject = {:?}\ntext = '''\n{text}'''\n",
                path.display(),
                story.subject
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
