//! The judge's controls, tried before there is anything to judge: what an `infrastructure` verdict would be refused for.

use std::time::SystemTime;

use super::bench::{Bench, EXPECTED_NEEDED, JOINED_NEEDED, requests};
use crate::model::{BackendState, Coverage, Evidence, Lack, Rehearsal, Staging, Text};

/// Looks at `evidence` of a time at which all was well; there is none where nobody could be asked.
pub fn rehearse(staging: &Staging, evidence: Option<&Evidence>) -> Rehearsal {
    let mut lacks = Vec::new();
    if !staging.has_traces {
        return Rehearsal::of(vec![Lack::NoTraces], None);
    }
    if !staging.has_telemetry {
        lacks.push(Lack::NoTelemetry);
    }
    let Some(evidence) = evidence else {
        lacks.push(Lack::NoProbes);
        return Rehearsal::of(lacks, None);
    };
    if let BackendState::Unavailable(why) | BackendState::Truncated(why) = &evidence.backend {
        lacks.push(Lack::BackendUnsure(why.clone()));
        return Rehearsal::of(lacks, None);
    }
    if evidence.passed.is_empty() {
        lacks.push(Lack::NoProbes);
        return Rehearsal::of(lacks, None);
    }
    if !staging.sends_context {
        lacks.push(Lack::ContextOff);
    }
    let bench = Bench::new(evidence);
    if staging.has_telemetry {
        lacks.extend(own_spans(&bench));
    }
    lacks.extend(service(evidence));
    if let Coverage::Sampled(why) | Coverage::RetentionFiltered(why) = &evidence.coverage {
        lacks.push(Lack::Sampled(why.clone()));
    }
    lacks.extend(
        evidence
            .clock
            .trouble()
            .map(|why| Lack::ClockOff(why.into())),
    );
    let is_heard = bench.has_sign_from_outside();
    if evidence.shares_our_network && !is_heard {
        lacks.push(Lack::NobodyElseHeard);
    }
    let is_instrumented = evidence.ever_instrumented || !bench.spans.is_empty();
    let proof = if is_instrumented {
        match proof(&bench, staging) {
            Ok(proof) => Some(proof),
            Err(lack) => {
                lacks.push(lack);
                None
            }
        }
    } else {
        if evidence.candidates.is_empty() {
            lacks.push(Lack::NeverASpan);
        }
        None
    };
    Rehearsal::of(lacks, proof)
}

/// Of the three newest that are old enough for their spans to have arrived.
fn own_spans(bench: &Bench<'_>) -> Option<Lack> {
    let evidence = bench.evidence;
    let is_old = |ended_at: SystemTime| {
        let age = evidence.asked_at.duration_since(ended_at);
        age.unwrap_or_default() >= bench.lag()
    };
    let old = evidence
        .passed
        .iter()
        .filter(|probe| is_old(probe.ended_at));
    let missing = old
        .take(JOINED_NEEDED)
        .filter(|probe| !probe.own_spans_found)
        .count();
    (missing > 0).then_some(Lack::OwnSpansMissing(missing))
}

fn service(evidence: &Evidence) -> Option<Lack> {
    let names: Vec<_> = evidence.candidates.iter().map(Text::as_str).collect();
    match (&evidence.service, &evidence.service_shared_with) {
        (None, _) if !names.is_empty() => Some(Lack::ServiceAmbiguous(names.join(", ").into())),
        (None, _) => Some(Lack::ServiceUnknown),
        (Some(_), Some(other)) => Some(Lack::ServiceShared(other.clone())),
        (Some(_), None) => None,
    }
}

/// What rule 6 would find, were the target to go silent now.
fn proof(bench: &Bench<'_>, staging: &Staging) -> Result<Text, Lack> {
    let evidence = bench.evidence;
    let joined = bench.joined_in_a_row(evidence.asked_at);
    if joined >= JOINED_NEEDED {
        return Ok(Text::new(format!(
            "the last {joined} passed probes left spans"
        )));
    }
    let (baseline, quarter) = (evidence.baseline, bench.last_quarter());
    let length = baseline.to.duration_since(quarter).unwrap_or_default();
    let others = bench.spans.iter().filter(|span| {
        span.start >= quarter
            && baseline.holds(span.start)
            && !evidence.probe_traces.contains(&span.trace_id)
    });
    let seen = f64::from(u32::try_from(requests(others)).unwrap_or(u32::MAX));
    let expected = if length.is_zero() {
        0.0
    } else {
        seen * staging.silence.as_secs_f64() / length.as_secs_f64()
    };
    if expected >= EXPECTED_NEEDED {
        return Ok(Text::new(format!(
            "by its own rate {expected:.0} requests of others would be missed"
        )));
    }
    Err(Lack::SilenceUnproven(joined.min(JOINED_NEEDED), expected))
}
