//! What has come in and is not in the file yet: one block that is being filled, for a tenth of a second.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::admission::{Admission, Rules, Tally};
use super::block::Encoder;
use super::otlp::{self, Undecodable};

/// How long the first span waits for others: what a kill takes with it, and how old a reader's newest span is.
const GATHER: Duration = Duration::from_millis(100);

/// Spans that are written without waiting for more, and bytes.
const ENOUGH: usize = 8_192;
const ENOUGH_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that may wait for the disk. When it is full, senders are told to come again later.
const FULL: usize = 32 * 1024 * 1024;

/// Where spans go, whoever they come from. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
    keep: Duration,
    /// A reader has met damage: the writer shall look.
    pub(super) damage_seen: AtomicBool,
}

struct Pending {
    encoder: Encoder,
    rules: Rules,
    since: Option<Instant>,
    flushes: Vec<SyncSender<()>>,
    /// Somebody wants what is regularly done to be done now.
    tidy: bool,
    /// Requests that were sent away since the writer looked.
    turned_away: u64,
    closed: bool,
}

/// How a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was read; some spans may have been rejected.
    In(Tally),
    Undecodable(Undecodable),
    /// There is no room for more: the disk does not keep up, or does not work.
    Full,
}

/// What the writer takes away.
pub(super) struct Handover {
    pub(super) encoder: Encoder,
    pub(super) flushes: Vec<SyncSender<()>>,
    pub(super) tidy: bool,
    pub(super) turned_away: u64,
    pub(super) closed: bool,
}

impl Intake {
    pub(super) fn new(keep: Duration, keep_content: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                pending: Mutex::new(Pending {
                    encoder: Encoder::default(),
                    rules: Rules::new(keep_content),
                    since: None,
                    flushes: Vec::new(),
                    tidy: false,
                    turned_away: 0,
                    closed: false,
                }),
                wake: Condvar::new(),
                keep,
                damage_seen: AtomicBool::new(false),
            }),
        }
    }

    /// Takes a request in: all of it that may be kept, or nothing. Holds a lock and takes a microsecond a span: not for a
    /// thread that has something better to do.
    pub(super) fn take(&self, encoding: Encoding, bytes: &[u8], now: SystemTime) -> Taken {
        let mut pending = self.lock();
        let Pending { encoder, rules, .. } = &mut *pending;
        if encoder.size() >= FULL {
            pending.turned_away += 1;
            return Taken::Full;
        }
        let before = encoder.place();
        let mut admission = Admission::new(encoder, rules, now, self.shared.keep);
        let read = match encoding {
            Encoding::Protobuf => otlp::protobuf::read(bytes, &mut admission),
            Encoding::Json => otlp::json::read(bytes, &mut admission),
        };
        let tally = admission.tally();
        if read.is_err() {
            encoder.back_to(before);
        }
        if encoder.len() == 0 {
            // Strings of spans that were not let in are nobody's, and nobody would ever take them away.
            *encoder = Encoder::default();
        }
        if let Err(undecodable) = read {
            return Taken::Undecodable(undecodable);
        }
        let is_enough = is_enough(encoder);
        let has_spans = encoder.len() > 0;
        let first = pending.since.is_none() && has_spans;
        if first {
            pending.since = Some(Instant::now());
        }
        drop(pending);
        if first || is_enough {
            self.shared.wake.notify_one();
        }
        Taken::In(tally)
    }

    /// Waits until there is something to be written, or `patience` is over. Without `room` what has come in stays, and
    /// senders are turned away when that is too much.
    pub(super) fn wait(&self, patience: Duration, room: bool) -> Handover {
        let until = Instant::now() + patience;
        let mut pending = self.lock();
        loop {
            let now = Instant::now();
            let due = match pending.since {
                _ if pending.closed || !pending.flushes.is_empty() => now,
                Some(_) if room && is_enough(&pending.encoder) => now,
                Some(since) if room => until.min(since + GATHER),
                _ => until,
            };
            if due <= now {
                break;
            }
            pending = match self.shared.wake.wait_timeout(pending, due - now) {
                Ok((pending, _)) => pending,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        let take = room || pending.closed;
        if take {
            pending.since = None;
        }
        Handover {
            encoder: if take {
                mem::take(&mut pending.encoder)
            } else {
                Encoder::default()
            },
            flushes: mem::take(&mut pending.flushes),
            tidy: mem::take(&mut pending.tidy),
            turned_away: mem::take(&mut pending.turned_away),
            closed: pending.closed,
        }
    }

    /// Asks the writer to say when everything so far is in the file.
    pub(super) fn flush(&self, done: SyncSender<()>, tidy: bool) {
        let mut pending = self.lock();
        pending.flushes.push(done);
        pending.tidy |= tidy;
        drop(pending);
        self.shared.wake.notify_one();
    }

    /// Nothing more comes in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.shared.wake.notify_one();
    }

    pub(super) fn tell_damage(&self) {
        self.shared.damage_seen.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_damage(&self) -> bool {
        self.shared.damage_seen.swap(false, Ordering::Relaxed)
    }

    /// Somebody's panic leaves nothing half done here that a reader of the bytes would not notice.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        let locked = self.shared.pending.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_enough(encoder: &Encoder) -> bool {
    encoder.len() >= ENOUGH || encoder.size() >= ENOUGH_BYTES
}
