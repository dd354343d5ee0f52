//! What is printed, one file per format. Pure: from results to text.

mod colour;
mod columns;
pub mod conversation;
pub mod explain;
pub mod history;
pub mod incidents;
pub mod jaeger;
pub mod json;
pub mod line;
pub mod live;
pub mod rehearsal;
pub mod replay;
pub mod screen;
pub mod silences;
pub mod status;
pub mod table;
pub mod trace;
pub mod traces;
pub mod verdict;

use std::time::{Duration, SystemTime};

use crate::model::{ProbeResult, Severity, State, Target};

/// What `check` found, in the order of the configuration.
pub struct CheckReport<'r> {
    /// When the first probe started.
    pub started_at: SystemTime,
    /// Until the last one was decided.
    pub duration: Duration,
    /// Each target with its result; `None` when mcpprobe was stopped before.
    pub targets: Vec<(&'r Target, Option<&'r ProbeResult>)>,
}

impl CheckReport<'_> {
    /// How many targets are in `state`.
    pub fn count(&self, state: State) -> usize {
        self.targets
            .iter()
            .filter(|(_, result)| result.map_or(State::Unknown, |result| result.state) == state)
            .count()
    }
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn millis(duration: Duration) -> f64 {
    // To a microsecond: what is below is noise.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// To a second, for people.
fn shown_time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// The colour of a severity is that of the state that is as bad.
fn as_bad_as(severity: Severity) -> State {
    match severity {
        Severity::Critical => State::Down,
        Severity::Warning => State::Degraded,
        Severity::Info => State::Up,
    }
}
