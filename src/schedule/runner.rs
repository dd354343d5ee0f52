//! Starts what is due, when it is its turn.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::{Clock, Now};
use super::queue::DueQueue;
use super::turns::Turns;

/// One start of a slot besides those of the queue. A slot that runs or waits already is not started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Index of the slot.
    pub index: usize,
    /// How long from now.
    pub after: Duration,
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
    turns: Turns,
    clock: Clock,
    work: W,
    /// Overruns of the slots that run or wait.
    busy: Vec<Option<u64>>,
    on_look: Box<dyn Fn(Option<Instant>) + Send>,
}

impl<W, F, T> Runner<W>
where
    W: Fn(usize) -> F,
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// The queue's offsets are those of `clock`; `work` is called with a slot's index when it is its turn.
    pub fn new(queue: DueQueue, turns: Turns, clock: Clock, work: W) -> Self {
        Self {
            busy: vec![None; turns.slots()],
            queue,
            turns,
            clock,
            work,
            on_look: Box::new(|_| ()),
        }
    }

    /// `on_look` is told each time when the queue is looked at again at the latest: who watches us can tell waiting from
    /// hanging. `None`: nothing will be due by itself.
    pub fn telling(mut self, on_look: impl Fn(Option<Instant>) + Send + 'static) -> Self {
        self.on_look = Box::new(on_look);
        self
    }

    /// Runs until `stop`, then starts nothing more and waits for what runs; or until nothing can be due any more: the
    /// queue is exhausted and nobody holds the other end of `requests`. Each end is sent to `results`; when those are
    /// not read, nothing new is started.
    pub async fn run(
        mut self,
        results: mpsc::Sender<Finished<T>>,
        mut requests: mpsc::Receiver<Request>,
        stop: CancellationToken,
    ) {
        let mut running = JoinSet::new();
        let mut asked = true;
        loop {
            let now = self.clock.now();
            self.take_due(now);
            while let Some(index) = self.turns.begin() {
                let work = (self.work)(index);
                running.spawn(async move { (index, work.await) });
            }
            let next = self.queue.next_look(now);
            if next.is_none() && running.is_empty() && !asked {
                break;
            }
            let next = next.map(|next| self.clock.instant(next));
            (self.on_look)(next);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = running.join_next() => self.pass_on(ended, &results).await,
                request = requests.recv(), if asked => match request {
                    Some(Request { index, after }) => {
                        self.queue.add_once(index, self.clock.now().offset + after);
                    }
                    None => asked = false,
                },
                () = sleep_until(next) => {}
            }
        }
        while let Some(ended) = running.join_next().await {
            self.pass_on(ended, &results).await;
        }
    }

    fn take_due(&mut self, now: Now) {
        while let Some(index) = self.queue.pop_once(now.offset) {
            self.wait(index);
        }
        while let Some(index) = self.queue.pop_due(now) {
            match self.busy.get_mut(index) {
                Some(Some(overruns)) => *overruns += 1,
                _ => self.wait(index),
            }
        }
    }

    fn wait(&mut self, index: usize) {
        if let Some(idle @ None) = self.busy.get_mut(index) {
            *idle = Some(0);
            self.turns.wait(index);
        }
    }

    async fn pass_on(
        &mut self,
        ended: Result<(usize, T), tokio::task::JoinError>,
        results: &mpsc::Sender<Finished<T>>,
    ) {
        match ended {
            Ok((index, output)) => {
                self.turns.end(index);
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
    use std::time::SystemTime;

    use super::*;
    use crate::schedule::{Limits, Slot, phase};

    const MINUTE: Duration = Duration::from_secs(60);

    type Starts = Vec<(usize, Duration)>;

    const ALL: Limits = Limits {
        at_once: Limits::ON_SCHEDULE,
        per_host: None,
    };

    /// Runs `queue` of `count` slots on `hosts` hosts for `length` of paused time; work takes `takes(index)`. What
    /// finished was read while `requests` were made.
    async fn run(
        queue: DueQueue,
        hosts: &[&str],
        length: Duration,
        limits: Limits,
        requests: Vec<Request>,
        takes: fn(usize) -> Duration,
    ) -> (Starts, Vec<Finished<()>>) {
        let (clock, origin) = (Clock::system(), Instant::now());
        let seen: Arc<Mutex<Starts>> = Arc::default();
        let noted = Arc::clone(&seen);
        let work = move |index| {
            noted.lock().unwrap().push((index, origin.elapsed()));
            tokio::time::sleep(takes(index))
        };
        let (sender, mut receiver) = mpsc::channel(64);
        let (asking, asked) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let turns = Turns::new(limits, hosts.iter().map(|host| Some(*host)));
        let runner = Runner::new(queue, turns, clock, work);
        let running = tokio::spawn(runner.run(sender, asked, stop.clone()));
        for request in requests {
            asking.send(request).await.unwrap();
        }
        drop(asking);
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

    /// Runs `count` targets of a minute.
    async fn starts(
        count: usize,
        length: Duration,
        at_once: usize,
        takes: fn(usize) -> Duration,
    ) -> (Starts, Vec<Finished<()>>) {
        let slots = (0..count).map(|n| Slot::Every {
            phase: phase(&format!("server-{n}"), MINUTE),
            every: MINUTE,
        });
        let queue = DueQueue::new(slots.collect(), SystemTime::UNIX_EPOCH);
        let limits = Limits { at_once, ..ALL };
        run(queue, &vec!["a"; count], length, limits, vec![], takes).await
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

    /// The most that ran at the same time, of work that takes a second.
    fn most_at_once(starts: &[(usize, Duration)], of: impl Fn(usize) -> bool) -> usize {
        let times: Vec<_> = starts.iter().filter(|(i, _)| of(*i)).map(|s| s.1).collect();
        let running = |now: &Duration| {
            let began = |at: &&Duration| *at <= now && *now < **at + Duration::from_secs(1);
            times.iter().filter(began).count()
        };
        times.iter().map(running).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_ends_by_itself_and_no_host_gets_more_than_its_share() {
        // Twenty to `a`, then ten to `b`, a second each, two at once to each of them.
        let hosts: Vec<_> = (0..30).map(|n| if n < 20 { "a" } else { "b" }).collect();
        let limits = Limits {
            at_once: 4,
            per_host: Some(2),
        };
        let takes = |_| Duration::from_secs(1);
        let (starts, finished) =
            run(DueQueue::round(30), &hosts, MINUTE, limits, vec![], takes).await;
        assert_eq!(finished.len(), 30);
        assert_eq!(most_at_once(&starts, |n| n < 20), 2);
        assert_eq!(most_at_once(&starts, |n| n >= 20), 2);
        assert_eq!(
            most_at_once(&starts, |_| true),
            4,
            "`a` does not hold up `b`"
        );
        let order: Vec<_> = starts
            .iter()
            .map(|(index, _)| *index)
            .filter(|n| *n < 20)
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        let last = starts.last().map(|(_, at)| at.as_secs());
        assert_eq!(last, Some(9), "ten times two to `a`, one second each");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_a_start_more_and_never_a_second_one_at_once() {
        let takes = |_| Duration::from_secs(1);
        let ask = |seconds| Request {
            index: 0,
            after: Duration::from_secs(seconds),
        };
        // The first comes while the round's own start runs, the second later.
        let requests = vec![ask(0), ask(5)];
        let (starts, finished) = run(
            DueQueue::round(2),
            &["a", "a"],
            MINUTE,
            ALL,
            requests,
            takes,
        )
        .await;
        let of_first: Vec<_> = starts
            .iter()
            .filter(|(index, _)| *index == 0)
            .map(|s| s.1.as_secs())
            .collect();
        assert_eq!(of_first, [0, 5]);
        assert!(finished.iter().all(|finished| finished.overruns == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn starts_by_the_wall_follow_a_clock_that_is_set_while_they_are_waited_for() {
        use std::sync::atomic::{AtomicU64, Ordering};
        let (origin, ahead) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let set = Arc::clone(&ahead);
        let clock = Clock::with_wall(move || {
            let ahead = Duration::from_secs(ahead.load(Ordering::Relaxed));
            SystemTime::UNIX_EPOCH + origin.elapsed() + ahead
        });
        let hourly: cron::Schedule = "0 0 * * * *".parse().unwrap();
        let utc = "UTC".parse().unwrap();
        let cron = crate::model::Cron::new(vec![hourly], false, utc);
        let queue = DueQueue::new(vec![Slot::Cron(Arc::new(cron))], SystemTime::UNIX_EPOCH);
        let turns = Turns::new(ALL, std::iter::once(None));
        let runner = Runner::new(queue, turns, clock, |_| std::future::ready(()));
        let (sender, mut results) = mpsc::channel(1);
        let (_asking, asked) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let running = tokio::spawn(runner.run(sender, asked, stop.clone()));
        assert!(results.recv().await.is_some());
        assert_eq!(origin.elapsed().as_secs(), 3_600);
        // Half an hour ahead: the next hour is half an hour away.
        set.store(1_800, Ordering::Relaxed);
        assert!(results.recv().await.is_some());
        assert_eq!(origin.elapsed().as_secs(), 5_400);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_is_told_when_the_next_look_is() {
        let slot = Slot::Every {
            phase: Duration::ZERO,
            every: 60 * MINUTE,
        };
        let queue = DueQueue::new(vec![slot], SystemTime::UNIX_EPOCH);
        let turns = Turns::new(ALL, std::iter::once(None));
        let last = Arc::new(Mutex::new(None));
        let told = Arc::clone(&last);
        let runner = Runner::new(queue, turns, Clock::system(), |_| std::future::ready(()))
            .telling(move |next| *told.lock().unwrap() = Some(next));
        let (sender, mut results) = mpsc::channel(1);
        let (asking, asked) = mpsc::channel(1);
        let (origin, stop) = (Instant::now(), CancellationToken::new());
        let running = tokio::spawn(runner.run(sender, asked, stop.clone()));
        results.recv().await.unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(*last.lock().unwrap(), Some(Some(origin + 60 * MINUTE)));
        let request = Request {
            index: 0,
            after: MINUTE,
        };
        asking.send(request).await.unwrap();
        tokio::time::sleep(MINUTE / 2).await;
        assert_eq!(*last.lock().unwrap(), Some(Some(origin + 2 * MINUTE)));
        stop.cancel();
        running.await.unwrap();
    }
}
