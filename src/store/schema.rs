//! The tables, and opening the file.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags};

/// Version of the tables, kept in `user_version`. A file of a newer one is left untouched.
const VERSION: i32 = 2;

/// How long a statement waits for another process' lock: `status` reads while `watch` writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Times are nanoseconds since the epoch; traces are 16 bytes; words are those of the JSON contracts.
const TABLES: &str = "
CREATE TABLE target (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    endpoint     TEXT NOT NULL,
    dialect      TEXT,
    state        TEXT NOT NULL DEFAULT 'unknown',
    since        INTEGER,
    failed_layer TEXT,
    reason       TEXT,
    message      TEXT,
    last_probe   INTEGER,
    trace        BLOB,
    incident     TEXT,
    service      TEXT,
    instrumented INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE probe (
    id               INTEGER PRIMARY KEY,
    target           INTEGER NOT NULL,
    started          INTEGER NOT NULL,
    duration         INTEGER NOT NULL,
    state            TEXT NOT NULL,
    trace            BLOB NOT NULL,
    layer            TEXT,
    reason           TEXT,
    message          TEXT,
    http_status      INTEGER,
    jsonrpc_code     INTEGER,
    operations       TEXT
);
CREATE INDEX probe_of_target ON probe (target, started);
CREATE TABLE incident (
    id             TEXT PRIMARY KEY,
    target         INTEGER NOT NULL,
    opened         INTEGER NOT NULL,
    closed         INTEGER,
    verdict        TEXT,
    verdict_reason TEXT,
    provisional    INTEGER
) WITHOUT ROWID;
CREATE INDEX incident_of_target ON incident (target, opened);
";

/// Opens the file for writing, and makes it when it is missing.
pub(super) fn open(path: &Path) -> Result<Connection, String> {
    let connection = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
    prepare(&connection).map_err(|error| cannot_open(path, &error))?;
    let version = version(&connection).map_err(|error| cannot_open(path, &error))?;
    match version {
        0 => connection
            .execute_batch(&format!(
                "BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            ))
            .map_err(|error| cannot_open(path, &error))?,
        VERSION => {}
        other => return Err(wrong_version(path, other)),
    }
    Ok(connection)
}

/// Opens a file for reading; `None` when there is none, or when the first `watch` is just making it.
pub(super) fn open_to_read(path: &Path) -> Result<Option<Connection>, String> {
    if !path.exists() {
        return Ok(None);
    }
    // Not read-only: a reader of a write-ahead log has to take part in its locking.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    let ready = connection
        .busy_timeout(BUSY_TIMEOUT)
        .and_then(|()| connection.pragma_update(None, "query_only", true))
        .and_then(|()| version(&connection))
        .map_err(|error| cannot_open(path, &error))?;
    match ready {
        VERSION => Ok(Some(connection)),
        0 => Ok(None),
        other => Err(wrong_version(path, other)),
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A crash of mcpprobe loses nothing that was committed; a crash of the machine may lose the last second.
    connection.pragma_update(None, "synchronous", "NORMAL")
}

fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> String {
    format!("cannot use the store {}: {error}", path.display())
}

fn wrong_version(path: &Path, version: i32) -> String {
    format!(
        "the store {} has version {version}, this mcpprobe knows {VERSION}: it is left untouched; use another file or the mcpprobe that made it",
        path.display()
    )
}

pub(super) fn nanos(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn time(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// The word of an enum that serializes as one.
pub(super) fn word(value: impl serde::Serialize) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}

/// The enum of a word.
pub(super) fn from_word<T: serde::de::DeserializeOwned>(word: Option<String>) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word?)).ok()
}
