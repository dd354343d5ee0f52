//! Values for tests of the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::writer::{Shown, Write};
use crate::model::{
    AlertChange, CommandLine, Endpoint, EraMode, Failure, Incident, IncidentKind, Layer, Notice,
    NoticeEvent, Outcome, ProbeResult, Profile, Reason, Redirects, Severity, State, Target, Text,
    Timing, TraceContext,
};

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_006_400 + seconds)
}

pub(super) fn target(name: &str) -> Arc<Target> {
    let command = CommandLine {
        program: "true".to_owned(),
        args: Vec::new(),
        shown: "true".to_owned(),
        env: Default::default(),
        cwd: None,
    };
    Arc::new(Target {
        name: name.to_owned(),
        endpoint: Endpoint::Stdio(command),
        start: None,
        timing: Timing::Every(Duration::from_secs(60)),
        timeout: Duration::from_secs(10),
        profile: Profile {
            description: String::new(),
            depth: Layer::ToolsList,
            era: None,
            expect: Default::default(),
        },
        era: EraMode::default(),
        expect: Default::default(),
        redirects: Redirects::default(),
        trace_context: TraceContext::default(),
        tracestate: String::new(),
        tags: Vec::new(),
        service: None,
        canary: None,
        traces: None,
        parent: None,
        secrets: Vec::new(),
    })
}

pub(super) fn result(state: State, started_at: SystemTime, each: Duration) -> ProbeResult {
    let mut result = ProbeResult {
        started_at,
        duration: 4 * each,
        state,
        ..ProbeResult::passed()
    };
    for layer in &mut result.layers {
        layer.duration = each;
    }
    if state.failed() {
        result.failure = Some(Failure {
            layer: Layer::Http,
            reason: Reason::HttpStatus,
            message: Text::new("HTTP 503 Service Unavailable"),
            http_status: Some(503),
            jsonrpc_code: None,
        });
        for layer in result.layers.iter_mut().skip(1) {
            layer.outcome = Outcome::NotReached;
        }
    }
    result
}

pub(super) fn probe(name: &str, result: ProbeResult, changes: Vec<AlertChange>) -> Write {
    Write::Probe {
        target: target(name),
        confirmation: false,
        shown: Shown {
            state: result.state,
            since: at(0),
            suspect: result.state == State::Down,
            incident: None,
        },
        memory: (result.state == State::Down).then(|| "{}".to_owned()),
        result: Arc::new(result),
        changes,
    }
}

pub(super) fn incident(id: &str) -> Incident {
    Incident {
        id: id.to_owned(),
        server: Some("a".to_owned()),
        kind: IncidentKind::Outage,
        severity: Severity::Critical,
        state: State::Down,
        failed_layer: Some(Layer::Http),
        reason: Some(Reason::HttpStatus),
        message: Text::new("HTTP 503 Service Unavailable"),
        trace_id: None,
        first_failed_at: at(1),
        opened_at: at(2),
        resolved_at: None,
        resolution: None,
        flapping: false,
        acknowledged: None,
        suppressed: None,
        verdict: None,
        verdict_reason: None,
        provisional: None,
    }
}

pub(super) fn notice(incident: &Incident, channel: &str, sequence: u32) -> Notice {
    Notice {
        channel: channel.to_owned(),
        sequence,
        event: NoticeEvent::Reminder,
        created_at: at(3 + u64::from(sequence)),
        due_at: at(3),
        incident: incident.clone(),
        tags: Vec::new(),
        endpoint: None,
        links: Vec::new(),
        command: None,
        take: None,
    }
}
