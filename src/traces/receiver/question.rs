//! A question of somebody who is no sender: what is answered is not this folder's business.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Answer;
use super::body::{InFlight, Unusable};
use super::request::is_authorized;
use super::{Shared, body, limits};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET` or `POST`.
    pub is_post: bool,
    /// The path, which begins with `/api/`.
    pub path: String,
    /// What stands behind `?`.
    pub query: String,
    /// The body of a POST.
    pub body: Bytes,
}

/// An answer: a status of HTTP, and a JSON document.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The document.
    pub body: String,
}

/// Answers questions, in a thread in which it may block; `None` for what there is not.
pub type Answers = Arc<dyn Fn(&Question) -> Option<Reply> + Send + Sync>;

/// Whether it asks something instead of sending spans.
pub(super) fn is_one(head: &Parts) -> bool {
    head.uri.path().starts_with("/api/")
}

pub(super) async fn answer(head: &Parts, body: Incoming, shared: &Shared) -> Answer {
    if !is_authorized(head, shared) {
        let mut refused = said(
            StatusCode::UNAUTHORIZED,
            "no `Authorization: Bearer` with the right token",
        );
        refused
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    let is_post = head.method == Method::POST;
    if !is_post && head.method != Method::GET {
        let mut refused = said(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and POST are answered here",
        );
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, POST"));
        return refused;
    }
    let Some(answers) = shared.answers.clone() else {
        return said(StatusCode::NOT_FOUND, "nothing is answered here");
    };
    let body = match body_of(is_post, body, shared).await {
        Ok(body) => body,
        Err(unusable) => return unanswered(unusable),
    };
    let turns = if is_post {
        &shared.alarms
    } else {
        &shared.reads
    };
    let Some(turn) = turns.take().await else {
        return unanswered(Unusable::Busy);
    };
    let question = Question {
        is_post,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: body.0,
    };
    let answer = move || {
        // Who asked may have gone meanwhile: what it takes is taken until the answer is made, wanted or not.
        let _taken = (turn, body.1);
        answers(&question)
    };
    match tokio::task::spawn_blocking(answer).await {
        Ok(Some(reply)) => json(
            StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            reply.body,
        ),
        Ok(None) => said(StatusCode::NOT_FOUND, "there is nothing of this name"),
        Err(_) => said(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the question could not be answered",
        ),
    }
}

/// Of a GET there is none, whatever was sent with it.
async fn body_of(
    is_post: bool,
    body: Incoming,
    shared: &Shared,
) -> Result<(Bytes, Option<InFlight>), Unusable> {
    if !is_post {
        return Ok((Bytes::new(), None));
    }
    let (bytes, counted) = body::receive(body, limits::QUESTION, &shared.in_flight).await?;
    Ok((bytes, Some(counted)))
}

/// Questions of one kind: some are answered, some wait, and the others are sent away.
pub(super) struct Turns {
    answered: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            answered: Arc::new(Semaphore::new(at_once)),
            waiting: Semaphore::new(limits::WAITING),
        }
    }

    /// A turn, when it comes; `None` when too many wait for theirs.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let answered = Arc::clone(&self.answered);
        if let Ok(turn) = Arc::clone(&answered).try_acquire_owned() {
            return Some(turn);
        }
        let _place = self.waiting.try_acquire().ok()?;
        // Closed only with the receiver.
        answered.acquire_owned().await.ok()
    }
}

fn unanswered(unusable: Unusable) -> Answer {
    match unusable {
        Unusable::TooLarge => said(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is larger than {} bytes", limits::QUESTION),
        ),
        Unusable::Busy => {
            let mut refused = said(
                StatusCode::TOO_MANY_REQUESTS,
                "too many questions are waiting: come again",
            );
            let headers = refused.headers_mut();
            headers.insert(RETRY_AFTER, limits::RETRY_AFTER.into());
            refused
        }
        Unusable::TooSlow => said(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        Unusable::BrokenOff | Unusable::NotGzip => {
            said(StatusCode::BAD_REQUEST, "the body broke off")
        }
    }
}

/// A refusal, in the shape that Jaeger's clients read.
fn said(status: StatusCode, why: &str) -> Answer {
    let error = serde_json::json!({ "code": status.as_u16(), "msg": why });
    json(
        status,
        serde_json::json!({ "data": null, "errors": [error] }).to_string(),
    )
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn some_wait_for_their_turn_and_the_others_are_sent_away() {
        let turns = Turns::new(1);
        let turn = turns.take().await.unwrap();
        let mut waiting: Vec<_> = (0..limits::WAITING)
            .map(|_| Box::pin(turns.take()))
            .collect();
        for next in &mut waiting {
            assert!(next.as_mut().now_or_never().is_none());
        }
        assert!(turns.take().await.is_none());
        drop(turn);
        let second = waiting.remove(0).await;
        assert!(second.is_some());
        // There is a place again for one who waits.
        let mut next = Box::pin(turns.take());
        assert!(next.as_mut().now_or_never().is_none());
    }
}
