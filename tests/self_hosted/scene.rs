//! What happened: our probes of one server, as the store remembers them, and every span that there was.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpprobe::model::{
    Case, Layer, Operation, OperationKind, Reason, ServiceName, SpanId, State, StoredProbe, TraceId,
};

pub(super) const SERVICE: &str = "weather-mcp";

/// Our probes that passed, one every 30 s before the first failure.
const PASSED: u8 = 5;

/// How a probe took: the server's span lies in the middle of ours.
const PROBE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// The server left spans until it was gone.
    Gone,
    /// It answers 500, and its spans say so.
    Failing,
    /// It goes on serving others.
    CutOff,
    /// It answers in time, and we get nothing.
    Lost,
    /// It never left a span.
    Untraced,
    /// The backend has nothing at all.
    Empty,
}

/// A span, whoever's.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) service: &'static str,
    pub(super) scope: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) error: Option<&'static str>,
    pub(super) attributes: Vec<(&'static str, &'static str)>,
}

/// 2026-11-21T00:05:00Z
pub(super) fn first_failure() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_219_500)
}

pub(super) fn now() -> SystemTime {
    first_failure() + Duration::from_secs(180)
}

pub(super) fn first_failed() -> TraceId {
    trace(0xf1)
}

/// With zeros in front, which some backends strip.
pub(super) fn trace(number: u8) -> TraceId {
    TraceId([0, 0x0b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, number])
}

pub(super) fn span(trace: u8, number: u8) -> SpanId {
    SpanId([0xa0, 1, 2, 3, 4, 5, number, trace])
}

impl Scene {
    pub(super) fn case(self) -> Case {
        let failed = [0, 30].map(|after| first_failure() + Duration::from_secs(after));
        Case {
            elsewhere: Default::default(),
            by_plain_proxy: false,
            target: "weather".to_owned(),
            incident: Some("incident".to_owned()),
            at: first_failure(),
            failed: (0xf1..)
                .zip(failed)
                .map(|(number, at)| self.failed(number, at))
                .collect(),
            passed: (1..=PASSED).map(passed).collect(),
            recovered_at: None,
            own_traces: [0xf1, 0xf2]
                .into_iter()
                .chain(1..=PASSED)
                .map(trace)
                .collect(),
            service: Some(ServiceName {
                name: SERVICE.to_owned(),
                attributes: Default::default(),
            }),
            service_shared_with: None,
            ever_instrumented: false,
            usual_lag: Duration::ZERO,
            window: Duration::from_secs(300),
        }
    }

    fn failed(self, number: u8, at: SystemTime) -> StoredProbe {
        let (layer, reason, status, operations) = match self {
            Self::Failing => (
                Layer::Http,
                Reason::HttpStatus,
                Some(500),
                step(number, true),
            ),
            Self::Lost => (Layer::Http, Reason::HttpClosed, None, step(number, false)),
            _ => (
                Layer::Transport,
                Reason::ConnectionRefused,
                None,
                Vec::new(),
            ),
        };
        StoredProbe {
            trace_id: trace(number),
            started_at: at,
            ended_at: at + PROBE,
            state: State::Down,
            layer: Some(layer),
            http_status: status,
            reason: Some(reason),
            operations,
        }
    }

    /// Every span that the backend has.
    pub(super) fn spans(self) -> Vec<Span> {
        if self == Self::Empty {
            return Vec::new();
        }
        let mut spans = Vec::new();
        for number in 1..=PASSED {
            let at = passed(number).started_at;
            spans.extend(own(number, at, None));
            if self != Self::Untraced {
                spans.push(served(number, Some(span(number, 2)), at, None));
            }
        }
        for (number, after) in [(0xf1, 0), (0xf2, 30)] {
            let at = first_failure() + Duration::from_secs(after);
            spans.extend(own(number, at, Some("it did not work")));
            let under = Some(span(number, 2));
            match self {
                Self::Failing => spans.push(served(number, under, at, Some("database is gone"))),
                Self::Lost => spans.push(served(number, under, at, None)),
                _ => {}
            }
        }
        if self == Self::CutOff {
            for number in 0x30..0x36 {
                let at = first_failure() + Duration::from_secs(u64::from(number - 0x2f) * 4);
                // Below a span of somebody who reports elsewhere.
                spans.push(served(number, Some(span(number, 9)), at, None));
            }
        }
        spans
    }
}

fn passed(number: u8) -> StoredProbe {
    let at = first_failure() - Duration::from_secs(30 * u64::from(number));
    StoredProbe {
        trace_id: trace(number),
        started_at: at,
        ended_at: at + PROBE,
        state: State::Up,
        layer: None,
        http_status: None,
        reason: None,
        operations: Vec::new(),
    }
}

fn step(number: u8, answered: bool) -> Vec<Operation> {
    vec![Operation {
        kind: OperationKind::Initialize,
        method: "initialize",
        span_id: span(number, 2),
        start: Duration::ZERO,
        end: PROBE,
        request_id: 1,
        http_status: None,
        jsonrpc_code: None,
        answered,
        error: None,
    }]
}

/// Our own: the session, and its first request.
fn own(number: u8, at: SystemTime, error: Option<&'static str>) -> [Span; 2] {
    let session = Span {
        trace: trace(number),
        id: span(number, 1),
        parent: None,
        service: "mcpprobe",
        scope: "mcpprobe",
        name: "mcp.session",
        kind: "internal",
        start: at,
        duration: PROBE,
        error,
        attributes: vec![
            ("mcpprobe.target", "weather"),
            (
                "mcpprobe.state",
                if error.is_some() { "down" } else { "up" },
            ),
        ],
    };
    let step = Span {
        id: span(number, 2),
        parent: Some(session.id),
        name: "mcp.initialize",
        kind: "client",
        attributes: vec![
            ("mcp.method.name", "initialize"),
            ("mcp.operation", "initialize"),
            ("user_agent.synthetic.type", "test"),
        ],
        ..session.clone()
    };
    [session, step]
}

/// The server's: it got a request.
pub(super) fn served(
    number: u8,
    parent: Option<SpanId>,
    at: SystemTime,
    error: Option<&'static str>,
) -> Span {
    Span {
        trace: trace(number),
        id: span(number, 3),
        parent,
        service: SERVICE,
        scope: "weather",
        name: "post /mcp",
        kind: "server",
        start: at + PROBE / 4,
        duration: PROBE / 2,
        error,
        attributes: vec![
            ("mcp.method.name", "initialize"),
            (
                "http.response.status_code",
                if error.is_some() { "500" } else { "200" },
            ),
            ("http.route", "/mcp"),
        ],
    }
}
