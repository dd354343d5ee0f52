//! How often a backend may be asked: the vendor's limit, shared by all incidents of this process.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

/// At most so many queries in any stretch of so long.
pub(super) struct Budget {
    most: usize,
    per: Duration,
    /// How long a query waits for its turn. Later it would be answered after the next asking is due.
    patience: Duration,
    asked: Mutex<VecDeque<Instant>>,
}

impl Budget {
    pub(super) fn new(most: usize, per: Duration, patience: Duration) -> Self {
        Self {
            most,
            per,
            patience,
            asked: Mutex::default(),
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// A sentence when there is none in time: nothing was asked, and nothing is known.
    pub(super) async fn turn(&self) -> Result<(), String> {
        let last = Instant::now() + self.patience;
        let spent = || {
            let per = humantime::format_duration(self.per);
            format!(
                "its limit of {} queries in {per} is spent by other incidents",
                self.most
            )
        };
        // The lock is fair: who came first is asked for first.
        let Ok(mut asked) = timeout_at(last, self.asked.lock()).await else {
            return Err(spent());
        };
        let now = Instant::now();
        while asked.front().is_some_and(|at| *at + self.per <= now) {
            asked.pop_front();
        }
        if asked.len() >= self.most
            && let Some(oldest) = asked.front().copied()
        {
            let free = oldest + self.per;
            if free > last {
                return Err(spent());
            }
            sleep_until(free).await;
            asked.pop_front();
        }
        asked.push_back(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_stretch_holds_more_than_the_limit_and_nobody_waits_for_ever() {
        let budget = Budget::new(3, Duration::from_secs(60), Duration::from_secs(20));
        let start = Instant::now();
        for _ in 0..3 {
            budget.turn().await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(
            budget
                .turn()
                .await
                .unwrap_err()
                .contains("3 queries in 1m is spent")
        );
        tokio::time::advance(Duration::from_secs(45)).await;
        budget.turn().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }
}
