//! The one writer: a thread that commits what came in a moment in one transaction.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, params};

use super::schema::{self, nanos, word};
use crate::model::{Failure, Judgement, ProbeResult, Target};

/// Writes that wait for the disk: half a minute of 2,000 targets a second. When it is full a write is
/// dropped and counted, because probing must go on.
const QUEUE: usize = 65_536;

/// How long the first write of a transaction waits for others.
const GATHER: Duration = Duration::from_millis(200);

/// Writes of one transaction; keeps the log and the time under lock small.
const BATCH: usize = 4_096;

/// How long probes are kept. Incidents stay.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often what is too old is removed, and how many probes at most each time: more than come in, at any pace.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const PRUNE_ROWS: i64 = 200_000;

/// Something to be remembered.
pub enum Write {
    /// A probe's result and the state that it leaves its target in.
    Probe {
        /// The target's row.
        target: i64,
        /// What was found.
        result: Arc<ProbeResult>,
        /// Start of the probe that first found this state.
        since: SystemTime,
        /// The open incident.
        incident: Option<String>,
    },
    /// A target went down.
    IncidentOpened {
        /// The incident.
        id: String,
        /// The target's row.
        target: i64,
        /// Start of the first failed probe.
        at: SystemTime,
    },
    /// It recovered.
    IncidentClosed {
        /// The incident.
        id: String,
        /// Start of the first passed probe.
        at: SystemTime,
    },
    /// What the traces say.
    Verdict {
        /// The incident.
        incident: String,
        /// The judgement.
        judgement: Box<Judgement>,
        /// The backend will be asked again.
        provisional: bool,
    },
    /// What passed probes' traces say of a target.
    Instrumented {
        /// The target's row.
        target: i64,
        /// Its service, if that is certain.
        service: Option<String>,
    },
    /// Answered when everything before it is committed.
    Flush(SyncSender<()>),
}

/// Where writes go.
pub struct Writer {
    sender: Option<SyncSender<Write>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Writer {
    /// Opens the store at `path` and makes sure that it knows every target; answers their rows too. `warn` is told
    /// of trouble with the disk.
    ///
    /// # Errors
    /// A sentence when the file cannot be used.
    pub fn open(
        path: &Path,
        targets: &[Arc<Target>],
        warn: impl Fn(&str) + Send + 'static,
    ) -> Result<(Self, Vec<i64>), String> {
        let mut connection = schema::open(path)?;
        let rows = register(&mut connection, targets)
            .map_err(|error| format!("cannot write to the store {}: {error}", path.display()))?;
        let (sender, receiver) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(connection, &receiver, &counted, &warn))
            .map_err(|error| format!("cannot start the store's thread: {error}"))?;
        let writer = Self {
            sender: Some(sender),
            thread: Some(thread),
            counts,
        };
        Ok((writer, rows))
    }

    /// Hands over a write; never waits.
    pub fn write(&self, write: Write) {
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                sender.try_send(write)
        {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes that did not fit into the queue, and writes that the disk did not take.
    pub fn lost(&self) -> (u64, u64) {
        (
            self.counts.dropped.load(Ordering::Relaxed),
            self.counts.failed.load(Ordering::Relaxed),
        )
    }

    /// Waits until everything handed over so far is committed. Blocks: not for an async task.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if let Some(sender) = &self.sender
            && sender.send(Write::Flush(done)).is_ok()
        {
            wait.recv().ok();
        }
    }
}

impl Drop for Writer {
    /// Commits what is left.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Makes a row for each target; one whose endpoint has changed forgets its dialect.
fn register(connection: &mut Connection, targets: &[Arc<Target>]) -> rusqlite::Result<Vec<i64>> {
    let transaction = connection.transaction()?;
    let mut rows = Vec::with_capacity(targets.len());
    {
        let mut insert = transaction.prepare(
            "INSERT INTO target (name, endpoint) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET
                 dialect = CASE endpoint WHEN excluded.endpoint THEN dialect END,
                 endpoint = excluded.endpoint
             RETURNING id",
        )?;
        for target in targets {
            rows.push(
                insert.query_row(params![target.name, target.endpoint.shown()], |row| {
                    row.get(0)
                })?,
            );
        }
    }
    transaction.commit()?;
    Ok(rows)
}

fn run(mut connection: Connection, writes: &Receiver<Write>, counts: &Counts, warn: &dyn Fn(&str)) {
    let mut warned = false;
    let mut pruned = Instant::now();
    while let Ok(first) = writes.recv() {
        let (batch, flushes) = gather(first, writes);
        let size = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        match commit(&mut connection, &batch) {
            Ok(()) => warned = false,
            Err(error) => {
                counts.failed.fetch_add(size, Ordering::Relaxed);
                if !std::mem::replace(&mut warned, true) {
                    warn(&format!("results cannot be stored: {error}"));
                }
            }
        }
        for done in flushes {
            done.send(()).ok();
        }
        if pruned.elapsed() >= PRUNE_EVERY {
            pruned = Instant::now();
            if let Err(error) = prune(&connection, SystemTime::now()) {
                warn(&format!("old results cannot be removed: {error}"));
            }
        }
    }
}

/// What comes in a moment; a flush ends it. The thread sleeps meanwhile instead of waking for each write.
fn gather(first: Write, writes: &Receiver<Write>) -> (Vec<Write>, Vec<SyncSender<()>>) {
    let mut batch = Vec::new();
    let mut flushes = Vec::new();
    if !matches!(first, Write::Flush(_)) {
        std::thread::sleep(GATHER);
    }
    let mut next = Some(first);
    while let Some(write) = next {
        match write {
            Write::Flush(done) => {
                flushes.push(done);
                break;
            }
            write => batch.push(write),
        }
        if batch.len() >= BATCH {
            break;
        }
        next = writes.try_recv().ok();
    }
    (batch, flushes)
}

fn commit(connection: &mut Connection, batch: &[Write]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    // Of several results for one target only the last one is its state.
    let mut last = HashMap::new();
    for write in batch {
        insert(&transaction, write)?;
        if let Write::Probe { target, .. } = write {
            last.insert(*target, write);
        }
    }
    for write in last.values() {
        update_target(&transaction, write)?;
    }
    transaction.commit()
}

fn insert(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Probe { target, result, .. } => insert_probe(connection, *target, result),
        Write::IncidentOpened { id, target, at } => connection
            .prepare_cached("INSERT OR IGNORE INTO incident (id, target, opened) VALUES (?1, ?2, ?3)")?
            .execute(params![id, target, nanos(*at)])
            .map(drop),
        Write::IncidentClosed { id, at } => connection
            .prepare_cached("UPDATE incident SET closed = ?2 WHERE id = ?1")?
            .execute(params![id, nanos(*at)])
            .map(drop),
        Write::Verdict {
            incident,
            judgement,
            provisional,
        } => connection
            .prepare_cached(
                "UPDATE incident SET verdict = ?2, verdict_reason = ?3, provisional = ?4 WHERE id = ?1",
            )?
            .execute(params![
                incident,
                judgement.verdict.as_str(),
                judgement.reason.as_str(),
                provisional
            ])
            .map(drop),
        Write::Instrumented { target, service } => connection
            .prepare_cached(
                "UPDATE target SET instrumented = 1, service = coalesce(?2, service) WHERE id = ?1",
            )?
            .execute(params![target, service])
            .map(drop),
        Write::Flush(_) => Ok(()),
    }
}

fn insert_probe(
    connection: &Connection,
    target: i64,
    result: &ProbeResult,
) -> rusqlite::Result<()> {
    let failure = result.failure.as_ref();
    let operations = failure.and_then(|_| serde_json::to_string(&result.operations).ok());
    connection
        .prepare_cached(
            "INSERT INTO probe (target, started, duration, state, trace, layer, reason, message,
                                http_status, jsonrpc_code, operations)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            target,
            nanos(result.started_at),
            i64::try_from(result.duration.as_nanos()).unwrap_or(i64::MAX),
            result.state.as_str(),
            result.trace_id.0.as_slice(),
            failure.map(|f| f.layer.as_str()),
            result.reason().map(|r| r.as_str()),
            result.message().map(|m| m.as_str()),
            failure.and_then(|f| f.http_status),
            failure.and_then(|f| f.jsonrpc_code),
            operations,
        ])
        .map(drop)
}

fn update_target(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    let Write::Probe {
        target,
        result,
        since,
        incident,
    } = write
    else {
        return Ok(());
    };
    let failure: Option<&Failure> = result.failure.as_ref();
    connection
        .prepare_cached(
            "UPDATE target SET state = ?2, since = ?3, failed_layer = ?4, reason = ?5, message = ?6,
                               last_probe = ?7, trace = ?8, incident = ?9, dialect = coalesce(?10, dialect)
             WHERE id = ?1",
        )?
        .execute(params![
            target,
            result.state.as_str(),
            nanos(*since),
            failure.map(|f| f.layer.as_str()),
            result.reason().map(|r| r.as_str()),
            result.message().map(|m| m.as_str()),
            nanos(result.started_at),
            result.trace_id.0.as_slice(),
            incident,
            // Only a session that worked says what the server speaks.
            result.state.works().then(|| result.dialect()).flatten().and_then(word),
        ])
        .map(drop)
}

fn prune(connection: &Connection, now: SystemTime) -> rusqlite::Result<()> {
    let oldest = nanos(now - KEEP);
    connection
        .execute(
            "DELETE FROM probe WHERE id < (SELECT min(id) FROM probe) + ?2 AND started < ?1",
            params![oldest, PRUNE_ROWS],
        )
        .map(drop)
}
