//! From evidence to a verdict: the ordered rules, first match wins. Pure.
//!
//! A wrong verdict sends the wrong team to the wrong place, so every rule that blames somebody
//! needs positive proof, and what is not proven is `inconclusive` with the reason.

use std::time::Duration;

use super::bench::{
    Bench, EXPECTED_NEEDED, EXPORT_LAG, JOINED_NEEDED, counted, is_gateway_status, outlasts,
    requests,
};
use crate::model::{
    BackendState, Coverage, Evidence, FailedProbe, Judgement, Layer, Rule, ServerSpan, SpanKind,
    Text, Verdict, spoken,
};

const GATEWAY_TIMEOUT: u16 = 504;

/// Last spans that have to be errors for the application to be blamed.
const LAST_ERRORS: usize = 3;

/// Judges `evidence`.
pub fn judge(evidence: &Evidence) -> Judgement {
    let bench = Bench::new(evidence);
    let (verdict, rule, reason) = bench.first_match();
    Judgement {
        verdict,
        rule,
        reason: reason.into(),
        service_spans: counted(bench.spans.iter()),
        error_spans: counted(bench.spans.iter().filter(|s| s.is_own_error())),
        probe_trace_spans: bench.in_failed_traces(),
        controls: bench.controls(),
        telling: bench.telling(),
    }
}

type Match = (Verdict, Rule, String);

impl Bench<'_> {
    fn first_match(&self) -> Match {
        self.backend_unsure()
            .or_else(|| self.joined_span())
            .or_else(|| self.others_served())
            .or_else(|| self.all_errors())
            .or_else(|| self.never_instrumented())
            .or_else(|| self.silence_unproven())
            .or_else(|| self.no_trace())
            .unwrap_or_else(|| self.otherwise())
    }

    /// Rule 1.
    fn backend_unsure(&self) -> Option<Match> {
        let why = match &self.evidence.backend {
            BackendState::Unavailable(why) => format!("the trace backend cannot be asked: {why}"),
            BackendState::Truncated(what) => format!("the trace backend's answer is cut: {what}"),
            BackendState::Answered => {
                let missing = self.evidence.failed.iter().find(|p| !p.own_spans_found)?;
                format!(
                    "the trace backend does not return our own probe {} (yet): its silence proves nothing",
                    missing.trace_id
                )
            }
        };
        Some((Verdict::Inconclusive, Rule::BackendUnsure, why))
    }

    /// Rule 2.
    fn joined_span(&self) -> Option<Match> {
        let matches = || {
            self.evidence
                .failed
                .iter()
                .filter_map(|probe| self.joined_to(probe))
        };
        matches()
            .find(|(verdict, ..)| *verdict == Verdict::Application)
            .or_else(|| matches().next())
    }

    fn joined_to(&self, probe: &FailedProbe) -> Option<Match> {
        let step = probe.failed_span?;
        let joined: Vec<_> = self
            .spans
            .iter()
            .filter(|span| span.trace_id == probe.trace_id && span.ancestors.contains(&step))
            .collect();
        let first = joined.first()?;
        let at_fault = |why: String| Some((Verdict::Application, Rule::JoinedSpan, why));
        if let Some(span) = joined.iter().find(|span| span.is_error) {
            return at_fault(format!(
                "{} got our request and failed: {}",
                span.service,
                said(span)
            ));
        }
        let in_its_place = status_from_in_front(probe, &joined);
        // A connection that broke earlier says nothing of how long the server would have taken.
        let given_up = probe.timed_out || in_its_place.is_some();
        if let Some(span) = joined.iter().find(|span| given_up && outlasts(span, probe)) {
            // Something before it took our time: a busy machine, a name, a gateway.
            if !self.took_most_of(probe) {
                return None;
            }
            let took = humantime::format_duration(Duration::from_millis(as_millis(span.duration)));
            return at_fault(format!(
                "{} got our request and took {took} for {}, longer than we waited",
                span.service, span.name
            ));
        }
        let lost = |why: &str| {
            let why = format!(
                "{} answered {} well and in time, {why}",
                first.service, first.name
            );
            Some((Verdict::ResponseLost, Rule::JoinedSpan, why))
        };
        if !probe.answered {
            return lost("but no complete answer arrived");
        }
        if let Some(status) = in_its_place {
            return lost(&format!(
                "but what arrived was HTTP {status} from something in front"
            ));
        }
        at_fault(format!(
            "{} got our request and its answer was bad",
            first.service
        ))
    }

    /// Rule 3.
    fn others_served(&self) -> Option<Match> {
        // The first failure is certain at the end of the first failed probe: until then the server may have died under it.
        let from = self.evidence.failed.first()?.ended_at;
        let served = counted(self.foreign_since(from).filter(|span| !span.is_error));
        // A span in our own failed trace: then it did see us. And where our probes do not normally leave
        // spans, only a connection that never came about proves that it did not.
        let unseen = self.last_failed_at_transport()
            || self.joined_in_a_row(self.first_failure()?) >= JOINED_NEEDED;
        if served == 0 || self.in_failed_traces() > 0 || !unseen {
            return None;
        }
        Some(self.unless_doubtful(
            Verdict::Path,
            Rule::OthersServed,
            format!(
                "{} served {served} others after our first failure and never saw us",
                self.service()
            ),
        ))
    }

    /// Rule 4.
    fn all_errors(&self) -> Option<Match> {
        let (what, errors) = if self.evidence.failed.is_empty() {
            // Somebody else's alert: any error of the server's before it.
            let errors = counted(self.until_last_asking().filter(|s| s.is_own_error()));
            ("of its spans before the alert are", errors)
        } else {
            let gap: Vec<_> = self
                .until_last_asking()
                .filter(|span| self.evidence.gap.holds(span.start))
                .collect();
            if !gap.is_empty() && gap.iter().all(|span| span.is_own_error()) {
                let errors = counted(gap.into_iter());
                ("spans since the last passed probe, all of them", errors)
            } else {
                let last = self
                    .until_last_asking()
                    .rev()
                    .take_while(|s| s.is_own_error());
                let errors = requests(last);
                let enough = errors >= LAST_ERRORS;
                (
                    "last spans before the silence are",
                    if enough { errors } else { 0 },
                )
            }
        };
        if errors == 0 {
            return None;
        }
        let example = self
            .until_last_asking()
            .rev()
            .find(|span| span.is_own_error());
        let example = example.map(|span| said(span)).unwrap_or_default();
        Some(self.unless_doubtful(
            Verdict::Application,
            Rule::AllErrors,
            format!(
                "{}: {errors} {what} errors, such as {example}",
                self.service()
            ),
        ))
    }

    /// Rule 5.
    fn never_instrumented(&self) -> Option<Match> {
        if self.evidence.ever_instrumented || !self.spans.is_empty() {
            return None;
        }
        let candidates: Vec<_> = self.evidence.candidates.iter().map(Text::as_str).collect();
        if !candidates.is_empty() {
            return Some((
                Verdict::Inconclusive,
                Rule::NeverInstrumented,
                format!(
                    "spans of {} are in our traces, but none says that it is of MCP: name the target's with `service`",
                    candidates.join(", ")
                ),
            ));
        }
        Some((
            Verdict::NotInstrumented,
            Rule::NeverInstrumented,
            "no span of this server was ever seen, so that silence says nothing".to_owned(),
        ))
    }

    /// Rule 6.
    fn silence_unproven(&self) -> Option<Match> {
        let unproven = |why: String| Some((Verdict::Inconclusive, Rule::SilenceUnproven, why));
        let Some(from) = self.first_failure() else {
            return unproven(
                "without failed probes of ours there is no silence to look at".to_owned(),
            );
        };
        if self.evidence.service.is_none() {
            return unproven(
                "the service is not known, so that its other spans could not be looked for"
                    .to_owned(),
            );
        }
        if let Some(trouble) = self.evidence.clock.trouble() {
            return unproven(format!(
                "{trouble}: whether it is silent cannot be told from when its spans were"
            ));
        }
        let since = counted(self.foreign_since(from)) + self.in_failed_traces();
        if since > 0 {
            return unproven(format!(
                "there is no silence: {since} spans of {} since the first failure, not all of one kind",
                self.service()
            ));
        }
        let outlived = |span: &&&ServerSpan| self.outlived_failure(span);
        let at_work = counted(self.spans.iter().filter(outlived));
        if at_work > 0 {
            return unproven(format!(
                "there is no silence: {} was at work on {at_work} calls of others when our first probe failed, and ended them after that",
                self.service()
            ));
        }
        if let Coverage::Sampled(why) | Coverage::RetentionFiltered(why) = &self.evidence.coverage {
            return unproven(format!(
                "the trace backend keeps only a part of what there was ({why}), so that its silence proves nothing"
            ));
        }
        let lag = self.evidence.usual_lag.max(EXPORT_LAG);
        let failed = self.evidence.failed.first();
        if failed.is_some_and(|first| self.arrived_until() < first.ended_at + lag) {
            return unproven(format!(
                "it is too early: spans of {} may come {} late, and there may be some of after the failure",
                self.service(),
                spoken(lag)
            ));
        }
        let joined = self.joined_in_a_row(from);
        let (expected, came_back) = self.expected_in_silence(from);
        if came_back && expected < EXPECTED_NEEDED {
            return unproven(format!(
                "{} served others again before we asked it again: it may have been gone, or only we were cut off",
                self.service()
            ));
        }
        if joined >= JOINED_NEEDED || expected >= EXPECTED_NEEDED {
            return None;
        }
        unproven(format!(
            "the silence is not proven: {joined} of the last {JOINED_NEEDED} passed probes left spans, and {expected:.1} spans were to be expected since the failure (tracing stopped first, or is sampled)"
        ))
    }

    /// Rule 7.
    fn no_trace(&self) -> Option<Match> {
        let last = self.evidence.failed.last()?;
        // 504: it reached something that did not answer. A server that hangs leaves no span either.
        let in_front = last
            .http_status
            .filter(|status| is_gateway_status(*status) && *status != GATEWAY_TIMEOUT);
        // Whoever answered is not gone, nor is who took our request and hung. What became of it since may be its own doing:
        // what checks its health kills what hangs.
        let was_there = |probe: &FailedProbe| answered_itself(probe) || probe.timed_out;
        // Who never got past a proxy of ours knows nothing of the server.
        if self.evidence.failed.iter().any(was_there) || last.at_proxy {
            return None;
        }
        let how = match (last.layer, in_front) {
            (Layer::Transport, _) => "no connection".to_owned(),
            (_, Some(status)) => format!("HTTP {status} from something in front"),
            _ => return None,
        };
        if let Some(why) = self.maybe_we() {
            return Some((
                Verdict::Inconclusive,
                Rule::NoTrace,
                format!(
                    "no-trace pattern: {how}, but {why}: it may be the prober itself that is cut off, and the trace backend beside it would not notice"
                ),
            ));
        }
        if self.evidence.shares_our_network && !self.has_sign_from_outside() {
            return Some((
                Verdict::Inconclusive,
                Rule::NoTrace,
                format!(
                    "no-trace pattern: {how}, but nothing shows that it is not the prober itself that is cut off: nobody refused us, no probe of another host got through, and the backend beside it heard nobody else"
                ),
            ));
        }
        Some((
            Verdict::Infrastructure,
            Rule::NoTrace,
            format!(
                "no-trace pattern: {how}, and no span of {} although it normally leaves them and the backend is fresh",
                self.service()
            ),
        ))
    }

    /// Rule 8.
    fn otherwise(&self) -> Match {
        let answered = self
            .evidence
            .failed
            .last()
            .is_some_and(|probe| probe.answered);
        let at_proxy = self.evidence.failed.last().is_some_and(|p| p.at_proxy);
        let has_hung = self.evidence.failed.iter().any(|p| p.timed_out);
        let last_hung = self.evidence.failed.last().is_some_and(|p| p.timed_out);
        let status = self.evidence.failed.last().and_then(|p| p.http_status);
        let why = if status == Some(GATEWAY_TIMEOUT) {
            "something in front waited in vain (HTTP 504), and there is no trace: the server may be gone, or hang"
        } else if at_proxy {
            "it was our proxy that failed, or may have been, so that the server's silence says nothing of it"
        } else if !answered && self.evidence.failed.iter().any(answered_itself) {
            "it still answered our first failed probe, without leaving a trace, and then no more"
        } else if has_hung && !last_hung {
            "it took a request of ours and never answered, and was gone after that: it may have hung, and been ended for it"
        } else if answered {
            "something answered without leaving a trace of itself"
        } else {
            "something accepted the connection and left neither an answer nor a trace"
        };
        (Verdict::Inconclusive, Rule::Otherwise, why.to_owned())
    }

    /// Spans of a service that two targets share cannot be laid at the door of one; and when they were has to be known.
    fn unless_doubtful(&self, verdict: Verdict, rule: Rule, why: String) -> Match {
        if let Some(trouble) = self.evidence.clock.trouble() {
            let why = format!("{trouble}, so that nobody knows when its spans were");
            return (Verdict::Inconclusive, rule, why);
        }
        match &self.evidence.service_shared_with {
            None => (verdict, rule, why),
            Some(other) => (
                Verdict::Inconclusive,
                rule,
                format!(
                    "{why}; but {other} has the same service name, and those spans may be its own"
                ),
            ),
        }
    }
}

/// Whether the answer may have been the server's own: a gateway's tells that it is not.
fn answered_itself(probe: &FailedProbe) -> bool {
    probe.answered && !probe.http_status.is_some_and(is_gateway_status)
}

/// Something between us may have answered in the server's place: then the server's own spans of
/// the request tell of another status, or of none where a gateway would have made this one.
fn status_from_in_front(probe: &FailedProbe, joined: &[&&ServerSpan]) -> Option<u16> {
    let arrived = probe.http_status?;
    let mut told = joined
        .iter()
        .filter(|span| span.kind == SpanKind::Server)
        .filter_map(|span| span.http_status)
        .peekable();
    let is_another = told.peek().is_some() || is_gateway_status(arrived);
    (is_another && told.all(|status| status != arrived)).then_some(arrived)
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error span in a few words.
fn said(span: &ServerSpan) -> String {
    let mut words = span.name.to_string();
    for part in [&span.error_type, &span.message].into_iter().flatten() {
        words.push_str(", ");
        words.push_str(part.as_str());
    }
    words
}
