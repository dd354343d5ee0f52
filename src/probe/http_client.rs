//! The HTTP client of one probe: one connection at a time, to one place at a time.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, COOKIE, HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use url::Url;

use super::body::Body;
use super::cookies::Cookies;
use super::dial::dial;
use super::fault::Fault;
use super::head::{ContentKind, Head, bad_status, refused};
use super::http::{AGENT, Connection};
use super::record::{Record, Waiting};
use super::rpc::{self, RpcError};
use super::transcript::Sent;
use super::{limits, redirect};
use crate::model::{Header, HttpEndpoint, Phase, Reason, Target};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// A small answer is not worth the work, on either side. What comes compressed all the same is decoded.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// One request that is not yet addressed: where it goes is known when it is sent.
pub(super) struct Draft {
    pub(super) method: Method,
    /// On top of what every request carries.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Where requests go at present, and the connection to it.
pub(super) struct HttpClient<'t> {
    target: &'t Target,
    endpoint: &'t HttpEndpoint,
    /// The endpoint's URL, or where it redirected to.
    pub(super) url: Url,
    place: Place,
    /// The user's headers may be sent to `url`: it is of the endpoint's own origin, without a detour.
    pub(super) trusted: bool,
    connection: Option<Connection>,
    pub(super) cookies: Cookies,
    /// `MCP-Protocol-Version`, once it is agreed.
    pub(super) version: Option<HeaderValue>,
}

impl<'t> HttpClient<'t> {
    pub(super) fn new(target: &'t Target, endpoint: &'t HttpEndpoint) -> Self {
        Self {
            target,
            endpoint,
            url: endpoint.url.clone(),
            place: Place::of(&endpoint.url),
            trusted: true,
            connection: None,
            cookies: Cookies::default(),
            version: None,
        }
    }

    /// A client for another URL of the same server, with a connection of its own.
    pub(super) fn beside(&self, url: Url) -> Self {
        Self {
            target: self.target,
            endpoint: self.endpoint,
            place: Place::of(&url),
            trusted: self.trusted && redirect::is_same_origin(&self.url, &url),
            url,
            connection: None,
            cookies: self.cookies.clone(),
            version: self.version.clone(),
        }
    }

    /// A client for the same URL, which takes the connection along.
    pub(super) fn take(&mut self) -> Self {
        Self {
            connection: self.connection.take(),
            trusted: self.trusted,
            ..self.beside(self.url.clone())
        }
    }

    /// A fresh connection.
    pub(super) async fn connect(&mut self, record: &mut Record) -> Result<(), Fault> {
        self.connection = None;
        let connection = dial(self.endpoint, &self.url, self.trusted, record).await?;
        self.connection = Some(connection);
        Ok(())
    }

    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// From now on requests go to `url`, over a connection of its own.
    pub(super) fn go_to(&mut self, url: Url, trusted: bool) {
        self.place = Place::of(&url);
        self.url = url;
        self.trusted = trusted;
        self.hang_up();
    }

    pub(super) fn connection(&mut self) -> Result<&mut Connection, Fault> {
        self.connection
            .as_mut()
            .ok_or_else(|| Fault::new(Reason::HttpClosed, "the connection is gone"))
    }

    async fn is_reusable(&mut self) -> bool {
        match &mut self.connection {
            Some(connection) => connection.is_ready().await,
            None => false,
        }
    }

    /// Sends a request on the open connection; on a new one if the server has closed it, as it may
    /// do after each complete answer.
    pub(super) async fn send(
        &mut self,
        record: &mut Record,
        operation: Option<usize>,
        draft: &Draft,
    ) -> Result<Head, Fault> {
        if !self.is_reusable().await {
            if let Some(fault) = self.connection.as_mut().and_then(Connection::broken_unused) {
                return Err(fault);
            }
            self.connect(record).await?;
        }
        let reused = self.connection()?.used;
        match self.send_once(record, operation, draft).await {
            Err(fault)
                if reused
                    && matches!(fault.reason, Reason::HttpClosed | Reason::ConnectionReset) =>
            {
                // It was closed just as we wrote: that is no answer, and the request is safe to repeat.
                self.connect(record).await?;
                self.send_once(record, operation, draft).await
            }
            result => result,
        }
    }

    /// Sends a request, and again to where a redirect points.
    pub(super) async fn send_on(
        &mut self,
        record: &mut Record,
        operation: Option<usize>,
        draft: &Draft,
    ) -> Result<Head, Fault> {
        for _ in 0..=limits::MAX_REDIRECTS {
            let head = self.send(record, operation, draft).await?;
            if !redirect::is_redirect(head.status()) {
                return Ok(head);
            }
            self.follow(&draft.method, &head)?;
            self.connect(record).await?;
        }
        Err(redirect::too_many())
    }

    async fn send_once(
        &mut self,
        record: &mut Record,
        operation: Option<usize>,
        draft: &Draft,
    ) -> Result<Head, Fault> {
        let request = self.address(draft)?;
        record.wait_for(Waiting::Head);
        let start = record.sending(operation);
        let reached = record.reached;
        record.say_request(|| Sent {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            body: draft.body.clone(),
            url: self.url.clone(),
            own: self.trusted,
            reached,
        });
        let head = self.connection()?.send(request).await?;
        record.phase(Phase::FirstByte, start);
        record.say_head(&head);
        self.cookies.keep(&self.url, head.headers());
        Ok(head)
    }

    /// Follows a redirect; credentials do not follow to another origin, nor come back from there.
    pub(super) fn follow(&mut self, method: &Method, head: &Head) -> Result<(), Fault> {
        let to = redirect::target(self.target.redirects, &self.url, method, head)?;
        let trusted = self.trusted && redirect::is_same_origin(&self.url, &to);
        self.go_to(to, trusted);
        Ok(())
    }

    /// The body of an answer, to be read.
    pub(super) fn body(&self, record: &mut Record, head: Head) -> Result<Body, Fault> {
        let body = Body::of(head)?;
        let is_asked_for = |header: &Header| header.name == ACCEPT_ENCODING;
        if let Some(coding) = &body.coding
            && !(self.trusted && self.endpoint.headers.iter().any(is_asked_for))
        {
            record.note(format!(
                "answers are compressed ({}) although Accept-Encoding is identity",
                coding.name
            ));
        }
        Ok(body)
    }

    pub(super) async fn read_all(
        &mut self,
        record: &mut Record,
        body: &mut Body,
        limit: usize,
    ) -> Result<Bytes, Fault> {
        let whole = self.connection()?.read_all(body, limit).await?;
        record.say_received(&whole);
        if let Some(fault) = body.cut_off() {
            record.note(fault.message);
        }
        Ok(whole)
    }

    /// The JSON-RPC error in the body of an error status.
    ///
    /// # Errors
    /// The status itself, where its body holds none.
    pub(super) async fn error_of(
        &mut self,
        record: &mut Record,
        head: Head,
    ) -> Result<RpcError, Fault> {
        if let Some(fault) = refused(&head) {
            return Err(fault);
        }
        let fault = bad_status(&head);
        if ContentKind::of(head.headers()) != ContentKind::Json {
            self.finish(Some(head)).await;
            return Err(fault);
        }
        let body = async {
            let mut body = self.body(record, head)?;
            self.read_all(record, &mut body, limits::MAX_ERROR_BODY)
                .await
        };
        // The status is known: a body that does not come must not turn it into a timeout.
        match tokio::time::timeout(limits::ERROR_BODY_GRACE, body).await {
            Ok(Ok(body)) => rpc::decode_error(&body).ok_or(fault),
            Ok(Err(_)) | Err(_) => {
                self.hang_up();
                Err(fault)
            }
        }
    }

    /// Waits a moment for an answer of no further interest to end, so that the connection can be used again.
    pub(super) async fn finish(&mut self, head: Option<Head>) {
        let ended = match (head, &mut self.connection) {
            (Some(head), Some(connection)) => {
                let mut body = Body::unread(head);
                connection
                    .ends_within(&mut body, limits::STREAM_END_GRACE)
                    .await
            }
            _ => false,
        };
        if !ended {
            self.hang_up();
        }
    }

    /// Puts the trace context into headers.
    pub(super) fn trace(&self, headers: &mut HeaderMap, traceparent: &str) {
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

    /// The request as it is sent to the present place, over the present connection.
    fn address(&mut self, draft: &Draft) -> Result<Request<Full<Bytes>>, Fault> {
        let mut headers = self.headers(&draft.headers);
        let connection = self.connection()?;
        let (http2, forwarded) = (connection.is_http2(), connection.forwarded.clone());
        let is_forwarded = forwarded.is_some();
        if let Some(authorization) = forwarded.flatten() {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let uri = match (http2, is_forwarded) {
            (false, false) => self.place.path.clone(),
            // HTTP/2 has no `Host`, and a proxy needs the whole.
            (true, _) => {
                let host = headers.remove(HOST);
                self.place.whole(host.as_ref())
            }
            (false, true) => self.place.whole(None),
        };
        let mut request = Request::new(Full::new(draft.body.clone()));
        *request.method_mut() = draft.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What every request of ours carries, and its own; the user's headers win over `User-Agent` and `Host`.
    fn headers(&self, own: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(HOST, self.place.host.clone());
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        if let Some(version) = &self.version {
            headers.insert(PROTOCOL_VERSION, version.clone());
        }
        if self.trusted {
            for header in &self.endpoint.headers {
                headers.insert(header.name.clone(), header.value.clone());
            }
        }
        for (name, value) in own {
            headers.insert(name.clone(), value.clone());
        }
        if let Some(cookie) = self.cookies.header(&self.url, &headers) {
            headers.insert(COOKIE, cookie);
        }
        headers
    }
}

/// A URL as requests name it.
struct Place {
    scheme: &'static str,
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
            scheme: if url.scheme() == "https" {
                "https"
            } else {
                "http"
            },
            host: host.unwrap_or_else(|_| HeaderValue::from_static("")),
            path: path.unwrap_or_default(),
        }
    }

    /// With scheme and host, for which `host` may stand.
    fn whole(&self, host: Option<&HeaderValue>) -> Uri {
        let host = host.unwrap_or(&self.host).to_str().unwrap_or_default();
        let path = self.path.path_and_query().map_or("/", |path| path.as_str());
        Uri::builder()
            .scheme(self.scheme)
            .authority(host)
            .path_and_query(path)
            .build()
            .unwrap_or_else(|_| self.path.clone())
    }
}
