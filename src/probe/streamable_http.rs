//! Streamable HTTP: each message a POST, each answer JSON or an event stream.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming as Body;
use url::{Host, Url};

use super::answer_search::{AnswerSearch, id_mismatch};
use super::channel::Call;
use super::fault::Fault;
use super::head::{ContentKind, Head, bad_content_type, bad_status, compressed, refused};
use super::http::Connection;
use super::record::{Record, Waiting};
use super::rpc::{self, Answer, Incoming};
use super::{certificate, connect, limits, redirect, resolve, tls};
use crate::model::{HttpEndpoint, Phase, Reason, SessionEnd, Target};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_OR_STREAM: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("mcpprobe/", env!("CARGO_PKG_VERSION")));

/// A target's Streamable HTTP endpoint, with at most one connection to it.
pub(super) struct HttpChannel<'t> {
    target: &'t Target,
    endpoint: &'t HttpEndpoint,
    /// Where requests go: the endpoint's URL, or where it redirected to.
    url: Url,
    place: Place,
    /// The user's headers may be sent to `url`.
    trusted: bool,
    connection: Option<Connection>,
    session: Option<Session>,
    /// Sessions handed out to requests that were only negotiation, or replaced by another.
    stray_sessions: Vec<Session>,
    version: Option<HeaderValue>,
}

/// A session that the server handed out.
struct Session {
    id: HeaderValue,
    /// Where it was handed out: there it has to be ended, wherever we were sent since.
    url: Url,
    trusted: bool,
}

impl<'t> HttpChannel<'t> {
    pub(super) fn new(target: &'t Target, endpoint: &'t HttpEndpoint) -> Self {
        Self {
            target,
            endpoint,
            url: endpoint.url.clone(),
            place: Place::of(&endpoint.url),
            trusted: true,
            connection: None,
            session: None,
            stray_sessions: Vec::new(),
            version: None,
        }
    }

    /// A fresh connection: name, TCP, TLS, each timed.
    pub(super) async fn connect(&mut self, record: &mut Record) -> Result<(), Fault> {
        self.connection = None;
        let host = self
            .url
            .host()
            .ok_or_else(|| Fault::new(Reason::DnsNotFound, "the URL names no host"))?;
        let port = self.url.port_or_known_default().unwrap_or(80);
        let mut addresses = Vec::new();
        if let Host::Domain(_) = host {
            record.waiting = Waiting::Dns;
            let start = record.now();
            let found = resolve::resolve(&host, port).await;
            record.phase(Phase::Dns, start);
            addresses = found?;
        } else {
            addresses.extend(resolve::resolve(&host, port).await?);
        }
        record.waiting = Waiting::Connect;
        let start = record.now();
        let stream = connect::connect(&addresses).await;
        record.phase(Phase::Connect, start);
        let stream = stream?;
        let connection = if self.url.scheme() == "https" {
            record.waiting = Waiting::Tls;
            let start = record.now();
            let name = match host {
                Host::Ipv6(ip) => ip.to_string(),
                other => other.to_string(),
            };
            let stream = tls::handshake(stream, &name).await;
            record.phase(Phase::Tls, start);
            let stream = stream?;
            record.saw_certificate(certificate::not_after(&stream));
            Connection::open(stream).await?
        } else {
            Connection::open(stream).await?
        };
        self.connection = Some(connection);
        Ok(())
    }

    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// From now on requests go to `url`, over a connection of its own.
    fn go_to(&mut self, url: Url) {
        self.place = Place::of(&url);
        self.url = url;
        self.hang_up();
    }

    pub(super) fn agreed(&mut self, version: &str) {
        self.version = HeaderValue::from_str(version).ok();
    }

    pub(super) fn session_id(&self) -> Option<&str> {
        self.session.as_ref()?.id.to_str().ok()
    }

    /// A session id that came with a rejected negotiation is not ours to use, but ours to end.
    pub(super) fn set_session_aside(&mut self) {
        self.stray_sessions.extend(self.session.take());
    }

    pub(super) async fn ask(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        let result = self.ask_once(record, call).await;
        if let Some(operation) = call.operation {
            record.close(operation, result.as_ref().err());
        }
        if result.is_err() {
            // An answer that was not read to its end leaves a connection on which the next answer
            // could not be told from the rest of this one.
            self.hang_up();
        }
        result
    }

    async fn ask_once(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        let head = self.post(record, call).await?;
        let status = head.status();
        if !status.is_success() {
            return self.read_error(record, call, head).await;
        }
        match ContentKind::of(head.headers()) {
            ContentKind::Json => self.read_json(record, call, head).await,
            ContentKind::EventStream => self.read_stream(record, call, head).await,
            ContentKind::Other => Err(bad_content_type(&head)),
        }
    }

    async fn read_json(
        &mut self,
        record: &mut Record,
        call: &Call,
        head: Head,
    ) -> Result<Answer, Fault> {
        record.head_accepted(call.step);
        record.waiting = Waiting::Answer;
        if let Some(fault) = compressed(&head) {
            return Err(fault);
        }
        let start = record.now();
        let body = self.read_all(head, limits::MAX_ANSWER).await;
        record.phase(Phase::Body, start);
        match rpc::decode(&body?, call.id.unwrap_or_default())? {
            Incoming::Answer(answer) => Ok(answer),
            Incoming::Mismatch(id) => Err(id_mismatch(&id, call.id.unwrap_or_default())),
            Incoming::Other => Err(rpc::invalid("the answer is a notification or a request")),
        }
    }

    async fn read_stream(
        &mut self,
        record: &mut Record,
        call: &Call,
        head: Head,
    ) -> Result<Answer, Fault> {
        record.head_accepted(call.step);
        record.waiting = Waiting::Answer;
        if let Some(fault) = compressed(&head) {
            return Err(fault);
        }
        let start = record.now();
        let mut search = AnswerSearch::new(call.id.unwrap_or_default());
        let mut body = head.into_body();
        let mut answer = self.find_answer(&mut search, &mut body).await;
        for _ in 0..limits::MAX_RESUMPTIONS {
            if !matches!(answer, Ok(None)) || call.modern {
                break;
            }
            let Some(resumed) = self.resume(record, call, &mut search).await? else {
                break;
            };
            body = resumed.into_body();
            answer = self.find_answer(&mut search, &mut body).await;
        }
        record.phase(Phase::Body, start);
        let answer = answer?.ok_or_else(|| search.ended())??;
        if search.mismatch.is_some() {
            record.note("an answer to a request that we did not send came before ours");
        }
        let connection = self.open_connection()?;
        if !connection
            .ends_within(&mut body, limits::STREAM_END_GRACE)
            .await
        {
            self.hang_up();
        }
        Ok(answer)
    }

    /// Reads events until one is our answer; `None` at the end of the stream.
    async fn find_answer(
        &mut self,
        search: &mut AnswerSearch,
        body: &mut Body,
    ) -> Result<Option<Result<Answer, Fault>>, Fault> {
        let connection = self.open_connection()?;
        while let Some(piece) = connection.read(body).await? {
            if let Some(answer) = search.read(&piece)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// A server of 2025-11-25 may end the stream early and let us come back for the rest: GET with the id of the
    /// last event, after the time that it asks for. `None` where it gave no id, or does not go on.
    async fn resume(
        &mut self,
        record: &mut Record,
        call: &Call,
        search: &mut AnswerSearch,
    ) -> Result<Option<Head>, Fault> {
        let (id, retry) = search.reader.resumption();
        let Some(id) = id.and_then(|id| HeaderValue::from_bytes(id).ok()) else {
            return Ok(None);
        };
        tokio::time::sleep(retry.unwrap_or(limits::RESUME_AFTER)).await;
        search.reader.start_over();
        let mut headers = self.headers();
        headers.insert(ACCEPT, EVENT_STREAM);
        headers.insert(LAST_EVENT_ID, id);
        if let Some(session) = &self.session {
            headers.insert(SESSION_ID, session.id.clone());
        }
        self.trace(&mut headers, &call.traceparent);
        let request = |this: &Self| this.build(Method::GET, headers.clone(), Bytes::new());
        let head = self.send(record, None, request).await?;
        record.waiting = Waiting::Answer;
        let goes_on = head.status() == StatusCode::OK
            && ContentKind::of(head.headers()) == ContentKind::EventStream;
        if !goes_on {
            self.hang_up();
        }
        Ok(goes_on.then_some(head))
    }

    /// An error status: its body may hold the JSON-RPC error that says more.
    async fn read_error(
        &mut self,
        record: &mut Record,
        call: &Call,
        head: Head,
    ) -> Result<Answer, Fault> {
        let status = head.status();
        if let Some(fault) = refused(&head) {
            return Err(fault);
        }
        if ContentKind::of(head.headers()) == ContentKind::Json {
            let body = self.read_all(head, limits::MAX_ERROR_BODY);
            // The status is known: a body that does not come must not turn it into a timeout.
            let body = tokio::time::timeout(limits::ERROR_BODY_GRACE, body).await;
            match body {
                Ok(Ok(body)) => {
                    if let Some(error) = rpc::decode_error(&body) {
                        record.head_accepted(call.step);
                        return Ok(Err(error));
                    }
                }
                Ok(Err(_)) | Err(_) => self.hang_up(),
            }
        } else {
            self.hang_up();
        }
        Err(bad_status(status))
    }

    pub(super) async fn notify(&mut self, record: &mut Record, call: &Call) -> Result<(), Fault> {
        let head = self.post(record, call).await?;
        let status = head.status();
        if !status.is_success() {
            return Err(refused(&head).unwrap_or_else(|| bad_status(status)));
        }
        let mut body = head.into_body();
        let connection = self.open_connection()?;
        // 202 has no body; what others send is of no interest.
        if !connection
            .ends_within(&mut body, limits::STREAM_END_GRACE)
            .await
        {
            self.hang_up();
        }
        Ok(())
    }

    fn open_connection(&mut self) -> Result<&mut Connection, Fault> {
        self.connection
            .as_mut()
            .ok_or_else(|| Fault::new(Reason::HttpClosed, "the connection is gone"))
    }

    async fn read_all(&mut self, head: Head, limit: usize) -> Result<Bytes, Fault> {
        let mut body = head.into_body();
        let connection = self.open_connection()?;
        connection.read_all(&mut body, limit).await
    }

    /// Sends a message and follows redirects; answers the head.
    async fn post(&mut self, record: &mut Record, call: &Call) -> Result<Head, Fault> {
        for _ in 0..=limits::MAX_REDIRECTS {
            let head = self
                .send(record, call.operation, |this| this.request(call))
                .await?;
            if let Some(operation) = call.operation {
                record.saw_status(operation, head.status().as_u16());
            }
            if let Some(id) = head.headers().get(&SESSION_ID)
                && self
                    .session
                    .as_ref()
                    .is_none_or(|session| session.id != *id)
            {
                self.set_session_aside();
                self.session = Some(Session {
                    id: id.clone(),
                    url: self.url.clone(),
                    trusted: self.trusted,
                });
            }
            if !redirect::is_redirect(head.status()) {
                return Ok(head);
            }
            self.follow(&head)?;
            self.connect(record).await?;
        }
        let limit = limits::MAX_REDIRECTS;
        Err(Fault::new(
            Reason::Redirect,
            format!("more than {limit} redirects"),
        ))
    }

    async fn is_reusable(&mut self) -> bool {
        match &mut self.connection {
            Some(connection) => connection.is_ready().await,
            None => false,
        }
    }

    /// Sends a request on the open connection; on a new one if the server has closed it, as it may
    /// do after each complete answer.
    async fn send(
        &mut self,
        record: &mut Record,
        operation: Option<usize>,
        request: impl Fn(&Self) -> Request<Full<Bytes>>,
    ) -> Result<Head, Fault> {
        if !self.is_reusable().await {
            if let Some(fault) = self.connection.as_mut().and_then(Connection::broken_unused) {
                return Err(fault);
            }
            self.connect(record).await?;
        }
        let reused = self.open_connection()?.used;
        match self.send_once(record, operation, request(self)).await {
            Err(fault)
                if reused
                    && matches!(fault.reason, Reason::HttpClosed | Reason::ConnectionReset) =>
            {
                // It was closed just as we wrote: that is no answer, and the request is safe to repeat.
                self.connect(record).await?;
                self.send_once(record, operation, request(self)).await
            }
            result => result,
        }
    }

    async fn send_once(
        &mut self,
        record: &mut Record,
        operation: Option<usize>,
        request: Request<Full<Bytes>>,
    ) -> Result<Head, Fault> {
        record.waiting = Waiting::Head;
        let start = record.sending(operation);
        let head = self.open_connection()?.send(request).await?;
        record.phase(Phase::FirstByte, start);
        Ok(head)
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut headers = self.headers();
        headers.insert(ACCEPT, JSON_OR_STREAM);
        headers.insert(CONTENT_TYPE, JSON);
        if call.modern {
            headers.insert(
                PROTOCOL_VERSION,
                HeaderValue::from_static(rpc::MODERN_VERSION),
            );
            headers.insert(MCP_METHOD, HeaderValue::from_static(call.method));
        } else if let Some(session) = &self.session {
            headers.insert(SESSION_ID, session.id.clone());
        }
        self.trace(&mut headers, &call.traceparent);
        self.build(Method::POST, headers, Bytes::from(call.body.clone()))
    }

    /// What every request of ours carries; the user's headers win over `User-Agent`.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(HOST, self.place.host.clone());
        headers.insert(USER_AGENT, AGENT);
        if let Some(version) = &self.version {
            headers.insert(PROTOCOL_VERSION, version.clone());
        }
        if self.trusted {
            for (name, value) in &self.endpoint.headers {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers
    }

    fn trace(&self, headers: &mut HeaderMap, traceparent: &str) {
        if !self.target.trace_context.in_headers() {
            return;
        }
        if let Ok(traceparent) = HeaderValue::from_str(traceparent) {
            headers.insert(TRACEPARENT, traceparent);
        }
        if let Ok(state) = HeaderValue::from_str(&self.target.tracestate)
            && !state.is_empty()
        {
            headers.insert(TRACESTATE, state);
        }
    }

    fn build(&self, method: Method, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.place.path.clone();
        *request.headers_mut() = headers;
        request
    }

    fn follow(&mut self, head: &Head) -> Result<(), Fault> {
        let to = redirect::target(self.target.redirects, &self.url, head)?;
        // Credentials do not follow to another origin, nor come back from there.
        self.trusted &= redirect::is_same_origin(&self.url, &to);
        self.go_to(to);
        Ok(())
    }

    /// Ends every session that the server handed out, all of them within one limit.
    pub(super) async fn end(&mut self, traceparent: &str) -> SessionEnd {
        let strays = self.stray_sessions.drain(..);
        let sessions: Vec<_> = self.session.take().into_iter().chain(strays).collect();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        let mut worst = SessionEnd::NotNeeded;
        for session in &sessions {
            let delete = self.delete(session, traceparent);
            let end = match tokio::time::timeout(limits::DELETE_TIMEOUT / count, delete).await {
                Ok(Ok(status)) if status.is_success() || status == StatusCode::NOT_FOUND => {
                    SessionEnd::Ended
                }
                Ok(Ok(_)) => SessionEnd::Refused,
                Ok(Err(_)) | Err(_) => {
                    self.hang_up();
                    SessionEnd::Failed
                }
            };
            worst = worst.max(end);
        }
        worst
    }

    async fn delete(&mut self, session: &Session, traceparent: &str) -> Result<StatusCode, Fault> {
        if self.url != session.url {
            self.go_to(session.url.clone());
            self.trusted = session.trusted;
        }
        let mut headers = self.headers();
        headers.insert(SESSION_ID, session.id.clone());
        // Without it the server's span of this request would look like somebody else's.
        self.trace(&mut headers, traceparent);
        // Timed like a probe of its own, which nobody reads.
        let mut record = Record::start();
        let request = |this: &Self| this.build(Method::DELETE, headers.clone(), Bytes::new());
        let head = self.send(&mut record, None, request).await?;
        let status = head.status();
        let mut body = head.into_body();
        let connection = self.open_connection()?;
        if !connection.ends_within(&mut body, Duration::ZERO).await {
            self.hang_up();
        }
        Ok(status)
    }
}

/// A URL as requests name it.
struct Place {
    host: HeaderValue,
    path: Uri,
}

impl Place {
    fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => HeaderValue::from_str(&format!("{host}:{port}")),
            None => HeaderValue::from_str(host),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()).parse(),
            None => url.path().parse(),
        };
        // A parsed URL's host, path and query are valid in a request.
        Self {
            host: host.unwrap_or_else(|_| HeaderValue::from_static("")),
            path: path.unwrap_or_default(),
        }
    }
}
