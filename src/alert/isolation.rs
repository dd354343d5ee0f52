//! Whether it is the prober's own network that is gone. Pure.
//!
//! Isolated means: at least five targets that are not on this machine, most of them failing in a way that a dead
//! network explains, and a control that worked before fails now. From the moment that a control fails until it is
//! certain, failures are in doubt: they neither count nor are forgotten.

use std::time::{Duration, SystemTime};

/// Fewer remote targets cannot tell an outage of theirs from one of ours.
pub(super) const LEAST_TARGETS: usize = 5;

/// How long failures may be in doubt. Each target is probed at once when the doubt arises, and a hanging probe takes 10 s
/// by default; what has not answered by then says nothing. A page is late by no more than this.
const LONGEST_DOUBT: Duration = Duration::from_secs(30);

/// A failure from shortly before the doubt tells of the same network. A pass from before it tells of the network that was
/// there until then.
const ALREADY: Duration = Duration::from_secs(15);

/// After a suspend the network needs a moment, and so does it after the clock was set.
const AFTER_A_JUMP: Duration = Duration::from_secs(30);

/// What is known of the controls and of the network.
#[derive(Clone, Debug, Default)]
pub(super) struct Isolation {
    controls: Vec<Control>,
    doubt: Option<SystemTime>,
    /// The doubt has ended with the finding that it is not us, though a control fails; it does not arise again before
    /// that control has worked.
    dismissed: bool,
    isolated: Option<SystemTime>,
    /// When the last isolation ended: probes that started before tell nothing.
    ended: Option<SystemTime>,
    jumped: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Control {
    worked_before: bool,
    works: Option<bool>,
}

/// The last result of a target that is not on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastSeen {
    /// Start of the probe.
    pub(super) at: SystemTime,
    /// It failed in a way that a dead network explains.
    pub(super) cut: bool,
}

/// What has become of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// A control fails that has worked: who has not been probed since should be.
    Doubtful,
    /// It is us.
    Isolated,
    /// It was us, and is over.
    Connected,
}

impl Isolation {
    /// The controls: for each, whether it is known to have worked.
    pub(super) fn set_controls(&mut self, worked: &[bool]) {
        let control = |worked_before: &bool| Control {
            worked_before: *worked_before,
            works: None,
        };
        self.controls = worked.iter().map(control).collect();
    }

    /// Which of them have ever worked.
    pub(super) fn worked(&self) -> Vec<bool> {
        self.controls.iter().map(|c| c.worked_before).collect()
    }

    /// Takes in what all the controls say at `now`.
    pub(super) fn observe_controls(&mut self, works: &[bool], now: SystemTime) -> Option<Turned> {
        for (control, works) in self.controls.iter_mut().zip(works) {
            control.works = Some(*works);
            control.worked_before |= *works;
        }
        if self.a_control_fails() {
            if self.isolated.is_some() || self.doubt.is_some() || self.dismissed {
                return None;
            }
            self.doubt = Some(now);
            return Some(Turned::Doubtful);
        }
        self.doubt = None;
        self.dismissed = false;
        if !works.is_empty() && !works.contains(&true) {
            // None of them has ever worked that is still asked.
            return None;
        }
        self.isolated.take().map(|_| {
            self.ended = Some(now);
            Turned::Connected
        })
    }

    fn a_control_fails(&self) -> bool {
        self.controls
            .iter()
            .any(|control| control.worked_before && control.works == Some(false))
    }

    /// A control has worked at some time, so that it is worth asking again.
    pub(super) fn can_tell(&self) -> bool {
        self.controls.iter().any(|control| control.worked_before)
    }

    /// The wall clock has jumped, by a suspend or by being set.
    pub(super) fn jumped(&mut self, now: SystemTime) {
        self.jumped = Some(now);
        // Noted by another clock: set back by an hour, every probe of that hour would have started before it.
        self.ended = None;
    }

    /// Ends the doubt where the last results allow it.
    pub(super) fn decide(
        &mut self,
        remote: &[Option<LastSeen>],
        now: SystemTime,
    ) -> Option<Turned> {
        let doubt = self.doubt?;
        let from = doubt.checked_sub(ALREADY).unwrap_or(doubt);
        let fresh: Vec<_> = remote
            .iter()
            .flatten()
            .filter(|last| last.at >= if last.cut { from } else { doubt })
            .collect();
        let cut = fresh.iter().filter(|last| last.cut).count();
        let over = now
            .duration_since(doubt)
            .map_or(true, |age| age >= LONGEST_DOUBT);
        let of = if over { fresh.len() } else { remote.len() };
        if fresh.len() >= LEAST_TARGETS && 2 * cut > of {
            self.doubt = None;
            self.isolated = Some(now);
            return Some(Turned::Isolated);
        }
        if over || 2 * (fresh.len() - cut) >= remote.len() {
            self.doubt = None;
            self.dismissed = true;
        }
        None
    }

    /// Failures that a dead network explains are in doubt.
    pub(super) fn is_doubtful(&self, now: SystemTime) -> bool {
        let jumped = self.jumped.is_some_and(|at| {
            now.duration_since(at)
                .is_ok_and(|since| since < AFTER_A_JUMP)
        });
        self.doubt.is_some() || jumped
    }

    /// Since when it is us.
    pub(super) fn since(&self) -> Option<SystemTime> {
        self.isolated
    }

    /// It was us when the last run ended.
    pub(super) fn remember(&mut self, since: SystemTime) {
        self.isolated = Some(since);
    }

    /// A failure that a dead network explains, of a probe that started at `at`, is ours.
    pub(super) fn explains(&self, at: SystemTime) -> bool {
        self.isolated.is_some() || self.ended.is_some_and(|ended| at < ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    /// Targets that passed at one time, of which some were cut at another one.
    fn seen(passed: u64, cut: &[u64]) -> Vec<Option<LastSeen>> {
        let last = |n: usize| match cut.get(n) {
            Some(second) => LastSeen {
                at: at(*second),
                cut: true,
            },
            None => LastSeen {
                at: at(passed),
                cut: false,
            },
        };
        (0..6).map(|n| Some(last(n))).collect()
    }

    fn doubtful() -> Isolation {
        let mut isolation = Isolation::default();
        isolation.set_controls(&[false]);
        isolation.observe_controls(&[true], at(0));
        let turned = isolation.observe_controls(&[false], at(10));
        assert_eq!(turned, Some(Turned::Doubtful));
        isolation
    }

    #[test]
    fn what_passed_before_the_control_failed_does_not_dismiss_the_doubt() {
        let mut isolation = doubtful();
        assert_eq!(isolation.decide(&seen(9, &[9]), at(10)), None);
        assert!(isolation.is_doubtful(at(10)));
        let turned = isolation.decide(&seen(9, &[9, 10, 10, 10, 10]), at(11));
        assert_eq!(turned, Some(Turned::Isolated));
    }

    #[test]
    fn what_passes_after_it_does() {
        let mut isolation = doubtful();
        assert_eq!(isolation.decide(&seen(10, &[9, 10, 10]), at(11)), None);
        assert!(!isolation.is_doubtful(at(11)));
        assert_eq!(isolation.decide(&seen(10, &[11; 6]), at(12)), None);
    }
}
