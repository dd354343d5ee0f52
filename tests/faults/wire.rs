//! HTTP to a server that may be broken.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any of our probes waits.
const LONGEST: Duration = Duration::from_secs(5);

/// The whole answer to one request on a connection of its own; `head` are further lines. `None` when there is none.
pub(super) fn exchange(
    port: u16,
    method: &str,
    target: &str,
    head: &str,
    body: &[u8],
) -> Option<String> {
    exchange_within(LONGEST, port, method, target, head, body)
}

pub(super) fn exchange_within(
    longest: Duration,
    port: u16,
    method: &str,
    target: &str,
    head: &str,
    body: &[u8],
) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(longest)).ok()?;
    let start = format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n{head}\r\n",
        body.len()
    );
    stream.write_all(&[start.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    answer.starts_with("HTTP/").then_some(answer)
}
