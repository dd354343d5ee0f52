//! The deliverer: one task that attempts what the queues decide on, and tells what became of it.
//!
//! Channels never delay each other: each has a queue and attempts of its own. Nobody who hands a notice in ever waits:
//! what there is no room for stays where notices are kept, and is read from there when there is room again
//! ([`Backlog`]). So a thread that commits notices and then hands them in cannot be held up, and cannot deadlock with
//! whoever waits for that thread. A notice has to be kept before it is handed in.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::alertmanager::Firing;
use super::channel::{Channel, Failure, http_client};
use super::queue::{Attempt, HELD, Pace, Queue, Settled};
use crate::model::{
    ChannelKind, ChannelSettings, Delivery, DeliveryOutcome, Notice, NoticeEvent, Pending, Text,
};

/// Orders that wait for the task: it is only ever busy for microseconds. A notice that finds no room is read from
/// where it is kept.
const INBOX: usize = 1_024;

/// Deliveries that were not taken yet. Beyond it no attempt starts: what nobody learns of would be sent twice.
const OUTGOING: usize = 1_024;

/// Before the backlog is read again after it could not be.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// How long a channel may be missing from the configuration before what waits for it is given up: somebody mistyped its
/// name, and is about to see it.
const PARKED: Duration = Duration::from_secs(600);

/// How long attempts may go on when the end has come; what is cut off is sent again by the next process.
const END_GRACE: Duration = Duration::from_secs(3);

/// Reads what waits for a channel from where it is kept: the oldest first, at most so many. It may block, and is called
/// on a thread for that.
pub type Backlog = Arc<dyn Fn(&str, usize) -> Result<Vec<Pending>, String> + Send + Sync>;

/// The running deliverer.
pub struct Outbox {
    sender: OutboxSender,
    task: JoinHandle<Vec<Delivery>>,
}

/// Hands notices in, from anywhere, never waiting.
#[derive(Clone)]
pub struct OutboxSender {
    inbox: mpsc::Sender<Order>,
    behind: Behind,
}

enum Order {
    Notice(Box<Notice>),
    Reload(Vec<ChannelSettings>),
    Firing(Vec<Notice>),
    Drain(oneshot::Sender<()>),
    End,
}

impl OutboxSender {
    /// Takes a notice that is kept. False when there was no room: then it is read from there later, and nothing has
    /// to be done about it unless it is kept nowhere.
    pub fn send(&self, notice: Notice) -> bool {
        let channel = notice.channel.clone();
        let sent = self.inbox.try_send(Order::Notice(Box::new(notice)));
        if sent.is_err() {
            self.behind.add(&channel);
        }
        sent.is_ok()
    }
}

/// Channels of which some notices are only where they are kept.
#[derive(Clone, Default)]
struct Behind(Arc<Mutex<HashSet<String>>>);

impl Behind {
    fn add(&self, channel: &str) {
        if let Ok(mut behind) = self.0.lock() {
            behind.insert(channel.to_owned());
        }
    }

    fn remove(&self, channel: &str) {
        if let Ok(mut behind) = self.0.lock() {
            behind.remove(channel);
        }
    }

    fn has(&self, channel: &str) -> bool {
        self.0.lock().is_ok_and(|behind| behind.contains(channel))
    }
}

impl Outbox {
    /// Starts delivering. `pending` is what waited when we started; it may be everything, or for each channel the
    /// oldest, and what there is no room for is left to `backlog`. What becomes of each attempt goes to `deliveries`.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn start(
        channels: Vec<ChannelSettings>,
        pending: Vec<Pending>,
        backlog: Backlog,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Result<Self, String> {
        // It reads the platform's roots, some megabytes, which nobody needs who has no channel.
        let http = match channels.is_empty() {
            true => None,
            false => Some(client()?),
        };
        let (inbox, orders) = mpsc::channel(INBOX);
        let behind = Behind::default();
        let mut deliverer = Deliverer {
            http,
            orders,
            deliveries,
            backlog,
            behind: behind.clone(),
            lines: BTreeMap::new(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            reads: JoinSet::new(),
            reading: HashMap::new(),
            outgoing: VecDeque::new(),
            drains: Vec::new(),
            end_by: None,
        };
        deliverer.reload(channels);
        for pending in pending {
            deliverer.take(pending);
        }
        let sender = OutboxSender { inbox, behind };
        Ok(Self {
            sender,
            task: tokio::spawn(deliverer.run()),
        })
    }

    /// A handle for whoever commits notices.
    pub fn sender(&self) -> OutboxSender {
        self.sender.clone()
    }

    /// Other channels from now on. What waits for one that is gone is given up; what waits for one that stays goes
    /// there by its new settings.
    pub async fn reload(&self, channels: Vec<ChannelSettings>) {
        self.order(Order::Reload(channels)).await;
    }

    /// After a start: the last notice of each incident that is still open, for each channel that got one. Those of
    /// Alertmanagers go on being told to them; from then on the outbox itself knows what fires. Not needed for other
    /// kinds of channels.
    pub async fn firing(&self, notices: Vec<Notice>) {
        self.order(Order::Firing(notices)).await;
    }

    /// Waits until each notice that was handed in has been attempted once, without waiting for windows (`group`), or
    /// until the time is over. What failed, and what stands behind it, waits for the next process. True when all
    /// were attempted. Deliveries need not be taken meanwhile, as long as there are not more than a thousand.
    pub async fn drain(&self, limit: Duration) -> bool {
        let (done, wait) = oneshot::channel();
        let drained = async {
            self.order(Order::Drain(done)).await;
            wait.await.is_ok()
        };
        timeout(limit, drained).await.unwrap_or(false)
    }

    /// Starts no more attempts and lets running ones go on for a moment. Answers the deliveries that nobody has taken.
    pub async fn end(self) -> Vec<Delivery> {
        self.order(Order::End).await;
        self.task.await.unwrap_or_default()
    }

    async fn order(&self, order: Order) {
        // The task ends only by an order.
        self.sender.inbox.send(order).await.ok();
    }
}

fn client() -> Result<reqwest::Client, String> {
    http_client().map_err(|error| format!("no HTTP client: {error}"))
}

/// One channel, its queue, and what else is known of it.
struct Line {
    channel: Arc<Channel>,
    queue: Queue,
    /// Its backlog is being read. No attempt starts meanwhile: it may hold an earlier notice.
    is_reading: bool,
    /// The backlog could not be read.
    read_again_at: Option<Instant>,
    /// Only of an Alertmanager.
    firing: Option<Firing>,
    /// The channel is gone; what waits for it is given up then, unless it is back: names are mistyped.
    parked_until: Option<Instant>,
}

struct Deliverer {
    /// None before there is a channel.
    http: Option<reqwest::Client>,
    orders: mpsc::Receiver<Order>,
    deliveries: mpsc::Sender<Delivery>,
    backlog: Backlog,
    behind: Behind,
    lines: BTreeMap<String, Line>,
    attempts: JoinSet<Result<(), Failure>>,
    /// What each attempt is about: known even when its task panics.
    running: HashMap<Id, Running>,
    reads: JoinSet<Result<Vec<Pending>, String>>,
    reading: HashMap<Id, String>,
    outgoing: VecDeque<Delivery>,
    drains: Vec<oneshot::Sender<()>>,
    end_by: Option<Instant>,
}

struct Running {
    channel: String,
    at: SystemTime,
    /// None: an Alertmanager is told again what fires.
    attempt: Option<Attempt>,
}

impl Deliverer {
    async fn run(mut self) -> Vec<Delivery> {
        let deliveries = self.deliveries.clone();
        loop {
            self.abandon_parked();
            self.start_reads();
            self.start_attempts();
            self.answer_drains();
            if self.end_by.is_some_and(|_| self.attempts.is_empty()) {
                break;
            }
            let wake = self.wake_at();
            tokio::select! {
                // Orders last: a storm of notices must not keep results from being told.
                biased;
                Some(ended) = self.attempts.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        Err(error) => (error.id(), Err(Failure::new("the attempt broke down"))),
                    };
                    self.attempt_ended(id, result);
                }
                Some(ended) = self.reads.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        Err(error) => (error.id(), Err("reading broke down".to_owned())),
                    };
                    self.read_ended(id, result);
                }
                permit = deliveries.reserve(), if !self.outgoing.is_empty() => {
                    match (permit, self.outgoing.pop_front()) {
                        (Ok(permit), Some(delivery)) => permit.send(delivery),
                        // Nobody is left to tell.
                        _ => break,
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if self.end_by.is_some_and(|by| by <= Instant::now()) {
                        break;
                    }
                }
                order = self.orders.recv(), if self.end_by.is_none() => {
                    self.obey(order.unwrap_or(Order::End));
                }
            }
        }
        self.outgoing
            .into_iter()
            .filter_map(|delivery| deliveries.try_send(delivery).err())
            .map(mpsc::error::TrySendError::into_inner)
            .collect()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Notice(notice) => self.take(Pending {
                notice: *notice,
                attempts: 0,
                first_attempt_at: None,
            }),
            Order::Reload(channels) => self.reload(channels),
            Order::Firing(notices) => {
                let now = Instant::now();
                for notice in notices {
                    if let Some(line) = self.lines.get_mut(&notice.channel)
                        && let Some(firing) = &mut line.firing
                    {
                        firing.remember(notice, now);
                    }
                }
            }
            Order::Drain(done) => {
                let now = Instant::now();
                for line in self.lines.values_mut() {
                    line.queue.hurry(now);
                }
                self.drains.push(done);
            }
            Order::End => self.end_by = Some(Instant::now() + END_GRACE),
        }
    }

    fn take(&mut self, pending: Pending) {
        let channel = &pending.notice.channel;
        let (now, wall) = (Instant::now(), SystemTime::now());
        let Some(line) = self.lines.get_mut(channel) else {
            let delivery = Delivery {
                incident: pending.notice.incident.id.clone(),
                channel: channel.clone(),
                sequence: pending.notice.sequence,
                at: wall,
                attempts: pending.attempts,
                outcome: DeliveryOutcome::GivenUp(gone()),
            };
            self.outgoing.push_back(delivery);
            return;
        };
        if pending.notice.event == NoticeEvent::Resolved
            && let Some(firing) = &mut line.firing
        {
            firing.ends(&pending.notice.incident.id);
        }
        // An earlier notice of its incident may be one of those that are only kept: the order would be lost.
        let channel = channel.clone();
        if self.behind.has(&channel) || !line.queue.load(pending, now, wall) {
            self.behind.add(&channel);
        }
    }

    fn reload(&mut self, channels: Vec<ChannelSettings>) {
        let names: HashSet<_> = channels.iter().map(|c| c.name.clone()).collect();
        let now = Instant::now();
        for settings in channels {
            // Where no client can be made at a reload, what waits for the channel stays where it is kept.
            let Some(http) = self.http.clone().or_else(|| client().ok()) else {
                continue;
            };
            self.http = Some(http.clone());
            let is_alertmanager = matches!(settings.kind, ChannelKind::Alertmanager(_));
            let mut pace = Pace::from(&settings);
            if is_alertmanager {
                // What is told again and what is told anew must not overtake each other.
                pace.at_once = 1;
            }
            let name = settings.name.clone();
            let channel = Arc::new(Channel::new(settings, http));
            match self.lines.get_mut(&name) {
                Some(line) => {
                    if !channel.is_same(&line.channel) {
                        // It was mended, perhaps.
                        line.queue.retry_now(now);
                    }
                    line.channel = channel;
                    line.parked_until = None;
                    line.queue.set_pace(pace);
                    let firing = line.firing.take();
                    line.firing = is_alertmanager.then(|| firing.unwrap_or_default());
                }
                None => {
                    let line = Line {
                        channel,
                        queue: Queue::new(pace),
                        is_reading: false,
                        read_again_at: None,
                        firing: is_alertmanager.then(Firing::default),
                        parked_until: None,
                    };
                    self.lines.insert(name, line);
                }
            }
        }
        let gone_names: Vec<_> = self
            .lines
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone_names {
            if let Some(line) = self.lines.get_mut(&name) {
                line.parked_until = Some(now + PARKED);
            }
        }
    }

    /// Gives up what waits for channels that are gone and did not come back.
    fn abandon_parked(&mut self) {
        let now = Instant::now();
        let is_over = |line: &Line| line.parked_until.is_some_and(|until| until <= now);
        let over = self.lines.iter().filter(|(_, line)| is_over(line));
        let gone_names: Vec<_> = over.map(|(name, _)| name.clone()).collect();
        let why = gone();
        for name in gone_names {
            self.behind.remove(&name);
            let Some(mut line) = self.lines.remove(&name) else {
                continue;
            };
            let settled = line.queue.abandon(&why);
            self.tell(&name, SystemTime::now(), settled);
            if line.queue.running() > 0 {
                // Until what runs has ended.
                line.firing = None;
                line.parked_until = None;
                self.lines.insert(name, line);
            }
        }
    }

    fn start_reads(&mut self) {
        let now = Instant::now();
        for (name, line) in &mut self.lines {
            let has_room = line.queue.held() <= HELD / 2;
            let may_read = line.read_again_at.is_none_or(|at| at <= now);
            if line.is_reading || !has_room || !may_read || !self.behind.has(name) {
                continue;
            }
            // From here on notices are taken again: whatever was refused before is kept, and so will be read.
            self.behind.remove(name);
            line.is_reading = true;
            line.read_again_at = None;
            let (backlog, channel) = (Arc::clone(&self.backlog), name.clone());
            let read = self.reads.spawn_blocking(move || backlog(&channel, HELD));
            self.reading.insert(read.id(), name.clone());
        }
    }

    fn read_ended(&mut self, id: Id, result: Result<Vec<Pending>, String>) {
        let Some(name) = self.reading.remove(&id) else {
            return;
        };
        let Some(line) = self.lines.get_mut(&name) else {
            return;
        };
        line.is_reading = false;
        let (now, wall) = (Instant::now(), SystemTime::now());
        let all_are_held = match result {
            Ok(pending) => {
                let is_all = pending.len() < HELD;
                let fits = pending
                    .into_iter()
                    .all(|pending| line.queue.load(pending, now, wall));
                is_all && fits
            }
            // Whoever reads says so; here it is only tried again.
            Err(_) => {
                line.read_again_at = Some(now + READ_AGAIN);
                false
            }
        };
        if !all_are_held {
            self.behind.add(&name);
        }
    }

    fn start_attempts(&mut self) {
        if self.end_by.is_some() {
            return;
        }
        let now = Instant::now();
        for (name, line) in &mut self.lines {
            let is_told = line.firing.as_ref().is_some_and(Firing::is_being_told);
            if line.is_reading || is_told || line.parked_until.is_some() {
                continue;
            }
            while self.outgoing.len() < OUTGOING
                && let Some(attempt) = line.queue.next(now)
            {
                let stale = line
                    .firing
                    .as_ref()
                    .map(|firing| firing.stale(&line.channel, &attempt.message))
                    .unwrap_or_default();
                let (channel, message) = (Arc::clone(&line.channel), Arc::clone(&attempt.message));
                let task = self
                    .attempts
                    .spawn(async move { channel.deliver(&message, &stale).await });
                let running = Running {
                    channel: name.clone(),
                    at: SystemTime::now(),
                    attempt: Some(attempt),
                };
                self.running.insert(task.id(), running);
            }
            if line.queue.running() == 0
                && let Some(firing) = &mut line.firing
                && let Some(notices) = firing.tell(now)
            {
                let channel = Arc::clone(&line.channel);
                let task = self
                    .attempts
                    .spawn(async move { channel.resend(&notices).await });
                let running = Running {
                    channel: name.clone(),
                    at: SystemTime::now(),
                    attempt: None,
                };
                self.running.insert(task.id(), running);
            }
        }
    }

    fn attempt_ended(&mut self, id: Id, result: Result<(), Failure>) {
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let now = Instant::now();
        let name = running.channel;
        let Some(line) = self.lines.get_mut(&name) else {
            return;
        };
        let Some(attempt) = running.attempt else {
            if let (Some(firing), ChannelKind::Alertmanager(settings)) =
                (&mut line.firing, &line.channel.settings().kind)
            {
                firing.told(now + settings.resend);
            }
            return;
        };
        if result.is_ok()
            && let Some(firing) = &mut line.firing
            && let ChannelKind::Alertmanager(settings) = &line.channel.settings().kind
        {
            for notice in attempt.message.notices() {
                firing.delivered(notice, now + settings.resend);
            }
        }
        let settled = line.queue.done(attempt.id, now, result, fastrand::f64());
        self.tell(&name, running.at, settled);
    }

    fn tell(&mut self, channel: &str, at: SystemTime, settled: Vec<Settled>) {
        for settled in settled {
            self.outgoing.push_back(Delivery {
                incident: settled.incident,
                channel: channel.to_owned(),
                sequence: settled.sequence,
                at,
                attempts: settled.attempts,
                outcome: settled.outcome,
            });
        }
    }

    fn answer_drains(&mut self) {
        let is_untried = |(name, line): (&String, &Line)| {
            line.is_reading || line.queue.is_untried() || self.behind.has(name)
        };
        if !self.drains.is_empty() && !self.lines.iter().any(is_untried) {
            for drain in self.drains.drain(..) {
                drain.send(()).ok();
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        if self.end_by.is_some() {
            return self.end_by;
        }
        let may_attempt = self.outgoing.len() < OUTGOING;
        self.lines
            .values()
            .flat_map(|line| {
                if line.parked_until.is_some() {
                    return [line.parked_until, None, None];
                }
                let is_told = line.firing.as_ref().is_some_and(Firing::is_being_told);
                let free = may_attempt && !line.is_reading && !is_told;
                let queue = line.queue.wake_at().filter(|_| free);
                let firing = line.firing.as_ref().and_then(Firing::wake_at);
                let firing = firing.filter(|_| free && line.queue.running() == 0);
                [queue, firing, line.read_again_at]
            })
            .flatten()
            .min()
    }
}

fn gone() -> Text {
    Text::new("there is no channel of this name any more")
}
