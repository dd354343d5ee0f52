//! What of one channel's notices is to be attempted next. The time is an argument, and nothing is sent from here.
//!
//! - The notices of one incident go one after the other, in the order of their sequence: a resolution waits for its
//!   opening. Other incidents go on meanwhile.
//! - Notices of one cause whose time falls into the first one's window (`created_at` to `due_at`) are one message.
//!   What was attempted as one message stays that message, also after a restart: its notices share the time of their
//!   first attempt. Otherwise a receiver that knows the message's key would take a larger one for a repetition.
//! - A notice is held once, however often it comes, and never after it was delivered or given up.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::channel::Failure;
use super::message::Message;
use crate::model::{
    ChannelSettings, DeliveryOutcome, Frequency, IncidentKind, Layer, Notice, NoticeEvent, Pending,
    Reason, Severity, Text, Verdict,
};

/// Notices held for one channel, some 2 KiB each. More are left where they are kept, and read when there is room.
pub const HELD: usize = 4_096;

/// Attempts at once on one channel: one incident whose delivery hangs holds up nobody, and no receiver is stormed.
pub const AT_ONCE: usize = 4;

/// Notices of one message: what still can be read. Others of the same cause make another message.
pub const IN_MESSAGE: usize = 50;

/// Incidents of which the last finished notice is remembered, so that one that is handed in again is not sent again:
/// until what became of it is kept for certain it is still read as waiting. As many as are held, several times over.
const FINISHED: usize = 4 * HELD;

/// The longest that a receiver can ask us to wait (`Retry-After`): a larger value is more likely an error of its.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What a channel's settings say about time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Before the first repetition; doubles.
    pub retry_first: Duration,
    /// The longest between two attempts.
    pub retry_max: Duration,
    /// From the first attempt on.
    pub give_up_after: Duration,
    /// Attempts within a time.
    pub rate_limit: Option<Frequency>,
    /// Attempts at once.
    pub at_once: usize,
}

impl From<&ChannelSettings> for Pace {
    fn from(settings: &ChannelSettings) -> Self {
        Self {
            retry_first: settings.retry_first,
            retry_max: settings.retry_max,
            give_up_after: settings.give_up_after,
            rate_limit: settings.rate_limit,
            at_once: AT_ONCE,
        }
    }
}

/// An attempt that is to be made now; [`Queue::done`] has to be told of its end.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Names the message in [`Queue::done`].
    pub id: u64,
    /// What is to be sent.
    pub message: Arc<Message>,
}

/// What became of one notice by an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Of which incident.
    pub incident: String,
    /// Which of its notices.
    pub sequence: u32,
    /// Attempts so far.
    pub attempts: u32,
    /// How it went.
    pub outcome: DeliveryOutcome,
}

/// One channel's notices.
#[derive(Debug)]
pub struct Queue {
    pace: Pace,
    lines: HashMap<String, Line>,
    /// The first waiting notice of each line that has none in a message, by when it is due.
    heads: BTreeSet<(Instant, Spot)>,
    /// Those of them that may be grouped.
    causes: HashMap<Cause, BTreeSet<Spot>>,
    messages: HashMap<u64, Sent>,
    retries: BTreeSet<(Instant, u64)>,
    running: usize,
    held: usize,
    next_id: u64,
    finished: HashMap<String, u32>,
    finished_order: VecDeque<String>,
    /// The receiver asked for silence until then.
    paused_until: Option<Instant>,
    /// Attempts within the time of the rate limit.
    recent: VecDeque<Instant>,
    /// Windows are not waited for.
    hurried: bool,
    /// The channel is gone.
    abandoned: Option<Text>,
}

/// When a notice was decided on, and its incident: a line has at most one head.
type Spot = (SystemTime, String);

/// The notices of one incident.
#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<u32, Waiting>,
    /// The notice that is in a message.
    sent: Option<u32>,
}

#[derive(Debug)]
struct Waiting {
    notice: Notice,
    due: Instant,
    attempts: u32,
    first_attempt_at: Option<SystemTime>,
    /// Since its first attempt, when it came.
    spent: Duration,
}

/// A message that was attempted at least once.
#[derive(Debug)]
struct Sent {
    message: Arc<Message>,
    attempts: u32,
    first_attempt: Instant,
    /// Between the first attempt of all and `first_attempt`, which is the first of this process.
    spent: Duration,
    /// Of the next attempt; none while one runs.
    next: Option<Instant>,
}

/// What notices of one message have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cause {
    event: NoticeEvent,
    kind: IncidentKind,
    layer: Option<Layer>,
    reason: Option<Reason>,
    severity: Severity,
    verdict: Option<Verdict>,
    /// Those that were one message in an earlier process.
    first_attempt_at: Option<SystemTime>,
}

impl Waiting {
    /// None of a notice that is never grouped.
    fn cause(&self) -> Option<Cause> {
        let Notice {
            event, incident, ..
        } = &self.notice;
        (self.notice.due_at > self.notice.created_at).then(|| Cause {
            event: *event,
            kind: incident.kind,
            layer: incident.failed_layer,
            reason: incident.reason,
            severity: incident.severity,
            verdict: (*event == NoticeEvent::Updated)
                .then_some(incident.verdict)
                .flatten(),
            first_attempt_at: self.first_attempt_at,
        })
    }

    fn spot(&self) -> Spot {
        (self.notice.created_at, self.notice.incident.id.clone())
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            lines: HashMap::new(),
            heads: BTreeSet::new(),
            causes: HashMap::new(),
            messages: HashMap::new(),
            retries: BTreeSet::new(),
            running: 0,
            held: 0,
            next_id: 0,
            finished: HashMap::new(),
            finished_order: VecDeque::new(),
            paused_until: None,
            recent: VecDeque::new(),
            hurried: false,
            abandoned: None,
        }
    }

    /// Other settings; a channel that was gone is back.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        self.abandoned = None;
    }

    /// Takes a notice. `now` and `wall` are the same moment.
    ///
    /// False when there is no room: it is not held.
    pub fn push(&mut self, notice: Notice, now: Instant, wall: SystemTime) -> bool {
        let pending = Pending {
            notice,
            attempts: 0,
            first_attempt_at: None,
        };
        self.load(pending, now, wall)
    }

    /// Takes a notice that waited in an earlier process, or that there was no room for.
    ///
    /// False when there is no room: it is not held.
    pub fn load(&mut self, pending: Pending, now: Instant, wall: SystemTime) -> bool {
        let notice = pending.notice;
        let (id, sequence) = (&notice.incident.id, notice.sequence);
        let is_finished = self
            .finished
            .get(id)
            .is_some_and(|finished| sequence <= *finished);
        let is_held = self.lines.get(id).is_some_and(|line| {
            line.sent.is_some_and(|sent| sequence <= sent) || line.waiting.contains_key(&sequence)
        });
        if is_finished || is_held {
            return true;
        }
        if self.held >= HELD {
            return false;
        }
        // The wall clock may have been set since: no window is longer than it was meant to be.
        let window = span(notice.created_at, notice.due_at);
        let wait = if pending.attempts > 0 || self.hurried {
            Duration::ZERO
        } else {
            span(wall, notice.due_at).min(window)
        };
        let waiting = Waiting {
            due: now + wait,
            attempts: pending.attempts,
            spent: pending
                .first_attempt_at
                .map_or(Duration::ZERO, |first| span(first, wall)),
            first_attempt_at: pending.first_attempt_at,
            notice,
        };
        let id = waiting.notice.incident.id.clone();
        self.take_head_out(&id);
        let line = self.lines.entry(id.clone()).or_default();
        line.waiting.insert(sequence, waiting);
        self.held += 1;
        self.put_head_in(&id);
        true
    }

    /// The next attempt that is to be made at `now`; it counts as running.
    pub fn next(&mut self, now: Instant) -> Option<Attempt> {
        if self.wake_at()? > now {
            return None;
        }
        let retry = self.retries.first().copied();
        let head = self.heads.first().map(|(due, _)| *due);
        let id = match (retry, head) {
            (Some((at, id)), head) if head.is_none_or(|due| at <= due) => {
                self.retries.remove(&(at, id));
                id
            }
            _ => self.form(now)?,
        };
        let sent = self.messages.get_mut(&id)?;
        sent.next = None;
        sent.attempts = sent.attempts.saturating_add(1);
        self.running += 1;
        if let Some(limit) = self.pace.rate_limit {
            self.recent.push_back(now);
            while self.recent.len() > limit.count as usize {
                self.recent.pop_front();
            }
        }
        Some(Attempt {
            id,
            message: Arc::clone(&sent.message),
        })
    }

    /// When [`Self::next`] may have something; in the past when it has now. None until something else happens.
    pub fn wake_at(&self) -> Option<Instant> {
        if self.running >= self.pace.at_once || self.abandoned.is_some() {
            return None;
        }
        let retry = self.retries.first().map(|(at, _)| *at);
        let head = self.heads.first().map(|(due, _)| *due);
        let ready = retry.into_iter().chain(head).min()?;
        let limited = self.pace.rate_limit.and_then(|limit| {
            let count = limit.count as usize;
            let index = self.recent.len().checked_sub(count)?;
            Some(*self.recent.get(index)? + limit.within)
        });
        [Some(ready), self.paused_until, limited]
            .into_iter()
            .flatten()
            .max()
    }

    /// Makes a message of the head that is due first, and of what belongs to it.
    fn form(&mut self, now: Instant) -> Option<u64> {
        let (_, spot) = self.heads.first()?.clone();
        let head = self.head(&spot.1)?;
        let window = head.notice.created_at..=head.notice.due_at;
        let is_repeated = head.first_attempt_at.is_some();
        let (spent, attempts) = (head.spent, head.attempts);
        let spots: Vec<Spot> = match head.cause().and_then(|cause| self.causes.get(&cause)) {
            Some(spots) => spots
                .iter()
                .filter(|(created, _)| is_repeated || window.contains(created))
                .take(IN_MESSAGE)
                .cloned()
                .collect(),
            None => vec![spot],
        };
        let mut notices = Vec::with_capacity(spots.len());
        for (_, incident) in spots {
            self.take_head_out(&incident);
            let Some(line) = self.lines.get_mut(&incident) else {
                continue;
            };
            let Some((sequence, waiting)) = line.waiting.pop_first() else {
                continue;
            };
            line.sent = Some(sequence);
            notices.push(waiting.notice);
        }
        let mut notices = notices.into_iter();
        let message = Message {
            first: notices.next()?,
            others: notices.collect(),
        };
        let id = self.next_id;
        self.next_id += 1;
        self.messages.insert(
            id,
            Sent {
                message: Arc::new(message),
                attempts,
                first_attempt: now,
                spent,
                next: None,
            },
        );
        Some(id)
    }

    /// Takes what became of an attempt. `jitter` is drawn at random from 0 to 1.
    pub fn done(
        &mut self,
        id: u64,
        now: Instant,
        result: Result<(), Failure>,
        jitter: f64,
    ) -> Vec<Settled> {
        let Some(sent) = self.messages.get_mut(&id) else {
            return Vec::new();
        };
        self.running = self.running.saturating_sub(1);
        let failure = match result {
            Ok(()) => return self.finish(id, &DeliveryOutcome::Delivered),
            Err(failure) => failure,
        };
        let spent = sent.spent + now.saturating_duration_since(sent.first_attempt);
        let asked = failure.retry_after.map(|wait| wait.min(LONGEST_WAIT));
        if let (Some(asked), true) = (asked, failure.whole_channel) {
            self.paused_until = self.paused_until.max(Some(now + asked));
        }
        if let Some(gone) = self.abandoned.clone() {
            return self.finish(id, &DeliveryOutcome::GivenUp(gone));
        }
        let Some(left) = self
            .pace
            .give_up_after
            .checked_sub(spent)
            .filter(|left| !left.is_zero())
        else {
            let why = Text::new(format!(
                "given up after {} and {} attempts: {}",
                crate::model::spoken(spent),
                sent.attempts,
                failure.why
            ));
            return self.finish(id, &DeliveryOutcome::GivenUp(why));
        };
        let backoff = backoff(&self.pace, sent.attempts, failure.is_lasting, jitter);
        let wait = match asked {
            Some(asked) => asked.max(backoff),
            // The last attempt is one at the very end, not one a while before it.
            None => backoff.min(left),
        };
        sent.next = Some(now + wait);
        self.retries.insert((now + wait, id));
        let outcome = DeliveryOutcome::Failed(failure.why);
        settled(sent, &outcome)
    }

    /// The channel is gone: everything is given up, what runs when it has failed.
    pub fn abandon(&mut self, why: &Text) -> Vec<Settled> {
        self.abandoned = Some(why.clone());
        let outcome = DeliveryOutcome::GivenUp(why.clone());
        let mut all = Vec::new();
        while let Some((_, id)) = self.retries.pop_first() {
            all.extend(self.finish(id, &outcome));
        }
        let incidents: Vec<_> = self.lines.keys().cloned().collect();
        for incident in incidents {
            self.take_head_out(&incident);
            let Some(line) = self.lines.get_mut(&incident) else {
                continue;
            };
            let waiting = std::mem::take(&mut line.waiting);
            let is_empty = line.sent.is_none();
            self.held -= waiting.len();
            if is_empty {
                self.lines.remove(&incident);
            }
            for (sequence, waiting) in waiting {
                all.push(Settled {
                    incident: incident.clone(),
                    sequence,
                    attempts: waiting.attempts,
                    outcome: outcome.clone(),
                });
            }
        }
        all
    }

    /// From now on windows are not waited for.
    pub fn hurry(&mut self, now: Instant) {
        self.hurried = true;
        let incidents: Vec<_> = self.lines.keys().cloned().collect();
        for incident in incidents {
            self.take_head_out(&incident);
            if let Some(line) = self.lines.get_mut(&incident) {
                for waiting in line.waiting.values_mut() {
                    waiting.due = waiting.due.min(now);
                }
            }
            self.put_head_in(&incident);
        }
    }

    /// Whether something has still to be attempted for the first time in this process, or is being attempted. What
    /// stands behind a notice that failed does not count.
    pub fn is_untried(&self) -> bool {
        self.running > 0 || (!self.heads.is_empty() && self.abandoned.is_none())
    }

    /// Notices held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Attempts that run.
    pub fn running(&self) -> usize {
        self.running
    }

    fn finish(&mut self, id: u64, outcome: &DeliveryOutcome) -> Vec<Settled> {
        let Some(sent) = self.messages.remove(&id) else {
            return Vec::new();
        };
        if let Some(next) = sent.next {
            self.retries.remove(&(next, id));
        }
        for notice in sent.message.notices() {
            let incident = &notice.incident.id;
            self.held -= 1;
            if self
                .finished
                .insert(incident.clone(), notice.sequence)
                .is_none()
            {
                self.finished_order.push_back(incident.clone());
            }
            if let Some(line) = self.lines.get_mut(incident) {
                line.sent = None;
                if line.waiting.is_empty() {
                    self.lines.remove(incident);
                } else {
                    self.put_head_in(incident);
                }
            }
        }
        while self.finished_order.len() > FINISHED {
            if let Some(incident) = self.finished_order.pop_front() {
                self.finished.remove(&incident);
            }
        }
        settled(&sent, outcome)
    }

    fn head(&self, incident: &str) -> Option<&Waiting> {
        let line = self.lines.get(incident)?;
        let head = line.waiting.first_key_value().map(|(_, head)| head);
        head.filter(|_| line.sent.is_none())
    }

    fn put_head_in(&mut self, incident: &str) {
        let Some(head) = self.head(incident) else {
            return;
        };
        let (due, spot, cause) = (head.due, head.spot(), head.cause());
        if let Some(cause) = cause {
            self.causes.entry(cause).or_default().insert(spot.clone());
        }
        self.heads.insert((due, spot));
    }

    fn take_head_out(&mut self, incident: &str) {
        let Some(head) = self.head(incident) else {
            return;
        };
        let (due, spot, cause) = (head.due, head.spot(), head.cause());
        if let Some(cause) = cause
            && let Some(spots) = self.causes.get_mut(&cause)
        {
            spots.remove(&spot);
            if spots.is_empty() {
                self.causes.remove(&cause);
            }
        }
        self.heads.remove(&(due, spot));
    }
}

fn settled(sent: &Sent, outcome: &DeliveryOutcome) -> Vec<Settled> {
    let settled = |notice: &Notice| Settled {
        incident: notice.incident.id.clone(),
        sequence: notice.sequence,
        attempts: sent.attempts,
        outcome: outcome.clone(),
    };
    sent.message.notices().map(settled).collect()
}

fn span(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

/// Full jitter: anything up to the time that has doubled with every attempt. What will last (a wrong address, a
/// refused key) is tried at the slowest pace from the first time on: a person has to mend it.
fn backoff(pace: &Pace, attempts: u32, is_lasting: bool, jitter: f64) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    if is_lasting {
        return pace.retry_max.mul_f64(0.5 + jitter / 2.0);
    }
    let doublings = attempts.saturating_sub(1).min(31);
    let ceiling = pace
        .retry_first
        .saturating_mul(1 << doublings)
        .min(pace.retry_max);
    ceiling.mul_f64(jitter)
}
