//! What a `watch` knows of each server, and of itself.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::incidents::{causes_json, causes_text, incident_json, marks, notice_json};
use super::json::SCHEMA;
use super::silences::silence_json;
use super::table::{Look, dash, draw};
use super::{rfc3339, shown_time};
use crate::model::{
    CommonCause, Incident, IncidentKind, Silence, State, TargetStatus, Text, escaped, spoken,
};
use crate::store::{StoredNotice, fact};

/// Everything that `status` tells.
#[derive(Default)]
pub struct StatusReport {
    /// A `watch` runs now.
    pub watched: bool,
    /// Each server, in the order of the file.
    pub targets: Vec<TargetStatus>,
    /// By server: why no notice of it opens now, apart from what its incident says.
    pub quiet: BTreeMap<String, Text>,
    /// Incidents that have not ended.
    pub incidents: Vec<Incident>,
    /// Which of them are one.
    pub causes: Vec<CommonCause>,
    /// Silences that have not ended.
    pub silences: Vec<Silence>,
    /// Notices that are still to be delivered.
    pub undelivered: Vec<StoredNotice>,
    /// Notices that were given up lately.
    pub given_up: Vec<StoredNotice>,
    /// What the daemon says of itself, by the keys of [`fact`].
    pub facts: BTreeMap<String, String>,
}

impl StatusReport {
    fn isolated(&self) -> Option<&Incident> {
        let mut own = self.incidents.iter();
        own.find(|incident| incident.kind == IncidentKind::Isolated)
    }

    fn fact(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }
}

/// The table of `status`, and below it what is wrong with mcpprobe itself.
pub fn table(report: &StatusReport, now: SystemTime, look: Look) -> String {
    let head = [
        "NAME",
        "STATE",
        "SINCE",
        "LAYER",
        "LAST PROBE",
        "WHY",
        "VERDICT",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.targets.iter().map(|target| row(report, target, now)));
    let states: Vec<State> = report.targets.iter().map(|target| target.state).collect();
    let mut text = format!("{}\n", draw(rows, &states, look));
    text.push_str(&causes_text(&report.causes));
    let own = own_troubles(report, now);
    if !own.is_empty() {
        text.push('\n');
    }
    for line in own {
        text.push_str(&format!("{}\n", escaped(&line)));
    }
    text
}

fn row(report: &StatusReport, target: &TargetStatus, now: SystemTime) -> [String; 7] {
    let ago = |at: Option<SystemTime>| at.map_or_else(dash, |at| ago(at, now));
    let verdict_mark = match target.provisional {
        Some(true) => " (provisional)",
        _ => "",
    };
    let verdict = match (&target.verdict, &target.verdict_reason) {
        (Some(verdict), Some(reason)) => format!("{verdict}{verdict_mark}: {reason}"),
        (None, Some(reason)) if target.state.failed() => format!("none: {reason}"),
        _ => String::new(),
    };
    let suspect = if target.suspect { " (suspect)" } else { "" };
    [
        target.name.clone(),
        format!("{}{suspect}", target.state.as_str()),
        ago(target.since),
        target
            .failed_layer
            .map_or_else(dash, |layer| layer.as_str().to_owned()),
        ago(target.last_probe_at),
        why(report, target),
        verdict,
    ]
}

fn ago(at: SystemTime, now: SystemTime) -> String {
    format!("{} ago", spoken(now.duration_since(at).unwrap_or_default()))
}

fn why(report: &StatusReport, target: &TargetStatus) -> String {
    let why = match (&target.reason, &target.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        _ => String::new(),
    };
    let name = Some(&target.name);
    let mut of_target = report
        .incidents
        .iter()
        .filter(|incident| incident.server.as_ref() == name);
    // The graver one stands for the target: it is what people were told of.
    let open = of_target
        .clone()
        .find(|incident| Some(&incident.id) == target.incident.as_ref())
        .or_else(|| of_target.next());
    let suppressed = open.is_some_and(|incident| incident.suppressed.is_some());
    let quiet = report.quiet.get(&target.name).filter(|_| !suppressed);
    let quiet = quiet.map(|why| format!(" [{why}]")).unwrap_or_default();
    let marks = open.map(marks).unwrap_or_default();
    format!("{why}{marks}{quiet}").trim_start().to_owned()
}

/// What is wrong with mcpprobe itself, a line each.
fn own_troubles(report: &StatusReport, now: SystemTime) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(incident) = report.isolated() {
        lines.push(format!(
            "isolated for {}: {}",
            spoken(
                now.duration_since(incident.first_failed_at)
                    .unwrap_or_default()
            ),
            incident.message
        ));
    }
    for (channel, notices) in by_channel(&report.undelivered) {
        lines.push(undelivered(channel, &notices, now));
    }
    for (channel, notices) in by_channel(&report.given_up) {
        let last = notices.last().and_then(|notice| notice.last_error.as_ref());
        lines.push(format!(
            "{channel}: {} given up{}",
            counted(notices.len()),
            last.map(|why| format!(", the last because of {why}"))
                .unwrap_or_default()
        ));
    }
    if let Some(why) = report.fact(fact::RELOAD_ERROR) {
        lines.push(format!(
            "the file has changed and cannot be used, so that the old one holds: {why}"
        ));
    }
    if let Some(why) = report.fact(fact::STORE_TROUBLE) {
        lines.push(format!("store: {why}"));
    }
    lines
}

fn by_channel(notices: &[StoredNotice]) -> BTreeMap<&str, Vec<&StoredNotice>> {
    let mut by_channel: BTreeMap<&str, Vec<&StoredNotice>> = BTreeMap::new();
    for stored in notices {
        let of_channel = by_channel.entry(&stored.notice.channel);
        of_channel.or_default().push(stored);
    }
    by_channel
}

fn undelivered(channel: &str, notices: &[&StoredNotice], now: SystemTime) -> String {
    let oldest = notices.iter().map(|stored| stored.notice.created_at).min();
    let oldest = oldest.unwrap_or(now);
    let mut errors = notices.iter().rev();
    let why = errors.find_map(|stored| stored.last_error.as_ref());
    format!(
        "{channel}: {} not delivered yet, the oldest of {}{}",
        counted(notices.len()),
        shown_time(oldest),
        why.map(|why| format!(": {why}")).unwrap_or_default()
    )
}

fn counted(count: usize) -> String {
    let what = if count == 1 { "notice" } else { "notices" };
    format!("{count} {what}")
}

/// The document of `status --format json`.
pub fn json(report: &StatusReport, now: SystemTime) -> Value {
    json!({
        "schema": SCHEMA,
        "targets": report.targets.iter().map(target_json).collect::<Vec<_>>(),
        "watched": report.watched,
        "isolated": report.isolated().is_some(),
        "incidents": report.incidents.iter().map(incident_json).collect::<Vec<_>>(),
        "causes": causes_json(&report.causes),
        "quiet": report.quiet,
        "silences": report.silences.iter().map(|silence| silence_json(silence, now)).collect::<Vec<_>>(),
        "undelivered": report.undelivered.iter().map(notice_json).collect::<Vec<_>>(),
        "given_up": report.given_up.iter().map(notice_json).collect::<Vec<_>>(),
        "last_heartbeat": report.fact(fact::HEARTBEAT),
        "reload_error": report.fact(fact::RELOAD_ERROR).map(Text::new),
        "store_trouble": report.fact(fact::STORE_TROUBLE).map(Text::new),
    })
}

fn target_json(target: &TargetStatus) -> Value {
    json!({
        "name": target.name,
        "state": target.state,
        "since": target.since.map(rfc3339),
        "failed_layer": target.failed_layer,
        "reason": target.reason,
        "message": target.message,
        "last_probe_at": target.last_probe_at.map(rfc3339),
        "trace_id": target.trace_id.map(|id| id.to_string()),
        "incident": target.incident,
        "suspect": target.suspect,
        "verdict": target.verdict,
        "verdict_reason": target.verdict_reason,
        "provisional": target.provisional,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::{
        Acknowledgement, Notice, NoticeEvent, Reason, Severity, TimelineEntry, TimelineKind,
    };
    use crate::report::incidents;
    use crate::store::IncidentDetail;

    const PIPE: Look = Look {
        colour: false,
        width: None,
    };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn incident(server: Option<&str>, kind: IncidentKind) -> Incident {
        Incident {
            id: "1234".to_owned(),
            server: server.map(str::to_owned),
            kind,
            severity: Severity::Critical,
            state: State::Down,
            failed_layer: None,
            reason: Some(Reason::ConnectionRefused),
            message: Text::new("evil \u{1b}[31m words"),
            trace_id: None,
            first_failed_at: at(100),
            opened_at: at(107),
            resolved_at: None,
            resolution: None,
            flapping: true,
            acknowledged: None,
            suppressed: None,
            verdict: None,
            verdict_reason: None,
            provisional: None,
        }
    }

    fn notice(incident: Incident, failed: Option<&str>) -> StoredNotice {
        StoredNotice {
            notice: Notice {
                channel: "oncall".to_owned(),
                sequence: 1,
                event: NoticeEvent::Opened,
                created_at: at(107),
                due_at: at(107),
                incident,
                tags: Vec::new(),
                endpoint: None,
                links: Vec::new(),
                command: None,
                take: None,
            },
            attempts: 3,
            first_attempt_at: Some(at(108)),
            delivered_at: None,
            given_up_at: None,
            last_error: failed.map(Text::new),
        }
    }

    #[test]
    fn what_is_wrong_with_mcpprobe_itself_stands_below_the_servers() {
        let own = incident(None, IncidentKind::Isolated);
        let stored = notice(own.clone(), Some("no \u{202e}route"));
        let report = StatusReport {
            targets: vec![TargetStatus::unknown("a")],
            incidents: vec![own],
            undelivered: vec![stored.clone(), stored.clone()],
            given_up: vec![stored],
            facts: BTreeMap::from([
                (fact::RELOAD_ERROR.to_owned(), "line 3\u{1b}[31m".to_owned()),
                (fact::STORE_TROUBLE.to_owned(), "disk full".to_owned()),
            ]),
            ..StatusReport::default()
        };
        let text = table(&report, at(160), PIPE);
        for line in [
            "isolated for 1m: evil \\u{1b}[31m words",
            "oncall: 2 notices not delivered yet, the oldest of 1970-01-01T00:01:47Z: no \\u{202e}route",
            "oncall: 1 notice given up, the last because of no \\u{202e}route",
            "the old one holds: line 3\\u{1b}[31m",
            "store: disk full",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
        let json = json(&report, at(160));
        assert_eq!(json["isolated"], true);
        assert_eq!(json["undelivered"][0]["attempts"], 3);
        let nothing = table(&StatusReport::default(), at(0), PIPE);
        assert_eq!(nothing.lines().count(), 1, "{nothing}");
    }

    #[test]
    fn a_server_shows_that_it_is_suspect_and_why_nobody_is_told() {
        let mut outage = incident(Some("a"), IncidentKind::Outage);
        outage.acknowledged = Some(Acknowledgement {
            at: at(110),
            by: Text::new("ann"),
        });
        let row_of = |incidents: Vec<Incident>| {
            let report = StatusReport {
                targets: vec![TargetStatus {
                    suspect: true,
                    state: State::Up,
                    incident: Some("1234".to_owned()),
                    ..TargetStatus::unknown("a")
                }],
                quiet: BTreeMap::from([("a".to_owned(), Text::new("maintenance: nightly"))]),
                incidents,
                ..StatusReport::default()
            };
            table(&report, at(160), PIPE)
        };
        let text = row_of(vec![outage.clone()]);
        for word in [
            "up (suspect)",
            "[flapping] [acknowledged by ann] [maintenance: nightly]",
        ] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        // What the incident says of itself is not said twice.
        outage.suppressed = Some(Text::new("parent gateway is down"));
        let text = row_of(vec![outage]);
        assert!(text.contains("[parent gateway is down]"), "{text}");
        assert!(!text.contains("maintenance"), "{text}");
    }

    #[test]
    fn an_incident_tells_its_story() {
        let mut outage = incident(Some("a"), IncidentKind::Outage);
        outage.verdict = Some(crate::model::Verdict::Path);
        outage.verdict_reason = Some(Text::new("others are served"));
        outage.provisional = Some(true);
        let detail = IncidentDetail {
            timeline: vec![TimelineEntry {
                incident: outage.id.clone(),
                at: at(107),
                what: TimelineKind::Opened,
                text: Text::new("after 2 confirmations"),
            }],
            notices: vec![notice(outage.clone(), Some("timeout"))],
            conversation: Some("> POST /mcp\n< \u{9b}31m503\n".to_owned()),
            incident: outage,
        };
        let text = incidents::one(&detail, None, "my\u{1b}.toml", at(160));
        for words in [
            "since         1970-01-01T00:01:40Z (1m)",
            "verdict       path (provisional): others are served",
            "1970-01-01T00:01:47Z  opened        after 2 confirmations",
            "oncall #1 opened: waiting, 3 attempts: timeout",
            "> POST /mcp\n< \\u{9b}31m503",
            "incidents ack 1234 my\\u{1b}.toml",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        let json = incidents::one_json(&detail, None);
        assert_eq!(json["timeline"][0]["what"], "opened");
        assert_eq!(json["notices"][0]["last_error"], "timeout");
    }
}
