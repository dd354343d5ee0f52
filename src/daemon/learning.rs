//! While all is well: which service in the traces is the target's, and whether it leaves spans at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::inquiry::Inquiry;
use super::{Daemon, Done};
use crate::correlate::{self, Learnt};
use crate::model::{Target, Window};
use crate::store::{Reader, Write};

/// How often targets are looked for whose service is not known yet, and how many are asked about each time.
pub(super) const LEARN_EVERY: Duration = Duration::from_secs(5);
const LEARN_AT_ONCE: usize = 10;
/// Between two attempts for one target.
const LEARN_AGAIN: Duration = Duration::from_secs(60);
/// More than that, by chance: otherwise the same targets would take the few turns that there are each time.
const LEARN_SPREAD: u64 = 30;
/// Fewer passed probes are not worth asking about.
const LEARN_LEAST: usize = 3;
/// Passed probes whose traces are asked for, and how old they have to be for the server's spans to have arrived.
const LEARN_PROBES: usize = 5;
const LEARN_AGE: Duration = Duration::from_secs(10);

/// What is known about a target's spans.
#[derive(Clone, Debug)]
pub(super) struct Learning {
    pub(super) passed: usize,
    pub(super) known: bool,
    pub(super) again: Instant,
}

impl Daemon {
    pub(super) fn take_in_learnt(&mut self, target: &str, learnt: Option<Learnt>) {
        let index = self.fleet.index(target);
        let Some((target, learning)) = index.and_then(|index| {
            let target = self.fleet.targets.get(index)?;
            Some((target, self.fleet.learning.get_mut(index)?))
        }) else {
            return;
        };
        let Some(learnt) = learnt else {
            // Nothing could be asked yet: soon again.
            learning.again = Instant::now();
            return;
        };
        if learnt.joined == 0 {
            return;
        }
        learning.known = learnt.service.is_some() || target.service.is_some();
        self.writer.write(Write::Instrumented {
            target: Arc::clone(target),
            service: learnt.service,
        });
    }

    /// Looks for targets whose service is not known yet and asks about some.
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
            .filter(|(_, learning)| {
                !learning.known && learning.passed >= LEARN_LEAST && learning.again <= now
            })
            .take(LEARN_AT_ONCE);
        for (index, learning) in due {
            learning.again = now + LEARN_AGAIN + Duration::from_secs(fastrand::u64(..LEARN_SPREAD));
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
async fn learn_one(inquiry: Inquiry, target: Arc<Target>) -> Option<Learnt> {
    let (store, name) = (inquiry.store.clone(), target.name.clone());
    let before = SystemTime::now() - LEARN_AGE;
    let passed = tokio::task::spawn_blocking(move || {
        Reader::open(&store)?.passed_before(&name, before, LEARN_PROBES)
    })
    .await
    .ok()?
    .ok()?;
    let traces: Vec<_> = passed.iter().map(|probe| probe.trace_id).collect();
    if traces.len() < LEARN_LEAST {
        return None;
    }
    let source = inquiry.source(&target.name)?;
    let first = passed.iter().map(|probe| probe.started_at).min()?;
    let around = Window {
        from: first,
        to: SystemTime::now().max(first),
    };
    let service = target.service.as_ref();
    match correlate::learn(&source.backend, &traces, around, service).await {
        Ok(learnt) => Some(learnt),
        // Where turns are few, whoever got none must not stand in front of others at once.
        Err(_) if source.backend.is_counted() => Some(Learnt::default()),
        Err(_) => None,
    }
}
