//! A writer that is driven by hand, and what it says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mcpprobe::config::AdHoc;
use mcpprobe::model::{
    AlertChange, Delivery, DeliveryOutcome, Failure, Incident, IncidentKind, Layer, LayerResult,
    Notice, NoticeEvent, Orders, Outcome, ProbeResult, Reason, Retention, SessionEnd, Severity,
    SpanId, State, Target, Text, TimelineEntry, TimelineKind, TraceId, Transport,
};
use mcpprobe::store::{Callbacks, Reader, Recalled, Shown, Write, Writer};

use crate::support::eventually;

/// What a writer told.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) warnings: Vec<String>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) orders: Vec<Orders>,
    pub(crate) recalled: Vec<Recalled>,
}

pub(crate) struct Rig {
    pub(crate) path: PathBuf,
    pub(crate) writer: Option<Writer>,
    pub(crate) heard: Arc<Mutex<Heard>>,
    /// What the store told at the start.
    pub(crate) recalled: Recalled,
    count: u64,
}

impl Rig {
    pub(crate) fn open(path: &Path) -> Self {
        Self::try_open(path).unwrap()
    }

    pub(crate) fn try_open(path: &Path) -> Result<Self, String> {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let [a, b, c, d] = [(); 4].map(|()| Arc::clone(&heard));
        let callbacks = Callbacks {
            warn: Box::new(move |text| a.lock().unwrap().warnings.push(text.to_owned())),
            on_notice: Box::new(move |notice| b.lock().unwrap().notices.push(notice)),
            on_orders: Box::new(move |orders| c.lock().unwrap().orders.push(orders)),
            on_recalled: Box::new(move |recalled| d.lock().unwrap().recalled.push(recalled)),
        };
        let (writer, recalled) = Writer::open(path, Retention::default(), callbacks)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Some(writer),
            heard,
            recalled,
            count: 0,
        })
    }

    pub(crate) fn write(&self, write: Write) {
        self.writer.as_ref().unwrap().write(write);
    }

    pub(crate) fn flush(&self) {
        self.writer.as_ref().unwrap().flush();
    }

    /// A probe of `name` that passed, or failed for the first time with an incident and its notice.
    pub(crate) fn probe(&mut self, name: &str, state: State, changes: Vec<AlertChange>) {
        self.count += 1;
        let result = result(state, at(self.count));
        let incident = changes.iter().find_map(|change| match change {
            AlertChange::Incident(incident) if incident.resolved_at.is_none() => {
                Some(incident.id.clone())
            }
            _ => None,
        });
        self.write(Write::Probe {
            target: target(name),
            shown: Shown {
                state,
                since: result.started_at,
                suspect: false,
                incident,
            },
            result: Arc::new(result),
            confirmation: false,
            memory: Some(format!("memory {}", self.count)),
            changes,
        });
    }

    /// `count` passed probes of ten targets.
    pub(crate) fn pass(&mut self, count: usize) {
        for n in 0..count {
            self.probe(&format!("t{}", n % 10), State::Up, Vec::new());
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.path).unwrap()
    }

    pub(crate) fn warned(&self, part: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.warnings.iter().any(|text| text.contains(part))
    }

    /// Waits for a warning.
    pub(crate) fn until_warned(&self, part: &str) {
        let what = format!("a warning of {part}");
        eventually(&what, || self.warned(part).then_some(()));
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.heard.lock().unwrap().warnings.clone()
    }

    /// Waits for a notice to be handed over.
    pub(crate) fn until_told(&self, incident: &str) {
        eventually("the notice", || {
            let heard = self.heard.lock().unwrap();
            let mut notices = heard.notices.iter();
            notices.any(|n| n.incident.id == incident).then_some(())
        });
    }

    /// Everything is written, and the writer gone.
    pub(crate) fn close(&mut self) {
        drop(self.writer.take());
    }

    /// All probes that the file has.
    pub(crate) fn recorded(&self) -> usize {
        let reader = self.reader();
        let recorded = reader.recorded(SystemTime::UNIX_EPOCH).unwrap();
        recorded.map(Result::unwrap).count()
    }
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000 + seconds)
}

pub(crate) fn target(name: &str) -> Arc<Target> {
    let command = vec!["true".to_owned()];
    let mut target = AdHoc::Command(command).target(None, &|_| None).unwrap();
    name.clone_into(&mut target.name);
    Arc::new(target)
}

pub(crate) fn result(state: State, started_at: SystemTime) -> ProbeResult {
    let failed = state.failed();
    let layer = |n: u64, outcome| LayerResult {
        outcome,
        duration: Duration::from_millis(n),
        ..LayerResult::default()
    };
    ProbeResult {
        started_at,
        duration: Duration::from_millis(10),
        trace_id: TraceId::random(),
        root_span: SpanId::random(),
        state,
        failure: failed.then(|| Failure {
            layer: Layer::Http,
            reason: Reason::HttpStatus,
            message: Text::new("HTTP 503 Service Unavailable"),
            http_status: Some(503),
            jsonrpc_code: None,
        }),
        shortfall: None,
        era: None,
        transport: Transport::StreamableHttp,
        protocol_version: None,
        server: None,
        tools: None,
        certificate_expires: None,
        session_id: None,
        layers: [
            layer(1, Outcome::Ok),
            layer(2, if failed { Outcome::Failed } else { Outcome::Ok }),
            layer(
                3,
                if failed {
                    Outcome::NotReached
                } else {
                    Outcome::Ok
                },
            ),
            layer(
                4,
                if failed {
                    Outcome::NotReached
                } else {
                    Outcome::Ok
                },
            ),
        ],
        operations: Vec::new(),
        notes: Vec::new(),
        session_end: SessionEnd::NotNeeded,
        conversation: None,
    }
}

pub(crate) fn incident(id: &str, server: &str) -> Incident {
    Incident {
        id: id.to_owned(),
        server: Some(server.to_owned()),
        kind: IncidentKind::Outage,
        severity: Severity::Critical,
        state: State::Down,
        failed_layer: Some(Layer::Http),
        reason: Some(Reason::HttpStatus),
        message: Text::new("HTTP 503 Service Unavailable"),
        trace_id: Some(TraceId::random()),
        first_failed_at: at(0),
        opened_at: at(1),
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

pub(crate) fn notice(incident: &Incident, channel: &str, sequence: u32) -> Notice {
    Notice {
        channel: channel.to_owned(),
        sequence,
        event: if sequence == 1 {
            NoticeEvent::Opened
        } else {
            NoticeEvent::Reminder
        },
        created_at: at(1),
        due_at: at(1),
        incident: incident.clone(),
        tags: vec!["prod".to_owned()],
        endpoint: None,
        links: Vec::new(),
        command: Some("mcpprobe check".to_owned()),
        take: None,
    }
}

/// An incident opens and is told of.
pub(crate) fn opening(id: &str, server: &str) -> Vec<AlertChange> {
    let incident = incident(id, server);
    vec![
        AlertChange::Incident(Box::new(incident.clone())),
        AlertChange::Timeline(TimelineEntry {
            incident: id.to_owned(),
            at: at(1),
            what: TimelineKind::Opened,
            text: Text::new("it opened"),
        }),
        AlertChange::Notice(Box::new(notice(&incident, "hook", 1))),
    ]
}

pub(crate) fn delivered(incident: &str, channel: &str, sequence: u32) -> Delivery {
    Delivery {
        incident: incident.to_owned(),
        channel: channel.to_owned(),
        sequence,
        at: at(2),
        attempts: 1,
        outcome: DeliveryOutcome::Delivered,
    }
}
