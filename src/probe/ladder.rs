//! The ladder: transport, http, initialize, tools_list, each standing on the one before.

use serde_json::Value;

use super::channel::{Call, Channel};
use super::discover::{self, Discovered};
use super::fault::Fault;
use super::initialize;
use super::record::{Record, Step};
use super::rpc::{self, Answer, Meta};
use super::tools_list::{self, ToolList};
use super::{mirrored, tools_call};
use crate::model::{
    Dialect, Endpoint, Era, EraMode, Layer, OperationKind, Reason, SpanId, Target, ToolCall,
    Transport,
};

/// What first ids are drawn from: all of one length, and exact in every JSON reader.
const FIRST_IDS: std::ops::Range<u64> = 1_000_000_000..2_000_000_000;

/// A target being climbed.
pub(super) struct Ladder<'t, 'c> {
    pub(super) target: &'t Target,
    pub(super) channel: &'c mut Channel<'t>,
    pub(super) record: &'c mut Record,
    next_id: u64,
    call: Option<&'c ToolCall>,
    /// `inputSchema` of the tool to be called, once it was listed.
    schema: Option<Value>,
}

/// What came of asking `server/discover` in order to find the era.
enum Detected {
    /// The handshake is done: modern.
    Modern,
    /// An orderly answer that is not modern.
    NotModern,
    /// No usable answer, up to this layer; it says nothing about the era.
    Trouble(Fault, Layer),
}

impl<'t, 'c> Ladder<'t, 'c> {
    pub(super) fn new(
        target: &'t Target,
        channel: &'c mut Channel<'t>,
        record: &'c mut Record,
        call: Option<&'c ToolCall>,
    ) -> Self {
        Self {
            target,
            channel,
            record,
            // Gateways that share one process among their clients pass every answer on to all of them: who counts from 1
            // takes others' answers for its own, and gives them ours.
            next_id: fastrand::u64(FIRST_IDS),
            call,
            schema: None,
        }
    }

    /// Climbs as far as the profile asks. `hint` is what the endpoint spoke last time.
    pub(super) async fn climb(&mut self, hint: Option<Dialect>) -> Result<(), Fault> {
        let depth = self.target.profile.depth;
        self.record.begin(Layer::Transport);
        self.channel.open(self.record).await?;
        self.record.pass();
        if matches!(self.target.endpoint, Endpoint::Stdio(_)) {
            self.record.skip(Layer::Http);
        }
        for layer in Layer::ALL.into_iter().filter(|layer| *layer > depth) {
            self.record.skip(layer);
        }
        if depth == Layer::Transport {
            return Ok(());
        }
        let era = self.handshake(hint).await?;
        self.list_tools_if_wanted(era).await?;
        let mut modern = era == Era::Modern;
        if self.target.era == EraMode::Both {
            self.climb_again().await?;
            modern = false;
        }
        if let Some(canary) = self.canary() {
            self.call_canary(canary, modern).await;
        }
        Ok(())
    }

    /// Where somebody wants another tool called, that is enough.
    fn canary(&self) -> Option<&'t ToolCall> {
        let is_listed = self.target.profile.depth >= Layer::ToolsList && self.call.is_none();
        self.target.canary.as_ref().filter(|_| is_listed)
    }

    /// Every layer has passed, and stays passed whatever comes of this. It gets half of the time that is left, so that the
    /// session can be ended.
    async fn call_canary(&mut self, canary: &ToolCall, modern: bool) {
        let left = self.target.timeout.saturating_sub(self.record.now()) / 2;
        let transcript = self.record.begin_canary(&canary.tool);
        let called = self.call_tool(canary, modern, OperationKind::Canary);
        let called = tokio::time::timeout(left, called).await;
        self.record.end_canary(transcript);
        let fault = match called {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => fault,
            Err(_) => self.record.deadline(left),
        };
        self.record.canary_failed(&canary.tool, &fault);
        if fault.is_incomplete() {
            // It may have stopped half-way: nothing more can be said on this connection.
            self.channel.hang_up();
        }
    }

    async fn handshake(&mut self, hint: Option<Dialect>) -> Result<Era, Fault> {
        match (self.target.era, hint) {
            (EraMode::Modern | EraMode::Both, _) => self.discover_only().await,
            (_, Some(Dialect::HttpSse)) => self.http_sse_or_detect().await,
            (EraMode::Legacy, _) => self.initialize().await,
            (EraMode::Auto, Some(Dialect::Legacy)) => self.initialize_or_detect().await,
            (EraMode::Auto, _) => self.detect_era().await,
        }
    }

    /// What the modern era could do, the legacy era has to do as well, in a session of its own: many servers keep a
    /// connection or process in the era in which it began.
    async fn climb_again(&mut self) -> Result<(), Fault> {
        let (version, server) = (
            self.record.protocol_version.take(),
            self.record.server.take(),
        );
        self.record.again();
        self.channel.forget_session();
        self.reopen().await?;
        let era = self.initialize().await?;
        self.list_tools_if_wanted(era).await?;
        self.record.era = Some(Era::Both);
        self.record.protocol_version = version;
        self.record.server = server.or(self.record.server.take());
        Ok(())
    }

    async fn list_tools_if_wanted(&mut self, era: Era) -> Result<(), Fault> {
        if self.target.profile.depth >= Layer::ToolsList {
            self.record.begin(Layer::ToolsList);
            self.list_tools(era == Era::Modern).await?;
            if let Some(call) = self.call {
                let modern = era == Era::Modern;
                self.call_tool(call, modern, OperationKind::ToolsCall)
                    .await?;
            }
            self.record.pass();
        }
        Ok(())
    }

    /// `server/discover` decides; a server that is legacy after all gets `initialize`.
    async fn detect_era(&mut self) -> Result<Era, Fault> {
        match self.try_discover().await? {
            Detected::Modern => Ok(Era::Modern),
            Detected::NotModern => {
                if !self.channel.is_open() {
                    self.reopen().await?;
                }
                self.initialize().await
            }
            Detected::Trouble(..) => {
                self.reopen_after_trouble().await?;
                match self.initialize().await {
                    // A modern server had a bad moment: ask it again before blaming its refusal of `initialize`.
                    Err(fault) if self.may_be_modern(&fault) => {
                        self.discover_again(fault, false).await
                    }
                    result => result,
                }
            }
        }
    }

    /// The endpoint spoke legacy last time; only a rejection by the protocol makes us look again.
    async fn initialize_or_detect(&mut self) -> Result<Era, Fault> {
        match self.initialize().await {
            Err(fault) if self.may_be_modern(&fault) => self.discover_again(fault, true).await,
            result => result,
        }
    }

    /// `initialize` was rejected with `rejection`: a modern server says so to `server/discover`. When that fails, it is
    /// the rejection that counts where the server is known to be legacy, and the failure where it is not.
    async fn discover_again(&mut self, rejection: Fault, known_legacy: bool) -> Result<Era, Fault> {
        let layer = self.record.layer();
        if !self.channel.is_open() {
            self.reopen().await?;
        }
        let detected = self.try_discover().await?;
        let asked = self.record.operations.len().saturating_sub(1);
        match detected {
            Detected::Modern => {
                // The rejection was negotiation after all; the layers stay those of the discovery.
                self.record.initialize_was_rejected(&rejection);
                Ok(Era::Modern)
            }
            Detected::Trouble(fault, failed) if !known_legacy => {
                self.record.initialize_was_rejected(&rejection);
                self.record.was_handshake(asked, failed);
                Err(fault)
            }
            Detected::NotModern | Detected::Trouble(..) => {
                self.record.resume(layer);
                Err(rejection)
            }
        }
    }

    /// The server understood `initialize` and refused it, as a modern server does; one with a stream of HTTP+SSE is not.
    fn may_be_modern(&self, fault: &Fault) -> bool {
        let refused = match fault.reason {
            Reason::JsonrpcError => true,
            Reason::UnsupportedProtocolVersion => fault.jsonrpc_code.is_some(),
            Reason::HttpStatus => matches!(fault.http_status, Some(400..=499)),
            _ => false,
        };
        refused && self.channel.transport() != Transport::HttpSse
    }

    async fn reopen(&mut self) -> Result<(), Fault> {
        self.record.begin(Layer::Transport);
        self.channel.reopen(self.record).await?;
        self.record.pass();
        Ok(())
    }

    /// HTTP gets a fresh connection. A stdio server that is only slow keeps its process.
    async fn reopen_after_trouble(&mut self) -> Result<(), Fault> {
        let is_http = matches!(self.channel, Channel::Http(_));
        if is_http || !self.channel.is_open() {
            self.reopen().await?;
        }
        Ok(())
    }

    /// Asks `server/discover` for at most a third of the deadline: a legacy server that hangs on it
    /// must not look down.
    async fn try_discover(&mut self) -> Result<Detected, Fault> {
        let budget = self.target.timeout / 3;
        let asked = tokio::time::timeout(budget, self.ask_discover()).await;
        let operation = self.record.operations.len().saturating_sub(1);
        let detected = match asked {
            Ok(Ok(answer)) => match self.read_discover(&answer) {
                Discovered::Modern => {
                    self.record.pass();
                    return Ok(Detected::Modern);
                }
                Discovered::Refused(fault) => return Err(fault),
                Discovered::NotModern(what) => {
                    self.record.was_negotiation(operation, what);
                    Detected::NotModern
                }
            },
            Ok(Err(fault)) => match ends_detection(&fault) {
                Ending::Final => return Err(fault),
                Ending::NotModern => {
                    self.record
                        .was_negotiation(operation, fault.reason.as_str());
                    Detected::NotModern
                }
                Ending::Trouble => self.in_trouble(operation, fault),
            },
            Err(_) => {
                let fault = self.record.deadline(budget);
                self.record.close(operation, Some(&fault));
                self.in_trouble(operation, fault)
            }
        };
        self.channel.set_session_aside();
        Ok(detected)
    }

    fn in_trouble(&mut self, operation: usize, fault: Fault) -> Detected {
        let layer = self.record.layer();
        self.record
            .note(format!("server/discover: {}", fault.message));
        self.record
            .was_negotiation(operation, fault.reason.as_str());
        Detected::Trouble(fault, layer)
    }

    async fn discover_only(&mut self) -> Result<Era, Fault> {
        let answer = self.ask_discover().await?;
        match self.read_discover(&answer) {
            Discovered::Modern => {
                self.record.pass();
                Ok(Era::Modern)
            }
            Discovered::Refused(fault) => Err(fault),
            Discovered::NotModern(what) => match answer {
                Err(error) => Err((&error).into()),
                Ok(_) => Err(Fault::new(
                    Reason::UnsupportedProtocolVersion,
                    format!("the server is not modern: it answered server/discover with {what}"),
                )),
            },
        }
    }

    fn read_discover(&mut self, answer: &Answer) -> Discovered {
        match answer {
            Ok(result) => discover::read_result(result, self.record),
            Err(error) => discover::read_error(error),
        }
    }

    /// Asks `server/discover`, twice where the server wants that: the last operation is the one that counts.
    async fn ask_discover(&mut self) -> Result<Answer, Fault> {
        let operation = self.record.operations.len();
        let answer = self.ask_discover_once().await?;
        if !discover::asks_again(&answer) {
            return Ok(answer);
        }
        let what = format!("JSON-RPC error {}", rpc::UNSUPPORTED_VERSION);
        self.record.was_negotiation(operation, what);
        self.ask_discover_once().await
    }

    async fn ask_discover_once(&mut self) -> Result<Answer, Fault> {
        let (id, operation, traceparent) =
            self.begin_handshake(OperationKind::Discover, discover::METHOD);
        #[derive(serde::Serialize)]
        struct Params<'a> {
            #[serde(rename = "_meta")]
            meta: Option<Meta<'a>>,
        }
        let meta = Meta::new(self.target, &traceparent, true);
        let body = rpc::encode(Some(id), discover::METHOD, Some(Params { meta }));
        let call = Call {
            method: discover::METHOD,
            id: Some(id),
            body,
            traceparent,
            operation: Some(operation),
            modern: true,
            mirrored: Vec::new(),
            step: self.handshake_step(),
        };
        self.channel.ask(self.record, &call).await
    }

    /// `initialize`, over HTTP+SSE where Streamable HTTP refuses the POST.
    async fn initialize(&mut self) -> Result<Era, Fault> {
        let (id, operation, traceparent) =
            self.begin_handshake(OperationKind::Initialize, initialize::METHOD);
        match self.initialize_by(id, operation, &traceparent).await {
            Err(refusal) if self.could_be_http_sse(operation, &refusal) => {
                self.fall_back_to_http_sse(operation, refusal).await
            }
            result => result,
        }
    }

    /// A POST to the stream's URL is refused with 400, 404 or 405 by the servers of 2024-11-05.
    fn could_be_http_sse(&self, operation: usize, refusal: &Fault) -> bool {
        let modern = [
            rpc::UNSUPPORTED_VERSION,
            rpc::HEADER_MISMATCH,
            rpc::MISSING_CAPABILITY,
        ];
        self.channel.transport() == Transport::StreamableHttp
            && matches!(self.status_of(operation), Some(400 | 404 | 405))
            && matches!(refusal.reason, Reason::HttpStatus | Reason::JsonrpcError)
            && !refusal
                .jsonrpc_code
                .is_some_and(|code| modern.contains(&code))
    }

    /// A stream that names an endpoint proves HTTP+SSE. Without one the refusal stands; only where nothing but HTTP+SSE
    /// refuses a POST like this (405) may the stream take its time, and may its failure be the reason.
    async fn fall_back_to_http_sse(
        &mut self,
        refused: usize,
        refusal: Fault,
    ) -> Result<Era, Fault> {
        let layer = self.record.layer();
        let certain = refusal.http_status == Some(405);
        let budget = self.target.timeout / 3;
        let operation = self.record.operations.len();
        self.record.was_rejected(refused, &refusal);
        let named = async {
            let opened = self.open_http_sse().await?;
            self.find_endpoint().await?;
            Ok(opened)
        };
        let named = if certain {
            Ok(named.await)
        } else {
            tokio::time::timeout(budget, named).await
        };
        match named {
            Ok(Ok(opened)) => self.initialize_over_http_sse(opened).await,
            Ok(Err(fault)) if is_telling(&fault) || certain && is_trouble(&fault) => {
                self.record
                    .note(format!("initialize by POST: {}", refusal.message));
                Err(fault)
            }
            Ok(Err(_)) | Err(_) => {
                self.channel.use_streamable_http();
                self.record.close(operation, Some(&refusal));
                self.record.was_rejected(operation, &refusal);
                self.record.was_refused_after_all(refused);
                self.record.resume(layer);
                Err(refusal)
            }
        }
    }

    /// The endpoint spoke HTTP+SSE last time; only a rejection by the protocol makes us look again, and a stream that
    /// names no endpoint: Streamable HTTP answers a GET with such a one.
    async fn http_sse_or_detect(&mut self) -> Result<Era, Fault> {
        let operation = self.record.operations.len();
        let budget = self.target.timeout / 3;
        let rejection = match self.open_http_sse().await {
            Ok(opened) => match tokio::time::timeout(budget, self.find_endpoint()).await {
                Ok(Ok(())) => return self.initialize_over_http_sse(opened).await,
                Ok(Err(fault)) => fault,
                Err(_) => self.record.deadline(budget),
            },
            Err(fault) if refuses_a_stream(&fault) => fault,
            Err(fault) => return Err(fault),
        };
        self.channel.use_streamable_http();
        self.record.close(operation, Some(&rejection));
        self.record
            .was_negotiation(operation, rejection.reason.as_str());
        self.reopen().await?;
        match self.target.era {
            EraMode::Legacy => self.initialize().await,
            _ => self.detect_era().await,
        }
    }

    /// The GET: layer `http` of HTTP+SSE.
    async fn open_http_sse(&mut self) -> Result<(u64, usize, String), Fault> {
        self.record.http_anew();
        let opened = self.open(OperationKind::Initialize, initialize::METHOD);
        if let Some(sse) = self.channel.use_http_sse() {
            sse.open(self.record, opened.1, &opened.2).await?;
        }
        self.record.pass();
        self.record.begin(Layer::Initialize);
        Ok(opened)
    }

    /// The event that names the URL for messages, unless no message is to be sent.
    async fn find_endpoint(&mut self) -> Result<(), Fault> {
        match self.channel.http_sse() {
            Some(sse) if self.target.profile.depth >= Layer::Initialize => {
                sse.find_endpoint(self.record).await
            }
            _ => Ok(()),
        }
    }

    async fn initialize_over_http_sse(
        &mut self,
        (id, operation, traceparent): (u64, usize, String),
    ) -> Result<Era, Fault> {
        if self.target.profile.depth < Layer::Initialize {
            return Ok(Era::Legacy);
        }
        self.initialize_by(id, operation, &traceparent).await
    }

    async fn initialize_by(
        &mut self,
        id: u64,
        operation: usize,
        traceparent: &str,
    ) -> Result<Era, Fault> {
        let traceparent = traceparent.to_owned();
        let body = initialize::encode(id, Meta::new(self.target, &traceparent, false));
        let call = Call {
            method: initialize::METHOD,
            id: Some(id),
            body,
            traceparent: traceparent.clone(),
            operation: Some(operation),
            modern: false,
            mirrored: Vec::new(),
            step: self.handshake_step(),
        };
        let answer = self.channel.ask(self.record, &call).await?;
        let result = answer.map_err(|error| {
            let mut fault = self.with_status(operation, &error);
            // A modern server says so in answer to `initialize`, too.
            if error.code == rpc::UNSUPPORTED_VERSION {
                fault.reason = Reason::UnsupportedProtocolVersion;
            }
            fault
        })?;
        let version = initialize::read_result(&result, self.record)?;
        if self.target.profile.depth < Layer::Initialize {
            return Ok(Era::Legacy);
        }
        self.channel.agreed(&version);
        let call = Call {
            method: initialize::INITIALIZED,
            id: None,
            body: rpc::encode(
                None,
                initialize::INITIALIZED,
                notification_params(Meta::new(self.target, &traceparent, false)),
            ),
            traceparent,
            operation: None,
            modern: false,
            mirrored: Vec::new(),
            step: Step::INITIALIZED,
        };
        self.channel.notify(self.record, &call).await?;
        self.record.pass();
        Ok(Era::Legacy)
    }

    /// Opens the operation and the layer of a handshake request.
    fn begin_handshake(
        &mut self,
        kind: OperationKind,
        method: &'static str,
    ) -> (u64, usize, String) {
        self.record.begin(self.handshake_step().head);
        self.open(kind, method)
    }

    fn open(&mut self, kind: OperationKind, method: &'static str) -> (u64, usize, String) {
        let id = self.take_id();
        let operation = self.record.open(kind, method, id);
        (id, operation, self.traceparent(operation))
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn traceparent(&self, operation: usize) -> String {
        let span = self
            .record
            .operations
            .get(operation)
            .map_or(SpanId([0; 8]), |operation| operation.span_id);
        rpc::traceparent(self.record.trace_id, span)
    }

    /// stdio has no HTTP, and HTTP+SSE passed it with its stream: there the handshake is in `initialize` from the first
    /// byte.
    fn handshake_step(&self) -> Step {
        match self.channel.transport() {
            Transport::StreamableHttp => Step::HANDSHAKE,
            Transport::HttpSse | Transport::Stdio => Step::INITIALIZED,
        }
    }

    async fn list_tools(&mut self, modern: bool) -> Result<(), Fault> {
        let (first_id, operation, traceparent) =
            self.open(OperationKind::ToolsList, tools_list::METHOD);
        let mut list = ToolList::new(self.target.expect.tools.as_deref().unwrap_or_default());
        let mut cursor: Option<String> = None;
        let mut id = first_id;
        loop {
            let meta = Meta::new(self.target, &traceparent, modern);
            let call = Call {
                method: tools_list::METHOD,
                id: Some(id),
                body: tools_list::encode(id, cursor.as_deref(), meta),
                traceparent: traceparent.clone(),
                operation: Some(operation),
                modern,
                mirrored: Vec::new(),
                step: Step::TOOLS_LIST,
            };
            let answer = self
                .channel
                .ask(self.record, &call)
                .await
                .map_err(|fault| self.session_lost(fault))?;
            let result = match answer {
                Ok(result) => result,
                Err(error)
                    if error.code == rpc::METHOD_NOT_FOUND
                        && cursor.is_none()
                        && !self.record.declares_tools =>
                {
                    self.record
                        .note("the server has no tools/list, which counts as no tools");
                    break;
                }
                Err(error) => return Err(self.session_lost(self.with_status(operation, &error))),
            };
            cursor = list.read_page(&result, modern, self.record)?;
            if let Some(call) = self.call.or(self.target.canary.as_ref())
                && self.schema.is_none()
            {
                self.schema = tools_call::input_schema(&result, &call.tool);
            }
            self.record.tools = Some(list.count());
            if cursor.is_none() {
                break;
            }
            id = self.take_id();
        }
        self.record.tools = Some(list.count());
        self.record.missing_tools = list.missing();
        Ok(())
    }

    async fn call_tool(
        &mut self,
        tool: &ToolCall,
        modern: bool,
        kind: OperationKind,
    ) -> Result<(), Fault> {
        let schema = self.schema.as_ref();
        let schema = schema.ok_or_else(|| tools_call::not_listed(&tool.tool))?;
        let mirrored = if modern && self.channel.transport() == Transport::StreamableHttp {
            mirrored::headers(tool, schema)?
        } else {
            Vec::new()
        };
        let (id, operation, traceparent) = self.open(kind, tools_call::METHOD);
        let meta = Meta::new(self.target, &traceparent, modern);
        let call = Call {
            method: tools_call::METHOD,
            id: Some(id),
            body: tools_call::encode(id, tool, meta),
            traceparent,
            operation: Some(operation),
            modern,
            mirrored,
            step: Step::TOOLS_LIST,
        };
        let answer = self.channel.ask(self.record, &call).await;
        match answer.map_err(|fault| self.session_lost(fault))? {
            Ok(result) => tools_call::read_result(&result, &tool.tool, modern, self.record),
            Err(error) => Err(self.session_lost(self.with_status(operation, &error))),
        }
    }

    /// A JSON-RPC error with the HTTP status that it came with.
    fn with_status(&self, operation: usize, error: &rpc::RpcError) -> Fault {
        let mut fault = Fault::from(error);
        fault.http_status = self.status_of(operation);
        fault
    }

    fn status_of(&self, operation: usize) -> Option<u16> {
        self.record.operations.get(operation)?.http_status
    }

    /// 404 in the middle of a session means that the server has forgotten it.
    fn session_lost(&self, fault: Fault) -> Fault {
        if fault.http_status == Some(404) && self.channel.has_session() {
            return Fault::new(
                Reason::SessionLost,
                "HTTP 404: the server forgot the session that it had just handed out",
            )
            .with_status(404);
        }
        fault
    }
}

/// `params` of a notification: nothing but `_meta`, or absent.
fn notification_params(meta: Option<Meta<'_>>) -> Option<impl serde::Serialize> {
    #[derive(serde::Serialize)]
    struct Params<'a> {
        #[serde(rename = "_meta")]
        meta: Meta<'a>,
    }
    meta.map(|meta| Params { meta })
}

/// What a GET can be refused with that says more than the refusal of the POST before it, and an `endpoint` event that
/// cannot be used.
fn is_telling(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        Reason::AuthRequired
            | Reason::Forbidden
            | Reason::RateLimited
            | Reason::InvalidMessage
            | Reason::ProberResources
    )
}

/// The server is there, and no longer answers a GET with a stream.
fn refuses_a_stream(fault: &Fault) -> bool {
    match fault.reason {
        Reason::HttpStatus => matches!(fault.http_status, Some(400..=499)),
        Reason::ContentType | Reason::Redirect => true,
        _ => false,
    }
}

/// The server did not get as far as refusing the GET.
fn is_trouble(fault: &Fault) -> bool {
    match fault.reason {
        Reason::HttpStatus => fault.http_status.is_some_and(|status| status >= 500),
        Reason::ContentType | Reason::Redirect => false,
        _ => true,
    }
}

/// What a fault of `server/discover` says about the era.
enum Ending {
    /// It is the result of the probe.
    Final,
    /// The protocol was refused in an orderly way.
    NotModern,
    /// Nothing.
    Trouble,
}

fn ends_detection(fault: &Fault) -> Ending {
    match fault.reason {
        Reason::AuthRequired | Reason::Forbidden | Reason::RateLimited | Reason::Redirect => {
            Ending::Final
        }
        // Our own want of files or ports would hit the next attempt as well.
        Reason::ProberResources => Ending::Final,
        // A proxy's 407 as well.
        Reason::Proxy if fault.http_status.is_some() => Ending::Final,
        Reason::HttpStatus => match fault.http_status {
            Some(401) => Ending::Final,
            Some(400..=499) => Ending::NotModern,
            _ => Ending::Trouble,
        },
        _ => Ending::Trouble,
    }
}
