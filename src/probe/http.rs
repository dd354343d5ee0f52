//! One HTTP connection of our own, and one exchange on it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::body::Body;
use super::fault::{Fault, reason_of_io};
use super::gauge::{Gauge, Gauged};
use super::limits;
use super::socket::Stream;
use super::tls::{self, Alert};
use crate::model::{Proxy, Reason};

/// `User-Agent`.
pub(super) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("mcpprobe/", env!("CARGO_PKG_VERSION")));

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// What was agreed on by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection and the future that moves its bytes. The future is polled together with whatever
/// waits for it, in the probe's own task: when the probe goes, everything of it is gone.
pub(super) struct Connection {
    sender: Sender,
    driver: Option<Driver>,
    /// HTTP/2 moves its bytes in tasks of its own, which end with it.
    tasks: Option<Tasks>,
    /// HTTP/1 is read by it; HTTP/2 counts by itself.
    gauge: Gauge,
    /// Why the connection ended, if that was an error.
    broken: Option<Fault>,
    /// An exchange has been finished on it: the server may have closed it meanwhile.
    pub(super) used: bool,
    /// Why the server ended TLS, where there is TLS.
    pub(super) alert: Option<Alert>,
    /// `Proxy-Authorization`, where requests are passed on by a proxy; `None` where nobody passes them on.
    pub(super) forwarded: Option<Option<HeaderValue>>,
}

impl Connection {
    /// Prepares HTTP on an open socket; nothing is sent yet, but for HTTP/2's preface.
    pub(super) async fn open<S: Stream + 'static>(
        socket: S,
        version: Version,
        passed_on_by: Option<&Proxy>,
    ) -> Result<Self, Fault> {
        let gauge = Gauge::new();
        let (sender, driver, tasks): (_, Driver, _) = match version {
            Version::Http1 => {
                let socket = Gauged {
                    stream: socket,
                    gauge: gauge.clone(),
                };
                let (sender, driver) = http1::Builder::new()
                    .max_buf_size(limits::MAX_HEAD_READ)
                    .max_headers(limits::MAX_HEADERS)
                    .handshake(TokioIo::new(socket))
                    .await
                    .map_err(|error| fault(&error))?;
                (Sender::Http1(sender), Box::pin(driver), None)
            }
            Version::Http2 => {
                let tasks = Tasks::default();
                let (sender, driver) = http2::Builder::new(tasks.clone())
                    .max_header_list_size(limits::MAX_HEAD_READ_HTTP2)
                    .handshake(TokioIo::new(socket))
                    .await
                    .map_err(|error| fault(&error))?;
                (Sender::Http2(sender), Box::pin(driver), Some(tasks))
            }
        };
        Ok(Self {
            sender,
            driver: Some(driver),
            tasks,
            gauge,
            broken: None,
            used: false,
            alert: None,
            forwarded: passed_on_by.map(|proxy| proxy.authorization.clone()),
        })
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Runs `work` while moving this connection's bytes.
    async fn drive<F: Future>(
        driver: &mut Option<Driver>,
        broken: &mut Option<Fault>,
        work: F,
    ) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let Some(moving) = driver else {
                return Poll::Pending;
            };
            if let Poll::Ready(end) = moving.as_mut().poll(cx) {
                *broken = end.err().map(|error| fault(&error));
                *driver = None;
            }
            // What the driver just read is there now: looking again saves a wake-up.
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Whether another request can be sent on it.
    pub(super) async fn is_ready(&mut self) -> bool {
        let (driver, broken) = (&mut self.driver, &mut self.broken);
        let ready = match &mut self.sender {
            Sender::Http1(sender) => Self::drive(driver, broken, sender.ready()).await,
            Sender::Http2(sender) => Self::drive(driver, broken, sender.ready()).await,
        };
        ready.is_ok()
    }

    /// Why a connection broke on which nothing was asked yet: a server that speaks first does so again.
    pub(super) fn broken_unused(&mut self) -> Option<Fault> {
        if self.used {
            return None;
        }
        let ended = self.ended();
        ended.or_else(|| self.broken.take())
    }

    /// Why it ended, where that is known better than from an error.
    fn ended(&self) -> Option<Fault> {
        if self.gauge.is_exhausted() {
            return Some(head_too_large());
        }
        Some(tls::refused(*self.alert.as_ref()?.get()?))
    }

    /// Sends `request` and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Fault> {
        self.gauge.limit();
        let (driver, broken) = (&mut self.driver, &mut self.broken);
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                Self::drive(driver, broken, sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                Self::drive(driver, broken, sender.send_request(request)).await
            }
        };
        // A request that was never sent says nothing; the connection's own end does.
        let answer = answer.map_err(|error| match self.broken.take() {
            Some(broken) if error.is_canceled() || error.is_closed() => broken,
            _ => fault(&error),
        });
        let answer = answer.map_err(|fault| self.ended().unwrap_or(fault))?;
        self.gauge.open();
        if head_size(answer.headers()) > limits::MAX_HEAD
            || answer.headers().len() > limits::MAX_HEADERS
        {
            return Err(head_too_large());
        }
        Ok(answer)
    }

    /// The next piece of a body, decoded; `None` at its end.
    pub(super) async fn read(&mut self, body: &mut Body) -> Result<Option<Bytes>, Fault> {
        loop {
            // Whoever sends a body byte by byte shall not keep this thread from other probes.
            tokio::task::coop::consume_budget().await;
            if let Some(coding) = &mut body.coding
                && let Some(decoded) = coding.next()?
            {
                return Ok(Some(decoded));
            }
            match Self::drive(&mut self.driver, &mut self.broken, body.incoming.frame()).await {
                None => {
                    self.used = true;
                    self.gauge.limit();
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    // Trailers carry nothing for us.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    let Some(coding) = &mut body.coding else {
                        return Ok(Some(data));
                    };
                    coding.take(data);
                }
                Some(Err(error)) => return Err(body_fault(&error)),
            }
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(super) async fn read_all(&mut self, body: &mut Body, limit: usize) -> Result<Bytes, Fault> {
        let Some(first) = self.read(body).await? else {
            return Ok(Bytes::new());
        };
        if first.len() > limit {
            return Err(too_large(limit));
        }
        let Some(second) = self.read(body).await? else {
            return Ok(first);
        };
        let mut whole = first.to_vec();
        let mut next = Some(second);
        while let Some(piece) = next {
            if whole.len() + piece.len() > limit {
                return Err(too_large(limit));
            }
            // Doubling at most to the limit: many large answers at once are what memory is needed for.
            if whole.capacity() - whole.len() < piece.len() {
                let wanted = (2 * whole.capacity()).clamp(whole.len() + piece.len(), limit);
                whole.reserve_exact(wanted - whole.len());
            }
            whole.extend_from_slice(&piece);
            next = self.read(body).await?;
        }
        Ok(whole.into())
    }

    /// Waits a moment for a body that has told us all we need to end, so that the connection can
    /// be used again; answers whether it did.
    pub(super) async fn ends_within(&mut self, body: &mut Body, grace: Duration) -> bool {
        let end = async {
            while let Ok(piece) = self.read(body).await {
                if piece.is_none() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(grace, end).await.unwrap_or(false)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(tasks) = &self.tasks {
            tasks.end();
        }
    }
}

/// Tasks of one connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn end(&self) {
        if let Ok(mut tasks) = self.0.lock() {
            tasks.abort_all();
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        if let Ok(mut tasks) = self.0.lock() {
            tasks.spawn(async move {
                work.await;
            });
        }
    }
}

pub(super) fn too_large(limit: usize) -> Fault {
    Fault::new(
        Reason::BodyTooLarge,
        format!("the answer is larger than {limit} bytes"),
    )
}

/// Bytes or lines: hyper does not say which.
fn head_too_large() -> Fault {
    Fault::new(
        Reason::HeadTooLarge,
        "the answer's header block is larger than a client has to read",
    )
}

/// As in HTTP/1.1, whatever it was.
fn head_size(headers: &HeaderMap) -> usize {
    let lines = headers.iter();
    lines
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum()
}

/// An error of another library's among the causes of one of hyper's.
fn cause<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref::<E>() {
            return Some(found);
        }
        source = inner.source();
    }
    None
}

/// The socket error at the bottom of an error of hyper's.
fn io_error(error: &hyper::Error) -> Option<&std::io::Error> {
    let io: &std::io::Error = cause::<h2::Error>(error)
        .and_then(h2::Error::get_io)
        .or_else(|| cause(error))?;
    // Without a number of the system's a broken pipe is h2's word for the end of a connection.
    let is_end = io.kind() == std::io::ErrorKind::BrokenPipe && io.raw_os_error().is_none();
    (!is_end).then_some(io)
}

/// What HTTP/2 has for an error: the server's own, which is `ended` for us, or one that it made.
fn http2_fault(error: &hyper::Error, ended: Reason) -> Option<Fault> {
    let http2 = cause::<h2::Error>(error).filter(|error| !error.is_io())?;
    let code = http2.reason().map(|reason| format!("{reason:?}"));
    let code = code.unwrap_or_else(|| http2.to_string());
    Some(if http2.is_remote() {
        Fault::new(
            ended,
            format!("the server ended the HTTP/2 stream before its answer was complete: {code}"),
        )
    } else {
        Fault::new(
            Reason::HttpMalformed,
            format!("what came back is not HTTP/2: {code}"),
        )
    })
}

fn io_reason(error: &hyper::Error) -> Option<Reason> {
    reason_of_io(io_error(error)?)
}

/// Before an answer's head.
fn fault(error: &hyper::Error) -> Fault {
    if let Some(fault) = http2_fault(error, Reason::HttpClosed) {
        return fault;
    }
    if error.is_parse_too_large() {
        return head_too_large();
    }
    // Bytes that nobody asked for are a protocol that speaks first; hyper has no name for it.
    if error.is_parse() || error.to_string().contains("unexpected message") {
        return Fault::new(
            Reason::HttpMalformed,
            format!("what came back is not HTTP: {error}"),
        );
    }
    match io_reason(error) {
        Some(Reason::ConnectionReset) => Fault::new(
            Reason::ConnectionReset,
            "the server reset the connection instead of answering",
        ),
        Some(reason) => Fault::new(reason, error.to_string()),
        None => Fault::new(
            Reason::HttpClosed,
            "the server closed the connection without an answer",
        ),
    }
}

/// After an answer's head.
fn body_fault(error: &hyper::Error) -> Fault {
    use std::io::ErrorKind;
    if let Some(fault) = http2_fault(error, Reason::StreamEnded) {
        return fault;
    }
    let bad_chunk = io_error(error)
        .is_some_and(|io| matches!(io.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData));
    if error.is_parse() || bad_chunk {
        return Fault::new(
            Reason::HttpMalformed,
            format!("the answer's body is not HTTP: {error}"),
        );
    }
    match io_reason(error) {
        Some(Reason::ConnectionReset) => Fault::new(
            Reason::ConnectionReset,
            "the server reset the connection in the middle of its answer",
        ),
        _ => Fault::new(
            Reason::StreamEnded,
            "the connection was closed in the middle of the answer",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What becomes of an answer that comes in these pieces: its status, its headers' size and its body.
    async fn exchange(pieces: Vec<Vec<u8>>) -> Result<(u16, usize, Vec<u8>), Reason> {
        let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
        let server = async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(theirs.read_u8().await.unwrap());
            }
            for piece in pieces {
                if theirs.write_all(&piece).await.is_err() {
                    return;
                }
                // What was written is read before there is more.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let client = async {
            let mut connection = Connection::open(ours, Version::Http1, None).await?;
            let mut request = Request::new(Full::new(Bytes::new()));
            *request.uri_mut() = http::Uri::from_static("/");
            let answer = connection.send(request).await?;
            let (status, size) = (answer.status().as_u16(), head_size(answer.headers()));
            let mut body = Body::of(answer)?;
            let body = connection.read_all(&mut body, 100_000).await?;
            Ok((status, size, body.to_vec()))
        };
        let (_, answer) = tokio::join!(server, client);
        answer.map_err(|fault: Fault| fault.reason)
    }

    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|cut| bytes[cut[0]..cut[1]].to_vec())
            .collect()
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(work)
    }

    /// An answer whose header block, as [`head_size`] counts it, has this size, in lines of at most 8,000 bytes.
    fn with_head_of(size: usize, body: &[u8]) -> Vec<u8> {
        let length = format!("content-length: {}\r\n", body.len());
        let mut lines = length.clone();
        while lines.len() < size {
            let left = size - lines.len();
            // A line is at least `x: ` and its end.
            let line = if left > 8_100 { 8_000 } else { left };
            lines.push_str(&format!("x: {}\r\n", "y".repeat(line - 5)));
        }
        assert_eq!(lines.len(), size);
        let mut answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
        answer.extend_from_slice(body);
        answer
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_head_is_too_large_exactly_beyond_the_limit(
            beyond in prop_oneof![-2_000isize..2_000, -1isize..=2, Just(60_000isize), Just(200_000isize)],
            cuts in proptest::collection::vec(0usize..300_000, 0..12),
        ) {
            let size = limits::MAX_HEAD.checked_add_signed(beyond).unwrap();
            let answer = run(exchange(in_pieces(&with_head_of(size, b"{}"), &cuts)));
            let expected = if beyond > 0 {
                Err(Reason::HeadTooLarge)
            } else {
                Ok((200, size, b"{}".to_vec()))
            };
            prop_assert_eq!(answer, expected);
        }

        #[test]
        fn too_many_lines_are_too_many_exactly_beyond_the_limit(
            lines in 200usize..320,
            cuts in proptest::collection::vec(0usize..3_000, 0..12),
        ) {
            let head = format!("HTTP/1.1 204 No\r\n{}\r\n", "x: y\r\n".repeat(lines));
            let answer = run(exchange(in_pieces(head.as_bytes(), &cuts)));
            let expected = if lines > limits::MAX_HEADERS {
                Err(Reason::HeadTooLarge)
            } else {
                Ok((204, 6 * lines, Vec::new()))
            };
            prop_assert_eq!(answer, expected);
        }

        #[test]
        fn pieces_never_change_an_answer(
            answer in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "HTTP/1\\.[01] [0-9]{2,3} [a-z]{0,5}\r?\n([a-z]{1,5}: ?[a-z0-9]{0,5}\r?\n){0,4}\r?\n[a-z]{0,20}"
                    .prop_map(String::into_bytes),
                "HTTP/1\\.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n([1-5]\r\n[a-z]{5}\r\n){0,3}(0\r\n\r\n)?"
                    .prop_map(String::into_bytes),
                "(HTTP/1\\.1 10[023] x\r\n\r\n){0,3}HTTP/1\\.1 200 OK\r\ncontent-length: [0-9]{1,2}\r\n\r\n[a-z]{0,40}"
                    .prop_map(String::into_bytes),
            ],
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let whole = run(exchange(vec![answer.clone()]));
            prop_assert_eq!(run(exchange(in_pieces(&answer, &cuts))), whole);
        }
    }
}
