//! Where everything that alerting knows lies: results, orders and time come in, incidents and notices go out. Pure.
//!
//! [`Watched`] decides what is an incident; the desk decides whether that can be believed ([`Isolation`]) and who hears
//! of it: dependencies, silences, maintenance, routes, reminders.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::head::Head;
use super::isolation::{Isolation, LEAST_TARGETS, LastSeen, Turned};
use super::machine::{Rules, Seen, Watched, resolved};
use crate::model::{
    AlertChange, Alerting, ChannelSettings, Delivery, DeliveryOutcome, Incident, IncidentKind,
    Layer, Link, Maintenance, Notice, NoticeEvent, Orders, Reason, Resolution, Route, Silence,
    State, Target, Text, TimelineEntry, TimelineKind, TraceId, Verdict,
};

/// How long a notice waits for the parent's own probe, which is asked for at once: a hanging one takes its timeout, 10 s
/// by default, three times and twice `confirm_delay`.
const PARENT_HOLD: Duration = Duration::from_secs(45);

/// Ended incidents that are remembered: a verdict comes within minutes, and a thousand in that time is everything.
const ENDED: usize = 1_000;

/// Everything that alerting knows.
pub struct Desk {
    alerting: Alerting,
    seats: Vec<Seat>,
    by_name: HashMap<String, usize>,
    /// What channels know of the incidents that are open or not wholly told of.
    heads: HashMap<String, Told>,
    isolation: Isolation,
    /// The prober's own incident.
    isolated: Option<Incident>,
    /// The newest that have ended: a verdict on one may still come.
    ended: VecDeque<Incident>,
    /// Where each open incident is: at a target, or the prober's own.
    places: BTreeMap<String, Option<usize>>,
    silences: Vec<Silence>,
    /// Maintenance windows that hold now, by their place in the configuration.
    windows: BTreeSet<usize>,
    words: Words,
}

/// Where a person sees the trace of a probe: by the target's name, the trace and its time.
pub type TracePage = Arc<dyn Fn(&str, TraceId, SystemTime) -> Option<String> + Send + Sync>;

/// What notices say besides the incident.
#[derive(Clone, Default)]
pub struct Words {
    /// The configuration's path, for the command that repeats a probe.
    pub file: String,
    /// The page of a trace in its backend.
    pub trace_page: Option<TracePage>,
}

/// One target.
struct Seat {
    target: Arc<Target>,
    watched: Watched,
    parent: Option<usize>,
    children: Vec<usize>,
    /// It is not on this machine.
    remote: bool,
    last: Option<LastSeen>,
    /// Start of the last probe that had a result, and of the last that failed.
    probed: Option<SystemTime>,
    failed: Option<SystemTime>,
    /// When its last outage ended.
    recovered: Option<SystemTime>,
}

/// What the channels know of an incident.
#[derive(Default)]
struct Told {
    heads: BTreeMap<String, Head>,
    /// Notices that have not arrived yet.
    waiting: u32,
    /// The incident, once it has ended: a `fallback` may still have to be told of it.
    ended: Option<Incident>,
}

/// What a result makes of its target, and what is to be remembered and done.
#[derive(Debug, Default)]
pub struct Reaction {
    /// The result as it counts: failures that are our own are `unknown`.
    pub state: State,
    /// The state before.
    pub before: State,
    /// Start of the probe that first found the state that is shown.
    pub since: Option<SystemTime>,
    /// The state that is shown.
    pub shown: State,
    /// A failure waits for its confirmation.
    pub suspect: bool,
    /// The open incident that is shown with the target.
    pub incident: Option<String>,
    /// To be remembered in one transaction.
    pub changes: Vec<AlertChange>,
    /// Targets to be probed, and when from now.
    pub requests: Vec<(usize, Duration)>,
}

/// What the store remembers of a target.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Option<SystemTime>,
    /// Its open incidents.
    pub open: Vec<Incident>,
    /// [`super::Memory`] as JSON.
    pub memory: Option<String>,
}

impl Desk {
    /// A desk for these targets, of which `remembered` tells what the store knows.
    pub fn new(
        alerting: Alerting,
        targets: &[Arc<Target>],
        words: Words,
        mut remembered: impl FnMut(&Target) -> Remembered,
    ) -> Self {
        let mut watched = |target: &Arc<Target>| {
            let known = remembered(target);
            Watched::remembered(
                known.state,
                known.since,
                known.open,
                known.memory.as_deref(),
            )
        };
        let seats = targets
            .iter()
            .map(|target| Seat::new(target, watched(target)))
            .collect();
        let mut desk = Self {
            alerting,
            seats,
            by_name: HashMap::new(),
            heads: HashMap::new(),
            isolation: Isolation::default(),
            isolated: None,
            ended: VecDeque::new(),
            places: BTreeMap::new(),
            silences: Vec::new(),
            windows: BTreeSet::new(),
            words,
        };
        desk.seat_families();
        desk
    }

    /// What channels were told of incidents before this run: by incident and channel, and how many notices have not
    /// arrived yet.
    pub fn remember_told(
        &mut self,
        incident: &str,
        heads: impl IntoIterator<Item = (String, Head)>,
        waiting: u32,
    ) {
        let told = self.heads.entry(incident.to_owned()).or_default();
        told.heads.extend(heads);
        told.waiting = waiting;
    }

    /// An incident that has ended, of which not everybody has been told.
    pub fn remember_ended(&mut self, incident: Incident) {
        let told = self.heads.entry(incident.id.clone()).or_default();
        told.ended = Some(incident);
    }

    /// A store that could not be read at the start tells of an incident. It is ours from now on, unless there is one of
    /// its kind already: then it ends, and who was told of it is told so.
    pub fn adopt(&mut self, incident: Incident, now: SystemTime) -> Vec<AlertChange> {
        let seat = incident.server.as_ref();
        let seat = seat.and_then(|server| self.by_name.get(server).copied());
        let mut changes = Vec::new();
        if let Some(seat) = seat.and_then(|seat| self.seats.get_mut(seat))
            && seat.watched.incident(incident.kind).is_none()
        {
            seat.watched.open.push(incident.clone());
            self.record(
                vec![AlertChange::Incident(Box::new(incident))],
                now,
                &mut changes,
            );
            return changes;
        }
        let state = incident.state;
        let incident = resolved(incident, Resolution::Superseded, now, state);
        let text = "a newer incident has taken its place";
        let ended = vec![
            timeline(&incident, TimelineKind::Resolved, text, now),
            AlertChange::Incident(Box::new(incident)),
        ];
        self.record(ended, now, &mut changes);
        changes
    }

    /// Ends an incident of a target that is not in the configuration any more.
    pub fn end_removed(&mut self, incident: Incident, now: SystemTime) -> Vec<AlertChange> {
        let state = incident.state;
        let incident = resolved(incident, Resolution::Removed, now, state);
        let text = "the server is not in the configuration any more";
        let ended = vec![
            timeline(&incident, TimelineKind::Resolved, text, now),
            AlertChange::Incident(Box::new(incident)),
        ];
        let mut changes = Vec::new();
        self.record(ended, now, &mut changes);
        changes
    }

    /// The prober was isolated when the last run ended.
    pub fn remember_isolated(&mut self, incident: Incident) {
        self.isolation.remember(incident.first_failed_at);
        self.places.insert(incident.id.clone(), None);
        self.isolated = Some(incident);
    }

    /// The controls that are to be asked: for each, whether it is known to have worked.
    pub fn set_controls(&mut self, worked: &[bool]) {
        self.isolation.set_controls(worked);
    }

    /// Which controls have ever worked.
    pub fn worked_controls(&self) -> Vec<bool> {
        self.isolation.worked()
    }

    fn seat_families(&mut self) {
        let names = self.seats.iter().map(|seat| seat.target.name.clone());
        self.by_name = names.zip(0..).collect();
        self.places = self
            .seats
            .iter()
            .enumerate()
            .flat_map(|(index, seat)| {
                let open = seat.watched.open.iter();
                open.map(move |incident| (incident.id.clone(), Some(index)))
            })
            .chain(self.isolated.iter().map(|own| (own.id.clone(), None)))
            .collect();
        for index in 0..self.seats.len() {
            let parent = self
                .seats
                .get(index)
                .and_then(|seat| seat.target.parent.as_ref())
                .and_then(|name| self.by_name.get(name).copied());
            if let Some(seat) = self.seats.get_mut(index) {
                seat.parent = parent;
                seat.children.clear();
            }
        }
        for index in 0..self.seats.len() {
            let parent = self.seats.get(index).and_then(|seat| seat.parent);
            if let Some(parent) = parent.and_then(|parent| self.seats.get_mut(parent)) {
                parent.children.push(index);
            }
        }
    }

    /// The target at this place, as alerting knows it.
    pub fn watched(&self, index: usize) -> Option<&Watched> {
        self.seats.get(index).map(|seat| &seat.watched)
    }

    /// Every open incident.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        let targets = self.seats.iter().flat_map(|seat| &seat.watched.open);
        targets.chain(&self.isolated)
    }

    /// Since when the prober's own network is gone.
    pub fn isolated_since(&self) -> Option<SystemTime> {
        self.isolation.since()
    }

    /// Targets of which a failure waits for its confirmation.
    pub fn suspects(&self) -> impl Iterator<Item = usize> {
        let numbered = self.seats.iter().enumerate();
        numbered
            .filter(|(_, seat)| seat.watched.is_suspect())
            .map(|(index, _)| index)
    }

    /// Whether the controls should be asked often: it is, or may be, us.
    pub fn is_uneasy(&self, now: SystemTime) -> bool {
        self.isolation.since().is_some() || self.isolation.is_doubtful(now)
    }

    /// A result may be the prober's own fault: the controls have to be asked before it is taken in.
    pub fn needs_controls(&self, index: usize, found: &Seen) -> bool {
        let remote = self.seats.get(index).is_some_and(|seat| seat.remote);
        remote && is_cut(found) && self.isolation.can_tell() && self.enough_remote()
    }

    /// There are enough targets elsewhere for an isolation to be told from their outages.
    pub fn enough_remote(&self) -> bool {
        self.remote().take(LEAST_TARGETS).count() == LEAST_TARGETS
    }

    fn remote(&self) -> impl Iterator<Item = (usize, &Seat)> {
        self.seats
            .iter()
            .enumerate()
            .filter(|(_, seat)| seat.remote)
    }

    /// Takes in a result.
    pub fn observe(&mut self, index: usize, mut found: Seen, now: SystemTime) -> Reaction {
        let mut reaction = Reaction::default();
        let Some(seat) = self.seats.get_mut(index) else {
            return reaction;
        };
        let cut = seat.remote && is_cut(&found);
        if seat.remote && found.state != State::Unknown {
            seat.last = Some(LastSeen { at: found.at, cut });
        }
        if cut {
            self.decide(now, &mut reaction);
        }
        let ours = cut && self.isolation.explains(found.at);
        let doubtful = cut && self.isolation.is_doubtful(now);
        let Some(seat) = self.seats.get_mut(index) else {
            return reaction;
        };
        if ours {
            found.state = State::Unknown;
        }
        found.doubtful = doubtful;
        let seen = found;
        seat.note(&seen);
        let before = seat.watched.state;
        let was_down = seat.is_down();
        let rules = Rules {
            policy: &self.alerting.policy,
            severities: &self.alerting.severities,
        };
        let step = seat.watched.advance(&seat.target.name, &seen, rules, now);
        if step.confirm {
            let after = self.alerting.policy.confirm_delay;
            reaction.requests.push((index, after));
        }
        if was_down && !seat.is_down() {
            seat.recovered = Some(now);
            // What hung on it is judged afresh.
            let children = seat.children.iter().map(|child| (*child, Duration::ZERO));
            reaction.requests.extend(children);
        }
        if let Some(parent) = seat.parent
            && seen.state.failed()
            && !was_down
        {
            reaction.requests.push((parent, Duration::ZERO));
        }
        let seat = &*seat;
        reaction.state = seen.state;
        reaction.before = before;
        reaction.shown = seat.watched.state;
        reaction.since = seat.watched.since;
        reaction.suspect = seat.watched.is_suspect();
        self.record(step.changes, now, &mut reaction.changes);
        reaction.incident = self.shown_incident(index);
        reaction
    }

    /// Of several the gravest kind.
    fn shown_incident(&self, index: usize) -> Option<String> {
        let open = &self.seats.get(index)?.watched.open;
        let gravest = open.iter().min_by_key(|incident| incident.kind)?;
        Some(gravest.id.clone())
    }

    /// Takes in what all the controls said.
    pub fn observe_controls(&mut self, works: &[bool], now: SystemTime) -> Reaction {
        let mut reaction = Reaction::default();
        match self.isolation.observe_controls(works, now) {
            Some(Turned::Doubtful) => {
                // One look at everybody tells whether it is us.
                let remote = self.remote().map(|(index, _)| (index, Duration::ZERO));
                reaction.requests.extend(remote);
            }
            Some(Turned::Connected) => self.connected(now, &mut reaction),
            Some(Turned::Isolated) | None => {}
        }
        self.decide(now, &mut reaction);
        reaction
    }

    /// The wall clock has jumped, by a suspend or by being set.
    pub fn jumped(&mut self, now: SystemTime) {
        self.isolation.jumped(now);
    }

    fn decide(&mut self, now: SystemTime, reaction: &mut Reaction) {
        if !self.isolation.is_doubtful(now) || self.isolation.since().is_some() {
            return;
        }
        let last: Vec<_> = self.remote().map(|(_, seat)| seat.last).collect();
        if self.isolation.decide(&last, now) != Some(Turned::Isolated) {
            return;
        }
        let cut = last.iter().flatten().filter(|last| last.cut).count();
        let message = format!(
            "mcpprobe itself is cut off: {cut} of {} servers elsewhere cannot be reached, and a control that worked before fails; none of them is judged until that is over",
            last.len()
        );
        let first = last.iter().flatten().filter(|last| last.cut);
        let since = first.map(|last| last.at).min().unwrap_or(now);
        let mut id = TraceId::random().to_string();
        id.truncate(12);
        let incident = Incident {
            id,
            server: None,
            kind: IncidentKind::Isolated,
            severity: self.alerting.severities.isolated,
            state: State::Unknown,
            failed_layer: Some(Layer::Transport),
            reason: None,
            message: Text::new(message),
            trace_id: None,
            first_failed_at: since,
            opened_at: now,
            resolved_at: None,
            resolution: None,
            flapping: false,
            acknowledged: None,
            suppressed: None,
            verdict: None,
            verdict_reason: None,
            provisional: None,
        };
        let opened = timeline(
            &incident,
            TimelineKind::Opened,
            incident.message.as_str(),
            now,
        );
        self.isolated = Some(incident.clone());
        let changes = vec![opened, AlertChange::Incident(Box::new(incident))];
        self.record(changes, now, &mut reaction.changes);
    }

    fn connected(&mut self, now: SystemTime, reaction: &mut Reaction) {
        // What really was down is judged afresh.
        let remote = self.remote().map(|(index, _)| (index, Duration::ZERO));
        reaction.requests.extend(remote);
        let Some(incident) = self.isolated.take() else {
            return;
        };
        let incident = resolved(incident, Resolution::Recovered, now, State::Up);
        let entry = timeline(
            &incident,
            TimelineKind::Resolved,
            "the controls work again",
            now,
        );
        let changes = vec![entry, AlertChange::Incident(Box::new(incident))];
        self.record(changes, now, &mut reaction.changes);
    }

    /// What a verdict on an open incident changes.
    pub fn judged(
        &mut self,
        id: &str,
        verdict: Verdict,
        reason: &Text,
        provisional: bool,
        now: SystemTime,
    ) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        let ended = !self.places.contains_key(id);
        let incident = match ended {
            true => self.ended.iter_mut().find(|incident| incident.id == id),
            false => self.open_mut(id),
        };
        let Some(incident) = incident else {
            return changes;
        };
        let known = incident.verdict;
        incident.verdict = Some(verdict);
        incident.verdict_reason = Some(reason.clone());
        incident.provisional = Some(provisional);
        let incident = incident.clone();
        let mut told = Vec::new();
        if known != Some(verdict) {
            let text = format!("{}: {reason}", verdict.as_str());
            told.push(timeline(&incident, TimelineKind::Verdict, text, now));
        }
        told.push(AlertChange::Incident(Box::new(incident)));
        if ended {
            // Nothing follows a resolution.
            return told;
        }
        self.record(told, now, &mut changes);
        changes
    }

    /// What persons have ordered: the silences that hold, and who has taken what.
    pub fn ordered(&mut self, orders: Orders, now: SystemTime) -> Vec<AlertChange> {
        self.silences = orders.silences;
        let mut told = Vec::new();
        for (id, acknowledgement) in orders.acknowledged {
            if let Some(incident) = self.open_mut(&id)
                && incident.acknowledged.is_none()
            {
                let text = format!("acknowledged by {}", acknowledgement.by);
                incident.acknowledged = Some(acknowledgement);
                let incident = incident.clone();
                told.push(timeline(&incident, TimelineKind::Acknowledged, text, now));
                told.push(AlertChange::Incident(Box::new(incident)));
            }
        }
        let mut changes = Vec::new();
        self.record(told, now, &mut changes);
        changes.extend(self.tick(now).changes);
        changes
    }

    /// What became of a notice. What its channel could not deliver goes to the channel's `fallback`.
    pub fn delivered(&mut self, delivery: &Delivery, now: SystemTime) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        match delivery.outcome {
            DeliveryOutcome::Failed(_) => return changes,
            DeliveryOutcome::Delivered => {}
            DeliveryOutcome::GivenUp(_) => self.fall_back(delivery, now, &mut changes),
        }
        let open = self.places.contains_key(&delivery.incident);
        if let Some(told) = self.heads.get_mut(&delivery.incident) {
            told.waiting = told.waiting.saturating_sub(1);
            if !open && told.waiting == 0 {
                self.heads.remove(&delivery.incident);
            }
        }
        changes
    }

    /// Tells the channel's `fallback` of the incident, unless it knows: by a route of its own, or because another
    /// notice was given up.
    fn fall_back(&mut self, delivery: &Delivery, now: SystemTime, changes: &mut Vec<AlertChange>) {
        let Some(fallback) = self
            .channel(&delivery.channel)
            .and_then(|channel| channel.fallback.clone())
        else {
            return;
        };
        if self.next_sequence(&delivery.incident, &fallback) > 1 {
            return;
        }
        if let Some(incident) = self.incident(&delivery.incident).cloned() {
            self.notify(&incident, &fallback, NoticeEvent::Opened, now, changes);
            return;
        }
        let told = self.heads.get(&delivery.incident);
        if let Some(ended) = told.and_then(|told| told.ended.clone()) {
            // It has to hear of it all the same, and of both.
            let open = Incident {
                resolved_at: None,
                resolution: None,
                state: match ended.kind {
                    IncidentKind::Outage => State::Down,
                    IncidentKind::Degraded => State::Degraded,
                    IncidentKind::Intermittent => ended.state,
                    IncidentKind::Isolated => State::Unknown,
                },
                ..ended.clone()
            };
            self.notify(&open, &fallback, NoticeEvent::Opened, now, changes);
            self.notify(&ended, &fallback, NoticeEvent::Resolved, now, changes);
        }
    }

    /// What time alone changes: escalations, reminders, the ends of windows. To be called every second or so.
    pub fn tick(&mut self, now: SystemTime) -> Reaction {
        let mut reaction = Reaction::default();
        self.decide(now, &mut reaction);
        if self.places.is_empty() {
            return reaction;
        }
        self.windows = windows(&self.alerting.maintenance, now);
        let open: Vec<_> = self.places.keys().cloned().collect();
        for id in open {
            self.tell(&id, now, &mut reaction.changes);
        }
        reaction
    }

    /// Passes changes on, and tells the channels of the incidents in them.
    fn record(&mut self, changes: Vec<AlertChange>, now: SystemTime, out: &mut Vec<AlertChange>) {
        if changes.is_empty() {
            return;
        }
        self.windows = windows(&self.alerting.maintenance, now);
        let mut touched = BTreeMap::new();
        for change in &changes {
            if let AlertChange::Incident(incident) = change {
                touched.insert(incident.id.clone(), incident.clone());
            }
        }
        out.extend(changes);
        for (id, incident) in touched {
            if incident.resolved_at.is_some() {
                self.places.remove(&id);
                self.ended.push_back((*incident).clone());
                if self.ended.len() > ENDED {
                    self.ended.pop_front();
                }
                self.tell_end(&incident, now, out);
            } else {
                let place = incident.server.as_ref();
                let place = place.and_then(|server| self.by_name.get(server).copied());
                self.places.insert(id.clone(), place);
                self.tell(&id, now, out);
            }
        }
    }

    /// Tells every channel that knows of an incident that it has ended.
    fn tell_end(&mut self, incident: &Incident, now: SystemTime, out: &mut Vec<AlertChange>) {
        let Some(told) = self.heads.get(&incident.id) else {
            return;
        };
        let knowing: Vec<_> = told
            .heads
            .iter()
            .filter(|(_, head)| !head.ended)
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in knowing {
            self.notify(incident, &channel, NoticeEvent::Resolved, now, out);
        }
        if let Some(told) = self.heads.get_mut(&incident.id) {
            told.ended = Some(incident.clone());
        }
        if self
            .heads
            .get(&incident.id)
            .is_some_and(|told| told.waiting == 0)
        {
            self.heads.remove(&incident.id);
        }
    }

    /// Tells the channels what they should know of an open incident by now.
    fn tell(&mut self, id: &str, now: SystemTime, out: &mut Vec<AlertChange>) {
        let Some(incident) = self.incident(id) else {
            return;
        };
        let held = self.held(incident, now);
        if let Some(suppressed) = &held
            && *suppressed != incident.suppressed
        {
            let text = match suppressed {
                Some(why) => format!("no notice: {why}"),
                None => "notices go out again".to_owned(),
            };
            let suppressed = suppressed.clone();
            if let Some(incident) = self.open_mut(id) {
                incident.suppressed = suppressed;
                let incident = incident.clone();
                out.push(timeline(&incident, TimelineKind::Suppressed, text, now));
                out.push(AlertChange::Incident(Box::new(incident)));
            }
        }
        if held != Some(None) {
            return;
        }
        let Some(incident) = self.incident(id).cloned() else {
            return;
        };
        for (channel, event) in self.wanted(&incident, now) {
            self.notify(&incident, &channel, event, now, out);
        }
    }

    /// Which notices an open incident wants by now.
    fn wanted(&self, incident: &Incident, now: SystemTime) -> Vec<(String, NoticeEvent)> {
        let told = self.heads.get(&incident.id);
        // What lies in the future was noted before the clock was set back: long ago.
        let since = |at: SystemTime| now.duration_since(at).unwrap_or(Duration::MAX);
        let age = since(incident.opened_at);
        let taken = incident.acknowledged.is_some();
        let mut wanted: Vec<(String, NoticeEvent)> = Vec::new();
        for channel in &self.alerting.channels {
            let name = &channel.name;
            let mut routes = self.routes_to(name, incident, now);
            let Some(head) = told.and_then(|told| told.heads.get(name)) else {
                let due = |after: Duration| age >= after && (after.is_zero() || !taken);
                let open = match self.alerting.routes.is_empty() {
                    true => true,
                    false => routes.any(|route| due(route.after)),
                };
                if open {
                    wanted.push((name.clone(), NoticeEvent::Opened));
                }
                continue;
            };
            if head.is_behind(incident) {
                wanted.push((name.clone(), NoticeEvent::Updated));
                continue;
            }
            let silent_for = since(head.last_at);
            let repeat = |route: &Route| {
                age >= route.after && route.repeat.is_some_and(|repeat| silent_for >= repeat)
            };
            if !taken && routes.any(repeat) {
                wanted.push((name.clone(), NoticeEvent::Reminder));
            }
        }
        wanted
    }

    fn routes_to<'d>(
        &'d self,
        channel: &'d str,
        incident: &'d Incident,
        now: SystemTime,
    ) -> impl Iterator<Item = &'d Route> {
        let tags = self.tags(incident);
        self.alerting.routes.iter().filter(move |route| {
            route.channels.iter().any(|name| name == channel)
                && matches(route, incident, tags)
                && route
                    .hours
                    .as_ref()
                    .is_none_or(|hours| hours.matches_minute(now))
        })
    }

    fn tags(&self, incident: &Incident) -> &[String] {
        self.seat_of(incident)
            .map_or(&[], |seat| seat.target.tags.as_slice())
    }

    fn seat_of(&self, incident: &Incident) -> Option<&Seat> {
        let index = self.by_name.get(incident.server.as_ref()?)?;
        self.seats.get(*index)
    }

    /// Why no notice opens now: `Some(None)` when nothing is in the way, `None` when that will be known in a moment.
    fn held(&self, incident: &Incident, now: SystemTime) -> Option<Option<Text>> {
        let seat = self.seat_of(incident);
        // What is said of everything is said of the prober itself, too.
        let covers =
            |servers: &[String], tags: &[String], named: &dyn Fn(&Target) -> bool| match seat {
                Some(seat) => named(&seat.target),
                None => servers.is_empty() && tags.is_empty(),
            };
        for silence in &self.silences {
            let named = |target: &Target| silence.covers(target);
            if silence.holds(now) && covers(&silence.servers, &silence.tags, &named) {
                let text = format!("silence {}: {}", silence.id, silence.reason);
                return Some(Some(Text::new(text)));
            }
        }
        for window in &self.windows {
            if let Some(window) = self.alerting.maintenance.get(*window)
                && covers(&window.servers, &window.tags, &|target| {
                    window.covers(target)
                })
            {
                return Some(Some(Text::new(format!("maintenance {}", window.name))));
            }
        }
        let Some(seat) = seat else {
            return Some(None);
        };
        let mut parent = seat.parent;
        // As many steps as there are targets, lest a circle holds us for ever.
        for _ in 0..self.seats.len() {
            let Some(above) = parent.and_then(|parent| self.seats.get(parent)) else {
                break;
            };
            if above.is_down() {
                let text = format!("its parent {} is down", above.target.name);
                return Some(Some(Text::new(text)));
            }
            let waited = now
                .duration_since(incident.opened_at)
                .map_or(true, |age| age >= PARENT_HOLD);
            let asked = above
                .probed
                .is_some_and(|probed| probed >= incident.first_failed_at);
            if !waited && (above.watched.may_be_down() || !asked) {
                return None;
            }
            // It has come back; whether we have with it, only a probe since then can tell.
            if let Some(recovered) = above.recovered
                && seat.failed.is_none_or(|failed| failed < recovered)
                && now
                    .duration_since(recovered)
                    .is_ok_and(|since| since < PARENT_HOLD)
            {
                return None;
            }
            parent = above.parent;
        }
        Some(None)
    }

    fn notify(
        &mut self,
        incident: &Incident,
        channel: &str,
        event: NoticeEvent,
        now: SystemTime,
        out: &mut Vec<AlertChange>,
    ) {
        let seat = self.seat_of(incident);
        let group = self.channel(channel).map_or(Duration::ZERO, |c| c.group);
        let notice = Notice {
            channel: channel.to_owned(),
            sequence: self.next_sequence(&incident.id, channel),
            event,
            created_at: now,
            due_at: now + group,
            incident: incident.clone(),
            tags: self.tags(incident).to_vec(),
            endpoint: seat.map(|seat| Text::new(seat.target.endpoint.shown())),
            links: self.words.links(incident),
            command: seat.map(|seat| self.words.command(&seat.target.name)),
            take: Some(self.words.take(incident)),
        };
        let told = self.heads.entry(incident.id.clone()).or_default();
        told.heads.insert(channel.to_owned(), Head::after(&notice));
        told.waiting += 1;
        out.push(said(&notice));
        out.push(AlertChange::Notice(Box::new(notice)));
    }

    fn next_sequence(&self, incident: &str, channel: &str) -> u32 {
        let head = self
            .heads
            .get(incident)
            .and_then(|told| told.heads.get(channel));
        head.map_or(0, |head| head.sequence) + 1
    }

    fn channel(&self, name: &str) -> Option<&ChannelSettings> {
        self.alerting.channels.iter().find(|c| c.name == name)
    }

    fn incident(&self, id: &str) -> Option<&Incident> {
        match self.places.get(id)? {
            Some(index) => {
                let open = &self.seats.get(*index)?.watched.open;
                open.iter().find(|open| open.id == id)
            }
            None => self.isolated.as_ref(),
        }
    }

    fn open_mut(&mut self, id: &str) -> Option<&mut Incident> {
        match self.places.get(id)? {
            Some(index) => {
                let open = &mut self.seats.get_mut(*index)?.watched.open;
                open.iter_mut().find(|open| open.id == id)
            }
            None => self.isolated.as_mut(),
        }
    }

    /// Goes on with other targets and another policy. Targets that keep their name keep what is known of them; the
    /// incidents of those that are gone end.
    pub fn reload(
        &mut self,
        alerting: Alerting,
        targets: &[Arc<Target>],
        words: Words,
        now: SystemTime,
    ) -> Vec<AlertChange> {
        let mut before: HashMap<String, Seat> = std::mem::take(&mut self.seats)
            .into_iter()
            .map(|seat| (seat.target.name.clone(), seat))
            .collect();
        for target in targets {
            let seat = match before.remove(&target.name) {
                Some(seat) => Seat {
                    remote: target.is_remote(),
                    target: Arc::clone(target),
                    ..seat
                },
                None => Seat::new(target, Watched::default()),
            };
            self.seats.push(seat);
        }
        self.seat_families();
        self.alerting = alerting;
        self.words = words;
        let mut changes = Vec::new();
        for seat in before.into_values() {
            for incident in seat.watched.open {
                changes.extend(self.end_removed(incident, now));
            }
        }
        changes.extend(self.tick(now).changes);
        changes
    }
}

impl Seat {
    fn new(target: &Arc<Target>, watched: Watched) -> Self {
        Self {
            remote: target.is_remote(),
            target: Arc::clone(target),
            watched,
            parent: None,
            children: Vec::new(),
            last: None,
            probed: None,
            failed: None,
            recovered: None,
        }
    }

    /// Nothing gets through it. One that wants a credential is alive.
    fn is_down(&self) -> bool {
        let outage = self.watched.incident(IncidentKind::Outage);
        self.watched.state == State::Down
            || outage.is_some_and(|incident| incident.state == State::Down)
    }

    fn note(&mut self, seen: &Seen) {
        if seen.state == State::Unknown {
            return;
        }
        self.probed = Some(seen.at);
        if seen.state.failed() {
            self.failed = Some(seen.at);
        }
    }
}

impl Words {
    fn command(&self, name: &str) -> String {
        format!(
            "mcpprobe check {} --only {} -v",
            word(&self.file),
            word(name)
        )
    }

    fn take(&self, incident: &Incident) -> String {
        format!(
            "mcpprobe incidents ack {} {}",
            incident.id,
            word(&self.file)
        )
    }

    fn links(&self, incident: &Incident) -> Vec<Link> {
        let page = || {
            let page = self.trace_page.as_ref()?;
            let server = incident.server.as_deref()?;
            page(server, incident.trace_id?, incident.first_failed_at)
        };
        page()
            .map(|url| Link {
                name: "trace".to_owned(),
                url,
            })
            .into_iter()
            .collect()
    }
}

/// As a shell takes it for one word.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// It failed in a way that a dead network of our own would explain.
fn is_cut(found: &Seen) -> bool {
    found.state.failed()
        && found.failed_layer == Some(Layer::Transport)
        && !matches!(
            found.reason,
            Some(Reason::ConnectionRefused | Reason::Expectation)
        )
}

fn matches(route: &Route, incident: &Incident, tags: &[String]) -> bool {
    fn any<T: PartialEq>(wanted: &[T], has: Option<&T>) -> bool {
        wanted.is_empty() || has.is_some_and(|has| wanted.contains(has))
    }
    any(&route.servers, incident.server.as_ref())
        && (route.tags.is_empty() || route.tags.iter().any(|tag| tags.contains(tag)))
        && any(&route.severities, Some(&incident.severity))
        && any(&route.layers, incident.failed_layer.as_ref())
        && any(&route.verdicts, incident.verdict.as_ref())
}

/// The windows that hold at `now`.
fn windows(maintenance: &[Maintenance], now: SystemTime) -> BTreeSet<usize> {
    let numbered = maintenance.iter().enumerate();
    numbered
        .filter(|(_, window)| window.holds(now))
        .map(|(index, _)| index)
        .collect()
}

fn timeline(
    incident: &Incident,
    what: TimelineKind,
    text: impl AsRef<str>,
    now: SystemTime,
) -> AlertChange {
    AlertChange::Timeline(TimelineEntry {
        incident: incident.id.clone(),
        at: now,
        what,
        text: Text::new(text),
    })
}

/// The timeline's line of a notice.
fn said(notice: &Notice) -> AlertChange {
    let text = format!(
        "{} to {} (notice {})",
        notice.event, notice.channel, notice.sequence
    );
    timeline(
        &notice.incident,
        TimelineKind::Notice,
        text,
        notice.created_at,
    )
}
