//! Whose turn it is: so many at once, so many per host. Pure.

use std::collections::{HashMap, VecDeque};

/// Numbers on what runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Probes at once. One more waits for its turn, which does not count against its timeout.
    pub at_once: usize,
    /// Of these, to one host; no limit of its own when absent.
    pub per_host: Option<usize>,
}

impl Limits {
    /// Probes at once on a schedule. 4,096: ten thousand targets at 60 s that all hang for 10 s need 1,667; each probe
    /// holds a socket or three pipes and some 30 kB.
    pub const ON_SCHEDULE: usize = 4_096;

    /// Probes at once where all targets are due at the same moment: more would time each other's work, not the
    /// servers'.
    pub const IN_A_ROUND: usize = 256;
}

/// Who waits and who runs. First come, first served, on each host and among hosts; who waits for a host holds up
/// nobody else.
#[derive(Debug)]
pub struct Turns {
    limits: Limits,
    /// For each slot, the index of its host.
    hosts: Vec<Option<usize>>,
    seats: Vec<Seats>,
    /// They hold a seat of their host and wait for one of all.
    ready: VecDeque<usize>,
    running: usize,
}

/// One host.
#[derive(Clone, Debug, Default)]
struct Seats {
    taken: usize,
    waiting: VecDeque<usize>,
}

impl Turns {
    /// For slots that probe these hosts; a slot without a host has only the limit on all.
    pub fn new<'h>(limits: Limits, hosts: impl Iterator<Item = Option<&'h str>>) -> Self {
        let mut known = HashMap::new();
        let hosts = hosts
            .map(|host| {
                let next = known.len();
                host.map(|host| *known.entry(host).or_insert(next))
            })
            .collect();
        Self {
            limits,
            hosts,
            seats: vec![Seats::default(); known.len()],
            ready: VecDeque::new(),
            running: 0,
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.hosts.len()
    }

    fn seats(&mut self, index: usize) -> Option<&mut Seats> {
        let host = (*self.hosts.get(index)?)?;
        self.seats.get_mut(host)
    }

    /// The slot wants to run.
    pub fn wait(&mut self, index: usize) {
        let most = self.limits.per_host.unwrap_or(usize::MAX);
        match self.seats(index) {
            Some(seats) if seats.taken >= most => seats.waiting.push_back(index),
            Some(seats) => {
                seats.taken += 1;
                self.ready.push_back(index);
            }
            None => self.ready.push_back(index),
        }
    }

    /// The next slot that may run; it runs from now on.
    pub fn begin(&mut self) -> Option<usize> {
        if self.running >= self.limits.at_once {
            return None;
        }
        let index = self.ready.pop_front()?;
        self.running += 1;
        Some(index)
    }

    /// The slot does not run any more.
    pub fn end(&mut self, index: usize) {
        self.running = self.running.saturating_sub(1);
        let next = self.seats(index).and_then(|seats| {
            let next = seats.waiting.pop_front();
            if next.is_none() {
                seats.taken = seats.taken.saturating_sub(1);
            }
            next
        });
        // The seat is handed on.
        self.ready.extend(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_waits_for_a_host_holds_up_nobody_else() {
        let limits = Limits {
            at_once: 3,
            per_host: Some(1),
        };
        let hosts = [Some("a"), Some("a"), Some("a"), Some("b"), None, None];
        let mut turns = Turns::new(limits, hosts.into_iter());
        (0..hosts.len()).for_each(|index| turns.wait(index));
        let begun: Vec<_> = std::iter::from_fn(|| turns.begin()).collect();
        assert_eq!(begun, [0, 3, 4], "three at once, one of them to `a`");
        turns.end(0);
        assert_eq!(turns.begin(), Some(5), "it came before 1 had a seat");
        turns.end(4);
        assert_eq!(turns.begin(), Some(1));
        assert_eq!(turns.begin(), None);
    }

    proptest! {
        #[test]
        fn limits_hold_order_is_kept_and_nothing_is_lost(
            hosts in proptest::collection::vec(proptest::option::of(0usize..4), 1..60),
            at_once in 1usize..8, per_host in proptest::option::of(1usize..4),
            ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..200),
        ) {
            let names = ["a", "b", "c", "d"];
            let limits = Limits { at_once, per_host };
            let mut turns = Turns::new(limits, hosts.iter().map(|host| host.map(|host| names[host])));
            (0..hosts.len()).for_each(|index| turns.wait(index));
            let (mut running, mut begun) = (Vec::new(), Vec::new());
            let mut ends = ends.into_iter();
            loop {
                while let Some(index) = turns.begin() {
                    running.push(index);
                    begun.push(index);
                }
                prop_assert!(running.len() <= at_once);
                for host in 0..4 {
                    let now = running.iter().filter(|index| hosts[**index] == Some(host)).count();
                    prop_assert!(now <= per_host.unwrap_or(usize::MAX));
                }
                if running.is_empty() {
                    break;
                }
                let ended = ends.next().map_or(0, |end| end.index(running.len()));
                turns.end(running.remove(ended));
            }
            for host in 0..4 {
                let of_host: Vec<_> = begun.iter().filter(|index| hosts[**index] == Some(host)).collect();
                prop_assert!(of_host.is_sorted(), "first come, first served");
            }
            begun.sort_unstable();
            prop_assert_eq!(begun, (0..hosts.len()).collect::<Vec<_>>());
        }
    }
}
