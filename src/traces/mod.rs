//! The embedded trace backend: what MCP servers' exporters send, received, kept for a while, and asked.
//!
//! ```text
//! OTLP ─ receiver ─▶ otlp ─▶ admission ─▶ pending ─▶ keeper ─▶ file ─▶ reader
//!        (limits)   (decode)  (privacy)   (a block)  (merges,           (index)
//!                                                     prunes)
//! ```
//!
//! Spans lie in blocks. What comes in within a tenth of a second is one small block and one transaction; 16,384 spans in
//! small blocks are merged into a few large ones, in which a service's spans lie together. A block is never changed: a
//! trace is found by the four bytes that a reader remembers of each trace in each block, and the oldest go as rows.

mod admission;
mod block;
pub mod convention;
mod cursor;
mod dictionary;
mod file;
mod head;
mod index;
mod keeper;
mod limits;
mod list;
mod merge;
mod otlp;
mod pending;
mod privacy;
mod query;
mod raw;
mod reader;
pub mod receiver;
mod recorder;
#[cfg(test)]
mod sample;
mod store;

pub use convention::Outcome;
pub use file::{OpenError, is_kept};
pub use keeper::{StoreSettings, Warn};
pub use list::summary;
pub use pending::Intake;
pub use query::{
    Completeness, FoundSpans, LostSpans, Project, Service, Stats, TraceFilter, TraceList,
    TraceSummary,
};
pub use reader::{Reader, Unavailable};
pub use receiver::{
    Answers, ForwardSettings, ListenSettings, OwnSpans, Question, Received, Receiver, Reply,
};
pub use store::Store;
