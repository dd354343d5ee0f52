//! What an alert policy would have paged, beside what was paged.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::incidents::why;
use super::json::SCHEMA;
use super::table::{Look, dash, draw};
use super::{as_bad_as, rfc3339, shown_time};
use crate::model::{Incident, Notice, NoticeEvent, State, spoken};

/// Both stories of the same probes.
pub struct Replayed {
    /// Where they begin.
    pub since: SystemTime,
    /// How many probes there were.
    pub probes: usize,
    /// With the policy that was asked about.
    pub would: Story,
    /// As it was.
    pub was: Story,
}

/// Incidents, and who was told of them.
pub struct Story {
    incidents: Vec<(Incident, Vec<Notice>)>,
}

impl Story {
    /// Puts notices to their incidents.
    pub fn of(incidents: Vec<Incident>, notices: Vec<Notice>) -> Self {
        let told = |incident: Incident| {
            let about = notices.iter().filter(|n| n.incident.id == incident.id);
            let about = about.cloned().collect();
            (incident, about)
        };
        Self {
            incidents: incidents.into_iter().map(told).collect(),
        }
    }

    fn pages(&self) -> usize {
        let notices = self.incidents.iter().flat_map(|(_, notices)| notices);
        notices
            .filter(|notice| notice.event == NoticeEvent::Opened)
            .count()
    }

    fn notices(&self) -> usize {
        self.incidents
            .iter()
            .map(|(_, notices)| notices.len())
            .sum()
    }
}

/// One trouble as both stories have it.
struct Pair<'a> {
    would: Option<&'a (Incident, Vec<Notice>)>,
    was: Option<&'a (Incident, Vec<Notice>)>,
}

impl<'a> Pair<'a> {
    fn incident(&self) -> Option<&'a Incident> {
        self.would.or(self.was).map(|(incident, _)| incident)
    }
}

/// Puts together what is about the same: of one server and kind, and at the same time.
fn pairs<'a>(replayed: &'a Replayed) -> Vec<Pair<'a>> {
    let mut left: Vec<_> = replayed.was.incidents.iter().collect();
    let mut pairs: Vec<_> = replayed
        .would
        .incidents
        .iter()
        .map(|would| {
            let at = left.iter().position(|was| is_same(&would.0, &was.0));
            Pair {
                would: Some(would),
                was: at.map(|at| left.remove(at)),
            }
        })
        .collect();
    pairs.extend(left.into_iter().map(|was| Pair {
        would: None,
        was: Some(was),
    }));
    pairs.sort_by_key(|pair| pair.incident().map(|incident| incident.first_failed_at));
    pairs
}

fn is_same(one: &Incident, other: &Incident) -> bool {
    let overlaps = |a: &Incident, b: &Incident| {
        b.resolved_at
            .is_none_or(|resolved| a.first_failed_at <= resolved)
    };
    one.server == other.server
        && one.kind == other.kind
        && overlaps(one, other)
        && overlaps(other, one)
}

/// The table of `incidents replay`, with a sentence that sums it up.
pub fn table(replayed: &Replayed, now: SystemTime, look: Look) -> String {
    let summary = format!(
        "{} probes since {}: this policy would have sent {} notices, {} of them openings; there were {}, {} of them openings\n",
        replayed.probes,
        shown_time(replayed.since),
        replayed.would.notices(),
        replayed.would.pages(),
        replayed.was.notices(),
        replayed.was.pages(),
    );
    let pairs = pairs(replayed);
    if pairs.is_empty() {
        return format!("no incidents, with this policy or without\n{summary}");
    }
    let head = ["SINCE", "SERVER", "SEVERITY", "KIND", "WOULD", "WAS", "WHY"];
    let mut rows = vec![head.map(str::to_owned)];
    let mut states = Vec::new();
    for pair in &pairs {
        let Some(incident) = pair.incident() else {
            continue;
        };
        states.push(match pair.would {
            Some((incident, _)) => as_bad_as(incident.severity),
            None => State::Unknown,
        });
        rows.push([
            shown_time(incident.first_failed_at),
            incident.server.clone().unwrap_or_else(dash),
            incident.severity.to_string(),
            incident.kind.to_string(),
            cell(pair.would, now),
            cell(pair.was, now),
            why(incident),
        ]);
    }
    format!("{}\n{summary}", draw(rows, &states, look))
}

/// How late somebody was told, how often, and how long it lasted.
fn cell(told: Option<&(Incident, Vec<Notice>)>, now: SystemTime) -> String {
    let Some((incident, notices)) = told else {
        return "no incident".to_owned();
    };
    let lasted = incident
        .resolved_at
        .unwrap_or(now)
        .duration_since(incident.first_failed_at)
        .unwrap_or_default();
    let lasted = spoken(lasted);
    let opened = notices.iter().find(|n| n.event == NoticeEvent::Opened);
    match opened {
        None => format!("nobody told, {lasted}"),
        Some(opened) => {
            let after = opened
                .created_at
                .duration_since(incident.first_failed_at)
                .unwrap_or_default();
            let count = notices.len();
            format!("told after {}, {count} notices, {lasted}", spoken(after))
        }
    }
}

/// `incidents replay --format json`.
pub fn json(replayed: &Replayed) -> Value {
    json!({
        "schema": SCHEMA,
        "since": rfc3339(replayed.since),
        "probes": replayed.probes,
        "would": story(&replayed.would),
        "was": story(&replayed.was),
    })
}

fn story(story: &Story) -> Value {
    let incidents = story.incidents.iter().map(|(incident, notices)| {
        let notices = notices.iter().map(|notice| {
            json!({
                "channel": notice.channel,
                "sequence": notice.sequence,
                "event": notice.event,
                "at": rfc3339(notice.created_at),
            })
        });
        json!({
            "incident": incident.id,
            "server": incident.server,
            "kind": incident.kind,
            "severity": incident.severity,
            "failed_layer": incident.failed_layer,
            "reason": incident.reason,
            "message": incident.message,
            "first_failed_at": rfc3339(incident.first_failed_at),
            "opened_at": rfc3339(incident.opened_at),
            "resolved_at": incident.resolved_at.map(rfc3339),
            "notices": notices.collect::<Vec<_>>(),
        })
    });
    incidents.collect()
}
