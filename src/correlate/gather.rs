//! From a backend's spans to evidence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::backend::{Api, Asking, Backend, BackendSpan};
use super::clock::clock_skew;
use super::search::Search;
use super::service::{by_trace, candidates, learnt_service};
use super::span::{is_own, server_span};
use crate::model::{
    BackendState, Case, ClockSkew, Coverage, Evidence, FailedProbe, Layer, OperationKind,
    PassedProbe, Reason, ServerSpan, ServiceName, SpanId, StoredProbe, Text, TraceId, Window,
};

/// Failed probes whose traces are asked for: the first, and the latest.
const MAX_FAILED: usize = 6;

/// Passed probes whose traces are asked for. Three have to have left spans; the latest may not have yet.
const MAX_PASSED: usize = 12;

/// A failed probe so young that its spans may still be on their way is left out, but for the first one.
const OWN_SPANS_GRACE: Duration = Duration::from_secs(10);

/// Asks `backend` everything that there is to know about `case`, as of `now`.
pub async fn gather(case: &Case, backend: &Backend, asking: &Asking, now: SystemTime) -> Evidence {
    let api = backend.api();
    let failed = chosen_failures(case);
    let passed: Vec<_> = case.passed.iter().take(MAX_PASSED).collect();
    let probes = || failed.iter().chain(&passed);
    let ids: Vec<_> = probes().map(|probe| probe.trace_id).collect();
    let mut state = BackendState::Answered;
    let mut coverage = Coverage::Full;
    let around = around(probes(), case, now);
    let traces = own_probes(api, &ids, around, asking, &mut state).await;
    let mut failed_traces = by_trace(&ids, traces);
    let passed_traces = failed_traces.split_off(failed.len());
    let failed = drop_too_young(failed, &failed_traces, now);
    let service = case.service.clone().or_else(|| {
        learnt_service(&passed_traces).map(|name| ServiceName {
            name,
            attributes: BTreeMap::new(),
        })
    });
    let (mut baseline, gap) = windows(case, &failed, now);
    let silence_to = silence_end(case, gap, now);
    let skew = service.as_ref().map_or(ClockSkew::NONE, |service| {
        let traces = passed_traces.iter().chain(&failed_traces);
        clock_skew(traces.map(Vec::as_slice), service)
    });
    let since = Window {
        from: gap.from,
        to: silence_to,
    };
    let found = match &service {
        Some(service) => {
            let search = Search {
                api,
                asking,
                service,
                skew,
            };
            both_windows(&search, since, &mut baseline, &mut state, &mut coverage).await
        }
        None => {
            // Nothing to search for, but its silence must be that of a backend that answers.
            if state == BackendState::Answered
                && let Err(why) = api.answers(asking).await
            {
                state = BackendState::Unavailable(why);
            }
            Vec::new()
        }
    };
    // Without a failure it is asked in general whether anybody else is heard.
    let in_general = failed.is_empty().then_some(baseline.from);
    let heard_from = in_general.unwrap_or(gap.from);
    let others_heard = others_heard(api, heard_from, now, service.as_ref(), asking).await;
    let all = each_once(
        failed_traces
            .iter()
            .chain(&passed_traces)
            .flatten()
            .chain(&found),
    );
    let spans: Vec<_> = all
        .values()
        .filter(|span| !is_own(span))
        .map(|span| server_span(span, &all, service.as_ref(), skew))
        .collect();
    let negotiation = negotiation(case, all.values());
    let mut passed = passed_probes(&passed, &spans, &negotiation, service.as_ref());
    find_own_spans(&mut passed, &passed_traces);
    Evidence {
        backend: state,
        coverage,
        ever_instrumented: case.ever_instrumented || passed.iter().any(|probe| probe.joined),
        candidates: candidates(&passed_traces, service.as_ref()),
        failed: failed
            .iter()
            .filter_map(|probe| Some(failed_probe(probe, probe.layer?, &failed_traces)))
            .collect(),
        passed,
        service: service.map(|service| service.name.into()),
        service_shared_with: case.service_shared_with.as_ref().map(Text::new),
        baseline,
        gap,
        silence_to,
        asked_at: now,
        usual_lag: case.usual_lag,
        clock: skew,
        shares_our_network: api.shares_our_network(),
        others_heard,
        spans,
        probe_traces: own_traces(case),
        negotiation,
    }
}

/// Everything in our probes' traces.
async fn own_probes(
    api: &dyn Api,
    ids: &[TraceId],
    around: Window,
    asking: &Asking,
    state: &mut BackendState,
) -> Vec<BackendSpan> {
    match api.traces(ids, around, asking).await {
        Ok(answer) => {
            if let Some(cut) = answer.cut {
                *state = BackendState::Truncated(cut);
            }
            answer.spans
        }
        Err(why) => {
            *state = BackendState::Unavailable(why);
            Vec::new()
        }
    }
}

/// The service's spans since the last passed probe, and before it; none where the backend is not to be believed already.
async fn both_windows(
    search: &Search<'_>,
    since: Window,
    baseline: &mut Window,
    state: &mut BackendState,
    coverage: &mut Coverage,
) -> Vec<BackendSpan> {
    if *state != BackendState::Answered {
        return Vec::new();
    }
    let mut found = search.all(since, state, coverage).await;
    found.extend(search.as_far_back_as_possible(baseline, state).await);
    found
}

/// A span is found by its trace and by the search: here it is once.
fn each_once<'s>(
    spans: impl Iterator<Item = &'s BackendSpan>,
) -> HashMap<(TraceId, SpanId), BackendSpan> {
    let mut all = HashMap::new();
    for span in spans {
        all.entry((span.trace_id, span.span_id))
            .or_insert_with(|| span.clone());
    }
    all
}

fn passed_probes(
    probes: &[&StoredProbe],
    spans: &[ServerSpan],
    negotiation: &BTreeSet<SpanId>,
    service: Option<&ServiceName>,
) -> Vec<PassedProbe> {
    let is_joined = |span: &ServerSpan| match service {
        Some(service) => span.is_of(&service.name),
        None => span.has_mcp_attributes,
    };
    let joined: BTreeSet<_> = spans
        .iter()
        .filter(|span| {
            !span
                .ancestors
                .iter()
                .any(|above| negotiation.contains(above))
        })
        .filter(|span| is_joined(span))
        .map(|span| span.trace_id)
        .collect();
    probes
        .iter()
        .map(|probe| PassedProbe {
            trace_id: probe.trace_id,
            ended_at: probe.ended_at,
            joined: joined.contains(&probe.trace_id),
            own_spans_found: false,
        })
        .collect()
}

/// The first failure and the latest ones.
fn chosen_failures(case: &Case) -> Vec<&StoredProbe> {
    let surplus = case.failed.len().saturating_sub(MAX_FAILED);
    case.failed
        .iter()
        .enumerate()
        .filter(|(index, _)| *index == 0 || *index > surplus)
        .map(|(_, probe)| probe)
        .collect()
}

/// From the earliest of these probes until now: when their traces were.
fn around<'p>(
    probes: impl Iterator<Item = &'p &'p StoredProbe>,
    case: &Case,
    now: SystemTime,
) -> Window {
    let first = probes.map(|probe| probe.started_at).min();
    let from = first.unwrap_or(case.at).min(case.at);
    Window {
        from,
        to: now.max(from),
    }
}

fn drop_too_young<'c>(
    failed: Vec<&'c StoredProbe>,
    traces: &[Vec<BackendSpan>],
    now: SystemTime,
) -> Vec<&'c StoredProbe> {
    let first = failed.first().map(|probe| probe.trace_id);
    failed
        .into_iter()
        .filter(|probe| {
            let age = now.duration_since(probe.ended_at).unwrap_or_default();
            Some(probe.trace_id) == first
                || age >= OWN_SPANS_GRACE
                || has_own_spans(traces, probe.trace_id)
        })
        .collect()
}

fn find_own_spans(passed: &mut [PassedProbe], traces: &[Vec<BackendSpan>]) {
    for probe in passed {
        probe.own_spans_found = has_own_spans(traces, probe.trace_id);
    }
}

fn has_own_spans(traces: &[Vec<BackendSpan>], id: TraceId) -> bool {
    traces
        .iter()
        .flatten()
        .any(|span| span.trace_id == id && is_own(span))
}

/// Baseline and gap. The gap ends with the last failed probe that is looked at: later the server
/// may have come back without our having seen it, and its spans would tell of another time.
fn windows(case: &Case, failed: &[&StoredProbe], now: SystemTime) -> (Window, Window) {
    let first = failed.first().map_or(case.at, |probe| probe.started_at);
    let baseline_end = case
        .passed
        .first()
        .map_or(first, |probe| probe.ended_at)
        .min(first);
    let gap_end = failed
        .last()
        .map_or(case.at, |probe| probe.ended_at)
        .min(first + case.window)
        .min(now);
    let baseline = Window {
        from: baseline_end - case.window,
        to: baseline_end,
    };
    let gap = Window {
        from: baseline_end,
        to: gap_end.max(baseline_end),
    };
    (baseline, gap)
}

/// Silence is looked for up to now, but for what may still be on its way, and never past the recovery.
fn silence_end(case: &Case, gap: Window, now: SystemTime) -> SystemTime {
    let seen = now.checked_sub(OWN_SPANS_GRACE).unwrap_or(now);
    let first = case
        .failed
        .first()
        .map_or(case.at, |probe| probe.started_at);
    seen.min(first + case.window)
        .min(case.recovered_at.unwrap_or(seen))
        .max(gap.to)
}

fn failed_probe(probe: &StoredProbe, layer: Layer, traces: &[Vec<BackendSpan>]) -> FailedProbe {
    let operation = probe.failed_operation();
    // A status with a JSON-RPC error in it was spoken by something that knows MCP, not by something in front.
    let by_status = probe.reason == Some(Reason::HttpStatus);
    // An expectation is judged on a session that worked: that of the certificate is no failure to connect.
    let layer = match probe.reason {
        Some(Reason::Expectation) => layer.max(Layer::Http),
        _ => layer,
    };
    FailedProbe {
        trace_id: probe.trace_id,
        started_at: probe.started_at,
        ended_at: probe.ended_at,
        layer,
        at_proxy: probe.reason == Some(Reason::Proxy),
        http_status: probe.http_status.filter(|_| by_status),
        failed_span: operation.map(|operation| operation.span_id),
        failed_step: operation.map(|operation| Window {
            from: probe.started_at + operation.start,
            to: probe.started_at + operation.end,
        }),
        answered: operation.is_some_and(|operation| operation.answered),
        timed_out: matches!(probe.reason, Some(Reason::HttpTimeout | Reason::Timeout)),
        own_spans_found: has_own_spans(traces, probe.trace_id),
        refused_by_host: matches!(
            probe.reason,
            Some(Reason::ConnectionRefused | Reason::ConnectionReset)
        ),
    }
}

/// Whether the prober's own network let anything else through since the last passed probe. What a backend cannot say of it
/// is no trouble of the backend's: then there is no such sign.
async fn others_heard(
    api: &dyn Api,
    from: SystemTime,
    to: SystemTime,
    service: Option<&ServiceName>,
    asking: &Asking,
) -> Option<usize> {
    if !api.shares_our_network() {
        return None;
    }
    let window = Window {
        from,
        to: to.max(from),
    };
    api.heard_others(window, service, asking).await.ok()?
}

/// The traces of our own probes of this target.
fn own_traces(case: &Case) -> BTreeSet<TraceId> {
    let looked_at = case
        .failed
        .iter()
        .chain(&case.passed)
        .map(|probe| probe.trace_id);
    looked_at.chain(case.own_traces.iter().copied()).collect()
}

/// Our spans named `mcp.negotiate`, in the traces of this target's probes.
fn negotiation<'s>(case: &Case, spans: impl Iterator<Item = &'s BackendSpan>) -> BTreeSet<SpanId> {
    let ours = own_traces(case);
    // Those of the failed probes are known without the backend.
    let remembered = case
        .failed
        .iter()
        .flat_map(|probe| &probe.operations)
        .filter(|operation| operation.kind == OperationKind::Negotiate)
        .map(|operation| operation.span_id);
    spans
        .filter(|span| {
            ours.contains(&span.trace_id) && is_own(span) && span.name == "mcp.negotiate"
        })
        .map(|span| span.span_id)
        .chain(remembered)
        .collect()
}
