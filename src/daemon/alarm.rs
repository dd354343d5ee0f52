//! Somebody else's alert: whose fault is what it tells of?
//!
//! It comes as `{"server", "at"}`, or as what Prometheus' Alertmanager posts to a webhook.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::inquiry::{Finding, Inquiry, Subject};
use crate::correlate::Claim;
use crate::model::{Endpoint, Target, Text};
use crate::report;
use crate::store::Reader;

/// Bytes of a document: Alertmanager's own groups stay far below.
pub const MAX_ALARM: usize = 1024 * 1024;

/// Alerts of one document that a backend is asked about; it is somebody else's, and has its own work.
const MAX_ALERTS: usize = 20;

/// Labels that may name a server, the plainest first.
const LABELS: [&str; 8] = [
    "server",
    "mcp_server",
    "target",
    "instance",
    "url",
    "service",
    "job",
    "host",
];

/// The year 2000: nothing that can be asked about is older.
const OLDEST: Duration = Duration::from_secs(946_684_800);

/// One alert of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What it was called there.
    pub called: Text,
    /// The target and the time, or why there is nothing to ask about.
    pub about: Result<(String, SystemTime), String>,
}

/// What became of an alert.
pub struct Answered {
    /// What it was called.
    pub called: Text,
    /// Whose fault it is, or why nobody could be asked.
    pub finding: Result<Finding, String>,
}

/// Answers `POST /api/correlate`: JSON of one verdict, or of as many as the document has alerts.
///
/// # Errors
/// A sentence about a document that is no alert: the caller's fault.
pub async fn answer_correlate(
    inquiry: &Inquiry,
    body: &[u8],
    now: SystemTime,
) -> Result<Value, String> {
    let (is_one, answers) = answer_alarms(inquiry, body, now).await?;
    let mut answers = answers.into_iter();
    match (is_one, answers.next(), answers) {
        (true, Some(only), _) => {
            let finding = only.finding?;
            Ok(report::verdict::json(&finding.asked, &finding.judgement))
        }
        (_, first, rest) => {
            let answers: Vec<_> = first.into_iter().chain(rest).collect();
            Ok(many(&answers))
        }
    }
}

/// The JSON of several alerts, in their order.
pub fn many(answers: &[Answered]) -> Value {
    let one = |answer: &Answered| match &answer.finding {
        Ok(finding) => json!({
            "alert": answer.called,
            "verdict": report::verdict::json(&finding.asked, &finding.judgement),
            "error": null,
        }),
        Err(why) => json!({ "alert": answer.called, "verdict": null, "error": Text::new(why) }),
    };
    json!({ "schema": 1, "alerts": answers.iter().map(one).collect::<Vec<_>>() })
}

/// Asks about each alert of a document, one after the other; says whether it was a document of one by its form.
///
/// # Errors
/// A sentence about a document that is no alert.
pub async fn answer_alarms(
    inquiry: &Inquiry,
    body: &[u8],
    now: SystemTime,
) -> Result<(bool, Vec<Answered>), String> {
    let (is_one, alarms) = read_alarms(body, &inquiry.targets, now)?;
    let mut answers = Vec::new();
    for alarm in alarms {
        let finding = match alarm.about {
            Ok((server, at)) => about(inquiry, server, at).await,
            Err(why) => Err(why),
        };
        answers.push(Answered {
            called: alarm.called,
            finding,
        });
    }
    Ok((is_one, answers))
}

/// A time inside a stored incident means that incident.
async fn about(inquiry: &Inquiry, server: String, at: SystemTime) -> Result<Finding, String> {
    let (store, name) = (inquiry.store.clone(), server.clone());
    let stored = tokio::task::spawn_blocking(move || match Reader::open_if_made(&store)? {
        Some(reader) => reader.incident_at(&name, at),
        None => Ok(None),
    })
    .await
    .map_err(|error| format!("cannot read the store: {error}"))??;
    let at = stored
        .as_ref()
        .map_or(at, |incident| incident.first_failed_at);
    let subject = Subject {
        target: server,
        incident: stored.map(|incident| incident.id),
        at,
    };
    // It has its turn as an incident of ours has.
    let asking = inquiry.turn(&subject.target, Claim::NeverAsked, None).await;
    inquiry.about(subject, asking).await
}

#[derive(Deserialize)]
struct Own {
    server: String,
    at: String,
}

/// The part of Alertmanager's document that matters.
#[derive(Deserialize)]
struct Webhook {
    alerts: Vec<WebhookAlert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WebhookAlert {
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    starts_at: String,
}

/// Reads a document; whether it is of one alert by its form.
///
/// # Errors
/// A sentence about what it is not.
pub fn read_alarms(
    body: &[u8],
    targets: &[Arc<Target>],
    now: SystemTime,
) -> Result<(bool, Vec<Alarm>), String> {
    if body.len() > MAX_ALARM {
        return Err(format!("the document is larger than {MAX_ALARM} bytes"));
    }
    let document: Value = serde_json::from_slice(body)
        .map_err(|error| format!("the document is no JSON: {error}"))?;
    if document.get("alerts").is_none() {
        let own: Own = serde_json::from_value(document).map_err(|_| {
            "the document is neither {\"server\", \"at\"} nor what Alertmanager posts".to_owned()
        })?;
        let about = time(&own.at, now).and_then(|at| {
            let is_it = |target: &&Arc<Target>| target.name == own.server;
            let found = targets.iter().find(is_it);
            found
                .map(|target| (target.name.clone(), at))
                .ok_or_else(|| format!("there is no server {}", Text::new(&own.server)))
        });
        let called = Text::new(&own.server);
        return Ok((true, vec![Alarm { called, about }]));
    }
    let webhook: Webhook = serde_json::from_value(document)
        .map_err(|error| format!("the alerts are none of Alertmanager's: {error}"))?;
    if webhook.alerts.len() > MAX_ALERTS {
        return Err(format!(
            "the document has {} alerts: at most {MAX_ALERTS} are asked about at once",
            webhook.alerts.len()
        ));
    }
    let alarms = webhook.alerts.iter();
    Ok((
        false,
        alarms.map(|alert| alarm(alert, targets, now)).collect(),
    ))
}

fn alarm(alert: &WebhookAlert, targets: &[Arc<Target>], now: SystemTime) -> Alarm {
    let name = alert
        .labels
        .get("alertname")
        .map_or("alert", String::as_str);
    let labels = LABELS.iter().filter_map(|label| {
        let value = alert.labels.get(*label)?;
        Some(format!("{label}={value}"))
    });
    let called = Text::new(format!("{name} {}", labels.collect::<Vec<_>>().join(" ")));
    let about = if alert.status == "resolved" {
        Err("it is resolved: nobody has to know whose fault it is now".to_owned())
    } else {
        target_of(&alert.labels, targets)
            .and_then(|server| Ok((server, time(&alert.starts_at, now)?)))
    };
    Alarm { called, about }
}

/// By a target's name first, whatever the label; then by where it is.
fn target_of(labels: &BTreeMap<String, String>, targets: &[Arc<Target>]) -> Result<String, String> {
    let values = || LABELS.iter().filter_map(|label| labels.get(*label));
    let mut names = values().filter_map(|value| targets.iter().find(|t| t.name == *value));
    if let Some(target) = names.next() {
        return Ok(target.name.clone());
    }
    for value in values() {
        let there: Vec<_> = targets.iter().filter(|t| is_at(t, value)).collect();
        match there.as_slice() {
            [] => {}
            [only] => return Ok(only.name.clone()),
            several => {
                let names: Vec<_> = several.iter().map(|target| target.name.as_str()).collect();
                return Err(format!(
                    "several servers are at {}: {}",
                    Text::new(value),
                    names.join(", ")
                ));
            }
        }
    }
    Err(format!(
        "no label names a server by its name or URL ({} were looked at)",
        LABELS.join(", ")
    ))
}

/// Whether `value` is the target's URL, or its host, with a port or without.
fn is_at(target: &Target, value: &str) -> bool {
    let Endpoint::Http(http) = &target.endpoint else {
        return false;
    };
    let ours = &http.url;
    if let Ok(url) = Url::parse(value)
        && url.has_host()
    {
        let at = |url: &Url| {
            let path = url.path().trim_end_matches('/').to_owned();
            (
                url.host_str().map(str::to_owned),
                url.port_or_known_default(),
                path,
            )
        };
        return at(&url) == at(ours);
    }
    let host = ours.host_str().unwrap_or_default();
    let port = ours.port_or_known_default().unwrap_or_default();
    value.eq_ignore_ascii_case(host) || value.eq_ignore_ascii_case(&format!("{host}:{port}"))
}

/// RFC 3339 with any offset, in the past.
fn time(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let shown = Text::new(text);
    let at = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| format!("{shown} is no time such as 2026-11-20T10:03:00Z"))?;
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    let since = Duration::new(seconds, at.timestamp_subsec_nanos());
    let at = UNIX_EPOCH.checked_add(since).filter(|at| *at <= now);
    at.filter(|at| *at >= UNIX_EPOCH + OLDEST)
        .ok_or_else(|| format!("{shown} lies in the future, or before there were traces"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdHoc;

    fn targets() -> Vec<Arc<Target>> {
        let target = |name: &str, url: &str| {
            let mut target = AdHoc::Url(url.parse().unwrap())
                .target(None, &|_| None)
                .unwrap();
            target.name = name.to_owned();
            Arc::new(target)
        };
        vec![
            target("weather", "https://weather.example/mcp"),
            target("files", "http://files.example:8080/mcp"),
            target("files-2", "http://files.example:8080/other"),
        ]
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    fn webhook(alerts: &Value) -> Vec<Alarm> {
        let body = json!({ "version": "4", "status": "firing", "alerts": alerts }).to_string();
        let (is_one, alarms) = read_alarms(body.as_bytes(), &targets(), now()).unwrap();
        assert!(!is_one);
        alarms
    }

    fn server(labels: &Value) -> Result<String, String> {
        let alert =
            json!([{ "status": "firing", "labels": labels, "startsAt": "2026-11-01T10:03:00Z" }]);
        let about = webhook(&alert).remove(0).about;
        about.map(|(server, _)| server)
    }

    #[test]
    fn a_label_names_a_server_or_says_where_it_is() {
        for (labels, expected) in [
            (json!({ "server": "weather" }), "weather"),
            (
                json!({ "mcp_server": "files", "instance": "nonsense" }),
                "files",
            ),
            (
                json!({ "job": "weather", "instance": "10.0.0.1:9115" }),
                "weather",
            ),
            (
                json!({ "instance": "https://weather.example/mcp/" }),
                "weather",
            ),
            (
                json!({ "instance": "https://weather.example:443/mcp" }),
                "weather",
            ),
            (json!({ "instance": "Weather.example:443" }), "weather"),
            (json!({ "host": "weather.example" }), "weather"),
            (
                json!({ "instance": "http://files.example:8080/other" }),
                "files-2",
            ),
        ] {
            assert_eq!(server(&labels).as_deref(), Ok(expected), "{labels}");
        }
        for (labels, words) in [
            (
                json!({ "instance": "files.example:8080" }),
                "several servers",
            ),
            (
                json!({ "instance": "https://other.example/mcp" }),
                "no label",
            ),
            (json!({ "alertname": "weather" }), "no label"),
            (json!({}), "no label"),
        ] {
            let why = server(&labels).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn every_alert_has_its_time_and_a_resolved_one_none() {
        let alarms = webhook(&json!([
            { "status": "firing", "labels": { "server": "weather" }, "startsAt": "2026-11-01T12:03:00.5+02:00" },
            { "status": "resolved", "labels": { "server": "weather" }, "startsAt": "2026-11-01T10:03:00Z" },
            { "labels": { "server": "files" }, "startsAt": "0001-01-01T00:00:00Z" },
            { "labels": { "server": "files" }, "startsAt": "2999-01-01T00:00:00Z" },
            { "labels": { "server": "files" }, "startsAt": "yesterday" },
        ]));
        let at = alarms[0].about.clone().unwrap().1;
        let shown = humantime::format_rfc3339_millis(at).to_string();
        assert_eq!(shown, "2026-11-01T10:03:00.500Z");
        for (alarm, words) in alarms[1..]
            .iter()
            .zip(["resolved", "before", "future", "no time"])
        {
            let why = alarm.about.clone().unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn what_is_no_alert_is_refused_with_a_reason() {
        let read = |body: &str| read_alarms(body.as_bytes(), &targets(), now());
        let (is_one, own) = read(r#"{"server":"weather","at":"2026-11-01T10:03:00Z"}"#).unwrap();
        assert!(is_one && own[0].about.is_ok());
        let (_, own) = read(r#"{"server":"wether","at":"2026-11-01T10:03:00Z"}"#).unwrap();
        assert!(
            own[0]
                .about
                .clone()
                .unwrap_err()
                .contains("no server wether")
        );
        let many = format!(
            r#"{{"alerts":[{}]}}"#,
            [r#"{"startsAt":"x"}"#; 21].join(",")
        );
        for (body, words) in [
            ("", "no JSON"),
            ("[]", "neither"),
            (r#"{"server":"weather"}"#, "neither"),
            (r#"{"alerts":7}"#, "none of Alertmanager's"),
            (&many, "21 alerts"),
            (&"[".repeat(10_000), "no JSON"),
            (&" ".repeat(MAX_ALARM + 1), "larger than"),
        ] {
            let why = read(body).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
