//! What stands between us and a server, and can be broken itself.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::fault;
use super::network::{Network, port};
use super::wire::{exchange, exchange_within};
use crate::support::{Asked, Program, Small, cache, empty_answer, http, json_answer};

/// A gateway gives up sooner than we do.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Longer than any probe.
const FOREVER: Duration = Duration::from_secs(60);

/// toxiproxy, for all fronts of a scene.
pub(super) struct Toxiproxy {
    _program: Program,
    api: u16,
}

impl Toxiproxy {
    pub(super) fn start() -> Self {
        let api = port();
        let mut command = Command::new(cache().join("toxiproxy/toxiproxy"));
        command
            .args(["-host", "127.0.0.1", "-port", &api.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            _program: Program::start(&mut command, api),
            api,
        }
    }

    /// A proxy from an address to a port of this machine.
    pub(super) fn add(&self, name: &str, listen: &str, to: u16) {
        let upstream = format!("127.0.0.1:{to}");
        self.ask(
            "/proxies",
            &json!({ "name": name, "listen": listen, "upstream": upstream, "enabled": true }),
        );
    }

    fn refuse(&self, name: &str) {
        self.ask(&format!("/proxies/{name}"), &json!({ "enabled": false }));
    }

    fn toxic(&self, name: &str, kind: &str, stream: &str, attributes: &serde_json::Value) {
        let toxic = json!({ "type": kind, "stream": stream, "attributes": attributes });
        self.ask(&format!("/proxies/{name}/toxics"), &toxic);
    }

    fn ask(&self, path: &str, body: &serde_json::Value) {
        let headers = [("Content-Type", "application/json")];
        let (status, answer) = http("POST", self.api, path, &headers, &body.to_string());
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }
}

/// A front of one server.
pub(super) enum Front<'s> {
    Tcp(&'s Toxiproxy, String),
    Http(Gateway),
    Tls(Tls),
    Name(NameServer),
    Network(&'s Network),
}

impl<'s> Front<'s> {
    /// The front, and the URL and further keys of a target behind it.
    pub(super) fn start(
        kind: fault::Front,
        name: &str,
        server: u16,
        toxiproxy: &'s Toxiproxy,
        network: &'s Network,
    ) -> (Self, String, String) {
        let at = |host: &str, port: u16| format!("http://{host}:{port}/mcp");
        match kind {
            fault::Front::Tcp => {
                let port = port();
                toxiproxy.add(name, &format!("127.0.0.1:{port}"), server);
                let front = Self::Tcp(toxiproxy, name.to_owned());
                (front, at("127.0.0.1", port), String::new())
            }
            fault::Front::Http => {
                let gateway = Gateway::start(server);
                let url = at("127.0.0.1", gateway.port);
                (Self::Http(gateway), url, String::new())
            }
            fault::Front::Tls => {
                let gateway = Gateway::start(server);
                let tls = Tls::start(gateway.port);
                let url = format!("https://localhost:{}/mcp", tls.port);
                let keys = format!("ca_file = \"{}\"\n", tls.authority.display());
                (Self::Tls(tls), url, keys)
            }
            fault::Front::Name => {
                let gateway = Gateway::start(server);
                let names = NameServer::start();
                let url = at("weather.test", gateway.port);
                let keys = format!("resolver = \"127.0.0.1:{}\"\n", names.port);
                (Self::Name(names), url, keys)
            }
            fault::Front::Network => {
                let url = at(super::network::FAR, server);
                (Self::Network(network), url, String::new())
            }
        }
    }

    /// Breaks it.
    pub(super) fn fail(&self, mode: &str) {
        match (self, mode) {
            (Self::Tcp(toxiproxy, name), "refuse") => toxiproxy.refuse(name),
            (Self::Tcp(toxiproxy, name), "reset") => {
                toxiproxy.toxic(name, "reset_peer", "upstream", &json!({ "timeout": 0 }));
            }
            (Self::Tcp(toxiproxy, name), "hold") => {
                toxiproxy.toxic(name, "timeout", "downstream", &json!({ "timeout": 0 }));
            }
            (Self::Tcp(toxiproxy, name), "cut") => {
                toxiproxy.toxic(name, "limit_data", "downstream", &json!({ "bytes": 100 }));
            }
            (Self::Tls(tls), "expire") => tls.expire(),
            (Self::Name(names), "gone") => names.gone.store(1, Ordering::Relaxed),
            (Self::Network(network), "drop") => network.drop_all(),
            (Self::Http(gateway), mode) => gateway.fail(mode),
            _ => panic!("this front cannot fail by {mode}"),
        }
    }
}

/// A gateway that speaks HTTP: 502 when the server is not there, 504 when it takes too long.
pub(super) struct Gateway {
    port: u16,
    mode: Arc<Mutex<String>>,
}

impl Gateway {
    fn start(server: u16) -> Self {
        let mode = Arc::new(Mutex::new(String::new()));
        let (told, asked_before) = (Arc::clone(&mode), AtomicUsize::new(0));
        let port = port();
        Small::start_on(port, move |asked| {
            let mode = told.lock().unwrap().clone();
            let turn = asked_before.fetch_add(1, Ordering::Relaxed);
            answer_through(&mode, turn, server, asked)
        });
        Self { port, mode }
    }

    fn fail(&self, mode: &str) {
        let known = [
            "502",
            "503",
            "answered_504",
            "answered_nothing",
            "401",
            "drop_half",
        ];
        assert!(known.contains(&mode), "a gateway cannot fail by {mode}");
        *self.mode.lock().unwrap() = mode.to_owned();
    }
}

fn answer_through(mode: &str, turn: usize, server: u16, asked: &Asked) -> String {
    let head: String = asked
        .head
        .lines()
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            let ours = ["host:", "connection:", "content-length:"];
            !ours.iter().any(|name| line.starts_with(name))
        })
        .map(|line| format!("{line}\r\n"))
        .collect();
    let passed_on = || exchange(server, &asked.method, &asked.target, &head, &asked.bytes);
    match mode {
        "502" => return empty_answer("502 Bad Gateway"),
        "503" => return empty_answer("503 Service Unavailable"),
        "401" => return json_answer("401 Unauthorized", &json!({ "error": "unauthorized" })),
        // Neither every second one, which would fall in step with us, nor by chance.
        "drop_half" if turn.wrapping_mul(2_654_435_761) >> 16 & 1 == 0 => return String::new(),
        "answered_504" => {
            passed_on();
            return empty_answer("504 Gateway Timeout");
        }
        "answered_nothing" => {
            passed_on();
            std::thread::sleep(FOREVER);
            return String::new();
        }
        _ => {}
    }
    if std::net::TcpStream::connect(("127.0.0.1", server)).is_err() {
        return empty_answer("502 Bad Gateway");
    }
    exchange_within(
        GATEWAY_TIMEOUT,
        server,
        &asked.method,
        &asked.target,
        &head,
        &asked.bytes,
    )
    .unwrap_or_else(|| empty_answer("504 Gateway Timeout"))
}

/// TLS in front of a port, as `localhost`.
pub(super) struct Tls {
    port: u16,
    authority: PathBuf,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    expired: Arc<ServerConfig>,
    _folder: TempDir,
}

impl Tls {
    fn start(to: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.pem");
        let (good, expired) = configs(&authority);
        let config = Arc::new(Mutex::new(good));
        let port = port();
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let now = Arc::clone(&config);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((client, _)) = listener.accept().await {
                    let acceptor = TlsAcceptor::from(Arc::clone(&now.lock().unwrap()));
                    tokio::spawn(async move {
                        let mut client = acceptor.accept(client).await.ok()?;
                        let mut server = TcpStream::connect(("127.0.0.1", to)).await.ok()?;
                        copy_bidirectional(&mut client, &mut server).await.ok()
                    });
                }
            });
        });
        Self {
            port,
            authority,
            config,
            expired,
            _folder: folder,
        }
    }

    fn expire(&self) {
        *self.config.lock().unwrap() = Arc::clone(&self.expired);
    }
}

/// With a good certificate, and with one that has expired, of the authority that is written to a file.
fn configs(authority: &std::path::Path) -> (Arc<ServerConfig>, Arc<ServerConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(authority, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let config = |year: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        Arc::new(config)
    };
    (config(2999), config(2020))
}

/// A name server (RFC 1035, UDP) for which every name is this machine, until it knows none.
pub(super) struct NameServer {
    port: u16,
    gone: Arc<AtomicUsize>,
}

impl NameServer {
    fn start() -> Self {
        let port = port();
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let gone = Arc::new(AtomicUsize::new(0));
        let is_gone = Arc::clone(&gone);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let gone = is_gone.load(Ordering::Relaxed) > 0;
                if let Some(answer) = name_answer(&question[..length], gone) {
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { port, gone }
    }
}

fn name_answer(question: &[u8], gone: bool) -> Option<Vec<u8>> {
    // The name ends with an empty label; type and class follow.
    let end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    let asks_for_v4 = question.get(end - 4..end - 2)? == [0, 1];
    let found = asks_for_v4 && !gone;
    // NXDOMAIN, or no error.
    let code = if gone { 3 } else { 0 };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, found.into(), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if found {
        // The name asked for, A, IN, for no time at all.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
