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

    /// Shows a target at its place; places are filled in order.
    pub(super) fn put(&self, index: usize, row: Row) {
        let mut rows = self.lock();
        match rows.get_mut(index) {
            Some(place) => *place = row,
            None => rows.push(row),
        }
    }

    /// Other targets from now on.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
