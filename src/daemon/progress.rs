//! Whether probes really finish: what the watchdog and the heartbeat are told by.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How late a start or an end may be before it counts as stuck: sessions and processes are ended after a probe's own
/// time, and a machine may be busy.
const SLACK: Duration = Duration::from_secs(30);

/// What has finished, and what has to happen next and by when.
///
/// Between two probes an hour apart nothing finishes, and everything is well. So it is not asked whether something has
/// finished within some time, but whether something is overdue: a probe that runs past its limit, a result that is not
/// taken in, a start whose time is over.
#[derive(Debug, Default)]
pub struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    finished: u64,
    running: u64,
    /// The longest limit of those that have begun.
    longest: Duration,
    /// When the next of those that run has to have finished.
    finish_by: Option<Instant>,
    next_start: NextStart,
}

/// What is known of the next start.
#[derive(Clone, Copy, Debug, Default)]
enum NextStart {
    /// Nothing: silence proves nothing good.
    #[default]
    Unknown,
    At(Instant),
    /// Nothing will ever be due by itself.
    Never,
}

impl Progress {
    /// A probe has begun that may take `limit`, with all that belongs to it.
    pub fn begun(&self, limit: Duration, now: Instant) {
        let mut state = self.state();
        state.running += 1;
        state.longest = state.longest.max(limit);
        // Others that run already have to finish earlier.
        state.finish_by.get_or_insert(now + limit + SLACK);
    }

    /// A result has been taken in: to be called where it has been worked on, so that a loop that hangs is noticed.
    pub fn finished(&self, now: Instant) {
        let mut state = self.state();
        state.finished += 1;
        state.running = state.running.saturating_sub(1);
        // All others began before now.
        let by = now + state.longest + SLACK;
        state.finish_by = (state.running > 0).then_some(by);
    }

    /// The next start is looked for at `at`, at the latest; never without it.
    pub fn waits_until(&self, at: Option<Instant>) {
        self.state().next_start = at.map_or(NextStart::Never, NextStart::At);
    }

    /// How many have finished.
    pub fn count(&self) -> u64 {
        self.state().finished
    }

    /// Whether nothing is overdue: what runs is within its limit, and when nothing runs, nothing should.
    pub fn is_well(&self, now: Instant) -> bool {
        let state = self.state();
        match (state.finish_by, state.next_start) {
            (Some(by), _) => now < by,
            (None, NextStart::At(at)) => now < at + SLACK,
            (None, NextStart::Never) => true,
            (None, NextStart::Unknown) => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees whether probes go on, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    seen: u64,
}

impl Watcher {
    /// Whether something has finished since the last look, or nothing was to.
    pub(super) fn looks_well(&mut self, progress: &Progress, now: Instant) -> bool {
        let count = progress.count();
        count > std::mem::replace(&mut self.seen, count) || progress.is_well(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_probe_within_its_limit_is_well_and_past_it_is_not() {
        let (progress, now) = (Progress::default(), Instant::now());
        progress.begun(10 * SECOND, now);
        assert!(progress.is_well(now + 39 * SECOND));
        assert!(!progress.is_well(now + 40 * SECOND));
        progress.finished(now + 41 * SECOND);
        progress.waits_until(None);
        assert!(progress.is_well(now + 9_999 * SECOND));
        assert_eq!(progress.count(), 1);
    }

    #[test]
    fn who_began_later_does_not_excuse_who_hangs() {
        let (progress, now) = (Progress::default(), Instant::now());
        for second in 0..60 {
            progress.begun(10 * SECOND, now + second * SECOND);
        }
        assert!(!progress.is_well(now + 60 * SECOND));
        progress.finished(now + 60 * SECOND);
        assert!(progress.is_well(now + 99 * SECOND));
        assert!(!progress.is_well(now + 100 * SECOND));
    }

    #[test]
    fn an_hour_without_a_probe_is_well_until_the_next_one_is_overdue() {
        let (progress, now) = (Progress::default(), Instant::now());
        assert!(!progress.is_well(now), "nothing is known");
        progress.waits_until(Some(now + 3_600 * SECOND));
        assert!(progress.is_well(now + 3_600 * SECOND));
        assert!(!progress.is_well(now + 3_630 * SECOND));
    }

    #[test]
    fn whatever_has_finished_since_the_last_look_is_well() {
        let (progress, now) = (Progress::default(), Instant::now());
        let mut watcher = Watcher::default();
        assert!(!watcher.looks_well(&progress, now));
        progress.finished(now);
        assert!(watcher.looks_well(&progress, now));
        assert!(!watcher.looks_well(&progress, now));
    }
}
