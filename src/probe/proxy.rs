//! A way through an HTTP proxy: `CONNECT`.

use std::pin::pin;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::fault::Fault;
use super::gauge::{Gauge, Gauged};
use super::http::AGENT;
use super::limits;
use super::socket::Socket;
use crate::model::{Proxy, Reason};

/// Asks the proxy behind `socket` for a connection to `authority` (`host:port`).
pub(super) async fn tunnel(
    socket: Socket,
    proxy: &Proxy,
    authority: &str,
) -> Result<Socket, Fault> {
    let gauge = Gauge::new();
    let socket = Gauged {
        stream: socket,
        gauge: gauge.clone(),
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(limits::MAX_HEAD)
        .max_headers(limits::MAX_HEADERS)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| fault(proxy, &error.to_string()))?;
    let host = HeaderValue::from_str(authority);
    let mut request = Request::connect(authority)
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|error| fault(proxy, &error.to_string()))?;
    let headers = request.headers_mut();
    headers.extend(host.ok().map(|host| (HOST, host)));
    headers.extend(
        proxy
            .authorization
            .clone()
            .map(|value| (PROXY_AUTHORIZATION, value)),
    );
    let asked = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| fault(proxy, &error.to_string()))?;
        gauge.open();
        if !answer.status().is_success() {
            return Err(refused(proxy, answer.status()));
        }
        hyper::upgrade::on(answer)
            .await
            .map_err(|error| fault(proxy, &error.to_string()))
    };
    let mut asked = pin!(asked);
    let mut connection = pin!(connection.with_upgrades());
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut asked => upgraded?,
        // The connection ends where it becomes a tunnel, or where it broke: the request knows which.
        _ = &mut connection => asked.await?,
    };
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// What the proxy said in place of a connection.
fn refused(proxy: &Proxy, status: StatusCode) -> Fault {
    let what = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "asks for a credential",
        StatusCode::FORBIDDEN => "does not let us through",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "cannot reach the server",
        StatusCode::GATEWAY_TIMEOUT => "got no answer from the server",
        _ => "refused CONNECT",
    };
    fault(proxy, &format!("{what} (HTTP {})", status.as_u16())).with_status(status.as_u16())
}

/// Whatever goes wrong on the way to the proxy, or with it: the proxy is what to look at.
pub(super) fn fault(proxy: &Proxy, what: &str) -> Fault {
    let place = proxy.url.origin().ascii_serialization();
    Fault::new(Reason::Proxy, format!("the proxy {place}: {what}"))
}
