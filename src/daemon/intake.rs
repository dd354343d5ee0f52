//! What comes in, and where it goes: results, deliveries, orders, time.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Daemon, Done, Ended, JUMP, Results, control};
use crate::alert::{Reaction, Watched};
use crate::config::Config;
use crate::model::{
    AlertChange, Delivery, DeliveryOutcome, Incident, IncidentKind, ProbeResult, Target,
    TimelineKind,
};
use crate::report::line;
use crate::report::live::Row;
use crate::schedule::Request;
use crate::store::{Recalled, Shown, Write, fact};

/// Conversations of failures that are not confirmed yet: when the whole fleet fails, nobody reads them all.
const CONVERSATIONS: usize = 1_000;

impl Daemon {
    /// Takes in what a runner has finished.
    pub(super) fn receive(&mut self, finished: Results, background: &mut JoinSet<Done>) {
        self.overruns += finished.overruns;
        let Some(ended) = finished.output else {
            self.finished();
            return;
        };
        let waits = self.asker.holds(&ended.target.name) || self.needs_controls(&ended);
        if waits {
            self.asker.hold(ended);
            self.ask_controls(background);
        } else {
            self.take_in(ended, background);
        }
    }

    /// Whether the controls have to be asked before this counts.
    pub(super) fn needs_controls(&self, ended: &Ended) -> bool {
        let index = || self.fleet.index_of(&ended.target);
        ended.result.state.failed()
            && index().is_some_and(|index| {
                let found = ended.result.as_ref().into();
                self.desk.needs_controls(index, &found)
            })
    }

    /// Something is over: for those who look whether we get on.
    fn finished(&self) {
        self.progress.finished(Instant::now());
    }

    /// Takes in one result: desk, store, spans, and who waits for it. Answers it as it counts: a failure of our own is
    /// `unknown`.
    pub(super) fn take_in(
        &mut self,
        ended: Ended,
        background: &mut JoinSet<Done>,
    ) -> Option<Arc<ProbeResult>> {
        self.finished();
        // A target that is gone, or has been changed: what was found is of no interest any more.
        let index = self.fleet.index_of(&ended.target)?;
        let Ended { target, result } = ended;
        let now = SystemTime::now();
        let confirmation = self.desk.watched(index).is_some_and(|w| w.is_suspect());
        let reaction = self.desk.observe(index, result.as_ref().into(), now);
        self.keep_conversation(&target, &result, &reaction, confirmation);
        // What was said has been kept where it matters: thousands of conversations would be most of our memory.
        let result = match reaction.state == result.state && result.conversation.is_none() {
            true => result,
            false => Arc::new(ProbeResult {
                state: reaction.state,
                conversation: None,
                ..Arc::unwrap_or_clone(result)
            }),
        };
        self.say_result(index, &target, &result, &reaction, confirmation);
        self.say_changes(&reaction.changes);
        self.request(&reaction);
        let watched = self.desk.watched(index);
        self.writer.write(Write::Probe {
            target: Arc::clone(&target),
            result: Arc::clone(&result),
            confirmation,
            shown: Shown {
                state: reaction.shown,
                since: reaction.since.unwrap_or(result.started_at),
                suspect: reaction.suspect,
                incident: reaction.incident,
            },
            memory: watched.and_then(Watched::memory),
            changes: reaction.changes,
        });
        self.telemetry.emit(&target, &result);
        if result.state.works() {
            if let Some(dialect) = result.dialect() {
                self.fleet.dialects.set(index, dialect);
            }
            if let Some(learning) = self.fleet.learning.get_mut(index) {
                learning.passed += 1;
            }
        }
        self.show(index, Some(&result));
        for incident in self.after_probe.remove(&target.name).unwrap_or_default() {
            self.ask(&target.name, incident, background);
        }
        Some(result)
    }

    /// Shows a target to whoever looks.
    pub(super) fn show(&self, index: usize, last: Option<&Arc<ProbeResult>>) {
        let (Some(board), Some(watched), Some(target)) = (
            &self.board,
            self.desk.watched(index),
            self.fleet.targets.get(index),
        ) else {
            return;
        };
        let row = Row {
            target: Arc::clone(target),
            state: watched.state,
            suspect: watched.is_suspect(),
            since: watched.since,
            last: last.map(Arc::clone),
        };
        board.put(index, row);
    }

    /// What was said in the first failed probe is kept until it is known whether that is an incident.
    fn keep_conversation(
        &mut self,
        target: &Target,
        result: &ProbeResult,
        reaction: &Reaction,
        confirmation: bool,
    ) {
        if result.state.works() && self.conversations.is_empty() {
            return;
        }
        let opened = opened(&reaction.changes).next();
        let fails = !result.state.works() || reaction.suspect;
        if fails
            && !confirmation
            && (opened.is_some() || reaction.suspect)
            && self.conversations.len() < CONVERSATIONS
        {
            let said = crate::report::conversation::conversation(target, result);
            self.conversations
                .entry(target.name.clone())
                .or_insert(said);
        }
        if let Some(incident) = opened {
            if let Some(text) = self.conversations.remove(&target.name) {
                self.writer.write(Write::Conversation {
                    incident: incident.id.clone(),
                    text,
                });
            }
        } else if result.state.works() && !reaction.suspect {
            self.conversations.remove(&target.name);
        }
    }

    fn say_result(
        &mut self,
        index: usize,
        target: &Target,
        result: &ProbeResult,
        reaction: &Reaction,
        confirmation: bool,
    ) {
        let seen = self.fleet.seen.get_mut(index);
        let first = seen.is_some_and(|seen| !std::mem::replace(seen, !reaction.suspect));
        if reaction.suspect {
            if !confirmation {
                self.output
                    .event(&line::suspicion(self.format, target, result));
            }
            return;
        }
        if first || reaction.before != reaction.shown {
            self.output
                .event(&line::change(self.format, target, reaction.before, result));
        } else if confirmation && result.state.works() {
            self.output
                .event(&line::refuted(self.format, target, result));
        }
    }

    /// Tells of incidents in lines, and has the backend asked about new ones.
    pub(super) fn say_changes(&mut self, changes: &[AlertChange]) {
        if changes.is_empty() {
            return;
        }
        let now = SystemTime::now();
        for incident in opened(changes) {
            if let Some(server) = &incident.server
                && incident.kind == IncidentKind::Outage
            {
                let age = now.duration_since(incident.first_failed_at);
                self.schedule_rechecks(server, &incident.id, age.unwrap_or_default());
            }
        }
        for change in changes {
            if let AlertChange::Timeline(entry) = change
                && let TimelineKind::Opened
                | TimelineKind::Resolved
                | TimelineKind::Suppressed
                | TimelineKind::Flapping
                | TimelineKind::Acknowledged = entry.what
                && let Some(incident) = incident_of(changes, &entry.incident)
            {
                self.output
                    .event(&line::incident(self.format, incident, entry));
            }
        }
    }

    /// Remembers what was decided without a result, and tells of it.
    pub(super) fn commit(&mut self, changes: Vec<AlertChange>) {
        if changes.is_empty() {
            return;
        }
        self.say_changes(&changes);
        self.writer.write(Write::Alert(changes));
    }

    fn react(&mut self, reaction: Reaction) {
        self.request(&reaction);
        self.commit(reaction.changes);
    }

    fn request(&self, reaction: &Reaction) {
        for (index, after) in &reaction.requests {
            let request = Request {
                index: *index,
                after: *after,
            };
            // One that finds no room is made good for by the schedule.
            self.requests.try_send(request).ok();
        }
    }

    pub(super) fn take_in_delivery(&mut self, delivery: Delivery) {
        let now = SystemTime::now();
        let channel = delivery.channel.clone();
        let failed = self.failing.get(&channel).copied().unwrap_or_default();
        match &delivery.outcome {
            DeliveryOutcome::Delivered if failed > 0 => {
                self.failing.remove(&channel);
                self.say("info", &format!("channel {channel} delivers again"));
            }
            DeliveryOutcome::Delivered => {}
            DeliveryOutcome::Failed(why) => {
                if failed == 0 {
                    self.warn(&format!(
                        "channel {channel} does not deliver, and is tried again: {why}"
                    ));
                }
                self.failing.insert(channel, failed + 1);
            }
            DeliveryOutcome::GivenUp(why) => self.warn(&format!(
                "channel {channel} could not deliver notice {} of incident {}: {why}",
                delivery.sequence, delivery.incident
            )),
        }
        let changes = self.desk.delivered(&delivery, now);
        self.writer.write(Write::Delivery(delivery));
        self.commit(changes);
    }

    /// A store that could not be read at the start tells now what it knew.
    pub(super) fn adopt(&mut self, recalled: Recalled) {
        let now = SystemTime::now();
        self.remember_told(&recalled);
        for incident in recalled.incidents {
            let changes = self.desk.adopt(incident, now);
            self.commit(changes);
        }
        if let Some(outbox) = &self.outbox {
            let sender = outbox.sender();
            for pending in recalled.pending {
                sender.send(pending.notice);
            }
        }
        let changes = self.desk.ordered(recalled.orders, now);
        self.commit(changes);
    }

    /// Has the controls asked, if it is time or something waits for them.
    pub(super) fn ask_controls(&mut self, background: &mut JoinSet<Done>) {
        let uneasy = self.desk.is_uneasy(SystemTime::now());
        if !self.asker.should_ask(uneasy, Instant::now()) {
            return;
        }
        let controls = self.asker.begin(Instant::now());
        background.spawn(async move {
            let asked = controls.iter().map(control::check);
            Done::Controls(futures_util::future::join_all(asked).await)
        });
    }

    /// What time alone changes.
    pub(super) fn tick(
        &mut self,
        clocks: &mut (Instant, SystemTime),
        background: &mut JoinSet<Done>,
    ) {
        let (instant, now) = (Instant::now(), SystemTime::now());
        let passed = instant - clocks.0;
        let jump = match now.duration_since(clocks.1) {
            Ok(by_wall) => by_wall.abs_diff(passed),
            Err(back) => back.duration() + passed,
        };
        *clocks = (instant, now);
        if jump > JUMP {
            self.say(
                "info",
                &format!(
                    "the clock has jumped by {}: the machine was suspended, or it was set",
                    crate::model::spoken(jump)
                ),
            );
            self.desk.jumped(now);
        }
        let reaction = self.desk.tick(now);
        self.react(reaction);
        if self.desk.enough_remote() || self.desk.isolated_since().is_some() {
            self.ask_controls(background);
        }
    }

    /// Takes in what was done in the background; a configuration that can be used is answered.
    pub(super) fn take_in_background(
        &mut self,
        done: Done,
        background: &mut JoinSet<Done>,
    ) -> Option<Box<Config>> {
        match done {
            Done::Judged(incident, found) => self.take_in_judged(&incident, found),
            Done::Learnt(target, learnt) => self.take_in_learnt(&target, learnt),
            Done::Controls(works) => {
                self.take_in_controls(&works);
                for ended in self.asker.end() {
                    self.take_in(ended, background);
                }
            }
            Done::Reread(number, read) => return self.reread_done(number, *read),
        }
        None
    }

    pub(super) fn take_in_controls(&mut self, works: &[bool]) {
        let before = self.desk.worked_controls();
        let reaction = self.desk.observe_controls(works, SystemTime::now());
        self.react(reaction);
        if self.desk.worked_controls() != before {
            self.writer.write(Write::Fact {
                key: fact::CONTROLS.to_owned(),
                value: Some(self.names_of_worked()),
            });
        }
    }

    /// The controls that have ever worked, a line each.
    pub(super) fn names_of_worked(&self) -> String {
        let controls = self.asker.controls.iter().zip(self.desk.worked_controls());
        let worked = controls.filter(|(_, worked)| *worked);
        let names: Vec<_> = worked.map(|(control, _)| control.to_string()).collect();
        names.join("\n")
    }
}

/// The incidents that these changes open.
fn opened(changes: &[AlertChange]) -> impl Iterator<Item = &Incident> {
    let opened = changes.iter().filter_map(|change| match change {
        AlertChange::Timeline(entry) if entry.what == TimelineKind::Opened => Some(entry),
        _ => None,
    });
    opened.filter_map(|entry| incident_of(changes, &entry.incident))
}

fn incident_of<'c>(changes: &'c [AlertChange], id: &str) -> Option<&'c Incident> {
    changes.iter().find_map(|change| match change {
        AlertChange::Incident(incident) if incident.id == id => Some(&**incident),
        _ => None,
    })
}
