//! The tables, their versions, and opening the file.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// Version of the tables, kept in `user_version`. An older file is brought up to it, a newer one is left untouched.
pub(super) const VERSION: i32 = 4;

/// How long a command waits for another process' lock: `watch` holds it for milliseconds, a `VACUUM` for longer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for the writer, which has a memory to fall back on and notices to hand on.
const WRITER_BUSY_TIMEOUT: Duration = Duration::from_secs(1);

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
    instrumented INTEGER NOT NULL DEFAULT 0,
    suspect      INTEGER NOT NULL DEFAULT 0,
    alert        TEXT,
    lag          INTEGER
);
CREATE TABLE probe (
    id           INTEGER PRIMARY KEY,
    target       INTEGER NOT NULL,
    started      INTEGER NOT NULL,
    duration     INTEGER NOT NULL,
    state        TEXT NOT NULL,
    trace        BLOB NOT NULL,
    layer        TEXT,
    reason       TEXT,
    message      TEXT,
    http_status  INTEGER,
    jsonrpc_code INTEGER,
    operations   TEXT,
    layers       BLOB,
    flags        INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX probe_of_target ON probe (target, started);
";

/// Everything that version 3 added. A target is named in an incident, not numbered: it may be gone by then.
const ALERTING_TABLES: &str = "
CREATE TABLE incident (
    id             TEXT PRIMARY KEY,
    server         TEXT,
    kind           TEXT NOT NULL,
    severity       TEXT NOT NULL,
    state          TEXT NOT NULL,
    failed_layer   TEXT,
    reason         TEXT,
    message        TEXT NOT NULL,
    trace          BLOB,
    first_failed   INTEGER NOT NULL,
    opened         INTEGER NOT NULL,
    resolved       INTEGER,
    resolution     TEXT,
    flapping       INTEGER NOT NULL DEFAULT 0,
    suppressed     TEXT,
    verdict        TEXT,
    verdict_reason TEXT,
    provisional    INTEGER
) WITHOUT ROWID;
CREATE INDEX incident_of_server ON incident (server, first_failed);
CREATE INDEX incident_by_time ON incident (first_failed);
CREATE INDEX incident_open ON incident (kind) WHERE resolved IS NULL;
CREATE TABLE acknowledgement (
    incident TEXT PRIMARY KEY,
    at       INTEGER NOT NULL,
    by       TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE timeline (
    id       INTEGER PRIMARY KEY,
    incident TEXT NOT NULL,
    at       INTEGER NOT NULL,
    what     TEXT NOT NULL,
    text     TEXT NOT NULL
);
CREATE INDEX timeline_of_incident ON timeline (incident);
CREATE TABLE conversation (
    incident TEXT PRIMARY KEY,
    text     TEXT NOT NULL
);
CREATE TABLE notice (
    incident      TEXT NOT NULL,
    channel       TEXT NOT NULL,
    sequence      INTEGER NOT NULL,
    event         TEXT NOT NULL,
    created       INTEGER NOT NULL,
    due           INTEGER NOT NULL,
    body          TEXT NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER,
    delivered     INTEGER,
    given_up      INTEGER,
    last_error    TEXT,
    PRIMARY KEY (incident, channel, sequence)
) WITHOUT ROWID;
CREATE INDEX notice_undelivered ON notice (created) WHERE delivered IS NULL AND given_up IS NULL;
CREATE INDEX notice_given_up ON notice (given_up) WHERE given_up IS NOT NULL;
CREATE TABLE silence (
    id      TEXT PRIMARY KEY,
    servers TEXT NOT NULL,
    tags    TEXT NOT NULL,
    starts  INTEGER NOT NULL,
    ends    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    by      TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE hourly (
    target   INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    up       INTEGER NOT NULL,
    degraded INTEGER NOT NULL,
    failed   INTEGER NOT NULL,
    unknown  INTEGER NOT NULL,
    reasons  TEXT,
    latency  BLOB NOT NULL,
    PRIMARY KEY (target, start)
) WITHOUT ROWID;
CREATE TABLE daily (
    target   INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    up       INTEGER NOT NULL,
    degraded INTEGER NOT NULL,
    failed   INTEGER NOT NULL,
    unknown  INTEGER NOT NULL,
    reasons  TEXT,
    latency  BLOB NOT NULL,
    PRIMARY KEY (target, start)
) WITHOUT ROWID;
CREATE TABLE fact (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
";

/// What version 4 added: what the trace backend said of an incident, each time that it was asked.
const ASKING_TABLE: &str = "
CREATE TABLE asking (
    incident TEXT NOT NULL,
    at       INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (incident, at)
);
";

/// Version 1 called `era` what is a dialect: HTTP+SSE is of the legacy era too.
const FROM_1: &str = "ALTER TABLE target RENAME COLUMN era TO dialect;";

/// The incidents of version 2 were outages, known from the first failed probe on; what they said stands in that
/// probe, or, where that is gone, with the target.
const FROM_2: &str = "
ALTER TABLE target ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0;
ALTER TABLE target ADD COLUMN alert TEXT;
ALTER TABLE probe ADD COLUMN layers BLOB;
ALTER TABLE probe ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
DROP INDEX incident_of_target;
ALTER TABLE incident RENAME TO incident_of_2;
";
const FROM_2_INCIDENTS: &str = "
INSERT INTO incident (id, server, kind, severity, state, failed_layer, reason, message, trace, first_failed, opened,
                      resolved, resolution, verdict, verdict_reason, provisional)
SELECT i.id, t.name, 'outage', 'critical', coalesce(p.state, 'down'),
       coalesce(p.layer, CASE WHEN i.closed IS NULL THEN t.failed_layer END),
       coalesce(p.reason, CASE WHEN i.closed IS NULL THEN t.reason END),
       coalesce(p.message, CASE WHEN i.closed IS NULL THEN t.message END, ''),
       p.trace, i.opened, i.opened, i.closed, CASE WHEN i.closed IS NOT NULL THEN 'recovered' END,
       i.verdict, i.verdict_reason, i.provisional
FROM incident_of_2 i JOIN target t ON t.id = i.target
LEFT JOIN probe p ON p.id = (SELECT min(id) FROM probe WHERE target = i.target AND started = i.opened);
DROP TABLE incident_of_2;
";

/// Version 3 did not know how late a target's spans usually are.
const FROM_3: &str = "ALTER TABLE target ADD COLUMN lag INTEGER;";

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It is of a newer mcpprobe: left untouched.
    Newer(i32),
    /// It is some other program's database: left untouched.
    Foreign,
    /// It is of an older mcpprobe, and this is not who may change that.
    Older(i32),
    /// SQLite says no.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(version) => write!(
                f,
                "it has version {version}, this mcpprobe knows {VERSION}: it is left untouched; use another file or the mcpprobe that made it"
            ),
            Self::Foreign => write!(
                f,
                "it is another program's database: it is left untouched; give mcpprobe another `path` in [store]"
            ),
            Self::Older(version) => write!(
                f,
                "it has version {version}: a `mcpprobe watch` of this version brings it up to {VERSION}"
            ),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

impl OpenError {
    /// As a sentence about the file.
    pub(super) fn about(&self, path: &Path) -> String {
        format!("cannot use the store {}: {self}", path.display())
    }
}

/// Opens the file for the one writer: makes it when it is missing, brings it up to date when it is old. Nothing is
/// changed before its version is known.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(WRITER_BUSY_TIMEOUT)?;
    let found = known_version(&connection, path)?;
    if found == 0 {
        // Only a file without tables can be told: pages that are given back to the disk, little by little.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A notice whose row a power cut took back would be sent twice or, worse, its incident forgotten. It costs 2 ms of
    // waiting a transaction, 0.1 ms of it CPU (measured), and there are five a second at most and one for each notice.
    connection.pragma_update(None, "synchronous", "FULL")?;
    for version in found..VERSION {
        migrate(&mut connection, version)?;
    }
    Ok(connection)
}

/// One step, in one transaction; a new file is made in one step.
fn migrate(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have done it while we waited for the lock.
    if version(&transaction)? != from {
        return Ok(());
    }
    let to = match from {
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(ALERTING_TABLES)?;
            transaction.execute_batch(ASKING_TABLE)?;
            VERSION
        }
        1 => {
            transaction.execute_batch(FROM_1)?;
            2
        }
        2 => {
            transaction.execute_batch(FROM_2)?;
            transaction.execute_batch(ALERTING_TABLES)?;
            transaction.execute_batch(FROM_2_INCIDENTS)?;
            3
        }
        _ => {
            transaction.execute_batch(FROM_3)?;
            transaction.execute_batch(ASKING_TABLE)?;
            4
        }
    };
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()
}

/// Looks at the version in the file's own head, without SQLite, which would make files beside it. Only before anything
/// in this process has opened the file: to close it again takes the locks of every SQLite connection to it away (POSIX),
/// and then another process that closes it deletes the log under our feet.
pub(super) fn refuse_newer_unopened(path: &Path) -> Result<(), OpenError> {
    let mut head = [0; HEAD];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let (Ok(()), true) = (read, head.starts_with(MAGIC)) else {
        return Ok(());
    };
    let bytes = head
        .get(USER_VERSION)
        .and_then(|bytes| bytes.try_into().ok());
    match bytes.map(i32::from_be_bytes) {
        Some(version) if version > VERSION => Err(OpenError::Newer(version)),
        _ => Ok(()),
    }
}

/// Whether the file still begins as a store does, and each table of it, as far as the log does not say better. A
/// connection that is open would tell from its memory, a new one has to look.
pub(super) fn look_at_head(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    version(&connection)?;
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?;
    for name in names {
        let first = format!("SELECT 1 FROM \"{}\" LIMIT 1", name?.replace('"', "\"\""));
        connection.prepare(&first)?.exists([])?;
    }
    Ok(())
}

/// The first bytes of every SQLite file, and where its head has the version.
const MAGIC: &[u8] = b"SQLite format 3\0";
const HEAD: usize = 100;
const USER_VERSION: std::ops::Range<usize> = 60..64;

/// The version as SQLite knows it: the newest may still be in the log.
fn known_version(connection: &Connection, path: &Path) -> Result<i32, OpenError> {
    let found = version(connection)?;
    if found > VERSION {
        // Closing would move the log into the file; where there is nothing in it, it only cleans up.
        if std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        return Err(OpenError::Newer(found));
    }
    if found <= 0 {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if found < 0 || tables > 0 {
            // Unless it was made between the two questions.
            return match version(connection)? {
                made @ 1..=VERSION if found == 0 => Ok(made),
                _ => Err(OpenError::Foreign),
            };
        }
    }
    Ok(found)
}

/// A file beside the store, such as its log.
pub(super) fn beside(store: &Path, end: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Opens a file that has been made; `None` when there is none, or when the first `watch` is just making it.
fn open_made(path: &Path) -> Result<Option<Connection>, OpenError> {
    if !path.exists() {
        return Ok(None);
    }
    // Not read-only: a reader of a write-ahead log has to take part in its locking.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    match known_version(&connection, path)? {
        VERSION => Ok(Some(connection)),
        0 => Ok(None),
        older => Err(OpenError::Older(older)),
    }
}

/// Opens a file for reading; `None` when no `watch` has made it yet.
pub(super) fn open_to_read(path: &Path) -> Result<Option<Connection>, String> {
    let opened = open_made(path).and_then(|connection| {
        if let Some(connection) = &connection {
            connection.pragma_update(None, "query_only", true)?;
        }
        Ok(connection)
    });
    opened.map_err(|error| error.about(path))
}

/// Opens a file for a command that writes a row or two, or takes care of the file, beside a `watch`.
pub(super) fn open_beside(path: &Path) -> Result<Connection, String> {
    let opened = open_made(path).and_then(|connection| {
        if let Some(connection) = &connection {
            connection.pragma_update(None, "synchronous", "FULL")?;
        }
        Ok(connection)
    });
    opened.map_err(|error| error.about(path))?.ok_or_else(|| {
        format!(
            "there is no store {}: no `mcpprobe watch` has made it yet",
            path.display()
        )
    })
}

pub(super) fn nanos(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn time(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// The enum of a word.
pub(super) fn from_word<T: serde::de::DeserializeOwned>(word: Option<String>) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IncidentKind, Layer, Reason, State};
    use crate::store::Reader;

    const OLD: [(i32, &str); 3] = [
        (1, include_str!("../../tests/data/store/v1.sql")),
        (2, include_str!("../../tests/data/store/v2.sql")),
        (3, include_str!("../../tests/data/store/v3.sql")),
    ];

    fn made(sql: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        (folder, path)
    }

    #[test]
    fn old_files_are_brought_up_to_date_and_keep_their_incidents() {
        for (version, sql) in OLD {
            let (_folder, path) = made(sql);
            let refused = Reader::open(&path).err().unwrap();
            assert!(refused.contains(&format!("version {version}")), "{refused}");
            drop(open(&path).unwrap());
            let reader = Reader::open(&path).unwrap();
            let open = reader.open_incidents().unwrap();
            assert_eq!(open.len(), 1);
            assert_eq!(open[0].id, "open1");
            assert_eq!(open[0].server.as_deref(), Some("weather"));
            assert_eq!(open[0].kind, IncidentKind::Outage);
            assert_eq!(open[0].message.as_str(), "HTTP 502 Bad Gateway");
            assert_eq!(open[0].reason, Some(Reason::HttpStatus));
            assert_eq!(open[0].provisional, Some(true));
            let ended = reader.incident("ended1").unwrap().unwrap();
            assert!(ended.resolved_at.is_some() && ended.resolution.is_some());
            let status = reader.status("weather").unwrap();
            assert_eq!(
                (status.state, status.failed_layer),
                (State::Down, Some(Layer::Http))
            );
            assert_eq!(status.incident.as_deref(), Some("open1"));
            assert!(status.verdict.is_some() && !status.suspect);
            let remembered = reader.remembered("weather").unwrap();
            assert_eq!(remembered.dialect.map(|d| d.as_str()), Some("legacy"));
            let around = reader
                .probes_around("weather", open[0].first_failed_at)
                .unwrap();
            assert_eq!((around.failed.len(), around.passed.len()), (2, 1));
            assert_eq!(reader.recorded(UNIX_EPOCH).unwrap().count(), 3);
        }
    }

    #[test]
    fn a_new_file_and_a_migrated_one_have_the_same_tables() {
        let tables = |path: &Path| -> Vec<String> {
            let connection = open(path).unwrap();
            let mut columns = connection
                .prepare(
                    "SELECT m.name || '.' || c.name || ' ' || c.type FROM sqlite_schema m, pragma_table_info(m.name) c
                     WHERE m.type = 'table' UNION SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY 1",
                )
                .unwrap();
            let rows = columns.query_map([], |row| row.get(0)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let new = tables(&folder.path().join("new.db"));
        assert!(new.len() > 80, "{new:?}");
        for (_, sql) in OLD {
            let (_folder, path) = made(sql);
            assert_eq!(tables(&path), new);
        }
    }

    #[test]
    fn a_newer_file_and_another_programs_are_left_untouched() {
        for sql in [
            "CREATE TABLE t (x); PRAGMA user_version = 5;",
            "PRAGMA journal_mode = WAL; CREATE TABLE t (x); PRAGMA user_version = 99;",
            "CREATE TABLE somebody_elses (x); INSERT INTO somebody_elses VALUES (1);",
        ] {
            let (folder, path) = made(sql);
            let before = std::fs::read(&path).unwrap();
            let error = open(&path).unwrap_err();
            assert!(error.to_string().contains("left untouched"), "{error}");
            assert!(open_to_read(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), before);
            assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        }
    }

    #[test]
    fn a_new_file_gives_pages_back_and_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("s.db")).unwrap();
        let pragma = |name: &str| -> String {
            let query = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            connection.query_row(&query, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(pragma("auto_vacuum"), "2");
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("synchronous"), "2");
    }
}
