//! From a backend's spans to evidence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::asking::Asking;
use super::backend::{Api, Backend, BackendSpan, Question};
use super::bench::is_gateway_status;
use super::clock::clock_skew;
use super::heard::Heard;
use super::search::Search;
use super::service::{by_trace, candidates, in_its_place, learnt_service, other_deployment};
use super::span::{is_own, server_span};
use crate::model::{
    BackendState, Case, ClockSkew, Elsewhere, Evidence, FailedProbe, Layer, OperationKind,
    PassedProbe, Reason, ServerSpan, ServiceName, SpanId, StoredProbe, Text, TraceId, Window,
};

/// Failed probes whose traces are asked for.
const MAX_FAILED: usize = 6;

/// Passed probes whose traces are asked for. Three have to have left spans; the latest may not have yet.
const MAX_PASSED: usize = 12;

/// A failed probe so young that its spans may still be on their way is left out, but for the first one.
const OWN_SPANS_GRACE: Duration = Duration::from_secs(10);

/// The same for a search that sees later what asking by id sees at once: Tempo's does after some ten seconds.
const SEARCH_GRACE: Duration = Duration::from_secs(20);

/// Asks `backend` everything that there is to know about `case`, as of `now`.
pub async fn gather(case: &Case, backend: &Backend, asking: &Asking, now: SystemTime) -> Evidence {
    let api = backend.api();
    let now = api.told_until(asking, now).await;
    let failed = chosen_failures(case);
    let passed: Vec<_> = case.passed.iter().take(MAX_PASSED).collect();
    let probes = || failed.iter().chain(&passed);
    let ids: Vec<_> = probes().map(|probe| probe.trace_id).collect();
    let around = around(probes(), case, now);
    let everything = everything(case, &ids, &failed, around, now);
    let mut heard = Heard::of_traces(api, &ids, around, everything, asking).await;
    let mut failed_traces = by_trace(&ids, &heard.spans);
    let passed_traces = failed_traces.split_off(failed.len());
    let chosen = failed.len();
    let failed = drop_too_young(failed, &failed_traces, now);
    let service = service_of(api, case, &passed_traces);
    let (failed, search_lags) = match service {
        Some(_) => {
            seen_by_search(
                api,
                failed,
                &failed_traces,
                case,
                now,
                asking,
                &mut heard.state,
            )
            .await
        }
        None => (failed, false),
    };
    let (mut baseline, gap) = windows(case, &failed, now);
    // What came back after the last failed probe may not be seen yet by a search that lags.
    let silence_to = match search_lags {
        true => gap.to,
        false => silence_end(case, gap, now),
    };
    let skew = service.as_ref().map_or(ClockSkew::NONE, |service| {
        let traces = passed_traces.iter().chain(&failed_traces);
        clock_skew(traces.map(Vec::as_slice), service)
    });
    let search = service.as_ref().map(|service| Search {
        api,
        asking,
        service,
        skew,
    });
    let since = Window {
        from: gap.from,
        to: silence_to,
    };
    let mut found = searched(&mut heard, api, search, since, &mut baseline, asking).await;
    // A trace of ours is looked at whole or not at all: what hangs below negotiation is told by its parents.
    let ours = own_traces(case);
    found.retain(|span| !ours.contains(&span.trace_id) || ids.contains(&span.trace_id));
    let same_name = case.service_shared_with.as_ref().map(Text::new);
    let service_shared_with =
        same_name.or_else(|| other_deployment(service.as_ref()?, &passed_traces, &found));
    // What was heard before the first failure or after the last says nothing of our network between. Without a failure it is
    // asked in general.
    let first = failed.first().map(|probe| probe.started_at);
    let heard_from = first.unwrap_or(baseline.from);
    let heard_to = first.map_or(now, |_| gap.to);
    let others_heard = others_heard(api, heard_from, heard_to, service.as_ref(), asking).await;
    let of_probes = failed_traces.iter().chain(&passed_traces).flatten();
    let all = each_once(of_probes.chain(&found));
    let foreign = all.values().filter(|span| !is_own(span));
    let spans: Vec<_> = foreign
        .map(|span| server_span(span, &all, service.as_ref(), skew))
        .collect();
    let negotiation = negotiation(case, all.values());
    let mut passed = passed_probes(&passed, &spans, &negotiation, service.as_ref());
    find_own_spans(&mut passed, &passed_traces);
    Evidence {
        backend: heard.state,
        coverage: heard.coverage,
        ever_instrumented: case.ever_instrumented || passed.iter().any(|probe| probe.joined),
        candidates: candidates(&passed_traces, service.as_ref()),
        failed: failed
            .iter()
            .filter_map(|probe| Some(failed_probe(case, probe, probe.layer?, &failed_traces)))
            .collect(),
        passed,
        service: service.map(|service| service.name.into()),
        service_shared_with,
        baseline,
        gap,
        silence_to,
        asked_at: now,
        later_on_its_way: failed.len() < chosen,
        usual_lag: case.usual_lag,
        clock: skew,
        shares_our_network: api.shares_our_network(),
        elsewhere: match backend.is_beside_us() {
            true => case.elsewhere,
            false => Elsewhere::Nowhere,
        },
        others_heard,
        spans,
        probe_traces: ours,
        negotiation,
    }
}

/// The service's spans; nothing where the backend cannot be believed, or nobody knows the service.
async fn searched(
    heard: &mut Heard,
    api: &dyn Api,
    search: Option<Search<'_>>,
    since: Window,
    baseline: &mut Window,
    asking: &Asking,
) -> Vec<BackendSpan> {
    match (search, &heard.state) {
        (Some(search), BackendState::Answered) => heard.of_service(search, since, baseline).await,
        (None, BackendState::Answered) => {
            heard.of_nothing(api, asking).await;
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// As it is known, or as passed probes tell it, and where it stands.
fn service_of(api: &dyn Api, case: &Case, passed: &[Vec<BackendSpan>]) -> Option<ServiceName> {
    let learnt = || {
        learnt_service(passed).map(|name| ServiceName {
            name,
            attributes: BTreeMap::new(),
        })
    };
    let service = api.service(case.service.as_ref()).or_else(learnt);
    service.map(|service| in_its_place(service, passed))
}

/// All that there is to ask, where the service is known beforehand.
fn everything<'a>(
    case: &'a Case,
    ids: &'a [TraceId],
    failed: &[&StoredProbe],
    around: Window,
    now: SystemTime,
) -> Option<Question<'a>> {
    let (baseline, gap) = windows(case, failed, now);
    Some(Question {
        ids,
        service: case.service.as_ref()?,
        whole: Window {
            from: around.from.min(baseline.from),
            to: around.to,
        },
        since: Window {
            from: gap.from,
            to: silence_end(case, gap, now),
        },
    })
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

/// The first failure, the last one, and others evenly between: the latest of a target that is probed every second would all
/// be too young for their spans to be there.
fn chosen_failures(case: &Case) -> Vec<&StoredProbe> {
    let last = case.failed.len().saturating_sub(1);
    let count = case.failed.len().min(MAX_FAILED);
    let index = |turn: usize| turn * last / count.saturating_sub(1).max(1);
    (0..count)
        .filter_map(|turn| case.failed.get(index(turn)))
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

/// Where a search sees later what asking by id sees at once: the failed probes that the search sees too, and whether it is so.
/// If it does not see one that is not young any more, or the first, its silence proves nothing.
async fn seen_by_search<'c>(
    api: &dyn Api,
    failed: Vec<&'c StoredProbe>,
    traces: &[Vec<BackendSpan>],
    case: &Case,
    now: SystemTime,
    asking: &Asking,
    state: &mut BackendState,
) -> (Vec<&'c StoredProbe>, bool) {
    let is_found = |id: TraceId| has_own_spans(traces, id);
    let ids = failed.iter().map(|probe| probe.trace_id);
    let ids: Vec<_> = ids.filter(|id| is_found(*id)).collect();
    if *state != BackendState::Answered {
        return (failed, false);
    }
    let seen = match api
        .searchable(&ids, around(failed.iter(), case, now), asking)
        .await
    {
        Ok(None) => return (failed, false),
        Ok(Some(seen)) => seen,
        Err(why) => {
            *state = BackendState::Unavailable(why);
            return (failed, true);
        }
    };
    let first = failed.first().map(|probe| probe.trace_id);
    let is_young = |probe: &StoredProbe| {
        let age = now.duration_since(probe.ended_at).unwrap_or_default();
        Some(probe.trace_id) != first && age < SEARCH_GRACE
    };
    let is_missing =
        |probe: &&StoredProbe| is_found(probe.trace_id) && !seen.contains(&probe.trace_id);
    // A probe is made just before the backend is asked: waited for, there would never be a verdict.
    let kept: Vec<_> = failed
        .into_iter()
        .filter(|probe| !is_missing(probe) || !is_young(probe))
        .collect();
    if let Some(missing) = kept.iter().copied().find(is_missing) {
        *state = BackendState::Unavailable(Text::new(format!(
            "its search does not see our own probe {} (yet), which asking by its id does",
            missing.trace_id
        )));
    }
    (kept, true)
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

/// A handshake that fails is over in a few round trips: one that takes longer was waited for in vain.
const HANDSHAKE: Duration = Duration::from_secs(1);

fn is_time_over(probe: &StoredProbe) -> bool {
    let took = probe.ended_at.duration_since(probe.started_at);
    match probe.reason {
        Some(Reason::HttpTimeout | Reason::Timeout) => true,
        Some(Reason::TlsHandshake) => took.is_ok_and(|took| took >= HANDSHAKE),
        _ => false,
    }
}

fn failed_probe(
    case: &Case,
    probe: &StoredProbe,
    layer: Layer,
    traces: &[Vec<BackendSpan>],
) -> FailedProbe {
    let operation = probe.failed_operation();
    // A status with a JSON-RPC error in it was spoken by something that knows MCP, not by something in front.
    let by_status = probe.reason == Some(Reason::HttpStatus);
    let http_status = probe.http_status.filter(|_| by_status);
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
        at_proxy: probe.reason == Some(Reason::Proxy)
            || (case.by_plain_proxy && http_status.is_some_and(is_gateway_status)),
        http_status,
        failed_span: operation.map(|operation| operation.span_id),
        failed_step: operation.map(|operation| Window {
            from: probe.started_at + operation.start,
            to: probe.started_at + operation.end,
        }),
        answered: operation.is_some_and(|operation| operation.answered),
        timed_out: is_time_over(probe),
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
