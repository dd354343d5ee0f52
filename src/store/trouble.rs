//! The disk does not take what we write: when to try again, and when to say so. Pure.

use std::time::{Duration, Instant};

use super::backlog::Lost;

/// Before the first attempt after a failure; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest between two attempts: what a person has repaired is noticed while they look.
const RETRY_MOST: Duration = Duration::from_secs(15);

/// How long a lock may be held before anybody is told: a `VACUUM` of a large file is no trouble.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is said again while it lasts.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// It goes on for a while.
#[derive(Debug)]
pub(super) struct Trouble {
    began: Instant,
    retry_at: Instant,
    retry_after: Duration,
    said_at: Option<Instant>,
    lost_before: Lost,
    /// The sentence that was or will be said.
    pub(super) what: String,
}

/// Whether a failure is worth a word at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody else has the lock.
    Locked,
    /// Anything else.
    Broken,
}

impl Trouble {
    pub(super) fn new(what: String, lost: Lost, now: Instant) -> Self {
        Self {
            began: now,
            retry_at: now + RETRY_FIRST,
            retry_after: RETRY_FIRST,
            said_at: None,
            lost_before: lost,
            what,
        }
    }

    /// An attempt has failed again.
    pub(super) fn again(&mut self, what: String, now: Instant) {
        self.what = what;
        self.retry_after = (self.retry_after * 2).min(RETRY_MOST);
        self.retry_at = now + self.retry_after;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.retry_at
    }

    /// What is to be said now, if anything.
    pub(super) fn say(&mut self, kind: Kind, waiting: usize, now: Instant) -> Option<String> {
        let lasted = now.saturating_duration_since(self.began);
        let text = match self.said_at {
            None if kind == Kind::Locked && lasted < LOCK_PATIENCE => return None,
            None => format!(
                "results cannot be stored: {}; probing and alerting go on from memory, and it is tried again",
                self.what
            ),
            Some(said) if now.saturating_duration_since(said) < SAY_AGAIN => return None,
            Some(_) => format!(
                "results cannot be stored for {} now: {}; {waiting} rows wait in memory",
                spoken(lasted),
                self.what
            ),
        };
        self.said_at = Some(now);
        Some(text)
    }

    /// What is to be said when it is over; nothing where nobody heard of it and nothing is lost.
    pub(super) fn over(&self, lost: Lost, now: Instant) -> Option<String> {
        let probes = lost.probes - self.lost_before.probes;
        let others = lost.others - self.lost_before.others;
        if self.said_at.is_none() && probes + others == 0 {
            return None;
        }
        let lasted = spoken(now.saturating_duration_since(self.began));
        let lost = match (probes, others) {
            (0, 0) => "nothing is lost".to_owned(),
            (probes, 0) => format!("{probes} probes are lost, they did not fit into memory"),
            (probes, others) => {
                format!(
                    "{probes} probes and {others} other rows are lost, they did not fit into memory"
                )
            }
        };
        Some(format!(
            "results can be stored again after {lasted}; {lost}"
        ))
    }
}

fn spoken(duration: Duration) -> String {
    crate::model::spoken(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_then_every_ten_minutes_and_at_the_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::new("disk full".to_owned(), Lost::default(), start);
        let said: Vec<u64> = (0..1_900)
            .filter(|second| trouble.say(Kind::Broken, 7, at(*second)).is_some())
            .collect();
        assert_eq!(said, [0, 600, 1_200, 1_800]);
        let lost = Lost {
            probes: 3,
            others: 0,
        };
        let over = trouble.over(lost, at(1_900)).unwrap();
        assert_eq!(
            over,
            "results can be stored again after 31m 40s; 3 probes are lost, they did not fit into memory"
        );
    }

    #[test]
    fn a_lock_is_waited_for_and_a_short_one_is_never_mentioned() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::new("locked".to_owned(), Lost::default(), start);
        assert_eq!(trouble.say(Kind::Locked, 0, at(9)), None);
        assert_eq!(trouble.over(Lost::default(), at(9)), None);
        assert!(trouble.say(Kind::Locked, 0, at(10)).is_some());
        assert!(trouble.over(Lost::default(), at(11)).is_some());
    }

    #[test]
    fn attempts_become_rarer_but_not_rare() {
        let mut now = Instant::now();
        let mut trouble = Trouble::new(String::new(), Lost::default(), now);
        for expected in [1, 2, 4, 8, 15, 15] {
            let wait = trouble.retry_at - now;
            assert_eq!(wait, Duration::from_secs(expected));
            assert!(!trouble.is_due(now));
            now += wait;
            assert!(trouble.is_due(now));
            trouble.again(String::new(), now);
        }
    }
}
