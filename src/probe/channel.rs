//! The way to the server, over which requests are asked one at a time: HTTP or stdio.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::fault::Fault;
use super::http_sse::HttpSse;
use super::record::{Record, Step};
use super::rpc::Answer;
use super::stdio::StdioChannel;
use super::streamable_http::StreamableHttp;
use crate::model::{Endpoint, Secret, SessionEnd, Target, Transport};

/// One request or notification to be sent.
pub(super) struct Call {
    /// JSON-RPC method.
    pub(super) method: &'static str,
    /// JSON-RPC id; `None` is a notification, which has no answer.
    pub(super) id: Option<u64>,
    /// The message.
    pub(super) body: Bytes,
    /// The value of `traceparent`.
    pub(super) traceparent: String,
    /// Index of its span in the record, if it has one of its own.
    pub(super) operation: Option<usize>,
    /// It speaks the modern era.
    pub(super) modern: bool,
    /// Headers that repeat what stands in the message, where HTTP carries it.
    pub(super) mirrored: Vec<(HeaderName, HeaderValue)>,
    /// The layers that it belongs to.
    pub(super) step: Step,
}

/// A transport that has been opened.
pub(super) enum Channel<'t> {
    Http(Box<HttpChannel<'t>>),
    Stdio(Box<StdioChannel<'t>>),
}

/// A URL: Streamable HTTP, unless the server turned out to speak HTTP+SSE.
pub(super) struct HttpChannel<'t> {
    streamable: StreamableHttp<'t>,
    sse: Option<HttpSse<'t>>,
}

impl<'t> Channel<'t> {
    pub(super) fn to(target: &'t Target) -> Self {
        match &target.endpoint {
            Endpoint::Http(endpoint) => Self::Http(Box::new(HttpChannel {
                streamable: StreamableHttp::new(target, endpoint),
                sse: None,
            })),
            Endpoint::Stdio(command) => Self::Stdio(Box::new(StdioChannel::new(command))),
        }
    }

    /// Opens the transport: a connection, or a process.
    pub(super) async fn open(&mut self, record: &mut Record) -> Result<(), Fault> {
        match self {
            Self::Http(http) => http.streamable.client.connect(record).await,
            Self::Stdio(stdio) => stdio.spawn(record),
        }
    }

    /// Asks one request; the error of a JSON-RPC answer is an answer, not a fault.
    pub(super) async fn ask(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        match self {
            Self::Http(http) => match &mut http.sse {
                Some(sse) => sse.ask(record, call).await,
                None => http.streamable.ask(record, call).await,
            },
            Self::Stdio(stdio) => stdio.ask(record, call).await,
        }
    }

    /// Sends a notification.
    pub(super) async fn notify(&mut self, record: &mut Record, call: &Call) -> Result<(), Fault> {
        match self {
            Self::Http(http) => match &mut http.sse {
                Some(sse) => sse.notify(record, call).await,
                None => http.streamable.notify(record, call).await,
            },
            Self::Stdio(stdio) => stdio.notify(record, call).await,
        }
    }

    /// The handshake has agreed on this version; later requests of the legacy era carry it.
    pub(super) fn agreed(&mut self, version: &str) {
        if let Self::Http(http) = self {
            match &mut http.sse {
                Some(sse) => sse.agreed(version),
                None => http.streamable.agreed(version),
            }
        }
    }

    /// From now on messages go the way of HTTP+SSE, whose stream is to be opened; `None` on stdio.
    pub(super) fn use_http_sse(&mut self) -> Option<&mut HttpSse<'t>> {
        match self {
            Self::Http(http) => {
                let client = http.streamable.client.take();
                Some(http.sse.insert(HttpSse::new(client)))
            }
            Self::Stdio(_) => None,
        }
    }

    /// The stream of HTTP+SSE, where that is spoken.
    pub(super) fn http_sse(&mut self) -> Option<&mut HttpSse<'t>> {
        match self {
            Self::Http(http) => http.sse.as_mut(),
            Self::Stdio(_) => None,
        }
    }

    /// It was not HTTP+SSE after all.
    pub(super) fn use_streamable_http(&mut self) {
        if let Self::Http(http) = self {
            http.sse = None;
        }
    }

    /// How messages get to the server.
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Http(http) if http.sse.is_some() => Transport::HttpSse,
            Self::Http(_) => Transport::StreamableHttp,
            Self::Stdio(_) => Transport::Stdio,
        }
    }

    /// Gives up what is open and gets a fresh one, after a negotiation that broke it.
    pub(super) async fn reopen(&mut self, record: &mut Record) -> Result<(), Fault> {
        match self {
            Self::Http(http) => {
                http.sse = None;
                http.streamable.client.connect(record).await
            }
            Self::Stdio(stdio) => {
                stdio.end().await;
                stdio.spawn(record)
            }
        }
    }

    /// The next session has nothing of the last one.
    pub(super) fn forget_session(&mut self) {
        if let Self::Http(http) = self {
            http.streamable.start_over();
        }
    }

    /// A session that came with a rejected negotiation is ours to end only.
    pub(super) fn set_session_aside(&mut self) {
        if let Self::Http(http) = self {
            http.streamable.set_session_aside();
        }
    }

    /// Gives up an HTTP connection; a process is ended by [`Self::end`].
    pub(super) fn hang_up(&mut self) {
        if let Self::Http(http) = self {
            http.streamable.client.hang_up();
            if let Some(sse) = &mut http.sse {
                sse.hang_up();
            }
        }
    }

    /// What a process has said on stderr of late.
    pub(super) fn last_words(&self) -> String {
        match self {
            Self::Http(_) => String::new(),
            Self::Stdio(stdio) => stdio.last_words(),
        }
    }

    /// Whether the transport can still carry a request without being opened anew.
    pub(super) fn is_open(&mut self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Stdio(stdio) => stdio.is_running(),
        }
    }

    /// What a server handed out that nobody may see.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Http(http) => http.streamable.client.cookies.secrets(),
            Self::Stdio(_) => Vec::new(),
        }
    }

    /// The session's id, if the server handed one out.
    pub(super) fn session_id(&self) -> Option<&str> {
        match self {
            Self::Http(http) => http.streamable.session_id(),
            Self::Stdio(_) => None,
        }
    }

    /// Whether the server holds something for us that it may forget.
    pub(super) fn has_session(&self) -> bool {
        match self {
            Self::Http(http) => match &http.sse {
                Some(sse) => sse.has_session(),
                None => http.streamable.session_id().is_some(),
            },
            Self::Stdio(_) => false,
        }
    }

    /// Ends the session on the server, whatever happened before. `traceparent` names the probe's root span.
    pub(super) async fn end(&mut self, record: &mut Record, traceparent: &str) -> SessionEnd {
        match self {
            Self::Http(http) => {
                // A session over HTTP+SSE ends with its stream.
                let streamed = http.sse.take().is_some_and(|sse| sse.has_session());
                let end = http.streamable.end(record, traceparent).await;
                if streamed {
                    end.max(SessionEnd::Ended)
                } else {
                    end
                }
            }
            Self::Stdio(stdio) => {
                stdio.end().await;
                SessionEnd::Ended
            }
        }
    }
}
