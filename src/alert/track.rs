//! One line of trouble of one target: suspected, confirmed or refuted, counted. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::{Count, Policy, TraceId};

/// A failure that was not confirmed within this time, besides `confirm_delay`, tells nothing about another one: we were
/// stopped or suspended in between. Hanging probes and turns that are waited for take minutes, not more.
const STALE: Duration = Duration::from_secs(600);

/// A probe, as far as counting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Its start.
    pub(super) at: SystemTime,
    /// Its trace.
    pub(super) trace: TraceId,
    /// It failed, and so did its confirmations.
    pub(super) bad: bool,
}

/// A failed probe that is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Suspicion {
    first: Sample,
    /// Further probes that must fail.
    left: u32,
    /// Start of the last probe that did.
    last: SystemTime,
}

/// What a probe's result makes of the suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Another probe has to tell, after `confirm_delay`.
    Pending,
    /// It was failing, and counts.
    Bad(Sample),
    /// The failure that began at this sample was refuted by a probe that passed.
    Refuted(Sample),
    /// It passed, and nothing was suspected.
    Good(Sample),
}

/// What is remembered of a target for one kind of incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Track {
    suspicion: Option<Suspicion>,
    /// The newest counted samples since the incident last opened or closed, the newest last.
    samples: VecDeque<Sample>,
    /// Start of the first of the passes in a row that stand at the end.
    good_since: Option<SystemTime>,
}

impl Track {
    /// A failure waits for its confirmation.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Nothing here differs from a target that has always passed.
    pub(super) fn is_unremarkable(&self) -> bool {
        self.suspicion.is_none() && self.samples.iter().all(|sample| !sample.bad)
    }

    /// What was suspected cannot be told any more: our own trouble.
    pub(super) fn forget_suspicion(&mut self) {
        self.suspicion = None;
    }

    /// Takes in a probe. `certain` failures need no confirmation: the incident is open already. `doubtful` ones are not
    /// ours to count: they stay suspected.
    pub(super) fn settle(
        &mut self,
        probe: Sample,
        certain: bool,
        doubtful: bool,
        policy: &Policy,
    ) -> Settled {
        let is_stale = |suspicion: &Suspicion| {
            let age = probe.at.duration_since(suspicion.last);
            age.is_ok_and(|age| age > STALE + policy.confirm_delay)
        };
        if probe.bad && self.suspicion.as_ref().is_some_and(is_stale) {
            self.suspicion = None;
        }
        let Some(suspicion) = &mut self.suspicion else {
            if !probe.bad {
                return Settled::Good(probe);
            }
            if !doubtful && (certain || policy.confirm == 0) {
                return Settled::Bad(probe);
            }
            self.suspicion = Some(Suspicion {
                first: probe,
                left: policy.confirm,
                last: probe.at,
            });
            return Settled::Pending;
        };
        let first = suspicion.first;
        if !probe.bad {
            self.suspicion = None;
            return Settled::Refuted(first);
        }
        // A probe of the schedule that comes sooner tells less: what ailed the server for a moment still ails it.
        let too_soon = probe
            .at
            .duration_since(suspicion.last)
            .is_ok_and(|apart| apart < policy.confirm_delay);
        if doubtful {
            // It goes on: nobody can tell yet.
            suspicion.last = suspicion.last.max(probe.at);
            return Settled::Pending;
        }
        if !too_soon {
            suspicion.left = suspicion.left.saturating_sub(1);
            suspicion.last = probe.at;
            if suspicion.left == 0 {
                self.suspicion = None;
                return Settled::Bad(first);
            }
        }
        Settled::Pending
    }

    /// Remembers what counts.
    pub(super) fn count(&mut self, sample: Sample, keep: u32) {
        self.good_since = match (sample.bad, self.good_since) {
            (true, _) => None,
            (false, None) => Some(sample.at),
            (false, since) => since,
        };
        self.samples.push_back(sample);
        while self.samples.len() > keep as usize {
            self.samples.pop_front();
        }
    }

    /// The first failure of enough of them, if there are enough.
    pub(super) fn opens(&self, rule: Count) -> Option<Sample> {
        let newest = self.newest(rule);
        let mut bad = newest.filter(|sample| sample.bad);
        // The newest come first.
        let first = bad.clone().last().copied();
        bad.nth(rule.needed.saturating_sub(1) as usize).and(first)
    }

    /// Start of the first pass, if there are enough of them.
    pub(super) fn closes(&self, rule: Count) -> Option<SystemTime> {
        let good = self.newest(rule).filter(|sample| !sample.bad);
        if good.clone().count() < rule.needed as usize {
            return None;
        }
        self.good_since
    }

    /// The incident has opened or closed: what led to it does not count for what comes next.
    pub(super) fn begin_anew(&mut self) {
        self.samples.clear();
        self.good_since = None;
    }

    fn newest(&self, rule: Count) -> impl Iterator<Item = &Sample> + Clone {
        self.samples.iter().rev().take(rule.of as usize)
    }
}
