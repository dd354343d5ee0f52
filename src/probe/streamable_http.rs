//! Streamable HTTP: each message a POST, each answer JSON or an event stream.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use super::answer_search::{AnswerSearch, id_mismatch};
use super::body::Body;
use super::channel::Call;
use super::fault::Fault;
use super::head::{ContentKind, Head, bad_content_type, bad_status, refused};
use super::http_client::{Draft, HttpClient};
use super::record::{Record, Waiting};
use super::replies::Replies;
use super::rpc::{self, Answer, Incoming};
use super::{limits, redirect};
use crate::model::{HttpEndpoint, Phase, SessionEnd, Target};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(super) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_OR_STREAM: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// A target's Streamable HTTP endpoint, with at most one connection to it.
pub(super) struct StreamableHttp<'t> {
    pub(super) client: HttpClient<'t>,
    session: Option<Session>,
    /// Sessions handed out to requests that were only negotiation, or replaced by another.
    stray_sessions: Vec<Session>,
}

/// A session that the server handed out.
struct Session {
    id: HeaderValue,
    /// Where it was handed out: there it has to be ended, wherever we were sent since.
    url: Url,
    trusted: bool,
    /// As it was agreed for this session.
    version: Option<HeaderValue>,
}

impl<'t> StreamableHttp<'t> {
    pub(super) fn new(target: &'t Target, endpoint: &'t HttpEndpoint) -> Self {
        Self {
            client: HttpClient::new(target, endpoint),
            session: None,
            stray_sessions: Vec::new(),
        }
    }

    pub(super) fn agreed(&mut self, version: &str) {
        self.client.version = HeaderValue::from_str(version).ok();
        if let Some(session) = &mut self.session {
            session.version.clone_from(&self.client.version);
        }
    }

    /// Another session begins: nothing of the last one holds, but that it has to be ended.
    pub(super) fn start_over(&mut self) {
        self.set_session_aside();
        self.client.version = None;
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
            self.client.hang_up();
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
        record.wait_for(Waiting::Answer);
        let mut body = self.client.body(record, head)?;
        let start = record.now();
        let whole = self.client.read_all(record, &mut body, limits::MAX_ANSWER);
        let whole = whole.await;
        record.phase(Phase::Body, start);
        let message = rpc::decode(&whole?, call.id.unwrap_or_default());
        match message.map_err(|fault| body.cut_off().unwrap_or(fault))? {
            Incoming::Answer(answer) => Ok(answer),
            Incoming::Mismatch(id) => Err(id_mismatch(&id, call.id.unwrap_or_default())),
            Incoming::Request(_) | Incoming::Other => {
                Err(rpc::invalid("the answer is a notification or a request"))
            }
        }
    }

    async fn read_stream(
        &mut self,
        record: &mut Record,
        call: &Call,
        head: Head,
    ) -> Result<Answer, Fault> {
        record.head_accepted(call.step);
        record.wait_for(Waiting::Answer);
        let mut body = self.client.body(record, head)?;
        let start = record.now();
        let mut search = AnswerSearch::new(call.id.unwrap_or_default());
        let mut replies = None;
        let mut answer = self
            .find_answer(record, call, &mut search, &mut body, &mut replies)
            .await;
        for _ in 0..limits::MAX_RESUMPTIONS {
            if !matches!(answer, Ok(None)) || call.modern {
                break;
            }
            let Some(resumed) = self.resume(record, call, &mut search).await? else {
                break;
            };
            body = self.client.body(record, resumed)?;
            answer = self
                .find_answer(record, call, &mut search, &mut body, &mut replies)
                .await;
        }
        record.phase(Phase::Body, start);
        if let Some(mut replies) = replies {
            replies.settle(record).await;
        }
        let answer = answer?.ok_or_else(|| search.ended())??;
        if search.mismatch.is_some() {
            record.note("an answer to a request that we did not send came before ours");
        }
        let connection = self.client.connection()?;
        if !connection
            .ends_within(&mut body, limits::STREAM_END_GRACE)
            .await
        {
            self.client.hang_up();
        }
        Ok(answer)
    }

    /// Reads events until one is our answer; `None` at the end of the stream.
    async fn find_answer(
        &mut self,
        record: &mut Record,
        call: &Call,
        search: &mut AnswerSearch,
        body: &mut Body,
        replies: &mut Option<Box<Replies<'t>>>,
    ) -> Result<Option<Result<Answer, Fault>>, Fault> {
        loop {
            let connection = self.client.connection()?;
            let piece = match replies {
                None => connection.read(body).await?,
                Some(replies) => tokio::select! {
                    biased;
                    piece = connection.read(body) => piece?,
                    never = replies.go_on() => match never {},
                },
            };
            let Some(piece) = piece else {
                return Ok(None);
            };
            record.say_received(&piece);
            if let Some(answer) = search.read(&piece)? {
                return Ok(Some(answer));
            }
            for request in search.requests.drain(..) {
                let replies = replies.get_or_insert_with(|| Box::new(self.replies(call)));
                replies.add(request);
                replies.tell(record);
            }
        }
    }

    /// For requests of the server's, within our session.
    fn replies(&self, call: &Call) -> Replies<'t> {
        let url = self.client.url.clone();
        Replies::new(
            self.client.beside(url),
            self.draft(call).headers,
            call.modern,
        )
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
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, EVENT_STREAM);
        headers.insert(LAST_EVENT_ID, id);
        if let Some(session) = &self.session {
            headers.insert(SESSION_ID, session.id.clone());
        }
        self.client.trace(&mut headers, &call.traceparent);
        let draft = Draft {
            method: Method::GET,
            headers,
            body: Bytes::new(),
        };
        let head = self.client.send(record, None, &draft).await?;
        record.wait_for(Waiting::Answer);
        let goes_on = head.status() == StatusCode::OK
            && ContentKind::of(head.headers()) == ContentKind::EventStream;
        if !goes_on {
            self.client.hang_up();
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
        let error = self.client.error_of(record, head).await?;
        record.head_accepted(call.step);
        Ok(Err(error))
    }

    pub(super) async fn notify(&mut self, record: &mut Record, call: &Call) -> Result<(), Fault> {
        let head = self.post(record, call).await?;
        if !head.status().is_success() {
            return Err(refused(&head).unwrap_or_else(|| bad_status(&head)));
        }
        // 202 has no body; what others send is of no interest.
        self.client.finish(Some(head)).await;
        Ok(())
    }

    /// Sends a message and follows redirects; answers the head.
    async fn post(&mut self, record: &mut Record, call: &Call) -> Result<Head, Fault> {
        for _ in 0..=limits::MAX_REDIRECTS {
            let draft = self.draft(call);
            let head = self.client.send(record, call.operation, &draft).await?;
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
                    url: self.client.url.clone(),
                    trusted: self.client.trusted,
                    version: self.client.version.clone(),
                });
            }
            if !redirect::is_redirect(head.status()) {
                return Ok(head);
            }
            self.client.follow(&Method::POST, &head)?;
            self.client.connect(record).await?;
        }
        Err(redirect::too_many())
    }

    fn draft(&self, call: &Call) -> Draft {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(ACCEPT, JSON_OR_STREAM);
        headers.insert(CONTENT_TYPE, JSON);
        if call.modern {
            headers.insert(
                PROTOCOL_VERSION,
                HeaderValue::from_static(rpc::MODERN_VERSION),
            );
            headers.insert(MCP_METHOD, HeaderValue::from_static(call.method));
            headers.extend(call.mirrored.iter().cloned());
        } else if let Some(session) = &self.session {
            headers.insert(SESSION_ID, session.id.clone());
        }
        self.client.trace(&mut headers, &call.traceparent);
        Draft {
            method: Method::POST,
            headers,
            body: call.body.clone(),
        }
    }

    /// Ends every session that the server handed out, all of them within one limit.
    pub(super) async fn end(&mut self, record: &mut Record, traceparent: &str) -> SessionEnd {
        let strays = self.stray_sessions.drain(..);
        let sessions: Vec<_> = self.session.take().into_iter().chain(strays).collect();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        let mut worst = SessionEnd::NotNeeded;
        for session in &sessions {
            let delete = self.delete(record, session, traceparent);
            let end = match tokio::time::timeout(limits::DELETE_TIMEOUT / count, delete).await {
                Ok(Ok(status)) if status.is_success() || status == StatusCode::NOT_FOUND => {
                    SessionEnd::Ended
                }
                Ok(Ok(_)) => SessionEnd::Refused,
                Ok(Err(_)) | Err(_) => {
                    self.client.hang_up();
                    SessionEnd::Failed
                }
            };
            worst = worst.max(end);
        }
        worst
    }

    async fn delete(
        &mut self,
        record: &mut Record,
        session: &Session,
        traceparent: &str,
    ) -> Result<StatusCode, Fault> {
        if self.client.url != session.url {
            self.client.go_to(session.url.clone(), session.trusted);
        }
        self.client.version.clone_from(&session.version);
        let mut headers = HeaderMap::new();
        headers.insert(SESSION_ID, session.id.clone());
        // Without it the server's span of this request would look like somebody else's.
        self.client.trace(&mut headers, traceparent);
        let draft = Draft {
            method: Method::DELETE,
            headers,
            body: Bytes::new(),
        };
        let head = self.client.send(record, None, &draft).await?;
        let status = head.status();
        let mut body = Body::unread(head);
        let connection = self.client.connection()?;
        if !connection.ends_within(&mut body, Duration::ZERO).await {
            self.client.hang_up();
        }
        Ok(status)
    }
}
