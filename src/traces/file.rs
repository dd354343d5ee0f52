//! The file: its tables, opening it, whose it is, and putting a broken one aside.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Kept in `user_version`. A newer file is left untouched.
const VERSION: i32 = 1;

/// Tells our file from another program's, and from the probes' one (`application_id`): "mcpT".
const APPLICATION: i32 = 0x6d63_7054;

/// How long somebody else's lock is waited for: a writer holds it for milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Who looks whether somebody writes holds the lock for a moment; who starts just then waits this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most of it is blocks of some 100 KB: with large pages there are fewer to be kept book of.
const PAGE_SIZE: i32 = 16_384;

/// Times are nanoseconds since the epoch. Bytes stand apart from what is known of them, so that a look at all blocks
/// reads a few pages.
const TABLES: &str = "
CREATE TABLE block (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    last   INTEGER NOT NULL,
    spans  INTEGER NOT NULL,
    merged INTEGER NOT NULL,
    head   TEXT NOT NULL
);
CREATE INDEX block_by_last ON block (last);
CREATE TABLE content (
    block        INTEGER PRIMARY KEY,
    fingerprints BLOB NOT NULL,
    bytes        BLOB NOT NULL
);
CREATE TABLE loss (
    id     INTEGER PRIMARY KEY,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    spans  INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE run (
    id      INTEGER PRIMARY KEY,
    started INTEGER NOT NULL,
    seen    INTEGER NOT NULL
);
CREATE TABLE fact (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process writes to it.
    InUse(PathBuf),
    /// It is of a newer mcpprobe: left untouched.
    Newer(PathBuf),
    /// It is another program's database: left untouched.
    Foreign(PathBuf),
    /// The writing thread cannot be started.
    Thread(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "another `mcpprobe watch` keeps its traces in {}: give this one another `path` in [traces]",
                path.display()
            ),
            Self::Newer(path) => write!(
                f,
                "{} is of a newer mcpprobe and is left untouched: give this one another `path` in [traces]",
                path.display()
            ),
            Self::Foreign(path) => write!(
                f,
                "{} is another program's database and is left untouched: give mcpprobe another `path` in [traces]",
                path.display()
            ),
            Self::Thread(error) => write!(f, "cannot start the traces' thread: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What a look at a file's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    New,
    Ours,
    Newer,
    Foreign,
}

fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION, VERSION) => Kind::Ours,
        (APPLICATION, newer) if newer > VERSION => Kind::Newer,
        (0, 0) if tables == 0 => Kind::New,
        _ => Kind::Foreign,
    })
}

/// Opens the file for its one writer, and makes it when it is missing.
pub(super) fn open(path: &Path) -> rusqlite::Result<(Connection, Kind)> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let found = kind(&connection)?;
    match found {
        Kind::Newer | Kind::Foreign => return Ok((connection, found)),
        Kind::New => {
            connection.pragma_update(None, "page_size", PAGE_SIZE)?;
            // Only a file without tables can be told: pages that are given back to the disk, little by little.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        Kind::Ours => {}
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power cut may take the last moments of spans; waiting for the disk twice a second buys nothing that is missed.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if found == Kind::New {
        let made = connection.transaction()?;
        made.execute_batch(TABLES)?;
        made.pragma_update(None, "application_id", APPLICATION)?;
        made.pragma_update(None, "user_version", VERSION)?;
        made.commit()?;
    }
    Ok((connection, found))
}

/// Opens a file to read it; `None` when nobody has made it yet, or it is none of ours.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Option<Connection>> {
    if !path.exists() {
        return Ok(None);
    }
    // Not read-only: a reader of a write-ahead log has to take part in its locking.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok((kind(&connection)? == Kind::Ours).then_some(connection))
}

/// The file's own, which another one of the same name has not: device and inode.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let data = fs::metadata(path).ok()?;
    Some((data.dev(), data.ino()))
}

/// The file itself is broken, or is no database at all.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// A block of the file is broken: as if SQLite had said it.
pub(super) fn unreadable(block: i64) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    let why = format!("its block {block} is damaged, and what is missing there is not known");
    rusqlite::Error::SqliteFailure(code, Some(why))
}

/// Gives a broken file another name, with its log: `NAME.corrupt-<UTC time>`.
pub(super) fn set_aside(path: &Path, now: SystemTime) -> std::io::Result<PathBuf> {
    let stamp = humantime::format_rfc3339_seconds(now).to_string();
    let stamp = stamp.replace([':', '-'], "");
    let aside = beside(path, &format!(".corrupt-{stamp}"));
    fs::rename(path, &aside)?;
    for log in ["-wal", "-shm"] {
        match fs::rename(beside(path, log), beside(&aside, log)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Held for as long as somebody writes. The operating system lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: Option<File>,
}

impl Lock {
    /// Whether it could be made.
    pub(super) fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// Takes the lock; one that cannot be made is the disk's trouble and not another process.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let made = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(beside(path, ".lock"));
        let Ok(file) = made else {
            return Ok(Self { file: None });
        };
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(PATIENCE / 20);
                }
                Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Self { file: Some(file) }),
            }
        }
    }
}

/// Whether somebody is writing to the file now.
pub fn is_kept(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(beside(path, ".lock")) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
