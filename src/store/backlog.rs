//! Rows that are only ever added, on their way to the disk. While there is none they wait here.

use std::collections::VecDeque;

use super::asking::Asking;
use super::probe::ProbeRow;
use crate::model::{Delivery, TimelineEntry};

/// Passed probes that wait: 32 MB, a day of 100 targets a minute, 100 s of 2,000 a second. Of more, the oldest are
/// lost: what they would tell is best told by those that follow.
const MAX_ROUTINE: usize = 200_000;

/// Failures and changes of state that wait, about 1 KB each; for these too the oldest are lost.
const MAX_TELLING: usize = 50_000;

/// Lines of timelines that wait, about 300 bytes each.
const MAX_TIMELINE: usize = 100_000;

/// Conversations that wait, up to 64 KB each.
const MAX_CONVERSATIONS: usize = 500;

/// Askings of trace backends that wait, some 10 KB each.
const MAX_ASKINGS: usize = 1_000;

/// Attempts at notices that are not in memory any more: there is hardly ever one.
const MAX_DELIVERIES: usize = 10_000;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) routine: VecDeque<ProbeRow>,
    pub(super) telling: VecDeque<ProbeRow>,
    pub(super) timeline: VecDeque<TimelineEntry>,
    pub(super) conversations: VecDeque<(String, String)>,
    pub(super) askings: VecDeque<Asking>,
    pub(super) deliveries: VecDeque<Delivery>,
    pub(super) lost: Lost,
}

/// What did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) probes: u64,
    pub(super) others: u64,
}

impl Backlog {
    pub(super) fn add_probe(&mut self, row: ProbeRow) {
        if row.is_routine() {
            push(&mut self.routine, row, MAX_ROUTINE, &mut self.lost.probes);
        } else {
            push(&mut self.telling, row, MAX_TELLING, &mut self.lost.probes);
        }
    }

    pub(super) fn add_line(&mut self, entry: TimelineEntry) {
        push(
            &mut self.timeline,
            entry,
            MAX_TIMELINE,
            &mut self.lost.others,
        );
    }

    pub(super) fn add_conversation(&mut self, incident: String, text: String) {
        let conversation = (incident, text);
        push(
            &mut self.conversations,
            conversation,
            MAX_CONVERSATIONS,
            &mut self.lost.others,
        );
    }

    pub(super) fn add_asking(&mut self, asking: Asking) {
        push(
            &mut self.askings,
            asking,
            MAX_ASKINGS,
            &mut self.lost.others,
        );
    }

    pub(super) fn add_delivery(&mut self, delivery: Delivery) {
        push(
            &mut self.deliveries,
            delivery,
            MAX_DELIVERIES,
            &mut self.lost.others,
        );
    }

    /// Rows of any kind.
    pub(super) fn len(&self) -> usize {
        self.routine.len() + self.telling.len() + self.others()
    }

    /// Rows that are no probes.
    pub(super) fn others(&self) -> usize {
        self.timeline.len() + self.conversations.len() + self.askings.len() + self.deliveries.len()
    }

    /// The number that the oldest probe has here.
    pub(super) fn first_order(&self) -> Option<i64> {
        let first = [self.routine.front(), self.telling.front()];
        first.into_iter().flatten().map(|row| row.order).min()
    }

    /// Forgets the first so many of each kind: they are on the disk.
    pub(super) fn settle(&mut self, written: &Written) {
        drop_first(&mut self.routine, written.routine);
        drop_first(&mut self.telling, written.telling);
        drop_first(&mut self.timeline, written.timeline);
        drop_first(&mut self.conversations, written.conversations);
        drop_first(&mut self.askings, written.askings);
        drop_first(&mut self.deliveries, written.deliveries);
    }

    /// How many of each kind go into one transaction: `most` at most, those that weigh most first.
    pub(super) fn next(&self, most: usize) -> Written {
        let mut left = most;
        let mut take = |length: usize| {
            let taken = length.min(left);
            left -= taken;
            taken
        };
        Written {
            deliveries: take(self.deliveries.len()),
            timeline: take(self.timeline.len()),
            conversations: take(self.conversations.len()),
            askings: take(self.askings.len()),
            telling: take(self.telling.len()),
            routine: take(self.routine.len()),
        }
    }
}

/// How many of each kind went into a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) routine: usize,
    pub(super) telling: usize,
    pub(super) timeline: usize,
    pub(super) conversations: usize,
    pub(super) askings: usize,
    pub(super) deliveries: usize,
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize, lost: &mut u64) {
    if queue.len() >= most {
        queue.pop_front();
        *lost += 1;
    }
    queue.push_back(item);
}

fn drop_first<T>(queue: &mut VecDeque<T>, count: usize) {
    queue.drain(..count.min(queue.len()));
    // Nearly always empty by now; what grew while the disk was away is given back.
    if queue.is_empty() && queue.capacity() > 16_384 {
        queue.shrink_to(4_096);
    }
}
