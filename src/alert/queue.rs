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
    Reason, Resolution, Severity, Text, Verdict,
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
    resolution: Option<Resolution>,
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
            resolution: incident.resolution,
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

    /// What failed is tried again at once: the settings have been mended, perhaps.
    pub fn retry_now(&mut self, now: Instant) {
        self.paused_until = None;
        for (_, id) in std::mem::take(&mut self.retries) {
            if let Some(sent) = self.messages.get_mut(&id) {
                sent.next = Some(now);
                self.retries.insert((now, id));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Incident, State};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace {
            retry_first: 2 * SECOND,
            retry_max: 300 * SECOND,
            give_up_after: 24 * 3600 * SECOND,
            rate_limit: None,
            at_once: AT_ONCE,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn notice(incident: &str, sequence: u32, created: u64, group: u64) -> Notice {
        Notice {
            channel: "test".to_owned(),
            sequence,
            event: if sequence == 1 {
                NoticeEvent::Opened
            } else {
                NoticeEvent::Reminder
            },
            created_at: at(created),
            due_at: at(created + group),
            incident: Incident {
                id: incident.to_owned(),
                server: Some(incident.to_owned()),
                kind: IncidentKind::Outage,
                severity: Severity::Critical,
                state: State::Down,
                failed_layer: Some(Layer::Http),
                reason: Some(Reason::HttpStatus),
                message: "HTTP 503".into(),
                trace_id: None,
                first_failed_at: at(created),
                opened_at: at(created),
                resolved_at: None,
                resolution: None,
                flapping: false,
                acknowledged: None,
                suppressed: None,
                verdict: None,
                verdict_reason: None,
                provisional: None,
            },
            tags: Vec::new(),
            endpoint: None,
            links: Vec::new(),
            command: None,
            take: None,
        }
    }

    /// Incident and sequence of everything in a message.
    fn said(attempt: &Attempt) -> Vec<(String, u32)> {
        attempt
            .message
            .notices()
            .map(|n| (n.incident.id.clone(), n.sequence))
            .collect()
    }

    fn one(incident: &str, sequence: u32) -> Vec<(String, u32)> {
        vec![(incident.to_owned(), sequence)]
    }

    #[test]
    fn a_resolution_waits_for_its_opening_and_others_go_on() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        // They come in the wrong order, and one of them twice.
        for (incident, sequence) in [("a", 2), ("a", 1), ("a", 1), ("b", 1)] {
            assert!(queue.push(notice(incident, sequence, 0, 0), start, at(0)));
        }
        let first = queue.next(start).unwrap();
        let second = queue.next(start).unwrap();
        assert_eq!(said(&first), one("a", 1));
        assert_eq!(said(&second), one("b", 1));
        assert!(queue.next(start).is_none());
        queue.done(first.id, start, Err(Failure::new("no")), 1.0);
        queue.done(second.id, start, Ok(()), 0.0);
        // Not before the back-off is over, and the opening again.
        assert!(queue.next(start + SECOND).is_none());
        let again = queue.next(start + 2 * SECOND).unwrap();
        assert_eq!((said(&again), again.id), (one("a", 1), first.id));
        let settled = queue.done(again.id, start, Ok(()), 0.0);
        assert_eq!(settled[0].attempts, 2);
        assert_eq!(said(&queue.next(start).unwrap()), one("a", 2));
        // What is finished does not come back.
        assert!(queue.push(notice("b", 1, 0, 0), start, at(0)));
        assert!(queue.next(start).is_none());
    }

    #[test]
    fn notices_of_one_cause_within_the_first_ones_window_are_one_message() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        for (incident, created) in [("a", 0), ("d", 1), ("b", 9)] {
            let mut notice = notice(incident, 1, created, 10);
            if incident == "d" {
                notice.incident.reason = Some(Reason::ConnectionRefused);
            }
            queue.push(notice, start + created as u32 * SECOND, at(created));
        }
        assert!(queue.next(start + 9 * SECOND).is_none());
        queue.push(notice("c", 1, 11, 10), start + 11 * SECOND, at(11));
        let group = queue.next(start + 10 * SECOND).unwrap();
        assert_eq!(said(&group), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!(group.message.key(), "a-test-1");
        assert!(queue.next(start + 10 * SECOND).is_none());
        assert_eq!(said(&queue.next(start + 11 * SECOND).unwrap()), one("d", 1));
        assert_eq!(said(&queue.next(start + 21 * SECOND).unwrap()), one("c", 1));
        // One that comes late does not join what was attempted: its receiver knows that by its key.
        queue.done(group.id, start + 11 * SECOND, Err(Failure::new("no")), 0.0);
        queue.push(notice("e", 1, 5, 10), start + 11 * SECOND, at(11));
        let again = queue.next(start + 30 * SECOND).unwrap();
        assert_eq!(said(&again), said(&group));
        assert_eq!(said(&queue.next(start + 30 * SECOND).unwrap()), one("e", 1));
    }

    #[test]
    fn a_message_stays_the_same_after_a_restart() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        let pending = |incident: &str, created, first_attempt_at| Pending {
            notice: notice(incident, 1, created, 10),
            attempts: u32::from(first_attempt_at != 0),
            first_attempt_at: (first_attempt_at != 0).then(|| at(first_attempt_at)),
        };
        for pending in [
            pending("new", 5, 0),
            pending("a", 0, 10),
            pending("b", 9, 10),
            pending("alone", 6, 17),
        ] {
            queue.load(pending, start, at(20));
        }
        let mut messages: Vec<_> = std::iter::from_fn(|| queue.next(start))
            .map(|attempt| said(&attempt))
            .collect();
        messages.sort();
        assert_eq!(
            messages,
            [
                vec![("a".to_owned(), 1), ("b".to_owned(), 1)],
                one("alone", 1),
                one("new", 1)
            ]
        );
    }

    #[test]
    fn after_its_time_a_notice_is_given_up_and_the_next_one_goes() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        queue.load(
            Pending {
                notice: notice("a", 1, 0, 0),
                attempts: 7,
                first_attempt_at: Some(at(0)),
            },
            start,
            at(24 * 3600 - 60),
        );
        queue.push(notice("a", 2, 5, 0), start, at(24 * 3600));
        let attempt = queue.next(start).unwrap();
        let settled = queue.done(attempt.id, start, Err(Failure::lasting("no")), 1.0);
        assert!(matches!(settled[0].outcome, DeliveryOutcome::Failed(_)));
        // The last attempt is made when the day is over, not when the back-off would have it.
        let end = start + 60 * SECOND;
        assert_eq!(queue.wake_at(), Some(end));
        let attempt = queue.next(end).unwrap();
        let settled = queue.done(attempt.id, end, Err(Failure::new("still no")), 1.0);
        let DeliveryOutcome::GivenUp(why) = &settled[0].outcome else {
            panic!("{settled:?}");
        };
        assert_eq!(why.as_str(), "given up after 1day and 9 attempts: still no");
        assert_eq!(said(&queue.next(end).unwrap()), one("a", 2));
    }

    #[test]
    fn a_receiver_that_asks_for_silence_gets_it() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        queue.push(notice("a", 1, 0, 0), start, at(0));
        let attempt = queue.next(start).unwrap();
        let busy = Failure {
            retry_after: Some(90 * SECOND),
            whole_channel: true,
            ..Failure::new("HTTP 429")
        };
        queue.done(attempt.id, start, Err(busy), 0.5);
        queue.push(notice("b", 1, 1, 0), start, at(1));
        assert!(queue.next(start + 89 * SECOND).is_none());
        assert!(queue.next(start + 90 * SECOND).is_some());
        // Nobody can ask for a year.
        let attempt = queue.next(start + 90 * SECOND).unwrap();
        let year = Failure {
            retry_after: Some(365 * LONGEST_WAIT),
            ..Failure::new("HTTP 503")
        };
        queue.done(attempt.id, start, Err(year), 0.5);
        assert!(
            queue
                .retries
                .iter()
                .all(|(at, _)| *at <= start + LONGEST_WAIT)
        );
    }

    #[test]
    fn a_channel_that_is_gone_gives_everything_up() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        for (incident, sequence) in [("a", 1), ("a", 2), ("b", 1), ("c", 1)] {
            queue.push(notice(incident, sequence, 0, 0), start, at(0));
        }
        let running = queue.next(start).unwrap();
        let failed = queue.next(start).unwrap();
        queue.done(failed.id, start, Err(Failure::new("no")), 1.0);
        let settled = queue.abandon(&"gone".into());
        assert_eq!(settled.len(), 3, "{settled:?}");
        assert!(queue.next(start + 3600 * SECOND).is_none());
        let settled = queue.done(running.id, start, Err(Failure::new("no")), 0.0);
        assert_eq!(settled[0].outcome, DeliveryOutcome::GivenUp("gone".into()));
        assert_eq!((queue.held(), queue.lines.len()), (0, 0));
    }

    #[test]
    fn what_has_no_room_is_not_held() {
        let start = Instant::now();
        let mut queue = Queue::new(pace());
        for sequence in 1..=HELD as u32 {
            assert!(queue.push(notice("a", sequence, 0, 0), start, at(0)));
        }
        assert!(!queue.push(notice("b", 1, 0, 0), start, at(0)));
        assert!(queue.push(notice("a", 1, 0, 0), start, at(0)));
    }

    /// What the world does in a simulation.
    #[derive(Clone, Debug)]
    struct World {
        /// Of each incident: when it begins, seconds between its notices, how many, seconds of its group.
        incidents: Vec<(u64, u64, u32, u64)>,
        /// What becomes of each attempt, over and over: 0 and 1 deliver, the others fail in some way.
        outcomes: Vec<u8>,
        /// Seconds that attempts take, over and over.
        lengths: Vec<u64>,
        /// After so many steps the process is killed, over and over.
        kill_every: usize,
        jitter: f64,
        limit: Option<u32>,
    }

    fn worlds() -> impl Strategy<Value = World> {
        (
            prop::collection::vec((0..60_u64, 0..40_u64, 1..5_u32, 0..2_u64), 1..12),
            prop::collection::vec(0..6_u8, 1..9),
            prop::collection::vec(0..15_u64, 1..5),
            prop_oneof![Just(usize::MAX), 5..60_usize],
            0.0..1.0_f64,
            prop::option::of(1..4_u32),
        )
            .prop_filter("something has to be delivered", |world| {
                world.1.iter().any(|outcome| *outcome < 2)
            })
            .prop_map(
                |(incidents, outcomes, lengths, kill_every, jitter, limit)| World {
                    incidents,
                    outcomes,
                    lengths,
                    kill_every,
                    jitter,
                    limit,
                },
            )
    }

    fn failure(kind: u8) -> Failure {
        match kind {
            2 => Failure::lasting("HTTP 404"),
            3 => Failure {
                retry_after: Some(30 * SECOND),
                whole_channel: true,
                ..Failure::new("HTTP 429")
            },
            _ => Failure::new("HTTP 500"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever happens: every notice is delivered, in the order of its incident; once, but for what a kill cut
        /// off; never too many at once, or faster than the limit; and there always is a next moment.
        #[test]
        fn nothing_is_lost_doubled_or_out_of_order(world in worlds()) {
            let start = Instant::now();
            let mut pace = pace();
            pace.rate_limit = world.limit.map(|count| Frequency { count, within: 10 * SECOND });
            let mut kept: BTreeMap<(String, u32), Pending> = BTreeMap::new();
            let mut coming: Vec<Notice> = Vec::new();
            for (index, (begin, step, count, group)) in world.incidents.iter().enumerate() {
                for n in 0..*count {
                    coming.push(notice(&format!("i{index}"), n + 1, begin + u64::from(n) * step, group * 10));
                }
            }
            coming.sort_by_key(|n| (n.created_at, n.incident.id.clone(), n.sequence));
            coming.reverse();
            let all: BTreeSet<_> = coming.iter().map(|n| (n.incident.id.clone(), n.sequence)).collect();
            let mut queue = Queue::new(pace);
            let mut running: Vec<(u64, Attempt, SystemTime)> = Vec::new();
            let mut received: Vec<(String, u32)> = Vec::new();
            let mut cut_off: BTreeSet<(String, u32)> = BTreeSet::new();
            let mut starts: Vec<u64> = Vec::new();
            let (mut clock, mut attempts, mut steps) = (0_u64, 0_usize, 0_usize);
            loop {
                steps += 1;
                prop_assert!(steps < 20_000, "it does not come to an end");
                let (now, wall) = (start + clock as u32 * SECOND, at(clock));
                while coming.last().is_some_and(|n| n.created_at <= wall) {
                    let notice = coming.pop().unwrap();
                    let pending = Pending { notice: notice.clone(), attempts: 0, first_attempt_at: None };
                    kept.insert((notice.incident.id.clone(), notice.sequence), pending);
                    prop_assert!(queue.push(notice, now, wall));
                }
                if steps.is_multiple_of(world.kill_every) {
                    // What runs may have arrived, and nobody has noted it.
                    for (_, attempt, _) in running.drain(..) {
                        cut_off.extend(said(&attempt));
                        received.extend(said(&attempt));
                    }
                    starts.clear();
                    queue = Queue::new(pace);
                    for pending in kept.values() {
                        prop_assert!(queue.load(pending.clone(), now, wall));
                    }
                }
                running.sort_by_key(|(end, ..)| *end);
                while running.first().is_some_and(|(end, ..)| *end <= clock) {
                    let (_, attempt, begun) = running.remove(0);
                    let kind = world.outcomes[attempts % world.outcomes.len()];
                    attempts += 1;
                    let result = if kind < 2 { Ok(()) } else { Err(failure(kind)) };
                    if result.is_ok() {
                        received.extend(said(&attempt));
                    }
                    for settled in queue.done(attempt.id, now, result, world.jitter) {
                        let key = (settled.incident, settled.sequence);
                        match settled.outcome {
                            DeliveryOutcome::Delivered => drop(kept.remove(&key)),
                            DeliveryOutcome::Failed(_) => {
                                let pending = kept.get_mut(&key).unwrap();
                                pending.attempts = settled.attempts;
                                pending.first_attempt_at.get_or_insert(begun);
                            }
                            DeliveryOutcome::GivenUp(why) => prop_assert!(false, "{why}"),
                        }
                    }
                }
                while let Some(attempt) = queue.next(now) {
                    let causes: BTreeSet<_> = attempt.message.notices().map(|n| n.event.as_str()).collect();
                    prop_assert_eq!(causes.len(), 1);
                    let length = world.lengths[attempts % world.lengths.len()];
                    running.push((clock + length, attempt, wall));
                    starts.push(clock);
                    prop_assert!(running.len() <= AT_ONCE);
                    if let Some(limit) = world.limit {
                        let recent = starts.iter().filter(|at| **at + 10 > clock).count();
                        prop_assert!(recent <= limit as usize, "{:?}", starts);
                    }
                }
                prop_assert_eq!(queue.running(), running.len());
                if kept.is_empty() && coming.is_empty() {
                    break;
                }
                // On to the next moment at which something happens.
                let wake = queue.wake_at().map(|at| {
                    let rest = at.saturating_duration_since(start);
                    rest.as_secs() + u64::from(rest.subsec_nanos() > 0)
                });
                let end = running.iter().map(|(end, ..)| *end).min();
                let next = coming.last().map(|n| n.created_at.duration_since(at(0)).unwrap().as_secs());
                let moment = [wake, end, next].into_iter().flatten().min();
                prop_assert!(moment.is_some(), "nothing will ever happen");
                clock = moment.unwrap().max(clock);
            }
            prop_assert_eq!(queue.held(), 0);
            let got: BTreeSet<_> = received.iter().cloned().collect();
            prop_assert_eq!(got, all);
            let mut last: HashMap<String, u32> = HashMap::new();
            let mut seen: BTreeSet<(String, u32)> = BTreeSet::new();
            for (incident, sequence) in received {
                let again = !seen.insert((incident.clone(), sequence));
                prop_assert!(!again || cut_off.contains(&(incident.clone(), sequence)), "{} {} twice", incident, sequence);
                let before = last.insert(incident.clone(), sequence).unwrap_or(0);
                prop_assert!(sequence == before + 1 || (again && sequence == before), "{} {} after {}", incident, sequence, before);
            }
        }

        #[test]
        fn a_back_off_keeps_its_bounds(attempts in 1..u32::MAX, jitter in -1.0..2.0_f64, lasting: bool) {
            let pace = pace();
            let wait = backoff(&pace, attempts, lasting, jitter);
            prop_assert!(wait <= pace.retry_max);
            if lasting {
                prop_assert!(wait >= pace.retry_max / 2);
            } else if attempts < 8 {
                prop_assert!(wait <= pace.retry_first * 2_u32.pow(attempts - 1));
            }
        }
    }
}
