//! The same incident for every backend: three probes that passed, a minute apart, and one that failed.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpprobe::model::{
    Case, Layer, Operation, OperationKind, Reason, ServiceName, State, StoredProbe,
};

/// When the inquiry is, after the failure.
const NOW: Duration = Duration::from_secs(180);

/// How the probe failed.
#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    /// No connection.
    #[default]
    Refused,
    /// HTTP 500 to `tools/list`.
    Answered,
}

/// The failed probe's start: a whole minute, and so that the inquiry is in the past, but not long.
/// Once for all, for a minute may end between two looks.
pub(super) fn start(minutes_ago: u64) -> SystemTime {
    static START: OnceLock<SystemTime> = OnceLock::new();
    *START.get_or_init(whole_minute) - Duration::from_secs(minutes_ago * 60)
}

fn whole_minute() -> SystemTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let minute = now.as_secs() / 60 * 60;
    UNIX_EPOCH + Duration::from_secs(minute) - Duration::from_secs(240)
}

pub(super) fn now(start: SystemTime) -> SystemTime {
    start + NOW
}

/// `service` as the user has named it; an empty one is not known yet.
pub(super) fn case(start: SystemTime, failure: Failure, service: &str) -> Case {
    let passed = [60, 120, 180].map(|before| {
        let started_at = start - Duration::from_secs(before);
        StoredProbe {
            trace_id: format!("0af7651916cd43dd00000000000000a{}", before / 60)
                .parse()
                .unwrap(),
            started_at,
            ended_at: started_at + Duration::from_secs(2),
            state: State::Up,
            layer: None,
            http_status: None,
            reason: None,
            operations: Vec::new(),
        }
    });
    Case {
        elsewhere: Default::default(),
        by_plain_proxy: false,
        target: "weather".to_owned(),
        incident: Some("i-1".to_owned()),
        at: start,
        failed: vec![failed(start, failure)],
        passed: passed.to_vec(),
        recovered_at: None,
        own_traces: Default::default(),
        service: (!service.is_empty()).then(|| ServiceName {
            name: service.to_owned(),
            attributes: BTreeMap::new(),
        }),
        service_shared_with: None,
        ever_instrumented: false,
        usual_lag: Duration::ZERO,
        window: Duration::from_secs(300),
    }
}

fn failed(start: SystemTime, failure: Failure) -> StoredProbe {
    let operation = Operation {
        kind: OperationKind::ToolsList,
        method: "tools/list",
        span_id: "00000000000000b1".parse().unwrap(),
        start: Duration::from_millis(100),
        end: Duration::from_secs(1),
        request_id: 2,
        http_status: Some(500),
        jsonrpc_code: None,
        answered: true,
        error: None,
    };
    let (layer, reason, operations) = match failure {
        Failure::Refused => (Layer::Transport, Reason::ConnectionRefused, Vec::new()),
        Failure::Answered => (Layer::ToolsList, Reason::HttpStatus, vec![operation]),
    };
    StoredProbe {
        trace_id: "0af7651916cd43dd00000000000000f1".parse().unwrap(),
        started_at: start,
        ended_at: start + Duration::from_secs(2),
        state: State::Down,
        layer: Some(layer),
        http_status: operations.first().and_then(|o: &Operation| o.http_status),
        reason: Some(reason),
        operations,
    }
}
