//! Evidence of every kind, for tests.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use crate::model::{
    BackendState, ClockSkew, Coverage, Elsewhere, Evidence, FailedProbe, Fellows, Layer,
    PassedProbe, ServerSpan, SpanId, SpanKind, TraceId, Window,
};

/// Any evidence about an incident whose first failed probe began at 0; most of it makes sense.
pub(super) fn evidence() -> impl Strategy<Value = Evidence> {
    let failed = proptest::collection::vec(any_failed(), 0..4);
    let passed = proptest::collection::vec(any::<bool>(), 0..6);
    let spans = proptest::collection::vec(any_span(), 0..150);
    let known = (any::<bool>(), any::<bool>(), any::<bool>());
    (failed, passed, spans, known, 0..200_i64).prop_map(
        |(failed, passed, spans, (known, shared, ever), gap)| {
            let failed: Vec<_> = (0..)
                .zip(failed)
                .map(|(n, probe)| failed_probe(n, probe))
                .collect();
            let passed: Vec<_> = (1..)
                .zip(passed)
                .map(|(n, joined)| PassedProbe {
                    trace_id: trace(2, n),
                    ended_at: at(-60 * i64::from(n)),
                    joined,
                    own_spans_found: true,
                })
                .collect();
            let ours = failed.iter().map(|probe| probe.trace_id);
            let ours = ours.chain(passed.iter().map(|probe| probe.trace_id));
            let baseline_end = if passed.is_empty() { at(0) } else { at(-60) };
            Evidence {
                backend: BackendState::Answered,
                coverage: Coverage::Full,
                probe_traces: ours.collect(),
                service: known.then(|| "weather-mcp".into()),
                service_shared_with: shared.then(|| "other".into()),
                candidates: BTreeSet::new(),
                ever_instrumented: ever,
                baseline: Window {
                    from: baseline_end - Duration::from_secs(300),
                    to: baseline_end,
                },
                gap: Window {
                    from: baseline_end,
                    to: at(gap).max(baseline_end),
                },
                silence_to: at(gap + 10),
                asked_at: at(gap + 20),
                later_on_its_way: false,
                usual_lag: Duration::ZERO,
                clock: ClockSkew::NONE,
                shares_our_network: shared && ever,
                elsewhere: Elsewhere::Nowhere,
                others_heard: known.then_some(3),
                spans: (0..)
                    .zip(spans)
                    .map(|(n, span)| server_span(n, span))
                    .collect(),
                negotiation: BTreeSet::from([SpanId([9; 8])]),
                failed,
                passed,
            }
        },
    )
}

type AnyFailed = (u8, Option<u16>, bool, bool);

fn any_failed() -> impl Strategy<Value = AnyFailed> {
    let status = proptest::option::of(prop_oneof![Just(200), Just(502), Just(500)]);
    (0..4_u8, status, any::<bool>(), any::<bool>())
}

fn failed_probe(number: u8, (layer, status, answered, timed_out): AnyFailed) -> FailedProbe {
    let start = i64::from(number) * 3;
    let layer = Layer::ALL[usize::from(layer)];
    let step = layer > Layer::Transport;
    FailedProbe {
        trace_id: trace(1, number),
        started_at: at(start),
        ended_at: at(start + 1),
        layer,
        at_proxy: false,
        http_status: status.filter(|_| step),
        failed_span: step.then_some(SpanId([1, number, 0, 0, 0, 0, 0, 1])),
        failed_step: step.then_some(Window {
            from: at(start),
            to: at(start + 1),
        }),
        answered: answered && step,
        timed_out,
        own_spans_found: true,
        refused_by_host: timed_out,
    }
}

/// When, whose trace, how it ended, under what, and of what kind.
type AnySpan = (i64, (u8, u8), u8, u8, bool);

fn any_span() -> impl Strategy<Value = AnySpan> {
    (
        -400..250_i64,
        (0..4_u8, 0..30_u8),
        0..6_u8,
        0..4_u8,
        any::<bool>(),
    )
}

fn server_span(
    number: u8,
    (start, (owner, trace_number), end, under, server): AnySpan,
) -> ServerSpan {
    let owner = owner.max(1);
    let ancestors = match under {
        0 => vec![SpanId([1, trace_number, 0, 0, 0, 0, 0, 1])],
        1 => vec![SpanId([9; 8])],
        _ => vec![SpanId([8; 8])],
    };
    ServerSpan {
        trace_id: trace(
            owner,
            trace_number % 6 + 20 * (owner / 3) * (trace_number / 6),
        ),
        span_id: SpanId([9, 0, 0, 0, 0, 0, 0, number]),
        ancestors,
        service: if end == 5 { "other" } else { "weather-mcp" }.into(),
        resource_matches: true,
        name: "POST /mcp".into(),
        kind: if server {
            SpanKind::Server
        } else {
            SpanKind::Other
        },
        has_mcp_attributes: under > 1,
        is_health_check: false,
        start: at(start),
        duration: Duration::from_millis(u64::from(number) * 20),
        is_error: end == 1 || end == 2 || end == 3,
        is_callers_fault: end == 3,
        http_status: server.then_some(200),
        error_type: None,
        message: None,
        fellows: Fellows::default(),
    }
}

fn trace(kind: u8, number: u8) -> TraceId {
    TraceId([kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number])
}

pub(super) fn at(seconds: i64) -> SystemTime {
    let zero = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        zero - distance
    } else {
        zero + distance
    }
}
