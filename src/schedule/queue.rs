//! The one queue of everything that will be due. Pure: time comes in as offsets from the start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// One target's place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its offset in each interval.
    pub phase: Duration,
    /// The interval; not zero.
    pub every: Duration,
}

impl Slot {
    /// The first start at `phase + n * every` that is later than `now`. Counting from the phase and not from the last
    /// start keeps it from drifting, and after a suspended machine skips what was missed.
    fn next_after(&self, now: Duration) -> Duration {
        let Some(since) = now.checked_sub(self.phase) else {
            return self.phase;
        };
        let every = self.every.as_nanos().max(1);
        let passed = since.as_nanos() / every + 1;
        let nanos = u64::try_from(passed * every).unwrap_or(u64::MAX);
        self.phase + Duration::from_nanos(nanos)
    }
}

/// Targets in the order in which they are due.
#[derive(Debug, Default)]
pub struct DueQueue {
    slots: Vec<Slot>,
    due: BinaryHeap<Reverse<(Duration, usize)>>,
}

/// Probes that the first, quicker round starts in a second. At this rate nobody is hit by a burst, and
/// a few servers are all known within a second of the start.
const FIRST_ROUND_RATE: u32 = 10;

impl DueQueue {
    /// A queue in which every slot is due first at its place in the first round, then at its phases.
    ///
    /// `origin` is where the interval of each slot is at offset zero (see [`Slot::phase`]); the first round has the
    /// same order and evenness, but takes only as long as ten starts a second need, where that is
    /// quicker than the interval.
    pub fn new(slots: Vec<Slot>) -> Self {
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let round = Duration::from_secs(1) * count / FIRST_ROUND_RATE;
        let due = slots
            .iter()
            .enumerate()
            .map(|(index, slot)| {
                let first = if round < slot.every {
                    slot.phase
                        .mul_f64(round.as_secs_f64() / slot.every.as_secs_f64())
                } else {
                    slot.phase
                };
                Reverse((first, index))
            })
            .collect();
        Self { slots, due }
    }

    /// When the next slot is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes the next slot that is due at `now` and puts it back for its next start; answers its index.
    pub fn pop_due(&mut self, now: Duration) -> Option<usize> {
        let Reverse((due, index)) = *self.due.peek().filter(|Reverse((due, _))| *due <= now)?;
        self.due.pop();
        if let Some(slot) = self.slots.get(index) {
            // Seen from when it was due, not from when somebody looked: a start is late, never lost. Only
            // what lies more than a whole interval back is skipped.
            let seen_from = due.max(now.saturating_sub(slot.every));
            self.due.push(Reverse((slot.next_after(seen_from), index)));
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_missed_in_a_suspend_is_skipped() {
        let slot = Slot {
            phase: SECOND,
            every: 60 * SECOND,
        };
        let mut queue = DueQueue::new(vec![slot]);
        assert!(queue.pop_due(SECOND).is_some());
        // Two hours later: one late start, then the next phase, no burst.
        let woken = 7_200 * SECOND;
        assert_eq!(queue.pop_due(woken), Some(0));
        assert!(queue.next_due().unwrap() > woken - 60 * SECOND);
        while queue.pop_due(woken).is_some() {}
        assert_eq!(queue.next_due(), Some(7_201 * SECOND));
    }

    proptest! {
        #[test]
        fn starts_are_exactly_the_phases(phase in 0u64..1_000, every in 1u64..1_000, looks in 1u64..50) {
            let every = every.max(1);
            let slot = Slot {
                phase: Duration::from_millis(phase % every),
                every: Duration::from_millis(every),
            };
            let mut queue = DueQueue::new(vec![slot]);
            let mut last = None;
            for _ in 0..looks {
                let due = queue.next_due().unwrap();
                prop_assert_eq!(queue.pop_due(due), Some(0));
                if let Some(last) = last {
                    prop_assert!(due > last);
                    let since = due.checked_sub(slot.phase).unwrap();
                    prop_assert_eq!(since.as_nanos() % slot.every.as_nanos(), 0);
                    prop_assert!(due - last <= slot.every);
                }
                last = Some(due);
            }
        }
    }
}
