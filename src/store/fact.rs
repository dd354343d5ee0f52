//! Facts about the daemon itself: a key and a text each.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::salvage::readable_as;

/// When probes last really finished and said so: RFC 3339.
pub const HEARTBEAT: &str = "heartbeat";
/// Why the file that was read last changed nothing; no such fact when it was taken in.
pub const RELOAD_ERROR: &str = "reload_error";
/// The controls that have ever worked, a line each.
pub const CONTROLS: &str = "controls";
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

/// A fact of the store's own, which is a number.
pub(super) fn number(from: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    let value: Option<String> = from
        .prepare_cached("SELECT value FROM fact WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(value.and_then(|value| value.parse().ok()))
}

pub(super) fn readable(from: &Connection) -> Vec<(String, String)> {
    readable_as(from, "fact", "key, value", "key", "", &|row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

pub(super) fn all(from: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    from.prepare_cached("SELECT key, value FROM fact")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
