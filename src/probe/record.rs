//! The stopwatch and notebook of one probe.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::fault::Fault;
use super::head::Head;
use super::transcript::{Sent, Transcript};
use super::{expectation, limits, transcript};
use crate::model::{
    Conversation, Era, Failure, Layer, LayerResult, Operation, OperationKind, Outcome, Phase,
    PhaseTime, ProbeResult, Reason, RemarkKind, Secret, ServerInfo, SessionEnd, SpanId, State,
    Target, Text, TraceId, Transport,
};

/// What is being waited for, so that a deadline can say what did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Dns,
    Connect,
    Proxy,
    Tls,
    Spawn,
    Head,
    Answer,
}

/// Which layers a request belongs to: until its answer's head, and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) head: Layer,
    pub(super) answer: Layer,
}

impl Step {
    pub(super) const HANDSHAKE: Self = Self {
        head: Layer::Http,
        answer: Layer::Initialize,
    };
    /// `notifications/initialized` belongs to the handshake's second half.
    pub(super) const INITIALIZED: Self = Self {
        head: Layer::Initialize,
        answer: Layer::Initialize,
    };
    pub(super) const TOOLS_LIST: Self = Self {
        head: Layer::ToolsList,
        answer: Layer::ToolsList,
    };
}

/// Collects what one probe finds; outlives the ladder, so that a deadline loses nothing.
pub(super) struct Record {
    pub(super) trace_id: TraceId,
    waiting: Waiting,
    /// What is being done is done on the way to the proxy.
    pub(super) through_proxy: bool,
    /// The address that was connected to last.
    pub(super) reached: Option<SocketAddr>,
    pub(super) era: Option<Era>,
    pub(super) protocol_version: Option<Text>,
    pub(super) server: Option<ServerInfo>,
    pub(super) tools: Option<u32>,
    /// The server has said that it has tools.
    pub(super) declares_tools: bool,
    /// Of the expected tools those that were not listed.
    pub(super) missing_tools: Vec<String>,
    pub(super) operations: Vec<Operation>,
    pub(super) root_span: SpanId,
    /// What must not be shown besides what the target says.
    pub(super) learnt: Vec<Secret>,
    started_at: SystemTime,
    clock: Instant,
    layer: Layer,
    begun: Duration,
    layers: [LayerResult; 4],
    notes: Vec<Text>,
    transcript: Option<Box<Transcript>>,
    certificate_expires: Option<SystemTime>,
    /// When the last layer was decided, where something came after it.
    decided: Option<Duration>,
}

impl Record {
    /// Starts the clock; `taken_down` says whether somebody wants to read what is said.
    pub(super) fn start(taken_down: bool) -> Self {
        Self {
            trace_id: TraceId::random(),
            waiting: Waiting::Connect,
            through_proxy: false,
            reached: None,
            era: None,
            protocol_version: None,
            server: None,
            tools: None,
            declares_tools: false,
            missing_tools: Vec::new(),
            operations: Vec::with_capacity(3),
            root_span: SpanId::random(),
            learnt: Vec::new(),
            started_at: SystemTime::now(),
            clock: Instant::now(),
            layer: Layer::Transport,
            begun: Duration::ZERO,
            layers: Default::default(),
            notes: Vec::new(),
            transcript: taken_down.then(Box::default),
            certificate_expires: None,
            decided: None,
        }
    }

    /// What follows is no part of what was found, and what it says is nobody's to read.
    pub(super) fn begin_canary(&mut self, tool: &str) -> Option<Box<Transcript>> {
        self.say(|| format!("the canary {tool} is called; what is said of it is not taken down"));
        self.decided = Some(self.now());
        self.transcript.take()
    }

    /// The canary has ended; what was taken down before goes on.
    pub(super) fn end_canary(&mut self, transcript: Option<Box<Transcript>>) {
        self.transcript = transcript;
    }

    /// The canary came to nothing: that is a note on a target that is as well as it was found to be.
    pub(super) fn canary_failed(&mut self, tool: &str, fault: &Fault) {
        let now = self.now();
        if let Some(operation) = self.operations.last_mut()
            && operation.kind == OperationKind::Canary
        {
            operation.error = Some(fault.reason.as_str().into());
            operation.jsonrpc_code = fault.jsonrpc_code;
            operation.answered = !fault.is_incomplete();
            if !operation.answered {
                operation.end = now;
            }
        }
        self.note(format!(
            "canary {tool}: {}: {}",
            fault.reason, fault.message
        ));
    }

    /// Nobody wants to read it after all.
    pub(super) fn forget(&mut self) {
        self.transcript = None;
    }

    fn take_down(
        &mut self,
        kind: RemarkKind,
        head: impl FnOnce() -> transcript::Head,
        body: &[u8],
    ) {
        let now = self.now();
        if let Some(transcript) = &mut self.transcript {
            transcript.add(now, kind, head(), body);
        }
    }

    /// We did or found something.
    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        self.take_down(RemarkKind::Note, || transcript::Head::Text(what()), &[]);
    }

    /// We send a request.
    pub(super) fn say_request(&mut self, sent: impl FnOnce() -> Sent) {
        let now = self.now();
        if let Some(transcript) = &mut self.transcript {
            let sent = sent();
            let (method, uri) = (sent.method.clone(), sent.uri.clone());
            let head = transcript::Head::Request(method, uri, sent.headers.clone());
            transcript.add(now, RemarkKind::Sent, head, &sent.body);
            transcript.repeat(sent);
        }
    }

    /// We write a line to a process.
    pub(super) fn say_sent(&mut self, line: &[u8]) {
        self.take_down(RemarkKind::Sent, transcript::Head::none, line);
    }

    /// We answer a request of the server's.
    pub(super) fn say_reply(&mut self, method: &str, reply: &[u8]) {
        let head = || transcript::Head::Text(format!("to its request {method}"));
        self.take_down(RemarkKind::Sent, head, reply);
    }

    /// A process wrote a line.
    pub(super) fn say_line(&mut self, line: &[u8]) {
        self.take_down(RemarkKind::Received, transcript::Head::none, line);
    }

    /// The head of an answer.
    pub(super) fn say_head(&mut self, head: &Head) {
        self.take_down(
            RemarkKind::Received,
            || transcript::Head::Answer(head.version(), head.status(), head.headers().clone()),
            &[],
        );
    }

    /// A piece of the body that belongs to what was received last.
    pub(super) fn say_received(&mut self, piece: &[u8]) {
        let now = self.now();
        if let Some(transcript) = &mut self.transcript {
            transcript.go_on(now, piece);
        }
    }

    /// An event of a stream.
    pub(super) fn say_event(&mut self, kind: &[u8], data: &[u8]) {
        let head = || transcript::Head::Text(format!("event: {}", String::from_utf8_lossy(kind)));
        self.take_down(RemarkKind::Received, head, data);
    }

    /// What is waited for from now on.
    pub(super) fn wait_for(&mut self, waiting: Waiting) {
        self.waiting = waiting;
    }

    /// Offset from the start of the probe.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(super) fn layer(&self) -> Layer {
        self.layer
    }

    fn slot(&mut self, layer: Layer) -> &mut LayerResult {
        let [transport, http, initialize, tools_list] = &mut self.layers;
        match layer {
            Layer::Transport => transport,
            Layer::Http => http,
            Layer::Initialize => initialize,
            Layer::ToolsList => tools_list,
        }
    }

    /// The stage in progress is `layer` from now on.
    pub(super) fn begin(&mut self, layer: Layer) {
        let now = self.now();
        self.layer = layer;
        self.begun = now;
        let slot = self.slot(layer);
        if slot.outcome == Outcome::NotReached {
            slot.start = now;
        }
    }

    /// A second session follows: what lies above the transport is to be reached again. Times add up.
    pub(super) fn again(&mut self) {
        for layer in [Layer::Http, Layer::Initialize, Layer::ToolsList] {
            let slot = self.slot(layer);
            if slot.outcome == Outcome::Ok {
                slot.outcome = Outcome::NotReached;
            }
        }
    }

    /// What was refused over Streamable HTTP is asked over HTTP+SSE: `http` begins anew.
    pub(super) fn http_anew(&mut self) {
        *self.slot(Layer::Http) = LayerResult::default();
        self.begin(Layer::Http);
    }

    /// The stage in progress has finished. A stage that is entered again (a new connection
    /// after the negotiation) adds up.
    pub(super) fn pass(&mut self) {
        let spent = self.now().saturating_sub(self.begun);
        let slot = self.slot(self.layer);
        slot.outcome = Outcome::Ok;
        slot.duration += spent;
    }

    pub(super) fn skip(&mut self, layer: Layer) {
        self.slot(layer).outcome = Outcome::Skipped;
    }

    /// The answer's head can be used: `http` has passed where this request decides it.
    pub(super) fn head_accepted(&mut self, step: Step) {
        if step.head != step.answer {
            self.pass();
            self.begin(step.answer);
        }
    }

    /// What was tried as a handshake turned out to be negotiation: its time is kept on its span only.
    pub(super) fn was_negotiation(&mut self, operation: usize, error: impl Into<Text>) {
        for layer in [Layer::Http, Layer::Initialize] {
            let slot = self.slot(layer);
            if slot.outcome != Outcome::Skipped {
                *slot = LayerResult::default();
            }
        }
        if let Some(operation) = self.operations.get_mut(operation) {
            operation.kind = OperationKind::Negotiate;
            operation.error = Some(error.into());
        }
    }

    /// A request that was rejected by the era that the server does not speak.
    pub(super) fn was_rejected(&mut self, operation: usize, rejection: &Fault) {
        if let Some(operation) = self.operations.get_mut(operation) {
            operation.kind = OperationKind::Negotiate;
            operation.error = Some(rejection.reason.as_str().into());
        }
    }

    /// Every `initialize` so far was rejected by a server that turned out to be modern.
    pub(super) fn initialize_was_rejected(&mut self, rejection: &Fault) {
        for operation in &mut self.operations {
            if operation.kind == OperationKind::Initialize {
                operation.kind = OperationKind::Negotiate;
                operation.error = Some(rejection.reason.as_str().into());
            }
        }
    }

    /// The refusal of `operation` stands: nothing better was found.
    pub(super) fn was_refused_after_all(&mut self, operation: usize) {
        if let Some(operation) = self.operations.get_mut(operation) {
            operation.kind = OperationKind::Initialize;
        }
    }

    /// What came after a failure at `layer` was negotiation: it is `layer` that failed.
    pub(super) fn resume(&mut self, layer: Layer) {
        let http = self.slot(Layer::Http);
        if layer > Layer::Http && http.outcome == Outcome::NotReached {
            http.outcome = Outcome::Ok;
        }
        self.begin(layer);
    }

    /// What was taken for negotiation was the handshake: it failed at `layer`.
    pub(super) fn was_handshake(&mut self, operation: usize, layer: Layer) {
        if let Some(operation) = self.operations.get_mut(operation) {
            operation.kind = OperationKind::Discover;
        }
        self.resume(layer);
    }

    pub(super) fn phase(&mut self, phase: Phase, start: Duration) {
        let duration = self.now().saturating_sub(start);
        self.slot(self.layer).phases.push(PhaseTime {
            phase,
            start,
            duration,
        });
    }

    /// Opens the span of a request; answers its index for [`Self::operation`].
    pub(super) fn open(&mut self, kind: OperationKind, method: &'static str, id: u64) -> usize {
        let now = self.now();
        self.operations.push(Operation {
            kind,
            method,
            span_id: SpanId::random(),
            start: now,
            end: now,
            request_id: id,
            http_status: None,
            jsonrpc_code: None,
            answered: false,
            error: None,
        });
        self.operations.len() - 1
    }

    /// A request goes out now. An operation begins with its first one: what a new connection took
    /// before it is not the operation's.
    pub(super) fn sending(&mut self, operation: Option<usize>) -> Duration {
        let now = self.now();
        if let Some(operation) = operation.and_then(|index| self.operations.get_mut(index))
            && operation.http_status.is_none()
        {
            operation.start = now;
        }
        now
    }

    /// The answer to a request was read to its end, or given up.
    pub(super) fn close(&mut self, operation: usize, fault: Option<&Fault>) {
        let now = self.now();
        if let Some(operation) = self.operations.get_mut(operation) {
            operation.end = now;
            operation.answered = fault.is_none_or(|fault| !fault.is_incomplete());
        }
    }

    pub(super) fn saw_status(&mut self, operation: usize, status: u16) {
        if let Some(operation) = self.operations.get_mut(operation) {
            operation.http_status = Some(status);
        }
    }

    pub(super) fn note(&mut self, note: impl Into<Text>) {
        let note = note.into();
        let head = || transcript::Head::Text(note.to_string());
        self.take_down(RemarkKind::Deviation, head, &[]);
        if self.notes.len() < limits::MAX_NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// A certificate with this end was shown. A probe may see several, behind a redirect: the first to end counts.
    pub(super) fn saw_certificate(&mut self, end: Option<SystemTime>) {
        self.certificate_expires = self.certificate_expires.into_iter().chain(end).min();
    }

    /// The fault of a deadline: what we were waiting for did not come.
    pub(super) fn deadline(&self, timeout: Duration) -> Fault {
        let within = humantime::format_duration(timeout);
        let waiting = if self.through_proxy {
            Waiting::Proxy
        } else {
            self.waiting
        };
        let (reason, what) = match waiting {
            Waiting::Proxy => (Reason::Proxy, "no answer from the proxy"),
            Waiting::Dns => (Reason::DnsTimeout, "no answer from name resolution"),
            Waiting::Connect => (Reason::ConnectTimeout, "no answer to the TCP connect"),
            Waiting::Tls => (Reason::TlsHandshake, "no answer to the TLS handshake"),
            Waiting::Spawn => (Reason::SpawnFailed, "the process did not start"),
            Waiting::Head => (Reason::HttpTimeout, "no HTTP answer"),
            Waiting::Answer => (Reason::Timeout, "no complete answer"),
        };
        Fault::new(reason, format!("{what} within {within}"))
    }

    /// The end of the ladder, as far as the profile asks: what failed above its depth was not asked for.
    pub(super) fn within_depth(
        &mut self,
        depth: Layer,
        end: Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.layer <= depth {
            return end;
        }
        for layer in Layer::ALL.into_iter().filter(|layer| *layer > depth) {
            self.skip(layer);
        }
        Ok(())
    }

    /// For what follows the last layer: it goes on the same clock and is taken down on the same page, and is no part of
    /// the result.
    pub(super) fn afterwards(&mut self) -> Self {
        Self {
            clock: self.clock,
            transcript: self.transcript.take().map(|mut transcript| {
                transcript.close();
                transcript
            }),
            ..Self::start(false)
        }
    }

    /// What was said, if somebody wants to read it.
    pub(super) fn conversation(&mut self, target: &Target) -> Option<Box<Conversation>> {
        let transcript = self.transcript.take()?;
        Some(Box::new(transcript.finish(target, &self.learnt)))
    }

    /// Sums up: the ladder's end, good or bad, becomes a result.
    pub(super) fn finish(
        mut self,
        target: &Target,
        transport: Transport,
        fault: Option<Fault>,
    ) -> ProbeResult {
        let failure = fault.map(|fault| self.failed(target, fault));
        let state = failure.as_ref().map_or(State::Up, Failure::state);
        self.redact(target);
        let result = ProbeResult {
            duration: self.decided.unwrap_or_else(|| self.now()),
            started_at: self.started_at,
            trace_id: self.trace_id,
            root_span: self.root_span,
            state,
            failure,
            shortfall: None,
            era: self.era,
            protocol_version: self.protocol_version,
            server: self.server,
            tools: self.tools,
            certificate_expires: self.certificate_expires,
            session_id: None,
            layers: self.layers,
            operations: self.operations,
            notes: self.notes,
            session_end: SessionEnd::NotNeeded,
            transport,
            conversation: None,
        };
        expectation::judge(target, &self.missing_tools, result)
    }

    /// A server may repeat what it was sent: nowhere in the result stands a secret.
    fn redact(&mut self, target: &Target) {
        let secrets = target.secrets.iter().chain(&self.learnt);
        let secrets = secrets.map(Secret::expose);
        let names = self
            .server
            .iter_mut()
            .flat_map(|server| [&mut server.name, &mut server.version]);
        let errors = self
            .operations
            .iter_mut()
            .filter_map(|operation| operation.error.as_mut());
        for text in names
            .chain(errors)
            .chain(&mut self.notes)
            .chain(&mut self.protocol_version)
        {
            *text = Text::redacted(text.as_str(), secrets.clone());
        }
    }

    fn failed(&mut self, target: &Target, fault: Fault) -> Failure {
        let spent = self.now().saturating_sub(self.begun);
        // TLS 1.3 lets the server refuse us after it was agreed from where we stand, and a proxy that passes requests on
        // says no to the first of them: there was no way to the server.
        let no_way = matches!(fault.reason, Reason::TlsHandshake | Reason::Proxy);
        if no_way && self.layer == Layer::Http {
            *self.slot(Layer::Http) = LayerResult::default();
            self.layer = Layer::Transport;
        }
        let layer = self.layer;
        let slot = self.slot(layer);
        slot.outcome = Outcome::Failed;
        slot.duration += spent;
        let message = Text::redacted(
            fault.message.as_str(),
            target
                .secrets
                .iter()
                .chain(&self.learnt)
                .map(Secret::expose),
        );
        let now = self.now();
        let mut status = fault.http_status;
        let mut operations = self.operations.iter_mut().rev();
        if let Some(operation) = operations.find(|operation| operation.kind.covers(layer)) {
            operation.error = Some(fault.reason.as_str().into());
            operation.jsonrpc_code = fault.jsonrpc_code;
            // Also when an earlier request of the same operation, such as the page before, was answered.
            operation.answered = !fault.is_incomplete();
            if !operation.answered {
                operation.end = now;
            }
            status = status.or(operation.http_status);
        }
        Failure {
            layer,
            reason: fault.reason,
            message,
            http_status: status,
            jsonrpc_code: fault.jsonrpc_code,
        }
    }
}
