//! A question of somebody who is no sender: what is answered is not this folder's business.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::answer::Answer;
use super::request::is_authorized;
use super::{Shared, body};

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
    let Ok(body) = body::receive(body, &shared.in_flight).await else {
        return said(
            StatusCode::BAD_REQUEST,
            "the body did not come, or is too large",
        );
    };
    let question = Question {
        is_post,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body,
    };
    // Closed only with the receiver.
    let _turn = shared.asked.acquire().await;
    match tokio::task::spawn_blocking(move || answers(&question)).await {
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
