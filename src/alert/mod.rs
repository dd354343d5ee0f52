//! From a decision to the people who have to know: notices, delivered.
//!
//! `queue` decides what is attempted next and when, one queue for each channel, with the time as an argument;
//! `outbox` acts on that, and tells what became of each attempt; `channel` has one file for each kind of channel;
//! `text` has the words. Nothing here remembers anything beyond the process: what waits is kept elsewhere, is
//! handed in at the start, and is read again when there was more of it than fits in here.

pub mod channel;
pub mod message;
pub mod outbox;
pub mod queue;
pub mod text;

pub use channel::{Channel, Failure, http_client};
pub use message::Message;
pub use outbox::{Backlog, Outbox, OutboxSender};
