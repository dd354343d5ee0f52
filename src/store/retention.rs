//! What is old goes, a piece at a time: nothing that the daemon writes waits for it.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use super::fact;
use super::rollup::{DAY, HOUR, rolled_up};
use super::schema::nanos;
use crate::model::Retention;

/// Start of the first hour of which every probe is there.
pub(super) const RAW_SINCE: &str = "store.raw_since";
/// Start of the first day of which every hour's sum is there.
pub(super) const HOURLY_SINCE: &str = "store.hourly_since";
/// The probe up to which passed ones are gone, by its number.
const PRUNED: &str = "store.pruned";

/// Probes that are looked at in one transaction: some milliseconds.
const PIECE: i64 = 2_000;

/// Incidents that are forgotten in one transaction, with all that is told of them.
const INCIDENTS: i64 = 50;

/// Pages that are given back to the disk in one transaction: 2 MB.
const PAGES: i64 = 500;

/// What is taken care of, in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Task {
    /// Passed probes.
    #[default]
    Passed,
    /// Failures.
    Failures,
    /// Incidents with their notices, timelines and conversations.
    Incidents,
    /// Sums by the hour, and silences.
    Sums,
    /// Pages that hold nothing any more.
    Pages,
}

impl Task {
    /// What comes after it; nothing after the last.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Passed => Some(Self::Failures),
            Self::Failures => Some(Self::Incidents),
            Self::Incidents => Some(Self::Sums),
            Self::Sums => Some(Self::Pages),
            Self::Pages => None,
        }
    }

    /// Does a piece; whether there is no more. The transaction is the caller's. Facts that it states are answered in
    /// `facts` too.
    pub(super) fn step(
        self,
        store: &Connection,
        keep: &Retention,
        now: SystemTime,
        facts: &mut Vec<(&'static str, i64)>,
    ) -> rusqlite::Result<bool> {
        let old = nanos(now - keep.failures.min(since_epoch(now)));
        match self {
            Self::Passed => passed(store, keep, now, facts),
            Self::Failures => failures(store, old),
            Self::Incidents => incidents(store, old),
            Self::Sums => sums(store, old, facts),
            Self::Pages => pages(store),
        }
    }
}

fn since_epoch(now: SystemTime) -> std::time::Duration {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// By number, which is nearly the order of time, so that whole pages become free; never one that is not summed up.
fn passed(
    store: &Connection,
    keep: &Retention,
    now: SystemTime,
    facts: &mut Vec<(&'static str, i64)>,
) -> rusqlite::Result<bool> {
    let after = fact::number(store, PRUNED)?.unwrap_or_default();
    let first: Option<i64> = store
        .prepare_cached("SELECT min(id) FROM probe WHERE id > ?1")?
        .query_row([after], |row| row.get(0))?;
    let Some(first) = first else {
        return Ok(true);
    };
    let before = match keep.max_size {
        Some(most) if used(store)? > most => nanos(now),
        _ => {
            let old = nanos(now - keep.passed.min(since_epoch(now)));
            old - old.rem_euclid(HOUR)
        }
    };
    let piece = rolled_up(store)?.min(first.saturating_add(PIECE - 1));
    // The first that is too young ends it; one that came in late behind it goes with it later.
    let young: Option<i64> = store
        .prepare_cached(
            "SELECT id FROM probe WHERE id > ?1 AND id <= ?2 AND started >= ?3 ORDER BY id LIMIT 1",
        )?
        .query_row(params![after, piece, before], |row| row.get(0))
        .optional()?;
    let to = young.map_or(piece, |young| young - 1);
    if to <= after {
        return Ok(true);
    }
    let newest: Option<i64> = store
        .prepare_cached("SELECT max(started) FROM probe WHERE id > ?1 AND id <= ?2")?
        .query_row([after, to], |row| row.get(0))?;
    store
        .prepare_cached(
            "DELETE FROM probe WHERE id > ?1 AND id <= ?2 AND state IN ('up', 'degraded') AND flags & 2 = 0",
        )?
        .execute([after, to])?;
    state(store, PRUNED, to, facts)?;
    if let Some(newest) = newest {
        let hour = newest - newest.rem_euclid(HOUR) + HOUR;
        let since = fact::number(store, RAW_SINCE)?.unwrap_or(i64::MIN);
        state(store, RAW_SINCE, since.max(hour), facts)?;
    }
    Ok(young.is_some())
}

fn failures(store: &Connection, before: i64) -> rusqlite::Result<bool> {
    let gone = store
        .prepare_cached(
            "DELETE FROM probe WHERE id IN (SELECT id FROM probe ORDER BY id LIMIT ?1) AND started < ?2 AND id <= ?3",
        )?
        .execute(params![PIECE, before, rolled_up(store)?])?;
    Ok(gone == 0)
}

fn incidents(store: &Connection, before: i64) -> rusqlite::Result<bool> {
    let old: rusqlite::Result<Vec<String>> = store
        .prepare_cached(
            "SELECT id FROM incident WHERE first_failed < ?1 AND resolved < ?1 ORDER BY first_failed LIMIT ?2",
        )?
        .query_map(params![before, INCIDENTS], |row| row.get(0))?
        .collect();
    let old = old?;
    for id in &old {
        for table in ["notice", "timeline", "conversation", "acknowledgement"] {
            store
                .prepare_cached(&format!("DELETE FROM {table} WHERE incident = ?1"))?
                .execute([id])?;
        }
        store
            .prepare_cached("DELETE FROM incident WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(old.is_empty())
}

fn sums(
    store: &Connection,
    before: i64,
    facts: &mut Vec<(&'static str, i64)>,
) -> rusqlite::Result<bool> {
    let day = before - before.rem_euclid(DAY);
    let targets: rusqlite::Result<Vec<i64>> = store
        .prepare_cached("SELECT id FROM target")?
        .query_map([], |row| row.get(0))?
        .collect();
    let mut gone = store
        .prepare_cached("DELETE FROM silence WHERE ends < ?1")?
        .execute([before])?;
    for target in targets? {
        gone += store
            .prepare_cached("DELETE FROM hourly WHERE target = ?1 AND start < ?2")?
            .execute([target, day])?;
    }
    if gone > 0 {
        let since = fact::number(store, HOURLY_SINCE)?.unwrap_or(i64::MIN);
        state(store, HOURLY_SINCE, since.max(day), facts)?;
    }
    Ok(true)
}

/// What becomes free is nearly always filled again at once; only where much was given up the file becomes smaller.
fn pages(store: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = store.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let all: i64 = store.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let incremental: i64 = store.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if incremental != 2 || free < PAGES || free < all / 4 {
        return Ok(true);
    }
    store.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    Ok(false)
}

/// Bytes that hold something.
fn used(store: &Connection) -> rusqlite::Result<u64> {
    let number = |name| store.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let bytes = (number("page_count")? - number("freelist_count")?) * number("page_size")?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

fn state(
    store: &Connection,
    key: &'static str,
    value: i64,
    facts: &mut Vec<(&'static str, i64)>,
) -> rusqlite::Result<()> {
    facts.push((key, value));
    fact::write(store, key, Some(&value.to_string()))
}
