//! Slack's incoming webhooks: `text` for notifications, `blocks` for the eye.

use serde_json::{Value, json};

use super::hook::post;
use super::{Failure, cut};
use crate::alert::message::Message;
use crate::alert::text::{Story, story};
use crate::model::Secret;

/// Slack's limits: characters of a header, of a section's text, of a field, and fields of a section.
const MAX_HEADER: usize = 150;
const MAX_TEXT: usize = 3_000;
const MAX_FIELD: usize = 2_000;
const MAX_FIELDS: usize = 10;

pub(super) async fn send(
    url: &Secret,
    client: &reqwest::Client,
    message: &Message,
) -> Result<(), Failure> {
    let url = url.expose();
    let body = body(&story(message)).to_string();
    post(client, url, Vec::new(), body)
        .await?
        .accepted(url)
        .map(drop)
}

fn body(story: &Story) -> Value {
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": escaped_within(&story.subject, MAX_HEADER), "emoji": false } }),
        section(&escaped(&story.lead)),
    ];
    if !story.lines.is_empty() {
        let lines: Vec<_> = story
            .lines
            .iter()
            .map(|line| format!("• {}", escaped(line)))
            .collect();
        blocks.push(section(&lines.join("\n")));
    }
    let fields: Vec<_> = story
        .facts
        .iter()
        .map(|fact| {
            let value = escaped(&fact.value);
            let value = if fact.is_code {
                // A backtick would end it.
                format!("`{}`", value.replace('`', "'"))
            } else {
                value
            };
            json!({ "type": "mrkdwn", "text": cut(&format!("*{}*\n{value}", fact.name), MAX_FIELD) })
        })
        .collect();
    for fields in fields.chunks(MAX_FIELDS) {
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    if !story.links.is_empty() {
        let links: Vec<_> = story
            .links
            .iter()
            .map(|link| format!("<{}|{}>", escaped(&link.url), escaped(&link.name)))
            .collect();
        blocks.push(section(&links.join(" · ")));
    }
    json!({ "text": escaped(&story.subject), "blocks": blocks, "unfurl_links": false })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, MAX_TEXT) } })
}

/// The three characters that mean something to Slack: without this `<!channel>` in a server's message would call
/// everybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The same with at most `most` characters, and no entity cut through.
fn escaped_within(text: &str, most: usize) -> String {
    let mut short = cut(text, most);
    while escaped(&short).chars().count() > most {
        short = cut(&short, short.chars().count() - 1);
    }
    escaped(&short)
}
