//! Alertmanager, API v2: alerts that are told again and again while they fire, because it forgets what it no longer
//! hears of.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::hook::{origin, post as post_json, sensitive};
use super::{Channel, Failure};
use crate::alert::message::Message;
use crate::alert::text;
use crate::model::{AlertmanagerSettings, ChannelKind, Notice, NoticeEvent};

/// An alert that is not told again ends by itself after so many times `resend`, as Prometheus has it: it outlasts a
/// restart of ours, and does not fire for ever when we are gone.
const LASTS: u32 = 4;

/// Where alerts are posted, below the URL of an instance.
const PATH: &str = "api/v2/alerts";

/// What an Alertmanager has been told of and has to be told again.
#[derive(Debug, Default)]
pub struct Firing {
    /// The last notice delivered, by incident.
    notices: BTreeMap<String, Fired>,
    /// When they are told next; none while they are being told, or when there are none.
    next: Option<Instant>,
    is_being_told: bool,
}

#[derive(Debug)]
struct Fired {
    notice: Notice,
    /// Its end waits to be delivered: it is not told again.
    ends: bool,
}

impl Firing {
    /// What an earlier process had delivered. It is told at once: nobody knows how long ago it last was.
    pub fn remember(&mut self, notice: Notice, now: Instant) {
        if notice.event == NoticeEvent::Resolved || notice.incident.resolved_at.is_some() {
            return;
        }
        self.notices
            .entry(notice.incident.id.clone())
            .or_insert(Fired {
                notice,
                ends: false,
            });
        self.next.get_or_insert(now);
    }

    /// A notice was delivered; what fires is told again at `next`.
    pub fn delivered(&mut self, notice: &Notice, next: Instant) {
        let incident = &notice.incident.id;
        if notice.event == NoticeEvent::Resolved {
            self.notices.remove(incident);
        } else {
            let ends = self.notices.get(incident).is_some_and(|fired| fired.ends);
            let notice = notice.clone();
            self.notices
                .insert(incident.clone(), Fired { notice, ends });
            self.next.get_or_insert(next);
        }
    }

    /// The end of an incident was decided on: what is told after it would make it fire again.
    pub fn ends(&mut self, incident: &str) {
        if let Some(fired) = self.notices.get_mut(incident) {
            fired.ends = true;
        }
    }

    /// What is to be told now; [`Self::told`] has to follow.
    pub fn tell(&mut self, now: Instant) -> Option<Vec<Notice>> {
        self.next.filter(|next| *next <= now)?;
        self.next = None;
        let firing: Vec<_> = self
            .notices
            .values()
            .filter(|fired| !fired.ends)
            .map(|fired| fired.notice.clone())
            .collect();
        self.is_being_told = !firing.is_empty();
        self.is_being_told.then_some(firing)
    }

    /// They were told, well or not; they are again at `next`.
    pub fn told(&mut self, next: Instant) {
        self.is_being_told = false;
        self.next = (!self.notices.is_empty()).then_some(next);
    }

    /// Whether they are being told.
    pub fn is_being_told(&self) -> bool {
        self.is_being_told
    }

    /// When [`Self::tell`] has something.
    pub fn wake_at(&self) -> Option<Instant> {
        self.next
    }

    /// Notices of a message's incidents that fire under other labels: as far as an Alertmanager knows those are other
    /// alerts, which have to end.
    pub fn stale(&self, channel: &Channel, message: &Message) -> Vec<Notice> {
        let ChannelKind::Alertmanager(settings) = &channel.settings().kind else {
            return Vec::new();
        };
        message
            .notices()
            .filter_map(|notice| {
                let fired = &self.notices.get(&notice.incident.id)?.notice;
                (labels(settings, fired) != labels(settings, notice)).then(|| fired.clone())
            })
            .collect()
    }
}

/// The alerts of notices, and the ends of those that are `stale`, as of `now`.
pub(super) fn alerts<'n>(
    settings: &AlertmanagerSettings,
    notices: impl Iterator<Item = &'n Notice>,
    stale: &[Notice],
    now: SystemTime,
) -> Value {
    let until = now + settings.resend.saturating_mul(LASTS);
    let ended = stale.iter().map(|notice| alert(settings, notice, now));
    let alerts = notices.map(|notice| {
        let end = match notice.event {
            // Never before its start, and never in the future.
            NoticeEvent::Resolved => notice.incident.resolved_at.unwrap_or(now).min(now),
            _ => until,
        };
        alert(settings, notice, end)
    });
    ended.chain(alerts).collect::<Vec<_>>().into()
}

fn alert(settings: &AlertmanagerSettings, notice: &Notice, end: SystemTime) -> Value {
    let incident = &notice.incident;
    let start = incident.first_failed_at;
    // It is an error otherwise, and a clock may have been set.
    let end = end.max(start + Duration::from_millis(1));
    let mut alert = json!({
        "labels": labels(settings, notice),
        "annotations": annotations(notice),
        "startsAt": time(start),
        "endsAt": time(end),
    });
    let link = notice.links.first().map(|link| link.url.as_str());
    let endpoint = notice.endpoint.as_ref().map(|endpoint| endpoint.as_str());
    if let Some(url) = [link, endpoint]
        .into_iter()
        .flatten()
        .find(|url| url.starts_with("http"))
    {
        alert["generatorURL"] = url.into();
    }
    alert
}

/// The identity of an alert: nothing that changes while it fires, but for a severity that rises.
fn labels(settings: &AlertmanagerSettings, notice: &Notice) -> BTreeMap<String, String> {
    let incident = &notice.incident;
    let mut labels = settings.labels.clone();
    labels.insert("alertname".to_owned(), alert_name(notice));
    labels.insert("kind".to_owned(), incident.kind.to_string());
    labels.insert("severity".to_owned(), incident.severity.to_string());
    labels.extend(
        incident
            .server
            .clone()
            .map(|server| ("server".to_owned(), server)),
    );
    labels
}

/// `McpServerOutage`, ...: in the way of Prometheus' own alerts.
fn alert_name(notice: &Notice) -> String {
    use crate::model::IncidentKind;
    match notice.incident.kind {
        IncidentKind::Outage => "McpServerOutage",
        IncidentKind::Degraded => "McpServerDegraded",
        IncidentKind::Intermittent => "McpServerIntermittent",
        IncidentKind::Isolated => "McpProberIsolated",
    }
    .to_owned()
}

fn annotations(notice: &Notice) -> BTreeMap<&'static str, String> {
    let incident = &notice.incident;
    let story = text::story(&Message::of(notice.clone()));
    let mut annotations = BTreeMap::from([
        ("summary", story.subject.clone()),
        ("description", text::plain(&story)),
        ("incident", incident.id.clone()),
        ("state", incident.state.as_str().to_owned()),
    ]);
    let words = [
        ("layer", incident.failed_layer.map(|layer| layer.as_str())),
        ("reason", incident.reason.map(|reason| reason.as_str())),
        ("verdict", incident.verdict.map(|verdict| verdict.as_str())),
    ];
    for (key, word) in words {
        annotations.extend(word.map(|word| (key, word.to_owned())));
    }
    annotations.extend(incident.trace_id.map(|id| ("trace_id", id.to_string())));
    annotations
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Every instance has to take them: a cluster shares what it has sent, not what it was told.
pub(super) async fn post(
    settings: &AlertmanagerSettings,
    client: &reqwest::Client,
    alerts: &Value,
) -> Result<(), Failure> {
    let body = alerts.to_string();
    let mut failures = Vec::new();
    for url in &settings.urls {
        let url = format!("{}/{PATH}", url.trim_end_matches('/'));
        let mut headers = Vec::new();
        if let Some(authorization) = &settings.authorization {
            headers.push((AUTHORIZATION, sensitive(authorization.expose())?));
        }
        let posted = post_json(client, &url, headers, body.clone()).await;
        if let Err(failure) = posted.and_then(|answer| answer.accepted(&url)) {
            failures.push((url, failure));
        }
    }
    let count = failures.len();
    let Some((url, first)) = failures.into_iter().next() else {
        return Ok(());
    };
    let others = match count {
        1 => String::new(),
        count => format!(
            " (and {} other instances; first {})",
            count - 1,
            origin(&url)
        ),
    };
    Err(Failure {
        why: format!("{}{others}", first.why).into(),
        ..first
    })
}
