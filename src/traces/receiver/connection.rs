//! Connections: taken, told apart by their first bytes, and served.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::request::answer;
use super::{Shared, limits};

/// How HTTP/2 without TLS begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Between two looks at the beginning of a preface.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// After a connection could not be taken, which is because of too many open files.
const REST: Duration = Duration::from_millis(100);

/// Takes connections until the runtime ends.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        // Without a permit the connection is closed, which its sender notices at once.
        let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() else {
            continue;
        };
        stream.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            serve(stream, shared).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(Some(is_http2)) = tokio::time::timeout(limits::FIRST_BYTE, is_http2(&stream)).await
    else {
        return;
    };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let io = TokioIo::new(stream);
    // How a connection ends is its sender's affair.
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits::STREAMS)
            .max_header_list_size(limits::HEAD)
            .keep_alive_interval(limits::IDLE)
            .adaptive_window(true)
            .serve_connection(io, service);
        connection.await.ok();
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::IDLE)
            .serve_connection(io, service);
        connection.await.ok();
    }
}

/// `None` when the other side has gone.
async fn is_http2(stream: &TcpStream) -> Option<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream
            .peek(&mut first)
            .await
            .ok()
            .filter(|length| *length > 0)?;
        let seen = first.get(..length)?;
        if !PREFACE.starts_with(seen) {
            return Some(false);
        }
        if length == PREFACE.len() {
            return Some(true);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
