//! The targets of one configuration, and what is known of each besides its state.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::dialects::Dialects;
use super::learning::Learning;
use crate::model::{Endpoint, HttpEndpoint, Target, Timing, TlsSettings};
use crate::schedule::{Slot, first_due};

/// All targets, in the order of the configuration.
pub(super) struct Fleet {
    pub(super) targets: Arc<[Arc<Target>]>,
    by_name: HashMap<String, usize>,
    pub(super) dialects: Arc<Dialects>,
    pub(super) learning: Vec<Learning>,
    /// A result of this run was seen: the first one is always shown.
    pub(super) seen: Vec<bool>,
}

/// What a new configuration does to the targets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) added: usize,
    pub(super) changed: usize,
    pub(super) removed: usize,
    /// Places of those that are new or changed.
    pub(super) fresh: Vec<usize>,
}

impl Fleet {
    pub(super) fn new(targets: Arc<[Arc<Target>]>) -> Self {
        let unlearnt = Learning::new(Instant::now());
        Self {
            by_name: targets.iter().map(|t| t.name.clone()).zip(0..).collect(),
            dialects: Arc::new(Dialects::unknown(targets.len())),
            learning: vec![unlearnt; targets.len()],
            seen: vec![false; targets.len()],
            targets,
        }
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Where `target` stands now; nowhere when it is gone or has been changed since.
    pub(super) fn index_of(&self, target: &Arc<Target>) -> Option<usize> {
        let index = self.index(&target.name)?;
        let now = self.targets.get(index)?;
        Arc::ptr_eq(now, target).then_some(index)
    }

    /// The fleet of a new configuration: targets that did not change stay the same, and what is known of them stays.
    pub(super) fn succeed(&self, targets: Vec<Target>) -> (Self, Difference) {
        let mut difference = Difference::default();
        let kept: Arc<[_]> = (0..)
            .zip(targets)
            .map(|(index, target)| {
                let before = self.index(&target.name).and_then(|at| self.targets.get(at));
                match before {
                    Some(before) if is_same(before, &target) => return Arc::clone(before),
                    Some(_) => difference.changed += 1,
                    None => difference.added += 1,
                }
                difference.fresh.push(index);
                Arc::new(target)
            })
            .collect();
        let mut fleet = Self::new(kept);
        let stayed = fleet.targets.len() - difference.added;
        difference.removed = self.targets.len() - stayed;
        for (index, target) in Arc::clone(&fleet.targets).iter().enumerate() {
            let Some(before) = self.index_of(target) else {
                continue;
            };
            if let Some(dialect) = self.dialects.get(before) {
                fleet.dialects.set(index, dialect);
            }
            if let Some((learning, known)) =
                fleet.learning.get_mut(index).zip(self.learning.get(before))
            {
                learning.clone_from(known);
            }
            if let Some((seen, was)) = fleet.seen.get_mut(index).zip(self.seen.get(before)) {
                *seen = *was;
            }
        }
        (fleet, difference)
    }

    /// When each target is due.
    pub(super) fn slots(&self, now: SystemTime) -> Vec<Slot> {
        let unix = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let slot = |target: &Arc<Target>| match &target.timing {
            Timing::Every(every) => Slot::Every {
                phase: first_due(&target.name, *every, unix),
                every: *every,
            },
            Timing::Cron(cron) => Slot::Cron(Arc::clone(cron)),
        };
        self.targets.iter().map(slot).collect()
    }
}

/// Whether nothing of a target has changed. `Debug` shows everything of it but the endpoint and secrets.
fn is_same(before: &Target, after: &Target) -> bool {
    before.secrets == after.secrets
        && is_same_endpoint(&before.endpoint, &after.endpoint)
        && match (&before.start, &after.start) {
            (Some(before), Some(after)) => before.is_same(after),
            (before, after) => before.is_none() && after.is_none(),
        }
        && format!("{before:?}") == format!("{after:?}")
}

fn is_same_endpoint(before: &Endpoint, after: &Endpoint) -> bool {
    match (before, after) {
        (Endpoint::Stdio(before), Endpoint::Stdio(after)) => before.is_same(after),
        (Endpoint::Http(before), Endpoint::Http(after)) => {
            let headers = |http: &HttpEndpoint| -> Vec<_> {
                let headers = http.headers.iter();
                headers
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect()
            };
            before.url == after.url
                && before.socket == after.socket
                && headers(before) == headers(after)
                && format!("{:?}", before.network) == format!("{:?}", after.network)
                && is_same_tls(&before.tls, &after.tls)
        }
        _ => false,
    }
}

/// Also what the files say: a renewed certificate has to be shown to the server.
fn is_same_tls(before: &TlsSettings, after: &TlsSettings) -> bool {
    let roots = |tls: &TlsSettings| tls.roots.as_ref().map(|roots| roots.roots.clone());
    let chain = |tls: &TlsSettings| tls.identity.as_ref().map(|identity| identity.cert.clone());
    roots(before) == roots(after)
        && chain(before) == chain(after)
        && before.server_name == after.server_name
        && before.insecure_skip_verify == after.insecure_skip_verify
}
