//! `watch --once`: a single round instead of a schedule, with the same memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::inquiry::Subject;
use super::{Daemon, RESULTS, Started, control, heartbeat};
use crate::correlate::Asking;
use crate::model::{ProbeResult, Target};
use crate::schedule::DueQueue;

/// How long the notices of a round may take: whoever runs it by cron wants it to end before the next one. What has not
/// arrived by then is sent by the next round.
const DELIVERY: Duration = Duration::from_secs(30);

impl Daemon {
    /// The targets, in the order of the results of [`Daemon::round`].
    pub fn targets(&self) -> Arc<[Arc<Target>]> {
        Arc::clone(&self.fleet.targets)
    }

    /// Probes every target once; those that fail are confirmed.
    pub async fn round(
        mut self,
        started: Started,
        stop: CancellationToken,
    ) -> Vec<Option<Arc<ProbeResult>>> {
        let started = Arc::new(started);
        let count = self.fleet.targets.len();
        let mut results = vec![None; count];
        if self.desk.enough_remote() {
            self.look_at_controls().await;
        }
        let runner = self.runner(DueQueue::round(count), &started, stop.clone());
        let (sender, mut ended) = mpsc::channel(RESULTS);
        let Some(requested) = self.requested.take() else {
            return results;
        };
        let running = tokio::spawn(runner.run(sender, requested, stop.clone()));
        let mut background = JoinSet::new();
        let mut finished = 0;
        while let Some(done) = ended.recv().await {
            let Some(done) = done.output else {
                finished += 1;
                continue;
            };
            let index = self.fleet.index_of(&done.target);
            if self.needs_controls(&done) {
                self.look_at_controls().await;
            }
            let result = self.take_in(done, &mut background);
            if let Some(slot) = index.and_then(|index| results.get_mut(index)) {
                finished += usize::from(slot.is_none());
                *slot = result;
            }
            // Nothing is asked for any more: the runner ends when nobody can.
            if finished >= count && self.desk.suspects().next().is_none() {
                self.requests = mpsc::channel(1).0;
            }
        }
        running.await.ok();
        self.judge_open_incidents(&stop).await;
        let changes = self.desk.tick(SystemTime::now()).changes;
        self.commit(changes);
        self.flush().await;
        if let Some(outbox) = &self.outbox
            && !stop.is_cancelled()
        {
            outbox.drain(DELIVERY).await;
        }
        if let Some(heartbeat) = &self.settings.alerting.heartbeat
            && results.iter().any(Option::is_some)
        {
            heartbeat::beat_once(heartbeat, |text| self.warn(text)).await;
        }
        self.end(started).await;
        results
    }

    async fn look_at_controls(&mut self) {
        let controls = self.asker.controls.iter().map(control::check);
        let works = futures_util::future::join_all(controls).await;
        if !works.is_empty() {
            self.take_in_controls(&works);
        }
    }

    /// In a single round there is no later: incidents that are old enough are asked about now.
    async fn judge_open_incidents(&mut self, stop: &CancellationToken) {
        let Some(inquiry) = self.inquiry.clone() else {
            return;
        };
        self.flush().await;
        let first = |target: &str| {
            let source = inquiry.source(target);
            source.and_then(|source| source.settings.recheck.first().copied())
        };
        let open = self.desk.open().filter_map(|incident| {
            Some(Subject {
                target: incident.server.clone()?,
                incident: Some(incident.id.clone()),
                at: incident.first_failed_at,
            })
        });
        for subject in open.collect::<Vec<_>>() {
            let age = SystemTime::now().duration_since(subject.at);
            if age.unwrap_or_default() >= first(&subject.target).unwrap_or_default()
                && !stop.is_cancelled()
            {
                match inquiry.about(subject, Asking::default()).await {
                    Ok(finding) => self.take_in_finding(finding),
                    Err(why) => self.warn(&format!("a verdict cannot be found: {why}")),
                }
            }
        }
    }
}
