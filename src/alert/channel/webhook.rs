//! The webhook: one POST for each notice, with the body that the README promises, signed as Standard Webhooks do.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ring::hmac;
use serde_json::{Map, Value, json};

use super::Failure;
use super::hook::{post, sensitive};
use crate::alert::message::Message;
use crate::model::{Notice, Secret, WebhookFormat, WebhookSettings};

/// What a symmetric secret of Standard Webhooks begins with; the rest is base64.
const SECRET_PREFIX: &str = "whsec_";

/// CloudEvents' `source`: who says so, the same on every machine.
const SOURCE: &str = "mcpprobe";

pub(super) async fn send(
    settings: &WebhookSettings,
    client: &reqwest::Client,
    message: &Message,
    now: SystemTime,
) -> Result<(), Failure> {
    let id = message.key();
    let body = match &settings.format {
        WebhookFormat::Plain => body(message).to_string(),
        WebhookFormat::CloudEvents => cloud_event(message).to_string(),
        WebhookFormat::Template(template) => filled(template, &body(message)),
    };
    let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut headers = Vec::new();
    if settings.format == WebhookFormat::CloudEvents {
        headers.push((
            CONTENT_TYPE,
            HeaderValue::from_static("application/cloudevents+json"),
        ));
    }
    for (name, value) in &settings.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Failure::lasting("a name of a header cannot be sent"))?;
        headers.push((name, sensitive(value.expose())?));
    }
    headers.push((
        HeaderName::from_static("webhook-id"),
        HeaderValue::from_str(&id)
            .map_err(|_| Failure::lasting("the notice's key cannot be sent"))?,
    ));
    headers.push((
        HeaderName::from_static("webhook-timestamp"),
        HeaderValue::from(timestamp),
    ));
    if let Some(secret) = &settings.secret {
        let signature = signature(secret, &id, timestamp, &body)?;
        headers.push((
            HeaderName::from_static("webhook-signature"),
            sensitive(&signature)?,
        ));
    }
    let url = settings.url.expose();
    post(client, url, headers, body)
        .await?
        .accepted(url)
        .map(drop)
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
fn signature(secret: &Secret, id: &str, timestamp: u64, body: &str) -> Result<String, Failure> {
    let key = signing_key(secret.expose()).map_err(Failure::lasting)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(tag)))
}

/// The bytes that a secret stands for: `whsec_` and base64, or the text itself.
fn signing_key(secret: &str) -> Result<Vec<u8>, &'static str> {
    match secret.strip_prefix(SECRET_PREFIX) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| "the secret begins with whsec_ and does not go on in base64"),
        None => Ok(secret.as_bytes().to_vec()),
    }
}

/// The body of a message. Of several notices it is the first one's, with all of them in `notices` besides.
pub(super) fn body(message: &Message) -> Value {
    let mut body = notice_body(&message.first);
    if !message.others.is_empty() {
        let all: Vec<_> = message
            .notices()
            .map(notice_body)
            .map(Value::from)
            .collect();
        body.insert("notices".to_owned(), all.into());
    }
    body.into()
}

fn notice_body(notice: &Notice) -> Map<String, Value> {
    let incident = &notice.incident;
    let links: Vec<_> = notice
        .links
        .iter()
        .map(|link| json!({ "name": link.name, "url": link.url }))
        .collect();
    let pairs = [
        ("schema", json!(1)),
        ("event", json!(notice.event.as_str())),
        ("incident", json!(incident.id)),
        ("sequence", json!(notice.sequence)),
        ("server", json!(incident.server)),
        ("tags", json!(notice.tags)),
        ("severity", json!(incident.severity.as_str())),
        ("state", json!(incident.state.as_str())),
        (
            "failed_layer",
            json!(incident.failed_layer.map(|layer| layer.as_str())),
        ),
        (
            "reason",
            json!(incident.reason.map(|reason| reason.as_str())),
        ),
        ("message", json!(incident.message.as_str())),
        ("first_failed_at", time(incident.first_failed_at)),
        ("sent_at", time(notice.created_at)),
        (
            "resolved_at",
            incident.resolved_at.map_or(Value::Null, time),
        ),
        (
            "verdict",
            json!(incident.verdict.map(|verdict| verdict.as_str())),
        ),
        ("provisional", json!(incident.provisional)),
        (
            "trace_id",
            json!(incident.trace_id.map(|id| id.to_string())),
        ),
        ("links", json!(links)),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn time(at: SystemTime) -> Value {
    humantime::format_rfc3339_millis(at).to_string().into()
}

/// Structured mode: the body stands in `data`.
fn cloud_event(message: &Message) -> Value {
    let notice = &message.first;
    json!({
        "specversion": "1.0",
        "id": message.key(),
        "source": SOURCE,
        "type": format!("dev.mcpprobe.incident.{}", notice.event),
        "subject": notice.incident.server,
        "time": time(notice.created_at),
        "datacontenttype": "application/json",
        "data": body(message),
    })
}

/// `{{ key }}` becomes the value of that key, as it stands inside of a JSON string; numbers, lists and null as they
/// stand in JSON. What names no key stays.
fn filled(template: &str, body: &Value) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((key, after)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        match body.get(key.trim()) {
            Some(value) => filled.push_str(&inside_json(value)),
            None => filled.push_str(&format!("{{{{{key}}}}}")),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn inside_json(value: &Value) -> String {
    let json = value.to_string();
    let inner = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'));
    match inner {
        Some(inner) if value.is_string() => inner.to_owned(),
        _ => json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_specification_says() {
        // Computed with `openssl dgst -sha256 -mac HMAC`, the key being the 24 bytes 1 to 24.
        let secret = Secret::new("whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY");
        let plain = signing_key(secret.expose()).unwrap();
        assert_eq!(plain, (1..=24).collect::<Vec<u8>>());
        let signed = signature(&secret, "msg_1", 1_674_087_231, "{\"a\":1}").unwrap();
        assert_eq!(signed, "v1,o6o5sLo46NtcLNiOX19FVw7ADL8eeq6kQJsFMYBzNTI=");
        assert_eq!(signing_key("plain").unwrap(), b"plain");
        assert!(signing_key("whsec_!").is_err());
    }

    #[test]
    fn a_template_is_filled_and_stays_json() {
        let body =
            json!({ "message": "say \"no\"\n", "sequence": 3, "verdict": null, "tags": ["a"] });
        assert_eq!(
            filled(
                r#"{"t":"{{message}}! {{ sequence }}","v":{{ verdict }},"x":{{tags}}} {{ nosuch }} {{"#,
                &body
            ),
            r#"{"t":"say \"no\"\n! 3","v":null,"x":["a"]} {{ nosuch }} {{"#
        );
    }
}
