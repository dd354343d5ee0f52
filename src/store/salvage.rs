//! What can be read of a broken file: first what alerting needs, then, little by little, everything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use super::image::Image;
use super::schema::beside;

/// Probes that are copied in one transaction: some milliseconds.
const PIECE: i64 = 2_000;

/// Pieces in a row of which nothing can be read, after which the rest is given up: 400,000 probes.
const MAX_MISSES: u32 = 200;

/// Where new probes are numbered from when the newest number cannot be read.
const FAR: i64 = 1 << 40;

/// What is copied besides targets, whose rows the image has, and probes: the table, the order in which it lies on its
/// pages (sorting would need the broken ones too), and what its first column is.
const TABLES: [(&str, &str, FirstColumn); 9] = [
    ("incident", "id", FirstColumn::Key),
    ("acknowledgement", "incident", FirstColumn::Key),
    ("notice", "incident", FirstColumn::Key),
    ("timeline", "id", FirstColumn::Number),
    ("conversation", "rowid", FirstColumn::Key),
    ("asking", "rowid", FirstColumn::Key),
    ("silence", "id", FirstColumn::Key),
    ("hourly", "target", FirstColumn::Target),
    ("daily", "target", FirstColumn::Target),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstColumn {
    Key,
    /// A number of no meaning: it gets a new one.
    Number,
    /// A target's number, which may be another one in the new file.
    Target,
}

/// Gives a broken file another name, with its log: `NAME.corrupt-<UTC time>`.
pub(super) fn set_aside(store: &Path, now: SystemTime) -> std::io::Result<PathBuf> {
    let stamp = humantime::format_rfc3339_seconds(now).to_string();
    let stamp = stamp.replace([':', '-'], "");
    let aside = beside(store, &format!(".corrupt-{stamp}"));
    fs::rename(store, &aside)?;
    for log in ["-wal", "-shm"] {
        match fs::rename(beside(store, log), beside(&aside, log)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// The log of a file that is gone is nobody's: the next one of that name must not find it.
pub(super) fn remove_log(store: &Path) {
    for log in ["-wal", "-shm"] {
        fs::remove_file(beside(store, log)).ok();
    }
}

/// Copies the rows of a file that is not in use any more into the one that is.
pub(super) struct Salvage {
    source: Connection,
    /// Numbers of targets in the source, by their place in the image.
    targets: BTreeMap<i64, usize>,
    tables_done: bool,
    next: i64,
    misses: u32,
    copied: u64,
}

impl Salvage {
    /// Of a file that was set aside; none when nothing at all can be read of it.
    pub(super) fn of(aside: &Path) -> Option<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(aside, flags).ok()?;
        // Only readable as what we know.
        source.prepare("SELECT alert FROM target").ok()?;
        Some(Self::from(source))
    }

    /// Of a file that has no name any more but is still open.
    pub(super) fn from(source: Connection) -> Self {
        source.pragma_update(None, "query_only", true).ok();
        Self {
            source,
            targets: BTreeMap::new(),
            tables_done: false,
            next: i64::MIN,
            misses: 0,
            copied: 0,
        }
    }

    /// What alerting needs of it.
    pub(super) fn image(&self, now: SystemTime) -> Image {
        Image::load_readable(&self.source, now)
    }

    /// The first number for new probes.
    pub(super) fn first_free(&self) -> i64 {
        super::probe::newest(&self.source).map_or(FAR, |newest| newest + 1)
    }

    /// The image's targets by their numbers in the source: asked for while it still knows these.
    pub(super) fn know(&mut self, targets: BTreeMap<i64, usize>) {
        self.targets = targets;
    }

    /// Copies a piece; answers how many probes came over in all once everything is copied. Rows of the new file are
    /// newer and stay. The transaction is the caller's.
    pub(super) fn step(&mut self, to: &Connection, image: &Image) -> rusqlite::Result<Option<u64>> {
        let numbers = |old: i64| image.number(*self.targets.get(&old)?);
        if !self.tables_done {
            for (table, order, first) in TABLES {
                for mut row in readable(&self.source, table, order, "") {
                    match (first, row.first_mut()) {
                        (FirstColumn::Number, Some(first)) => *first = Value::Null,
                        (FirstColumn::Target, Some(first)) => match number(first).and_then(numbers)
                        {
                            Some(new) => *first = Value::Integer(new),
                            None => continue,
                        },
                        _ => {}
                    }
                    insert(to, table, &row)?;
                }
            }
            self.tables_done = true;
            return Ok(None);
        }
        let next = self.next;
        let found =
            self.source
                .query_row("SELECT min(id) FROM probe WHERE id >= ?1", [next], |row| {
                    row.get::<_, Option<i64>>(0)
                });
        let from = match found {
            Ok(None) => return Ok(Some(self.copied)),
            Ok(Some(first)) => first,
            // The way to it is broken, perhaps not that to later ones.
            Err(_) => next.max(0),
        };
        let range = format!("WHERE id >= {from} AND id < {}", from.saturating_add(PIECE));
        let rows = readable(&self.source, "probe", "id", &range);
        self.misses = if rows.is_empty() { self.misses + 1 } else { 0 };
        for mut row in rows {
            let Some(target) = row.get_mut(1) else {
                continue;
            };
            let Some(new) = number(target).and_then(numbers) else {
                continue;
            };
            *target = Value::Integer(new);
            insert(to, "probe", &row)?;
            self.copied += 1;
        }
        self.next = from.saturating_add(PIECE);
        Ok((self.misses >= MAX_MISSES).then_some(self.copied))
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

fn insert(to: &Connection, table: &str, row: &[Value]) -> rusqlite::Result<()> {
    let places = vec!["?"; row.len()].join(", ");
    to.prepare_cached(&format!("INSERT OR IGNORE INTO {table} VALUES ({places})"))?
        .execute(params_from_iter(row))
        .map(drop)
}

/// Every row that can be read: from the front up to the page that cannot, then from the back up to it.
fn readable(from: &Connection, table: &str, order: &str, range: &str) -> Vec<Vec<Value>> {
    let read = |row: &Row<'_>| -> rusqlite::Result<Vec<Value>> {
        let columns = row.as_ref().column_count();
        (0..columns).map(|column| row.get(column)).collect()
    };
    readable_as(from, table, "*", order, range, &read)
}

/// The same of some columns, read as something. Indexes are passed over: one more thing that may be broken.
pub(super) fn readable_as<T>(
    from: &Connection,
    table: &str,
    columns: &str,
    order: &str,
    range: &str,
    read: &dyn Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut rows = Vec::new();
    let whole = pass(
        from,
        &format!("SELECT {columns} FROM {table} NOT INDEXED {range} ORDER BY {order}"),
        read,
        &mut rows,
    );
    if !whole {
        let mut back = Vec::new();
        pass(
            from,
            &format!("SELECT {columns} FROM {table} NOT INDEXED {range} ORDER BY {order} DESC"),
            read,
            &mut back,
        );
        rows.extend(back.into_iter().rev());
    }
    rows
}

/// Whether it came to the end.
fn pass<T>(
    from: &Connection,
    sql: &str,
    read: &dyn Fn(&Row<'_>) -> rusqlite::Result<T>,
    rows: &mut Vec<T>,
) -> bool {
    let mut pass = || -> rusqlite::Result<()> {
        let mut statement = from.prepare(sql)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            // A row of nonsense is no reason to stop.
            rows.extend(read(row));
        }
        Ok(())
    };
    pass().is_ok()
}
