//! Which service in the traces is the target's, learnt from probes that passed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::asking::Asking;
use super::backend::{Backend, BackendSpan};
use super::budget::Claim;
use super::span::{has_mcp_attributes, is_foreign_mcp, is_health_check, is_own};
use crate::model::{ServiceName, SpanKind, Text, TraceId, Window};

/// Joined traces that have to name the same service before it counts as the target's.
const JOINED_TO_LEARN: usize = 3;

/// What passed probes' traces say of the target's instrumentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// The service that owns the spans of MCP in at least three traces.
    pub service: Option<String>,
    /// Traces in which there was a span of the target.
    pub joined: usize,
}

/// Asks the backend about passed probes' traces only, in order to learn the target's service;
/// `configured` is the one that the user has named.
///
/// # Errors
/// When the backend cannot say.
pub async fn learn(
    backend: &Backend,
    traces: &[TraceId],
    around: Window,
    configured: Option<&ServiceName>,
) -> Result<Learnt, Text> {
    let asking = Asking::by(Claim::Learning);
    let answer = backend.api().traces(traces, around, &asking).await?;
    let answers = by_trace(traces, &answer.spans);
    let is_targets = |span: &BackendSpan| match configured {
        Some(service) => {
            span.service == service.name
                && span.resource_matches(service)
                && !is_health_check(span)
                && (span.kind == SpanKind::Server || has_mcp_attributes(span))
        }
        None => is_foreign_mcp(span),
    };
    let joined = answers
        .iter()
        .filter(|spans| spans.iter().any(is_targets))
        .count();
    Ok(Learnt {
        service: learnt_service(&answers),
        joined,
    })
}

/// The spans of each trace, in the order of `ids`.
pub(super) fn by_trace(ids: &[TraceId], spans: &[BackendSpan]) -> Vec<Vec<BackendSpan>> {
    let mut traces: HashMap<TraceId, Vec<BackendSpan>> =
        ids.iter().map(|id| (*id, Vec::new())).collect();
    for span in spans {
        if let Some(trace) = traces.get_mut(&span.trace_id) {
            trace.push(span.clone());
        }
    }
    ids.iter()
        .map(|id| traces.remove(id).unwrap_or_default())
        .collect()
}

/// Whether a service that speaks of MCP is only a gateway: another service takes requests below it.
fn is_gateway(service: &str, trace: &[BackendSpan]) -> bool {
    let by_id: HashMap<_, _> = trace.iter().map(|span| (span.span_id, span)).collect();
    let is_below = |span: &BackendSpan| {
        let mut next = span.parent.and_then(|parent| by_id.get(&parent));
        for _ in 0..by_id.len() {
            match next {
                Some(above) if above.service == service => return true,
                Some(above) => next = above.parent.and_then(|parent| by_id.get(&parent)),
                None => return false,
            }
        }
        false
    };
    trace.iter().any(|span| {
        !is_own(span) && span.service != service && span.kind == SpanKind::Server && is_below(span)
    })
}

/// The service that owns the spans of MCP in enough traces, if it is always the same one.
pub(super) fn learnt_service(traces: &[Vec<BackendSpan>]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for trace in traces {
        let services: BTreeSet<_> = trace
            .iter()
            .filter(|span| is_foreign_mcp(span) && !is_gateway(&span.service, trace))
            .map(|span| span.service.as_str())
            .collect();
        for service in services {
            *counts.entry(service).or_default() += 1;
        }
    }
    let enough: Vec<_> = counts
        .into_iter()
        .filter(|(_, count)| *count >= JOINED_TO_LEARN)
        .collect();
    match enough.as_slice() {
        // An MCP gateway in front speaks of MCP as well: then nobody can tell but the user.
        [(service, _)] => Some((*service).to_owned()),
        _ => None,
    }
}

/// Services with spans in our traces that may or may not be the target's.
pub(super) fn candidates(
    traces: &[Vec<BackendSpan>],
    service: Option<&ServiceName>,
) -> BTreeSet<Text> {
    if service.is_some() {
        return BTreeSet::new();
    }
    traces
        .iter()
        .flatten()
        .filter(|span| !is_own(span) && span.kind == SpanKind::Server)
        .map(|span| Text::new(&span.service))
        .collect()
}
