//! How long what is kept (`[store]`).

use std::time::Duration;

/// How long probes are kept one by one. Sums of them are kept by the hour as long as failures, by the day for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Probes that passed, as the one before did.
    pub passed: Duration,
    /// Failures, changes of state, incidents that have ended.
    pub failures: Duration,
    /// Above this many bytes passed probes go sooner, the oldest first.
    pub max_size: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self {
            passed: days(7),
            failures: days(400),
            max_size: None,
        }
    }
}
