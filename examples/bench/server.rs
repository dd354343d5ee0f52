//! The server that everything is measured against: as little as a session of the legacy era needs.
//! The spans of a `watch` may go to it as well.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::Trouble;

pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Where it tells its [`Counts`] and its recording.
pub(crate) const COUNTS: &str = "/__count";
pub(crate) const RECORDING: &str = "/__recording";

/// What has arrived so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counts {
    pub(crate) discovers: u64,
    pub(crate) initializes: u64,
    pub(crate) deletes: u64,
    pub(crate) span_bytes: u64,
}

/// A request as it came.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

#[derive(Default)]
struct Server {
    discovers: AtomicU64,
    initializes: AtomicU64,
    deletes: AtomicU64,
    span_bytes: AtomicU64,
    /// The requests up to the first DELETE.
    recording: Mutex<Vec<Recorded>>,
}

/// Serves on a free port of the loopback interface, which is told on stdout.
pub(crate) async fn serve() -> Result<(), Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let server = Arc::new(Server::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { server.answer(request).await }
            });
            // An error here is a client that went away.
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

/// The part of a message that decides its answer.
#[derive(Deserialize)]
struct Call<'a> {
    method: &'a str,
    id: Option<u64>,
}

impl Server {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        self.record(&head, &body);
        Ok(match (&head.method, head.uri.path()) {
            (&Method::POST, "/mcp") => self.answer_call(&body),
            (&Method::DELETE, "/mcp") => {
                self.deletes.fetch_add(1, Ordering::Relaxed);
                Response::new(Full::default())
            }
            (&Method::POST, "/v1/traces") => {
                let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
                self.span_bytes.fetch_add(bytes, Ordering::Relaxed);
                Response::new(Full::default())
            }
            (_, COUNTS) => json(&self.counts()),
            (_, RECORDING) => json(
                &*self
                    .recording
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            ),
            _ => status(StatusCode::NOT_FOUND),
        })
    }

    fn answer_call(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let Ok(call) = serde_json::from_slice::<Call<'_>>(body) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let id = call.id.unwrap_or_default();
        match call.method {
            "initialize" => {
                let session = self.initializes.fetch_add(1, Ordering::Relaxed);
                let mut answer = result(id, INITIALIZED);
                if let Ok(session) = HeaderValue::from_str(&format!("{session:032x}")) {
                    answer.headers_mut().insert(SESSION_ID, session);
                }
                answer
            }
            "notifications/initialized" => status(StatusCode::ACCEPTED),
            "tools/list" => result(id, TOOLS),
            _ => {
                self.discovers.fetch_add(1, Ordering::Relaxed);
                status(StatusCode::BAD_REQUEST)
            }
        }
    }

    fn record(&self, head: &http::request::Parts, body: &Bytes) {
        let mut recording = self
            .recording
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let complete = recording.last().is_some_and(|last| last.method == "DELETE");
        if complete || head.uri.path() != "/mcp" {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        recording.push(Recorded {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: text(body),
        });
    }

    fn counts(&self) -> Counts {
        Counts {
            discovers: self.discovers.load(Ordering::Relaxed),
            initializes: self.initializes.load(Ordering::Relaxed),
            deletes: self.deletes.load(Ordering::Relaxed),
            span_bytes: self.span_bytes.load(Ordering::Relaxed),
        }
    }
}

const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":false}},"serverInfo":{"name":"bench","version":"1.0.0"}}"#;

const TOOLS: &str = r#"{"tools":[
{"name":"add","description":"Adds two numbers","inputSchema":{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"number"}},"required":["a","b"]}},
{"name":"echo","description":"Says it again","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}},
{"name":"weather","description":"Tells the weather of a place","inputSchema":{"type":"object","properties":{"place":{"type":"string"}},"required":["place"]}}]}"#;

fn result(id: u64, result: &str) -> Response<Full<Bytes>> {
    typed(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into())
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    // Plain structs always serialize.
    typed(serde_json::to_vec(value).unwrap_or_default().into())
}

fn typed(body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
