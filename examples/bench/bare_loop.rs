//! The bare hyper loop: what these handshakes cost when nothing is looked at, timed or kept.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::server::{Recorded, SESSION_ID};
use super::{AT_ONCE, TARGETS, Trouble, client};

/// A recorded request, ready to be sent again.
struct Replay {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// Shakes hands with `server` as it has recorded it, [`TARGETS`] times a second.
pub(crate) async fn run(server: SocketAddr) -> Result<(), Trouble> {
    let recording = client::recording(server).await?;
    let replays: Vec<_> = recording
        .into_iter()
        .map(Replay::new)
        .collect::<Result<_, _>>()?;
    let replays: Rc<[Replay]> = replays.into();
    println!("{server}");
    LocalSet::new().run_until(paced(server, replays)).await
}

/// The same as often as this core can, [`AT_ONCE`] at a time.
pub(crate) async fn run_flat_out(server: SocketAddr) -> Result<(), Trouble> {
    let recording = client::recording(server).await?;
    let replays: Vec<_> = recording
        .into_iter()
        .map(Replay::new)
        .collect::<Result<_, _>>()?;
    let replays: Rc<[Replay]> = replays.into();
    println!("{server}");
    let flat_out = async {
        for _ in 0..AT_ONCE {
            let replays = Rc::clone(&replays);
            tokio::task::spawn_local(async move {
                loop {
                    if let Err(trouble) = handshake(server, &replays).await {
                        eprintln!("TROUBLE in the bare loop: {trouble}");
                    }
                }
            });
        }
        std::future::pending().await
    };
    LocalSet::new().run_until(flat_out).await
}

async fn paced(server: SocketAddr, replays: Rc<[Replay]>) -> Result<(), Trouble> {
    let origin = Instant::now();
    let gap = Duration::from_secs(1) / u32::try_from(TARGETS)?;
    let mut due = origin;
    loop {
        tokio::time::sleep_until(due).await;
        while due <= Instant::now() {
            due += gap;
            let replays = Rc::clone(&replays);
            tokio::task::spawn_local(async move {
                if let Err(trouble) = handshake(server, &replays).await {
                    eprintln!("TROUBLE in the bare loop: {trouble}");
                }
            });
        }
    }
}

async fn handshake(server: SocketAddr, replays: &[Replay]) -> Result<(), Trouble> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // In one task, which is cheaper than the usual task of the connection's own.
    tokio::select! {
        biased;
        sent = send(&mut sender, replays) => sent,
        ended = connection => {
            ended?;
            Err("the server closed the connection".into())
        }
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, replays: &[Replay]) -> Result<(), Trouble> {
    let mut session = None;
    for replay in replays {
        let answer = sender
            .send_request(replay.request(session.as_ref()))
            .await?;
        if !answer.status().is_success() {
            return Err(format!("{} was answered {}", replay.method, answer.status()).into());
        }
        if session.is_none() {
            session = answer.headers().get(SESSION_ID).cloned();
        }
        answer.into_body().collect().await?;
        sender.ready().await?;
    }
    Ok(())
}

impl Replay {
    fn new(recorded: Recorded) -> Result<Self, Trouble> {
        let mut headers = HeaderMap::new();
        for (name, value) in &recorded.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        // hyper writes it, there and here.
        headers.remove(CONTENT_LENGTH);
        Ok(Self {
            method: recorded.method.parse()?,
            uri: recorded.path.parse()?,
            headers,
            body: recorded.body.into(),
        })
    }

    fn request(&self, session: Option<&HeaderValue>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let (Some(session), Some(slot)) = (session, request.headers_mut().get_mut(SESSION_ID)) {
            slot.clone_from(session);
        }
        request
    }
}
