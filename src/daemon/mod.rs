//! The wiring of `watch`: one loop that takes in results and passes them on. The only module that knows all stages.

mod board;
pub mod control;
mod dialects;
pub mod heartbeat;
mod inquiry;
mod learning;
mod progress;
mod round;
mod started;
mod systemd;
mod tracker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::StoreSettings;
use crate::correlate::{Jaeger, Learnt};
use crate::model::{
    AlertChange, Incident, IncidentKind, ProbeResult, Resolution, Severity, Target, Timing,
    TracesSettings,
};
use crate::probe::{self, Wish};
use crate::report::line::{self, LineFormat};
use crate::report::live::Row;
use crate::schedule::{Clock, DueQueue, Finished, Limits, Request, Runner, Slot, Turns, first_due};
use crate::store::{Callbacks, Reader, Recalled, Shown, Write, Writer};
use crate::telemetry::Telemetry;
use dialects::Dialects;
use learning::{LEARN_EVERY, Learning};
use tracker::{Change, Tracked};

pub use board::Board;
pub use inquiry::{Finding, Inquiry, Subject};
pub use progress::Progress;
pub use started::Started;
pub use systemd::Systemd;

/// Results on their way to the loop. The loop never waits, so that a few are enough; when it is full, no
/// probe is lost, but the next ones start later.
const RESULTS: usize = 1_024;

/// Incidents that are remembered; when there are more, those that have ended are forgotten.
const INCIDENTS: usize = 1_000;

/// Incidents that are asked about at once: a backend must not be hit by a hundred at the same moment.
const INQUIRIES: usize = 4;

/// From a backend's acceptance of a span to its being found: 0.2 s with Jaeger's memory, a second with Elasticsearch.
const VISIBILITY: Duration = Duration::from_secs(1);

/// Where lines go: stdout for events, stderr for warnings.
pub trait Output: Send + Sync {
    /// An event.
    fn event(&self, line: &str);
    /// Something about mcpprobe itself.
    fn warning(&self, line: &str);
}

/// Everything that a watch is made of.
pub struct Daemon {
    targets: Arc<[Arc<Target>]>,
    tracked: Vec<Tracked>,
    dialects: Arc<Dialects>,
    learning: Vec<Learning>,
    writer: Arc<Writer>,
    /// Every open incident, and ended ones about which an answer may still come.
    incidents: BTreeMap<String, Incident>,
    telemetry: Telemetry,
    inquiry: Option<Inquiry>,
    format: LineFormat,
    output: Arc<dyn Output>,
    limits: Limits,
    board: Option<Arc<Board>>,
    rechecks: BinaryHeap<Reverse<(Instant, usize, String)>>,
    /// Incidents by their slot, to be asked about after its next result.
    after_probe: BTreeMap<usize, Vec<String>>,
    overruns: u64,
}

/// What background work ends with.
enum Done {
    Judged(Result<Box<Finding>, String>),
    Learnt(usize, Option<Learnt>),
}

/// The parts that a daemon is given.
pub struct Parts {
    /// What to probe.
    pub targets: Vec<Arc<Target>>,
    /// How many at once.
    pub limits: Limits,
    /// `[store]`.
    pub store: StoreSettings,
    /// The way out for spans.
    pub telemetry: Telemetry,
    /// `[traces]`.
    pub traces: Option<TracesSettings>,
    /// How lines are written.
    pub format: LineFormat,
    /// Where they go.
    pub output: Arc<dyn Output>,
    /// Kept up to date for somebody who looks.
    pub board: Option<Arc<Board>>,
}

impl Daemon {
    /// Opens the store and remembers what it knows.
    ///
    /// # Errors
    /// A sentence when the store or the backend's client cannot be used.
    pub fn new(parts: Parts) -> Result<Self, String> {
        let output = Arc::clone(&parts.output);
        let format = parts.format;
        let warn = move |text: &str| {
            output.warning(&line::message(format, SystemTime::now(), "warning", text));
        };
        let (writer, recalled) = Writer::open(
            &parts.store.path,
            parts.store.keep,
            Callbacks::warnings(warn),
        )?;
        let targets: Arc<[Arc<Target>]> = parts.targets.into();
        let inquiry = match parts.traces {
            None => None,
            Some(settings) => {
                let jaeger = Jaeger::new(settings.url.clone()).map_err(|error| {
                    format!("cannot make a client for the trace backend: {error}")
                })?;
                Some(Inquiry {
                    store: parts.store.path.clone(),
                    jaeger: Arc::new(jaeger),
                    settings,
                    targets: Arc::clone(&targets),
                })
            }
        };
        let mut daemon = Self {
            dialects: Arc::new(Dialects::unknown(targets.len())),
            tracked: Vec::new(),
            learning: Vec::new(),
            targets,
            writer: Arc::new(writer),
            incidents: BTreeMap::new(),
            telemetry: parts.telemetry,
            inquiry,
            format,
            output: parts.output,
            limits: parts.limits,
            board: parts.board,
            rechecks: BinaryHeap::new(),
            after_probe: BTreeMap::new(),
            overruns: 0,
        };
        daemon.remember(&recalled);
        Ok(daemon)
    }

    fn remember(&mut self, recalled: &Recalled) {
        for incident in &recalled.incidents {
            self.incidents.insert(incident.id.clone(), incident.clone());
        }
        for (index, target) in Arc::clone(&self.targets).iter().enumerate() {
            let (status, remembered) = recalled.target(target);
            if let Some(dialect) = remembered.dialect {
                self.dialects.set(index, dialect);
            }
            self.learning.push(Learning {
                passed: 0,
                known: remembered.instrumented
                    && (remembered.service.is_some() || target.service.is_some()),
                again: Instant::now(),
            });
            // A verdict that was still provisional when the last run ended is asked for again.
            if let Some(id) = &status.incident
                && let Some(incident) = self.incidents.get(id)
                && incident.provisional != Some(false)
            {
                let age = SystemTime::now()
                    .duration_since(incident.first_failed_at)
                    .unwrap_or_default();
                self.schedule_rechecks(index, id, age);
            }
            let tracked = Tracked::remembered(status.state, status.since, status.incident);
            if let Some(board) = &self.board {
                board.add(as_shown(target, &tracked, None));
            }
            self.tracked.push(tracked);
        }
    }

    /// Probes on schedule until `stop`, then ends in order.
    pub async fn watch(mut self, started: Started, stop: CancellationToken) {
        let (sender, mut results) = mpsc::channel(RESULTS);
        // One request of each target at most waits to be taken.
        let (requests, requested) = mpsc::channel(self.targets.len().max(1));
        let started = Arc::new(started);
        let queue = DueQueue::new(self.slots(), SystemTime::now());
        let runner = self.runner(queue, Arc::clone(&started), stop.clone());
        let running = tokio::spawn(runner.run(sender, requested, stop));
        let mut background = JoinSet::new();
        let permits = Arc::new(Semaphore::new(INQUIRIES));
        let mut learn = tokio::time::interval(LEARN_EVERY);
        learn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let recheck = self.rechecks.peek().map(|Reverse((at, ..))| *at);
            tokio::select! {
                finished = results.recv() => match finished {
                    Some(finished) => {
                        let index = finished.index;
                        self.take_in(finished);
                        for incident in self.after_probe.remove(&index).unwrap_or_default() {
                            self.ask(index, incident, &mut background, &permits);
                        }
                    }
                    None => break,
                },
                Some(done) = background.join_next() => if let Ok(done) = done {
                    self.take_in_background(done);
                },
                () = sleep_until(recheck) => {
                    for (index, incident) in self.recheck(&requests) {
                        self.ask(index, incident, &mut background, &permits);
                    }
                }
                _ = learn.tick(), if self.inquiry.is_some() => self.learn(&mut background),
            }
        }
        running.await.ok();
        // An inquiry can be made again.
        background.shutdown().await;
        self.end(started).await;
    }

    /// When each target is due.
    fn slots(&self) -> Vec<Slot> {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let slot = |target: &Arc<Target>| match &target.timing {
            Timing::Every(every) => Slot::Every {
                phase: first_due(&target.name, *every, unix),
                every: *every,
            },
            Timing::Cron(cron) => Slot::Cron(Arc::clone(cron)),
        };
        self.targets.iter().map(slot).collect()
    }

    fn runner(
        &self,
        queue: DueQueue,
        started: Arc<Started>,
        stop: CancellationToken,
    ) -> Runner<impl Fn(usize) -> ProbeFuture + use<>> {
        let hosts = self.targets.iter().map(|target| target.endpoint.host());
        let turns = Turns::new(self.limits, hosts);
        let (targets, dialects) = (Arc::clone(&self.targets), Arc::clone(&self.dialects));
        let work = move |index: usize| probe_future(index, &targets, &dialects, &started, &stop);
        Runner::new(queue, turns, Clock::system(), work)
    }

    /// Takes in one result: store, spans, state, incident.
    fn take_in(&mut self, finished: Finished<Option<Arc<ProbeResult>>>) {
        self.overruns += finished.overruns;
        let Some(result) = finished.output else {
            return;
        };
        let index = finished.index;
        let (Some(target), Some(tracked)) = (
            self.targets.get(index).cloned(),
            self.tracked.get_mut(index),
        ) else {
            return;
        };
        let change = tracked.observe(&result);
        if let Some(board) = &self.board {
            board.replace(index, as_shown(&target, tracked, Some(&result)));
        }
        let shown = Shown {
            state: tracked.state,
            since: tracked.since.unwrap_or(result.started_at),
            suspect: false,
            incident: tracked.incident.clone(),
        };
        let changes = self.decide(&target, &result, &change);
        self.writer.write(Write::Probe {
            target: Arc::clone(&target),
            result: Arc::clone(&result),
            confirmation: false,
            shown,
            memory: None,
            changes,
        });
        self.telemetry.emit(&target, &result);
        if result.state.works() {
            if let Some(dialect) = result.dialect() {
                self.dialects.set(index, dialect);
            }
            if let Some(learning) = self.learning.get_mut(index) {
                learning.passed += 1;
            }
        }
        if let Some(before) = change.shown {
            self.output
                .event(&line::change(self.format, &target, before, &result));
        }
        if let Some(id) = change.opened {
            let age = SystemTime::now()
                .duration_since(result.started_at)
                .unwrap_or_default();
            self.schedule_rechecks(index, &id, age);
        }
    }

    /// The incident that a result opened or closed.
    fn decide(
        &mut self,
        target: &Target,
        result: &ProbeResult,
        change: &Change,
    ) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        if let Some(id) = &change.opened {
            let incident = opened(id, target, result);
            self.incidents.insert(id.clone(), incident.clone());
            changes.push(AlertChange::Incident(Box::new(incident)));
        }
        if let Some(id) = &change.closed
            && let Some(incident) = self.incidents.get_mut(id)
        {
            incident.resolved_at = Some(result.started_at);
            incident.resolution = Some(Resolution::Recovered);
            changes.push(AlertChange::Incident(Box::new(incident.clone())));
        }
        if self.incidents.len() > INCIDENTS {
            self.incidents
                .retain(|_, incident| incident.resolved_at.is_none());
        }
        changes
    }

    /// The backend is asked at every `recheck` after the first failure, which was `age` ago; of those that are past,
    /// only the last one, at once.
    fn schedule_rechecks(&mut self, index: usize, incident: &str, age: Duration) {
        let Some(inquiry) = &self.inquiry else {
            return;
        };
        let past = inquiry
            .settings
            .recheck
            .iter()
            .filter(|after| **after <= age)
            .count();
        for after in inquiry.settings.recheck.iter().skip(past.saturating_sub(1)) {
            let at = Instant::now() + after.saturating_sub(age);
            self.rechecks
                .push(Reverse((at, index, incident.to_owned())));
        }
    }

    /// Asks for a probe before each inquiry that is due; answers the incidents that can be asked about at once. Without
    /// the probe nobody would know what the server's spans since the last one tell of: of an outage that others do not
    /// see, or of a server that is back. One that runs already will do.
    fn recheck(&mut self, requests: &mpsc::Sender<Request>) -> Vec<(usize, String)> {
        let now = Instant::now();
        let mut ready = Vec::new();
        while let Some(Reverse((at, ..))) = self.rechecks.peek()
            && *at <= now
            && let Some(Reverse((_, index, incident))) = self.rechecks.pop()
        {
            let open = self
                .tracked
                .get(index)
                .and_then(|tracked| tracked.incident.as_ref());
            let request = Request {
                index,
                after: Duration::ZERO,
            };
            if open == Some(&incident) && requests.try_send(request).is_ok() {
                self.after_probe.entry(index).or_default().push(incident);
            } else {
                ready.push((index, incident));
            }
        }
        ready
    }

    /// Asks the backend about an incident.
    fn ask(
        &self,
        index: usize,
        incident: String,
        background: &mut JoinSet<Done>,
        permits: &Arc<Semaphore>,
    ) {
        let (Some(inquiry), Some(target)) = (self.inquiry.clone(), self.targets.get(index)) else {
            return;
        };
        let (permits, telemetry) = (Arc::clone(permits), self.telemetry.clone());
        let (writer, target) = (Arc::clone(&self.writer), target.name.clone());
        background.spawn(async move {
            let _permit = permits.acquire().await;
            // The failed probe's spans and row have to be where they will be looked for.
            telemetry.flush().await;
            tokio::task::spawn_blocking(move || writer.flush())
                .await
                .ok();
            tokio::time::sleep(VISIBILITY).await;
            Done::Judged(judge_incident(&inquiry, target, incident).await)
        });
    }

    fn take_in_background(&mut self, done: Done) {
        match done {
            Done::Judged(Ok(finding)) => {
                let finding = *finding;
                let Some(incident) = finding.case.incident else {
                    return;
                };
                self.output.event(&line::verdict(
                    self.format,
                    &finding.case.target,
                    &incident,
                    &finding.judgement,
                    finding.provisional,
                    SystemTime::now(),
                ));
                if let Some(incident) = self.incidents.get_mut(&incident) {
                    incident.verdict = Some(finding.judgement.verdict);
                    incident.verdict_reason = Some(finding.judgement.reason);
                    incident.provisional = Some(finding.provisional);
                    let change = AlertChange::Incident(Box::new(incident.clone()));
                    self.writer.write(Write::Alert(vec![change]));
                }
            }
            Done::Judged(Err(why)) => self.warn(&format!("a verdict cannot be found: {why}")),
            Done::Learnt(index, learnt) => self.take_in_learnt(index, learnt),
        }
    }

    fn warn(&self, text: &str) {
        self.output.warning(&line::message(
            self.format,
            SystemTime::now(),
            "warning",
            text,
        ));
    }

    async fn flush(&self) {
        let writer = Arc::clone(&self.writer);
        let (_, ()) = tokio::join!(
            tokio::task::spawn_blocking(move || writer.flush()),
            self.telemetry.flush()
        );
    }

    /// Everything is committed, exported or counted, and what was started is ended.
    async fn end(self, started: Arc<Started>) {
        let servers = async {
            if let Some(started) = Arc::into_inner(started) {
                started.end().await;
            }
        };
        tokio::join!(self.flush(), servers);
        let (probes, spans) = self.telemetry.dropped();
        if probes + spans > 0 {
            self.warn(&format!("the spans of {probes} probes did not fit into the queue, {spans} spans were not taken"));
        }
        let (dropped, failed) = self.writer.lost();
        if dropped + failed > 0 {
            self.warn(&format!(
                "{dropped} writes did not fit into the store's queue, {failed} were not taken"
            ));
        }
        if self.overruns > 0 {
            self.warn(&format!(
                "{} probes were still running when their next start came",
                self.overruns
            ));
        }
    }
}

/// An outage from its first failed probe on.
fn opened(id: &str, target: &Target, result: &ProbeResult) -> Incident {
    Incident {
        id: id.to_owned(),
        server: Some(target.name.clone()),
        kind: IncidentKind::Outage,
        severity: Severity::Critical,
        state: result.state,
        failed_layer: result.failure.as_ref().map(|failure| failure.layer),
        reason: result.reason(),
        message: result.message().cloned().unwrap_or_default(),
        trace_id: Some(result.trace_id),
        first_failed_at: result.started_at,
        opened_at: result.ended_at(),
        resolved_at: None,
        resolution: None,
        flapping: false,
        acknowledged: None,
        suppressed: None,
        verdict: None,
        verdict_reason: None,
        provisional: None,
    }
}

/// A target as it is shown.
fn as_shown(target: &Arc<Target>, tracked: &Tracked, last: Option<&Arc<ProbeResult>>) -> Row {
    Row {
        target: Arc::clone(target),
        state: tracked.state,
        // Failures are not confirmed yet by a second probe.
        suspect: false,
        since: tracked.since,
        last: last.map(Arc::clone),
    }
}

type ProbeFuture = std::pin::Pin<Box<dyn Future<Output = Option<Arc<ProbeResult>>> + Send>>;

fn probe_future(
    index: usize,
    targets: &Arc<[Arc<Target>]>,
    dialects: &Arc<Dialects>,
    started: &Arc<Started>,
    stop: &CancellationToken,
) -> ProbeFuture {
    let (target, started, stop) = (
        targets.get(index).cloned(),
        Arc::clone(started),
        stop.clone(),
    );
    let wish = Wish {
        hint: dialects.get(index),
        conversation: false,
        call: None,
    };
    Box::pin(async move {
        let target = target?;
        let result = started
            .probe_when_up(&target, || probe::probe(&target, wish, &stop))
            .await?;
        Some(Arc::new(result))
    })
}

async fn judge_incident(
    inquiry: &Inquiry,
    target: String,
    incident: String,
) -> Result<Box<Finding>, String> {
    let (store, id) = (inquiry.store.clone(), incident.clone());
    let stored = tokio::task::spawn_blocking(move || Reader::open(&store)?.incident(&id))
        .await
        .map_err(|error| error.to_string())??
        .ok_or_else(|| format!("the store has no incident {incident}"))?;
    let subject = Subject {
        target,
        incident: Some(incident),
        at: stored.first_failed_at,
    };
    inquiry.about(subject).await.map(Box::new)
}

/// Until `at`; for ever without.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
