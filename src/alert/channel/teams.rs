//! Microsoft Teams by a workflow ("when a webhook request is received"): a message with an Adaptive Card.

use serde_json::{Value, json};

use super::hook::post;
use super::{Failure, cut};
use crate::alert::message::Message;
use crate::alert::text::{Story, Tone, story};
use crate::model::Secret;

/// Characters of one text. Teams takes messages of 28 KB as a whole.
const MAX_TEXT: usize = 6_000;

pub(super) async fn send(
    url: &Secret,
    client: &reqwest::Client,
    message: &Message,
) -> Result<(), Failure> {
    let url = url.expose();
    let body = body(&story(message)).to_string();
    // 202 is usual: the workflow runs later.
    post(client, url, Vec::new(), body)
        .await?
        .accepted(url)
        .map(drop)
}

fn body(story: &Story) -> Value {
    let colour = match story.tone {
        Tone::Good => "Good",
        Tone::Info => "Accent",
        Tone::Warning => "Warning",
        Tone::Critical => "Attention",
    };
    let mut card = vec![
        json!({ "type": "TextBlock", "text": plain(&story.subject), "size": "Medium", "weight": "Bolder", "color": colour, "wrap": true }),
        json!({ "type": "TextBlock", "text": plain(&story.lead), "wrap": true }),
    ];
    if !story.lines.is_empty() {
        let lines: Vec<_> = story
            .lines
            .iter()
            .map(|line| format!("- {}", plain(line)))
            .collect();
        card.push(
            json!({ "type": "TextBlock", "text": cut(&lines.join("\r"), MAX_TEXT), "wrap": true }),
        );
    }
    if !story.facts.is_empty() {
        let facts: Vec<_> = story
            .facts
            .iter()
            .map(|fact| json!({ "title": fact.name, "value": plain(&fact.value) }))
            .collect();
        card.push(json!({ "type": "FactSet", "facts": facts }));
    }
    let actions: Vec<_> = story
        .links
        .iter()
        .map(|link| json!({ "type": "Action.OpenUrl", "title": link.name, "url": link.url }))
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": card,
                "actions": actions,
                "msteams": { "width": "Full" },
            },
        }],
    })
}

/// What Markdown would make of a server's words is taken out of its hands.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in cut(text, MAX_TEXT).chars() {
        if matches!(c, '\\' | '*' | '_' | '[' | ']' | '`' | '#' | '~') {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}
