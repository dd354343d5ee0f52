//! The way to the one who writes: a bounded queue, and a thread that takes together what came in a moment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use super::image::Recalled;
use super::keeper::{Callbacks, Keeper};
use crate::model::{AlertChange, Asked, Delivery, ProbeResult, Retention, State, Target};

/// Writes that wait for the thread: half a minute of 2,000 targets a second. When it is full a write is dropped and
/// counted, because probing must go on.
const QUEUE: usize = 65_536;

/// Places in it that only what alerting decided may take.
const RESERVED: usize = 8_192;

/// How long the first write of a transaction waits for others, unless one of them is urgent.
const GATHER: Duration = Duration::from_millis(200);

/// Writes of one transaction; keeps the log and the time under lock small.
pub(super) const BATCH: usize = 4_096;

/// Something to be remembered.
pub enum Write {
    /// A probe's result, the state that it leaves its target in, and what alerting made of it: in one transaction.
    Probe {
        /// The target.
        target: Arc<Target>,
        /// What was found.
        result: Arc<ProbeResult>,
        /// It was a further probe after a failed one.
        confirmation: bool,
        /// What the target is shown as from now on.
        shown: Shown,
        /// What alerting remembers of it; nothing when it is unremarkable.
        memory: Option<String>,
        /// What alerting decided.
        changes: Vec<AlertChange>,
    },
    /// What alerting decided without a probe.
    Alert(Vec<AlertChange>),
    /// An attempt to deliver a notice.
    Delivery(Delivery),
    /// What was said in the first failed probe, without secrets.
    Conversation {
        /// The incident.
        incident: String,
        /// The text; its first 64 KiB are kept.
        text: String,
    },
    /// What a trace backend said of an incident: kept as long as the incident, of many the newest.
    Asked(Box<Asked>),
    /// What passed probes' traces say of a target.
    Instrumented {
        /// The target.
        target: Arc<Target>,
        /// Its service, if that is certain.
        service: Option<String>,
        /// How late its spans usually are.
        lag: Duration,
    },
    /// Something about the daemon itself.
    Fact {
        /// Its name: one of `store::fact`, or another word.
        key: String,
        /// Its text; nothing forgets it.
        value: Option<String>,
    },
    /// Answered when everything before it is committed, or could not be.
    Flush(SyncSender<()>),
}

/// What a target is shown as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its state.
    pub state: State,
    /// Start of the probe that first found it.
    pub since: SystemTime,
    /// A failure is not confirmed yet.
    pub suspect: bool,
    /// The open incident.
    pub incident: Option<String>,
}

impl Write {
    /// Somebody waits for it.
    fn is_urgent(&self) -> bool {
        let notices = |changes: &[AlertChange]| {
            changes
                .iter()
                .any(|change| matches!(change, AlertChange::Notice(_)))
        };
        match self {
            Self::Probe { changes, .. } | Self::Alert(changes) => notices(changes),
            Self::Delivery(_) | Self::Flush(_) => true,
            Self::Conversation { .. }
            | Self::Asked(_)
            | Self::Instrumented { .. }
            | Self::Fact { .. } => false,
        }
    }

    /// One of very many, which the next one makes good for.
    fn is_routine(&self) -> bool {
        match self {
            Self::Probe { changes, .. } => changes.is_empty(),
            Self::Conversation { .. }
            | Self::Asked(_)
            | Self::Instrumented { .. }
            | Self::Fact { .. } => true,
            Self::Alert(_) | Self::Delivery(_) | Self::Flush(_) => false,
        }
    }
}

/// Where writes go. They are boxed: the queue's places are made at the start, and are most of a small watch's memory.
pub struct Writer {
    sender: Option<SyncSender<Box<Write>>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What both sides of the queue look at.
#[derive(Default)]
pub(super) struct Shared {
    queued: AtomicUsize,
    urgent: AtomicBool,
    dropped: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl Writer {
    /// Opens the store at `path`, and answers what it knows. A file that cannot be used now is tried again and again,
    /// from memory until then: that is told to `callbacks.warn`, and is no error.
    ///
    /// # Errors
    /// A sentence when another `watch` writes to it, or when it is not for this mcpprobe to write to.
    pub fn open(
        path: &Path,
        keep: Retention,
        callbacks: Callbacks,
    ) -> Result<(Self, Recalled), String> {
        let shared = Arc::new(Shared::default());
        let keeper = Keeper::open(path, keep, callbacks, Arc::clone(&shared))?;
        let recalled = keeper.recalled();
        let (sender, receiver) = sync_channel(QUEUE);
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(keeper, &receiver, &seen))
            .map_err(|error| format!("cannot start the store's thread: {error}"))?;
        let writer = Self {
            sender: Some(sender),
            thread: Some(thread),
            shared,
        };
        Ok((writer, recalled))
    }

    /// Hands over a write; never waits.
    pub fn write(&self, write: Write) {
        let full = if write.is_routine() {
            QUEUE - RESERVED
        } else {
            QUEUE
        };
        let urgent = write.is_urgent();
        let queued = self.shared.queued.fetch_add(1, Ordering::Relaxed);
        let sent = queued < full
            && self
                .sender
                .as_ref()
                .is_some_and(|sender| sender.try_send(Box::new(write)).is_ok());
        if !sent {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else if urgent {
            self.hurry();
        }
    }

    fn hurry(&self) {
        self.shared.urgent.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            Thread::unpark(thread.thread());
        }
    }

    /// Writes that did not fit into the queue, and rows that did not fit into memory while the disk was away.
    pub fn lost(&self) -> (u64, u64) {
        (
            self.shared.dropped.load(Ordering::Relaxed),
            self.shared.lost.load(Ordering::Relaxed),
        )
    }

    /// Waits until everything handed over so far is committed, or could not be. Blocks: not for an async task.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if let Some(sender) = &self.sender {
            self.shared.queued.fetch_add(1, Ordering::Relaxed);
            if sender.send(Box::new(Write::Flush(done))).is_ok() {
                self.hurry();
                wait.recv().ok();
            }
        }
    }
}

impl Drop for Writer {
    /// Commits what is left.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().ok();
        }
    }
}

fn run(mut keeper: Keeper, writes: &Receiver<Box<Write>>, shared: &Shared) {
    loop {
        match writes.recv_timeout(keeper.patience(Instant::now())) {
            Ok(first) => {
                let (batch, flushes) = gather(*first, writes, shared);
                keeper.take_in(batch, Instant::now());
                for done in flushes {
                    done.send(()).ok();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        keeper.tend(Instant::now());
    }
    keeper.end();
}

/// What comes in a moment; an urgent write ends it. The thread sleeps meanwhile instead of waking for each write.
fn gather(
    first: Write,
    writes: &Receiver<Box<Write>>,
    shared: &Shared,
) -> (Vec<Write>, Vec<SyncSender<()>>) {
    let until = Instant::now() + GATHER;
    while !first.is_urgent() && !shared.urgent.load(Ordering::Acquire) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::park_timeout(left);
    }
    // What becomes urgent from here on is either taken below or ends the next wait.
    shared.urgent.store(false, Ordering::Release);
    let mut batch = Vec::new();
    let mut flushes = Vec::new();
    let mut next = Some(first);
    while let Some(write) = next {
        shared.queued.fetch_sub(1, Ordering::Relaxed);
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
        next = writes.try_recv().ok().map(|write| *write);
    }
    (batch, flushes)
}
