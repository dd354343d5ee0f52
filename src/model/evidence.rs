//! What a verdict is judged from: probes of ours, spans of the server's, and how far the backend can be believed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::nanos::{instant, span};
use super::{ClockSkew, Layer, Operation, Reason, ServiceName, SpanId, State, Text, TraceId};

/// From (inclusive) and to (exclusive), wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First instant in it.
    #[serde(with = "instant")]
    pub from: SystemTime,
    /// First instant after it.
    #[serde(with = "instant")]
    pub to: SystemTime,
}

impl Window {
    /// Whether `at` lies in it.
    pub fn holds(&self, at: SystemTime) -> bool {
        self.from <= at && at < self.to
    }

    /// How long it is; zero when it is turned round.
    pub fn length(&self) -> Duration {
        self.to.duration_since(self.from).unwrap_or_default()
    }
}

/// Whether the backend's silence can be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It answered everything that was asked, whole.
    Answered,
    /// It refused, timed out, or answered in part: the sentence says which.
    Unavailable(Text),
    /// An answer was cut at the limit of the query.
    Truncated(Text),
}

/// How much of what there was a backend keeps. Presence always counts; absence only where everything is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Everything that arrived.
    #[default]
    Full,
    /// Nobody says: that passed probes left spans has to show it.
    Unknown,
    /// A part, by chance or because there was too much: the sentence says how it is known.
    Sampled(Text),
    /// Of what is older than a while, only what the backend found worth keeping.
    RetentionFiltered(Text),
}

impl Coverage {
    /// Of two answers that are taken together, the one that proves less.
    pub fn and(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Sampled(_) | Self::RetentionFiltered(_), _) | (_, Self::Full) => self,
            _ => other,
        }
    }
}

/// A failed probe of the incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedProbe {
    /// Its trace.
    pub trace_id: TraceId,
    /// When it started.
    #[serde(with = "instant")]
    pub started_at: SystemTime,
    /// When its last layer was decided.
    #[serde(with = "instant")]
    pub ended_at: SystemTime,
    /// The layer that failed.
    pub layer: Layer,
    /// The proxy that we go through failed, or may have answered in the server's place: that is on our side of the server.
    pub at_proxy: bool,
    /// The HTTP status of the answer, where there was one.
    pub http_status: Option<u16>,
    /// Our span of the step that failed, where the probe got that far.
    pub failed_span: Option<SpanId>,
    /// When that step's request was sent and given up or answered.
    pub failed_step: Option<Window>,
    /// A complete answer of that step was read, good or bad.
    pub answered: bool,
    /// Something took the connection, and it was given up because its time was over, and for no other reason.
    pub timed_out: bool,
    /// The backend returned our own spans of this probe.
    pub own_spans_found: bool,
    /// The host itself refused or reset the connection: the way to it is whole.
    #[serde(default)]
    pub refused_by_host: bool,
}

/// A passed probe before the incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedProbe {
    /// Its trace.
    pub trace_id: TraceId,
    /// When its last layer was decided.
    #[serde(with = "instant")]
    pub ended_at: SystemTime,
    /// A span of the target was in its trace.
    pub joined: bool,
    /// The backend returned our own spans of it.
    #[serde(default)]
    pub own_spans_found: bool,
}

/// Whether our probes of other hosts got anywhere meanwhile: where none does, it may be us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Elsewhere {
    /// There is no other host, or the backend is not beside us and tells enough of our network.
    #[default]
    Nowhere,
    /// None was probed to its end yet.
    NotYet,
    /// More than half did.
    Reached,
    /// None did.
    Unreached,
    /// Half or fewer did: one in our own network may be among them, or many may be ill.
    Mixed,
}

/// `span.kind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Takes a request.
    Server,
    /// Makes one.
    Client,
    /// Everything else.
    #[default]
    Other,
}

/// A span that somebody else recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpan {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// Its ancestors in the trace, nearest first, as far as the backend knows them.
    pub ancestors: Vec<SpanId>,
    /// `service.name`.
    pub service: Text,
    /// Resource attributes agree with the target's `service` table.
    pub resource_matches: bool,
    /// The span's name.
    pub name: Text,
    /// Its kind.
    pub kind: SpanKind,
    /// It carries attributes of MCP (`mcp.*` and the like).
    pub has_mcp_attributes: bool,
    /// It is a health check by its name or path.
    pub is_health_check: bool,
    /// When it began, as our clock shows it.
    #[serde(with = "instant")]
    pub start: SystemTime,
    /// How long it took.
    #[serde(with = "span")]
    pub duration: Duration,
    /// Status ERROR.
    pub is_error: bool,
    /// The error is the caller's own fault: JSON-RPC -32600 to -32602, HTTP 4xx, `tool_error`.
    pub is_callers_fault: bool,
    /// `http.response.status_code`, where it is there.
    pub http_status: Option<u16>,
    /// `error.type`.
    pub error_type: Option<Text>,
    /// The status' description.
    pub message: Option<Text>,
    /// What it stands for besides itself, where most were left out.
    #[serde(default, skip_serializing_if = "Fellows::is_none")]
    pub fellows: Fellows,
}

/// Spans that tell the judge the same as the one that was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fellows {
    /// How many.
    pub spans: usize,
    /// Traces that no span that was kept is in.
    pub requests: usize,
}

impl Fellows {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl ServerSpan {
    /// When it ended, as our clock shows it.
    pub fn end(&self) -> SystemTime {
        self.start + self.duration
    }

    /// Whether it is one of `service`'s that takes requests or speaks of MCP.
    pub fn is_of(&self, service: &str) -> bool {
        self.service.as_str() == service
            && self.resource_matches
            && (self.kind == SpanKind::Server || self.has_mcp_attributes)
    }

    /// An error that is the server's.
    pub fn is_own_error(&self) -> bool {
        self.is_error && !self.is_callers_fault
    }
}

/// All that `correlate::judge` looks at. A plain value: judging it again gives the same verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Whether the backend could be asked.
    pub backend: BackendState,
    /// How much it keeps of what there was since the last passed probe.
    pub coverage: Coverage,
    /// The incident's failed probes, oldest first; empty when the alert is somebody else's.
    pub failed: Vec<FailedProbe>,
    /// The passed probes before it, newest first.
    pub passed: Vec<PassedProbe>,
    /// The service whose spans are the target's, where it is known.
    pub service: Option<Text>,
    /// Another target has the same service, so that its spans may be the other's.
    pub service_shared_with: Option<Text>,
    /// Services seen in traces of passed probes without any attribute of MCP: perhaps the target, perhaps a gateway.
    pub candidates: BTreeSet<Text>,
    /// A span of the target was seen at any time, in this incident or before.
    pub ever_instrumented: bool,
    /// The baseline.
    pub baseline: Window,
    /// The gap: up to the last failed probe, for later the server may have come back without our having seen it.
    pub gap: Window,
    /// Until when silence is looked for: the last asking, or the recovery.
    #[serde(with = "instant")]
    pub silence_to: SystemTime,
    /// When the backend was asked.
    #[serde(with = "instant")]
    pub asked_at: SystemTime,
    /// Failed probes were left out for being so young that not even our own spans of them are there: what was sent since
    /// the gap's end is still on its way.
    #[serde(default)]
    pub later_on_its_way: bool,
    /// How late the server's spans usually are, where that was measured: what is younger may still be on its way.
    #[serde(with = "span")]
    pub usual_lag: Duration,
    /// The server's clock. `spans` are put right by it.
    pub clock: ClockSkew,
    /// The backend stands in the prober's own network, so that its having our spans says nothing of the network.
    pub shares_our_network: bool,
    /// What our probes of other hosts found between the first failure and the last; asked only where the backend stands
    /// beside us.
    #[serde(default)]
    pub elsewhere: Elsewhere,
    /// Spans of others than the target and us that it was sent since the first failure, where it can say.
    pub others_heard: Option<usize>,
    /// Every span found in both windows and in the probes' traces; one span once.
    pub spans: Vec<ServerSpan>,
    /// The traces of our own probes of this target.
    pub probe_traces: BTreeSet<TraceId>,
    /// Our spans that were only negotiation, in all of those traces.
    pub negotiation: BTreeSet<SpanId>,
}

/// A probe as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProbe {
    /// Its trace.
    pub trace_id: TraceId,
    /// When it started.
    pub started_at: SystemTime,
    /// When its last layer was decided.
    pub ended_at: SystemTime,
    /// What it found.
    pub state: State,
    /// The layer that failed.
    pub layer: Option<Layer>,
    /// The HTTP status, where one was read.
    pub http_status: Option<u16>,
    /// Why.
    pub reason: Option<Reason>,
    /// A failed probe's operations, with their offsets from `started_at`; a passed one's are not kept.
    pub operations: Vec<Operation>,
}

impl StoredProbe {
    /// The operation that the failed layer belongs to.
    pub fn failed_operation(&self) -> Option<&Operation> {
        let layer = self.layer?;
        self.operations
            .iter()
            .rev()
            .find(|operation| operation.kind.covers(layer))
    }
}

/// What is to be judged: an incident as the store knows it, or somebody else's alert.
#[derive(Clone, Debug)]
pub struct Case {
    /// The target's name.
    pub target: String,
    /// The incident's id, where it is one of ours.
    pub incident: Option<String>,
    /// The first failed probe's start, or the time that was asked for.
    pub at: SystemTime,
    /// Failed probes of the incident, oldest first.
    pub failed: Vec<StoredProbe>,
    /// Passed probes before it, newest first.
    pub passed: Vec<StoredProbe>,
    /// Start of the probe that passed again.
    pub recovered_at: Option<SystemTime>,
    /// The traces of every probe of ours of this target in the windows.
    pub own_traces: BTreeSet<TraceId>,
    /// The service by the configuration, or as it was learnt.
    pub service: Option<ServiceName>,
    /// Another target with the same service.
    pub service_shared_with: Option<String>,
    /// A span of the target was seen before.
    pub ever_instrumented: bool,
    /// How late the target's spans usually are.
    pub usual_lag: Duration,
    /// What probes of other hosts found meanwhile.
    pub elsewhere: Elsewhere,
    /// A proxy of ours is asked to pass its requests on: a gateway's status may be that proxy's own.
    pub by_plain_proxy: bool,
    /// Length of the baseline, and at most of the gap.
    pub window: Duration,
}
