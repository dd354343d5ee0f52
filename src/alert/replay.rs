//! What another policy would have made of probes that were recorded. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Desk, Reaction, Remembered, Seen, Words};
use crate::model::{AlertChange, Alerting, Incident, Notice, Orders, Silence, Target};

/// How often time alone is looked at between two probes.
const TICK: Duration = Duration::from_secs(1);

/// A desk that sees the past.
pub struct Replay {
    desk: Desk,
    places: HashMap<String, usize>,
    ticked: SystemTime,
    incidents: BTreeMap<String, Incident>,
    notices: Vec<Notice>,
}

impl Replay {
    /// The policy of `alerting` for these targets, from `since` on, with the silences that there were.
    pub fn new(
        alerting: Alerting,
        targets: &[Arc<Target>],
        silences: Vec<Silence>,
        since: SystemTime,
    ) -> Self {
        let mut desk = Desk::new(alerting, targets, Words::default(), |_| {
            Remembered::default()
        });
        let orders = Orders {
            silences,
            acknowledged: Vec::new(),
        };
        // Nothing is open yet.
        desk.ordered(orders, since);
        let names = targets.iter().map(|target| target.name.clone());
        Self {
            desk,
            places: names.zip(0..).collect(),
            ticked: since,
            incidents: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    /// Takes in a recorded probe that ended at `now`; they come in that order. A `confirmation` that this policy would
    /// not have asked for tells it nothing.
    pub fn probe(&mut self, server: &str, found: Seen, confirmation: bool, now: SystemTime) {
        let Some(index) = self.places.get(server).copied() else {
            return;
        };
        if now
            .duration_since(self.ticked)
            .is_ok_and(|since| since >= TICK)
        {
            self.ticked = now;
            let reaction = self.desk.tick(now);
            self.take(reaction);
        }
        let suspect = self.desk.watched(index).is_some_and(|w| w.is_suspect());
        if confirmation && !suspect {
            return;
        }
        let reaction = self.desk.observe(index, found, now);
        self.take(reaction);
    }

    fn take(&mut self, reaction: Reaction) {
        for change in reaction.changes {
            match change {
                AlertChange::Incident(incident) => {
                    self.incidents.insert(incident.id.clone(), *incident);
                }
                AlertChange::Notice(notice) => self.notices.push(*notice),
                AlertChange::Timeline(_) => {}
            }
        }
    }

    /// The incidents and notices that there would have been, the oldest first.
    pub fn end(self) -> (Vec<Incident>, Vec<Notice>) {
        let mut incidents: Vec<_> = self.incidents.into_values().collect();
        incidents.sort_by_key(|incident| incident.first_failed_at);
        (incidents, self.notices)
    }
}
