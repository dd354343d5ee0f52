//! ntfy: a message as JSON, posted to the server itself.

use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::hook::{post, sensitive};
use super::{Failure, cut};
use crate::alert::message::Message;
use crate::alert::text::{Story, Tone, plain, story};
use crate::model::Secret;

/// ntfy turns a message of more than 4,096 bytes into an attachment; a character may have four.
const MAX_BYTES: usize = 4_000;

/// ntfy's limit of buttons.
const MAX_ACTIONS: usize = 3;

pub(super) async fn send(
    url: &str,
    topic: &str,
    token: Option<&Secret>,
    client: &reqwest::Client,
    message: &Message,
) -> Result<(), Failure> {
    let mut headers = Vec::new();
    if let Some(token) = token {
        let value = format!("Bearer {}", token.expose());
        headers.push((AUTHORIZATION, sensitive(&value)?));
    }
    let body = body(topic, &story(message)).to_string();
    post(client, url, headers, body)
        .await?
        .accepted(url)
        .map(drop)
}

fn body(topic: &str, story: &Story) -> Value {
    let (priority, tag) = match story.tone {
        Tone::Good => (3, "white_check_mark"),
        Tone::Info => (2, "information_source"),
        Tone::Warning => (4, "warning"),
        Tone::Critical => (5, "rotating_light"),
    };
    let mut text = plain(story);
    let mut most = MAX_BYTES;
    while text.len() > MAX_BYTES {
        text = cut(&text, most);
        most -= MAX_BYTES / 8;
    }
    let actions: Vec<_> = story
        .links
        .iter()
        .take(MAX_ACTIONS)
        .map(|link| json!({ "action": "view", "label": link.name, "url": link.url }))
        .collect();
    let mut body = json!({
        "topic": topic,
        "title": story.subject,
        "message": text.trim_end(),
        "priority": priority,
        "tags": [tag],
        "actions": actions,
    });
    if let Some(link) = story.links.first() {
        body["click"] = link.url.as_str().into();
    }
    body
}
