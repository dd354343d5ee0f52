//! What of the evidence is kept: so little that every asking of every incident can be, and so much that judging it again
//! gives the same verdict.
//!
//! The rules ask of a span only where in time it lies between a few moments, whether it is an error, and in whose trace it
//! is; spans that are the same in all that are of one class. Of each class the ends are kept, and how many there were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::bench::{Bench, outlasts};
use crate::model::{Evidence, Fellows, ServerSpan, SpanId, SpanKind, TraceId};

/// Of each class the first span is kept, which may end a silence, and the last three, as many as are shown.
const LAST_OF_CLASS: usize = 3;

/// Spans that are kept in all, the newest: some 100 KB. There are as many classes only where somebody makes them.
const MOST: usize = 300;

/// The same evidence with fewer spans.
pub fn excerpt(evidence: &Evidence) -> Evidence {
    let bench = Bench::new(evidence);
    let mut classes: BTreeMap<Class, Vec<&ServerSpan>> = BTreeMap::new();
    let classifier = Classifier::new(&bench);
    for span in &bench.spans {
        let class = classifier.class(span);
        classes.entry(class).or_default().push(span);
    }
    let kept: BTreeSet<TraceId> = classes
        .values()
        .flat_map(|spans| ends(spans))
        .map(|span| span.trace_id)
        .collect();
    let mut counted = BTreeSet::new();
    let mut spans: Vec<_> = classes
        .iter()
        .flat_map(|(class, spans)| shortened(class, spans, &kept, &mut counted))
        .collect();
    spans.sort_by_key(|span| (span.start, span.span_id));
    spans.drain(..spans.len().saturating_sub(MOST));
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id).collect();
    let parents: BTreeSet<_> = spans.iter().flat_map(|span| &span.ancestors).collect();
    let ours = evidence.probe_traces.iter();
    let negotiation = evidence.negotiation.iter();
    Evidence {
        probe_traces: ours.filter(|id| traces.contains(id)).copied().collect(),
        negotiation: negotiation
            .filter(|id| parents.contains(id))
            .copied()
            .collect(),
        spans,
        ..evidence.clone()
    }
}

/// All that the rules tell spans apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    /// How many of the moments that count lie before it.
    phase: usize,
    /// One of the errors in a row before the silence.
    in_last_errors: bool,
    is_error: bool,
    is_own_error: bool,
    is_ours: bool,
    outlived_failure: bool,
    /// In the trace of a failed probe.
    of_failed: Option<OfFailed>,
}

/// What is asked of a span of a failed probe's besides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OfFailed {
    probe: usize,
    under_step: bool,
    outlasts: bool,
    kind: SpanKind,
    http_status: Option<u16>,
}

struct Classifier<'b, 'e> {
    bench: &'b Bench<'e>,
    moments: Vec<SystemTime>,
    /// The errors in a row before the silence.
    last_errors: BTreeSet<(TraceId, SpanId)>,
}

impl<'b, 'e> Classifier<'b, 'e> {
    fn new(bench: &'b Bench<'e>) -> Self {
        let evidence = bench.evidence;
        let first = evidence.failed.first();
        let mut moments = vec![
            evidence.baseline.from,
            bench.last_quarter(),
            evidence.baseline.to,
            evidence.gap.from,
            evidence.gap.to,
            evidence.silence_to,
        ];
        moments.extend(first.iter().flat_map(|f| [f.started_at, f.ended_at]));
        let errors = bench.until_last_asking().rev();
        let in_a_row = errors.take_while(|span| span.is_own_error());
        Self {
            bench,
            moments,
            last_errors: in_a_row.map(|span| (span.trace_id, span.span_id)).collect(),
        }
    }

    fn class(&self, span: &ServerSpan) -> Class {
        let evidence = self.bench.evidence;
        let mut failed = evidence.failed.iter().enumerate();
        let of_failed = failed.find(|(_, probe)| probe.trace_id == span.trace_id);
        Class {
            phase: self.moments.iter().filter(|at| **at <= span.start).count(),
            in_last_errors: self.last_errors.contains(&(span.trace_id, span.span_id)),
            is_error: span.is_error,
            is_own_error: span.is_own_error(),
            is_ours: evidence.probe_traces.contains(&span.trace_id),
            outlived_failure: self.bench.outlived_failure(span),
            of_failed: of_failed.map(|(number, probe)| OfFailed {
                probe: number,
                under_step: probe
                    .failed_span
                    .is_some_and(|step| span.ancestors.contains(&step)),
                outlasts: outlasts(span, probe),
                kind: span.kind,
                http_status: span.http_status,
            }),
        }
    }
}

fn ends<'s>(spans: &[&'s ServerSpan]) -> Vec<&'s ServerSpan> {
    let last = spans.len().saturating_sub(LAST_OF_CLASS).max(1);
    let first = spans.iter().take(1);
    first.chain(spans.iter().skip(last)).copied().collect()
}

/// The ends of a class, the first of which stands for all between. A trace is counted once in each phase; `kept` are in
/// spans that stay.
fn shortened(
    class: &Class,
    spans: &[&ServerSpan],
    kept: &BTreeSet<TraceId>,
    counted: &mut BTreeSet<(usize, TraceId)>,
) -> Vec<ServerSpan> {
    let ends = ends(spans);
    let between = spans.iter().skip(1).take(spans.len() - ends.len());
    let mut fellows = Fellows::default();
    for span in between {
        fellows.spans += 1 + span.fellows.spans;
        fellows.requests += span.fellows.requests;
        let is_new = !kept.contains(&span.trace_id) && counted.insert((class.phase, span.trace_id));
        fellows.requests += usize::from(is_new);
    }
    let mut ends: Vec<_> = ends.into_iter().cloned().collect();
    if let Some(first) = ends.first_mut() {
        first.fellows.spans += fellows.spans;
        first.fellows.requests += fellows.requests;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::super::judge::judge;
    use super::super::sample;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_little_and_is_judged_the_same(evidence in sample::evidence()) {
            let kept = excerpt(&evidence);
            prop_assert!(kept.spans.len() <= MOST);
            let text = serde_json::to_string(&kept).unwrap();
            let read: Evidence = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &kept);
            let (before, after) = (judge(&evidence), judge(&read));
            prop_assert_eq!(before.verdict, after.verdict);
            prop_assert_eq!(before.rule, after.rule);
            prop_assert_eq!(before.service_spans, after.service_spans);
            prop_assert_eq!(before.error_spans, after.error_spans);
            prop_assert_eq!(before.probe_trace_spans, after.probe_trace_spans);
            // Keeping it again loses nothing more.
            prop_assert_eq!(excerpt(&read), read);
        }
    }
}
