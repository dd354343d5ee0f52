//! Asks the server what it has seen.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::Trouble;
use super::server::{COUNTS, Counts, RECORDING, Recorded};

/// What has arrived at `server` so far.
pub(crate) async fn counts(server: SocketAddr) -> Result<Counts, Trouble> {
    get(server, COUNTS).await
}

/// The first handshake that `server` has seen.
pub(crate) async fn recording(server: SocketAddr) -> Result<Vec<Recorded>, Trouble> {
    get(server, RECORDING).await
}

async fn get<T: DeserializeOwned>(server: SocketAddr, path: &str) -> Result<T, Trouble> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, server.to_string())
        .body(Empty::<Bytes>::new())?;
    let asked = async {
        let answer = sender.send_request(request).await?;
        answer.into_body().collect().await
    };
    tokio::select! {
        body = asked => Ok(serde_json::from_slice(&body?.to_bytes())?),
        ended = connection => {
            ended?;
            Err(format!("{server} closed the connection").into())
        }
    }
}
