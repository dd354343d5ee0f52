//! How often a backend may be asked: the vendor's limit, shared by all incidents of this process, and who goes first
//! where there is less than everybody wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::model::Text;

/// How long an inquiry waits for its turn. Longer, and it would be overtaken by the next asking about its incident.
const PATIENCE: Duration = Duration::from_secs(30);

/// What learning in healthy times may take of a limit: one turn in five. Nobody waits for what is learnt.
const LEARNING_SHARE: usize = 5;

/// Places that are kept for who was sent away. Whoever finds them all taken comes back as a new one.
const MOST_AWAY: usize = 4_096;

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
    /// Those who were sent away, and when they come back: they have not lost their place.
    away: BTreeMap<Place, Instant>,
    next: u64,
}

/// A place in the queue: by right, then by age.
type Place = (Claim, Ticket);

/// How long somebody has been there, even if away meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// No turn in time: nothing was asked, and nothing is known.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) why: Text,
    /// When a turn should be free.
    pub(super) again: SystemTime,
    /// What the place is kept by.
    pub(super) ticket: Ticket,
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

    /// Waits for a turn and takes it; `ticket` is of who has been sent away before.
    pub(super) async fn turn(&self, claim: Claim, ticket: Option<Ticket>) -> Result<(), Refusal> {
        let patience = match claim {
            Claim::Learning => Duration::ZERO,
            _ => PATIENCE,
        };
        let last = Instant::now() + patience;
        let waiting = self.queue_up(claim, ticket);
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

    fn queue_up(&self, claim: Claim, ticket: Option<Ticket>) -> Waiting<'_> {
        let mut state = self.lock();
        state.next += 1;
        let ticket = ticket.unwrap_or(Ticket(state.next));
        // By another right, perhaps.
        state.away.retain(|place, _| place.1 != ticket);
        let place = (claim, ticket);
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
        let before = state.waiting.range(..place).count() + state.away.range(..place).count();
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
        if !is_learning && state.away.len() < MOST_AWAY {
            state.away.insert(place, free);
        }
        let wait = free.saturating_duration_since(now);
        Err(self.refusal(state.paused_until.is_some(), wait, place.1))
    }

    fn refusal(&self, is_paused: bool, wait: Duration, ticket: Ticket) -> Refusal {
        let again = SystemTime::now() + wait;
        let when = humantime::format_rfc3339_seconds(again);
        let per = humantime::format_duration(self.per);
        let why = match is_paused {
            true => {
                format!("it was asked too often and wants to be left alone; asked again at {when}")
            }
            false => format!(
                "its limit of {} queries in {per} is spent by other incidents; asked again at {when}",
                self.most
            ),
        };
        Refusal {
            why: Text::new(why),
            again,
            ticket,
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
        // Who has not come back in time is not expected any more.
        self.away.retain(|_, back| *back + PATIENCE > now);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn wait(refusal: &Refusal) -> Duration {
        let wait = refusal.again.duration_since(SystemTime::now());
        // The clock on the wall goes on while the test's stands still.
        wait.unwrap_or_default() + Duration::from_millis(100)
    }

    /// The most turns that any stretch of `per` holds.
    fn fullest(mut taken: Vec<Instant>, per: Duration) -> usize {
        taken.sort();
        let in_stretch = |from: &Instant| {
            let of = |at: &&Instant| (*from..*from + per).contains(*at);
            taken.iter().filter(of).count()
        };
        taken.iter().map(in_stretch).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn no_stretch_holds_more_than_the_limit_and_nobody_waits_for_ever() {
        let budget = Budget::new(3, MINUTE);
        let start = Instant::now();
        for _ in 0..3 {
            budget.turn(Claim::NeverAsked, None).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let refusal = budget.turn(Claim::NeverAsked, None).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::ZERO, "it is told at once");
        let why = refusal.why.as_str();
        assert!(why.starts_with(
            "its limit of 3 queries in 1m is spent by other incidents; asked again at 2"
        ));
        assert!((seconds(59)..=seconds(61)).contains(&wait(&refusal)));
        tokio::time::advance(seconds(45)).await;
        budget.turn(Claim::NeverAsked, None).await.unwrap();
        assert_eq!(start.elapsed(), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_better_claim_goes_first_whoever_came_first() {
        let budget = Arc::new(Budget::new(1, seconds(10)));
        budget.turn(Claim::Recheck, None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for claim in [Claim::Recheck, Claim::Last, Claim::NeverAsked] {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            tasks.spawn(async move {
                budget.turn(claim, None).await.unwrap();
                order.lock().unwrap().push(claim);
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tasks.join_all().await;
        let order = order.lock().unwrap().clone();
        assert_eq!(order, [Claim::NeverAsked, Claim::Last, Claim::Recheck]);
    }

    #[tokio::test(start_paused = true)]
    async fn learning_has_a_fifth_and_does_not_wait() {
        let budget = Budget::new(10, MINUTE);
        let start = Instant::now();
        for _ in 0..2 {
            budget.turn(Claim::Learning, None).await.unwrap();
        }
        budget.turn(Claim::Learning, None).await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..8 {
            budget.turn(Claim::NeverAsked, None).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        // However often it is refused, nobody else is sent away for longer.
        let refusal = budget.turn(Claim::Recheck, None).await.unwrap_err();
        assert!(wait(&refusal) <= seconds(61));
        tokio::time::advance(MINUTE).await;
        budget.turn(Claim::Learning, None).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_asked_too_often_is_left_alone_and_not_for_ever() {
        let budget = Budget::new(10, MINUTE);
        budget.pause(Some(seconds(300)));
        let refusal = budget.turn(Claim::NeverAsked, None).await.unwrap_err();
        assert!(refusal.why.as_str().contains("wants to be left alone"));
        assert!((seconds(299)..=seconds(301)).contains(&wait(&refusal)));
        budget.pause(Some(seconds(1)));
        budget.turn(Claim::NeverAsked, None).await.unwrap_err();
        tokio::time::advance(seconds(301)).await;
        budget.turn(Claim::NeverAsked, None).await.unwrap();
        budget.pause(Some(seconds(1_000_000)));
        tokio::time::advance(LONGEST_PAUSE).await;
        budget.turn(Claim::NeverAsked, None).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_his_place() {
        let budget = Budget::new(1, seconds(10));
        budget.turn(Claim::NeverAsked, None).await.unwrap();
        let start = Instant::now();
        let waiting = tokio::time::timeout(seconds(5), budget.turn(Claim::NeverAsked, None));
        waiting.await.unwrap_err();
        budget.turn(Claim::Recheck, None).await.unwrap();
        assert_eq!(start.elapsed(), seconds(10));
    }

    /// What became of an incident.
    #[derive(Debug)]
    struct Told {
        asked: Vec<Instant>,
        /// How often it was sent away, each time with a reason and a time.
        refused: usize,
    }

    /// Asks as the daemon does: at 20, 60 and 180 seconds, and again when a turn was promised.
    async fn incident(budget: Arc<Budget>, opened: Instant) -> Told {
        let mut ticket = None;
        let mut plan: BTreeSet<Instant> = [20, 60, 180]
            .map(|after| opened + seconds(after))
            .into_iter()
            .collect();
        let mut told = Told {
            asked: Vec::new(),
            refused: 0,
        };
        while let Some(at) = plan.pop_first() {
            sleep_until(at).await;
            let claim = match (told.asked.is_empty(), plan.is_empty()) {
                (true, _) => Claim::NeverAsked,
                (false, true) => Claim::Last,
                (false, false) => Claim::Recheck,
            };
            match budget.turn(claim, ticket.take()).await {
                Ok(()) => told.asked.push(Instant::now()),
                Err(refusal) => {
                    told.refused += 1;
                    assert!(refusal.why.as_str().contains("asked again at"));
                    let again = Instant::now() + wait(&refusal);
                    ticket = Some(refusal.ticket);
                    plan.retain(|planned| *planned > again);
                    plan.insert(again);
                }
            }
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_incidents_at_once_are_all_asked_about_and_never_too_often() {
        let budget = Arc::new(Budget::new(10, MINUTE));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            tasks.spawn(incident(Arc::clone(&budget), start));
        }
        let told = tasks.join_all().await;
        let all: Vec<_> = told.iter().flat_map(|told| told.asked.clone()).collect();
        assert_eq!(fullest(all.clone(), MINUTE), 10);
        assert!(told.iter().any(|told| told.refused > 0));
        for told in &told {
            let (first, last) = (told.asked[0], told.asked[told.asked.len() - 1]);
            // Ten minutes at the least for a hundred, and nobody's recheck comes before somebody's first.
            assert!(first - start <= seconds(11 * 60), "{told:?}");
            assert!(last - start >= seconds(180), "{told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_incident_is_not_starved_by_the_rechecks_of_a_hundred() {
        let budget = Arc::new(Budget::new(10, MINUTE));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let budget = Arc::clone(&budget);
            tasks.spawn(async move {
                let mut ticket = None;
                while start.elapsed() < seconds(600) {
                    if let Err(refusal) = budget.turn(Claim::Recheck, ticket.take()).await {
                        ticket = Some(refusal.ticket);
                        tokio::time::sleep(wait(&refusal)).await;
                    }
                }
            });
        }
        for minute in 1..9 {
            sleep_until(start + seconds(minute * 60 + 30)).await;
            let asked = Instant::now();
            let first = budget.turn(Claim::NeverAsked, None).await;
            assert!(first.is_ok() || asked.elapsed() < seconds(1), "{first:?}");
            if let Err(refusal) = first {
                tokio::time::sleep(wait(&refusal)).await;
                let again = budget.turn(Claim::NeverAsked, Some(refusal.ticket));
                again.await.unwrap();
            }
            assert!(asked.elapsed() <= seconds(61));
        }
        tasks.abort_all();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whoever_comes_whenever_no_stretch_is_over_the_limit(
            most in 1_usize..12,
            per in 1_u64..120,
            comers in proptest::collection::vec((0_u64..300, 0_usize..5), 1..80),
        ) {
            const CLAIMS: [Claim; 5] = [
                Claim::Begun, Claim::NeverAsked, Claim::Last, Claim::Recheck, Claim::Learning,
            ];
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async move {
                let budget = Arc::new(Budget::new(most, seconds(per)));
                let start = Instant::now();
                let mut tasks = tokio::task::JoinSet::new();
                for (at, claim) in comers {
                    let budget = Arc::clone(&budget);
                    tasks.spawn(async move {
                        sleep_until(start + seconds(at)).await;
                        let asked = Instant::now();
                        let turn = budget.turn(CLAIMS[claim], None).await;
                        assert!(asked.elapsed() <= PATIENCE);
                        turn.is_ok().then(Instant::now)
                    });
                }
                let taken = tasks.join_all().await;
                let taken: Vec<_> = taken.into_iter().flatten().collect();
                assert!(!taken.is_empty());
                assert!(fullest(taken, seconds(per)) <= most);
            });
        }
    }
}
