//! The era that each target spoke last, shared with the probes that run.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::model::Era;

/// The era of each target's last working session, for its next probe.
pub(super) struct Eras(Vec<AtomicU8>);

impl Eras {
    /// Nothing is known of `count` targets.
    pub(super) fn unknown(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU8::new(0)).collect())
    }

    pub(super) fn get(&self, index: usize) -> Option<Era> {
        match self.0.get(index)?.load(Ordering::Relaxed) {
            1 => Some(Era::Legacy),
            2 => Some(Era::Modern),
            _ => None,
        }
    }

    pub(super) fn set(&self, index: usize, era: Era) {
        let word = match era {
            Era::Legacy => 1,
            Era::Modern => 2,
        };
        if let Some(slot) = self.0.get(index) {
            slot.store(word, Ordering::Relaxed);
        }
    }
}
