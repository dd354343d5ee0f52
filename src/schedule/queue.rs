//! The one queue of everything that will be due. Pure: time comes in, by both clocks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::clock::Now;
use crate::model::Cron;

/// One target's place in time.
#[derive(Clone, Debug)]
pub enum Slot {
    /// Again and again, however the wall clock is set.
    Every {
        /// Its offset in each interval.
        phase: Duration,
        /// The interval; not zero.
        every: Duration,
    },
    /// At times of the wall clock.
    Cron(Arc<Cron>),
}

/// Probes that the first, quicker round starts in a second. At this rate nobody is hit by a burst, and
/// a few servers are all known within a second of the start.
const FIRST_ROUND_RATE: u32 = 10;

/// How long the wall clock may go on unseen while times of it are waited for: a clock that was set, and a machine that
/// was suspended, are noticed by then. Six looks a minute cost nothing.
const LOOK_AT_WALL: Duration = Duration::from_secs(10);

/// How late a start by the wall clock may be. What the clock has jumped over by more is skipped: a probe at midnight
/// would be none of `8-18`.
const MOST_LATE: Duration = Duration::from_secs(60);

/// A wall clock that went back by more was set, and its times are met again; less is its being put right, after which
/// the start that was just made must not be made again.
const PUT_RIGHT: Duration = Duration::from_secs(60);

/// Targets in the order in which they are due.
#[derive(Debug)]
pub struct DueQueue {
    slots: Vec<Slot>,
    once: BinaryHeap<Reverse<(Duration, usize)>>,
    by_offset: BinaryHeap<Reverse<(Duration, usize)>>,
    by_wall: BinaryHeap<Reverse<(SystemTime, usize)>>,
    /// The latest that the wall clock has shown.
    latest: SystemTime,
}

impl DueQueue {
    /// A queue in which every slot of an interval is due first at its place in the first round, then at its phases,
    /// and every slot of the wall clock at its first time after `now`.
    ///
    /// Offset zero is where [`Slot::Every`] counts its phase from; the first round has the same order and evenness as
    /// the later ones, but takes only as long as ten starts a second need, where that is quicker than the interval.
    pub fn new(slots: Vec<Slot>, now: SystemTime) -> Self {
        let paced = slots.iter().filter(|s| matches!(s, Slot::Every { .. }));
        let paced = u32::try_from(paced.count()).unwrap_or(u32::MAX);
        let round = Duration::from_secs(1) * paced / FIRST_ROUND_RATE;
        let first = |(index, slot): (usize, &Slot)| match slot {
            Slot::Every { phase, every } if round < *every => {
                let share = round.as_secs_f64() / every.as_secs_f64();
                Some(Reverse((phase.mul_f64(share), index)))
            }
            Slot::Every { phase, .. } => Some(Reverse((*phase, index))),
            Slot::Cron(_) => None,
        };
        let mut queue = Self {
            once: BinaryHeap::new(),
            by_offset: slots.iter().enumerate().filter_map(first).collect(),
            by_wall: BinaryHeap::new(),
            slots,
            latest: now,
        };
        queue.follow_wall(now);
        queue
    }

    /// A queue that takes the place of another one: slots are due in their phases, and `fresh` ones at once besides.
    pub fn going_on(slots: Vec<Slot>, fresh: &[usize], now: SystemTime) -> Self {
        let mut queue = Self::new(Vec::new(), now);
        let phase = |(index, slot): (usize, &Slot)| match slot {
            Slot::Every { phase, .. } => Some(Reverse((*phase, index))),
            Slot::Cron(_) => None,
        };
        queue.by_offset = slots.iter().enumerate().filter_map(phase).collect();
        let is_paced = |index: &&usize| matches!(slots.get(**index), Some(Slot::Every { .. }));
        let paced = fresh.iter().filter(is_paced);
        queue.once = (0u32..)
            .zip(paced)
            .map(|(n, index)| Reverse((Duration::from_secs(1) * n / FIRST_ROUND_RATE, *index)))
            .collect();
        queue.slots = slots;
        queue.follow_wall(now);
        queue
    }

    /// A single round: this many slots, each due at once, and once.
    pub fn round(count: usize) -> Self {
        let mut queue = Self::new(Vec::new(), SystemTime::UNIX_EPOCH);
        queue.once = (0..count).map(|n| Reverse((Duration::ZERO, n))).collect();
        queue
    }

    /// One start of a slot at `offset`, besides those that it has by itself.
    pub fn add_once(&mut self, index: usize, offset: Duration) {
        self.once.push(Reverse((offset, index)));
    }

    /// When to look again, as an offset; `None` when nothing will ever be due.
    pub fn next_look(&self, now: Now) -> Option<Duration> {
        let by_offset = [self.once.peek(), self.by_offset.peek()];
        let by_offset = by_offset
            .into_iter()
            .flatten()
            .map(|Reverse((due, _))| *due);
        let by_wall = self.by_wall.peek().map(|Reverse((due, _))| {
            let left = due.duration_since(now.wall).unwrap_or_default();
            now.offset + left.min(LOOK_AT_WALL)
        });
        by_offset.chain(by_wall).min()
    }

    /// Takes the next slot that was to start once, by `now`; answers its index.
    pub fn pop_once(&mut self, now: Duration) -> Option<usize> {
        self.once.peek().filter(|Reverse((due, _))| *due <= now)?;
        self.once.pop().map(|Reverse((_, index))| index)
    }

    /// Takes the next slot that is due at `now` and puts it back for its next start; answers its index.
    pub fn pop_due(&mut self, now: Now) -> Option<usize> {
        self.pop_by_offset(now.offset)
            .or_else(|| self.pop_by_wall(now.wall))
    }

    fn pop_by_offset(&mut self, now: Duration) -> Option<usize> {
        let Reverse((due, index)) = *self
            .by_offset
            .peek()
            .filter(|Reverse((due, _))| *due <= now)?;
        self.by_offset.pop();
        if let Some(Slot::Every { phase, every }) = self.slots.get(index) {
            // Seen from when it was due, not from when somebody looked: a start is late, never lost. Only
            // what lies more than a whole interval back is skipped.
            let seen_from = due.max(now.saturating_sub(*every));
            let next = next_in_phase(*phase, *every, seen_from);
            self.by_offset.push(Reverse((next, index)));
        }
        Some(index)
    }

    fn pop_by_wall(&mut self, now: SystemTime) -> Option<usize> {
        if self.latest.duration_since(now).unwrap_or_default() > PUT_RIGHT {
            self.follow_wall(now);
        }
        self.latest = self.latest.max(now);
        while let Some(Reverse((due, index))) = self.by_wall.peek().copied()
            && due <= now
        {
            self.by_wall.pop();
            // Seen from now, not from when it was due: what was jumped over is not made up for.
            if now.duration_since(due).unwrap_or_default() <= MOST_LATE {
                self.push_by_wall(index, now);
                return Some(index);
            }
            self.push_by_wall(index, now.checked_sub(MOST_LATE).unwrap_or(now));
        }
        None
    }

    /// Forgets when slots of the wall clock were to be due, and finds it anew from `now`.
    fn follow_wall(&mut self, now: SystemTime) {
        self.by_wall.clear();
        self.latest = now;
        for index in 0..self.slots.len() {
            self.push_by_wall(index, now);
        }
    }

    fn push_by_wall(&mut self, index: usize, now: SystemTime) {
        if let Some(Slot::Cron(cron)) = self.slots.get(index)
            && let Some(next) = cron.next_after(now)
        {
            self.by_wall.push(Reverse((next, index)));
        }
    }
}

/// The first start at `phase + n * every` that is later than `now`. Counting from the phase and not from the last
/// start keeps it from drifting, and after a suspended machine skips what was missed.
fn next_in_phase(phase: Duration, every: Duration, now: Duration) -> Duration {
    let Some(since) = now.checked_sub(phase) else {
        return phase;
    };
    let every = every.as_nanos().max(1);
    let passed = since.as_nanos() / every + 1;
    let nanos = u64::try_from(passed * every).unwrap_or(u64::MAX);
    phase + Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    /// 2026-11-21T00:00:00Z, a Saturday.
    const MIDNIGHT: u64 = 1_795_219_200;

    /// `offset` seconds after midnight, on a wall clock that is `ahead` seconds ahead since.
    fn now(offset: u64, ahead: i64) -> Now {
        Now {
            offset: Duration::from_secs(offset),
            wall: wall((MIDNIGHT + offset).saturating_add_signed(ahead)),
        }
    }

    fn wall(unix: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
    }

    fn every(phase: Duration, every: Duration) -> Slot {
        Slot::Every { phase, every }
    }

    fn cron(expression: &str) -> Slot {
        let schedule = cron::Schedule::from_str(expression).unwrap();
        let utc = "UTC".parse().unwrap();
        Slot::Cron(Arc::new(Cron::new(vec![schedule], false, utc)))
    }

    fn from_midnight(slots: Vec<Slot>) -> DueQueue {
        DueQueue::new(slots, wall(MIDNIGHT))
    }

    /// Seconds of the wall clock since midnight at which the queue gives a start, when it is looked at as it asks to be,
    /// from `from` to `to` seconds after the start.
    fn starts(queue: &mut DueQueue, from: u64, to: u64, ahead: i64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = from;
        loop {
            while queue.pop_due(now(at, ahead)).is_some() {
                found.push(at.saturating_add_signed(ahead));
            }
            let next = queue.next_look(now(at, ahead)).unwrap();
            at = next.as_secs().max(at + 1);
            if at > to {
                return found;
            }
        }
    }

    #[test]
    fn what_was_missed_in_a_suspend_is_skipped() {
        let mut queue = from_midnight(vec![every(SECOND, MINUTE)]);
        assert!(queue.pop_due(now(1, 0)).is_some());
        // Two hours later: one late start, then the next phase, no burst.
        let woken = now(7_200, 0);
        assert_eq!(queue.pop_due(woken), Some(0));
        assert!(queue.next_look(woken).unwrap() > woken.offset - MINUTE);
        while queue.pop_due(woken).is_some() {}
        assert_eq!(queue.next_look(woken), Some(7_201 * SECOND));
    }

    #[test]
    fn a_round_is_due_at_once_and_once() {
        let mut queue = DueQueue::round(2);
        assert_eq!(queue.next_look(now(0, 0)), Some(Duration::ZERO));
        let all = |queue: &mut DueQueue, at| -> Vec<_> {
            std::iter::from_fn(|| queue.pop_once(at)).collect()
        };
        assert_eq!(all(&mut queue, Duration::ZERO), [0, 1]);
        assert_eq!(queue.next_look(now(0, 0)), None);
        queue.add_once(1, SECOND);
        assert_eq!(queue.pop_once(Duration::ZERO), None);
        assert_eq!(all(&mut queue, SECOND), [1]);
        assert_eq!(queue.pop_due(now(3_600, 0)), None);
    }

    #[test]
    fn cron_waits_for_its_time_and_the_first_round_does_not_count_it() {
        let slots = vec![cron("0 */5 * * * *"), every(30 * SECOND, MINUTE)];
        let mut queue = from_midnight(slots);
        assert_eq!(queue.pop_due(now(0, 0)), None);
        // The round of the one slot that has an interval takes a tenth of a second.
        assert_eq!(queue.next_look(now(0, 0)), Some(Duration::from_millis(50)));
        let mut cron_only = from_midnight(vec![cron("0 */5 * * * *")]);
        assert_eq!(starts(&mut cron_only, 0, 900, 0), [300, 600, 900]);
    }

    #[test]
    fn a_clock_set_ahead_is_followed_without_a_burst() {
        let mut queue = from_midnight(vec![cron("0 */5 * * * *")]);
        assert_eq!(starts(&mut queue, 0, 310, 0), [300]);
        // By two hours: what was jumped over is skipped, but for the start that is only eleven seconds late.
        assert_eq!(starts(&mut queue, 311, 800, 7_200), [7_511, 7_800]);
        // By 20 s over a start: it is late, not lost.
        assert!(starts(&mut queue, 801, 895, 7_200).is_empty());
        assert_eq!(starts(&mut queue, 896, 1_190, 7_220), [8_116, 8_400]);
    }

    #[test]
    fn a_clock_set_back_is_followed_and_one_put_right_doubles_nothing() {
        let mut queue = from_midnight(vec![cron("0 */5 * * * *")]);
        assert_eq!(starts(&mut queue, 0, 3_601, 0).len(), 12);
        // By half an hour: its times come again.
        assert_eq!(starts(&mut queue, 3_602, 4_000, -1_800), [2_100]);
        assert_eq!(starts(&mut queue, 4_001, 4_200, -1_800), [2_400]);
        // By a second, right after a start: not again.
        assert_eq!(starts(&mut queue, 4_201, 4_501, -1_801), [2_700]);
    }

    #[test]
    fn a_suspended_machine_finds_its_times_within_a_look() {
        // Asleep from 00:10:01 to 02:14:57 by the wall; the other clock stood still.
        let mut queue = from_midnight(vec![cron("0 */5 * * * *")]);
        starts(&mut queue, 0, 601, 0);
        let asleep = 2 * 3_600 + 4 * 60 + 55;
        let look = queue.next_look(now(601, 0)).unwrap();
        assert!(look <= 601 * SECOND + LOOK_AT_WALL);
        let found = starts(&mut queue, look.as_secs(), 1_000, asleep);
        let [first, second] = found[..] else {
            panic!("{found:?}")
        };
        assert!((8_100..8_110).contains(&first));
        assert_eq!(second, 8_400);
    }

    #[test]
    fn what_never_comes_again_is_not_looked_for() {
        let queue = from_midnight(vec![cron("0 0 0 1 1 * 2020")]);
        assert_eq!(queue.next_look(now(0, 0)), None);
    }

    proptest! {
        #[test]
        fn starts_are_exactly_the_phases(phase in 0u64..1_000, length in 1u64..1_000, looks in 1u64..50) {
            let (phase, length) = (Duration::from_millis(phase % length), Duration::from_millis(length));
            let mut queue = from_midnight(vec![every(phase, length)]);
            let mut last = None;
            for _ in 0..looks {
                let mut now = now(0, 0);
                now.offset = queue.next_look(now).unwrap();
                prop_assert_eq!(queue.pop_due(now), Some(0));
                if let Some(last) = last {
                    prop_assert!(now.offset > last);
                    let since = now.offset.checked_sub(phase).unwrap();
                    prop_assert_eq!(since.as_nanos() % length.as_nanos(), 0);
                    prop_assert!(now.offset - last <= length);
                }
                last = Some(now.offset);
            }
        }

        /// Whatever is done to the wall clock: no two starts of one slot at one look, none a minute late, and one
        /// whenever the clock passes a time of its own, unseen for no longer than it was asked to be looked at.
        #[test]
        fn a_wall_clock_that_jumps_is_followed(
            minutes in 1u64..30, jumps in proptest::collection::vec((-5_000i64..5_000, 0u64..4_000), 1..6),
        ) {
            let mut queue = from_midnight(vec![cron(&format!("0 */{minutes} * * * *"))]);
            let (mut offset, mut ahead) = (20_000u64, 0i64);
            for (jump, length) in jumps {
                ahead = (ahead + jump).max(-15_000);
                // Long enough for the jump to be seen.
                offset += 10;
                let found = starts(&mut queue, offset, offset + length, ahead);
                prop_assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
                prop_assert!(found.iter().all(|at| at % 3_600 % (60 * minutes) <= 60));
                let (from, to) = (offset.saturating_add_signed(ahead), (offset + length).saturating_add_signed(ahead));
                // What it owes in any case; a clock that was put back by up to a minute has met some before.
                let owed = (from + 61..=to).filter(|at| at % 3_600 % (60 * minutes) == 0);
                for at in owed {
                    prop_assert!(found.contains(&at), "{at} of {from}..{to}: {found:?}");
                }
                offset += length;
            }
        }
    }
}
