//! An HTTP proxy between the program and the server of a case.

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::case::{ProxyCase, Then};

pub(super) struct Proxy {
    case: Arc<super::Case>,
    pub(super) port: u16,
    /// The head of every request.
    heads: Mutex<Vec<String>>,
}

impl Proxy {
    /// Without a proxy in the case it takes no port: others want to find theirs free again.
    pub(super) async fn start(case: Arc<super::Case>) -> Arc<Self> {
        if case.proxy.is_none() {
            return Arc::new(Self {
                case,
                port: 0,
                heads: Mutex::default(),
            });
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            case,
            port: listener.local_addr().unwrap().port(),
            heads: Mutex::default(),
        });
        if proxy.manner().is_some_and(|manner| !manner.gone) {
            tokio::spawn(proxy.clone().listen(listener));
        }
        proxy
    }

    fn manner(&self) -> Option<&ProxyCase> {
        self.case.proxy.as_ref()
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        while let Ok((tcp, _)) = listener.accept().await {
            let proxy = self.clone();
            tokio::spawn(async move { proxy.serve(tcp).await });
        }
    }

    async fn serve(&self, mut tcp: TcpStream) -> io::Result<()> {
        let head = read_head(&mut tcp).await?;
        self.heads.lock().unwrap().push(head.clone());
        let manner = self.manner().unwrap();
        if manner.say.is_some() || manner.then.is_some() {
            let say = manner.say.as_deref().unwrap_or_default();
            let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50_000);
            let say = say.replace("$x40k", &"x".repeat(40_000));
            let say = say.replace("$many_interim", &interim);
            tcp.write_all(say.as_bytes()).await?;
            if manner.then == Some(Then::Hang) {
                tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await?;
            }
            return tcp.shutdown().await;
        }
        let place = head.split(' ').nth(1).unwrap().to_owned();
        if head.starts_with("CONNECT ") {
            let mut server = connect(&place).await?;
            tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
            tokio::io::copy_bidirectional(&mut tcp, &mut server).await?;
            return Ok(());
        }
        self.pass_on(tcp, head, &place).await
    }

    /// Requests in absolute form go on as others.
    async fn pass_on(&self, tcp: TcpStream, mut head: String, place: &str) -> io::Result<()> {
        let (authority, _) = place["http://".len()..].split_once('/').unwrap();
        let server = connect(authority).await?;
        let (mut from_server, mut to_server) = server.into_split();
        let (mut from_client, mut to_client) = tcp.into_split();
        tokio::spawn(async move {
            tokio::io::copy(&mut from_server, &mut to_client).await.ok();
            to_client.shutdown().await
        });
        loop {
            let length =
                header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            from_client.read_exact(&mut body).await?;
            let lines = head.replacen(&format!("http://{authority}"), "", 1);
            let lines: String = lines
                .split_inclusive("\r\n")
                .filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"))
                .collect();
            to_server.write_all(lines.as_bytes()).await?;
            to_server.write_all(&body).await?;
            head = read_head(&mut from_client).await?;
            self.heads.lock().unwrap().push(head.clone());
        }
    }

    /// What it has to complain about.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let Some(manner) = self.manner() else {
            return Vec::new();
        };
        let heads = self.heads.lock().unwrap();
        let mut mistakes = Vec::new();
        if heads.is_empty() != (manner.unused || manner.gone) {
            mistakes.push(format!("the proxy was asked {} times", heads.len()));
        }
        let credential = manner.credential.as_ref().map(|pair| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {encoded}")
        });
        for head in heads.iter() {
            let mut check = |holds: bool, what: &str| {
                if !holds {
                    mistakes.push(format!("the proxy was asked with {what}: {head}"));
                }
            };
            check(
                header(head, "proxy-authorization") == credential.as_deref(),
                "a wrong credential",
            );
            let (tunnel, over_tls) = (head.starts_with("CONNECT "), self.case.tls.is_some());
            check(tunnel == over_tls, "a wrong method");
            check(
                tunnel || head.split(' ').nth(1).unwrap().starts_with("http://"),
                "a URL that is not whole",
            );
            check(header(head, "host").is_some(), "no Host");
            check(
                !tunnel || header(head, "authorization").is_none(),
                "the server's credential",
            );
        }
        mistakes
    }
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Every name is one of this machine's.
async fn connect(authority: &str) -> io::Result<TcpStream> {
    let (_, port) = authority.rsplit_once(':').unwrap();
    TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).await
}
