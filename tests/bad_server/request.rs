//! A request as it came, and what the program must do on the wire whatever the server does.

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) struct Request {
    verb: String,
    pub(super) path: String,
    headers: HashMap<String, String>,
    pub(super) message: Value,
}

/// Reads one request; `None` when the other side has gone.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (verb, path) = (first.next()?, first.next()?);
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: HashMap<_, _> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let message = serde_json::from_slice(&body).unwrap_or_default();
    Some(Request {
        verb,
        path,
        headers,
        message,
    })
}

impl Request {
    /// A request over HTTP/2.
    pub(super) fn of_http2(head: &http::request::Parts, body: &[u8]) -> Self {
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = head.headers.iter();
        let mut headers: HashMap<_, _> = headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        let host = head.uri.authority().unwrap();
        headers.insert("host".to_owned(), host.to_string());
        Self {
            verb: head.method.to_string(),
            path: head.uri.path_and_query().unwrap().to_string(),
            headers,
            message: serde_json::from_slice(body).unwrap_or_default(),
        }
    }

    /// The JSON-RPC method of a POST; `GET`, `DELETE`.
    pub(super) fn method(&self) -> &str {
        match self.verb.as_str() {
            "POST" => self.message["method"].as_str().unwrap_or("POST"),
            verb => verb,
        }
    }

    pub(super) fn is_post(&self) -> bool {
        self.verb == "POST"
    }

    /// An answer of ours to a request of the server's.
    pub(super) fn is_reply(&self) -> bool {
        self.is_post() && self.message.is_object() && self.message["method"].is_null()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The trace that it belongs to.
    pub(super) fn trace_id(&self) -> &str {
        self.header("traceparent")
            .split('-')
            .nth(1)
            .unwrap_or("none")
    }

    /// What is wrong with it; `sessions` were handed out so far, `home` is the target's origin.
    /// `posted_aside` where it went to the URL for messages of HTTP+SSE.
    pub(super) fn mistakes(
        &self,
        sessions: &[String],
        home: &str,
        posted_aside: bool,
    ) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                mistakes.push(format!("{} {what}", self.method()));
            }
        };
        let session = self.header("mcp-session-id");
        let knows_session = sessions.iter().any(|known| known == session);
        let at_home = home.ends_with(&format!("//{}", self.header("host")));
        check(
            at_home || self.header("authorization").is_empty(),
            "carries the credential to another origin",
        );
        check(
            self.header("proxy-authorization").is_empty(),
            "carries the proxy's credential",
        );
        if self.verb == "GET" {
            check(
                self.header("accept") == "text/event-stream",
                "has a wrong Accept",
            );
        }
        if !self.is_post() {
            check(
                knows_session || self.verb != "DELETE",
                "ends a session that there is not",
            );
            return mistakes;
        }
        check(
            posted_aside || self.header("accept") == "application/json, text/event-stream",
            "has a wrong Accept",
        );
        check(
            self.header("content-type") == "application/json",
            "has a wrong Content-Type",
        );
        let meta = &self.message["params"]["_meta"];
        let (trace, state) = (self.header("traceparent"), self.header("tracestate"));
        let is_traceparent =
            trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-01");
        check(is_traceparent, "has no traceparent with flags 01");
        if self.is_reply() {
            check(
                sessions.is_empty() || knows_session,
                "does not carry the session",
            );
            return mistakes;
        }
        check(
            meta["traceparent"] == trace,
            "has another traceparent in _meta",
        );
        check(state == "alivemcp=probe,vendor=otlp", "has no tracestate");
        check(
            meta["tracestate"] == state,
            "has another tracestate in _meta",
        );
        let version = self.header("mcp-protocol-version");
        let told = &meta["io.modelcontextprotocol/protocolVersion"];
        if told.is_string() {
            check(
                told == version,
                "has another version in its head than in _meta",
            );
            check(
                self.header("mcp-method") == self.method(),
                "has a wrong Mcp-Method",
            );
            let capabilities = &meta["io.modelcontextprotocol/clientCapabilities"];
            check(capabilities.is_object(), "has no clientCapabilities");
            check(
                session.is_empty(),
                "carries a session, which the modern era does not know",
            );
        } else if self.method() == "initialize" {
            check(
                session.is_empty(),
                "carries a session that was handed out before",
            );
        } else {
            check(!version.is_empty(), "has no MCP-Protocol-Version");
            check(
                sessions.is_empty() || knows_session,
                "does not carry the session",
            );
        }
        mistakes
    }
}
