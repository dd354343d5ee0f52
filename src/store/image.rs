//! What the store would tell, in memory: written to the disk from here, and what remains when there is no disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use rusqlite::Connection;

use super::notice::{self, Head, NoticeKey, StoredNotice};
use super::target::{Remembered, TargetRow};
use super::{fact, incident, orders};
use crate::model::{AlertChange, Delivery, Incident, Orders, Target, TargetStatus};

/// Ended incidents that wait for a disk; each is two kilobytes with its notices. Of more, the oldest are lost.
const MAX_ENDED: usize = 20_000;

/// Everything that counts after a restart, and which of it the disk does not have yet.
#[derive(Debug, Default)]
pub(super) struct Image {
    targets: Vec<Kept>,
    places: HashMap<String, usize>,
    unwritten_targets: Vec<usize>,
    /// Those whose numbers were given out by the transaction that is under way.
    numbered: Vec<usize>,
    /// The open ones, and those that have ended and are not written.
    incidents: BTreeMap<String, Incident>,
    unwritten_incidents: BTreeSet<String>,
    /// The undelivered ones, the last of each open incident to each channel, and those that are not written.
    notices: BTreeMap<NoticeKey, StoredNotice>,
    unwritten_notices: BTreeSet<NoticeKey>,
    orders: Orders,
    facts: BTreeMap<String, String>,
    unwritten_facts: BTreeSet<String>,
}

#[derive(Debug)]
struct Kept {
    row: TargetRow,
    /// Its number in the file, where that is known.
    number: Option<i64>,
    unwritten: Unwritten,
}

/// What of a target the disk does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unwritten {
    Nothing,
    /// The last probe.
    Seen,
    Everything,
}

/// What a `watch` begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    targets: BTreeMap<String, (TargetStatus, Remembered)>,
    /// Open incidents.
    pub incidents: Vec<Incident>,
    /// Notices that are still to be delivered, oldest first.
    pub pending: Vec<crate::model::Pending>,
    /// The last notice of each open incident to each channel.
    pub heads: Vec<Head>,
    /// What people said.
    pub orders: Orders,
    /// Facts about the daemon.
    pub facts: BTreeMap<String, String>,
}

impl Recalled {
    /// What is known of a target, and what it is besides. One that has moved has forgotten what it spoke.
    pub fn target(&self, target: &Target) -> (TargetStatus, Remembered) {
        let Some((status, remembered)) = self.targets.get(&target.name) else {
            return (TargetStatus::unknown(&target.name), Remembered::default());
        };
        let (status, mut remembered) = (status.clone(), remembered.clone());
        if remembered.endpoint != target.endpoint.shown() {
            remembered.dialect = None;
        }
        (status, remembered)
    }

    /// Names of the targets that the store knows.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }
}

impl Image {
    /// What the file tells.
    pub(super) fn load(from: &Connection, now: SystemTime) -> rusqlite::Result<Self> {
        let mut image = Self::default();
        for (number, row) in TargetRow::all(from)? {
            image.add(row, Some(number));
        }
        for open in incident::open(from)? {
            for head in notice::last_of(from, &open.id)? {
                image.notices.insert(head.key(), head);
            }
            image.incidents.insert(open.id.clone(), open);
        }
        for undelivered in notice::undelivered(from)? {
            for head in notice::last_of(from, &undelivered.notice.incident.id)? {
                image.notices.entry(head.key()).or_insert(head);
            }
            image.notices.insert(undelivered.key(), undelivered);
        }
        image.orders = orders::standing(from, now)?;
        image.facts = fact::all(from)?;
        Ok(image)
    }

    /// What a broken file tells, as far as it can be read.
    pub(super) fn load_readable(from: &Connection, now: SystemTime) -> Self {
        let mut image = Self::default();
        for (number, row) in TargetRow::readable(from) {
            if !image.places.contains_key(&row.name) {
                image.add(row, Some(number));
            }
        }
        for open in incident::readable_open(from) {
            image.incidents.insert(open.id.clone(), open);
        }
        for notice in notice::readable(from) {
            image.notices.insert(notice.key(), notice);
        }
        let incidents = image.notices.keys().map(|(of, ..)| of.clone());
        for incident in incidents.collect::<BTreeSet<_>>() {
            image.forget_done(&incident);
        }
        image.facts = fact::readable(from).into_iter().collect();
        image.hear(orders::readable(from, now));
        image
    }

    /// The targets by their numbers in the file.
    pub(super) fn numbers(&self) -> BTreeMap<i64, usize> {
        let numbers = self.targets.iter().enumerate();
        numbers
            .filter_map(|(place, kept)| Some((kept.number?, place)))
            .collect()
    }

    pub(super) fn recalled(&self) -> Recalled {
        let mut pending: Vec<_> = self
            .notices
            .values()
            .filter(|notice| !notice.is_done())
            .map(StoredNotice::pending)
            .collect();
        pending.sort_by_key(|pending| pending.notice.created_at);
        Recalled {
            targets: self
                .targets
                .iter()
                .map(|kept| &kept.row)
                .map(|row| (row.name.clone(), (row.status(), row.remembered.clone())))
                .collect(),
            incidents: self
                .incidents
                .values()
                .filter(|incident| incident.resolved_at.is_none())
                .cloned()
                .collect(),
            pending,
            heads: self.heads(),
            orders: self.orders.clone(),
            facts: self.facts.clone(),
        }
    }

    fn heads(&self) -> Vec<Head> {
        let mut heads: Vec<Head> = Vec::new();
        // Of those that have ended, as long as somebody has not been told.
        let undone = self.notices.values().filter(|notice| !notice.is_done());
        let untold: BTreeSet<_> = undone
            .map(|notice| notice.notice.incident.id.clone())
            .collect();
        // In the order of incident, channel, sequence: the last of each is the head.
        for ((incident, channel, _), notice) in &self.notices {
            let is_open = !self.incidents.get(incident).is_none_or(ended);
            if !is_open && !untold.contains(incident) {
                continue;
            }
            match heads.last_mut() {
                Some(head) if head.incident == *incident && head.channel == *channel => {
                    *head = notice.head();
                }
                _ => heads.push(notice.head()),
            }
        }
        heads
    }

    pub(super) fn orders(&self) -> &Orders {
        &self.orders
    }

    pub(super) fn hear(&mut self, orders: Orders) {
        for (incident, by) in &orders.acknowledged {
            if let Some(incident) = self.incidents.get_mut(incident) {
                incident.acknowledged.get_or_insert_with(|| by.clone());
            }
        }
        self.orders = orders;
    }

    /// The place of a target, which is made when it is new.
    pub(super) fn place(&mut self, target: &Target) -> usize {
        if let Some(place) = self.places.get(&target.name) {
            return *place;
        }
        self.add(TargetRow::new(target), None)
    }

    fn add(&mut self, row: TargetRow, number: Option<i64>) -> usize {
        let place = self.targets.len();
        self.places.insert(row.name.clone(), place);
        self.targets.push(Kept {
            row,
            number,
            unwritten: Unwritten::Nothing,
        });
        place
    }

    /// Changes a target, which answers whether anything is new besides its last probe.
    pub(super) fn change(&mut self, place: usize, change: impl FnOnce(&mut TargetRow) -> bool) {
        let Some(kept) = self.targets.get_mut(place) else {
            return;
        };
        let new = if change(&mut kept.row) {
            Unwritten::Everything
        } else {
            Unwritten::Seen
        };
        if kept.unwritten == Unwritten::Nothing {
            self.unwritten_targets.push(place);
        }
        kept.unwritten = kept.unwritten.max(new);
    }

    /// The number of a target in the file; known once it is written.
    pub(super) fn number(&self, place: usize) -> Option<i64> {
        self.targets.get(place)?.number
    }

    pub(super) fn take_in(&mut self, change: &AlertChange) {
        match change {
            AlertChange::Incident(incident) => {
                let mut incident = incident.as_ref().clone();
                // Who took it from another shell has it, even if alerting has not heard of it yet.
                if let Some(known) = self.incidents.get(&incident.id)
                    && incident.acknowledged.is_none()
                {
                    incident.acknowledged.clone_from(&known.acknowledged);
                }
                if ended(&incident) {
                    let acknowledged = &mut self.orders.acknowledged;
                    acknowledged.retain(|(id, _)| *id != incident.id);
                }
                self.unwritten_incidents.insert(incident.id.clone());
                self.incidents.insert(incident.id.clone(), incident);
            }
            AlertChange::Notice(notice) => {
                let key = notice::key(notice);
                self.unwritten_notices.insert(key.clone());
                self.notices
                    .insert(key, StoredNotice::new(notice.as_ref().clone()));
            }
            AlertChange::Timeline(_) => {}
        }
    }

    /// Takes in an attempt; false when the notice is not in memory.
    pub(super) fn deliver(&mut self, delivery: &Delivery) -> bool {
        let key = (
            delivery.incident.clone(),
            delivery.channel.clone(),
            delivery.sequence,
        );
        let Some(notice) = self.notices.get_mut(&key) else {
            return false;
        };
        notice.take_in(delivery);
        self.unwritten_notices.insert(key);
        true
    }

    pub(super) fn state(&mut self, key: &str, value: Option<String>) {
        if self.facts.get(key) == value.as_ref() {
            return;
        }
        self.unwritten_facts.insert(key.to_owned());
        match value {
            Some(value) => self.facts.insert(key.to_owned(), value),
            None => self.facts.remove(key),
        };
    }

    /// A fact that is on the disk already.
    pub(super) fn know(&mut self, key: &str, value: String) {
        self.facts.insert(key.to_owned(), value);
    }

    pub(super) fn is_written(&self) -> bool {
        self.unwritten_targets.is_empty()
            && self.unwritten_incidents.is_empty()
            && self.unwritten_notices.is_empty()
            && self.unwritten_facts.is_empty()
    }

    /// Writes what the disk does not have. It counts as written only after [`Self::settle`].
    pub(super) fn write(&mut self, to: &Connection) -> rusqlite::Result<()> {
        for place in &self.unwritten_targets {
            if let Some(kept) = self.targets.get_mut(*place) {
                match (kept.number, kept.unwritten) {
                    (Some(number), Unwritten::Seen) => kept.row.write_seen(to, number)?,
                    (Some(number), _) => kept.row.write(to, Some(number)).map(drop)?,
                    (None, _) => {
                        self.numbered.push(*place);
                        kept.number = Some(kept.row.write(to, None)?);
                    }
                }
            }
        }
        for incident in self.unwritten_incidents.iter() {
            if let Some(incident) = self.incidents.get(incident) {
                incident::write(to, incident)?;
            }
        }
        for key in &self.unwritten_notices {
            if let Some(notice) = self.notices.get(key) {
                notice.write(to)?;
            }
        }
        for key in &self.unwritten_facts {
            fact::write(to, key, self.facts.get(key).map(String::as_str))?;
        }
        Ok(())
    }

    /// What was written is on the disk: what nobody will ask for any more is forgotten.
    pub(super) fn settle(&mut self) {
        self.numbered.clear();
        for place in self.unwritten_targets.drain(..) {
            if let Some(kept) = self.targets.get_mut(place) {
                kept.unwritten = Unwritten::Nothing;
            }
        }
        self.unwritten_facts.clear();
        let written = std::mem::take(&mut self.unwritten_notices);
        for incident in std::mem::take(&mut self.unwritten_incidents) {
            if self.incidents.get(&incident).is_some_and(ended) {
                self.incidents.remove(&incident);
                self.forget_done(&incident);
            }
        }
        let mut last = None;
        for (incident, ..) in written {
            if last.as_ref() != Some(&incident) {
                self.forget_done(&incident);
                last = Some(incident);
            }
        }
    }

    /// Forgets an incident's notices that are done, but for the heads while it is open, or somebody is not told.
    fn forget_done(&mut self, incident: &str) {
        let open = self
            .incidents
            .get(incident)
            .is_some_and(|incident| !ended(incident));
        let from = (incident.to_owned(), String::new(), 0);
        let keys: Vec<_> = self
            .notices
            .range(from..)
            .take_while(|((of, ..), _)| of == incident)
            .map(|(key, notice)| (key.clone(), notice.is_done()))
            .collect();
        let heads_count = open || keys.iter().any(|(_, done)| !done);
        for (at, (key, done)) in keys.iter().enumerate() {
            let head = keys
                .get(at + 1)
                .is_none_or(|((_, next, _), _)| *next != key.1);
            if *done && !(heads_count && head) {
                self.notices.remove(key);
            }
        }
    }

    /// The transaction was undone: numbers that it gave out are none.
    pub(super) fn unsettle(&mut self) {
        for place in self.numbered.drain(..) {
            if let Some(kept) = self.targets.get_mut(place) {
                kept.number = None;
            }
        }
    }

    /// Of ended incidents that wait for a disk at most a number is kept; answers how many were lost.
    pub(super) fn limit(&mut self) -> u64 {
        if self.unwritten_incidents.len() <= MAX_ENDED {
            return 0;
        }
        let mut ended: Vec<_> = self
            .unwritten_incidents
            .iter()
            .filter_map(|id| Some((self.incidents.get(id)?.resolved_at?, id.clone())))
            .collect();
        ended.sort();
        let too_many = ended.len().saturating_sub(MAX_ENDED);
        for (_, id) in ended.iter().take(too_many) {
            self.incidents.remove(id);
            self.unwritten_incidents.remove(id);
            let from = (id.clone(), String::new(), 0);
            let done: Vec<_> = self
                .notices
                .range(from..)
                .take_while(|((of, ..), notice)| of == id && notice.is_done())
                .map(|(key, _)| key.clone())
                .collect();
            for key in done {
                self.notices.remove(&key);
                self.unwritten_notices.remove(&key);
            }
        }
        u64::try_from(too_many).unwrap_or(u64::MAX)
    }

    /// Another file has taken the place of the one that all this was written to.
    pub(super) fn forget_written(&mut self) {
        self.unwritten_targets = (0..self.targets.len()).collect();
        for kept in &mut self.targets {
            kept.unwritten = Unwritten::Everything;
            kept.number = None;
        }
        self.unwritten_incidents = self.incidents.keys().cloned().collect();
        self.unwritten_notices = self.notices.keys().cloned().collect();
        self.unwritten_facts = self.facts.keys().cloned().collect();
    }

    /// Takes in what a file tells that was opened late: what came in meanwhile is newer.
    pub(super) fn absorb(&mut self, file: Self) {
        for other in file.targets {
            match self.places.get(&other.row.name).copied() {
                None => {
                    self.add(other.row, other.number);
                }
                Some(place) => {
                    if let Some(kept) = self.targets.get_mut(place) {
                        kept.number = other.number;
                        kept.row.learn(other.row);
                    }
                }
            }
        }
        for (id, incident) in file.incidents {
            self.incidents.entry(id).or_insert(incident);
        }
        for (key, notice) in file.notices {
            self.notices.entry(key).or_insert(notice);
        }
        for (key, value) in file.facts {
            if !self.unwritten_facts.contains(&key) {
                self.facts.entry(key).or_insert(value);
            }
        }
        self.orders = file.orders;
    }

    /// The silences, to be written to a new file.
    pub(super) fn write_orders(&self, to: &Connection) -> rusqlite::Result<()> {
        for silence in &self.orders.silences {
            orders::write_silence(to, silence)?;
        }
        for (incident, by) in &self.orders.acknowledged {
            incident::acknowledge(to, incident, by)?;
        }
        Ok(())
    }
}

fn ended(incident: &Incident) -> bool {
    incident.resolved_at.is_some()
}
