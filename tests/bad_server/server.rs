//! The server that does what a case says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{Notify, mpsc};

use super::case::{Case, Connection, Listen, On, Speaks, Then};
use super::http2;
use super::name_server::NameServer;
use super::proxy::Proxy;
use super::request::{self, Request};
use super::tls;

const NOTIFICATION: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";

const PING: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n";

const MODERN: &str = "2026-07-28";

/// A case's server, and what it saw.
pub(super) struct Server {
    pub(super) case: Arc<Case>,
    port: u16,
    /// Where its Unix-domain socket is, if it has one.
    folder: PathBuf,
    pub(super) proxy: Arc<Proxy>,
    pub(super) name_server: Arc<NameServer>,
    /// To the open stream of HTTP+SSE; `None` ends it.
    events: Mutex<Option<mpsc::UnboundedSender<Option<String>>>>,
    pub(super) seen: Mutex<Seen>,
    /// A `then = "hang"` was reached.
    pub(super) hung: Notify,
}

#[derive(Default)]
pub(super) struct Seen {
    /// How often each `[[on]]` was used.
    pub(super) uses: BTreeMap<usize, usize>,
    /// Every session handed out, and those that were ended.
    pub(super) sessions: Vec<String>,
    pub(super) ended: BTreeSet<String>,
    pub(super) mistakes: BTreeSet<String>,
    pub(super) traces: BTreeSet<String>,
    /// Streams of HTTP+SSE that the other side has not closed.
    pub(super) open_streams: usize,
    last_post: Value,
    /// Our answers to requests of the server's.
    replies: Vec<Value>,
}

/// An answer, ready to be written.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) delay: Duration,
    pub(super) pause: Duration,
    /// In the place of HTTP; nothing at all where it is empty.
    raw: Option<String>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) chunked: bool,
    pub(super) endless: Option<Vec<u8>>,
    /// What goes on arriving after the pieces.
    pub(super) events: Option<mpsc::UnboundedReceiver<Option<String>>>,
    pub(super) then: Option<Then>,
    /// Before the last piece.
    pub(super) awaits: Vec<String>,
}

impl Answer {
    /// Nothing of HTTP is said.
    pub(super) fn is_silent(&self) -> bool {
        self.raw.is_some()
    }

    fn encode(&mut self, on: &On, unfinished: bool) {
        let Some(coding) = on.coded else {
            return;
        };
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.extend(self.endless.take());
        let (mut pieces, end) = coding.encode(&pieces);
        if on.endless.is_some() {
            self.endless = pieces.pop();
        } else if !unfinished {
            pieces.push(end);
        }
        if on.coded_less > 0 {
            let mut whole = pieces.concat();
            whole.truncate(whole.len() - on.coded_less);
            pieces = vec![whole];
        }
        self.pieces = pieces;
    }

    fn head(&self, minor: u8) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let headers = self.headers.iter();
        let headers: String = headers
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!("HTTP/1.{minor} {} Whatever\r\n{headers}\r\n", self.status)
    }
}

impl Server {
    /// Listens on a free port of the loopback interface, or on a socket in `folder`, until the runtime ends.
    pub(super) async fn start(case: Arc<Case>, folder: &Path) -> Arc<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = Arc::new(Self {
            proxy: Proxy::start(case.clone()).await,
            name_server: NameServer::start(case.clone()).await,
            case,
            port,
            folder: folder.to_owned(),
            events: Mutex::default(),
            seen: Mutex::default(),
            hung: Notify::new(),
        });
        let local = || UnixListener::bind(folder.join("mcp.sock")).unwrap();
        match server.case.listen {
            Listen::Nobody => std::mem::forget(socket),
            Listen::Full => fill_queue(socket.listen(1).unwrap()).await,
            Listen::UnixNobody => drop(local()),
            Listen::Unix => drop(tokio::spawn(server.clone().listen_locally(local()))),
            Listen::Server => drop(tokio::spawn(
                server.clone().listen(socket.listen(128).unwrap()),
            )),
        }
        server
    }

    pub(super) fn origin(&self) -> String {
        match (self.case.tls, self.case.listen) {
            (_, Listen::Unix) => "http://localhost".to_owned(),
            (Some(_), _) => format!("https://localhost:{}", self.port),
            (None, _) => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// Puts in what `$` stands for in settings of the program.
    pub(super) fn settings(&self, text: &str) -> String {
        let (certificate, key) = tls::client();
        let path = |path: &Path| path.display().to_string();
        let values = [
            ("$proxy", format!("127.0.0.1:{}", self.proxy.port)),
            ("$resolver", format!("127.0.0.1:{}", self.name_server.port)),
            ("$stranger", path(tls::stranger().1.path())),
            ("$certificate", path(certificate.path())),
            ("$key", path(key.path())),
            ("$folder", path(&self.folder)),
            ("$port", self.port.to_string()),
        ];
        values.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        let acceptor = tls::acceptor(&self.case);
        while let Ok((tcp, _)) = listener.accept().await {
            tcp.set_nodelay(true).ok();
            if self.case.resets() {
                // From now on, whatever drops the connection without a shutdown resets it.
                tcp.set_zero_linger().ok();
            }
            let (server, acceptor) = (self.clone(), acceptor.clone());
            // That the other side goes is no error.
            tokio::spawn(async move {
                match (&server.case.accept, acceptor) {
                    (Some(accept), Some(tls)) if accept.after_tls => {
                        server.speak_first(tls.accept(tcp).await?).await
                    }
                    (Some(_), _) => server.speak_first(tcp).await,
                    (None, Some(tls)) => {
                        let tls = tls.accept(tcp).await?;
                        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                            http2::serve(server, tls).await
                        } else {
                            server.serve(BufStream::new(tls)).await
                        }
                    }
                    (None, None) => server.serve(BufStream::new(tcp)).await,
                }
            });
        }
    }

    async fn listen_locally(self: Arc<Self>, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move { server.serve(BufStream::new(stream)).await });
        }
    }

    async fn speak_first(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let accept = self.case.accept.as_ref().unwrap();
        let mut stream = BufStream::new(stream);
        stream.write_all(accept.say.as_bytes()).await?;
        if let Some(text) = &accept.endless {
            let (mut from, mut to) = tokio::io::split(stream);
            let text = text.repeat(100);
            let talk = async { while to.write_all(text.as_bytes()).await.is_ok() {} };
            // What is answered has to be read, or it would stop us.
            let mut nowhere = tokio::io::sink();
            let (_, read) = tokio::join!(talk, tokio::io::copy(&mut from, &mut nowhere));
            return read.map(drop);
        }
        self.finish(&mut stream, accept.then).await?;
        if accept.then == Then::Close {
            // To drop what was not read would be a reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
        Ok(())
    }

    async fn serve(
        self: &Arc<Self>,
        mut stream: BufStream<impl AsyncRead + AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        let mut answered = false;
        while let Some(request) = request::read(&mut stream).await {
            if answered && self.case.connection == Connection::Once {
                break;
            }
            let answer = self.answer(&request);
            tokio::time::sleep(answer.delay).await;
            let minor = u8::from(self.case.connection != Connection::Http10);
            stream.write_all(answer.head(minor).as_bytes()).await?;
            for (index, piece) in answer.pieces.iter().enumerate() {
                if index + 1 == answer.pieces.len() {
                    self.replied(&answer.awaits).await;
                }
                if !answer.pause.is_zero() {
                    stream.flush().await?;
                    tokio::time::sleep(answer.pause).await;
                }
                write(&mut stream, piece, answer.chunked).await?;
            }
            while let Some(text) = &answer.endless {
                write(&mut stream, text, answer.chunked).await?;
            }
            if let Some(then) = answer.then {
                return self.finish(stream, then).await;
            }
            if let Some(mut events) = answer.events {
                while let Some(event) = next_event(&mut events, stream.read_u8()).await {
                    write(&mut stream, event.as_bytes(), answer.chunked).await?;
                }
                self.seen.lock().unwrap().open_streams -= 1;
            }
            if answer.chunked {
                stream.write_all(b"0\r\n\r\n").await?;
            }
            stream.flush().await?;
            match self.case.connection {
                Connection::Keep | Connection::Once => answered = true,
                Connection::Reset => return self.finish(stream, Then::Reset).await,
                Connection::Close | Connection::Drop | Connection::Http10 => break,
            }
        }
        self.finish(stream, Then::Close).await
    }

    async fn finish(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        then: Then,
    ) -> io::Result<()> {
        stream.flush().await?;
        match then {
            Then::Close => stream.shutdown().await,
            Then::Reset | Then::Goaway => Ok(()),
            Then::Hang => {
                self.hung.notify_one();
                tokio::io::copy(&mut stream, &mut tokio::io::sink())
                    .await
                    .map(drop)
            }
        }
    }

    pub(super) fn answer(self: &Arc<Self>, request: &Request) -> Answer {
        let mut seen = self.seen.lock().unwrap();
        self.remember(request, &mut seen);
        let nothing_special = On::default();
        let (uses, on) = self
            .special(request, &mut seen)
            .unwrap_or((0, &nothing_special));
        let cookie = request.header("cookie");
        if on.cookie.as_ref().is_some_and(|wanted| wanted != cookie) {
            let mistake = format!("{} has the Cookie {cookie:?}", request.method());
            seen.mistakes.insert(mistake);
        }
        let mut fill = |text: &str| self.fill(text, request, uses, &mut seen);
        let mut answer = Answer {
            delay: Duration::from_millis(on.delay_ms),
            pause: Duration::from_millis(on.pause_ms),
            endless: on
                .endless
                .as_ref()
                .map(|text| fill(text).repeat(1000).into_bytes()),
            then: on.then,
            awaits: on.awaits.clone(),
            ..Answer::default()
        };
        let texts = special_texts(on, request);
        let is_silent = texts.is_none() && on.status.is_none() && on.then.is_some();
        let (status, healthy) = self.healthy(request);
        let aside = self.is_posted_aside(request);
        if aside && request.message["id"].is_u64() {
            let is_healthy = !is_silent && on.status.is_none_or(|status| status < 300);
            self.put_on_stream(on, healthy.is_some() && is_healthy, &mut fill);
        }
        if on.raw.is_some() || is_silent {
            answer.raw = Some(fill(on.raw.as_deref().unwrap_or_default()));
            return answer;
        }
        let (status, healthy) = match (aside, self.case.http_sse) {
            (true, _) => (202, None),
            (false, true) if request.is_post() => (405, None),
            (false, true) if request.method() == "GET" => (200, None),
            _ => (status, healthy),
        };
        let status = on.status.unwrap_or(status);
        answer.status = status;
        let follows = self.case.http_sse && request.method() == "GET" && status == 200;
        if follows && on.then.is_none() && on.endless.is_none() {
            let (sender, events) = mpsc::unbounded_channel();
            *self.events.lock().unwrap() = Some(sender);
            seen.open_streams += 1;
            answer.events = Some(events);
        }
        let mut fill = |text: &str| self.fill(text, request, uses, &mut seen);
        let is_error = on.error.is_some() || status >= 300;
        let texts = texts.unwrap_or_else(|| match healthy {
            Some(_) if on.status.is_none() || !is_error => vec!["$answer".to_owned()],
            None if follows => {
                vec!["event: endpoint\ndata: /messages?session=1\n\n".to_owned()]
            }
            _ => Vec::new(),
        });
        let pieces = texts.iter().map(|text| fill(text).into_bytes());
        answer.pieces = pieces.filter(|piece| !piece.is_empty()).collect();
        let unfinished = on.then.is_some() || on.endless.is_some() || follows;
        answer.encode(on, unfinished);
        let http10 = self.case.connection == Connection::Http10;
        answer.chunked = !http10 && (on.bytewise || on.sse.is_some() || unfinished);
        let mut headers: BTreeMap<&str, String> = BTreeMap::new();
        if on.sse.is_some() || follows {
            headers.insert("content-type", "text/event-stream".to_owned());
        } else if !answer.pieces.is_empty() {
            headers.insert("content-type", "application/json".to_owned());
        }
        let begins = request.method() == "initialize" && !aside;
        if begins && !is_error && !self.case.stateless {
            headers.insert("mcp-session-id", fill("$session"));
        }
        if let Some(coding) = on.coded {
            headers.insert("content-encoding", coding.name().to_owned());
        }
        if answer.chunked {
            headers.insert("transfer-encoding", "chunked".to_owned());
        } else if !http10 {
            headers.insert("content-length", answer.pieces.concat().len().to_string());
        }
        if self.case.connection == Connection::Close {
            headers.insert("connection", "close".to_owned());
        }
        for (name, value) in &on.headers {
            headers.insert(name, fill(value));
        }
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        answer.headers = headers
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        if on.bytewise {
            let bytes = answer.pieces.concat();
            answer.pieces = bytes.into_iter().map(|byte| vec![byte]).collect();
        }
        answer
    }

    /// It is a message to the URL that the stream of HTTP+SSE names.
    fn is_posted_aside(&self, request: &Request) -> bool {
        self.case.http_sse && request.is_post() && request.path.starts_with("/messages")
    }

    /// What a message makes arrive on the stream of HTTP+SSE.
    fn put_on_stream(
        self: &Arc<Self>,
        on: &On,
        healthy: bool,
        fill: &mut impl FnMut(&str) -> String,
    ) {
        let usual = vec!["event: message\ndata: $answer\n\n".to_owned()];
        let texts = match &on.stream {
            Some(texts) => texts.clone(),
            None if healthy => usual,
            None => Vec::new(),
        };
        let mut events: Vec<_> = texts.iter().map(|text| Some(fill(text))).collect();
        if on.stream_ends {
            events.push(None);
        }
        let Some(stream) = self.events.lock().unwrap().clone() else {
            return;
        };
        let delay = Duration::from_millis(on.stream_delay_ms);
        let (server, awaits) = (self.clone(), on.awaits.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let count = events.len();
            for (index, event) in events.into_iter().enumerate() {
                if index + 1 == count {
                    server.replied(&awaits).await;
                }
                stream.send(event).ok();
            }
        });
    }

    /// Waits for answers of ours.
    pub(super) async fn replied(&self, awaited: &[String]) {
        let awaited = awaited
            .iter()
            .map(|text| serde_json::from_str(text).unwrap());
        let awaited: Vec<Value> = awaited.collect();
        let came = |reply| self.seen.lock().unwrap().replies.contains(reply);
        while !awaited.iter().all(came) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The `[[on]]` that is for this request, and how often it has been used, this time included.
    fn special(&self, request: &Request, seen: &mut Seen) -> Option<(usize, &On)> {
        let mut rules = self.case.on.iter().enumerate();
        let (index, on) = rules.find(|(index, on)| {
            let (method, uses) = (on.method.as_deref(), seen.uses.get(index).copied());
            method.map_or(request.is_post() && !request.is_reply(), |method| {
                method == request.method()
            }) && on.path.as_ref().is_none_or(|path| *path == request.path)
                && on.times.is_none_or(|times| uses.unwrap_or(0) < times)
        })?;
        let uses = seen.uses.entry(index).or_default();
        *uses += 1;
        Some((*uses, on))
    }

    /// Remembers what every case is checked for.
    fn remember(&self, request: &Request, seen: &mut Seen) {
        let aside = self.is_posted_aside(request);
        seen.mistakes
            .extend(request.mistakes(&seen.sessions, &self.origin(), aside));
        if request.is_reply() {
            seen.replies.push(request.message.clone());
        } else if request.is_post() {
            seen.traces.insert(request.trace_id().to_owned());
            seen.last_post = self.healthy(request).1.unwrap_or_default();
        } else if request.method() == "DELETE" {
            seen.ended
                .insert(request.header("mcp-session-id").to_owned());
        }
    }

    /// What a healthy server of the case's era says.
    fn healthy(&self, request: &Request) -> (u16, Option<Value>) {
        let (era, id) = (self.case.era, &request.message["id"]);
        let version = self.case.version.as_deref().unwrap_or("2025-11-25");
        let error = |code: i32, text: &str| {
            Some(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } }))
        };
        let complete = |mut result: Value| {
            if !request.header("mcp-method").is_empty() {
                result["resultType"] = "complete".into();
                result["ttlMs"] = 0.into();
                result["cacheScope"] = "private".into();
            }
            Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
        };
        let info = json!({ "name": "bad", "version": "1" });
        match request.method() {
            "server/discover" if era == Speaks::Legacy => {
                (400, error(-32000, "Bad Request: Server not initialized"))
            }
            "server/discover" => {
                let both = [version, MODERN];
                let versions = if era == Speaks::Both {
                    &both[..]
                } else {
                    &both[1..]
                };
                let meta = json!({ "io.modelcontextprotocol/serverInfo": info });
                let versions =
                    json!({ "supportedVersions": versions, "capabilities": {}, "_meta": meta });
                (200, complete(versions))
            }
            "initialize" if era != Speaks::Modern => {
                let result =
                    json!({ "protocolVersion": version, "capabilities": {}, "serverInfo": info });
                (200, complete(result))
            }
            "notifications/initialized" | "POST" => (202, None),
            "tools/list" => {
                let tool =
                    |n| json!({ "name": format!("tool-{n}"), "inputSchema": { "type": "object" } });
                let tools: Vec<_> = (0..self.case.tools.unwrap_or(2)).map(tool).collect();
                (200, complete(json!({ "tools": tools })))
            }
            "DELETE" => (200, None),
            "GET" => (405, None),
            _ => (404, error(-32601, "Method not found")),
        }
    }

    /// Puts in what `$` stands for.
    fn fill(&self, text: &str, request: &Request, uses: usize, seen: &mut Seen) -> String {
        let mut text = text.to_owned();
        if text.contains("$session") {
            let session = format!("session-{}", seen.sessions.len() + 1);
            text = text.replace("$session", &session);
            seen.sessions.push(session);
        }
        let values = [
            ("$answer", seen.last_post.to_string()),
            ("$result", seen.last_post["result"].to_string()),
            ("$id", request.message["id"].to_string()),
            ("$n", uses.to_string()),
            ("$token", request.header("authorization").to_owned()),
            ("$origin", self.origin()),
            ("$elsewhere", format!("http://localhost:{}", self.port)),
            ("$x40k", "x".repeat(40_000)),
            ("$many", NOTIFICATION.repeat(1_100)),
            ("$pings", PING.repeat(1_100)),
        ];
        values
            .iter()
            .fold(text, |text, (name, value)| text.replace(name, value))
    }
}

/// What is to be said in the place of the healthy answer.
fn special_texts(on: &On, request: &Request) -> Option<Vec<String>> {
    let message = |key: &str, value: &Option<Value>| {
        let message = json!({ "jsonrpc": "2.0", "id": request.message["id"], key: value });
        value.is_some().then(|| message.to_string())
    };
    let whole = on.body.clone();
    let whole = whole.or_else(|| message("result", &on.result));
    let whole = whole.or_else(|| message("error", &on.error));
    whole.map(|text| vec![text]).or_else(|| on.sse.clone())
}

/// The next event; `None` when the stream is to end, or the other side has gone.
pub(super) async fn next_event<T>(
    events: &mut mpsc::UnboundedReceiver<Option<String>>,
    gone: impl Future<Output = T>,
) -> Option<String> {
    tokio::select! {
        event = events.recv() => event.flatten(),
        _ = gone => None,
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    piece: &[u8],
    chunked: bool,
) -> io::Result<()> {
    if chunked {
        let length = format!("{:x}\r\n", piece.len());
        stream.write_all(length.as_bytes()).await?;
    }
    stream.write_all(piece).await?;
    if chunked {
        stream.write_all(b"\r\n").await?;
    }
    stream.flush().await
}

/// Connects until the queue of those who wait to be accepted is full, and leaves it so.
async fn fill_queue(listener: TcpListener) {
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(Ok(stream)) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    std::mem::forget((listener, waiting));
}
