//! What one probe found.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    Conversation, Failure, Layer, Outcome, Phase, Reason, SpanId, State, Text, TraceId, Transport,
};

/// The two eras of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Era {
    /// Handshake by `initialize`; protocol up to 2025-11-25.
    Legacy,
    /// `server/discover`; protocol from 2026-07-28 on.
    Modern,
    /// Both were asked for (`era = "both"`) and both work.
    Both,
}

impl Era {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
            Self::Both => "both",
        }
    }
}

/// What an endpoint spoke last time, and is spoken to first next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `initialize`, over Streamable HTTP or stdio.
    Legacy,
    /// `initialize`, over HTTP+SSE.
    HttpSse,
    /// `server/discover`.
    Modern,
}

impl Dialect {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::HttpSse => "http_sse",
            Self::Modern => "modern",
        }
    }
}

/// What the server calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// `serverInfo.name`.
    pub name: Text,
    /// `serverInfo.version`.
    pub version: Text,
}

/// Everything that one probe found. All offsets are from `started_at`, on the monotonic clock.
#[derive(Clone, Debug)]
pub struct ProbeResult {
    /// Wall clock at the start.
    pub started_at: SystemTime,
    /// Until the last layer was decided; ending the session is not part of it.
    pub duration: Duration,
    /// The trace of this probe.
    pub trace_id: TraceId,
    /// Span `mcp.session`.
    pub root_span: SpanId,
    /// What it means.
    pub state: State,
    /// Why, when a layer failed.
    pub failure: Option<Failure>,
    /// What was expected and did not hold, when that is no outage: the state is `degraded`.
    pub shortfall: Option<Shortfall>,
    /// Era, once found.
    pub era: Option<Era>,
    /// How messages got to the server.
    pub transport: Transport,
    /// Negotiated protocol version.
    pub protocol_version: Option<Text>,
    /// What the server calls itself.
    pub server: Option<ServerInfo>,
    /// Number of tools listed.
    pub tools: Option<u32>,
    /// When the server's certificate ends; the earliest, where a probe saw several.
    pub certificate_expires: Option<SystemTime>,
    /// The session's id, where the server handed one out.
    pub session_id: Option<Text>,
    /// The layers in order.
    pub layers: [LayerResult; 4],
    /// The requests that have a span, in order.
    pub operations: Vec<Operation>,
    /// Deviations that clients survive.
    pub notes: Vec<Text>,
    /// How the session on the server was ended.
    pub session_end: SessionEnd,
    /// What was said, where that was asked for.
    pub conversation: Option<Box<Conversation>>,
}

impl ProbeResult {
    /// The notes, but for those on how the era was found.
    pub fn deviations(&self) -> Vec<&str> {
        let notes = self.notes.iter().map(Text::as_str);
        notes
            .filter(|note| !note.starts_with("server/discover:"))
            .collect()
    }

    /// What was spoken, once found; nothing where both eras are asked for.
    pub fn dialect(&self) -> Option<Dialect> {
        match (self.era?, self.transport) {
            (Era::Legacy, Transport::HttpSse) => Some(Dialect::HttpSse),
            (Era::Legacy, _) => Some(Dialect::Legacy),
            (Era::Modern, _) => Some(Dialect::Modern),
            (Era::Both, _) => None,
        }
    }

    /// Wall clock at the end of the last layer.
    pub fn ended_at(&self) -> SystemTime {
        self.started_at + self.duration
    }

    /// The layer that failed, or whose expectation did not hold.
    pub fn failed_layer(&self) -> Option<Layer> {
        let shortfall = self.shortfall.as_ref().map(|shortfall| shortfall.layer);
        self.failure.as_ref().map(|f| f.layer).or(shortfall)
    }

    /// Why the target is not simply up: of the layer that failed, or of the expectation that did not hold.
    pub fn reason(&self) -> Option<Reason> {
        match &self.failure {
            Some(failure) => Some(failure.reason),
            None => self.shortfall.as_ref().map(|_| Reason::Expectation),
        }
    }

    /// The same in a sentence.
    pub fn message(&self) -> Option<&Text> {
        match &self.failure {
            Some(failure) => Some(&failure.message),
            None => self.shortfall.as_ref().map(|shortfall| &shortfall.message),
        }
    }

    /// The operation whose answer decided the failure: the one that the failed layer belongs to.
    pub fn failed_operation(&self) -> Option<&Operation> {
        let layer = self.failure.as_ref()?.layer;
        self.operations
            .iter()
            .rev()
            .find(|operation| operation.kind.covers(layer))
    }
}

#[cfg(test)]
impl ProbeResult {
    /// A probe that found nothing but that each layer passes, a second for each.
    pub(crate) fn passed() -> Self {
        let layer = LayerResult {
            outcome: Outcome::Ok,
            duration: Duration::from_secs(1),
            ..LayerResult::default()
        };
        Self {
            started_at: SystemTime::UNIX_EPOCH,
            duration: Duration::from_secs(4),
            trace_id: TraceId::random(),
            root_span: SpanId::random(),
            state: State::Up,
            failure: None,
            shortfall: None,
            era: None,
            transport: Transport::Stdio,
            conversation: None,
            protocol_version: None,
            server: None,
            tools: None,
            certificate_expires: None,
            session_id: None,
            layers: [(); 4].map(|()| layer.clone()),
            operations: Vec::new(),
            notes: Vec::new(),
            session_end: SessionEnd::NotNeeded,
        }
    }
}

/// An expectation that did not hold although every layer passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The layer that it is about.
    pub layer: Layer,
    /// Which, what was found and what was expected; safe to print.
    pub message: Text,
}

/// One layer of one probe.
#[derive(Clone, Debug, Default)]
pub struct LayerResult {
    /// What became of it.
    pub outcome: Outcome,
    /// Offset of its start.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Its timed parts.
    pub phases: Vec<PhaseTime>,
}

/// One timed phase.
#[derive(Clone, Copy, Debug)]
pub struct PhaseTime {
    /// Which.
    pub phase: Phase,
    /// Offset of its start.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// What a request with a span of its own was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// A request that only served to find the era, and was rejected.
    Negotiate,
    /// `initialize`.
    Initialize,
    /// `server/discover`.
    Discover,
    /// `tools/list`, all pages.
    ToolsList,
    /// `tools/call`.
    ToolsCall,
    /// `tools/call` of the canary, which no layer stands or falls with.
    Canary,
}

impl OperationKind {
    /// The span's name.
    pub fn span_name(self) -> &'static str {
        match self {
            Self::Negotiate => "mcp.negotiate",
            Self::Initialize => "mcp.initialize",
            Self::Discover => "mcp.discover",
            Self::ToolsList => "mcp.tools_list",
            Self::ToolsCall => "mcp.tools_call",
            Self::Canary => "mcp.tool_call",
        }
    }

    /// Whether a failure of `layer` is a failure of this operation.
    pub fn covers(self, layer: Layer) -> bool {
        match self {
            Self::Negotiate | Self::Canary => false,
            Self::Initialize | Self::Discover => matches!(layer, Layer::Http | Layer::Initialize),
            Self::ToolsList | Self::ToolsCall => layer == Layer::ToolsList,
        }
    }
}

/// One request (or all pages of one) as our client span sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What it was for.
    pub kind: OperationKind,
    /// JSON-RPC method.
    #[serde(skip)]
    pub method: &'static str,
    /// The span that the request's `traceparent` names.
    pub span_id: SpanId,
    /// Offset of the request's first byte.
    pub start: Duration,
    /// Offset of the answer's last byte, or of giving up.
    pub end: Duration,
    /// JSON-RPC id of the (first) request.
    pub request_id: u64,
    /// HTTP status, where one was read.
    pub http_status: Option<u16>,
    /// JSON-RPC error code, where there was one.
    pub jsonrpc_code: Option<i64>,
    /// A complete answer was read, good or bad.
    pub answered: bool,
    /// Why it failed: a reason's code, or what rejected the negotiation.
    pub error: Option<Text>,
}

/// How the session on the server was ended, from the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionEnd {
    /// The server keeps none.
    #[default]
    NotNeeded,
    /// `DELETE` was accepted, or the process has ended.
    Ended,
    /// The server does not allow it (405 and other statuses).
    Refused,
    /// `DELETE` was not answered in time.
    Failed,
}
