//! `correlate --rehearse`: whether an outage of each target could be proven, and what is missing.

use serde_json::{Value, json};

use super::json::SCHEMA;
use super::table::{Look, dash, draw};
use crate::model::{Reach, Rehearsal, State, Text};

/// One target's.
pub struct Rehearsed {
    /// Name of the target.
    pub name: String,
    /// Its service, where it is known.
    pub service: Option<Text>,
    /// The backend's name, where there is one.
    pub backend: Option<String>,
    /// What was found.
    pub rehearsal: Rehearsal,
}

/// The table.
pub fn table(targets: &[Rehearsed], look: Look) -> String {
    let head = ["SERVER", "INFRASTRUCTURE", "BACKEND", "SERVICE", "WHY"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(targets.iter().map(row));
    let states: Vec<_> = targets.iter().map(|t| colour(t.rehearsal.reach)).collect();
    let able = targets
        .iter()
        .filter(|t| t.rehearsal.reach == Reach::Reachable);
    format!(
        "{}\n\nan `infrastructure` verdict could be reached for {} of {} servers\n",
        draw(rows, &states, look),
        able.count(),
        targets.len()
    )
}

fn row(target: &Rehearsed) -> [String; 5] {
    let rehearsal = &target.rehearsal;
    let lacks = rehearsal.lacks.iter().map(|lack| lack.says().to_string());
    let proof = rehearsal.proof.iter().map(Text::to_string);
    let why: Vec<_> = lacks.chain(proof).collect();
    [
        target.name.clone(),
        rehearsal.reach.as_str().to_owned(),
        target.backend.clone().unwrap_or_else(dash),
        target.service.as_ref().map_or_else(dash, Text::to_string),
        why.join("; "),
    ]
}

fn colour(reach: Reach) -> State {
    match reach {
        Reach::Reachable => State::Up,
        Reach::Limited => State::Degraded,
        Reach::Unreachable => State::Down,
        Reach::Unknown => State::Unknown,
    }
}

/// The document.
pub fn json(targets: &[Rehearsed]) -> Value {
    let one = |target: &Rehearsed| {
        let rehearsal = &target.rehearsal;
        let lacks = rehearsal.lacks.iter();
        json!({
            "name": target.name,
            "infrastructure": rehearsal.reach,
            "backend": target.backend,
            "service": target.service,
            "proof": rehearsal.proof,
            "missing": lacks.map(|lack| json!({ "code": lack.code(), "text": lack.says() })).collect::<Vec<_>>(),
        })
    };
    json!({
        "schema": SCHEMA,
        "targets": targets.iter().map(one).collect::<Vec<_>>(),
    })
}
