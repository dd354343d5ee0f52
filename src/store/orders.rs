//! What people tell a `watch` from another shell: silences and acknowledgements, by way of the file.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::incident;
use super::salvage::readable_as;
use super::schema::{self, nanos, time};
use crate::model::{Acknowledgement, Orders, Silence, Text};

/// Writes a silence; the `watch` that runs hears of it within about a second.
///
/// # Errors
/// A sentence when there is no store, or it cannot be written.
pub fn add_silence(store: &Path, silence: &Silence) -> Result<(), String> {
    let connection = schema::open_beside(store)?;
    write_silence(&connection, silence).map_err(|error| cannot_write(store, &error))
}

/// Ends a silence at `now`; answers it as it is then.
///
/// # Errors
/// A sentence when there is no such silence, it has ended before, or the store cannot be written.
pub fn end_silence(store: &Path, id: &str, now: SystemTime) -> Result<Silence, String> {
    let connection = schema::open_beside(store)?;
    let found = silences(&connection, None).map_err(|error| cannot_write(store, &error))?;
    let Some(mut silence) = found.into_iter().find(|silence| silence.id == id) else {
        return Err(format!("there is no silence {id}"));
    };
    if silence.until <= now {
        return Err(format!(
            "silence {id} has ended at {}",
            humantime::format_rfc3339_seconds(silence.until)
        ));
    }
    // One that has not begun never will.
    silence.from = silence.from.min(now);
    silence.until = now;
    write_silence(&connection, &silence).map_err(|error| cannot_write(store, &error))?;
    Ok(silence)
}

/// Takes an incident; who had it before keeps it.
///
/// # Errors
/// A sentence when there is no such incident, it has ended, somebody else has it, or the store cannot be written.
pub fn acknowledge(store: &Path, id: &str, by: &Acknowledgement) -> Result<(), String> {
    let mut connection = schema::open_beside(store)?;
    let written = |error| cannot_write(store, &error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(written)?;
    let found = incident::one(&transaction, id)
        .map_err(written)?
        .ok_or_else(|| format!("there is no incident {id}"))?;
    if let Some(at) = found.resolved_at {
        return Err(format!(
            "incident {id} has ended at {}",
            humantime::format_rfc3339_seconds(at)
        ));
    }
    if let Some(other) = found.acknowledged {
        return Err(format!(
            "incident {id} is already acknowledged, by {} at {}",
            other.by,
            humantime::format_rfc3339_seconds(other.at)
        ));
    }
    incident::acknowledge(&transaction, id, by).map_err(written)?;
    transaction.commit().map_err(written)
}

fn cannot_write(store: &Path, error: &rusqlite::Error) -> String {
    format!("cannot write to the store {}: {error}", store.display())
}

pub(super) fn write_silence(to: &Connection, silence: &Silence) -> rusqlite::Result<()> {
    let list = |list: &[String]| serde_json::json!(list).to_string();
    to.prepare_cached(
        "INSERT OR REPLACE INTO silence (id, servers, tags, starts, ends, reason, by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        silence.id,
        list(&silence.servers),
        list(&silence.tags),
        nanos(silence.from),
        nanos(silence.until),
        silence.reason.as_str(),
        silence.by.as_str(),
    ])
    .map(drop)
}

/// Silences, oldest first: all, or those that have not ended at a time.
pub(super) fn silences(
    from: &Connection,
    not_ended_at: Option<SystemTime>,
) -> rusqlite::Result<Vec<Silence>> {
    from.prepare_cached(
        "SELECT id, servers, tags, starts, ends, reason, by FROM silence
         WHERE ?1 IS NULL OR ends > ?1 ORDER BY starts, id",
    )?
    .query_map([not_ended_at.map(nanos)], read_silence)?
    .collect()
}

fn read_silence(row: &Row<'_>) -> rusqlite::Result<Silence> {
    let list = |json: String| serde_json::from_str(&json).unwrap_or_default();
    Ok(Silence {
        id: row.get(0)?,
        servers: list(row.get(1)?),
        tags: list(row.get(2)?),
        from: time(row.get(3)?),
        until: time(row.get(4)?),
        reason: Text::new(row.get::<_, String>(5)?),
        by: Text::new(row.get::<_, String>(6)?),
    })
}

/// All that holds or will hold.
pub(super) fn standing(from: &Connection, now: SystemTime) -> rusqlite::Result<Orders> {
    let acknowledged: rusqlite::Result<Vec<_>> = from
        .prepare_cached(
            "SELECT a.incident, a.at, a.by FROM acknowledgement a JOIN incident i ON i.id = a.incident
             WHERE i.resolved IS NULL ORDER BY a.incident",
        )?
        .query_map([], read_acknowledgement)?
        .collect();
    Ok(Orders {
        silences: silences(from, Some(now))?,
        acknowledged: acknowledged?,
    })
}

/// The same, as far as it can be read.
pub(super) fn readable(from: &Connection, now: SystemTime) -> Orders {
    let columns = "id, servers, tags, starts, ends, reason, by";
    let mut silences = readable_as(from, "silence", columns, "id", "", &read_silence);
    silences.retain(|silence| silence.until > now);
    let columns = "incident, at, by";
    let acknowledged = readable_as(
        from,
        "acknowledgement",
        columns,
        "incident",
        "",
        &read_acknowledgement,
    );
    Orders {
        silences,
        acknowledged,
    }
}

fn read_acknowledgement(row: &Row<'_>) -> rusqlite::Result<(String, Acknowledgement)> {
    let by = Acknowledgement {
        at: time(row.get(1)?),
        by: Text::new(row.get::<_, String>(2)?),
    };
    Ok((row.get(0)?, by))
}

/// A number that another process' commit changes, and ours does not.
pub(super) fn version(from: &Connection) -> rusqlite::Result<i64> {
    from.prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}
