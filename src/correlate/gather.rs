//! From a backend's spans to evidence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;

use super::jaeger::{BackendSpan, Jaeger, SEARCH_LIMIT, Unavailable};
use crate::model::{
    BackendState, Case, Evidence, FailedProbe, Layer, OWN_SCOPE, OperationKind, PassedProbe,
    Reason, ServerSpan, ServiceName, SpanId, SpanKind, StoredProbe, Text, TraceId, Window,
};

/// Failed probes whose traces are asked for: the first, and the latest.
const MAX_FAILED: usize = 6;

/// Passed probes whose traces are asked for. Three have to have left spans; the latest may not have yet.
const MAX_PASSED: usize = 12;

/// A failed probe so young that its spans may still be on their way is left out, but for the first one.
const OWN_SPANS_GRACE: Duration = Duration::from_secs(10);

/// A baseline is not made shorter than this: its last quarter would hold nothing.
const SHORTEST_BASELINE: Duration = Duration::from_secs(10);

/// Joined traces that have to name the same service before it counts as the target's.
const JOINED_TO_LEARN: usize = 3;

/// A clock that is off by less than this cannot be told from a span's own length.
const SKEW_NOTICED: Duration = Duration::from_millis(100);

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
    jaeger: &Jaeger,
    traces: &[TraceId],
    configured: Option<&ServiceName>,
) -> Result<Learnt, Text> {
    let answers = join_all(traces.iter().map(|id| jaeger.trace(*id))).await;
    let answers: Vec<_> = answers.into_iter().collect::<Result<_, Unavailable>>()?;
    let is_targets = |span: &BackendSpan| match configured {
        Some(service) => {
            span.service == service.name
                && span.resource_matches(service)
                && !is_health_check(span)
                && (span.kind() == SpanKind::Server || has_mcp_attributes(span))
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

/// Asks `jaeger` everything that there is to know about `case`, as of `now`.
pub async fn gather(case: &Case, jaeger: &Jaeger, now: SystemTime) -> Evidence {
    let failed = chosen_failures(case);
    let passed: Vec<_> = case.passed.iter().take(MAX_PASSED).collect();
    let (failed_traces, passed_traces) = tokio::join!(
        join_all(failed.iter().map(|probe| jaeger.trace(probe.trace_id))),
        join_all(passed.iter().map(|probe| jaeger.trace(probe.trace_id))),
    );
    let mut backend = BackendState::Answered;
    let failed_traces = believe(failed_traces, &mut backend);
    let passed_traces = believe(passed_traces, &mut backend);
    let failed = drop_too_young(failed, &failed_traces, now);
    let service = case.service.clone().or_else(|| {
        learnt_service(&passed_traces).map(|name| ServiceName {
            name,
            attributes: BTreeMap::new(),
        })
    });
    let (mut baseline, gap) = windows(case, &failed, now);
    let silence_to = silence_end(case, gap, now);
    let skew = service.as_ref().map_or(Skew::NONE, |service| {
        clock_skew(passed_traces.iter().chain(&failed_traces), service)
    });
    let found = match (&service, &backend) {
        (Some(service), BackendState::Answered) => {
            let since = Window {
                from: gap.from,
                to: silence_to,
            };
            let search = Search {
                jaeger,
                service,
                skew,
            };
            let mut found = search.all(since, &mut backend).await;
            found.extend(
                search
                    .as_far_back_as_possible(&mut baseline, &mut backend)
                    .await,
            );
            found
        }
        _ => Vec::new(),
    };
    let mut all: HashMap<(TraceId, SpanId), BackendSpan> = HashMap::new();
    for span in failed_traces
        .iter()
        .chain(&passed_traces)
        .flatten()
        .chain(&found)
    {
        all.entry((span.trace_id, span.span_id))
            .or_insert_with(|| span.clone());
    }
    let spans: Vec<_> = all
        .values()
        .filter(|span| !is_own(span))
        .map(|span| server_span(span, &all, service.as_ref(), skew))
        .collect();
    let negotiation = negotiation(case, all.values());
    let passed: Vec<_> = passed
        .iter()
        .map(|probe| PassedProbe {
            trace_id: probe.trace_id,
            ended_at: probe.ended_at,
            joined: spans.iter().any(|span| {
                span.trace_id == probe.trace_id
                    && !span.ancestors.iter().any(|a| negotiation.contains(a))
                    && is_joined(span, service.as_ref())
            }),
        })
        .collect();
    Evidence {
        backend,
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
        spans,
        probe_traces: own_traces(case),
        negotiation,
    }
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

/// Takes the answers that there are and remembers the first that there is not.
fn believe(
    answers: Vec<Result<Vec<BackendSpan>, Unavailable>>,
    backend: &mut BackendState,
) -> Vec<Vec<BackendSpan>> {
    answers
        .into_iter()
        .map(|answer| {
            answer.unwrap_or_else(|why| {
                *backend = BackendState::Unavailable(why);
                Vec::new()
            })
        })
        .collect()
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

/// Searches for the spans of one service, in its own clock.
struct Search<'a> {
    jaeger: &'a Jaeger,
    service: &'a ServiceName,
    skew: Skew,
}

impl Search<'_> {
    /// Every span in `window`, or the backend is not to be believed.
    async fn all(&self, window: Window, backend: &mut BackendState) -> Vec<BackendSpan> {
        match self.once(window).await {
            Ok((spans, false)) => spans,
            Ok((spans, true)) => {
                *backend = BackendState::Truncated(Text::new(format!(
                    "{SEARCH_LIMIT} traces of {} since the last passed probe, and perhaps more",
                    self.service.name
                )));
                spans
            }
            Err(why) => {
                *backend = BackendState::Unavailable(why);
                Vec::new()
            }
        }
    }

    /// A busy service has more traces in the baseline than one answer holds. What matters is its end: the
    /// baseline is halved until it can be answered whole.
    async fn as_far_back_as_possible(
        &self,
        baseline: &mut Window,
        backend: &mut BackendState,
    ) -> Vec<BackendSpan> {
        loop {
            match self.once(*baseline).await {
                Ok((spans, false)) => return spans,
                Ok((_, true)) if baseline.length() > SHORTEST_BASELINE => {
                    baseline.from = baseline.to - baseline.length() / 2;
                }
                Ok((spans, true)) => {
                    *backend = BackendState::Truncated(Text::new(format!(
                        "{SEARCH_LIMIT} traces of {} in the last seconds before the failure, and perhaps more",
                        self.service.name
                    )));
                    return spans;
                }
                Err(why) => {
                    *backend = BackendState::Unavailable(why);
                    return Vec::new();
                }
            }
        }
    }

    async fn once(&self, window: Window) -> Result<(Vec<BackendSpan>, bool), Unavailable> {
        let window = Window {
            from: self.skew.theirs(window.from),
            to: self.skew.theirs(window.to),
        };
        self.jaeger.search(&self.service.name, window).await
    }
}

/// How far the server's clock is from ours.
#[derive(Clone, Copy)]
struct Skew {
    by: Duration,
    ahead: bool,
}

impl Skew {
    const NONE: Self = Self {
        by: Duration::ZERO,
        ahead: true,
    };

    /// A time of our clock as the server's clock shows it.
    fn theirs(self, ours: SystemTime) -> SystemTime {
        if self.ahead {
            ours + self.by
        } else {
            ours - self.by
        }
    }

    /// A time of the server's clock as ours shows it.
    fn ours(self, theirs: SystemTime) -> SystemTime {
        if self.ahead {
            theirs - self.by
        } else {
            theirs + self.by
        }
    }
}

fn is_own(span: &BackendSpan) -> bool {
    span.tag("otel.scope.name") == Some(OWN_SCOPE)
        || span.tag("otel.library.name") == Some(OWN_SCOPE)
}

fn has_mcp_attributes(span: &BackendSpan) -> bool {
    span.tags.keys().any(|key| {
        key.starts_with("mcp.") || key == "gen_ai.tool.name" || key == "heimdall.span_kind"
    })
}

fn is_foreign_mcp(span: &BackendSpan) -> bool {
    !is_own(span) && has_mcp_attributes(span)
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
        !is_own(span)
            && span.service != service
            && span.kind() == SpanKind::Server
            && is_below(span)
    })
}

/// The service that owns the spans of MCP in enough traces, if it is always the same one.
fn learnt_service(traces: &[Vec<BackendSpan>]) -> Option<String> {
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
fn candidates(traces: &[Vec<BackendSpan>], service: Option<&ServiceName>) -> BTreeSet<Text> {
    if service.is_some() {
        return BTreeSet::new();
    }
    traces
        .iter()
        .flatten()
        .filter(|span| !is_own(span) && span.kind() == SpanKind::Server)
        .map(|span| Text::new(&span.service))
        .collect()
}

fn is_joined(span: &ServerSpan, service: Option<&ServiceName>) -> bool {
    match service {
        Some(service) => {
            span.service.as_str() == service.name
                && span.resource_matches
                && (span.kind == SpanKind::Server || span.has_mcp_attributes)
        }
        None => span.has_mcp_attributes,
    }
}

fn failed_probe(probe: &StoredProbe, layer: Layer, traces: &[Vec<BackendSpan>]) -> FailedProbe {
    let operation = probe.failed_operation();
    // A status with a JSON-RPC error in it was spoken by something that knows MCP, not by something in front.
    let by_status = probe.reason == Some(Reason::HttpStatus);
    FailedProbe {
        trace_id: probe.trace_id,
        started_at: probe.started_at,
        ended_at: probe.ended_at,
        layer,
        http_status: probe.http_status.filter(|_| by_status),
        failed_span: operation.map(|operation| operation.span_id),
        failed_step: operation.map(|operation| Window {
            from: probe.started_at + operation.start,
            to: probe.started_at + operation.end,
        }),
        answered: operation.is_some_and(|operation| operation.answered),
        timed_out: matches!(probe.reason, Some(Reason::HttpTimeout | Reason::Timeout)),
        own_spans_found: has_own_spans(traces, probe.trace_id),
    }
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

/// The middle of the service's spans against the middle of ours that they answer, the median of all. Only its own
/// spans tell: a gateway between has another clock.
fn clock_skew<'t>(
    traces: impl Iterator<Item = &'t Vec<BackendSpan>>,
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

fn server_span(
    span: &BackendSpan,
    all: &HashMap<(TraceId, SpanId), BackendSpan>,
    service: Option<&ServiceName>,
    skew: Skew,
) -> ServerSpan {
    let text = |keys: &[&str]| keys.iter().find_map(|key| span.tag(key)).map(Text::new);
    let http_status = ["http.response.status_code", "http.status_code"]
        .iter()
        .find_map(|key| span.tag(key)?.parse().ok());
    let error_type = text(&["error.type", "rpc.response.status_code", "mcp.error_code"]);
    ServerSpan {
        trace_id: span.trace_id,
        span_id: span.span_id,
        ancestors: ancestors(span, all),
        service: Text::new(&span.service),
        resource_matches: service.is_none_or(|service| span.resource_matches(service)),
        name: Text::new(&span.name),
        kind: span.kind(),
        has_mcp_attributes: has_mcp_attributes(span),
        is_health_check: is_health_check(span),
        start: match service {
            Some(service) if span.service == service.name => skew.ours(span.start),
            _ => span.start,
        },
        duration: span.duration,
        is_error: span.is_error(),
        is_callers_fault: is_callers_fault(span, http_status),
        http_status,
        error_type,
        message: text(&["otel.status_description", "exception.message"]),
    }
}

/// Nearest first. A span whose parent the backend does not have still names it.
fn ancestors(span: &BackendSpan, all: &HashMap<(TraceId, SpanId), BackendSpan>) -> Vec<SpanId> {
    let mut chain = Vec::new();
    let mut next = span.parent;
    while let Some(parent) = next {
        // A cycle can only come from a broken exporter.
        if chain.contains(&parent) {
            break;
        }
        chain.push(parent);
        next = all
            .get(&(span.trace_id, parent))
            .and_then(|span| span.parent);
    }
    chain
}

/// JSON-RPC -32600 to -32602, HTTP 4xx, and a tool that says that it was called wrongly.
fn is_callers_fault(span: &BackendSpan, http_status: Option<u16>) -> bool {
    let code = [
        "rpc.response.status_code",
        "mcp.error_code",
        "rpc.jsonrpc.error_code",
        "error.type",
    ]
    .iter()
    .find_map(|key| span.tag(key)?.parse::<i64>().ok());
    let by_code =
        code.is_some_and(|code| (-32602..=-32600).contains(&code) || (400..=499).contains(&code));
    let by_status = http_status.is_some_and(|status| (400..=499).contains(&status));
    by_code || by_status || span.tag("error.type") == Some("tool_error")
}

/// Health checks go on as long as the process lives and say nothing about MCP. A span that names a method of
/// MCP is none, whatever its path.
fn is_health_check(span: &BackendSpan) -> bool {
    const WORDS: [&str; 16] = [
        "health",
        "healthz",
        "healthcheck",
        "health-check",
        "health_check",
        "heartbeat",
        "live",
        "livez",
        "liveness",
        "ready",
        "readyz",
        "readiness",
        "metrics",
        "ping",
        "status",
        "up",
    ];
    const AGENTS: [&str; 3] = ["kube-probe", "ELB-HealthChecker", "GoogleHC"];
    if let Some(method) = span.tag("mcp.method.name") {
        return method == "ping";
    }
    let agent = ["user_agent.original", "http.user_agent"]
        .iter()
        .find_map(|key| span.tag(key));
    let by_agent = agent.is_some_and(|agent| AGENTS.iter().any(|known| agent.starts_with(known)));
    let path = ["url.path", "http.target", "http.route"]
        .iter()
        .find_map(|key| span.tag(key))
        .or_else(|| span.name.split_whitespace().last());
    let path = path
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default();
    let last = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .map(|(_, last)| last);
    let by_path = last.is_some_and(|last| WORDS.contains(&last));
    by_agent || by_path || span.name.starts_with("grpc.health")
}
