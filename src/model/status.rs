//! What is known of a target now.

use std::time::SystemTime;

use super::{Layer, Reason, State, Text, TraceId, Verdict};

/// A line of `mcpprobe status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Name of the target.
    pub name: String,
    /// State by the last probe; `unknown` before the first.
    pub state: State,
    /// Start of the probe that first found this state.
    pub since: Option<SystemTime>,
    /// The layer that fails.
    pub failed_layer: Option<Layer>,
    /// Why.
    pub reason: Option<Reason>,
    /// Why, in a sentence.
    pub message: Option<Text>,
    /// Start of the last probe.
    pub last_probe_at: Option<SystemTime>,
    /// Trace of the last probe.
    pub trace_id: Option<TraceId>,
    /// The open incident's id.
    pub incident: Option<String>,
    /// A first failure that is not confirmed yet.
    pub suspect: bool,
    /// What the traces say about the open incident.
    pub verdict: Option<Verdict>,
    /// The verdict in a sentence, or why there is none.
    pub verdict_reason: Option<Text>,
    /// The backend will be asked again.
    pub provisional: Option<bool>,
}

impl TargetStatus {
    /// A target of which nothing is known.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Unknown,
            since: None,
            failed_layer: None,
            reason: None,
            message: None,
            last_probe_at: None,
            trace_id: None,
            incident: None,
            suspect: false,
            verdict: None,
            verdict_reason: None,
            provisional: None,
        }
    }
}
