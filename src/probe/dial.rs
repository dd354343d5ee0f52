//! From a URL to a connection: name, TCP, a proxy, TLS, each timed.

use std::io::ErrorKind;
use std::path::Path;

use tokio::net::{TcpStream, UnixStream};
use url::{Host, Url};

use super::fault::{Fault, reason_of_io};
use super::http::{Connection, Version};
use super::record::{Record, Waiting};
use super::socket::{Socket, Stream};
use super::{certificate, connect, proxy, resolve, tls};
use crate::model::{HttpEndpoint, Network, Phase, Proxy, Reason};

/// A fresh connection to `url`, which is of the endpoint's own origin (`own`) or one that it redirected to. The
/// client certificate, the name and the leniency that the user gave are for its own origin only.
pub(super) async fn dial(
    endpoint: &HttpEndpoint,
    url: &Url,
    own: bool,
    record: &mut Record,
) -> Result<Connection, Fault> {
    if let Some(path) = endpoint.socket.as_deref().filter(|_| own) {
        return Connection::open(local(path, record).await?, Version::Http1, None).await;
    }
    let tls = Tls { endpoint, url, own };
    match &endpoint.network.proxy {
        None => {
            let stream = tcp(url, &endpoint.network, record).await?;
            if url.scheme() == "https" {
                tls.open(stream, record).await
            } else {
                Connection::open(stream, Version::Http1, None).await
            }
        }
        Some(proxy) if url.scheme() == "https" => {
            let socket = reach(proxy, &endpoint.network, record).await?;
            let start = record.now();
            let tunnel = proxy::tunnel(socket, proxy, &authority(url)).await;
            record.phase(Phase::Proxy, start);
            tls.open(tunnel?, record).await
        }
        // Without TLS a proxy is asked to pass the request on.
        Some(proxy) => {
            let socket = reach(proxy, &endpoint.network, record).await?;
            Connection::open(socket, Version::Http1, Some(proxy)).await
        }
    }
}

/// Name and TCP.
async fn tcp(url: &Url, network: &Network, record: &mut Record) -> Result<TcpStream, Fault> {
    let host = url
        .host()
        .ok_or_else(|| Fault::new(Reason::DnsNotFound, "the URL names no host"))?;
    let port = url.port_or_known_default().unwrap_or(80);
    let is_name = matches!(host, Host::Domain(_));
    record.wait_for(Waiting::Dns);
    let start = record.now();
    let found = resolve::resolve(&host, port, network).await;
    if is_name {
        record.phase(Phase::Dns, start);
    }
    let addresses = found?;
    record.wait_for(Waiting::Connect);
    let start = record.now();
    let stream = connect::connect(&addresses, network.source_address).await;
    record.phase(Phase::Connect, start);
    let stream = stream?;
    record.reached = stream.peer_addr().ok();
    record.say(|| match (stream.peer_addr(), stream.local_addr()) {
        (Ok(peer), Ok(own)) => format!("connected to {peer} from {own}"),
        _ => "connected".to_owned(),
    });
    Ok(stream)
}

/// The proxy itself. Whatever fails on the way to it is the proxy's.
async fn reach(proxy: &Proxy, network: &Network, record: &mut Record) -> Result<Socket, Fault> {
    record.through_proxy = true;
    let reached = async {
        let stream = tcp(&proxy.url, network, record).await?;
        if proxy.url.scheme() == "https" {
            let name = name_of(&proxy.url);
            let stream = tls::handshake(stream, &name, &tls::Demands::default()).await?;
            return Ok(Box::new(stream) as Socket);
        }
        Ok(Box::new(stream) as Socket)
    };
    let reached = reached.await.map_err(|fault: Fault| match fault.reason {
        Reason::ProberResources => fault,
        _ => proxy::fault(proxy, fault.message.as_str()),
    });
    record.wait_for(Waiting::Proxy);
    let socket = reached?;
    record.through_proxy = false;
    Ok(socket)
}

/// A Unix-domain socket.
async fn local(path: &Path, record: &mut Record) -> Result<UnixStream, Fault> {
    record.wait_for(Waiting::Connect);
    let start = record.now();
    let stream = UnixStream::connect(path).await;
    record.phase(Phase::Connect, start);
    stream.map_err(|error| {
        let reason = match error.kind() {
            // The file is the server's to make: without it nobody listens there.
            ErrorKind::NotFound => Reason::ConnectionRefused,
            _ => reason_of_io(&error).unwrap_or(Reason::Unreachable),
        };
        Fault::new(reason, format!("{}: {error}", path.display()))
    })
}

/// What TLS is asked for.
struct Tls<'e> {
    endpoint: &'e HttpEndpoint,
    url: &'e Url,
    own: bool,
}

impl Tls<'_> {
    async fn open<S: Stream + 'static>(
        &self,
        stream: S,
        record: &mut Record,
    ) -> Result<Connection, Fault> {
        let settings = &self.endpoint.tls;
        let name = match &settings.server_name {
            Some(name) if self.own => name.clone(),
            _ => name_of(self.url),
        };
        let demands = tls::Demands {
            roots: settings.roots.as_ref(),
            identity: settings.identity.as_ref().filter(|_| self.own),
            skip_verify: settings.insecure_skip_verify && self.own,
            http2: true,
        };
        record.wait_for(Waiting::Tls);
        let start = record.now();
        let stream = tls::handshake(stream, &name, &demands).await;
        record.phase(Phase::Tls, start);
        let stream = stream?;
        if demands.skip_verify {
            record.note("the certificate is not verified: insecure_skip_verify");
        }
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::Http2,
            _ => Version::Http1,
        };
        record.saw_certificate(certificate::not_after(&stream));
        record.say(|| tls::describe(&stream));
        let (stream, alert) = tls::LastWords::of(stream);
        let opened = Connection::open(stream, version, None).await;
        match (opened, alert.get()) {
            (Ok(mut connection), _) => {
                connection.alert = Some(alert);
                Ok(connection)
            }
            (Err(_), Some(alert)) => Err(tls::refused(*alert)),
            (Err(fault), None) => Err(fault),
        }
    }
}

/// The name that a certificate has to be for.
fn name_of(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv6(ip)) => ip.to_string(),
        _ => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// `host:port`, also where the port is the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    format!("{host}:{port}")
}
