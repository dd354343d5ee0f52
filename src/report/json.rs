//! JSON as it is printed, and the contracts of `check` and `explain`; those of the other commands stand with
//! their tables. Keys and words are fixed; see the README.

use serde_json::{Value, json};

use super::{CheckReport, millis, rfc3339};
use crate::model::{
    Explanation, Layer, LayerResult, Outcome, PhaseTime, ProbeResult, State, Target, is_unsafe,
};

/// Version of every JSON document; raised when a key changes its meaning.
pub(super) const SCHEMA: u32 = 1;

/// A document as it is printed.
pub fn document(document: &Value) -> String {
    format!("{}\n", harmless(format!("{document:#}")))
}

/// JSON text in which what would act on a terminal stands as `\u....`, which means the same to every reader. Below
/// U+0020 JSON itself does that. A name that a user wrote is the one string that may need it.
pub(super) fn harmless(json: String) -> String {
    let acts = |c: char| c > '\u{20}' && is_unsafe(c);
    if !json.contains(acts) {
        return json;
    }
    let mut text = String::with_capacity(json.len() * 2);
    for c in json.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// The document of `check --format json`.
pub fn check(report: &CheckReport<'_>) -> Value {
    let summary: serde_json::Map<_, _> = State::ALL
        .into_iter()
        .map(|state| (state.as_str().to_owned(), json!(report.count(state))))
        .collect();
    json!({
        "schema": SCHEMA,
        "started_at": rfc3339(report.started_at),
        "duration_ms": millis(report.duration),
        "summary": summary,
        "targets": report.targets.iter().map(|(target, result)| check_target(target, *result)).collect::<Vec<_>>(),
    })
}

fn check_target(target: &Target, result: Option<&ProbeResult>) -> Value {
    let failure = result.and_then(|result| result.failure.as_ref());
    let mut keys = json!({
        "name": target.name,
        "endpoint": target.endpoint.shown(),
        "transport": result.map_or(target.endpoint.transport(), |result| result.transport),
        "state": result.map_or(State::Unknown, |result| result.state),
        "failed_layer": failure.map(|f| f.layer),
        "reason": result.and_then(ProbeResult::reason),
        "message": result.and_then(ProbeResult::message),
        "http_status": failure.and_then(|f| f.http_status),
        "jsonrpc_code": failure.and_then(|f| f.jsonrpc_code),
        "era": result.and_then(|r| r.era),
        "protocol_version": result.and_then(|r| r.protocol_version.as_ref()),
        "server": result.and_then(|r| r.server.as_ref()),
        "tools": result.and_then(|r| r.tools),
        "started_at": result.map(|r| rfc3339(r.started_at)),
        "duration_ms": result.map(|r| millis(r.duration)),
        "trace_id": result.map(|r| r.trace_id.to_string()),
        "layers": result.map(|r| layers(&r.layers)).unwrap_or_default(),
    });
    // Beyond the keys that every target has, what only some can say.
    if let Some(end) = result.and_then(|result| result.certificate_expires) {
        keys["certificate_expires_at"] = json!(rfc3339(end));
    }
    let notes = result.map(ProbeResult::deviations).unwrap_or_default();
    if !notes.is_empty() {
        keys["notes"] = json!(notes);
    }
    keys
}

fn layers(layers: &[LayerResult; 4]) -> Vec<Value> {
    Layer::ALL
        .into_iter()
        .zip(layers)
        .map(|(layer, result)| match result.outcome {
            Outcome::NotReached | Outcome::Skipped => {
                json!({ "layer": layer, "outcome": result.outcome })
            }
            Outcome::Ok | Outcome::Failed => json!({
                "layer": layer,
                "outcome": result.outcome,
                "duration_ms": millis(result.duration),
                "phases": result.phases.iter().map(phase).collect::<Vec<_>>(),
            }),
        })
        .collect()
}

fn phase(time: &PhaseTime) -> Value {
    json!({ "phase": time.phase, "duration_ms": millis(time.duration) })
}

/// The document of `explain --format json`.
pub fn explain(explanations: &[Explanation]) -> Value {
    let reasons: Vec<_> = explanations
        .iter()
        .map(|explanation| {
            // Bound to none means that any can fail with it.
            let layers = match &explanation.layers[..] {
                [] => &Layer::ALL,
                layers => layers,
            };
            json!({
                "reason": explanation.reason,
                "layers": layers,
                "meaning": explanation.meaning,
                "look_first": explanation.look_first,
            })
        })
        .collect();
    json!({ "schema": SCHEMA, "reasons": reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_act_is_escaped_and_still_the_same_name() {
        let name = "a\u{1b}\n\u{7f}\u{9b}1m\u{202e}\u{e0041}b";
        let text = document(&json!({ "name": name }));
        assert!(!text.contains(|c| is_unsafe(c) && c != '\n'), "{text:?}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["name"], name);
    }
}
