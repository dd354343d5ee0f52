//! What a verdict rests on, for whoever wants to check it: the controls, and the spans that tell most.

use super::bench::{Bench, EXPECTED_NEEDED, JOINED_NEEDED};
use crate::model::{BackendState, Control, Elsewhere, Fellows, ServerSpan, Text};

/// Spans that are shown with a verdict: more than three are not read at night.
const TELLING: usize = 3;

impl Bench<'_> {
    pub(super) fn controls(&self) -> Vec<Control> {
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
        let mut controls = vec![
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
        ];
        controls.extend(self.clock());
        controls.extend(self.network());
        controls
    }

    /// Only where it is off at all.
    fn clock(&self) -> Option<Control> {
        let clock = self.evidence.clock;
        if clock.by.is_zero() && clock.trouble().is_none() {
            return None;
        };
        let trouble = clock.trouble();
        let way = if clock.ahead { "fast" } else { "slow" };
        Some(Control {
            control: "clock_agrees",
            held: trouble.is_none(),
            detail: trouble
                .unwrap_or_else(|| {
                    format!("it is {} {way}, which is allowed for", precise(clock.by))
                })
                .into(),
        })
    }

    /// Only where having our spans says nothing of the network.
    fn network(&self) -> Option<Control> {
        let evidence = self.evidence;
        if !evidence.shares_our_network && evidence.elsewhere == Elsewhere::Nowhere {
            return None;
        }
        let last = evidence.failed.last();
        let detail = match (evidence.elsewhere, evidence.others_heard) {
            _ if last.is_some_and(|probe| probe.refused_by_host) => {
                "the host refused or reset our connection".to_owned()
            }
            _ if self.was_answered() => "something answered us over HTTP".to_owned(),
            (Elsewhere::NotYet, _) => "no other host was probed since the failure".to_owned(),
            (Elsewhere::Unreached, _) => "no probe of another host got anywhere".to_owned(),
            (Elsewhere::Reached, _) => "probes of most other hosts got through".to_owned(),
            (_, Some(spans)) => format!("{spans} spans of others arrived since the failure"),
            _ => "nobody refused us, and whether others were heard is not known".to_owned(),
        };
        Some(Control {
            control: "sign_from_outside",
            held: self.has_sign_from_outside() && self.maybe_we().is_none(),
            detail: detail.into(),
        })
    }

    /// Joined to our failed probes first, then errors, then the latest.
    pub(super) fn telling(&self) -> Vec<ServerSpan> {
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
        // What a span stands for in a store is no matter of the span's.
        let alone = |span: &ServerSpan| ServerSpan {
            fellows: Fellows::default(),
            ..span.clone()
        };
        spans.into_iter().take(TELLING).map(alone).collect()
    }
}

/// To a tenth of a second: more is not measured.
fn precise(duration: std::time::Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
