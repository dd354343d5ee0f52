//! What a person does with the file: check it, copy it, make it small. All of it beside a `watch` that runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::schema;

/// Complaints of one check; the first tell enough.
const MAX_COMPLAINTS: u32 = 20;

/// How long a copy waits when somebody holds the lock, and how often it tries again.
const BACKUP_PAUSE: Duration = Duration::from_millis(50);

/// Everything that is wrong with the file; nothing when it is whole.
///
/// # Errors
/// A sentence when there is none, or it is none of ours.
pub fn check(store: &Path) -> Result<Vec<String>, String> {
    let connection = schema::open_beside(store)?;
    let complaints = || -> rusqlite::Result<Vec<String>> {
        connection
            .prepare(&format!("PRAGMA integrity_check({MAX_COMPLAINTS})"))?
            .query_map([], |row| row.get(0))?
            .collect()
    };
    match complaints() {
        Ok(lines) if lines == ["ok"] => Ok(Vec::new()),
        Ok(lines) => Ok(lines),
        // So broken that it cannot be checked.
        Err(error) => Ok(vec![error.to_string()]),
    }
}

/// Copies the store as it is at one moment; the copy has its name only once it is whole.
///
/// # Errors
/// A sentence when there is no store, something has that name, or it cannot be written.
pub fn backup(store: &Path, to: &Path) -> Result<u64, String> {
    if to.exists() {
        return Err(format!("there is a file {} already", to.display()));
    }
    let source = schema::open_beside(store)?;
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let failed = |error: &dyn std::fmt::Display| {
        fs::remove_file(part).ok();
        format!(
            "cannot copy {} to {}: {error}",
            store.display(),
            to.display()
        )
    };
    fs::remove_file(part).ok();
    copy(&source, part).map_err(|error| failed(&error))?;
    fs::rename(part, to).map_err(|error| failed(&error))?;
    Ok(fs::metadata(to).map_or(0, |data| data.len()))
}

/// In one step: one that is taken in pieces begins anew with each write of another process, and `watch` writes always.
fn copy(source: &Connection, to: &Path) -> rusqlite::Result<()> {
    let mut copy = Connection::open(to)?;
    Backup::new(source, &mut copy)?.run_to_completion(i32::MAX, BACKUP_PAUSE, None)?;
    // One file: no log beside it, neither now nor when it is first read.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.close().map_err(|(_, error)| error)
}

/// Writes the file anew without its gaps; answers its size before and after.
///
/// # Errors
/// A sentence when there is no store, or there is no room for a second one beside it.
pub fn vacuum(store: &Path) -> Result<(u64, u64), String> {
    let connection = schema::open_beside(store)?;
    let size = || fs::metadata(store).map_or(0, |data| data.len());
    let before = size();
    connection
        // An old file learns with this to give pages back by itself.
        .execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        .map_err(|error| format!("cannot vacuum the store {}: {error}", store.display()))?;
    Ok((before, size()))
}
