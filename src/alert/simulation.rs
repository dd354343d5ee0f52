//! A month of a thousand targets in simulated time, and any sequence of what may happen to a few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::{Desk, Reaction, Remembered, Seen, Words};
use crate::model::{
    Acknowledgement, AlertChange, Alerting, ChannelKind, ChannelSettings, Delivery,
    DeliveryOutcome, Incident, IncidentKind, Layer, Notice, NoticeEvent, Orders, Policy, Reason,
    Route, Secret, Severities, Severity, Silence, State, Target, Text, TraceId,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What a simulated probe finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Up,
    Slow,
    /// The server's fault, beyond doubt.
    Broken,
    /// As when the network is gone.
    Cut,
    /// Our own trouble.
    Unknown,
}

impl Found {
    fn observed(self, at: SystemTime) -> Seen {
        let (state, failed) = match self {
            Self::Up => (State::Up, None),
            Self::Slow => (
                State::Degraded,
                Some((Layer::ToolsList, Reason::Expectation)),
            ),
            Self::Broken => (State::Down, Some((Layer::Http, Reason::HttpStatus))),
            Self::Cut => (
                State::Down,
                Some((Layer::Transport, Reason::ConnectTimeout)),
            ),
            Self::Unknown => (State::Unknown, None),
        };
        Seen {
            at,
            state,
            failed_layer: failed.map(|(layer, _)| layer),
            reason: failed.map(|(_, reason)| reason),
            message: Text::default(),
            trace_id: TraceId::random(),
            doubtful: false,
        }
    }
}

fn targets(servers: &str) -> Vec<Arc<Target>> {
    let loaded = crate::config::parse(
        servers,
        "servers.toml",
        Path::new("/"),
        &|_| None,
        UNIX_EPOCH,
    );
    let targets = loaded.unwrap().config.targets;
    targets.into_iter().map(Arc::new).collect()
}

fn alerting(policy: Policy, channels: &[&str]) -> Alerting {
    let channel = |name: &&str| ChannelSettings {
        name: (*name).to_owned(),
        kind: ChannelKind::Slack {
            url: Secret::new("https://hooks.example/"),
        },
        group: Duration::ZERO,
        retry_first: Duration::from_secs(2),
        retry_max: 5 * MINUTE,
        give_up_after: DAY,
        rate_limit: None,
        fallback: None,
        timeout: Duration::from_secs(10),
        secrets: Vec::new(),
    };
    Alerting {
        policy,
        severities: Severities::default(),
        channels: channels.iter().map(channel).collect(),
        routes: Vec::new(),
        maintenance: Vec::new(),
        controls: None,
        heartbeat: None,
    }
}

/// A world of targets on a simulated clock.
struct World {
    desk: Desk,
    /// When, which target, and whether it is a start of its schedule.
    due: BinaryHeap<Reverse<(SystemTime, usize, bool)>>,
    notices: Vec<Notice>,
    opened: Vec<Incident>,
}

impl World {
    fn new(count: usize, start: SystemTime) -> Self {
        let servers: String = (0..count)
            .map(|n| format!("[[server]]\nname = \"s{n}\"\nurl = \"https://s{n}.example/mcp\"\n"))
            .collect();
        let targets = targets(&servers);
        let alerting = alerting(Policy::default(), &["oncall"]);
        let mut desk = Desk::new(alerting, &targets, Words::default(), |_| {
            Remembered::default()
        });
        desk.set_controls(&[false]);
        let phase = |n| MINUTE.mul_f64(n as f64 / count as f64);
        Self {
            desk,
            due: (0..count)
                .map(|n| Reverse((start + phase(n), n, true)))
                .collect(),
            notices: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn take(&mut self, reaction: Reaction, now: SystemTime) {
        for (index, after) in reaction.requests {
            self.due.push(Reverse((now + after, index, false)));
        }
        for change in reaction.changes {
            match change {
                AlertChange::Notice(notice) => self.notices.push(*notice),
                AlertChange::Incident(incident) => {
                    if incident.resolved_at.is_none() && incident.opened_at == now {
                        self.opened.push(*incident);
                    }
                }
                AlertChange::Timeline(_) => {}
            }
        }
    }

    /// Runs until `end`. `found` tells what a probe at this time finds; `control` whether the control works.
    fn run(
        &mut self,
        start: SystemTime,
        end: SystemTime,
        mut found: impl FnMut(usize, SystemTime, bool) -> Found,
        control: impl Fn(SystemTime) -> bool,
    ) {
        let (mut checked, mut ticked) = (start, start);
        let reaction = self.desk.observe_controls(&[control(start)], start);
        self.take(reaction, start);
        while let Some(Reverse((now, index, scheduled))) = self.due.pop()
            && now < end
        {
            if scheduled {
                self.due.push(Reverse((now + MINUTE, index, true)));
            }
            let found = found(index, now, scheduled);
            let result = found.observed(now);
            let asks = self.desk.needs_controls(index, &result);
            let since = now.duration_since(checked).unwrap();
            if asks || since >= MINUTE || (!control(checked) && since.as_secs() >= 5) {
                checked = now;
                let reaction = self.desk.observe_controls(&[control(now)], now);
                self.take(reaction, now);
            }
            if now.duration_since(ticked).unwrap() >= Duration::from_secs(1) {
                ticked = now;
                let reaction = self.desk.tick(now);
                self.take(reaction, now);
            }
            let reaction = self.desk.observe(index, result, now);
            self.take(reaction, now);
        }
    }
}

/// A thousand targets for thirty days: each probe fails with a probability of 1 % and passes when it is repeated; once a
/// day our own network is gone for some minutes; a hundred targets have an outage of three minutes.
#[test]
fn a_month_of_a_thousand_targets_pages_for_the_outages_and_for_nothing_else() {
    let mut random = fastrand::Rng::with_seed(20_261_121);
    let start = UNIX_EPOCH + Duration::from_secs(1_795_219_200);
    let end = start
        + std::env::var("SIM_DAYS")
            .ok()
            .and_then(|d| d.parse().ok())
            .unwrap_or(30u32)
            * DAY;
    // Our own network: in the second half of each day.
    let cut: Vec<_> = (0..30u32)
        .map(|day| {
            let from = start + day * DAY + DAY / 2 + MINUTE * random.u32(0..600);
            (from, from + Duration::from_secs(random.u64(20..1_200)))
        })
        .collect();
    let is_cut = |at: SystemTime| {
        let since = at.duration_since(start).unwrap().as_secs() / DAY.as_secs();
        let (from, to) = cut[usize::try_from(since).unwrap().min(29)];
        from <= at && at < to
    };
    // Theirs: in the first halves, of a hundred targets.
    let outages: HashMap<usize, SystemTime> = (0..100)
        .map(|n| {
            let at = DAY * random.u32(0..30) + Duration::from_secs(random.u64(0..43_000));
            (n * 10, start + at)
        })
        .collect();
    let is_out = |index: usize, at: SystemTime| {
        outages
            .get(&index)
            .is_some_and(|from| *from <= at && at < *from + 3 * MINUTE)
    };
    let mut world = World::new(1_000, start);
    let found = |index: usize, at: SystemTime, scheduled: bool| {
        if is_cut(at) {
            return Found::Cut;
        }
        if is_out(index, at) {
            // Half of them as if the network were gone, but it is not.
            return if index.is_multiple_of(20) {
                Found::Broken
            } else {
                Found::Cut
            };
        }
        match random.u32(0..200) {
            0 if scheduled => Found::Broken,
            1 if scheduled => Found::Cut,
            _ => Found::Up,
        }
    };
    world.run(start, end, found, |at| !is_cut(at));

    let paged: Vec<_> = world
        .notices
        .iter()
        .filter(|n| n.event == NoticeEvent::Opened && n.incident.kind == IncidentKind::Outage)
        .collect();
    let mut late = Vec::new();
    for notice in &paged {
        let server = notice.incident.server.as_deref().unwrap();
        let index: usize = server[1..].parse().unwrap();
        let from = outages[&index];
        let after = notice.created_at.duration_since(from).unwrap();
        if after > MINUTE + 2 * Duration::from_secs(3) + Duration::from_secs(1) {
            late.push((server, after));
        }
    }
    assert_eq!(late, []);
    assert_eq!(paged.len(), 100);
    let resolved =
        |n: &&Notice| n.event == NoticeEvent::Resolved && n.incident.kind == IncidentKind::Outage;
    assert_eq!(world.notices.iter().filter(resolved).count(), 100);
    // An isolation is seen when it lasts long enough for most of the targets to be seen failing.
    let isolated = world
        .opened
        .iter()
        .filter(|i| i.kind == IncidentKind::Isolated);
    assert!((25..=30).contains(&isolated.count()));
    // Four single failures among twenty probes by chance: they are warned of, never paged.
    let warned = world
        .opened
        .iter()
        .filter(|i| i.kind == IncidentKind::Intermittent);
    assert!(warned.count() < 1_000);
}

/// Something that may happen.
#[derive(Clone, Debug)]
enum Event {
    Probe(usize, Found),
    Control(bool),
    Tick,
    Silence(u64),
    Restart,
    Without(usize),
    With,
    ClockBack(u64),
    ClockAhead(u64),
    /// What has waited longest arrives, or never does.
    Delivered(bool),
    Acknowledge(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let found = prop_oneof![
        3 => Just(Found::Up),
        1 => Just(Found::Slow),
        3 => Just(Found::Broken),
        1 => Just(Found::Cut),
        1 => Just(Found::Unknown),
    ];
    prop_oneof![
        20 => (0..TARGETS, found).prop_map(|(index, found)| Event::Probe(index, found)),
        1 => any::<bool>().prop_map(Event::Control),
        2 => Just(Event::Tick),
        1 => (1..600u64).prop_map(Event::Silence),
        1 => Just(Event::Restart),
        1 => (0..TARGETS).prop_map(Event::Without),
        1 => Just(Event::With),
        1 => (1..4_000u64).prop_map(Event::ClockBack),
        1 => (1..4_000u64).prop_map(Event::ClockAhead),
        4 => any::<bool>().prop_map(Event::Delivered),
        1 => (0..9usize).prop_map(Event::Acknowledge),
    ]
}

const TARGETS: usize = 6;

/// What a store and the receivers of notices would know.
#[derive(Default)]
struct Ledger {
    incidents: BTreeMap<String, Incident>,
    memories: HashMap<String, (State, Option<SystemTime>, Option<String>)>,
    notices: Vec<Notice>,
    /// Places of notices that have neither arrived nor been given up.
    waiting: VecDeque<usize>,
}

impl Ledger {
    fn take(&mut self, changes: Vec<AlertChange>) {
        for change in changes {
            match change {
                AlertChange::Incident(incident) => {
                    let known = self
                        .incidents
                        .insert(incident.id.clone(), *incident.clone());
                    let ended = known.is_some_and(|known| known.resolved_at.is_some());
                    assert!(!ended, "{} changed after its end", incident.id);
                    if incident.resolved_at.is_none() {
                        self.alone(&incident);
                    }
                }
                AlertChange::Notice(notice) => {
                    self.in_order(&notice);
                    self.waiting.push_back(self.notices.len());
                    self.notices.push(*notice);
                }
                AlertChange::Timeline(entry) => {
                    assert!(!entry.incident.is_empty());
                }
            }
        }
    }

    /// At most one open incident of a target and kind.
    fn alone(&self, incident: &Incident) {
        let open = self.incidents.values().filter(|other| {
            other.resolved_at.is_none()
                && other.kind == incident.kind
                && other.server == incident.server
        });
        assert_eq!(open.count(), 1, "{incident:?}");
    }

    /// Sequences have no gap; the first is an opening and nothing follows a resolution; each has its cause.
    fn in_order(&self, notice: &Notice) {
        let id = &notice.incident.id;
        let before: Vec<_> = self
            .notices
            .iter()
            .filter(|n| n.incident.id == *id && n.channel == notice.channel)
            .collect();
        assert_eq!(notice.sequence as usize, before.len() + 1);
        assert_eq!(notice.event == NoticeEvent::Opened, before.is_empty());
        assert!(before.iter().all(|n| n.event != NoticeEvent::Resolved));
        let known = &self.incidents[id];
        let ended = known.resolved_at.is_some();
        // Who takes the place of another hears of both, in order, also when it is over.
        let late = notice.channel == "last" && notice.event == NoticeEvent::Opened;
        assert!(late || (notice.event == NoticeEvent::Resolved) == ended);
    }

    fn restarted(
        &mut self,
        desk: Desk,
        world: &Shape,
        silences: &[Silence],
        now: SystemTime,
    ) -> Desk {
        drop(desk);
        let open = |server: Option<&str>| -> Vec<Incident> {
            let open = self.incidents.values().filter(|incident| {
                incident.resolved_at.is_none() && incident.server.as_deref() == server
            });
            open.cloned().collect()
        };
        let mut desk = Desk::new(
            world.alerting.clone(),
            &world.targets,
            Words::default(),
            |target| {
                let n = &target.name;
                let (state, since, memory) = self.memories.get(n).cloned().unwrap_or_default();
                Remembered {
                    state,
                    since,
                    open: open(Some(n)),
                    memory,
                }
            },
        );
        desk.set_controls(&[false]);
        if let Some(incident) = open(None).pop() {
            desk.remember_isolated(incident);
        }
        for id in self.incidents.keys() {
            let of = self.notices.iter().filter(|n| n.incident.id == *id);
            let heads = of.map(|n| (n.channel.clone(), super::Head::after(n)));
            let waits = |at: &&usize| self.notices[**at].incident.id == *id;
            let waiting = self.waiting.iter().filter(waits).count();
            desk.remember_told(
                id,
                heads.collect::<Vec<_>>(),
                u32::try_from(waiting).unwrap(),
            );
            let ended = self.incidents[id].clone();
            if ended.resolved_at.is_some() && waiting > 0 {
                desk.remember_ended(ended);
            }
        }
        let orders = Orders {
            silences: silences.to_vec(),
            acknowledged: Vec::new(),
        };
        self.take(desk.ordered(orders, now));
        desk
    }
}

#[derive(Clone)]
struct Shape {
    targets: Vec<Arc<Target>>,
    alerting: Alerting,
}

/// The last target hangs on the first. The channel `one` hears of everything, `two` of what is critical, late and again;
/// `last` only of what `one` cannot deliver.
fn shape(without: Option<usize>) -> Shape {
    let parent = |n| match n {
        5 if without != Some(0) => "parent = \"s0\"\n",
        _ => "",
    };
    let servers: String = (0..TARGETS)
        .filter(|n| Some(*n) != without)
        .map(|n| {
            let parent = parent(n);
            format!("[[server]]\nname = \"s{n}\"\nurl = \"https://s{n}.example/mcp\"\n{parent}")
        })
        .collect();
    let mut alerting = alerting(Policy::default(), &["one", "two", "last"]);
    alerting.channels[0].fallback = Some("last".to_owned());
    let route = |channel: &str| Route {
        channels: vec![channel.to_owned()],
        ..Route::default()
    };
    alerting.routes = vec![
        route("one"),
        Route {
            severities: vec![Severity::Critical],
            after: Duration::from_secs(30),
            repeat: Some(MINUTE),
            ..route("two")
        },
    ];
    Shape {
        targets: targets(&servers),
        alerting,
    }
}

proptest! {
    /// For any sequence of results, silences, reloads, restarts and clock steps (see [`Ledger`]): and when all is well
    /// again every incident is resolved, and who was told of it has been told so.
    #[test]
    fn whatever_happens_incidents_and_notices_are_in_order(events in proptest::collection::vec(event(), 1..150)) {
        let mut shape = shape(None);
        let mut silences = Vec::new();
        let mut ledger = Ledger::default();
        let desk = Desk::new(shape.alerting.clone(), &shape.targets, Words::default(), |_| Remembered::default());
        let mut now = UNIX_EPOCH + 10 * DAY;
        let mut desk = ledger.restarted(desk, &shape, &silences, now);
        let calm = (0..200).flat_map(|_| {
            let all = (0..TARGETS).map(|n| Event::Probe(n, Found::Up));
            // As by cron: each round is a run of its own.
            [Event::Restart, Event::Control(true)].into_iter().chain(all)
        });
        for event in events.into_iter().chain(calm) {
            now += Duration::from_secs(5);
            match event {
                Event::Probe(index, found) => {
                    let Some(name) = shape.targets.get(index).map(|t| t.name.clone()) else { continue };
                    let reaction = desk.observe(index, found.observed(now), now);
                    let memory = desk.watched(index).and_then(|watched| watched.memory());
                    ledger.memories.insert(name, (reaction.shown, reaction.since, memory));
                    ledger.take(reaction.changes);
                }
                Event::Control(works) => ledger.take(desk.observe_controls(&[works], now).changes),
                Event::Tick => ledger.take(desk.tick(now).changes),
                Event::Silence(seconds) => {
                    silences.push(Silence {
                        id: silences.len().to_string(),
                        servers: vec!["s0".to_owned(), "s1".to_owned()],
                        tags: Vec::new(),
                        from: now,
                        until: now + Duration::from_secs(seconds),
                        reason: Text::new("deploy"),
                        by: Text::new("me"),
                    });
                    let orders = Orders { silences: silences.clone(), acknowledged: Vec::new() };
                    ledger.take(desk.ordered(orders, now));
                }
                Event::Restart => desk = ledger.restarted(desk, &shape, &silences, now),
                Event::Without(index) => {
                    shape = self::shape(Some(index));
                    ledger.take(desk.reload(shape.alerting.clone(), &shape.targets, Words::default(), now));
                }
                Event::With => {
                    shape = self::shape(None);
                    ledger.take(desk.reload(shape.alerting.clone(), &shape.targets, Words::default(), now));
                }
                Event::Delivered(arrives) => {
                    let Some(at) = ledger.waiting.pop_front() else { continue };
                    let notice = &ledger.notices[at];
                    let delivery = Delivery {
                        incident: notice.incident.id.clone(),
                        channel: notice.channel.clone(),
                        sequence: notice.sequence,
                        at: now,
                        attempts: 1,
                        outcome: match arrives {
                            true => DeliveryOutcome::Delivered,
                            false => DeliveryOutcome::GivenUp(Text::new("no")),
                        },
                    };
                    ledger.take(desk.delivered(&delivery, now));
                }
                Event::Acknowledge(at) => {
                    let Some(id) = desk.open().nth(at).map(|open| open.id.clone()) else { continue };
                    let by = Acknowledgement { at: now, by: Text::new("me") };
                    let orders = Orders { silences: silences.clone(), acknowledged: vec![(id, by)] };
                    ledger.take(desk.ordered(orders, now));
                }
                Event::ClockBack(seconds) => now -= Duration::from_secs(seconds),
                Event::ClockAhead(seconds) => {
                    now += Duration::from_secs(seconds);
                    desk.jumped(now);
                }
            }
        }
        let open: Vec<_> = ledger.incidents.values().filter(|i| i.resolved_at.is_none()).collect();
        prop_assert!(open.is_empty(), "{:?}", open);
        let mut last = HashMap::new();
        for notice in &ledger.notices {
            last.insert((&notice.incident.id, &notice.channel), notice.event);
        }
        prop_assert!(last.values().all(|event| *event == NoticeEvent::Resolved), "{:?}", last);
    }
}
