//! `watch --once`: a single round instead of a schedule, with the same memory.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inquiry::Subject;
use super::{Daemon, Done, RESULTS, Started};
use crate::model::ProbeResult;
use crate::schedule::DueQueue;

impl Daemon {
    /// Probes every target once.
    pub async fn round(
        mut self,
        started: Started,
        stop: CancellationToken,
    ) -> Vec<Option<Arc<ProbeResult>>> {
        let started = Arc::new(started);
        let mut results = vec![None; self.targets.len()];
        let queue = DueQueue::round(self.targets.len());
        let runner = self.runner(queue, Arc::clone(&started), stop.clone());
        let (sender, mut ended) = mpsc::channel(RESULTS);
        // Nobody will ask for more.
        let (_, requests) = mpsc::channel(1);
        let running = tokio::spawn(runner.run(sender, requests, stop.clone()));
        while let Some(finished) = ended.recv().await {
            if let Some(slot) = results.get_mut(finished.index) {
                slot.clone_from(&finished.output);
            }
            self.take_in(finished);
        }
        running.await.ok();
        self.judge_open_incidents(&stop).await;
        self.end(started).await;
        results
    }

    /// In a single round there is no later: incidents that are old enough are asked about now.
    async fn judge_open_incidents(&mut self, stop: &CancellationToken) {
        let Some(inquiry) = self.inquiry.clone() else {
            return;
        };
        self.flush().await;
        let first = inquiry
            .settings
            .recheck
            .first()
            .copied()
            .unwrap_or_default();
        for index in 0..self.targets.len() {
            let Some(subject) = self.subject(index) else {
                continue;
            };
            let age = SystemTime::now()
                .duration_since(subject.at)
                .unwrap_or_default();
            if age >= first && !stop.is_cancelled() {
                let finding = inquiry.about(subject).await.map(Box::new);
                self.take_in_background(Done::Judged(finding));
            }
        }
    }

    /// The open incident of a target, to be asked about.
    fn subject(&self, index: usize) -> Option<Subject> {
        let id = self.tracked.get(index)?.incident.as_ref()?;
        let incident = self.incidents.get(id)?;
        Some(Subject {
            target: incident.server.clone()?,
            incident: Some(id.clone()),
            at: incident.first_failed_at,
        })
    }
}
