//! When each target is probed. `phase`, `queue` and `turns` decide, `runner` acts.

mod clock;
mod phase;
mod queue;
mod runner;
mod turns;

pub use clock::{Clock, Now};
pub use phase::{first_due, phase};
pub use queue::{DueQueue, Slot};
pub use runner::{Finished, Request, Runner};
pub use turns::{Limits, Turns};
