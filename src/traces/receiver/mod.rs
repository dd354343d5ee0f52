//! Listens for OTLP, over HTTP and gRPC, in a thread of its own: decoding is never in the way of probing.
//!
//! Each port takes both: an exporter of the one protocol that is pointed at the other's port just works.

mod answer;
mod body;
mod connection;
mod forward;
mod limits;
mod own;
mod question;
mod request;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::keeper::Warn;
use super::pending::Intake;
use crate::model::Secret;
use forward::Forward;
pub use forward::ForwardSettings;
pub use own::OwnSpans;
use question::Turns;
pub use question::{Answers, Question, Reply};

/// Where to listen, and what to do besides keeping what comes.
#[derive(Clone, Default)]
pub struct ListenSettings {
    /// For OTLP/HTTP; port 0 is any free one.
    pub http: Option<SocketAddr>,
    /// For OTLP/gRPC.
    pub grpc: Option<SocketAddr>,
    /// What senders have to show as `Authorization: Bearer ...`.
    pub token: Option<Secret>,
    /// Where everything is passed on to.
    pub forward: Option<ForwardSettings>,
    /// What our own spans say of the process that made them; without a `service.name` it is `mcpprobe`.
    pub own_resource: Vec<(String, String)>,
    /// What is answered to others than senders, below `/api/`.
    pub answers: Option<Answers>,
}

/// A receiver at work, until it is dropped.
pub struct Receiver {
    /// Where OTLP/HTTP is listened for.
    pub http: Option<SocketAddr>,
    /// Where OTLP/gRPC is listened for.
    pub grpc: Option<SocketAddr>,
    /// A sentence for each port that could not be taken. Nothing else suffers from it.
    pub troubles: Vec<String>,
    own: OwnSpans,
    counts: Arc<Counts>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    accepted: AtomicU64,
    rejected: AtomicU64,
    refused: AtomicU64,
    forwarded: AtomicU64,
    not_forwarded: AtomicU64,
}

/// What a receiver has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Spans taken in.
    pub accepted: u64,
    /// Spans that were not, of requests that were.
    pub rejected: u64,
    /// Requests that were turned away: undecodable, too large, without the token, too many at once.
    pub refused: u64,
    /// Requests that were passed on.
    pub forwarded: u64,
    /// Requests that were to be passed on and were dropped.
    pub not_forwarded: u64,
}

/// What every connection needs.
pub(super) struct Shared {
    intake: Intake,
    token: Option<Secret>,
    forward: Option<Forward>,
    answers: Option<Answers>,
    reads: Turns,
    alarms: Turns,
    connections: Arc<Semaphore>,
    /// Bytes of bodies that are being received.
    in_flight: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

impl Receiver {
    /// Listens. A port that somebody else has is a sentence in [`Self::troubles`]; so is a thread that cannot be started.
    pub fn start(settings: ListenSettings, intake: Intake, warn: Warn) -> Self {
        let mut troubles = Vec::new();
        let mut listen = |address: Option<SocketAddr>, protocol| {
            let bound = bind(address?).map_err(|error| {
                troubles.push(format!(
                    "cannot listen for {protocol} on {}: {error}; spans that are sent there will be missing",
                    address.map(|a| a.to_string()).unwrap_or_default()
                ));
            });
            bound.ok()
        };
        let http = listen(settings.http, "OTLP/HTTP");
        let grpc = listen(settings.grpc, "OTLP/gRPC");
        let counts = Arc::new(Counts::default());
        let (own, own_spans) = own::channel(&settings.own_resource);
        let (end, ended) = oneshot::channel();
        let mut receiver = Self {
            http: http.as_ref().map(|(_, address)| *address),
            grpc: grpc.as_ref().map(|(_, address)| *address),
            troubles,
            own,
            counts: Arc::clone(&counts),
            end: Some(end),
            thread: None,
        };
        let listeners = [http, grpc]
            .into_iter()
            .flatten()
            .map(|(socket, _)| socket)
            .collect();
        let work = Work {
            listeners,
            token: settings.token,
            forward: settings.forward,
            answers: settings.answers,
            intake,
            counts,
            own_spans,
            warn,
        };
        let thread = std::thread::Builder::new().name("otlp".to_owned());
        match thread.spawn(move || work.run(ended)) {
            Ok(thread) => receiver.thread = Some(thread),
            Err(error) => {
                receiver
                    .troubles
                    .push(format!("cannot start the receiver's thread: {error}"));
                (receiver.http, receiver.grpc) = (None, None);
            }
        }
        receiver
    }

    /// Where our own spans go in, without the network.
    pub fn own_spans(&self) -> OwnSpans {
        self.own.clone()
    }

    /// What it has done so far.
    pub fn received(&self) -> Received {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Received {
            accepted: read(&self.counts.accepted),
            rejected: read(&self.counts.rejected),
            refused: read(&self.counts.refused),
            forwarded: read(&self.counts.forwarded),
            not_forwarded: read(&self.counts.not_forwarded),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// What the thread is given.
struct Work {
    listeners: Vec<TcpListener>,
    token: Option<Secret>,
    forward: Option<ForwardSettings>,
    answers: Option<Answers>,
    intake: Intake,
    counts: Arc<Counts>,
    own_spans: mpsc::Receiver<own::Batch>,
    warn: Warn,
}

impl Work {
    fn run(self, ended: oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve(ended));
                // A question that is being answered has nobody any more who waits for it, and may take minutes.
                runtime.shutdown_background();
            }
            Err(error) => (self.warn)(&format!("the OTLP receiver cannot be started: {error}")),
        }
    }

    async fn serve(mut self, ended: oneshot::Receiver<()>) {
        let forward = self.forward.take().and_then(|settings| {
            Forward::start(settings, Arc::clone(&self.warn), Arc::clone(&self.counts))
        });
        let (forward, passing_on) = forward.unzip();
        let shared = Arc::new(Shared {
            intake: self.intake,
            token: self.token,
            forward,
            answers: self.answers,
            reads: Turns::new(limits::READS),
            alarms: Turns::new(limits::ALARMS),
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            in_flight: Arc::default(),
            counts: self.counts,
        });
        for listener in self.listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => drop(tokio::spawn(connection::accept(
                    listener,
                    Arc::clone(&shared),
                ))),
                Err(error) => (self.warn)(&format!("the OTLP receiver cannot listen: {error}")),
            }
        }
        tokio::select! {
            // Nothing is ever sent: it ends with its sender.
            _ = ended => {}
            () = own::take_in_all(&mut self.own_spans, &shared) => {}
        }
        own::take_in_rest(&mut self.own_spans, &shared);
        if let Some(passing_on) = passing_on {
            passing_on.finish().await;
        }
    }
}
