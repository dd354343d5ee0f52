//! The evidence as the rules look at it: the target's spans picked out and in order of time, and what can be counted.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::model::{Elsewhere, Evidence, FailedProbe, Layer, ServerSpan, Text};

/// Passed probes that have to have left spans before silence means anything.
pub(super) const JOINED_NEEDED: usize = 3;

/// A span may be this late, or lost with an exporter's last batch: the SDKs send every 5 s, a
/// collector adds a few. A passed probe younger than this without a span proves nothing. Where the server's spans were
/// seen to be later, that counts.
pub(super) const EXPORT_LAG: Duration = Duration::from_secs(10);

/// Spans that the service's own rate must make expected in the gap before their absence is silence.
/// At a mean of 5, none at all happens by chance less than once in a hundred times.
pub(super) const EXPECTED_NEEDED: f64 = 5.0;

/// The evidence, with the target's spans picked out and in order of time.
pub(super) struct Bench<'e> {
    pub(super) evidence: &'e Evidence,
    pub(super) spans: Vec<&'e ServerSpan>,
}

impl<'e> Bench<'e> {
    pub(super) fn new(evidence: &'e Evidence) -> Self {
        let mut spans: Vec<_> = evidence
            .spans
            .iter()
            .filter(|span| is_targets(span, evidence))
            .collect();
        spans.sort_by_key(|span| (span.start, span.span_id));
        Self { evidence, spans }
    }

    pub(super) fn service(&self) -> &str {
        self.evidence
            .service
            .as_ref()
            .map_or("the server", Text::as_str)
    }

    /// Up to when what was sent has arrived, but for the exporter's lag: our own spans tell.
    pub(super) fn arrived_until(&self) -> SystemTime {
        match self.evidence.later_on_its_way {
            true => self.evidence.gap.to,
            false => self.evidence.asked_at,
        }
    }

    /// Whether the server was at work for at least a quarter of a failed probe.
    pub(super) fn took_most_of(&self, probe: &FailedProbe) -> bool {
        let of_probe = |span: &&&ServerSpan| span.trace_id == probe.trace_id;
        let own: Vec<_> = self.spans.iter().filter(of_probe).collect();
        let is_below_another = |span: &ServerSpan| {
            own.iter()
                .any(|other| span.ancestors.contains(&other.span_id))
        };
        let at_work: Duration = own
            .iter()
            .filter(|span| !is_below_another(span))
            .map(|span| span.duration)
            .sum();
        let whole = probe.ended_at.duration_since(probe.started_at);
        at_work * 4 >= whole.unwrap_or_default()
    }

    pub(super) fn first_failure(&self) -> Option<SystemTime> {
        self.evidence.failed.first().map(|probe| probe.started_at)
    }

    /// The target's spans but for those after the gap, which tell of another time, and errors that did not keep a probe of
    /// ours from passing: a canary that fails day after day would take the blame for every host that dies.
    pub(super) fn until_last_asking(&self) -> impl DoubleEndedIterator<Item = &&'e ServerSpan> {
        let end = self.evidence.gap.to;
        self.spans
            .iter()
            .filter(move |span| span.start < end && !self.is_survived_error(span))
    }

    fn is_survived_error(&self, span: &ServerSpan) -> bool {
        let mut failed = self.evidence.failed.iter();
        span.is_error
            && self.evidence.probe_traces.contains(&span.trace_id)
            && !failed.any(|probe| probe.trace_id == span.trace_id)
    }

    /// The target's spans of others' requests since `from`, in the gap.
    pub(super) fn foreign_since(&self, from: SystemTime) -> impl Iterator<Item = &&'e ServerSpan> {
        self.spans.iter().filter(move |span| {
            span.start >= from
                && self.evidence.gap.holds(span.start)
                && !self.evidence.probe_traces.contains(&span.trace_id)
        })
    }

    /// Whether it is of others' requests, was at work before our first failure was certain and after it: who ends a call
    /// then is not gone.
    pub(super) fn outlived_failure(&self, span: &ServerSpan) -> bool {
        let Some(failed) = self.evidence.failed.first() else {
            return false;
        };
        span.start < failed.ended_at
            && span.end() > failed.ended_at
            && !self.evidence.probe_traces.contains(&span.trace_id)
    }

    /// How late a span may be and still come.
    pub(super) fn lag(&self) -> Duration {
        self.evidence.usual_lag.max(EXPORT_LAG)
    }

    /// Passed probes in a row, back from the failure, that left spans.
    pub(super) fn joined_in_a_row(&self, failure: SystemTime) -> usize {
        self.evidence
            .passed
            .iter()
            .skip_while(|probe| {
                let age = failure.duration_since(probe.ended_at).unwrap_or_default();
                !probe.joined && age < self.lag()
            })
            .take_while(|probe| probe.joined)
            .count()
    }

    /// How many requests the rate of the last quarter of the baseline makes expected from `from` on until the silence
    /// ends, and whether a span of the target ended it.
    pub(super) fn expected_in_silence(&self, from: SystemTime) -> (f64, bool) {
        let baseline = self.evidence.baseline;
        let quarter = baseline.length() / 4;
        let start = self.last_quarter();
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

    pub(super) fn last_failed_at_transport(&self) -> bool {
        self.evidence
            .failed
            .last()
            .is_some_and(|probe| probe.layer == Layer::Transport)
    }

    /// Whether the prober's own network was seen to work since the failure: something answered us, a probe of another host
    /// got through, or others' spans arrived.
    pub(super) fn has_sign_from_outside(&self) -> bool {
        self.was_answered()
            || self.evidence.elsewhere == Elsewhere::Reached
            || self.evidence.others_heard.is_some_and(|spans| spans > 0)
    }

    /// Why it may be we who are cut off, as far as probes of other hosts tell.
    pub(super) fn maybe_we(&self) -> Option<&'static str> {
        match self.evidence.elsewhere {
            _ if self.was_answered() => None,
            Elsewhere::Unreached => Some("none of our probes of other hosts got anywhere either"),
            Elsewhere::NotYet => Some("no other host was probed since"),
            Elsewhere::Nowhere | Elsewhere::Reached | Elsewhere::Mixed => None,
        }
    }

    /// The host refused us, or something spoke HTTP to us that is no proxy of ours.
    pub(super) fn was_answered(&self) -> bool {
        let last = self.evidence.failed.last();
        last.is_some_and(|probe| {
            probe.refused_by_host || (probe.http_status.is_some() && !probe.at_proxy)
        })
    }

    pub(super) fn in_failed_traces(&self) -> usize {
        let failed = &self.evidence.failed;
        let in_failed = self
            .spans
            .iter()
            .filter(|span| failed.iter().any(|probe| probe.trace_id == span.trace_id));
        counted(in_failed)
    }

    /// Where the last quarter of the baseline begins, by which the service's rate is told.
    pub(super) fn last_quarter(&self) -> SystemTime {
        let baseline = self.evidence.baseline;
        let start = baseline.to.checked_sub(baseline.length() / 4);
        start.unwrap_or(baseline.from)
    }
}

/// Spans, with those that were left out of what was stored.
pub(super) fn counted<'s>(spans: impl Iterator<Item = &'s &'s ServerSpan>) -> usize {
    spans.map(|span| 1 + span.fellows.spans).sum()
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
pub(super) fn requests<'s>(spans: impl Iterator<Item = &'s &'s ServerSpan>) -> usize {
    let mut left_out = 0;
    let traces: BTreeSet<_> = spans
        .inspect(|span| left_out += span.fellows.requests)
        .map(|span| span.trace_id)
        .collect();
    traces.len() + left_out
}

/// Whether the server was still at it when we gave up. A span that did not start within our step
/// is told by a clock that is off: then it is taken to have started as early as it could.
pub(super) fn outlasts(span: &ServerSpan, probe: &FailedProbe) -> bool {
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

pub(super) fn is_gateway_status(status: u16) -> bool {
    matches!(status, 502..=504)
}
