//! From results to incidents, for one target: [`Watched::advance`] is a fold over its probes. Pure.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::track::{Sample, Settled, Track};
use crate::model::{
    AlertChange, Count, Frequency, Incident, IncidentKind, Layer, Policy, ProbeResult, Reason,
    Resolution, Severities, State, Text, TimelineEntry, TimelineKind, TraceId, spoken,
};

/// What a probe found, as far as alerting goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its start.
    pub at: SystemTime,
    /// What it found the target to be.
    pub state: State,
    /// The layer that failed.
    pub failed_layer: Option<Layer>,
    /// Why.
    pub reason: Option<Reason>,
    /// Why, in a sentence.
    pub message: Text,
    /// Its trace.
    pub trace_id: TraceId,
    /// It failed in a way that the prober's own network may be the cause of, and that has not been ruled out. The desk
    /// finds that out.
    pub doubtful: bool,
}

impl From<&ProbeResult> for Seen {
    fn from(result: &ProbeResult) -> Self {
        Self {
            at: result.started_at,
            state: result.state,
            failed_layer: result.failed_layer(),
            reason: result.reason(),
            message: result.message().cloned().unwrap_or_default(),
            trace_id: result.trace_id,
            doubtful: false,
        }
    }
}

/// When trouble becomes an incident, and how bad it is.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// `[alerting]`.
    pub policy: &'a Policy,
    /// The same.
    pub severities: &'a Severities,
}

/// A target as alerting knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Its state by the last probe that counted.
    pub state: State,
    /// Start of the probe that first found it.
    pub since: Option<SystemTime>,
    /// Its open incidents, at most one of a kind.
    pub open: Vec<Incident>,
    /// What the next result is judged with.
    pub memory: Memory,
}

/// What is remembered of earlier probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    outage: Track,
    degraded: Track,
    /// Of the last probes, where there were any: which failures were refuted.
    refuted: VecDeque<Refuted>,
    /// When it went from working to failing or back.
    changes: VecDeque<SystemTime>,
    /// Whether the last probe that counted passed.
    worked: Option<bool>,
    /// What the last failed probe said, while it is only suspected.
    suspected: Option<Fault>,
}

/// What a failed probe said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fault {
    failed_layer: Option<Layer>,
    reason: Option<Reason>,
    message: Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refuted {
    at: SystemTime,
    refuted: bool,
}

/// What a result changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// A further probe is wanted, `confirm_delay` from now.
    pub confirm: bool,
    /// Incidents that opened, changed or ended, with their timelines.
    pub changes: Vec<AlertChange>,
}

impl Fault {
    fn of(seen: &Seen) -> Self {
        Self {
            failed_layer: seen.failed_layer,
            reason: seen.reason,
            message: seen.message.clone(),
        }
    }
}

impl Memory {
    /// As JSON, for the store; `None` when nothing in it would be missed. While an incident is open, the passes that
    /// will close it count.
    fn to_json(&self, is_open: bool) -> Option<String> {
        let quiet = !is_open
            && self.outage.is_unremarkable()
            && self.degraded.is_unremarkable()
            && self.changes.is_empty()
            && self.refuted.iter().all(|sample| !sample.refuted);
        if quiet {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// Reads it back; what cannot be read is as if nothing had been.
    pub fn from_json(json: Option<&str>) -> Self {
        json.and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }
}

impl Watched {
    /// A target as the store remembers it.
    pub fn remembered(
        state: State,
        since: Option<SystemTime>,
        open: Vec<Incident>,
        memory: Option<&str>,
    ) -> Self {
        let mut memory = Memory::from_json(memory);
        if memory.worked.is_none() && state != State::Unknown {
            memory.worked = Some(state.works());
        }
        Self {
            state,
            since,
            open,
            memory,
        }
    }

    /// What the next result is judged with, as JSON for the store; `None` when nothing in it would be missed.
    pub fn memory(&self) -> Option<String> {
        self.memory.to_json(!self.open.is_empty())
    }

    /// A failure waits for its confirmation.
    pub fn is_suspect(&self) -> bool {
        self.memory.outage.is_suspect() || self.memory.degraded.is_suspect()
    }

    /// A failure, and not a shortfall, waits for its confirmation.
    pub fn may_be_down(&self) -> bool {
        self.memory.outage.is_suspect()
    }

    /// The open incident of a kind.
    pub fn incident(&self, kind: IncidentKind) -> Option<&Incident> {
        self.open.iter().find(|incident| incident.kind == kind)
    }

    /// Takes in a result. Our own trouble (`unknown`) neither opens nor closes an incident.
    pub fn advance(&mut self, name: &str, seen: &Seen, rules: Rules<'_>, now: SystemTime) -> Step {
        let mut step = Step::default();
        if seen.state == State::Unknown {
            self.memory.outage.forget_suspicion();
            self.memory.degraded.forget_suspicion();
            self.memory.suspected = None;
            self.shows(State::Unknown, seen.at);
            return step;
        }
        let mut turn = Turn {
            name,
            seen,
            rules,
            now,
            step: &mut step,
        };
        let settled = self.outage(&mut turn);
        self.intermittent(settled, &mut turn);
        let degraded = self.degraded(&mut turn);
        self.show(settled, degraded, seen);
        step
    }

    fn outage(&mut self, turn: &mut Turn<'_>) -> Settled {
        let policy = turn.rules.policy;
        let open = self.incident(IncidentKind::Outage).is_some();
        let probe = turn.sample(turn.seen.state.failed());
        let track = &mut self.memory.outage;
        let settled = track.settle(probe, open, turn.seen.doubtful, policy);
        let (Settled::Bad(sample) | Settled::Good(sample) | Settled::Refuted(sample)) = settled
        else {
            turn.step.confirm = true;
            return settled;
        };
        let bad = matches!(settled, Settled::Bad(_));
        match settled {
            // It is none of the failures in a row, and no pass either.
            Settled::Refuted(_) if open => {}
            Settled::Refuted(_) => track.count(probe, kept(policy)),
            _ => {
                track.count(sample, kept(policy));
                self.memory.note_change(!bad, turn.seen.at);
            }
        }
        self.memory.prune_changes(policy.flapping, turn.now);
        self.flapping(turn);
        let flaps = policy.flapping.is_some_and(|rule| self.memory.flaps(rule));
        let track = &mut self.memory.outage;
        if bad && open {
            self.goes_on(IncidentKind::Outage, turn);
        } else if bad {
            if let Some(first) = track.opens(policy.down_after) {
                track.begin_anew();
                self.opens(IncidentKind::Outage, first, Fault::of(turn.seen), turn);
                self.flapping(turn);
            }
        } else if open
            && !flaps
            && let Some(since) = track.closes(policy.up_after)
        {
            track.begin_anew();
            self.closes(IncidentKind::Outage, since, turn);
        }
        settled
    }

    fn degraded(&mut self, turn: &mut Turn<'_>) -> Option<Settled> {
        let policy = turn.rules.policy;
        let track = &mut self.memory.degraded;
        if turn.seen.state.failed() {
            // It says nothing about how well it works when it works.
            track.forget_suspicion();
            return None;
        }
        let open = self
            .open
            .iter()
            .any(|incident| incident.kind == IncidentKind::Degraded);
        let probe = turn.sample(turn.seen.state == State::Degraded);
        let settled = track.settle(probe, open, false, policy);
        let (Settled::Bad(sample) | Settled::Good(sample) | Settled::Refuted(sample)) = settled
        else {
            turn.step.confirm = true;
            return Some(settled);
        };
        let bad = matches!(settled, Settled::Bad(_));
        track.count(if bad { sample } else { probe }, kept(policy));
        if bad && open {
            self.goes_on(IncidentKind::Degraded, turn);
        } else if bad {
            if let Some(first) = track.opens(policy.down_after) {
                track.begin_anew();
                self.opens(IncidentKind::Degraded, first, Fault::of(turn.seen), turn);
            }
        } else if open && let Some(since) = track.closes(policy.up_after) {
            track.begin_anew();
            self.closes(IncidentKind::Degraded, since, turn);
        }
        Some(settled)
    }

    fn intermittent(&mut self, settled: Settled, turn: &mut Turn<'_>) {
        let open = self.incident(IncidentKind::Intermittent).is_some();
        let down = self.incident(IncidentKind::Outage).is_some();
        let Some(rule) = turn.rules.policy.intermittent else {
            self.memory.refuted.clear();
            if open {
                self.closes(IncidentKind::Intermittent, turn.seen.at, turn);
            }
            return;
        };
        let (sample, refuted) = match settled {
            Settled::Pending => return,
            Settled::Refuted(sample) => (sample, true),
            Settled::Bad(sample) | Settled::Good(sample) => (sample, false),
        };
        let recent = &mut self.memory.refuted;
        // Passes alone are not worth remembering.
        if refuted || !recent.is_empty() {
            recent.push_back(Refuted {
                at: sample.at,
                refuted,
            });
        }
        while recent.len() > rule.of as usize || recent.front().is_some_and(|s| !s.refuted) {
            recent.pop_front();
        }
        let count = recent.iter().filter(|sample| sample.refuted).count();
        let needed = rule.needed as usize;
        if refuted && !open && count >= needed && !down {
            let since = recent.front().map_or(sample.at, |first| first.at);
            let mut fault = self.memory.suspected.take().unwrap_or(Fault::of(turn.seen));
            fault.message = Text::new(format!(
                "{count} of the last {} probes failed and passed when they were repeated; the last one: {}",
                rule.of, fault.message
            ));
            let first = Sample {
                at: since,
                ..sample
            };
            self.opens(IncidentKind::Intermittent, first, fault, turn);
        } else if open && count * 2 < needed {
            // Not at once when one is missing: it would open and close with each failure.
            self.closes(IncidentKind::Intermittent, turn.seen.at, turn);
        }
    }

    /// Whether the outage's recoveries are believed at present.
    fn flapping(&mut self, turn: &mut Turn<'_>) {
        let rule = turn.rules.policy.flapping;
        let flaps = rule.is_some_and(|rule| self.memory.flaps(rule));
        let count = self.memory.changes.len();
        let Some(incident) = self.open_mut(IncidentKind::Outage) else {
            return;
        };
        if incident.flapping == flaps {
            return;
        }
        incident.flapping = flaps;
        let text = match rule {
            Some(rule) if flaps => format!(
                "flapping: {count} changes of state within {}; it stays open until that ends",
                spoken(rule.within)
            ),
            _ => "flapping no more".to_owned(),
        };
        let incident = incident.clone();
        turn.say(&incident, TimelineKind::Flapping, text);
        turn.push(incident);
    }

    fn opens(&mut self, kind: IncidentKind, first: Sample, fault: Fault, turn: &mut Turn<'_>) {
        let seen = turn.seen;
        let mut id = first.trace.to_string();
        id.truncate(INCIDENT_ID);
        let failed = kind != IncidentKind::Intermittent;
        let state = if failed { seen.state } else { self.state };
        let incident = Incident {
            id,
            server: Some(turn.name.to_owned()),
            kind,
            severity: turn.rules.severities.of(kind, seen.state),
            state,
            failed_layer: fault.failed_layer,
            reason: fault.reason,
            message: fault.message,
            trace_id: Some(first.trace),
            first_failed_at: first.at,
            opened_at: turn.now,
            resolved_at: None,
            resolution: None,
            flapping: false,
            acknowledged: None,
            suppressed: None,
            verdict: None,
            verdict_reason: None,
            provisional: None,
        };
        turn.say(&incident, TimelineKind::Opened, incident.message.as_str());
        turn.push(incident.clone());
        self.open.push(incident);
    }

    /// What it is now, if that is something else than before; the worst severity stays.
    fn goes_on(&mut self, kind: IncidentKind, turn: &mut Turn<'_>) {
        let (seen, severity) = (turn.seen, turn.rules.severities.of(kind, turn.seen.state));
        let Some(incident) = self.open_mut(kind) else {
            return;
        };
        let before = (incident.state, incident.failed_layer, incident.reason);
        let after = (seen.state, seen.failed_layer, seen.reason);
        if before == after && incident.severity >= severity {
            return;
        }
        (incident.state, incident.failed_layer, incident.reason) = after;
        incident.message = seen.message.clone();
        incident.severity = incident.severity.max(severity);
        let incident = incident.clone();
        let layer = seen.failed_layer.map_or("", Layer::as_str);
        let reason = seen.reason.map_or("", Reason::as_str);
        let text = format!("{} {layer} {reason}: {}", seen.state.as_str(), seen.message);
        turn.say(&incident, TimelineKind::Changed, text);
        turn.push(incident);
    }

    fn closes(&mut self, kind: IncidentKind, since: SystemTime, turn: &mut Turn<'_>) {
        let Some(at) = self.open.iter().position(|open| open.kind == kind) else {
            return;
        };
        let incident = self.open.remove(at);
        let incident = resolved(incident, Resolution::Recovered, since, turn.seen.state);
        let length = since
            .duration_since(incident.first_failed_at)
            .unwrap_or_default();
        let text = format!("recovered after {}", spoken(length));
        turn.say(&incident, TimelineKind::Resolved, text);
        turn.push(incident);
    }

    fn open_mut(&mut self, kind: IncidentKind) -> Option<&mut Incident> {
        self.open.iter_mut().find(|incident| incident.kind == kind)
    }

    /// What is shown, and since when: what a failure that is only suspected says comes later, and counts from then on.
    fn show(&mut self, outage: Settled, degraded: Option<Settled>, seen: &Seen) {
        match (outage, degraded) {
            (Settled::Pending, _) => {}
            (Settled::Bad(first), _) | (_, Some(Settled::Bad(first))) => {
                self.shows(seen.state, first.at);
            }
            (_, Some(Settled::Pending)) if self.state == State::Up => {}
            _ => self.shows(seen.state, seen.at),
        }
        self.memory.suspected = if !self.is_suspect() {
            None
        } else if seen.state == State::Up {
            self.memory.suspected.take()
        } else {
            Some(Fault::of(seen))
        };
    }

    fn shows(&mut self, state: State, at: SystemTime) {
        if self.state != state || self.since.is_none() {
            self.since = Some(at);
        }
        self.state = state;
    }
}

/// Characters of an incident's id: 48 bits of a trace id, by which the first failed probe is found again.
const INCIDENT_ID: usize = 12;

/// An incident that has ended.
pub(super) fn resolved(
    incident: Incident,
    resolution: Resolution,
    at: SystemTime,
    state: State,
) -> Incident {
    Incident {
        resolved_at: Some(at.max(incident.first_failed_at)),
        resolution: Some(resolution),
        suppressed: None,
        state,
        ..incident
    }
}

/// Samples that any rule looks at.
fn kept(policy: &Policy) -> u32 {
    policy
        .down_after
        .of
        .max(policy.up_after.of)
        .min(Count::MOST)
}

impl Memory {
    fn note_change(&mut self, works: bool, at: SystemTime) {
        if self.worked.is_some_and(|worked| worked != works) {
            self.changes.push_back(at);
        }
        self.worked = Some(works);
    }

    fn prune_changes(&mut self, rule: Option<Frequency>, now: SystemTime) {
        // What lies in the future was noted before the clock was set back.
        let recent = |at: &SystemTime| {
            let age = now.duration_since(*at).ok();
            rule.zip(age).is_some_and(|(rule, age)| age < rule.within)
        };
        self.changes.retain(recent);
        while self.changes.len() > Count::MOST as usize {
            self.changes.pop_front();
        }
    }

    fn flaps(&self, rule: Frequency) -> bool {
        self.changes.len() >= rule.count as usize
    }
}

/// One result on its way through the rules.
struct Turn<'a> {
    name: &'a str,
    seen: &'a Seen,
    rules: Rules<'a>,
    now: SystemTime,
    step: &'a mut Step,
}

impl Turn<'_> {
    fn sample(&self, bad: bool) -> Sample {
        Sample {
            at: self.seen.at,
            trace: self.seen.trace_id,
            bad,
        }
    }

    fn say(&mut self, incident: &Incident, what: TimelineKind, text: impl AsRef<str>) {
        self.step.changes.push(AlertChange::Timeline(TimelineEntry {
            incident: incident.id.clone(),
            at: self.now,
            what,
            text: Text::new(text),
        }));
    }

    fn push(&mut self, incident: Incident) {
        self.step
            .changes
            .push(AlertChange::Incident(Box::new(incident)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const MINUTE: u64 = 60;

    fn seen(at: u64, state: State) -> Seen {
        let failing = state != State::Up && state != State::Unknown;
        Seen {
            at: UNIX_EPOCH + Duration::from_secs(at),
            state,
            failed_layer: failing.then_some(Layer::Http),
            reason: failing.then_some(Reason::HttpStatus),
            message: Text::new(if failing { "HTTP 503" } else { "" }),
            trace_id: TraceId::random(),
            doubtful: false,
        }
    }

    /// What happens to a target whose probes find these states: `u`p, `d`own, de`g`raded, `a`uth_required, `?` unknown,
    /// a minute apart; an upper-case letter comes 4 s after the one before, as a confirmation does. In the answer `(`
    /// and `)` are an outage's opening and end, `[` and `]` a degradation's, `<` and `>` those of intermittent
    /// failures, each after the probe that brings it.
    fn story(policy: Policy, probes: &str) -> String {
        let (mut watched, mut at, mut told) = (Watched::default(), 0, String::new());
        for probe in probes.chars() {
            at += if probe.is_ascii_uppercase() {
                4
            } else {
                MINUTE
            };
            let state = match probe.to_ascii_lowercase() {
                'u' => State::Up,
                'd' => State::Down,
                'g' => State::Degraded,
                'a' => State::AuthRequired,
                _ => State::Unknown,
            };
            let seen = seen(at, state);
            let rules = Rules {
                policy: &policy,
                severities: &Severities::default(),
            };
            let before = watched.open.clone();
            let step = watched.advance("a", &seen, rules, seen.at);
            told.push(probe);
            for change in step.changes {
                let AlertChange::Incident(incident) = change else {
                    continue;
                };
                let opened = !before.iter().any(|known| known.id == incident.id);
                let ended = incident.resolved_at.is_some();
                let signs = match incident.kind {
                    IncidentKind::Outage => ['(', ')'],
                    IncidentKind::Degraded => ['[', ']'],
                    _ => ['<', '>'],
                };
                if opened || ended {
                    told.push(signs[usize::from(ended)]);
                }
            }
        }
        told
    }

    fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
        let mut policy = Policy::default();
        change(&mut policy);
        policy
    }

    #[test]
    fn failures_are_confirmed_and_recoveries_are_believed_after_two() {
        let default = Policy::default();
        for told in [
            "udDD(ddudu",
            "udDD(uu)",
            // Refuted.
            "udUudDUuu",
            // The first probe of all.
            "dDD(uu)",
            // Our own trouble forgets a suspicion and neither opens nor closes.
            "udD?dDD(u?u)",
            // A graver failure of the same outage is none of its own.
            "aAA(dduu)",
            // Slow is not down, and gets its own confirmation; working badly ends an outage.
            "ugGuugGG[ggugguu]",
            "udDD(gG)G[uu]",
        ] {
            let probe = |c: &char| c.is_alphabetic() || *c == '?';
            let probes: String = told.chars().filter(probe).collect();
            assert_eq!(story(default, &probes), told);
        }
    }

    #[test]
    fn rules_in_a_row_and_of_many() {
        let at_once = policy(|p| p.confirm = 0);
        assert_eq!(story(at_once, "uduu"), "ud(uu)");
        let three = policy(|p| {
            p.confirm = 0;
            p.down_after = Count::in_a_row(3);
        });
        assert_eq!(story(three, "dduddd"), "dduddd(");
        let two_of_three = policy(|p| {
            p.confirm = 0;
            p.down_after = Count { needed: 2, of: 3 };
            p.up_after = Count::in_a_row(1);
        });
        // What led to the first outage does not count for a second one.
        assert_eq!(story(two_of_three, "dududd"), "dud(u)dd(");
        let up_of = policy(|p| {
            p.confirm = 0;
            p.up_after = Count { needed: 2, of: 3 };
        });
        assert_eq!(story(up_of, "uududu"), "uud(udu)");
    }

    #[test]
    fn an_outage_is_as_old_as_its_first_failure() {
        let policy = policy(|p| p.down_after = Count::in_a_row(2));
        let mut watched = Watched::default();
        let rules = Rules {
            policy: &policy,
            severities: &Severities::default(),
        };
        let probes: Vec<_> = [60, 64, 68, 120, 124, 128]
            .map(|at| seen(at, State::Down))
            .into();
        for probe in &probes {
            watched.advance("a", probe, rules, probe.at);
        }
        let incident = watched.incident(IncidentKind::Outage).unwrap();
        assert_eq!(incident.first_failed_at, probes[0].at);
        assert_eq!(incident.opened_at, probes[5].at);
        assert!(probes[0].trace_id.to_string().starts_with(&incident.id));
    }

    #[test]
    fn a_probe_of_the_schedule_that_comes_too_soon_does_not_confirm() {
        let mut watched = Watched::default();
        let default = Policy::default();
        let rules = Rules {
            policy: &default,
            severities: &Severities::default(),
        };
        for at in 100..105 {
            let seen = seen(at, State::Down);
            watched.advance("a", &seen, rules, seen.at);
        }
        assert!(watched.is_suspect() && watched.open.is_empty());
        assert_eq!(watched.state, State::Unknown);
        let seen = seen(106, State::Down);
        watched.advance("a", &seen, rules, seen.at);
        assert_eq!(watched.state, State::Down);
    }

    #[test]
    fn refuted_failures_warn_and_end_when_they_are_rare() {
        let default = Policy::default();
        let four = "dU".repeat(4);
        assert_eq!(story(default, &four), "dUdUdUdU<");
        // Three passes between them: the fourth of the last twenty comes at the thirteenth probe.
        assert_eq!(story(default, &"dUuuu".repeat(4)), "dUuuudUuuudUuuudU<uuu");
        // It ends when one of the four is left among the last twenty.
        let over = story(default, &format!("{four}{}", "u".repeat(20)));
        assert_eq!(over, format!("{four}<{}>u", "u".repeat(19)));
        let off = policy(|p| p.intermittent = None);
        assert_eq!(story(off, &four), four);
    }

    #[test]
    fn what_alternates_has_one_incident_that_says_so() {
        let flapping = policy(|p| {
            p.confirm = 0;
            p.up_after = Count::in_a_row(1);
        });
        // Six changes within ten minutes: from then on it stays open, until there were fewer.
        let told = story(flapping, &format!("u{}{}", "du".repeat(6), "u".repeat(12)));
        assert!(told.starts_with("ud(u)d(u)d(u"), "{told}");
        assert_eq!(told.matches('(').count(), 3, "{told}");
        assert_eq!(told.matches(')').count(), 3, "{told}");
    }

    #[test]
    fn doubtful_failures_stay_suspected() {
        let default = Policy::default();
        let rules = Rules {
            policy: &default,
            severities: &Severities::default(),
        };
        let mut watched = Watched::default();
        let probe = |at, doubtful| Seen {
            doubtful,
            ..seen(at, State::Down)
        };
        for at in [60, 120, 180, 240] {
            let step = watched.advance("a", &probe(at, true), rules, probe(at, true).at);
            assert!(step.confirm && watched.open.is_empty());
        }
        watched.advance("a", &probe(300, false), rules, probe(300, false).at);
        watched.advance("a", &probe(304, false), rules, probe(304, false).at);
        let incident = watched.incident(IncidentKind::Outage).unwrap();
        assert_eq!(incident.first_failed_at, probe(60, true).at);
    }

    #[test]
    fn memory_is_kept_where_it_matters() {
        let default = Policy::default();
        let rules = Rules {
            policy: &default,
            severities: &Severities::default(),
        };
        let mut watched = Watched::default();
        for at in 1..5 {
            let up = seen(at * MINUTE, State::Up);
            watched.advance("a", &up, rules, up.at);
        }
        assert_eq!(watched.memory(), None);
        let down = seen(300, State::Down);
        watched.advance("a", &down, rules, down.at);
        let json = watched.memory();
        assert_eq!(Memory::from_json(json.as_deref()), watched.memory);
        assert_eq!(Memory::from_json(Some("nonsense")), Memory::default());
    }
}
