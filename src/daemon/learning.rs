//! While all is well: which service in the traces is the target's, and whether it leaves spans at all.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::inquiry::Inquiry;
use super::{Daemon, Done};
use crate::correlate::{self, Learnt};
use crate::model::{StoredProbe, Target, Window};
use crate::store::{Reader, Write};

/// How often targets are looked for of which not everything is known, and how many are asked about each time.
pub(super) const LEARN_EVERY: Duration = Duration::from_secs(5);
const LEARN_AT_ONCE: usize = 10;
/// Between two attempts for one target.
const LEARN_AGAIN: Duration = Duration::from_secs(60);
/// More than that, by chance: otherwise the same targets would take the few turns that there are each time.
const LEARN_SPREAD: u64 = 30;
/// The same for one that is known well: only how late its spans are may change.
const LAG_AGAIN: Duration = Duration::from_secs(3_600);
/// From the first lesson to the second two minutes, and twice as long each time: after so many an hour has gone by.
const LESSONS_AT_FIRST: u32 = 6;
/// Of a lag that is not seen any more so much is forgotten in an hour: most of it in a day.
const FORGOTTEN: u32 = 12;
/// Fewer passed probes are not worth asking about.
const LEARN_LEAST: usize = 3;
/// Of each of these ages one passed probe is asked about: three just older than any usual exporter takes, and some by which
/// an unusual one is known.
const LEARN_AGES: [u64; 12] = [0, 5, 10, 11, 12, 20, 40, 80, 120, 180, 240, 300];
/// How old they have to be for the server's spans to have arrived.
const LEARN_AGE: Duration = Duration::from_secs(10);
/// What is later than this is lost. The last `recheck` is usually at three minutes.
const MAX_LAG: Duration = Duration::from_secs(120);

/// What is known about a target's spans.
#[derive(Clone, Debug)]
pub(super) struct Learning {
    pub(super) passed: usize,
    pub(super) known: bool,
    /// Askings that told something.
    pub(super) lessons: u32,
    pub(super) again: Instant,
    /// How late its spans usually are; zero while that is not known.
    pub(super) lag: Duration,
}

impl Learning {
    /// Nothing, and that may be asked about at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            passed: 0,
            known: false,
            lessons: 0,
            again: now,
            lag: Duration::ZERO,
        }
    }

    /// What an earlier run has learnt.
    pub(super) fn remember(&mut self, known: bool, lag: Duration) {
        self.known = known;
        self.lag = lag;
        // What was learnt may have been one lesson: the first ones come again, with it as the least.
        if known {
            self.again = Instant::now() + LEARN_AGAIN;
        }
    }

    /// From one asking to the next. A collector that sends every half a minute makes spans late by anything up to that, and one
    /// lesson sees a single one of it: at first there are many.
    fn until_again(&self) -> Duration {
        match self.known {
            true => LAG_AGAIN.min(LEARN_AGAIN * 2_u32.pow(self.lessons.min(LESSONS_AT_FIRST))),
            false => LEARN_AGAIN,
        }
    }

    fn next(&self) -> Instant {
        let spread = Duration::from_secs(fastrand::u64(..LEARN_SPREAD));
        Instant::now() + self.until_again() + spread
    }

    /// One more lesson on how late the spans are. The largest of the first ones is believed, and a larger one always at once;
    /// later ones that are smaller by and by.
    fn take_in(&mut self, ages: &[Duration], joined: &[bool]) {
        let Some(late) = lateness(ages, joined) else {
            return;
        };
        self.lag = if late >= self.lag || self.lessons < LESSONS_AT_FIRST {
            late.max(self.lag)
        } else {
            self.lag - (self.lag - late) / FORGOTTEN
        };
        self.lessons = self.lessons.saturating_add(1);
    }
}

/// What one asking about passed probes has told.
pub(super) struct Lesson {
    learnt: Learnt,
    /// Of each probe that was asked about, how old it was; in the order of what was learnt.
    ages: Vec<Duration>,
}

/// How late spans are: at least as late as the oldest probe is old whose spans were not there yet, while those of all that
/// are older than it were. `None` where there were none at all.
fn lateness(ages: &[Duration], joined: &[bool]) -> Option<Duration> {
    let mut seen: Vec<_> = ages.iter().zip(joined).collect();
    seen.sort();
    let missing = seen.iter().take_while(|(_, joined)| !**joined);
    let late = missing.last().map_or(Duration::ZERO, |(age, _)| **age);
    joined.contains(&true).then(|| late.min(MAX_LAG))
}

impl Daemon {
    pub(super) fn take_in_learnt(&mut self, target: &str, lesson: Option<Lesson>) {
        let index = self.fleet.index(target);
        let Some((target, learning)) = index.and_then(|index| {
            let target = self.fleet.targets.get(index)?;
            Some((target, self.fleet.learning.get_mut(index)?))
        }) else {
            return;
        };
        let Some(Lesson { learnt, ages }) = lesson else {
            // Nothing could be asked yet: soon again.
            if !learning.known {
                learning.again = Instant::now();
            }
            return;
        };
        if !learnt.joined.contains(&true) {
            return;
        }
        learning.known |= learnt.service.is_some() || target.service.is_some();
        learning.take_in(&ages, &learnt.joined);
        learning.again = learning.next();
        self.writer.write(Write::Instrumented {
            target: Arc::clone(target),
            service: learnt.service,
            lag: learning.lag,
        });
    }

    /// Looks for targets of which not everything is known, or was not for long, and asks about some.
    pub(super) fn learn(&mut self, background: &mut JoinSet<Done>) {
        let Some(inquiry) = &self.inquiry else {
            return;
        };
        let now = Instant::now();
        let due = self
            .fleet
            .learning
            .iter_mut()
            .enumerate()
            .filter(|(_, learning)| learning.passed >= LEARN_LEAST && learning.again <= now)
            .take(LEARN_AT_ONCE);
        for (index, learning) in due {
            learning.again = learning.next();
            if let Some(target) = self.fleet.targets.get(index) {
                let (inquiry, target) = (inquiry.clone(), Arc::clone(target));
                background.spawn(async move {
                    let name = target.name.clone();
                    Done::Learnt(name, learn_one(inquiry, target).await)
                });
            }
        }
    }
}

/// `None` when there is not enough to ask about, or the backend cannot say.
async fn learn_one(inquiry: Inquiry, target: Arc<Target>) -> Option<Lesson> {
    let (store, name) = (inquiry.store.clone(), target.name.clone());
    let now = SystemTime::now();
    let passed = tokio::task::spawn_blocking(move || passed_of_ages(&store, &name, now))
        .await
        .ok()?
        .ok()?;
    let age = |probe: &StoredProbe| now.duration_since(probe.ended_at).unwrap_or_default();
    let old_enough = passed.iter().filter(|probe| age(probe) >= LEARN_AGE);
    if old_enough.count() < LEARN_LEAST {
        return None;
    }
    let traces: Vec<_> = passed.iter().map(|probe| probe.trace_id).collect();
    let source = inquiry.source(&target.name)?;
    let first = passed.iter().map(|probe| probe.started_at).min()?;
    let around = Window {
        from: first,
        to: now.max(first),
    };
    let service = target.service.as_ref();
    let learnt = match correlate::learn(&source.backend, &traces, around, service).await {
        Ok(learnt) => learnt,
        // Where turns are few, whoever got none must not stand in front of others at once.
        Err(_) if source.backend.is_counted() => Learnt::default(),
        Err(_) => return None,
    };
    Some(Lesson {
        learnt,
        ages: passed.iter().map(age).collect(),
    })
}

/// Each probe once, the newest first. Blocks.
fn passed_of_ages(store: &Path, name: &str, now: SystemTime) -> Result<Vec<StoredProbe>, String> {
    let reader = Reader::open(store)?;
    let mut passed: Vec<StoredProbe> = Vec::new();
    for age in LEARN_AGES {
        let found = reader.passed_before(name, now - Duration::from_secs(age), 1)?;
        let is_new = |probe: &StoredProbe| passed.iter().all(|p| p.trace_id != probe.trace_id);
        let found: Vec<_> = found.into_iter().filter(is_new).collect();
        passed.extend(found);
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(ages: &[u64]) -> Vec<Duration> {
        ages.iter().map(|age| Duration::from_secs(*age)).collect()
    }

    fn late(seen: &[(u64, bool)]) -> Option<u64> {
        let (ages, joined): (Vec<_>, Vec<_>) = seen.iter().copied().unzip();
        lateness(&seconds(&ages), &joined).map(|late| late.as_secs())
    }

    #[test]
    fn spans_are_as_late_as_the_oldest_that_is_missing_and_not_lost() {
        assert_eq!(late(&[(3, false), (8, true), (70, true)]), Some(3));
        assert_eq!(late(&[(3, false), (33, false), (70, true)]), Some(33));
        // One that is missing among others is lost, not late.
        assert_eq!(late(&[(3, true), (33, false), (70, true)]), Some(0));
        // Without any nothing is known.
        assert_eq!(late(&[(3, false), (33, false)]), None);
        assert_eq!(late(&[]), None);
        assert_eq!(late(&[(500, false), (600, true)]), Some(MAX_LAG.as_secs()));
    }

    /// The lag, in seconds, after lessons of which each saw a span missing that was so many seconds old, and one joined.
    fn after(lessons: &[u64]) -> u64 {
        let mut learning = Learning::new(Instant::now());
        learning.known = true;
        for late in lessons {
            learning.take_in(&seconds(&[*late, 200]), &[*late == 0, true]);
        }
        learning.lag.as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_of_the_first_lessons_is_believed_and_later_ones_by_and_by() {
        assert_eq!(after(&[2, 28, 4, 17, 0, 9]), 28);
        assert_eq!(after(&[2, 28, 4, 17, 0, 9, 4]), 26);
        assert_eq!(after(&[2, 28, 4, 17, 0, 9, 50]), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn lessons_become_rarer_until_there_is_one_an_hour() {
        let mut learning = Learning::new(Instant::now());
        assert_eq!(learning.until_again(), LEARN_AGAIN);
        learning.known = true;
        let mut waits = Vec::new();
        for _ in 0..8 {
            learning.take_in(&seconds(&[200]), &[true]);
            waits.push(learning.until_again().as_secs() / 60);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
