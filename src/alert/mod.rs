//! From results to incidents, from incidents to notices, and those to the people who have to know.
//!
//! `machine` decides for one target what is an incident, `desk` who hears of it; `isolation` whether it is the prober
//! itself that is cut off. `queue` decides what is attempted next and when, one queue for each channel; all of them are
//! pure, with the time as an argument. `outbox` acts on that, and tells what became of each attempt; `channel` has one
//! file for each kind of channel; `text` has the words. Nothing here remembers anything beyond the process: what waits
//! is kept elsewhere, is handed in at the start, and is read again when there was more of it than fits in here.

pub mod channel;
mod desk;
mod head;
mod isolation;
mod machine;
pub mod message;
pub mod outbox;
pub mod queue;
mod replay;
#[cfg(test)]
mod simulation;
pub mod text;
mod track;

pub use channel::{Channel, Failure, http_client};
pub use desk::{Desk, Reaction, Remembered, TracePage, Words};
pub use head::Head;
pub use machine::{Memory, Rules, Seen, Step, Watched};
pub use message::Message;
pub use outbox::{Backlog, Outbox, OutboxSender};
pub use replay::Replay;
