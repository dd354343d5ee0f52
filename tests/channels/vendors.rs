//! Every channel against a receiver that checks what its vendor's documentation demands: one file of
//! `data/channels/` for each case.

use std::path::{Path, PathBuf};

use mcpprobe::alert::{Channel, http_client};
use mcpprobe::model::DeliveryOutcome;
use serde::Deserialize;
use serde_json::Value;

use super::bench::{Bench, channels, run};
use super::notice;
use super::receiver::{Answer, Receiver, Request};
use crate::support::here;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// A `[[channel]]` without its name; `{url}` is the receiver.
    channel: String,
    /// Names of files of `data/notices/`.
    notices: Vec<String>,
    /// What the receiver says, one after the other; then 200. `429 RETRY_AFTER BODY`, `500 - BODY`, `hang`, ...
    #[serde(default)]
    answers: Vec<String>,
    /// Phrases of the failures that are told, one after the other.
    #[serde(default)]
    failures: Vec<String>,
    /// What the last request of each notice looks like.
    #[serde(default)]
    request: Vec<Expected>,
    /// What no request holds.
    #[serde(default)]
    nowhere: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    path: String,
    #[serde(default)]
    headers: toml::Table,
    /// What has to be in the body: `*` is anything, `~text` holds the text.
    #[serde(default)]
    body: Option<toml::Value>,
}

fn answer(text: &str) -> Answer {
    let mut words = text.splitn(3, ' ');
    match words.next().unwrap() {
        "hang" => Answer::Hang,
        "reset" => Answer::Reset,
        "cut" => Answer::Cut,
        status => Answer::Status(
            status.parse().unwrap(),
            words.next().and_then(|word| word.parse().ok()),
            words.next().unwrap_or_default().to_owned(),
        ),
    }
}

/// Where `found` is not what was expected.
fn difference(expected: &Value, found: &Value, place: &str) -> Option<String> {
    match (expected, found) {
        (Value::String(word), found) if word == "*" => {
            found.is_null().then(|| format!("{place} is missing"))
        }
        (Value::String(word), Value::String(found)) if word.starts_with('~') => (!found
            .contains(&word[1..]))
        .then(|| format!("{place}: {found:?} lacks {:?}", &word[1..])),
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().find_map(|(key, value)| {
                difference(
                    value,
                    found.get(key).unwrap_or(&Value::Null),
                    &format!("{place}.{key}"),
                )
            })
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => expected
            .iter()
            .zip(found)
            .enumerate()
            .find_map(|(index, (e, f))| difference(e, f, &format!("{place}[{index}]"))),
        (expected, found) => {
            (expected != found).then(|| format!("{place}: {found} is not {expected}"))
        }
    }
}

fn check_request(expected: &Expected, request: &Request) -> Vec<String> {
    let mut wrong = Vec::new();
    if request.method != "POST" || !["*", &request.path].contains(&expected.path.as_str()) {
        wrong.push(format!("{} {}", request.method, request.path));
    }
    for (name, value) in &expected.headers {
        let expected = Value::from(value.as_str().unwrap());
        let found = request.header(name).map_or(Value::Null, Value::from);
        wrong.extend(difference(&expected, &found, name));
    }
    if let Some(body) = &expected.body {
        let expected = serde_json::to_value(body).unwrap();
        wrong.extend(difference(&expected, &request.json(), "body"));
    }
    wrong
}

/// What a vendor refuses: limits and words of its documentation.
fn demands(kind: &str, body: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{kind} demands: {what}: {body}"));
        }
    };
    match kind {
        "slack" => slack(body, &mut demand),
        "discord" => discord(body, &mut demand),
        "telegram" => telegram(body, &mut demand),
        "ntfy" => ntfy(body, &mut demand),
        "pagerduty" => pagerduty(body, &mut demand),
        "teams" => teams(body, &mut demand),
        "alertmanager" => alertmanager(body, &mut demand),
        _ => {}
    }
    wrong
}

fn length(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.chars().count())
}

fn slack(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    demand(length(&body["text"]) > 0, "a text");
    let blocks = body["blocks"].as_array().unwrap();
    demand((1..=50).contains(&blocks.len()), "1 to 50 blocks");
    for block in blocks {
        match block["type"].as_str() {
            Some("header") => {
                demand(
                    block["text"]["type"] == "plain_text",
                    "plain text in a header",
                );
                demand(
                    (1..=150).contains(&length(&block["text"]["text"])),
                    "150 in a header",
                );
            }
            Some("section") if block["fields"].is_array() => {
                let fields = block["fields"].as_array().unwrap();
                demand((1..=10).contains(&fields.len()), "1 to 10 fields");
                for field in fields {
                    demand(
                        (1..=2_000).contains(&length(&field["text"])),
                        "2000 in a field",
                    );
                }
            }
            Some("section") => {
                demand(
                    (1..=3_000).contains(&length(&block["text"]["text"])),
                    "3000 in a section",
                );
            }
            other => demand(false, &format!("a known block, not {other:?}")),
        }
    }
}

fn discord(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    let embed = &body["embeds"][0];
    demand(
        body["allowed_mentions"]["parse"] == serde_json::json!([]),
        "no mentions",
    );
    demand(
        (1..=256).contains(&length(&embed["title"])),
        "256 in a title",
    );
    demand(
        length(&embed["description"]) <= 4_096,
        "4096 in a description",
    );
    demand(
        embed["color"].as_u64().is_some_and(|c| c <= 0xff_ff_ff),
        "a colour",
    );
    let fields = embed["fields"].as_array().unwrap();
    demand(fields.len() <= 25, "25 fields");
    let mut total = length(&embed["title"]) + length(&embed["description"]);
    for field in fields {
        demand(
            (1..=256).contains(&length(&field["name"])),
            "256 in a field's name",
        );
        demand(
            (1..=1_024).contains(&length(&field["value"])),
            "1024 in a field",
        );
        total += length(&field["name"]) + length(&field["value"]);
    }
    demand(total <= 6_000, "6000 in all");
}

fn telegram(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    let text = body["text"].as_str().unwrap();
    demand(
        (1..=4_096).contains(&text.chars().count()),
        "4096 characters",
    );
    for tag in ["b", "code", "a"] {
        let open =
            text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
        demand(
            open == text.matches(&format!("</{tag}>")).count(),
            "closed tags",
        );
    }
    let known = ["<b>", "</b>", "<code>", "</code>", "<a href=", "</a>"];
    let other = text
        .match_indices('<')
        .all(|(at, _)| known.iter().any(|tag| text[at..].starts_with(tag)));
    demand(other, "known tags only");
}

fn ntfy(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    demand(
        body["message"].as_str().unwrap().len() <= 4_096,
        "4096 bytes",
    );
    demand(
        (1..=5).contains(&body["priority"].as_u64().unwrap()),
        "a priority of 1 to 5",
    );
    demand(body["actions"].as_array().unwrap().len() <= 3, "3 actions");
}

fn pagerduty(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    let payload = &body["payload"];
    demand(
        ["trigger", "acknowledge", "resolve"].contains(&body["event_action"].as_str().unwrap()),
        "an action",
    );
    demand(
        (1..=255).contains(&length(&body["dedup_key"])),
        "255 in a key",
    );
    demand(
        (1..=1_024).contains(&length(&payload["summary"])),
        "1024 in a summary",
    );
    demand(
        ["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()),
        "a severity",
    );
    demand(length(&payload["source"]) > 0, "a source");
}

fn teams(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    demand(body.to_string().len() <= 28 * 1024, "28 KB");
    demand(
        body["attachments"][0]["content"]["version"] == "1.4",
        "version 1.4",
    );
}

fn alertmanager(body: &Value, demand: &mut dyn FnMut(bool, &str)) {
    for alert in body.as_array().unwrap() {
        demand(
            alert["labels"]
                .as_object()
                .unwrap()
                .values()
                .all(Value::is_string),
            "labels of text",
        );
        demand(
            alert["annotations"]
                .as_object()
                .unwrap()
                .values()
                .all(Value::is_string),
            "annotations of text",
        );
        let time = |key: &str| humantime::parse_rfc3339(alert[key].as_str().unwrap()).unwrap();
        demand(time("startsAt") < time("endsAt"), "an end after the start");
    }
}

async fn play(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let answers: Vec<_> = case.answers.iter().map(|text| answer(text)).collect();
    let said = answers.clone();
    let receiver = Receiver::start(move |before, _| {
        said.get(before)
            .cloned()
            .unwrap_or(Answer::Status(200, None, "ok".to_owned()))
    });
    let text = format!(
        "[[channel]]\nname = \"it\"\nretry_first = \"100ms\"\nretry_max = \"100ms\"\n{}",
        case.channel.replace("{url}", &receiver.url("")).replace(
            "{authorized}",
            &receiver.url("").replace("://", "://user:s3cret@")
        )
    );
    let settings = channels(&text, &here("data"));
    let kind = settings[0].kind.as_str();
    let mut bench = Bench::start(&text);
    let mut failures = Vec::new();
    let mut wrong = Vec::new();
    let mut last = Vec::new();
    for name in &case.notices {
        let message = notice::message_of_file(name, "it");
        if message.count() > 1 {
            let channel = Channel::new(settings[0].clone(), http_client().unwrap());
            let sent = channel.deliver(&message, &[]).await;
            failures.extend(sent.err().map(|failure| failure.why.to_string()));
        } else {
            bench.send(message.first);
            let (failed, delivery) = bench.settled().await;
            failures.extend(failed);
            if delivery.outcome != DeliveryOutcome::Delivered {
                wrong.push(format!("{name}: {:?}", delivery.outcome));
            }
        }
        last.extend(receiver.requests().last().cloned());
    }
    if failures.len() != case.failures.len() {
        wrong.push(format!("failures: {failures:#?}"));
    }
    for (expected, found) in case.failures.iter().zip(&failures) {
        if !expected.split(" | ").all(|phrase| found.contains(phrase)) {
            wrong.push(format!("{found:?} lacks {expected:?}"));
        }
    }
    if case.request.len() != case.notices.len() {
        wrong.push("a [[request]] for each notice is missing".to_owned());
    }
    for (expected, request) in case.request.iter().zip(&last) {
        wrong.extend(check_request(expected, request));
    }
    let requests = receiver.requests();
    for request in &requests {
        wrong.extend(demands(kind, &request.json()));
        for text in &case.nowhere {
            if request.body.contains(text) {
                wrong.push(format!("{text:?} is in {}", request.body));
            }
        }
    }
    // What a receiver asked for it got: the time before the next request is no less.
    for ((before, after), answer) in requests.iter().zip(&requests[1..]).zip(&answers) {
        if let Answer::Status(_, Some(seconds), _) = answer
            && after.at.duration_since(before.at).as_secs() < *seconds
        {
            wrong.push("it came again before its time".to_owned());
        }
    }
    // No secret is told, whatever a receiver repeats.
    for failure in &failures {
        for secret in ["s3cret", "/hook/T0123456/", "T0123456"] {
            if failure.contains(secret) {
                wrong.push(format!("told: {failure}"));
            }
        }
    }
    wrong
}

#[test]
fn every_vendor_gets_what_its_documentation_demands() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(here("data/channels"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 15, "only {} files", files.len());
    let mut failed = Vec::new();
    run(async {
        for path in &files {
            let wrong = play(path).await;
            if !wrong.is_empty() {
                let name = path.file_name().unwrap().to_string_lossy();
                failed.push(format!("{name}:\n  {}", wrong.join("\n  ")));
            }
        }
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
