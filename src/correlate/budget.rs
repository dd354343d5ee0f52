//! How often a backend may be asked: the vendor's limit, shared by all incidents of this process, and who goes first
//! where there is less than everybody wants.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::model::Text;

/// How long an inquiry waits for its turn. Longer, and it would be overtaken by the next asking about its incident.
const PATIENCE: Duration = Duration::from_secs(30);

/// What learning in healthy times may take of a limit: one turn in five. Nobody waits for what is learnt.
const LEARNING_SHARE: usize = 5;

/// Nobody is sent away for longer than this, whatever a backend answers: a clock that is off must not silence it.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Who wants a turn, the first before the last. Within one kind, who came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The next query of an inquiry that has been begun: without it the first would be wasted.
    Begun,
    /// Of an incident that nobody has been able to ask about.
    #[default]
    NeverAsked,
    /// The last asking about an incident: what it finds stays.
    Last,
    /// One between.
    Recheck,
    /// Learning while all is well: has a share of its own and does not wait.
    Learning,
}

/// At most so many queries in any stretch of so long.
pub(super) struct Budget {
    most: usize,
    per: Duration,
    state: Mutex<State>,
    /// Somebody who waited is gone: the others may have a better place.
    moved: Notify,
}

#[derive(Default)]
struct State {
    /// When turns were taken, oldest first: those of the last stretch.
    taken: VecDeque<Instant>,
    /// Those of them that learning took.
    learnt: VecDeque<Instant>,
    /// The backend has said that it was asked too often.
    paused_until: Option<Instant>,
    waiting: BTreeSet<Place>,
    /// Times that were named to those who were sent away: they will come back then.
    named: BTreeSet<(Instant, u64)>,
    next: u64,
}

/// A place in the queue: by right, then by age.
type Place = (Claim, u64);

/// No turn in time: nothing was asked, and nothing is known.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) why: Text,
    /// When a turn should be free.
    pub(super) again: SystemTime,
}

impl Budget {
    pub(super) fn new(most: usize, per: Duration) -> Self {
        Self {
            most: most.max(1),
            per,
            state: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// Waits for a turn and takes it.
    pub(super) async fn turn(&self, claim: Claim) -> Result<(), Refusal> {
        let patience = match claim {
            Claim::Learning => Duration::ZERO,
            _ => PATIENCE,
        };
        let last = Instant::now() + patience;
        let waiting = self.queue_up(claim);
        loop {
            let moved = self.moved.notified();
            match self.look(waiting.place, last)? {
                None => return Ok(()),
                Some(free) => tokio::select! {
                    () = sleep_until(free) => {}
                    () = moved => {}
                },
            }
        }
    }

    /// The backend was asked too often, by us or by others who share its limit: nobody asks for so long.
    pub(super) fn pause(&self, for_long: Option<Duration>) {
        let for_long = for_long.unwrap_or(self.per).min(LONGEST_PAUSE);
        let until = Instant::now() + for_long;
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Some(until));
    }

    fn queue_up(&self, claim: Claim) -> Waiting<'_> {
        let mut state = self.lock();
        state.next += 1;
        let place = (claim, state.next);
        state.waiting.insert(place);
        drop(state);
        Waiting {
            budget: self,
            place,
        }
    }

    /// Takes a turn, or tells when there may be one.
    fn look(&self, place: Place, last: Instant) -> Result<Option<Instant>, Refusal> {
        let now = Instant::now();
        let mut state = self.lock();
        state.forget(now, self.per);
        let before = state.waiting.range(..place).count();
        let free = state.free(before, now, self);
        let is_learning = place.0 == Claim::Learning;
        let share = (self.most / LEARNING_SHARE).max(1);
        let over_share = is_learning && state.learnt.len() >= share;
        if free <= now && !over_share {
            state.taken.push_back(now);
            if is_learning {
                state.learnt.push_back(now);
            }
            return Ok(None);
        }
        if free <= last && !over_share {
            return Ok(Some(free));
        }
        // Whoever was sent away before comes back before.
        let free = state.free(before + state.named.len(), now, self);
        if !is_learning {
            state.named.insert((free, place.1));
        }
        Err(self.refusal(state.paused_until, free, now))
    }

    fn refusal(&self, paused_until: Option<Instant>, free: Instant, now: Instant) -> Refusal {
        let again = SystemTime::now() + free.saturating_duration_since(now);
        let when = humantime::format_rfc3339_seconds(again);
        let per = humantime::format_duration(self.per);
        let why = match paused_until {
            Some(_) => {
                format!("it was asked too often and wants to be left alone; asked again at {when}")
            }
            None => format!(
                "its limit of {} queries in {per} is spent by other incidents; asked again at {when}",
                self.most
            ),
        };
        Refusal {
            why: Text::new(why),
            again,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, now: Instant, per: Duration) {
        for taken in [&mut self.taken, &mut self.learnt] {
            while taken.front().is_some_and(|at| *at + per <= now) {
                taken.pop_front();
            }
        }
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.named = self.named.split_off(&(now, 0));
    }

    /// When there is a turn for who has so many before him: every turn is free again a stretch after it was taken.
    fn free(&self, before: usize, now: Instant, budget: &Budget) -> Instant {
        let start = self.paused_until.unwrap_or(now);
        let unused = budget.most.saturating_sub(self.taken.len());
        let Some(index) = before.checked_sub(unused) else {
            return start;
        };
        let rounds = u32::try_from(index / budget.most).unwrap_or(u32::MAX);
        let taken = self.taken.get(index % budget.most).copied();
        let first = taken.map_or(start + budget.per, |at| at + budget.per);
        let later = budget.per.saturating_mul(rounds);
        first.checked_add(later).unwrap_or(first).max(start)
    }
}

/// Leaves the queue, also when nobody waits for the turn any more.
struct Waiting<'b> {
    budget: &'b Budget,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.budget.lock().waiting.remove(&self.place);
        self.budget.moved.notify_waiters();
    }
}
