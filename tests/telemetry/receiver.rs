//! How spans reach a receiver: by HTTP and gRPC, with headers, over TLS; and what a receiver that is down or silent
//! must not do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{named, tags};
use crate::support::{Certificates, Demo, Jaeger, free_port, mcpprobe, only_target};

/// Names of both protocols, each with its port of a Jaeger's.
fn protocols(jaeger: &Jaeger) -> [(&'static str, u16); 2] {
    [("http/protobuf", jaeger.otlp), ("grpc", jaeger.grpc)]
}

/// A program that was to check `args`, with nothing of the caller's environment but `vars`.
fn check(args: &[&str], vars: &[(&str, &str)]) -> Output {
    mcpprobe()
        .args(["check", "--format", "json"])
        .args(args)
        .envs(vars.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The trace of the only target, which was up and about whose export nothing was said.
fn exported(output: &Output) -> String {
    assert_eq!(stderr(output), "");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let target = only_target(&document);
    assert_eq!(target["state"], "up", "{target:#}");
    target["trace_id"].as_str().unwrap().to_owned()
}

/// The tags of `mcp.session` of a trace that Jaeger has in full: session, transport, connect, discover, tools_list.
fn session(jaeger: &Jaeger, trace: &str) -> std::collections::BTreeMap<String, Value> {
    tags(named(&jaeger.trace(trace, 5), "mcp.session"))
}

/// In front of a receiver: hears what goes to it.
struct Relay {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    /// The first `deaf` connections are held and never answered, every later one goes through to `port`.
    fn start(port: u16, deaf: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            heard: Arc::clone(&heard),
        };
        std::thread::spawn(move || {
            let _held: Vec<_> = listener.incoming().take(deaf).collect();
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (mut answers, mut back) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    let mut piece = [0; 8192];
                    while let Ok(read @ 1..) = client.read(&mut piece) {
                        heard.lock().unwrap().extend_from_slice(&piece[..read]);
                        server.write_all(&piece[..read]).unwrap();
                    }
                });
            }
        });
        relay
    }

    /// Whether spans came by uncompressed.
    fn heard_spans(&self) -> bool {
        let heard = self.heard.lock().unwrap();
        let name = b"mcp.session";
        heard.windows(name.len()).any(|bytes| bytes == name)
    }
}

#[test]
fn both_protocols_take_headers_and_compression_of_the_environment() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("receiver-demo", None);
    for (protocol, port) in protocols(&jaeger) {
        for compression in ["none", "gzip"] {
            let relay = Relay::start(port, 0);
            let endpoint = format!("http://user:pass@localhost:{}", relay.port);
            let vars = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
            ];
            let trace = exported(&check(&[&demo.url()], &vars));
            let tags = session(&jaeger, &trace);
            assert_eq!(tags["came.with.x-key"], "a key", "{protocol}");
            assert_eq!(tags["came.with.authorization"], "Basic dXNlcjpwYXNz");
            let is_plain = compression == "none";
            assert_eq!(relay.heard_spans(), is_plain, "{protocol}, {compression}");
        }
    }
}

#[test]
fn a_grpc_endpoint_may_lack_its_scheme() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("schemeless", None);
    let endpoint = format!("localhost:{}", jaeger.grpc);
    let vars = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=traces"),
    ];
    let trace = exported(&check(&[&demo.url()], &vars));
    assert_eq!(session(&jaeger, &trace)["came.with.x-key"], "traces");
}

#[test]
fn the_file_names_protocol_headers_and_certificates_and_the_environment_wins() {
    let certificates = Certificates::new();
    let jaeger = Jaeger::start_with_tls(&certificates);
    let demo = Demo::start("file-demo", None);
    let file = certificates.path("servers.toml");
    for (protocol, port) in protocols(&jaeger) {
        let text = format!(
            "[[server]]\nname = \"demo\"\nurl = \"{}\"\n\
             [telemetry]\nendpoint = \"https://localhost:{port}\"\nprotocol = \"{protocol}\"\n\
             headers = {{ X-Key = \"${{KEY}}\", Authorization = \"Bearer of-the-file\" }}\n\
             ca_file = \"ca.pem\"\ncert_file = \"client.pem\"\nkey_file = \"client.key\"\n",
            demo.url()
        );
        std::fs::write(&file, text).unwrap();
        let vars = [
            ("KEY", "from-the-file"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20won"),
        ];
        let trace = exported(&check(&[file.to_str().unwrap()], &vars));
        let tags = session(&jaeger, &trace);
        assert_eq!(tags["came.with.x-key"], "from-the-file", "{protocol}");
        assert_eq!(tags["came.with.authorization"], "Bearer won", "{protocol}");
    }
}

#[test]
fn certificates_of_the_environment_and_of_the_platform_count_for_both_protocols() {
    let certificates = Certificates::new();
    let jaeger = Jaeger::start_with_tls(&certificates);
    let demo = Demo::start("tls-demo", None);
    let path = |name: &str| certificates.path(name).display().to_string();
    let (ca, client, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    for (protocol, port) in protocols(&jaeger) {
        let endpoint = format!("https://localhost:{port}");
        let checked = |more: &[(&str, &str)]| {
            let always = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                // Where openssl and its friends keep the platform's roots: our authority is none of them.
                ("SSL_CERT_FILE", "/dev/null"),
            ];
            check(&[&demo.url()], &[&always, more].concat())
        };
        let ours = [
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &*client),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", &*key),
        ];
        for trusted in [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", &*ca),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", &*ca),
            ("SSL_CERT_FILE", &*ca),
        ] {
            let output = checked(&[&ours[..], &[trusted]].concat());
            session(&jaeger, &exported(&output));
        }
        for (what, vars) in [
            ("no authority", &ours[..]),
            ("no client certificate", &[("SSL_CERT_FILE", &*ca)]),
            (
                "a wrong authority",
                &[&ours[..], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &*client)]].concat(),
            ),
            (
                "a key alone",
                &[
                    ("SSL_CERT_FILE", &*ca),
                    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &*key),
                ],
            ),
        ] {
            let output = checked(vars);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(0), "{protocol}, {what}: {told}");
            assert_eq!(
                told.matches("warning").count(),
                1,
                "{protocol}, {what}: {told}"
            );
        }
    }
}

/// One with `endpoint` that is down, silent or not made: the probes are up, and one warning holds `phrase`.
fn tells_once(protocol: &str, endpoint: &str, phrase: &str) {
    let demo = Demo::start("nobody-listens", None);
    let url = demo.url();
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20hidden",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ];
    let output = check(&[&url, &url, &url], &vars);
    let told = stderr(&output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{protocol} {endpoint}: {told}"
    );
    assert_eq!(
        told.matches("warning").count(),
        1,
        "{protocol} {endpoint}: {told}"
    );
    assert!(told.contains(phrase), "{protocol} {endpoint}: {told}");
    assert!(!told.contains("hidden"), "{protocol} {endpoint}: {told}");
}

#[test]
fn a_receiver_that_is_down_or_silent_fails_no_probe_and_is_told_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let nobody = free_port();
    for protocol in ["http/protobuf", "grpc"] {
        for scheme in ["http", "https"] {
            let at = |port: u16| format!("{scheme}://user:hidden@127.0.0.1:{port}/?key=hidden");
            tells_once(protocol, &at(nobody), "cannot be exported");
            tells_once(protocol, &at(silent), "no answer within 100ms");
        }
        tells_once(protocol, "ftp://user:hidden@h", "no usable URL");
    }
    tells_once(
        "http/json",
        &format!("http://127.0.0.1:{nobody}"),
        "http/json",
    );
}

#[test]
fn a_connection_that_died_is_not_waited_on_again() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("deaf-receiver", None);
    for (protocol, port) in protocols(&jaeger) {
        let endpoint = format!("http://127.0.0.1:{}", Relay::start(port, 1).port);
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
        ];
        let url = demo.url();
        let output = check(&["--concurrency", "1", &url, &url], &vars);
        assert!(stderr(&output).contains("no answer within"), "{protocol}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let second = document["targets"][1]["trace_id"].as_str().unwrap();
        session(&jaeger, second);
    }
}
