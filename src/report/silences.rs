//! Silences: a list of those that stand, or of all.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::json::SCHEMA;
use super::table::{Look, draw};
use super::{rfc3339, shown_time};
use crate::model::{Silence, State};

/// The table of `silence list`.
pub fn table(silences: &[Silence], now: SystemTime, look: Look) -> String {
    if silences.is_empty() {
        return "no silences\n".to_owned();
    }
    let head = ["ID", "STATE", "FOR", "FROM", "UNTIL", "BY", "REASON"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(silences.iter().map(|silence| {
        [
            silence.id.clone(),
            standing(silence, now).to_owned(),
            covered(silence),
            shown_time(silence.from),
            shown_time(silence.until),
            silence.by.to_string(),
            silence.reason.to_string(),
        ]
    }));
    let states: Vec<_> = silences
        .iter()
        .map(|silence| match silence.holds(now) {
            true => State::Degraded,
            false => State::Unknown,
        })
        .collect();
    format!("{}\n", draw(rows, &states, look))
}

fn standing(silence: &Silence, now: SystemTime) -> &'static str {
    if silence.holds(now) {
        "active"
    } else if now < silence.from {
        "waiting"
    } else {
        "ended"
    }
}

/// What a silence is about, in a few words.
pub fn covered(silence: &Silence) -> String {
    let tags = silence.tags.iter().map(|tag| format!("tag {tag}"));
    let names: Vec<_> = silence.servers.iter().cloned().chain(tags).collect();
    if names.is_empty() {
        "everything".to_owned()
    } else {
        names.join(", ")
    }
}

/// The document of `silence list --format json`.
pub fn json(silences: &[Silence], now: SystemTime) -> Value {
    json!({
        "schema": SCHEMA,
        "silences": silences.iter().map(|silence| silence_json(silence, now)).collect::<Vec<_>>(),
    })
}

pub(super) fn silence_json(silence: &Silence, now: SystemTime) -> Value {
    json!({
        "id": silence.id,
        "state": standing(silence, now),
        "servers": silence.servers,
        "tags": silence.tags,
        "from": rfc3339(silence.from),
        "until": rfc3339(silence.until),
        "reason": silence.reason,
        "by": silence.by,
    })
}
