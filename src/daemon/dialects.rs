//! What each target spoke last, shared with the probes that run.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::model::Dialect;

/// The dialect of each target's last working session, for its next probe.
pub(super) struct Dialects(Vec<AtomicU8>);

impl Dialects {
    /// Nothing is known of `count` targets.
    pub(super) fn unknown(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU8::new(0)).collect())
    }

    pub(super) fn get(&self, index: usize) -> Option<Dialect> {
        match self.0.get(index)?.load(Ordering::Relaxed) {
            1 => Some(Dialect::Legacy),
            2 => Some(Dialect::HttpSse),
            3 => Some(Dialect::Modern),
            _ => None,
        }
    }

    pub(super) fn set(&self, index: usize, dialect: Dialect) {
        let word = match dialect {
            Dialect::Legacy => 1,
            Dialect::HttpSse => 2,
            Dialect::Modern => 3,
        };
        if let Some(slot) = self.0.get(index) {
            slot.store(word, Ordering::Relaxed);
        }
    }
}
