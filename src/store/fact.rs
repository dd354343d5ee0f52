//! Facts about the daemon itself: a key and a text each.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

/// When probes last really finished and said so: RFC 3339.
pub const HEARTBEAT: &str = "heartbeat";
/// Why the file that was read last changed nothing; no such fact when it was taken in.
pub const RELOAD_ERROR: &str = "reload_error";
/// What is, or was last, wrong with the store, as a sentence.
pub const STORE_TROUBLE: &str = "store_trouble";

pub(super) fn write(to: &Connection, key: &str, value: Option<&str>) -> rusqlite::Result<()> {
    match value {
        Some(value) => to
            .prepare_cached("INSERT OR REPLACE INTO fact (key, value) VALUES (?1, ?2)")?
            .execute(params![key, value]),
        None => to
            .prepare_cached("DELETE FROM fact WHERE key = ?1")?
            .execute([key]),
    }
    .map(drop)
}

pub(super) fn all(from: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    from.prepare_cached("SELECT key, value FROM fact")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
