//! Durations counted in classes, so that percentiles of any period can be told from the sums of its parts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::probe::{push_number, take_number};

/// Classes per doubling, as a power of two: each is an eighth wide, so that its middle is off by 6 % at most.
const FINE: u32 = 3;

/// How often each class of microseconds was seen. Exact below 16 µs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    classes: BTreeMap<u64, u64>,
}

impl Histogram {
    pub(super) fn add(&mut self, duration: Duration) {
        *self.classes.entry(class(duration)).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (class, count) in &other.classes {
            let sum = self.classes.entry(*class).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// The duration that `hundredths` of all do not exceed; the middle of its class.
    pub(super) fn percentile(&self, hundredths: u64) -> Option<Duration> {
        let all = self
            .classes
            .values()
            .fold(0u64, |sum, count| sum.saturating_add(*count));
        let rank = rank(all, hundredths)?;
        let mut below = 0u64;
        for (class, count) in &self.classes {
            below = below.saturating_add(*count);
            if below > rank {
                return Some(middle(*class));
            }
        }
        None
    }

    /// Appends it: the number of classes, and each as its distance from the one before and its count.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        push_number(self.classes.len() as u64, |byte| to.push(byte));
        let mut before = 0;
        for (class, count) in &self.classes {
            push_number(class - before, |byte| to.push(byte));
            push_number(*count, |byte| to.push(byte));
            before = *class;
        }
    }

    /// Reads what [`Self::write`] wrote, and what there is of it where it was cut.
    pub(super) fn read(bytes: &mut impl Iterator<Item = u8>) -> Self {
        let mut histogram = Self::default();
        let mut class = 0u64;
        for _ in 0..take_number(bytes).unwrap_or_default() {
            let (Some(step), Some(count)) = (take_number(bytes), take_number(bytes)) else {
                break;
            };
            class = class.saturating_add(step);
            histogram.classes.insert(class, count);
        }
        histogram
    }
}

/// Nearest rank, counted from 0.
pub(super) fn rank(count: u64, hundredths: u64) -> Option<u64> {
    let rank = (u128::from(count) * u128::from(hundredths)).div_ceil(100);
    u64::try_from(rank)
        .ok()?
        .max(1)
        .checked_sub(1)
        .filter(|_| count > 0)
}

/// The highest bits of the number and how many there are below them.
fn class(duration: Duration) -> u64 {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let dropped = (64 - micros.leading_zeros()).saturating_sub(FINE + 1);
    (u64::from(dropped) << FINE) + (micros >> dropped)
}

fn middle(class: u64) -> Duration {
    let dropped = (class >> FINE).saturating_sub(1).min(63);
    let top = class - (dropped << FINE);
    let low = u128::from(top) << dropped;
    let width = 1u128 << dropped;
    Duration::from_micros(u64::try_from(low + (width - 1) / 2).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_middle_of_a_class_is_near_and_classes_keep_the_order(a in 0u64..1 << 40, b in 0u64..1 << 40) {
            let [near, far] = [a.min(b), a.max(b)].map(Duration::from_micros);
            prop_assert!(class(near) <= class(far));
            let off = middle(class(near)).abs_diff(near);
            prop_assert!(off.as_micros() * 16 <= near.as_micros() , "{near:?} {:?}", middle(class(near)));
        }

        #[test]
        fn parts_add_up_and_come_back(parts in proptest::collection::vec(proptest::collection::vec(0u64..10_000_000, 0..40), 1..5)) {
            let mut whole = Histogram::default();
            let mut sum = Histogram::default();
            for part in &parts {
                let mut histogram = Histogram::default();
                for micros in part {
                    histogram.add(Duration::from_micros(*micros));
                    whole.add(Duration::from_micros(*micros));
                }
                let mut bytes = Vec::new();
                histogram.write(&mut bytes);
                sum.merge(&Histogram::read(&mut bytes.into_iter()));
            }
            prop_assert_eq!(&sum, &whole);
            let mut all: Vec<u64> = parts.concat();
            all.sort_unstable();
            for hundredths in [50, 95, 99] {
                let exact = rank(all.len() as u64, hundredths).map(|rank| all[rank as usize]);
                let told = whole.percentile(hundredths).map(|d| d.as_micros() as u64);
                prop_assert_eq!(exact.is_some(), told.is_some());
                if let (Some(exact), Some(told)) = (exact, told) {
                    prop_assert!(exact.abs_diff(told) * 16 <= exact, "{exact} {told}");
                }
            }
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            Histogram::read(&mut bytes.into_iter()).percentile(99);
        }
    }

    #[test]
    fn ranks_are_those_of_a_sorted_list() {
        assert_eq!(rank(0, 50), None);
        assert_eq!(rank(1, 50), Some(0));
        assert_eq!(rank(100, 95), Some(94));
        assert_eq!(rank(3, 99), Some(2));
    }
}
