//! The way to the server, over which requests are asked one at a time: Streamable HTTP or stdio.

use super::fault::Fault;
use super::record::{Record, Step};
use super::rpc::Answer;
use super::stdio::StdioChannel;
use super::streamable_http::HttpChannel;
use crate::model::SessionEnd;

/// One request or notification to be sent.
pub(super) struct Call {
    /// JSON-RPC method.
    pub(super) method: &'static str,
    /// JSON-RPC id; `None` is a notification, which has no answer.
    pub(super) id: Option<u64>,
    /// The message.
    pub(super) body: Vec<u8>,
    /// The value of `traceparent`.
    pub(super) traceparent: String,
    /// Index of its span in the record, if it has one of its own.
    pub(super) operation: Option<usize>,
    /// It speaks the modern era.
    pub(super) modern: bool,
    /// The layers that it belongs to.
    pub(super) step: Step,
}

/// A transport that has been opened.
pub(super) enum Channel<'t> {
    Http(Box<HttpChannel<'t>>),
    Stdio(Box<StdioChannel<'t>>),
}

impl Channel<'_> {
    /// Opens the transport: a connection, or a process.
    pub(super) async fn open(&mut self, record: &mut Record) -> Result<(), Fault> {
        match self {
            Self::Http(http) => http.connect(record).await,
            Self::Stdio(stdio) => stdio.spawn(record),
        }
    }

    /// Asks one request; the error of a JSON-RPC answer is an answer, not a fault.
    pub(super) async fn ask(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        match self {
            Self::Http(http) => http.ask(record, call).await,
            Self::Stdio(stdio) => stdio.ask(record, call).await,
        }
    }

    /// Sends a notification.
    pub(super) async fn notify(&mut self, record: &mut Record, call: &Call) -> Result<(), Fault> {
        match self {
            Self::Http(http) => http.notify(record, call).await,
            Self::Stdio(stdio) => stdio.notify(record, call).await,
        }
    }

    /// The handshake has agreed on this version; later requests of the legacy era carry it.
    pub(super) fn agreed(&mut self, version: &str) {
        if let Self::Http(http) = self {
            http.agreed(version);
        }
    }

    /// Gives up what is open and gets a fresh one, after a negotiation that broke it.
    pub(super) async fn reopen(&mut self, record: &mut Record) -> Result<(), Fault> {
        match self {
            Self::Http(http) => {
                http.hang_up();
                http.connect(record).await
            }
            Self::Stdio(stdio) => {
                stdio.end().await;
                stdio.spawn(record)
            }
        }
    }

    /// Gives up an HTTP connection; a process is ended by [`Self::end`].
    pub(super) fn hang_up(&mut self) {
        if let Self::Http(http) = self {
            http.hang_up();
        }
    }

    /// Whether the transport can still carry a request without being opened anew.
    pub(super) fn is_open(&mut self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Stdio(stdio) => stdio.is_running(),
        }
    }

    /// The session's id, if the server handed one out.
    pub(super) fn session_id(&self) -> Option<&str> {
        match self {
            Self::Http(http) => http.session_id(),
            Self::Stdio(_) => None,
        }
    }

    /// Ends the session on the server, whatever happened before. `traceparent` names the probe's root span.
    pub(super) async fn end(&mut self, traceparent: &str) -> SessionEnd {
        match self {
            Self::Http(http) => http.end(traceparent).await,
            Self::Stdio(stdio) => {
                stdio.end().await;
                SessionEnd::Ended
            }
        }
    }
}
