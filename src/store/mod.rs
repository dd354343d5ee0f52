//! The memory: SQLite in WAL mode, one batched writer, any number of readers. The only SQL there is.

mod lock;
mod read;
mod schema;
mod writer;

pub use lock::{StoreLock, is_watched};
pub use read::{History, Reader, Remembered, StoredIncident};
pub use writer::{Write, Writer};
