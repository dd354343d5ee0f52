//! The ladder: transport, http, initialize, tools_list, each standing on the one before.

use super::channel::{Call, Channel};
use super::discover::{self, Discovered};
use super::fault::Fault;
use super::initialize;
use super::record::{Record, Step};
use super::rpc::{self, Answer, Meta};
use super::tools_list::{self, ToolList};
use crate::model::{Endpoint, Era, EraMode, Layer, OperationKind, Reason, SpanId, Target};

/// A target being climbed.
pub(super) struct Ladder<'t, 'c> {
    pub(super) target: &'t Target,
    pub(super) channel: &'c mut Channel<'t>,
    pub(super) record: &'c mut Record,
    next_id: u64,
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
    ) -> Self {
        Self {
            target,
            channel,
            record,
            next_id: 1,
        }
    }

    /// Climbs as far as the profile asks. `hint` is the era that the endpoint spoke last time.
    pub(super) async fn climb(&mut self, hint: Option<Era>) -> Result<(), Fault> {
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
        if depth >= Layer::ToolsList {
            self.record.begin(Layer::ToolsList);
            self.list_tools(era == Era::Modern).await?;
            self.record.pass();
        }
        Ok(())
    }

    async fn handshake(&mut self, hint: Option<Era>) -> Result<Era, Fault> {
        match (self.target.era, hint) {
            (EraMode::Legacy, _) => self.initialize().await,
            (EraMode::Modern, _) => self.discover_only().await,
            (EraMode::Auto | EraMode::Both, Some(Era::Legacy)) => self.initialize_or_detect().await,
            (EraMode::Auto | EraMode::Both, _) => self.detect_era().await,
        }
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
                    Err(fault) if self.is_protocol_rejection(&fault) => {
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
            Err(fault) if self.is_protocol_rejection(&fault) => {
                self.discover_again(fault, true).await
            }
            result => result,
        }
    }

    /// `initialize` was rejected with `rejection`: a modern server says so to `server/discover`. When that fails, it is
    /// the rejection that counts where the server is known to be legacy, and the failure where it is not.
    async fn discover_again(&mut self, rejection: Fault, known_legacy: bool) -> Result<Era, Fault> {
        let layer = self.record.layer();
        let rejected = self.record.operations.len().saturating_sub(1);
        if !self.channel.is_open() {
            self.reopen().await?;
        }
        let asked = self.record.operations.len();
        match self.try_discover().await? {
            Detected::Modern => {
                // The rejection was negotiation after all; the layers stay those of the discovery.
                self.record.was_rejected(rejected, &rejection);
                Ok(Era::Modern)
            }
            Detected::Trouble(fault, failed) if !known_legacy => {
                self.record.was_rejected(rejected, &rejection);
                self.record.was_handshake(asked, failed);
                Err(fault)
            }
            Detected::NotModern | Detected::Trouble(..) => {
                self.record.begin(layer);
                Err(rejection)
            }
        }
    }

    /// The server understood the request and refused it, as a server of the other era does.
    fn is_protocol_rejection(&self, fault: &Fault) -> bool {
        match fault.reason {
            Reason::JsonrpcError => true,
            Reason::HttpStatus => matches!(fault.http_status, Some(400..=499)),
            _ => false,
        }
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
        let operation = self.record.operations.len();
        let asked = tokio::time::timeout(budget, self.ask_discover()).await;
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
        if let Channel::Http(http) = self.channel {
            http.set_session_aside();
        }
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

    async fn ask_discover(&mut self) -> Result<Answer, Fault> {
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
            step: self.handshake_step(),
        };
        self.channel.ask(self.record, &call).await
    }

    async fn initialize(&mut self) -> Result<Era, Fault> {
        let (id, operation, traceparent) =
            self.begin_handshake(OperationKind::Initialize, initialize::METHOD);
        let body = initialize::encode(id, Meta::new(self.target, &traceparent, false));
        let call = Call {
            method: initialize::METHOD,
            id: Some(id),
            body,
            traceparent: traceparent.clone(),
            operation: Some(operation),
            modern: false,
            step: self.handshake_step(),
        };
        let answer = self.channel.ask(self.record, &call).await?;
        let result = answer.map_err(|error| Fault::from(&error))?;
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

    /// stdio has no HTTP: its handshake is in `initialize` from the first byte.
    fn handshake_step(&self) -> Step {
        match self.target.endpoint {
            Endpoint::Http(_) => Step::HANDSHAKE,
            Endpoint::Stdio(_) => Step::INITIALIZED,
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
                step: Step::TOOLS_LIST,
            };
            let answer = self
                .channel
                .ask(self.record, &call)
                .await
                .map_err(|fault| self.session_lost(fault))?;
            let result = match answer {
                Ok(result) => result,
                Err(error) if error.code == rpc::METHOD_NOT_FOUND && cursor.is_none() => {
                    self.record
                        .note("the server has no tools/list, which counts as no tools");
                    break;
                }
                Err(error) => return Err(self.session_lost(self.with_status(operation, &error))),
            };
            cursor = list.read_page(&result, modern, self.record)?;
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

    /// A JSON-RPC error with the HTTP status that it came with.
    fn with_status(&self, operation: usize, error: &rpc::RpcError) -> Fault {
        let status = self
            .record
            .operations
            .get(operation)
            .and_then(|o| o.http_status);
        let mut fault = Fault::from(error);
        fault.http_status = status;
        fault
    }

    /// 404 in the middle of a session means that the server has forgotten it.
    fn session_lost(&self, fault: Fault) -> Fault {
        if fault.http_status == Some(404) && self.channel.session_id().is_some() {
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
        Reason::HttpStatus => match fault.http_status {
            Some(401) => Ending::Final,
            Some(400..=499) => Ending::NotModern,
            _ => Ending::Trouble,
        },
        _ => Ending::Trouble,
    }
}
