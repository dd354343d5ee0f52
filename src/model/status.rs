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
