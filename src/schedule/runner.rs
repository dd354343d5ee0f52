//! Starts what is due, as many at once as permitted.

use std::collections::VecDeque;
use std::future::Future;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::DueQueue;

/// Numbers on what runs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Probes at once. One more waits for its turn, which does not count against its timeout.
    pub at_once: usize,
}

impl Default for Limits {
    /// 4,096: ten thousand targets at 60 s that all hang for 10 s need 1,667; each probe holds a socket or three
    /// pipes and some 30 kB.
    fn default() -> Self {
        Self { at_once: 4_096 }
    }
}

/// A piece of work that has ended.
#[derive(Debug)]
pub struct Finished<T> {
    /// Index of the slot.
    pub index: usize,
    /// What it gave.
    pub output: T,
    /// Starts of this slot that fell into the time when it was still running or waiting, since it was started: counted,
    /// not made up for.
    pub overruns: u64,
}

/// Runs a queue. Work exists only from its start to its end.
pub struct Runner<W> {
    queue: DueQueue,
    limits: Limits,
    work: W,
    origin: Instant,
    waiting: VecDeque<usize>,
    busy: Vec<Option<u64>>,
}

impl<W, F, T> Runner<W>
where
    W: Fn(usize) -> F,
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// `origin` is offset zero of the queue; `work` is called with a slot's index when it is due.
    pub fn new(queue: DueQueue, slots: usize, origin: Instant, limits: Limits, work: W) -> Self {
        Self {
            queue,
            limits,
            work,
            origin,
            waiting: VecDeque::new(),
            busy: vec![None; slots],
        }
    }

    /// Runs until `stop`; then starts nothing more and waits for what runs. Each end is sent to `results`; when
    /// those are not read, nothing new is started.
    pub async fn run(mut self, results: mpsc::Sender<Finished<T>>, stop: CancellationToken) {
        let mut running = JoinSet::new();
        loop {
            self.take_due();
            while running.len() < self.limits.at_once
                && let Some(index) = self.waiting.pop_front()
            {
                let work = (self.work)(index);
                running.spawn(async move { (index, work.await) });
            }
            let next = self.queue.next_due().map(|due| self.origin + due);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = running.join_next() => self.pass_on(ended, &results).await,
                () = sleep_until(next) => {}
            }
        }
        while let Some(ended) = running.join_next().await {
            self.pass_on(ended, &results).await;
        }
    }

    fn take_due(&mut self) {
        let now = self.origin.elapsed();
        while let Some(index) = self.queue.pop_due(now) {
            match self.busy.get_mut(index) {
                Some(Some(overruns)) => *overruns += 1,
                Some(idle) => {
                    *idle = Some(0);
                    self.waiting.push_back(index);
                }
                None => {}
            }
        }
    }

    async fn pass_on(
        &mut self,
        ended: Result<(usize, T), tokio::task::JoinError>,
        results: &mpsc::Sender<Finished<T>>,
    ) {
        match ended {
            Ok((index, output)) => {
                let overruns = self
                    .busy
                    .get_mut(index)
                    .and_then(Option::take)
                    .unwrap_or_default();
                let finished = Finished {
                    index,
                    output,
                    overruns,
                };
                // Nobody reads any more: then we are about to be stopped.
                results.send(finished).await.ok();
            }
            // Work does not panic by our lints and tests; if it does, the process must not go on as if it were well.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Until `at`; for ever without.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::schedule::{Slot, phase};

    const MINUTE: Duration = Duration::from_secs(60);

    type Starts = Arc<Mutex<Vec<(usize, Duration)>>>;

    /// Runs `count` targets of a minute for `length` of paused time; work takes `takes(index)`.
    async fn starts(
        count: usize,
        length: Duration,
        at_once: usize,
        takes: fn(usize) -> Duration,
    ) -> (Vec<(usize, Duration)>, Vec<Finished<()>>) {
        let slots: Vec<_> = (0..count)
            .map(|n| Slot {
                phase: phase(&format!("server-{n}"), MINUTE),
                every: MINUTE,
            })
            .collect();
        let origin = Instant::now();
        let seen: Starts = Arc::default();
        let noted = Arc::clone(&seen);
        let work = move |index| {
            noted.lock().unwrap().push((index, origin.elapsed()));
            tokio::time::sleep(takes(index))
        };
        let (sender, mut receiver) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let runner = Runner::new(
            DueQueue::new(slots),
            count,
            origin,
            Limits { at_once },
            work,
        );
        let running = tokio::spawn(runner.run(sender, stop.clone()));
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(finished) = receiver.recv().await {
                all.push(finished);
            }
            all
        });
        tokio::time::sleep(length).await;
        stop.cancel();
        running.await.unwrap();
        let finished = read.await.unwrap();
        let starts = std::mem::take(&mut *seen.lock().unwrap());
        (starts, finished)
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_targets_start_in_their_phases_none_lost_none_doubled() {
        let takes = |_| Duration::from_millis(20);
        let (starts, finished) = starts(10_000, 10 * MINUTE, 4_096, takes).await;
        assert_eq!(starts.len(), 100_000);
        assert_eq!(finished.len(), 100_000);
        assert!(finished.iter().all(|f| f.overruns == 0));
        let mut rounds = vec![Vec::new(); 10_000];
        for (index, at) in starts {
            rounds[index].push(at);
        }
        for (index, times) in rounds.iter().enumerate() {
            let phase = phase(&format!("server-{index}"), MINUTE);
            for (round, at) in (0u32..).zip(times) {
                let due = phase + MINUTE * round;
                // tokio's timer is accurate to a millisecond, and never early.
                assert!(
                    *at >= due && *at <= due + Duration::from_millis(2),
                    "{at:?} {due:?}"
                );
            }
            assert_eq!(times.len(), 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_hangs_delays_no_other_and_is_counted() {
        let takes = |index| {
            if index == 0 {
                3 * MINUTE
            } else {
                Duration::from_millis(20)
            }
        };
        let (starts, finished) = starts(100, 10 * MINUTE, 4_096, takes).await;
        let hung = finished.iter().filter(|f| f.index == 0).count();
        let overruns: u64 = finished.iter().map(|f| f.overruns).sum();
        // One start every three minutes; two starts of each are overrun, none piled up.
        assert!((3..=4).contains(&hung), "{hung}");
        assert!(overruns >= 6, "{overruns}");
        for index in 1..100 {
            // The first, quicker round adds at most one start.
            let count = starts.iter().filter(|(i, _)| *i == index).count();
            assert!((10..=11).contains(&count), "{index}: {count}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_and_waiting_is_not_losing() {
        let takes = |_| Duration::from_millis(500);
        let (starts, _) = starts(100, 5 * MINUTE, 1, takes).await;
        // One at a time, half a second each: never two within that time.
        let mut times: Vec<_> = starts.iter().map(|(_, at)| *at).collect();
        times.sort_unstable();
        assert!(
            times
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= Duration::from_millis(500))
        );
        for index in 0..100 {
            assert!(starts.iter().any(|(i, _)| *i == index), "{index}");
        }
    }
}
