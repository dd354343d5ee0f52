//! How far a server's clock is from ours.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::nanos::span;

/// Clocks that are further apart are not set at all: what the server says of times is not ours to put right.
const MOST: Duration = Duration::from_secs(120);

/// Replicas whose clocks differ by more cannot be put right by one number.
const MOST_SPREAD: Duration = Duration::from_secs(10);

/// A server's clock as against ours, measured on spans of its that answer ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSkew {
    /// How far it is off.
    #[serde(with = "span")]
    pub by: Duration,
    /// It is fast.
    pub ahead: bool,
    /// How far its clocks, where it has several, differ from each other.
    #[serde(with = "span")]
    pub spread: Duration,
}

impl ClockSkew {
    /// None at all.
    pub const NONE: Self = Self {
        by: Duration::ZERO,
        ahead: true,
        spread: Duration::ZERO,
    };

    /// Why its times cannot be believed even when they are put right.
    pub fn trouble(self) -> Option<String> {
        let shown = |duration: Duration| super::spoken(duration);
        if self.by > MOST {
            let way = if self.ahead { "fast" } else { "slow" };
            return Some(format!(
                "the server's clock is {} {way}, and more than {} is not allowed for",
                shown(self.by),
                shown(MOST)
            ));
        }
        (self.spread > MOST_SPREAD).then(|| {
            format!(
                "the server's clocks differ from each other by {}",
                shown(self.spread)
            )
        })
    }

    /// A time of our clock as the server's clock shows it.
    pub fn theirs(self, ours: SystemTime) -> SystemTime {
        let theirs = if self.ahead {
            ours.checked_add(self.by)
        } else {
            ours.checked_sub(self.by)
        };
        theirs.unwrap_or(ours)
    }

    /// A time of the server's clock as ours shows it.
    pub fn ours(self, theirs: SystemTime) -> SystemTime {
        let back = Self {
            ahead: !self.ahead,
            ..self
        };
        back.theirs(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skew(by: u64, spread: u64) -> ClockSkew {
        ClockSkew {
            by: Duration::from_secs(by),
            ahead: false,
            spread: Duration::from_secs(spread),
        }
    }

    #[test]
    fn two_minutes_are_allowed_for_and_replicas_that_agree_within_ten_seconds() {
        assert_eq!(skew(120, 10).trouble(), None);
        assert!(skew(121, 0).trouble().unwrap().contains("2m 1s slow"));
        assert!(skew(0, 11).trouble().unwrap().contains("by 11s"));
    }

    #[test]
    fn what_is_put_right_and_back_is_the_same() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for ahead in [true, false] {
            let skew = ClockSkew {
                ahead,
                ..skew(90, 0)
            };
            assert_eq!(skew.ours(skew.theirs(at)), at);
        }
        assert_eq!(skew(90, 0).ours(at), at + Duration::from_secs(90));
    }
}
