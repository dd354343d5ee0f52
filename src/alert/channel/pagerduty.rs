//! PagerDuty's Events API v2: one alert for each incident, by its id.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::hook::post;
use super::{Failure, cut};
use crate::alert::message::Message;
use crate::alert::text::story;
use crate::model::{Notice, NoticeEvent, Secret, Severity};

/// PagerDuty's limit of a summary, in characters.
const MAX_SUMMARY: usize = 1_024;

pub(super) async fn send(
    url: &str,
    routing_key: &Secret,
    client: &reqwest::Client,
    message: &Message,
) -> Result<(), Failure> {
    let url = format!("{}/v2/enqueue", url.trim_end_matches('/'));
    // One event for each: grouping is PagerDuty's own work. A repetition of the first ones changes nothing there.
    for notice in message.notices() {
        let body = event(routing_key, notice).to_string();
        post(client, &url, Vec::new(), body).await?.accepted(&url)?;
    }
    Ok(())
}

fn event(routing_key: &Secret, notice: &Notice) -> Value {
    let incident = &notice.incident;
    let story = story(&Message::of(notice.clone()));
    let action = match notice.event {
        NoticeEvent::Resolved => "resolve",
        _ if incident.acknowledged.is_some() => "acknowledge",
        _ => "trigger",
    };
    let severity = match incident.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let details: serde_json::Map<_, _> = story
        .facts
        .iter()
        .map(|fact| (fact.name.to_owned(), Value::from(fact.value.as_str())))
        .collect();
    let links: Vec<_> = notice
        .links
        .iter()
        .map(|link| json!({ "href": link.url, "text": link.name }))
        .collect();
    json!({
        "routing_key": routing_key.expose(),
        "event_action": action,
        "dedup_key": incident.id,
        "client": "mcpprobe",
        "payload": {
            "summary": cut(&story.subject, MAX_SUMMARY),
            "source": incident.server.as_deref().unwrap_or("mcpprobe"),
            "severity": severity,
            "timestamp": time(incident.first_failed_at),
            "component": incident.server,
            "group": notice.tags.first(),
            "class": incident.reason.map(|reason| reason.as_str()),
            "custom_details": details,
        },
        "links": links,
    })
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
