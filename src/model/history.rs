//! What a target was like over a time (`mcpprobe history`).

use std::time::{Duration, SystemTime};

use super::{Layer, Reason};

/// A target's probes of a time, added up. Confirmations of a failure are not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// From when on.
    pub since: SystemTime,
    /// Until when.
    pub until: SystemTime,
    /// Probes that found it up.
    pub up: u64,
    /// Probes that found it degraded.
    pub degraded: u64,
    /// Probes that found it down or wanting a credential.
    pub failed: u64,
    /// Probes that could not judge.
    pub unknown: u64,
    /// Why probes were not up, the most frequent first.
    pub reasons: Vec<ReasonCount>,
    /// How long each layer took where it passed, in the order of time; those that were never passed are left out.
    pub latency: Vec<LayerLatency>,
}

impl History {
    /// The part of the judged probes that found a working server, 0 to 1; none without a probe.
    pub fn availability(&self) -> Option<f64> {
        let works = self.up + self.degraded;
        let judged = works + self.failed;
        // Counts of probes are far below where a float loses a whole number.
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        (judged > 0).then(|| works as f64 / judged as f64)
    }
}

/// How often probes were not up for one reason at one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// The layer that failed; none for an expectation that is of no layer.
    pub layer: Option<Layer>,
    /// Why.
    pub reason: Option<Reason>,
    /// How often.
    pub count: u64,
}

/// How long a layer took in the probes that passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerLatency {
    /// The layer.
    pub layer: Layer,
    /// How many passed it.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
}
