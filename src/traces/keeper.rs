//! The one that writes: brings blocks into the file, merges small ones, and lets the oldest go.
//!
//! Whatever the disk does, nothing waits for it: what cannot be written waits here, up to a limit, and then senders are
//! turned away, which is counted and told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};

use super::admission::nanos;
use super::block::{self, Block, Spans};
use super::file::{self, Kind, Lock, OpenError};
use super::head::Head;
use super::merge::merge;
use super::pending::{Handover, Intake};

/// Spans of small blocks that are merged: some megabytes are read and written again.
const MERGE_SPANS: u64 = 16_384;

/// Bytes of small blocks that are merged however few spans they have: they lie in memory decompressed for that.
const MERGE_BYTES: usize = 16 * 1024 * 1024;

/// Small blocks that are merged however few spans they have: each is a row to be looked at.
const MERGE_BLOCKS: usize = 512;

/// How long a small block stays one.
const MERGE_AFTER: Duration = Duration::from_secs(3600);

/// How often the oldest are looked for, and it is written down that somebody is here.
const CHORES: Duration = Duration::from_secs(30);

/// Bytes of blocks that wait for the disk before nothing more is taken over: of some 100,000 spans.
const BACKLOG: usize = 16 * 1024 * 1024;

/// After a failure, before the next attempt.
const RETRY: Duration = Duration::from_secs(2);

/// Pages that are given back to the disk at once: 16 MB.
const PAGES: i64 = 1_024;

/// How long before it is sent a span may have begun: SDKs export every 5 s, collectors twice a minute, and a call that
/// takes longer is rare.
const EXPORTED_AFTER: Duration = Duration::from_secs(60);

/// Losses that are remembered; the oldest go first. One row stands for all that was turned away together.
const LOSSES: i64 = 10_000;

/// Where warnings go.
pub type Warn = Arc<dyn Fn(&str) + Send + Sync>;

/// Where the spans are, and how many of them.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The file.
    pub path: PathBuf,
    /// How long a span is kept after it began.
    pub keep: Duration,
    /// Bytes of the file, roughly: what is above goes, oldest first.
    pub max_size: u64,
    /// Arguments, prompts, results and the like are kept too; credentials never are.
    pub keep_content: bool,
}

/// Why spans that came in are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossReason {
    /// They were turned away because too much was waiting; who sent them may have come again.
    TurnedAway,
    /// The bytes could not be read any more.
    Damaged,
}

impl LossReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TurnedAway => "turned_away",
            Self::Damaged => "damaged",
        }
    }
}

pub(super) struct Keeper {
    settings: StoreSettings,
    warn: Warn,
    intake: Intake,
    lock: Lock,
    file: Option<Connection>,
    identity: Option<(u64, u64)>,
    /// Small blocks of the file.
    small: Vec<Small>,
    backlog: Vec<Block>,
    losses: Vec<Loss>,
    /// Of this run, in the file.
    run: Option<i64>,
    started: SystemTime,
    trouble: Option<Instant>,
    said: bool,
    chores_at: Instant,
}

struct Small {
    id: i64,
    spans: u64,
    /// Decompressed.
    size: usize,
    since: Instant,
}

/// In nanoseconds since the epoch.
struct Loss {
    first: u64,
    last: u64,
    spans: u64,
    reason: LossReason,
}

impl Loss {
    /// Of a block by its head, or by what the table says where that cannot be read either: then they may be of any time
    /// before.
    fn of_block(head: &str, last: u64, spans: u64) -> Self {
        let head = serde_json::from_str::<Head>(head).ok();
        Self {
            first: head.as_ref().map_or(0, Head::first),
            last: head.as_ref().map_or(last, Head::last),
            spans,
            reason: LossReason::Damaged,
        }
    }
}

/// What is in the file of a block, and of the block that is missing where its content is.
const STORED: &str = "SELECT head, last, spans, ifnull(bytes, x''), id, ifnull(length(fingerprints) % 4, 0) FROM block LEFT JOIN content ON block = id";

impl Keeper {
    pub(super) fn open(
        settings: StoreSettings,
        intake: Intake,
        warn: Warn,
    ) -> Result<Self, OpenError> {
        let lock = Lock::take(&settings.path)?;
        let now = Instant::now();
        let mut keeper = Self {
            settings,
            warn,
            intake,
            lock,
            file: None,
            identity: None,
            small: Vec::new(),
            backlog: Vec::new(),
            losses: Vec::new(),
            run: None,
            started: SystemTime::now(),
            trouble: None,
            said: false,
            chores_at: now,
        };
        match keeper.open_file() {
            Ok(Kind::Newer) => return Err(OpenError::Newer(keeper.settings.path)),
            Ok(Kind::Foreign) => return Err(OpenError::Foreign(keeper.settings.path)),
            Ok(Kind::New | Kind::Ours) => {}
            Err(error) => keeper.failed(&error, now),
        }
        Ok(keeper)
    }

    /// Until nothing more comes in.
    pub(super) fn run(mut self) {
        loop {
            let Handover {
                encoder,
                flushes,
                tidy,
                turned_away,
                closed,
            } = self
                .intake
                .wait(self.patience(Instant::now()), self.has_room());
            if turned_away > 0 {
                self.lose(turned_away, SystemTime::now());
            }
            if encoder.len() > 0 {
                self.backlog.push(encoder.finish());
            }
            if tidy {
                self.chores_at = Instant::now();
            }
            self.tend(Instant::now(), closed || !flushes.is_empty());
            for done in flushes {
                done.send(()).ok();
            }
            if closed {
                return self.end();
            }
        }
    }

    fn end(&self) {
        let unwritten: u64 = self.backlog.iter().map(|b| b.head.spans()).sum();
        if unwritten > 0 {
            let path = self.settings.path.display();
            (self.warn)(&format!("{unwritten} spans could not be stored in {path}"));
        }
    }

    fn has_room(&self) -> bool {
        self.backlog
            .iter()
            .map(|block| block.bytes.len())
            .sum::<usize>()
            < BACKLOG
    }

    fn patience(&self, now: Instant) -> Duration {
        let next = self.trouble.unwrap_or(self.chores_at).min(self.chores_at);
        next.saturating_duration_since(now)
    }

    fn tend(&mut self, now: Instant, hurry: bool) {
        if self.trouble.is_some_and(|until| now < until) && !hurry {
            return;
        }
        match self.attempt(now) {
            Ok(()) => self.works_again(),
            Err(error) => self.failed(&error, now),
        }
    }

    fn attempt(&mut self, now: Instant) -> rusqlite::Result<()> {
        let is_there = file::identity(&self.settings.path) == self.identity;
        if !is_there {
            // Somebody has taken the file away: what is written to it now, nobody would ever read.
            self.file = None;
        }
        if self.intake.take_damage() {
            self.look_for_damage()?;
        }
        if self.file.is_none() {
            self.open_file()?;
        }
        if self.file.is_none() {
            return Err(unusable("it is another program's, or a newer mcpprobe's"));
        }
        self.write(now)?;
        if self.is_merge_due(now) {
            self.merge()?;
        }
        if now >= self.chores_at {
            self.chores_at = now + CHORES;
            self.chores()?;
        }
        Ok(())
    }

    fn open_file(&mut self) -> rusqlite::Result<Kind> {
        let path = self.settings.path.clone();
        if !self.lock.is_held() {
            // The folder may have been missing.
            self.lock = Lock::take(&path).map_err(|error| unusable(&error.to_string()))?;
        }
        let (connection, kind) = file::open(&path)?;
        if matches!(kind, Kind::Newer | Kind::Foreign) {
            return Ok(kind);
        }
        let now = Instant::now();
        let seen = nanos(SystemTime::now());
        connection.execute(
            "INSERT OR IGNORE INTO fact VALUES ('kept_since', ?1)",
            [seen],
        )?;
        connection.execute(
            "INSERT INTO run (started, seen) VALUES (?1, ?2)",
            [nanos(self.started), seen],
        )?;
        self.run = Some(connection.last_insert_rowid());
        self.small = connection
            .prepare(
                "SELECT id, spans, length(bytes) FROM block JOIN content ON block = id WHERE merged = 0 ORDER BY id",
            )?
            .query_map([], |row| {
                Ok(Small {
                    id: row.get(0)?,
                    spans: row.get(1)?,
                    // Roughly: what they take decompressed is not known before.
                    size: 4 * row.get::<_, usize>(2)?,
                    since: now,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        self.identity = file::identity(&path);
        self.file = Some(connection);
        Ok(kind)
    }

    /// Everything that waits, in one transaction.
    fn write(&mut self, now: Instant) -> rusqlite::Result<()> {
        if self.backlog.is_empty() && self.losses.is_empty() {
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let transaction = file.transaction()?;
        let mut small = Vec::with_capacity(self.backlog.len());
        for block in &self.backlog {
            let id = insert(&transaction, block, false)?;
            small.push(Small {
                id,
                spans: block.head.spans(),
                size: block.size,
                since: now,
            });
        }
        for loss in &self.losses {
            insert_loss(&transaction, loss)?;
        }
        transaction.commit()?;
        self.backlog.clear();
        self.losses.clear();
        self.small.extend(small);
        Ok(())
    }

    fn is_merge_due(&self, now: Instant) -> bool {
        let spans: u64 = self.small.iter().map(|small| small.spans).sum();
        let bytes: usize = self.small.iter().map(|small| small.size).sum();
        let oldest = self.small.first().map(|small| small.since);
        spans >= MERGE_SPANS
            || bytes >= MERGE_BYTES
            || self.small.len() >= MERGE_BLOCKS
            || oldest.is_some_and(|since| now.duration_since(since) >= MERGE_AFTER)
    }

    fn merge(&mut self) -> rusqlite::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let transaction = file.transaction()?;
        let (mut small, mut losses) = (Vec::new(), Vec::new());
        {
            let mut stored = transaction.prepare(&format!("{STORED} WHERE id = ?1"))?;
            for Small { id, .. } in &self.small {
                let read = stored.query_row([id], |row| {
                    let head = row.get_ref(0)?.as_str().unwrap_or_default();
                    let loss = Loss::of_block(head, row.get(1)?, row.get(2)?);
                    Ok((loss, row.get(3)?))
                });
                if let Some((loss, bytes)) = read.optional()? {
                    small.push((bytes, loss.spans));
                    losses.push(loss);
                }
            }
        }
        let (blocks, lost) = merge(&small);
        for block in &blocks {
            insert(&transaction, block, true)?;
        }
        for Small { id, .. } in &self.small {
            delete(&transaction, *id)?;
        }
        // With what it is the loss of, or a kill in between would make silence of it.
        for (loss, spans) in losses.into_iter().zip(&lost) {
            if *spans > 0 {
                insert_loss(
                    &transaction,
                    &Loss {
                        spans: *spans,
                        ..loss
                    },
                )?;
            }
        }
        transaction.commit()?;
        self.small.clear();
        self.tell_loss(lost.iter().sum());
        Ok(())
    }

    fn tell_loss(&self, spans: u64) {
        if spans > 0 {
            let path = self.settings.path.display();
            (self.warn)(&format!(
                "{spans} spans in {path} are damaged and were taken out: nothing is concluded from their absence"
            ));
        }
    }

    fn chores(&mut self) -> rusqlite::Result<()> {
        let now = SystemTime::now();
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let (keep, max_size) = (self.settings.keep, self.settings.max_size);
        let transaction = file.transaction()?;
        if let Some(run) = self.run {
            transaction.execute(
                "UPDATE run SET seen = ?1 WHERE id = ?2",
                params![nanos(now), run],
            )?;
        }
        let oldest = now.checked_sub(keep).map_or(0, nanos);
        transaction.execute("DELETE FROM loss WHERE last < ?1", [oldest])?;
        transaction.execute(
            "DELETE FROM loss WHERE id <= (SELECT max(id) FROM loss) - ?1",
            [LOSSES],
        )?;
        transaction.execute("DELETE FROM run WHERE seen < ?1", [oldest])?;
        let surplus = used(&transaction)?.saturating_sub(max_size);
        let gone = prune(&transaction, oldest, surplus)?;
        transaction.commit()?;
        self.small.retain(|small| !gone.contains(&small.id));
        give_back(file)
    }

    /// A reader cannot read. If that is because of the file, this says so as an error; blocks that cannot be read are taken
    /// out, or no question about their time would ever be answered again.
    fn look_for_damage(&mut self) -> rusqlite::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        // What is in memory is not what is on the disk.
        let fresh = Connection::open(&self.settings.path)?;
        for connection in [&*file, &fresh] {
            for table in [
                "SELECT head FROM block",
                "SELECT length(bytes) FROM content",
            ] {
                let mut rows = connection.prepare(table)?;
                let mut rows = rows.query([])?;
                while rows.next()?.is_some() {}
            }
        }
        let transaction = file.transaction()?;
        let damaged = damaged(&transaction)?;
        for (id, loss) in &damaged {
            delete(&transaction, *id)?;
            insert_loss(&transaction, loss)?;
        }
        transaction.commit()?;
        self.small
            .retain(|small| damaged.iter().all(|(id, _)| *id != small.id));
        self.tell_loss(damaged.iter().map(|(_, loss)| loss.spans).sum());
        Ok(())
    }

    fn failed(&mut self, error: &rusqlite::Error, now: Instant) {
        self.trouble = Some(now + RETRY);
        let path = self.settings.path.display().to_string();
        if file::is_damage(error) {
            self.file = None;
            self.small.clear();
            match file::set_aside(&self.settings.path, SystemTime::now()) {
                Ok(aside) => (self.warn)(&format!(
                    "the traces in {path} are damaged ({error}): they are set aside as {}, and a new file is begun",
                    aside.display()
                )),
                Err(why) => self.say(&format!(
                    "the traces in {path} are damaged ({error}) and cannot be set aside: {why}"
                )),
            }
            self.trouble = None;
            self.chores_at = now;
        } else {
            self.say(&format!(
                "traces cannot be stored in {path}: {error}; it is tried again, and who sends more than fits into memory is turned away"
            ));
        }
    }

    /// Once: a disk that is full for a day is one piece of news.
    fn say(&mut self, text: &str) {
        if !self.said {
            self.said = true;
            (self.warn)(text);
        }
    }

    fn works_again(&mut self) {
        self.trouble = None;
        if std::mem::take(&mut self.said) {
            let path = self.settings.path.display();
            (self.warn)(&format!("traces are stored in {path} again"));
        }
    }

    /// Requests were turned away. One row for some minutes is enough, as long as it has all of them in it.
    fn lose(&mut self, requests: u64, now: SystemTime) {
        let first = now.checked_sub(EXPORTED_AFTER).map_or(0, nanos);
        let last = nanos(now);
        match self.losses.last_mut() {
            Some(loss) if first <= loss.last => {
                loss.last = last;
                loss.spans += requests;
            }
            _ => self.losses.push(Loss {
                first,
                last,
                spans: requests,
                reason: LossReason::TurnedAway,
            }),
        }
    }
}

/// As if SQLite had said it.
fn unusable(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

fn insert(to: &Connection, block: &Block, merged: bool) -> rusqlite::Result<i64> {
    let head = serde_json::to_string(&block.head).unwrap_or_default();
    to.prepare_cached("INSERT INTO block (last, spans, merged, head) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![block.head.last(), block.head.spans(), merged, head])?;
    let id = to.last_insert_rowid();
    let fingerprints: Vec<u8> = block
        .fingerprints
        .iter()
        .flat_map(|fingerprint| fingerprint.to_le_bytes())
        .collect();
    to.prepare_cached("INSERT INTO content VALUES (?1, ?2, ?3)")?
        .execute(params![id, fingerprints, block.bytes])?;
    Ok(id)
}

fn delete(from: &Connection, id: i64) -> rusqlite::Result<()> {
    for table in [
        "DELETE FROM block WHERE id = ?1",
        "DELETE FROM content WHERE block = ?1",
    ] {
        from.prepare_cached(table)?.execute([id])?;
    }
    Ok(())
}

fn insert_loss(to: &Connection, loss: &Loss) -> rusqlite::Result<()> {
    let Loss {
        first,
        last,
        spans,
        reason,
    } = loss;
    to.prepare_cached("INSERT INTO loss (first, last, spans, reason) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![first, last, spans, reason.as_str()])?;
    Ok(())
}

/// The blocks that cannot be read, and what is lost with each.
fn damaged(from: &Connection) -> rusqlite::Result<Vec<(i64, Loss)>> {
    let mut damaged = Vec::new();
    let mut stored = from.prepare(STORED)?;
    let mut rows = stored.query([])?;
    while let Some(row) = rows.next()? {
        let head = row.get_ref(0)?.as_str().unwrap_or_default();
        let loss = Loss::of_block(head, row.get(1)?, row.get(2)?);
        let bytes = row.get_ref(3)?.as_blob().unwrap_or_default();
        let is_readable = serde_json::from_str::<Head>(head)
            .is_ok_and(|head| head.spans() == loss.spans)
            && row.get::<_, u8>(5)? == 0
            && block::decompress_whole(bytes, loss.spans)
                .is_some_and(|bytes| Spans::read(&bytes).is_some_and(|spans| spans.is_readable()));
        if !is_readable {
            damaged.push((row.get(4)?, loss));
        }
    }
    Ok(damaged)
}

/// Deletes the blocks of before `oldest`, and then the oldest until `surplus` bytes are free; remembers that there is no
/// telling any more what was before them.
fn prune(from: &Connection, oldest: u64, surplus: u64) -> rusqlite::Result<Vec<i64>> {
    let mut gone = Vec::new();
    let (mut freed, mut newest) = (0, None);
    {
        let blocks =
            "SELECT id, last, length(bytes) FROM block JOIN content ON block = id ORDER BY last";
        let mut blocks = from.prepare(blocks)?;
        let mut rows = blocks.query([])?;
        while let Some(row) = rows.next()? {
            let last = row.get::<_, u64>(1)?;
            if last >= oldest && freed >= surplus {
                break;
            }
            gone.push(row.get(0)?);
            freed += row.get::<_, u64>(2)?;
            newest = Some(last);
        }
    }
    for id in &gone {
        delete(from, *id)?;
    }
    if let Some(newest) = newest {
        from.execute(
            "UPDATE fact SET value = max(value, ?1) WHERE key = 'kept_since'",
            [newest],
        )?;
    }
    Ok(gone)
}

/// Bytes that hold something.
fn used(file: &Connection) -> rusqlite::Result<u64> {
    let number = |name| file.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
    Ok(pages * number("page_size")?)
}

/// Free pages are filled again before the file grows, so only many of them are given back.
fn give_back(file: &Connection) -> rusqlite::Result<()> {
    let free: i64 = file.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free < 2 * PAGES {
        return Ok(());
    }
    // A page is given back with each row that is read.
    let mut statement = file.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
