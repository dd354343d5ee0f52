//! The memory: SQLite in WAL mode, one batched writer, any number of readers. The only SQL there is.
//!
//! What came in is kept in an image in memory first and written to the disk from there, so that alerting goes on
//! without a disk and nothing is lost when there is one again.

mod asking;
mod backlog;
pub mod fact;
mod histogram;
mod history;
mod image;
mod incident;
mod keeper;
mod lock;
mod notice;
pub mod orders;
mod probe;
mod read;
mod retention;
mod rollup;
mod salvage;
#[cfg(test)]
mod sample;
mod schema;
mod target;
mod trouble;
pub mod upkeep;
mod writer;

pub use history::{History, Percentiles, ReasonCount};
pub use image::Recalled;
pub use incident::IncidentFilter;
pub use keeper::Callbacks;
pub use lock::is_watched;
pub use notice::{Head, StoredNotice};
pub use probe::{RecordedProbe, RecordedProbes};
pub use read::{IncidentDetail, ProbesAround, Reader};
pub use target::Remembered;
pub use writer::{Shown, Write, Writer};
