//! From results to incidents, and from incidents to notices. `machine`, `isolation` and `desk` decide.

mod desk;
mod head;
mod isolation;
mod machine;
#[cfg(test)]
mod simulation;
mod track;

pub use desk::{Desk, Reaction, Remembered, Words};
pub use head::Head;
pub use machine::{Memory, Rules, Seen, Step, Watched};
