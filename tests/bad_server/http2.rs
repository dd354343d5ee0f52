//! The same answers over HTTP/2.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request as Http, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::case::{Connection, Then};
use super::request::Request;
use super::server::{Server, next_event};

pub(super) async fn serve(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream)
        .await
        .map_err(io::Error::other)?;
    // What one answer means for the connection.
    let (tell, mut told) = mpsc::unbounded_channel();
    loop {
        let (request, respond) = tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok(accepted)) => accepted,
                Some(Err(_)) | None => {
                    // To drop what was not read would be a reset.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    return Ok(());
                }
            },
            then = told.recv() => match then {
                Some(Then::Goaway) => {
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                _ => return Ok(()),
            },
        };
        if server.case.connection == Connection::Close {
            connection.graceful_shutdown();
        }
        let (server, tell) = (server.clone(), tell.clone());
        tokio::spawn(async move { answer(&server, request, respond, &tell).await });
    }
}

async fn answer(
    server: &Arc<Server>,
    request: Http<RecvStream>,
    mut respond: SendResponse<Bytes>,
    tell: &mpsc::UnboundedSender<Then>,
) -> Result<(), h2::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = incoming.data().await {
        let piece = piece?;
        incoming.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let request = Request::of_http2(&head, &body);
    let answer = server.answer(&request);
    tokio::time::sleep(answer.delay).await;
    if answer.is_silent() {
        match answer.then {
            Some(Then::Reset) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            Some(Then::Hang) => {
                server.hung.notify_one();
                poll_fn(|cx| respond.poll_reset(cx)).await.ok();
            }
            other => {
                // What came so far has to be read, or to close would be a reset.
                tokio::time::sleep(Duration::from_millis(100)).await;
                tell.send(other.unwrap_or(Then::Close)).ok();
                // To drop the answer would be a reset of its own.
                poll_fn(|cx| respond.poll_reset(cx)).await.ok();
            }
        }
        return Ok(());
    }
    let mut head = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        if !["transfer-encoding", "connection"].contains(&name.as_str()) {
            head = head.header(name, value);
        }
    }
    let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
    let send = |stream: &mut h2::SendStream<Bytes>, piece: &[u8]| {
        stream.send_data(Bytes::copy_from_slice(piece), false)
    };
    for (index, piece) in answer.pieces.iter().enumerate() {
        if index + 1 == answer.pieces.len() {
            server.replied(&answer.awaits).await;
        }
        send(&mut stream, piece)?;
    }
    if let Some(mut events) = answer.events {
        while let Some(event) = next_event(&mut events, poll_fn(|cx| stream.poll_reset(cx))).await {
            send(&mut stream, event.as_bytes())?;
        }
        server.seen.lock().unwrap().open_streams -= 1;
    }
    while let Some(text) = &answer.endless {
        // Only what the other side wants to read is kept here.
        stream.reserve_capacity(text.len());
        while stream.capacity() < text.len().min(1_000) {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                _ => return Ok(()),
            }
        }
        let room = stream.capacity().min(text.len());
        stream.send_data(Bytes::copy_from_slice(&text[..room]), false)?;
    }
    if answer.then.is_some() {
        // What was said so far has to get there first.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    match answer.then {
        None => stream.send_data(Bytes::new(), true)?,
        Some(Then::Reset) => stream.send_reset(h2::Reason::INTERNAL_ERROR),
        Some(Then::Hang) => {
            server.hung.notify_one();
            // Until the other side has given up.
            poll_fn(|cx| stream.poll_reset(cx)).await.ok();
        }
        Some(other) => {
            tell.send(other).ok();
            poll_fn(|cx| stream.poll_reset(cx)).await.ok();
        }
    }
    Ok(())
}
