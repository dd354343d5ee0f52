//! When each target is probed. `phase` and `queue` decide, `runner` acts.

mod phase;
mod queue;
mod runner;

pub use phase::{first_due, phase};
pub use queue::{DueQueue, Slot};
pub use runner::{Finished, Limits, Runner};
