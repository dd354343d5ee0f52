//! The wiring of `watch`: one loop that takes in results and passes them on. The only module that knows all stages.

mod alarm;
pub mod api;
mod asker;
mod board;
pub mod control;
mod dialects;
mod embedded;
mod fleet;
pub mod heartbeat;
mod inquiry;
mod intake;
mod learning;
mod progress;
mod reload;
mod round;
mod started;
mod systemd;
mod verdict;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::alert::{Backlog, Desk, Head, Outbox, OutboxSender, Remembered, TracePage, Words};
use crate::config::Config;
use crate::correlate::Ticket;
use crate::model::{
    Alerting, Delivery, Incident, Notice, NoticeEvent, Orders, ProbeResult, Target, TracesSettings,
};
use crate::probe::{self, Wanted, Wish};
use crate::report::line::{self, LineFormat};
use crate::schedule::{Clock, DueQueue, Finished, Limits, Request, Runner, Turns};
use crate::store::{self, Callbacks, Reader, Recalled, Write, Writer, fact};
use crate::telemetry::Telemetry;
use asker::Asker;
use fleet::Fleet;
use learning::{LEARN_EVERY, Lesson};

pub use alarm::{Alarm, Answered, MAX_ALARM, answer_alarms, answer_correlate, many, read_alarms};
pub use board::Board;
pub use embedded::{Embedded, Enquirer, embedded};
pub use inquiry::{Finding, Inquiry, Source, Subject};
pub use progress::Progress;
pub use reload::Seen;
use started::START_WAIT;

pub use started::Started;
pub use systemd::Systemd;

/// Results on their way to the loop. The loop never waits, so that a few are enough; when it is full, no
/// probe is lost, but the next ones start later.
const RESULTS: usize = 1_024;

/// Incidents that are asked about at once: a backend must not be hit by a hundred at the same moment.
const INQUIRIES: usize = 4;

/// What became of notices, on its way to the loop; the outbox keeps more to itself and starts no attempt meanwhile.
const DELIVERIES: usize = 256;

/// Stores that become readable late tell of themselves once; there is one.
const RECALLED: usize = 4;

/// Escalations, reminders, ends of windows and of doubts: to the second.
const TICK: Duration = Duration::from_secs(1);

/// A difference of the two clocks within one tick that is no drift: the machine was suspended, or its clock was set.
const JUMP: Duration = Duration::from_secs(10);

/// Where lines go: stdout for events, stderr for warnings.
pub trait Output: Send + Sync {
    /// An event.
    fn event(&self, line: &str);
    /// Something about mcpprobe itself.
    fn warning(&self, line: &str);
    /// The end has come: what waits is written, if somebody takes it.
    fn flush(&self) {}
}

/// Reads the configuration again; what is wrong with it as a text of several lines.
pub type Reread = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Everything that a watch is made of.
pub struct Daemon {
    fleet: Fleet,
    desk: Desk,
    writer: Arc<Writer>,
    /// Until the end.
    outbox: Option<Outbox>,
    asker: Asker,
    /// What was said in first failed probes that are not confirmed yet, by target.
    conversations: HashMap<String, String>,
    /// Channels whose last attempt failed: that is said once.
    failing: BTreeMap<String, usize>,
    telemetry: Telemetry,
    inquiry: Option<Inquiry>,
    enquirer: Enquirer,
    format: LineFormat,
    output: Arc<dyn Output>,
    limits: Limits,
    board: Option<Arc<Board>>,
    /// When to ask, about which target's incident.
    rechecks: BinaryHeap<Reverse<(Instant, String, String)>>,
    /// Incidents by their target, to be asked about after its next result.
    after_probe: BTreeMap<String, Vec<String>>,
    /// Incidents about which nobody has been able to ask yet, until it is given up.
    unasked: HashSet<String>,
    /// Places in the queue of a backend, by the incident.
    places: HashMap<String, Ticket>,
    permits: Arc<Semaphore>,
    requests: mpsc::Sender<Request>,
    requested: Option<mpsc::Receiver<Request>>,
    inbox: Inbox,
    progress: Arc<Progress>,
    settings: Settings,
    overruns: u64,
    /// Readings of the configuration that were begun: only the last one counts.
    rereads: u64,
}

/// What comes in besides results.
struct Inbox {
    deliveries: mpsc::Receiver<Delivery>,
    orders: watch::Receiver<Orders>,
    recalled: mpsc::Receiver<Recalled>,
}

/// What of a configuration stays until a restart, and what a reload is done by.
struct Settings {
    file: PathBuf,
    seen: Seen,
    store: PathBuf,
    alerting: Alerting,
    traces: Vec<TracesSettings>,
    /// What only a restart changes, as text.
    fixed: String,
    reread: Reread,
    /// Probes at once where the configuration does not say.
    at_once: usize,
}

/// A probe that has ended, with the target that it was of: a reload may have replaced it meanwhile.
struct Ended {
    target: Arc<Target>,
    result: Arc<ProbeResult>,
}

type Results = Finished<Option<Ended>>;

/// What background work ends with.
enum Done {
    /// About which incident, and what was found.
    Judged(String, Result<Box<Finding>, String>),
    Learnt(String, Option<Lesson>),
    /// What the controls say.
    Controls(Vec<bool>),
    /// The configuration as it is now.
    Reread(u64, Box<Result<Config, String>>),
}

/// The parts that a daemon is given.
pub struct Parts {
    /// What was read.
    pub config: Config,
    /// Where from.
    pub file: PathBuf,
    /// What that looked like before.
    pub seen: Seen,
    /// Reads it again.
    pub reread: Reread,
    /// Probes at once where the configuration does not say.
    pub at_once: usize,
    /// The way out for spans.
    pub telemetry: Telemetry,
    /// How lines are written.
    pub format: LineFormat,
    /// Where they go.
    pub output: Arc<dyn Output>,
    /// Kept up to date for somebody who looks.
    pub board: Option<Arc<Board>>,
    /// Kept up to date for those who have alerts of their own.
    pub enquirer: Enquirer,
}

impl Daemon {
    /// Opens the store and remembers what it knows. To be called within a runtime.
    ///
    /// # Errors
    /// A sentence when the store or a client for a backend or channels cannot be made.
    pub async fn new(parts: Parts) -> Result<Self, String> {
        let (settings, config) = Settings::of(
            parts.config,
            (parts.file, parts.seen),
            parts.reread,
            parts.at_once,
        );
        let sender: Arc<OnceLock<OutboxSender>> = Arc::default();
        let (callbacks, orders, recalled_later) =
            callbacks(parts.format, &parts.output, Arc::clone(&sender));
        let (writer, recalled) = Writer::open(&config.store.path, config.store.keep, callbacks)?;
        let targets: Arc<[Arc<Target>]> = config.targets.into_iter().map(Arc::new).collect();
        let inquiry = inquiry(&config.traces, &[], &config.store.path, &targets)?;
        let (delivered, deliveries) = mpsc::channel(DELIVERIES);
        let outbox = Outbox::start(
            config.alerting.channels.clone(),
            recalled.pending.clone(),
            backlog(&config.store.path),
            delivered,
        )?;
        sender.set(outbox.sender()).ok();
        let controls = config.alerting.controls.clone();
        let asker = Asker::new(controls.unwrap_or_else(control::usual));
        let mut open = open_by_server(&recalled);
        let mut desk = Desk::new(
            config.alerting.clone(),
            &targets,
            settings.words(inquiry.as_ref()),
            |target| remembered(target, &recalled, &mut open),
        );
        let worked = recalled.facts.get(fact::CONTROLS);
        desk.set_controls(&asker.worked(worked.map_or("", String::as_str)));
        let (requests, requested) = requests_of(targets.len());
        let mut daemon = Self {
            fleet: Fleet::new(targets),
            desk,
            writer: Arc::new(writer),
            outbox: Some(outbox),
            asker,
            conversations: HashMap::new(),
            failing: BTreeMap::new(),
            telemetry: parts.telemetry,
            inquiry: None,
            enquirer: parts.enquirer,
            format: parts.format,
            output: parts.output,
            limits: settings.limits(config.schedule),
            board: parts.board,
            rechecks: BinaryHeap::new(),
            after_probe: BTreeMap::new(),
            unasked: HashSet::new(),
            places: HashMap::new(),
            permits: Arc::new(Semaphore::new(INQUIRIES)),
            requests,
            requested: Some(requested),
            inbox: Inbox {
                deliveries,
                orders,
                recalled: recalled_later,
            },
            progress: Arc::default(),
            settings,
            overruns: 0,
            rereads: 0,
        };
        daemon.set_inquiry(inquiry);
        daemon.remember(&recalled).await;
        // Whatever a run before could not use: this file can be.
        daemon.remember_reload(None);
        Ok(daemon)
    }

    async fn remember(&mut self, recalled: &Recalled) {
        for (index, target) in Arc::clone(&self.fleet.targets).iter().enumerate() {
            let (_, remembered) = recalled.target(target);
            if let Some(dialect) = remembered.dialect {
                self.fleet.dialects.set(index, dialect);
            }
            let known = remembered.instrumented
                && (remembered.service.is_some() || target.service.is_some());
            if let Some(learning) = self.fleet.learning.get_mut(index) {
                learning.remember(known, remembered.lag);
            }
            self.show(index, None);
        }
        self.remember_told(recalled);
        if let Some(own) = recalled.incidents.iter().find(|i| i.server.is_none()) {
            self.desk.remember_isolated(own.clone());
        }
        let (store, open) = (self.settings.store.clone(), recalled.incidents.clone());
        let last = tokio::task::spawn_blocking(move || last_notices(&store, &open)).await;
        if let Some(outbox) = &self.outbox {
            outbox.firing(last.unwrap_or_default()).await;
        }
        let now = SystemTime::now();
        // A verdict that was still provisional when the last run ended is asked for again.
        for incident in &recalled.incidents {
            if let Some(server) = &incident.server
                && incident.provisional != Some(false)
            {
                let age = now.duration_since(incident.first_failed_at);
                self.schedule_rechecks(server, &incident.id, age.unwrap_or_default());
            }
        }
        // Those whose targets are gone, while nobody watched, end.
        let gone: Vec<_> = recalled
            .incidents
            .iter()
            .filter(|incident| {
                let server = incident.server.as_deref();
                server.is_some_and(|server| self.fleet.index(server).is_none())
            })
            .cloned()
            .collect();
        for incident in gone {
            let changes = self.desk.end_removed(incident, now);
            self.commit(changes);
        }
        let changes = self.desk.ordered(recalled.orders.clone(), now);
        self.commit(changes);
        if self.asker.controls.is_empty() {
            // Nobody could ever tell that an isolation is over.
            self.take_in_controls(&[]);
        }
    }

    /// What the channels have been told before this run.
    fn remember_told(&mut self, recalled: &Recalled) {
        let mut heads: BTreeMap<&str, Vec<(String, Head)>> = BTreeMap::new();
        for head in &recalled.heads {
            let known = (head.channel.clone(), known_by(head));
            heads.entry(&head.incident).or_default().push(known);
        }
        let mut waiting: BTreeMap<&str, u32> = BTreeMap::new();
        let mut ended: BTreeMap<&str, &Incident> = BTreeMap::new();
        for pending in &recalled.pending {
            let incident = &pending.notice.incident;
            *waiting.entry(&incident.id).or_default() += 1;
            let known = (pending.notice.channel.clone(), Head::after(&pending.notice));
            let heads = heads.entry(&incident.id).or_default();
            match heads.iter_mut().find(|(channel, _)| *channel == known.0) {
                Some((_, head)) if head.sequence >= known.1.sequence => {}
                Some((_, head)) => *head = known.1,
                None => heads.push(known),
            }
            if incident.resolved_at.is_some() {
                ended.insert(&incident.id, incident);
            }
        }
        for (incident, heads) in heads {
            let waiting = waiting.get(incident).copied().unwrap_or_default();
            self.desk.remember_told(incident, heads, waiting);
        }
        for incident in ended.into_values() {
            self.desk.remember_ended(incident.clone());
        }
    }

    /// Probes on schedule until `stop`, then ends in order.
    pub async fn watch(mut self, started: Started, stop: CancellationToken) {
        let (sender, mut results) = mpsc::channel(RESULTS);
        let mut sender = Some(sender);
        let started = Arc::new(started);
        let mut running = JoinSet::new();
        let mut generation = stop.child_token();
        let queue = DueQueue::new(self.fleet.slots(SystemTime::now()), SystemTime::now());
        self.start_runner(queue, &started, &stop, &generation, &sender, &mut running);
        let mut background = JoinSet::new();
        let mut learn = tokio::time::interval(LEARN_EVERY);
        learn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = reload::Changed::watching(&self.settings.file, self.settings.seen);
        let systemd = Arc::new(Systemd::of_environment(
            |name| std::env::var(name).ok(),
            std::process::id(),
        ));
        let rim = self.start_rim(&systemd);
        systemd.ready(&self.summary());
        let mut clocks = (Instant::now(), SystemTime::now());
        loop {
            let recheck = self.rechecks.peek().map(|Reverse((at, ..))| *at);
            tokio::select! {
                finished = results.recv() => match finished {
                    Some(finished) => self.receive(finished, &mut background),
                    None => break,
                },
                Some(done) = background.join_next() => {
                    let is_reread = matches!(done, Ok(Done::Reread(..)));
                    let config = done.ok().and_then(|done| self.take_in_background(done, &mut background));
                    if let Some(config) = config {
                        let queue = self.reload(*config, &started).await;
                        if sender.is_some() {
                            generation.cancel();
                            generation = stop.child_token();
                            self.start_runner(queue, &started, &stop, &generation, &sender, &mut running);
                            self.probe_suspects();
                        }
                    }
                    // Also after a file that changed nothing: the reload is over.
                    if is_reread && sender.is_some() {
                        systemd.ready(&self.summary());
                    }
                },
                Some(delivery) = self.inbox.deliveries.recv() => self.take_in_delivery(delivery),
                Ok(()) = self.inbox.orders.changed() => {
                    let orders = self.inbox.orders.borrow_and_update().clone();
                    let changes = self.desk.ordered(orders, SystemTime::now());
                    self.commit(changes);
                }
                Some(recalled) = self.inbox.recalled.recv() => self.adopt(recalled),
                () = sleep_until(recheck) => self.recheck(&mut background),
                _ = learn.tick(), if self.inquiry.is_some() => self.learn(&mut background),
                _ = tick.tick() => {
                    self.tick(&mut clocks, &mut background);
                    systemd.refresh(&self.summary());
                }
                () = changed.wait(), if sender.is_some() => {
                    systemd.reloading();
                    self.reread(&mut background);
                }
                () = stop.cancelled(), if sender.is_some() => {
                    systemd.stopping();
                    sender = None;
                }
            }
        }
        running.join_all().await;
        rim.abort();
        // An inquiry can be made again.
        background.shutdown().await;
        self.end(started).await;
    }

    /// What tells others that we live.
    fn start_rim(&self, systemd: &Arc<Systemd>) -> tokio::task::AbortHandle {
        let (systemd, progress) = (Arc::clone(systemd), Arc::clone(&self.progress));
        let heartbeat = self.settings.alerting.heartbeat.clone();
        let (output, format) = (Arc::clone(&self.output), self.format);
        let beating = Arc::clone(&self.progress);
        let writer = Arc::clone(&self.writer);
        let task = tokio::spawn(async move {
            let warn = |text: &str| {
                output.warning(&line::message(format, SystemTime::now(), "warning", text));
            };
            let arrived = || {
                let now = humantime::format_rfc3339_seconds(SystemTime::now());
                writer.write(Write::Fact {
                    key: fact::HEARTBEAT.to_owned(),
                    value: Some(now.to_string()),
                });
            };
            let beat = async {
                match &heartbeat {
                    Some(heartbeat) => {
                        heartbeat::beat(heartbeat, &beating, warn, arrived).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::join!(systemd.watch(&progress), beat);
        });
        task.abort_handle()
    }

    fn start_runner(
        &mut self,
        queue: DueQueue,
        started: &Arc<Started>,
        stop: &CancellationToken,
        generation: &CancellationToken,
        sender: &Option<mpsc::Sender<Results>>,
        running: &mut JoinSet<()>,
    ) {
        let requested = self.requested.take();
        let (Some(requested), Some(sender)) = (requested, sender.clone()) else {
            return;
        };
        let runner = self.runner(queue, started, stop.clone());
        running.spawn(runner.run(sender, requested, generation.clone()));
    }

    fn runner(
        &self,
        queue: DueQueue,
        started: &Arc<Started>,
        stop: CancellationToken,
    ) -> Runner<impl Fn(usize) -> ProbeFuture + use<>> {
        let targets = Arc::clone(&self.fleet.targets);
        let turns = Turns::new(self.limits, targets.iter().map(|t| t.endpoint.host()));
        let (dialects, started) = (Arc::clone(&self.fleet.dialects), Arc::clone(started));
        let progress = Arc::clone(&self.progress);
        let looks = Arc::clone(&self.progress);
        let work = move |index: usize| {
            let wish = Wish {
                hint: dialects.get(index),
                // Nobody knows beforehand which probe is the first to fail.
                conversation: Wanted::IfFailed,
                call: None,
            };
            let target = targets.get(index).map(Arc::clone);
            if let Some(target) = &target {
                // A server that we start may have to be built or fetched first.
                let start = target.start.as_ref().map_or(Duration::ZERO, |_| START_WAIT);
                progress.begun(target.timeout + start, Instant::now());
            }
            probe_future(target, wish, &started, &stop)
        };
        let runner = Runner::new(queue, turns, Clock::system(), work);
        runner.telling(move |at| looks.waits_until(at))
    }

    /// Targets whose failure waits for a confirmation that the runner before was asked for.
    fn probe_suspects(&self) {
        for index in self.desk.suspects() {
            let after = self.settings.alerting.policy.confirm_delay;
            self.requests.try_send(Request { index, after }).ok();
        }
    }

    fn summary(&self) -> String {
        let count = self.fleet.targets.len();
        let open = self.desk.open().count();
        format!("watching {count} servers, {open} open incidents")
    }

    fn warn(&self, text: &str) {
        self.say("warning", text);
    }

    fn say(&self, level: &str, text: &str) {
        self.output
            .warning(&line::message(self.format, SystemTime::now(), level, text));
    }

    async fn flush(&self) {
        let writer = Arc::clone(&self.writer);
        let (_, ()) = tokio::join!(
            tokio::task::spawn_blocking(move || writer.flush()),
            self.telemetry.flush()
        );
    }

    /// Everything is committed, exported or counted, and what was started is ended.
    async fn end(mut self, started: Arc<Started>) {
        let servers = async {
            if let Some(started) = Arc::into_inner(started) {
                started.end().await;
            }
        };
        tokio::join!(self.flush(), servers);
        while let Ok(delivery) = self.inbox.deliveries.try_recv() {
            self.take_in_delivery(delivery);
        }
        if let Some(outbox) = self.outbox.take() {
            for delivery in outbox.end().await {
                self.take_in_delivery(delivery);
            }
        }
        while let Ok(delivery) = self.inbox.deliveries.try_recv() {
            self.take_in_delivery(delivery);
        }
        self.flush().await;
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

impl Settings {
    fn of(
        config: Config,
        (file, seen): (PathBuf, Seen),
        reread: Reread,
        at_once: usize,
    ) -> (Self, Config) {
        let settings = Self {
            store: config.store.path.clone(),
            alerting: config.alerting.clone(),
            traces: config.traces.clone(),
            fixed: reload::fixed(&config),
            file,
            seen,
            reread,
            at_once,
        };
        (settings, config)
    }

    fn limits(&self, schedule: crate::config::ScheduleSettings) -> Limits {
        Limits {
            at_once: schedule.concurrency.unwrap_or(self.at_once),
            per_host: schedule.per_host,
        }
    }

    fn words(&self, inquiry: Option<&Inquiry>) -> Words {
        let page = |inquiry: Inquiry| -> TracePage {
            Arc::new(move |target, id, at| inquiry.source(target)?.backend.link(id, at))
        };
        Words {
            file: self.file.display().to_string(),
            trace_page: inquiry.cloned().map(page),
        }
    }
}

/// What the writer tells us by, and where it arrives.
fn callbacks(
    format: LineFormat,
    output: &Arc<dyn Output>,
    sender: Arc<OnceLock<OutboxSender>>,
) -> (Callbacks, watch::Receiver<Orders>, mpsc::Receiver<Recalled>) {
    let output = Arc::clone(output);
    let (order, orders) = watch::channel(Orders::default());
    let (recall, recalled) = mpsc::channel(RECALLED);
    let callbacks = Callbacks {
        warn: Box::new(move |text| {
            output.warning(&line::message(format, SystemTime::now(), "warning", text));
        }),
        on_notice: Box::new(move |notice| {
            if let Some(outbox) = sender.get() {
                outbox.send(notice);
            }
        }),
        on_orders: Box::new(move |orders| {
            order.send_replace(orders);
        }),
        on_recalled: Box::new(move |recalled| {
            recall.try_send(recalled).ok();
        }),
    };
    (callbacks, orders, recalled)
}

/// Twice as many as there are targets: each may be asked for by a suspicion and for another reason.
fn requests_of(targets: usize) -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel((2 * targets).max(1))
}

fn inquiry(
    traces: &[TracesSettings],
    before: &[Source],
    store: &Path,
    targets: &Arc<[Arc<Target>]>,
) -> Result<Option<Inquiry>, String> {
    if traces.is_empty() {
        return Ok(None);
    }
    Ok(Some(Inquiry {
        store: store.to_owned(),
        sources: Source::all(traces, before)?,
        targets: Arc::clone(targets),
    }))
}

/// Open incidents by the server that they are about.
type OpenByServer = HashMap<String, Vec<Incident>>;

fn open_by_server(recalled: &Recalled) -> OpenByServer {
    let mut open = OpenByServer::new();
    for incident in &recalled.incidents {
        if let Some(server) = &incident.server {
            open.entry(server.clone())
                .or_default()
                .push(incident.clone());
        }
    }
    open
}

/// What the store remembers of a target, for the desk.
fn remembered(target: &Target, recalled: &Recalled, open: &mut OpenByServer) -> Remembered {
    let (status, remembered) = recalled.target(target);
    Remembered {
        state: status.state,
        since: status.since,
        open: open.remove(&target.name).unwrap_or_default(),
        memory: remembered.memory,
    }
}

fn known_by(head: &store::Head) -> Head {
    Head {
        sequence: head.sequence,
        last_at: head.created_at,
        ended: head.event == NoticeEvent::Resolved,
        verdict: head.verdict,
        severity: head.severity,
    }
}

/// The last notice of each open incident to each channel.
fn last_notices(store: &Path, open: &[Incident]) -> Vec<Notice> {
    let Ok(Some(reader)) = Reader::open_if_made(store) else {
        return Vec::new();
    };
    let mut last = Vec::new();
    for incident in open {
        let Ok(Some(detail)) = reader.incident_detail(&incident.id) else {
            continue;
        };
        let mut newest: BTreeMap<String, Notice> = BTreeMap::new();
        for stored in detail.notices {
            newest.insert(stored.notice.channel.clone(), stored.notice);
        }
        last.extend(newest.into_values());
    }
    last
}

/// Reads what waits for a channel, when there was more of it than fits into the outbox.
fn backlog(store: &Path) -> Backlog {
    let store = store.to_owned();
    Arc::new(move |channel, most| {
        let Some(reader) = Reader::open_if_made(&store)? else {
            return Ok(Vec::new());
        };
        let mut pending = reader.pending()?;
        pending.retain(|pending| pending.notice.channel == channel);
        pending.truncate(most);
        Ok(pending)
    })
}

type ProbeFuture = std::pin::Pin<Box<dyn Future<Output = Option<Ended>> + Send>>;

fn probe_future(
    target: Option<Arc<Target>>,
    wish: Wish<'static>,
    started: &Arc<Started>,
    stop: &CancellationToken,
) -> ProbeFuture {
    let (started, stop) = (Arc::clone(started), stop.clone());
    Box::pin(async move {
        let target = target?;
        let result = started
            .probe_when_up(&target, || probe::probe(&target, wish, &stop))
            .await?;
        Some(Ended {
            target,
            result: Arc::new(result),
        })
    })
}

/// Until `at`; for ever without.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
