//! From evidence to a verdict: the ordered rules, first match wins. Pure.
//!
//! A wrong verdict sends the wrong team to the wrong place, so every rule that blames somebody
//! needs positive proof, and what is not proven is `inconclusive` with the reason.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::model::{
    BackendState, Control, Coverage, Evidence, FailedProbe, Judgement, Layer, Rule, ServerSpan,
    SpanKind, Text, Verdict,
};

/// Passed probes that have to have left spans before silence means anything.
const JOINED_NEEDED: usize = 3;

/// A span may be this late, or lost with an exporter's last batch: the SDKs send every 5 s, a
/// collector adds a few. A passed probe younger than this without a span proves nothing.
const EXPORT_LAG: Duration = Duration::from_secs(10);

/// Spans that the service's own rate must make expected in the gap before their absence is silence.
/// At a mean of 5, none at all happens by chance less than once in a hundred times.
const EXPECTED_NEEDED: f64 = 5.0;

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
        service_spans: bench.spans.len(),
        error_spans: bench.spans.iter().filter(|s| s.is_own_error()).count(),
        probe_trace_spans: bench.in_failed_traces(),
        controls: bench.controls(),
        telling: bench.telling(),
    }
}

type Match = (Verdict, Rule, String);

/// The evidence, with the target's spans picked out and in order of time.
struct Bench<'e> {
    evidence: &'e Evidence,
    spans: Vec<&'e ServerSpan>,
}

impl<'e> Bench<'e> {
    fn new(evidence: &'e Evidence) -> Self {
        let mut spans: Vec<_> = evidence
            .spans
            .iter()
            .filter(|span| is_targets(span, evidence))
            .collect();
        spans.sort_by_key(|span| (span.start, span.span_id));
        Self { evidence, spans }
    }

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
        let served = self
            .foreign_since(from)
            .filter(|span| !span.is_error)
            .count();
        // A span in our own failed trace: then it did see us. And where our probes do not normally leave
        // spans, only a connection that never came about proves that it did not.
        let unseen = self.last_failed_at_transport()
            || self.joined_in_a_row(self.first_failure()?) >= JOINED_NEEDED;
        if served == 0 || self.in_failed_traces() > 0 || !unseen {
            return None;
        }
        Some(self.unless_shared(
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
            let errors = self
                .until_last_asking()
                .filter(|s| s.is_own_error())
                .count();
            ("of its spans before the alert are", errors)
        } else {
            let gap: Vec<_> = self
                .spans
                .iter()
                .filter(|span| self.evidence.gap.holds(span.start))
                .collect();
            if !gap.is_empty() && gap.iter().all(|span| span.is_own_error()) {
                ("spans since the last passed probe, all of them", gap.len())
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
        Some(self.unless_shared(
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
        let since = self.foreign_since(from).count() + self.in_failed_traces();
        if since > 0 {
            return unproven(format!(
                "there is no silence: {since} spans of {} since the first failure, not all of one kind",
                self.service()
            ));
        }
        if let Coverage::Sampled(why) | Coverage::RetentionFiltered(why) = &self.evidence.coverage {
            return unproven(format!(
                "the trace backend keeps only a part of what there was ({why}), so that its silence proves nothing"
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
        let how = match (last.layer, in_front) {
            // Who never got past a proxy of ours knows nothing of the server.
            (Layer::Transport, _) if last.at_proxy => return None,
            (Layer::Transport, _) => "no connection".to_owned(),
            (_, Some(status)) => format!("HTTP {status} from something in front"),
            _ => return None,
        };
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
        let status = self.evidence.failed.last().and_then(|p| p.http_status);
        let why = if status == Some(GATEWAY_TIMEOUT) {
            "something in front waited in vain (HTTP 504), and there is no trace: the server may be gone, or hang"
        } else if at_proxy {
            "our proxy let nothing through, so that the server's silence says nothing of it"
        } else if answered {
            "something answered without leaving a trace of itself"
        } else {
            "something accepted the connection and left neither an answer nor a trace"
        };
        (Verdict::Inconclusive, Rule::Otherwise, why.to_owned())
    }

    /// Spans of a service that two targets share cannot be laid at the door of one.
    fn unless_shared(&self, verdict: Verdict, rule: Rule, why: String) -> Match {
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

    fn service(&self) -> &str {
        self.evidence
            .service
            .as_ref()
            .map_or("the server", Text::as_str)
    }

    fn first_failure(&self) -> Option<SystemTime> {
        self.evidence.failed.first().map(|probe| probe.started_at)
    }

    /// The target's spans but for those after the gap, which tell of another time.
    fn until_last_asking(&self) -> impl DoubleEndedIterator<Item = &&'e ServerSpan> {
        let end = self.evidence.gap.to;
        self.spans.iter().filter(move |span| span.start < end)
    }

    /// The target's spans of others' requests since `from`, in the gap.
    fn foreign_since(&self, from: SystemTime) -> impl Iterator<Item = &&'e ServerSpan> {
        self.spans.iter().filter(move |span| {
            span.start >= from
                && self.evidence.gap.holds(span.start)
                && !self.evidence.probe_traces.contains(&span.trace_id)
        })
    }

    /// Passed probes in a row, back from the failure, that left spans.
    fn joined_in_a_row(&self, failure: SystemTime) -> usize {
        self.evidence
            .passed
            .iter()
            .skip_while(|probe| {
                let age = failure.duration_since(probe.ended_at).unwrap_or_default();
                !probe.joined && age < EXPORT_LAG
            })
            .take_while(|probe| probe.joined)
            .count()
    }

    /// How many requests the rate of the last quarter of the baseline makes expected from `from` on until the silence
    /// ends, and whether a span of the target ended it.
    fn expected_in_silence(&self, from: SystemTime) -> (f64, bool) {
        let baseline = self.evidence.baseline;
        let quarter = baseline.length() / 4;
        let start = baseline.to.checked_sub(quarter).unwrap_or(baseline.from);
        let others = |span: &&&ServerSpan| !self.evidence.probe_traces.contains(&span.trace_id);
        let seen = requests(
            self.spans
                .iter()
                .filter(|span| span.start >= start && baseline.holds(span.start))
                .filter(others),
        );
        let end = self
            .spans
            .iter()
            .filter(others)
            .map(|span| span.start)
            .find(|start| (self.evidence.gap.to..self.evidence.silence_to).contains(start));
        let until = end.unwrap_or(self.evidence.silence_to);
        let silence = until.duration_since(from).unwrap_or_default();
        if quarter.is_zero() {
            return (0.0, end.is_some());
        }
        let seen = f64::from(u32::try_from(seen).unwrap_or(u32::MAX));
        (
            seen * silence.as_secs_f64() / quarter.as_secs_f64(),
            end.is_some(),
        )
    }

    fn last_failed_at_transport(&self) -> bool {
        self.evidence
            .failed
            .last()
            .is_some_and(|probe| probe.layer == Layer::Transport)
    }

    fn in_failed_traces(&self) -> usize {
        let failed = &self.evidence.failed;
        self.spans
            .iter()
            .filter(|span| failed.iter().any(|probe| probe.trace_id == span.trace_id))
            .count()
    }

    fn controls(&self) -> Vec<Control> {
        let evidence = self.evidence;
        let answered = match &evidence.backend {
            BackendState::Answered => Text::new("every query was answered in full"),
            BackendState::Unavailable(why) | BackendState::Truncated(why) => why.clone(),
        };
        let found = evidence.failed.iter().filter(|p| p.own_spans_found).count();
        let failed = evidence.failed.len();
        let (joined, expected) = self.first_failure().map_or((0, 0.0), |from| {
            (self.joined_in_a_row(from), self.expected_in_silence(from).0)
        });
        vec![
            Control {
                control: "backend_answers",
                held: evidence.backend == BackendState::Answered,
                detail: answered,
            },
            Control {
                control: "own_spans_returned",
                held: found == failed && failed > 0,
                detail: format!("{found} of {failed} failed probes").into(),
            },
            Control {
                control: "instrumented",
                held: evidence.ever_instrumented || !self.spans.is_empty(),
                detail: match &evidence.service {
                    Some(service) => format!("service {service}").into(),
                    None => "no service is known".into(),
                },
            },
            Control {
                control: "left_spans_before",
                held: joined >= JOINED_NEEDED,
                detail: format!("{joined} passed probes in a row left spans").into(),
            },
            Control {
                control: "spans_expected_in_gap",
                held: expected >= EXPECTED_NEEDED,
                detail: format!("{expected:.1} by the service's own rate").into(),
            },
        ]
    }

    /// Joined to our failed probes first, then errors, then the latest.
    fn telling(&self) -> Vec<ServerSpan> {
        let mut spans = self.spans.clone();
        spans.sort_by_key(|span| {
            let joined = self
                .evidence
                .failed
                .iter()
                .any(|p| p.trace_id == span.trace_id);
            // What happened since the last passed probe tells more than what was before it.
            let since = self.evidence.gap.from <= span.start;
            let newest = std::cmp::Reverse(span.start);
            (
                !joined,
                !since,
                !(since && span.is_own_error()),
                newest,
                span.span_id,
            )
        });
        spans.into_iter().take(3).cloned().collect()
    }
}

/// Whether a span is the target's: of its service, taking requests or speaking of MCP, and neither a
/// health check nor our own negotiation. Where the service is not known, only a span of MCP in
/// our own probe's trace can be.
fn is_targets(span: &ServerSpan, evidence: &Evidence) -> bool {
    let own_negotiation = span
        .ancestors
        .iter()
        .any(|ancestor| evidence.negotiation.contains(ancestor));
    if span.is_health_check || own_negotiation {
        return false;
    }
    match &evidence.service {
        Some(service) => span.is_of(service.as_str()),
        None => span.has_mcp_attributes && evidence.probe_traces.contains(&span.trace_id),
    }
}

/// Requests, not spans: one request may leave a handful.
fn requests<'s>(spans: impl Iterator<Item = &'s &'s ServerSpan>) -> usize {
    spans
        .map(|span| span.trace_id)
        .collect::<BTreeSet<_>>()
        .len()
}

/// Whether the server was still at it when we gave up. A span that did not start within our step
/// is told by a clock that is off: then it is taken to have started as early as it could.
fn outlasts(span: &ServerSpan, probe: &FailedProbe) -> bool {
    let Some(step) = probe.failed_step else {
        return false;
    };
    let start = if (step.from..=step.to).contains(&span.start) {
        span.start
    } else {
        step.from
    };
    start + span.duration > step.to
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

const GATEWAY_TIMEOUT: u16 = 504;

fn is_gateway_status(status: u16) -> bool {
    matches!(status, 502..=504)
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
