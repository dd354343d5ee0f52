//! Our answers to requests of the server's own, where messages are posted: some servers wait for the answer to a `ping`
//! before they give theirs.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;

use super::fault::Fault;
use super::head::{bad_status, refused};
use super::http_client::{Draft, HttpClient};
use super::limits;
use super::record::Record;
use super::rpc::ServerRequest;
use crate::model::Text;

/// Answers to be posted one after the other, over a connection of their own: ours is taken by what we wait for.
pub(super) struct Replies<'t> {
    /// `None` while it sends.
    client: Option<HttpClient<'t>>,
    /// As many as there may be messages before our answer.
    waiting: VecDeque<Bytes>,
    sending: Option<Sending<'t>>,
    /// Of every one.
    headers: HeaderMap,
    /// Why the last one that failed did.
    failed: Option<Text>,
    told: Vec<(String, Bytes)>,
    modern: bool,
}

type Sending<'t> = Pin<Box<dyn Future<Output = (HttpClient<'t>, Result<(), Fault>)> + Send + 't>>;

impl<'t> Replies<'t> {
    /// By way of `client`; the modern era has no such requests, and no answers.
    pub(super) fn new(client: HttpClient<'t>, headers: HeaderMap, modern: bool) -> Self {
        Self {
            client: Some(client),
            waiting: VecDeque::new(),
            sending: None,
            headers,
            failed: None,
            told: Vec::new(),
            modern,
        }
    }

    /// Answers `request` as soon as [`Self::go_on`] is waited for.
    pub(super) fn add(&mut self, request: ServerRequest) {
        let reply = request.reply();
        if !self.modern {
            self.waiting.push_back(reply.clone());
        }
        self.told.push((request.method, reply));
    }

    /// Posts what there is, for as long as somebody waits. Never ends; safe to be dropped.
    pub(super) async fn go_on(&mut self) -> Infallible {
        self.send_all().await;
        std::future::pending().await
    }

    /// Our answer has come. A server that did not wait for its own still gets it, for a moment.
    pub(super) async fn settle(&mut self, record: &mut Record) {
        let sent = tokio::time::timeout(limits::STREAM_END_GRACE, self.send_all());
        sent.await.ok();
        self.tell(record);
    }

    async fn send_all(&mut self) {
        loop {
            if let Some(sending) = &mut self.sending {
                let (client, sent) = sending.as_mut().await;
                self.sending = None;
                self.client = Some(client);
                self.failed = sent.err().map(|fault| fault.message).or(self.failed.take());
            }
            let Some(body) = self.waiting.pop_front() else {
                return;
            };
            let Some(mut client) = self.client.take() else {
                return;
            };
            let headers = self.headers.clone();
            self.sending = Some(Box::pin(async move {
                let sent = post(&mut client, headers, body).await;
                (client, sent)
            }));
        }
    }

    /// Tells the record what was asked and answered while it was lent.
    pub(super) fn tell(&mut self, record: &mut Record) {
        for (method, reply) in self.told.drain(..) {
            if self.modern {
                record.note(of_the_wrong_era(&method));
            } else {
                record.say_reply(&method, &reply);
            }
        }
        if let Some(why) = self.failed.take() {
            record.note(format!("our answer to a request of the server's: {why}"));
        }
    }
}

/// The deviation of a modern server that asks.
pub(super) fn of_the_wrong_era(method: &str) -> String {
    format!("the server sent a request of its own ({method}), which the modern era has not")
}

async fn post(client: &mut HttpClient<'_>, headers: HeaderMap, body: Bytes) -> Result<(), Fault> {
    let draft = Draft {
        method: http::Method::POST,
        headers,
        body,
    };
    // What it takes is no part of any layer, and what is waited for is something else.
    let mut record = Record::start(false);
    let head = client.send(&mut record, None, &draft).await?;
    if !head.status().is_success() {
        return Err(refused(&head).unwrap_or_else(|| bad_status(&head)));
    }
    client.finish(Some(head)).await;
    Ok(())
}
