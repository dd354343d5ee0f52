//! How far a server's clock is from ours, measured on spans that answer ours.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::backend::BackendSpan;
use super::span::is_own;
use crate::model::{ServiceName, SpanId};

/// A clock that is off by less than this cannot be told from a span's own length.
const SKEW_NOTICED: Duration = Duration::from_millis(100);

/// How far the server's clock is from ours.
#[derive(Clone, Copy)]
pub(super) struct Skew {
    by: Duration,
    ahead: bool,
}

impl Skew {
    pub(super) const NONE: Self = Self {
        by: Duration::ZERO,
        ahead: true,
    };

    /// A time of our clock as the server's clock shows it.
    pub(super) fn theirs(self, ours: SystemTime) -> SystemTime {
        if self.ahead {
            ours + self.by
        } else {
            ours - self.by
        }
    }

    /// A time of the server's clock as ours shows it.
    pub(super) fn ours(self, theirs: SystemTime) -> SystemTime {
        if self.ahead {
            theirs - self.by
        } else {
            theirs + self.by
        }
    }
}

/// The middle of the service's spans against the middle of ours that they answer, the median of all. Only its own
/// spans tell: a gateway between has another clock.
pub(super) fn clock_skew<'t>(
    traces: impl Iterator<Item = &'t [BackendSpan]>,
    service: &ServiceName,
) -> Skew {
    let middle = |span: &BackendSpan| span.start + span.duration / 2;
    let mut differences = Vec::new();
    for trace in traces {
        let by_id: HashMap<_, _> = trace.iter().map(|span| (span.span_id, span)).collect();
        for span in trace
            .iter()
            .filter(|span| !is_own(span) && span.service == service.name)
        {
            let Some(ours) = own_ancestor(span, &by_id) else {
                continue;
            };
            differences.push(match middle(span).duration_since(middle(ours)) {
                Ok(ahead) => signed_micros(ahead),
                Err(behind) => -signed_micros(behind.duration()),
            });
        }
    }
    differences.sort_unstable();
    let median = differences
        .get(differences.len() / 2)
        .copied()
        .unwrap_or_default();
    let by = Duration::from_micros(median.unsigned_abs());
    if by < SKEW_NOTICED {
        return Skew::NONE;
    }
    Skew {
        by,
        ahead: median > 0,
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
