//! Discord's webhooks: one embed, and nobody is mentioned.

use serde_json::{Value, json};

use super::hook::post;
use super::{Failure, cut};
use crate::alert::message::Message;
use crate::alert::text::{Story, story};
use crate::model::Secret;

/// Discord's limits: characters of a title, a description, a field's value, and of an embed as a whole.
const MAX_TITLE: usize = 256;
const MAX_DESCRIPTION: usize = 3_000;
const MAX_VALUE: usize = 200;
const MAX_LINKS: usize = 500;

pub(super) async fn send(
    url: &Secret,
    client: &reqwest::Client,
    message: &Message,
) -> Result<(), Failure> {
    let url = url.expose();
    let body = body(&story(message)).to_string();
    post(client, url, Vec::new(), body)
        .await?
        // Seconds, with a fraction, and more exact than the header.
        .accepted_or_wait(url, |answer| answer["retry_after"].as_f64())
        .map(drop)
}

fn body(story: &Story) -> Value {
    let mut description = escaped(&story.lead);
    for line in &story.lines {
        description.push_str(&format!("\n- {}", escaped(line)));
    }
    let mut fields: Vec<_> = story
        .facts
        .iter()
        .map(|fact| {
            let value = if fact.is_code {
                format!("`{}`", cut(&fact.value.replace('`', "'"), MAX_VALUE))
            } else {
                escaped(&cut(&fact.value, MAX_VALUE))
            };
            json!({ "name": fact.name, "value": value })
        })
        .collect();
    if !story.links.is_empty() {
        let links: Vec<_> = story
            .links
            .iter()
            .map(|link| format!("[{}](<{}>)", escaped(&link.name), link.url))
            .collect();
        fields.push(json!({ "name": "Links", "value": cut(&links.join(" "), MAX_LINKS) }));
    }
    json!({
        "embeds": [{
            "title": cut(&story.subject, MAX_TITLE),
            "description": cut(&description, MAX_DESCRIPTION),
            "color": story.tone.colour(),
            "fields": fields,
        }],
        "allowed_mentions": { "parse": [] },
    })
}

/// What Markdown would make of a server's words is taken out of its hands.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '[' | ']' | '#'
        ) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
