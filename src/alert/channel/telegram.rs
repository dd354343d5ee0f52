//! Telegram's bot API: `sendMessage`, in HTML with everything escaped.

use serde_json::json;

use super::hook::post;
use super::{Failure, cut, html};
use crate::alert::message::Message;
use crate::alert::text::{Story, story};
use crate::model::Secret;

/// Telegram takes 4,096 characters after tags and entities were read. Cut before that, a piece at a time: a tag that
/// is cut through is an error.
const MAX_TEXT: usize = 3_800;
const MAX_PIECE: usize = 400;

pub(super) async fn send(
    url: &str,
    token: &Secret,
    chat: &str,
    client: &reqwest::Client,
    message: &Message,
) -> Result<(), Failure> {
    let url = format!(
        "{}/bot{}/sendMessage",
        url.trim_end_matches('/'),
        token.expose()
    );
    let body = json!({
        "chat_id": chat,
        "text": text(&story(message)),
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    post(client, &url, Vec::new(), body.to_string())
        .await?
        .accepted_or_wait(&url, |answer| answer["parameters"]["retry_after"].as_f64())
        .map(drop)
}

fn text(story: &Story) -> String {
    let piece = |text: &str| html(&cut(text, MAX_PIECE));
    let mut text = format!("<b>{}</b>\n{}", piece(&story.subject), piece(&story.lead));
    let lines = story.lines.iter().map(|line| format!("• {}", piece(line)));
    let facts = story.facts.iter().map(|fact| {
        let value = piece(&fact.value);
        if fact.is_code {
            format!("<b>{}</b> <code>{value}</code>", fact.name)
        } else {
            format!("<b>{}</b> {value}", fact.name)
        }
    });
    let links = story
        .links
        .iter()
        .map(|link| format!("<a href=\"{}\">{}</a>", html(&link.url), piece(&link.name)));
    let mut left_out = false;
    for line in lines.chain(facts).chain(links) {
        if text.chars().count() + line.chars().count() > MAX_TEXT {
            left_out = true;
            continue;
        }
        text.push('\n');
        text.push_str(&line);
    }
    if left_out {
        text.push_str("\n…");
    }
    text
}
