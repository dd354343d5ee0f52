//! How far a server's clock is from ours, measured on spans that answer ours.

use std::collections::HashMap;
use std::time::Duration;

use super::backend::BackendSpan;
use super::span::is_own;
use crate::model::{ClockSkew, ServiceName, SpanId};

/// A clock that is off by less than this cannot be told from a span's own length.
const SKEW_NOTICED: Duration = Duration::from_millis(100);

/// The middle of the service's spans against the middle of ours that they answer, the median of all. Only its own
/// spans tell: a gateway between has another clock.
pub(super) fn clock_skew<'t>(
    traces: impl Iterator<Item = &'t [BackendSpan]>,
    service: &ServiceName,
) -> ClockSkew {
    let middle = |span: &BackendSpan| span.start + span.duration / 2;
    let mut differences = Vec::new();
    let mut answered = Vec::new();
    for trace in traces {
        let by_id: HashMap<_, _> = trace.iter().map(|span| (span.span_id, span)).collect();
        for span in trace
            .iter()
            .filter(|span| !is_own(span) && span.service == service.name)
        {
            let Some(ours) = own_ancestor(span, &by_id) else {
                continue;
            };
            let difference = match middle(span).duration_since(middle(ours)) {
                Ok(ahead) => signed_micros(ahead),
                Err(behind) => -signed_micros(behind.duration()),
            };
            differences.push(difference);
            // One that goes on after we stopped to listen is late by as much as it likes.
            if span.duration <= ours.duration {
                answered.push(difference);
            }
        }
    }
    differences.sort_unstable();
    let median = differences
        .get(differences.len() / 2)
        .copied()
        .unwrap_or_default();
    let by = Duration::from_micros(median.unsigned_abs());
    let spread = match (answered.iter().max(), answered.iter().min()) {
        (Some(most), Some(least)) => Duration::from_micros(most.abs_diff(*least)),
        _ => Duration::ZERO,
    };
    if by < SKEW_NOTICED {
        return ClockSkew {
            spread,
            ..ClockSkew::NONE
        };
    }
    ClockSkew {
        by,
        ahead: median > 0,
        spread,
    }
}

/// The nearest span of ours above `span`.
fn own_ancestor<'t>(
    span: &'t BackendSpan,
    by_id: &HashMap<SpanId, &'t BackendSpan>,
) -> Option<&'t BackendSpan> {
    let mut next = by_id.get(&span.parent?);
    // A chain is never longer than the trace; a cycle can only come from a broken exporter.
    for _ in 0..by_id.len() {
        match next {
            Some(ancestor) if is_own(ancestor) => return Some(ancestor),
            Some(ancestor) => next = by_id.get(&ancestor.parent?),
            None => return None,
        }
    }
    None
}

fn signed_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::{OWN_SCOPE, SpanKind, TraceId};

    /// Our span of a second, and the server's below it of half a second, `seconds` off.
    fn trace(number: u8, seconds: i64, took: u64) -> Vec<BackendSpan> {
        let zero = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let off = Duration::from_secs(seconds.unsigned_abs());
        let start = zero + Duration::from_millis(250);
        let theirs = if seconds < 0 {
            start - off
        } else {
            start + off
        };
        let span = |id: u8, service: &str, start, millis| BackendSpan {
            trace_id: TraceId([number; 16]),
            span_id: SpanId([id; 8]),
            parent: (id > 1).then_some(SpanId([id - 1; 8])),
            service: service.to_owned(),
            name: String::new(),
            kind: SpanKind::Server,
            start,
            duration: Duration::from_millis(millis),
            is_error: false,
            message: None,
            tags: HashMap::new(),
            resource: HashMap::new(),
        };
        let mut ours = span(1, "mcpprobe", zero, 1_000);
        let scope = ("otel.scope.name".to_owned(), OWN_SCOPE.to_owned());
        ours.tags.extend([scope]);
        vec![ours, span(2, "weather", theirs, took)]
    }

    fn measured(offsets: &[i64], took: u64) -> ClockSkew {
        let traces: Vec<_> = (1..)
            .zip(offsets)
            .map(|(number, seconds)| trace(number, *seconds, took))
            .collect();
        let service = ServiceName {
            name: "weather".to_owned(),
            attributes: Default::default(),
        };
        clock_skew(traces.iter().map(Vec::as_slice), &service)
    }

    #[test]
    fn a_clock_is_measured_whichever_way_it_is_off() {
        assert_eq!(measured(&[0, 0, 0], 500), ClockSkew::NONE);
        assert_eq!(measured(&[], 500), ClockSkew::NONE);
        for (seconds, ahead) in [(90, true), (-90, false)] {
            let skew = measured(&[seconds; 3], 500);
            assert_eq!((skew.by, skew.ahead), (Duration::from_secs(90), ahead));
            assert_eq!(skew.trouble(), None);
        }
        assert!(measured(&[-150; 3], 500).trouble().is_some());
    }

    #[test]
    fn replicas_that_disagree_are_noticed_and_a_handler_that_hangs_is_not_one() {
        let skew = measured(&[0, 0, 0, 0, 90], 500);
        assert_eq!(
            (skew.by, skew.spread),
            (Duration::ZERO, Duration::from_secs(90))
        );
        assert!(skew.trouble().is_some());
        // It goes on long after we gave up: that says nothing of its clock.
        assert_eq!(measured(&[0, 0, 30], 60_000).spread, Duration::ZERO);
    }
}
