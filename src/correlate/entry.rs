//! Which spans take requests, where a backend has dropped their kind.

use std::collections::HashSet;

use super::backend::BackendSpan;
use super::span::is_own;
use crate::model::{OWN_SCOPE, SpanKind};

/// Attributes of a request that came in; one that went out has the whole URL, or the peer.
const OF_A_REQUEST_IN: [&str; 5] = [
    "url.path",
    "http.target",
    "http.route",
    "client.address",
    "http.server_name",
];

/// Marks spans as of kind SERVER that are the first of their project in a trace and tell of a request that came in.
/// Without it a server's plain HTTP spans would be nobody's, and its answer 503 silence.
pub(super) fn mark_entries(spans: &mut [BackendSpan]) {
    mark_phases(spans);
    let inner: HashSet<_> = spans
        .iter()
        .filter(|span| !is_own(span))
        .map(|span| (span.trace_id, span.span_id))
        .collect();
    for span in spans {
        let below_another = span
            .parent
            .is_some_and(|parent| inner.contains(&(span.trace_id, parent)));
        let took_request = OF_A_REQUEST_IN.iter().any(|key| span.tag(key).is_some());
        if !is_own(span) && !below_another && took_request {
            span.kind = SpanKind::Server;
        }
    }
}

/// Our phases carry nothing by which they are ours, but the id of the span above them never leaves us.
fn mark_phases(spans: &mut [BackendSpan]) {
    let ours: HashSet<_> = spans
        .iter()
        .filter(|span| is_own(span) && span.name == "mcp.transport")
        .map(|span| (span.trace_id, span.span_id))
        .collect();
    for span in spans {
        if span
            .parent
            .is_some_and(|parent| ours.contains(&(span.trace_id, parent)))
        {
            span.tags
                .insert("otel.scope.name".to_owned(), OWN_SCOPE.to_owned());
        }
    }
}
