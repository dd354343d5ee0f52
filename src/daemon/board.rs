//! What a watch shows of each target while somebody looks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::report::live::Row;

/// A row per target, in the order of the configuration. Kept only when there is a terminal to show it on.
#[derive(Debug, Default)]
pub struct Board {
    rows: Mutex<Vec<Row>>,
}

impl Board {
    /// A copy to draw from. The lock is held for the copying alone, so that drawing never holds up the loop.
    pub fn rows(&self) -> Vec<Row> {
        self.lock().clone()
    }

    pub(super) fn add(&self, row: Row) {
        self.lock().push(row);
    }

    pub(super) fn replace(&self, index: usize, row: Row) {
        if let Some(place) = self.lock().get_mut(index) {
            *place = row;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
