//! Whose fault it is: when the backend is asked about an incident, and what becomes of the answer.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::inquiry::{Finding, Inquiry, Subject};
use super::{Daemon, Done};
use crate::correlate::{self, Asking, Claim, Ticket};
use crate::model::Asked;
use crate::report::line;
use crate::schedule::Request;
use crate::store::{Reader, Write};

/// From a backend's acceptance of a span to its being found: 0.2 s with Jaeger's memory, a second with Elasticsearch.
const VISIBILITY: Duration = Duration::from_secs(1);

/// An asking that found no turn is made up for until so long after the first failure. Later nobody waits for it.
const MADE_UP_FOR: Duration = Duration::from_secs(3600);

impl Daemon {
    /// The backend is asked at every `recheck` after the first failure, which was `age` ago; of those that are past,
    /// only the last one, at once.
    pub(super) fn schedule_rechecks(&mut self, target: &str, incident: &str, age: Duration) {
        let source = self.inquiry.as_ref().and_then(|i| i.source(target));
        let Some(source) = source else {
            return;
        };
        let recheck = &source.settings.recheck;
        self.unasked.insert(incident.to_owned());
        let past = recheck.iter().filter(|after| **after <= age).count();
        for after in recheck.iter().skip(past.saturating_sub(1)) {
            let at = Instant::now() + after.saturating_sub(age);
            self.rechecks
                .push(Reverse((at, target.to_owned(), incident.to_owned())));
        }
    }

    /// Asks for a probe before each inquiry that is due; asks at once about the incidents that can be. Without the
    /// probe nobody would know what the server's spans since the last one tell of: of an outage that others do not see,
    /// or of a server that is back. One that runs already will do.
    pub(super) fn recheck(&mut self, background: &mut JoinSet<Done>) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.rechecks.peek()
            && *at <= now
            && let Some(Reverse((_, target, incident))) = self.rechecks.pop()
        {
            let index = self.fleet.index(&target);
            let watched = index.and_then(|index| self.desk.watched(index));
            let open = watched.is_some_and(|w| w.open.iter().any(|open| open.id == incident));
            let request = index.filter(|_| open).map(|index| Request {
                index,
                after: Duration::ZERO,
            });
            match request {
                Some(request) if self.requests.try_send(request).is_ok() => {
                    self.after_probe.entry(target).or_default().push(incident);
                }
                _ => self.ask(&target, incident, background),
            }
        }
    }

    /// Asks the backend about an incident.
    pub(super) fn ask(&mut self, target: &str, incident: String, background: &mut JoinSet<Done>) {
        let Some(inquiry) = self.inquiry.clone() else {
            return;
        };
        let (permits, telemetry) = (Arc::clone(&self.permits), self.telemetry.clone());
        let (writer, target) = (Arc::clone(&self.writer), target.to_owned());
        let (claim, ticket) = (self.claim(&incident), self.places.remove(&incident));
        background.spawn(async move {
            // Before the permit: who waits for a vendor's limit must not keep others from asking elsewhere.
            let asking = inquiry.turn(&target, claim, ticket).await;
            let _permit = permits.acquire().await;
            // The failed probe's spans and row have to be where they will be looked for.
            telemetry.flush().await;
            tokio::task::spawn_blocking(move || writer.flush())
                .await
                .ok();
            tokio::time::sleep(VISIBILITY).await;
            let found = judge_incident(&inquiry, target, incident.clone(), asking).await;
            Done::Judged(incident, found)
        });
    }

    /// By what right it is asked about an incident: where a vendor's limit does not suffice for all, by which comes first.
    fn claim(&self, incident: &str) -> Claim {
        let is_last = !self.rechecks.iter().any(|Reverse((.., id))| id == incident);
        match self.unasked.contains(incident) {
            true => Claim::NeverAsked,
            false if is_last => Claim::Last,
            false => Claim::Recheck,
        }
    }

    pub(super) fn take_in_judged(&mut self, incident: &str, found: Result<Box<Finding>, String>) {
        let was_unasked = self.unasked.remove(incident);
        let mut finding = match found {
            Ok(finding) => finding,
            Err(why) => return self.warn(&format!("a verdict cannot be found: {why}")),
        };
        if let Some((at, ticket)) = finding.refused_until {
            let comes = self.make_up_for(&finding.asked, incident, at, ticket);
            // What an earlier asking has found stands.
            if !was_unasked {
                return;
            }
            if comes {
                self.unasked.insert(incident.to_owned());
                finding.asked.provisional = true;
            }
        }
        self.take_in_finding(*finding);
    }

    /// What was not asked for want of a turn is asked when there should be one, and not before; whether it is.
    fn make_up_for(
        &mut self,
        asked: &Asked,
        incident: &str,
        at: SystemTime,
        ticket: Ticket,
    ) -> bool {
        let target = &asked.target;
        if at.duration_since(asked.at).unwrap_or_default() > MADE_UP_FOR {
            self.warn(&format!(
                "the trace backend is not asked any more about {incident} of {target}: its limit was spent for an hour"
            ));
            return false;
        }
        let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
        let at = Instant::now() + wait;
        self.rechecks
            .retain(|Reverse((planned, _, id))| id != incident || *planned > at);
        self.rechecks
            .push(Reverse((at, target.clone(), incident.to_owned())));
        self.places.insert(incident.to_owned(), ticket);
        true
    }

    pub(super) fn take_in_finding(&mut self, finding: Finding) {
        let Finding {
            asked, judgement, ..
        } = finding;
        let Some(incident) = asked.incident.clone() else {
            return;
        };
        let now = SystemTime::now();
        self.output.event(&line::verdict(
            self.format,
            &asked.target,
            &incident,
            &judgement,
            asked.provisional,
            now,
        ));
        let changes = self.desk.judged(
            &incident,
            judgement.verdict,
            &judgement.reason,
            asked.provisional,
            now,
        );
        self.writer.write(Write::Asked(Box::new(Asked {
            evidence: correlate::excerpt(&asked.evidence),
            ..asked
        })));
        if !changes.is_empty() {
            self.writer.write(Write::Alert(changes));
        }
    }
}

async fn judge_incident(
    inquiry: &Inquiry,
    target: String,
    incident: String,
    asking: Asking,
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
    inquiry.about(subject, asking).await.map(Box::new)
}
