//! Everything that is taken in is passed on, as it came, to another backend.
//!
//! As it came: what is not kept here (contents, and what is above a limit) is not ours to take from where the user wants
//! it to go. Receiving never waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Counts;
use crate::traces::keeper::Warn;
use crate::traces::pending::Encoding;

/// Requests that wait.
const QUEUE: usize = 1_024;

/// Bytes that wait.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// For one request: what exporters wait by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Before the second attempt; doubles, and is spread by half.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
const BACK_OFF_MOST: Duration = Duration::from_secs(30);

/// Attempts for one request: with the times between them some two minutes, in which the queue fills.
const ATTEMPTS: u32 = 8;

/// At the end, for all that still waits: who stops a `watch` waits for it, and a service manager kills after 10 to 90 s.
const LAST: Duration = Duration::from_secs(5);

/// Where everything is passed on to.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// The base URL of an OTLP/HTTP endpoint, or one that ends in `/v1/traces`.
    pub url: Url,
    /// Sent with every request. All are treated as secret.
    pub headers: HeaderMap,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) body: Bytes,
    pub(super) is_gzip: bool,
    pub(super) encoding: Encoding,
}

/// The way there.
pub(super) struct Forward {
    sender: mpsc::Sender<Passed>,
    state: Arc<State>,
}

struct State {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    /// Bytes of the requests that wait, with the one that is being passed on; and how many these are.
    waiting: AtomicUsize,
    left: AtomicUsize,
    /// There is no time any more to try anything twice.
    ending: CancellationToken,
    warned: AtomicBool,
    warn: Warn,
    counts: Arc<Counts>,
}

impl Forward {
    /// Has to be called in a tokio runtime.
    pub(super) fn start(
        settings: ForwardSettings,
        warn: Warn,
        counts: Arc<Counts>,
    ) -> Option<(Self, PassingOn)> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // Headers go to whom the user named.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .inspect_err(|error| warn(&format!("spans cannot be passed on: {error}")))
            .ok()?;
        let mut url = settings.url;
        if !url.path().ends_with("/v1/traces") {
            let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        let state = Arc::new(State {
            client,
            url,
            headers: settings.headers,
            waiting: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            ending: CancellationToken::new(),
            warned: AtomicBool::new(false),
            warn,
            counts,
        });
        let (sender, receiver) = mpsc::channel(QUEUE);
        let passing_on = PassingOn {
            task: tokio::spawn(Arc::clone(&state).run(receiver)),
            state: Arc::clone(&state),
        };
        Some((Self { sender, state }, passing_on))
    }

    /// Queues a request, or drops it; never waits.
    pub(super) fn pass(&self, passed: Passed) {
        let size = passed.body.len();
        let before = self.state.waiting.fetch_add(size, Ordering::Relaxed);
        self.state.left.fetch_add(1, Ordering::Relaxed);
        if before + size > QUEUE_BYTES || self.sender.try_send(passed).is_err() {
            self.state.settled(size);
            self.state.lost("it does not keep up");
        }
    }
}

/// The task that passes on.
pub(super) struct PassingOn {
    task: JoinHandle<()>,
    state: Arc<State>,
}

impl PassingOn {
    /// Tries what still waits once more, for a while; says what could not be passed on.
    pub(super) async fn finish(mut self) {
        let counts = &self.state.counts;
        let before = counts.not_forwarded.load(Ordering::Relaxed);
        self.state.ending.cancel();
        if tokio::time::timeout(LAST, &mut self.task).await.is_err() {
            self.task.abort();
            let left = self.state.left.load(Ordering::Relaxed) as u64;
            counts.not_forwarded.fetch_add(left, Ordering::Relaxed);
        }
        let lost = counts.not_forwarded.load(Ordering::Relaxed) - before;
        if lost > 0 {
            let origin = self.state.url.origin().ascii_serialization();
            (self.state.warn)(&format!(
                "{lost} requests with spans that came in last were not passed on to {origin}"
            ));
        }
    }
}

/// What became of an attempt.
enum Attempt {
    Done,
    /// Worth another one, after this long if the other side says so.
    Again(String, Option<Duration>),
    /// Another one would end the same way.
    Never(String),
}

impl State {
    async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<Passed>) {
        loop {
            let passed = tokio::select! {
                // At the end, what waits comes first.
                biased;
                Some(passed) = queue.recv() => passed,
                () = self.ending.cancelled() => return,
            };
            let size = passed.body.len();
            match self.deliver(passed).await {
                Ok(()) => {
                    self.counts.forwarded.fetch_add(1, Ordering::Relaxed);
                    self.warned.store(false, Ordering::Relaxed);
                }
                Err(why) => self.lost(&why),
            }
            self.settled(size);
        }
    }

    /// A request of so many bytes is passed on, or is not and never will be.
    fn settled(&self, size: usize) {
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        self.left.fetch_sub(1, Ordering::Relaxed);
    }

    async fn deliver(&self, passed: Passed) -> Result<(), String> {
        let mut back_off = BACK_OFF_FIRST;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let (why, wait) = match self.attempt(&passed).await {
                Attempt::Done => return Ok(()),
                Attempt::Never(why) => return Err(why),
                Attempt::Again(why, _) if left == 0 || self.ending.is_cancelled() => {
                    return Err(why);
                }
                Attempt::Again(why, wait) => (why, wait),
            };
            self.say(&why);
            let spread = back_off.mul_f64(0.5 + fastrand::f64() / 2.0);
            let wait = wait.map_or(spread, |wait| wait.min(BACK_OFF_MOST));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.ending.cancelled() => {}
            }
            back_off = (back_off * 2).min(BACK_OFF_MOST);
        }
    }

    async fn attempt(&self, passed: &Passed) -> Attempt {
        let content_type = match passed.encoding {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, content_type)
            .body(passed.body.clone());
        if passed.is_gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Attempt::Done,
            Ok(answer) => {
                let why = format!("it answers {}", answer.status());
                let wait = answer.headers().get(RETRY_AFTER);
                let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
                // The ones that the protocol names.
                match answer.status() {
                    StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT => {
                        Attempt::Again(why, wait.map(Duration::from_secs))
                    }
                    _ => Attempt::Never(why),
                }
            }
            // Its text may hold the URL, and that a credential.
            Err(error) if error.is_timeout() => {
                Attempt::Again("it does not answer".to_owned(), None)
            }
            Err(error) if error.is_connect() => Attempt::Again("no connection".to_owned(), None),
            Err(_) => Attempt::Again("the request failed".to_owned(), None),
        }
    }

    fn lost(&self, why: &str) {
        self.counts.not_forwarded.fetch_add(1, Ordering::Relaxed);
        // At the end it is told once, with their number.
        if !self.ending.is_cancelled() {
            self.say(why);
        }
    }

    /// Once, until it works again: a backend that is down for a day is one piece of news.
    fn say(&self, why: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let origin = self.url.origin().ascii_serialization();
            (self.warn)(&format!(
                "spans cannot be passed on to {origin}: {why}; it is tried again, and what does not fit into the queue until then is dropped"
            ));
        }
    }
}
