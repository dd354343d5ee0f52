//! HTTP+SSE of 2024-11-05: one stream on which every answer arrives, and a URL, named by the stream, that messages are
//! posted to.

use std::collections::VecDeque;
use std::pin::pin;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer_search::id_mismatch;
use super::body::Body;
use super::channel::Call;
use super::fault::Fault;
use super::head::{ContentKind, bad_content_type, bad_status, refused};
use super::http::too_large;
use super::http_client::{Draft, HttpClient};
use super::record::{Record, Waiting};
use super::replies::Replies;
use super::rpc::{self, Answer, Incoming};
use super::sse::SseReader;
use super::streamable_http::{EVENT_STREAM, JSON};
use super::{limits, redirect};
use crate::model::Reason;

/// A session over HTTP+SSE. It ends with its stream.
pub(super) struct HttpSse<'t> {
    stream: Stream<'t>,
    /// To the URL that messages are posted to, once the stream has named it.
    poster: Option<HttpClient<'t>>,
}

/// The GET that answers arrive on.
struct Stream<'t> {
    client: HttpClient<'t>,
    body: Option<Body>,
    reader: SseReader,
    /// Events that were read and not looked at yet: a few, for each piece is looked at before the next is read.
    events: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl<'t> HttpSse<'t> {
    /// With a client whose connection may be open already.
    pub(super) fn new(client: HttpClient<'t>) -> Self {
        Self {
            stream: Stream {
                client,
                body: None,
                reader: SseReader::new(limits::MAX_ANSWER),
                events: VecDeque::new(),
                bytes: 0,
            },
            poster: None,
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.stream.client.hang_up();
        if let Some(poster) = &mut self.poster {
            poster.hang_up();
        }
    }

    pub(super) fn agreed(&mut self, version: &str) {
        if let Some(poster) = &mut self.poster {
            poster.version = HeaderValue::from_str(version).ok();
        }
    }

    /// Whether the stream has named the URL for messages: from then on the server holds a session.
    pub(super) fn has_session(&self) -> bool {
        self.poster.is_some()
    }

    /// Asks for the stream.
    pub(super) async fn open(
        &mut self,
        record: &mut Record,
        operation: usize,
        traceparent: &str,
    ) -> Result<(), Fault> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(ACCEPT, EVENT_STREAM);
        self.stream.client.trace(&mut headers, traceparent);
        let draft = Draft {
            method: Method::GET,
            headers,
            body: Bytes::new(),
        };
        let client = &mut self.stream.client;
        let head = client.send_on(record, Some(operation), &draft).await?;
        record.saw_status(operation, head.status().as_u16());
        if head.status() != StatusCode::OK {
            return Err(refused(&head).unwrap_or_else(|| bad_status(&head)));
        }
        if ContentKind::of(head.headers()) != ContentKind::EventStream {
            return Err(bad_content_type(&head));
        }
        self.stream.body = Some(client.body(record, head)?);
        Ok(())
    }

    /// Waits for the event that names the URL for messages.
    pub(super) async fn find_endpoint(&mut self, record: &mut Record) -> Result<(), Fault> {
        record.wait_for(Waiting::Answer);
        for _ in 0..limits::MAX_MESSAGES {
            let Some((kind, data)) = self.stream.next().await? else {
                return Err(Fault::new(
                    Reason::StreamEnded,
                    "the event stream ended without naming an endpoint",
                ));
            };
            record.say_event(&kind, &data);
            if kind != b"endpoint" {
                continue;
            }
            let client = &self.stream.client;
            let named = String::from_utf8_lossy(&data);
            let url = client
                .url
                .join(named.trim())
                .map_err(|_| rpc::invalid(&format!("the endpoint event names no URL: {named}")))?;
            if !redirect::is_same_origin(&client.url, &url) {
                return Err(rpc::invalid(&format!(
                    "the endpoint event names another origin: {named}"
                )));
            }
            self.poster = Some(client.beside(url));
            return Ok(());
        }
        Err(too_many_events())
    }

    pub(super) async fn ask(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        let result = self.ask_once(record, call).await;
        if let Some(operation) = call.operation {
            record.close(operation, result.as_ref().err());
        }
        result
    }

    /// Posts the message and reads the stream at the same time: the answer may come before that of the POST, and a server
    /// may wait for us to read it.
    async fn ask_once(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        let poster = self.poster.as_mut().ok_or_else(gone)?;
        let draft = draft(poster, call);
        let stream = &mut self.stream;
        // Each answer may be as large as one over Streamable HTTP.
        stream.bytes = 0;
        let aside = poster.beside(poster.url.clone());
        let replies = Replies::new(aside, draft.headers.clone(), call.modern);
        let mut search = Search::new(call.id.unwrap_or_default(), replies);
        let (early, posted) = {
            let mut post = pin!(poster.send_on(record, call.operation, &draft));
            let early = tokio::select! {
                biased;
                head = &mut post => Err(head?),
                found = search.find(stream) => Ok(found?),
            };
            match early {
                Err(head) => (None, Some(head)),
                // The POST is about to be answered as well, or never will be.
                Ok(found) => {
                    let head = tokio::time::timeout(limits::STREAM_END_GRACE, post).await;
                    (Some(found), head.ok().and_then(Result::ok))
                }
            }
        };
        search.tell(record);
        record.wait_for(Waiting::Answer);
        if let (Some(operation), Some(head)) = (call.operation, &posted) {
            record.saw_status(operation, head.status().as_u16());
        }
        let refused = posted
            .as_ref()
            .is_some_and(|head| !head.status().is_success());
        let found = match (early, posted) {
            (Some(Some(answer)), posted) => {
                search.replies.settle(record).await;
                poster.finish(posted).await;
                return Ok(answer);
            }
            (_, Some(head)) if refused => return Ok(Err(poster.error_of(record, head).await?)),
            (Some(None), _) => None,
            (None, posted) => {
                let found = search.find(stream).await;
                search.tell(record);
                search.replies.settle(record).await;
                poster.finish(posted).await;
                found?
            }
        };
        found.ok_or_else(|| search.ended())
    }

    pub(super) async fn notify(&mut self, record: &mut Record, call: &Call) -> Result<(), Fault> {
        let poster = self.poster.as_mut().ok_or_else(gone)?;
        let draft = draft(poster, call);
        let head = poster.send_on(record, call.operation, &draft).await?;
        if !head.status().is_success() {
            return Err(refused(&head).unwrap_or_else(|| bad_status(&head)));
        }
        poster.finish(Some(head)).await;
        Ok(())
    }
}

fn draft(poster: &HttpClient<'_>, call: &Call) -> Draft {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, JSON);
    poster.trace(&mut headers, &call.traceparent);
    Draft {
        method: Method::POST,
        headers,
        body: call.body.clone(),
    }
}

fn gone() -> Fault {
    Fault::new(Reason::StreamEnded, "the event stream is gone")
}

fn too_many_events() -> Fault {
    Fault::new(
        Reason::BodyTooLarge,
        format!(
            "{} events came without what we wait for among them",
            limits::MAX_MESSAGES
        ),
    )
}

impl Stream<'_> {
    /// The next event: type and data; `None` at the end. Safe to be dropped while it waits.
    async fn next(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            let Some(piece) = self.client.connection()?.read(body).await? else {
                self.body = None;
                continue;
            };
            self.bytes += piece.len();
            if self.bytes > limits::MAX_STREAM {
                return Err(too_large(limits::MAX_STREAM));
            }
            let events = &mut self.events;
            self.reader
                .push(&piece, |kind, data| {
                    events.push_back((kind.to_vec(), data.to_vec()));
                })
                .map_err(|_| too_large(limits::MAX_ANSWER))?;
        }
    }
}

/// Our answer among the events.
struct Search<'t> {
    replies: Replies<'t>,
    id: u64,
    seen: Vec<(Vec<u8>, Vec<u8>)>,
    count: usize,
    mismatch: Option<String>,
}

impl<'t> Search<'t> {
    fn new(id: u64, replies: Replies<'t>) -> Self {
        Self {
            replies,
            id,
            seen: Vec::new(),
            count: 0,
            mismatch: None,
        }
    }

    fn look_at(&mut self, event: (Vec<u8>, Vec<u8>)) -> Result<Option<Answer>, Fault> {
        self.count += 1;
        if self.count > limits::MAX_MESSAGES {
            return Err(too_many_events());
        }
        let found = match event.0.as_slice() {
            b"message" => rpc::decode(&event.1, self.id)?,
            _ => Incoming::Other,
        };
        self.seen.push(event);
        Ok(match found {
            Incoming::Answer(answer) => Some(answer),
            Incoming::Mismatch(other) => {
                self.mismatch = Some(other);
                None
            }
            Incoming::Request(request) => {
                self.replies.add(request);
                None
            }
            Incoming::Other => None,
        })
    }

    fn ended(&self) -> Fault {
        match &self.mismatch {
            Some(other) => id_mismatch(other, self.id),
            None => Fault::new(
                Reason::StreamEnded,
                "the event stream ended without our answer",
            ),
        }
    }

    /// Reads on until our answer; `None` at the end of the stream. Safe to be dropped while it waits.
    async fn find(&mut self, stream: &mut Stream<'_>) -> Result<Option<Answer>, Fault> {
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event?,
                never = self.replies.go_on() => match never {},
            };
            let Some(event) = event else {
                return Ok(None);
            };
            if let Some(answer) = self.look_at(event)? {
                return Ok(Some(answer));
            }
        }
    }

    /// What was read while the record was lent to the POST.
    fn tell(&mut self, record: &mut Record) {
        for (kind, data) in self.seen.drain(..) {
            record.say_event(&kind, &data);
        }
        self.replies.tell(record);
        if self.mismatch.is_some() {
            record.note("an answer to a request that we did not send came before ours");
        }
    }
}
