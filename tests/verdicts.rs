//! Verdicts, each from really breaking a really instrumented server under `watch`, with a real Jaeger.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Demo, Jaeger, Watch, eventually, free_port, http, run};

/// Longer than a span may be late, so that the passed probes before the fault count.
const HEALTHY: Duration = Duration::from_secs(14);

/// Watches `url` every second and asks Jaeger soon after a failure.
fn watch(jaeger: &Jaeger, url: &str, api: &str) -> Watch {
    Watch::start(&format!(
        r#"
        [defaults]
        every = "1s"
        timeout = "2s"
        [[server]]
        name = "target"
        url = "{url}"
        [telemetry]
        endpoint = "http://127.0.0.1:{}"
        [traces]
        backend = "jaeger"
        url = "http://127.0.0.1:{}"
        api = "{api}"
        recheck = ["3s", "7s", "14s"]
        "#,
        jaeger.otlp, jaeger.query
    ))
}

fn mcp(port: u16) -> String {
    format!("http://127.0.0.1:{port}/mcp")
}

/// Watches a healthy server for a while, breaks it, and compares the last verdict.
fn verdict_after(jaeger: &Jaeger, url: &str, break_it: impl FnOnce(), expected: &str) -> Watch {
    verdict_by("v1", jaeger, url, break_it, expected)
}

/// The same with one of Jaeger's two APIs.
fn verdict_by(
    api: &str,
    jaeger: &Jaeger,
    url: &str,
    break_it: impl FnOnce(),
    expected: &str,
) -> Watch {
    let watch = watch(jaeger, url, api);
    watch.until_state("target", "up");
    std::thread::sleep(HEALTHY);
    break_it();
    watch.until_state("target", "down");
    let line = watch.until_verdict("target");
    assert_eq!(line["verdict"], expected, "{line}");
    let status = eventually("the verdict in status", || {
        let status = watch.status("target");
        (status["provisional"] == false).then_some(status)
    });
    assert_eq!(status["verdict"], expected);
    assert_eq!(status["incident"], line["incident"]);
    watch
}

#[test]
fn application_when_the_server_answers_with_errors() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("application", Some(jaeger.otlp));
    let demo_url = mcp(demo.port);
    let watch = verdict_after(
        &jaeger,
        &demo_url,
        || demo.fail("initialize"),
        "application",
    );
    // The same by hand, with the evidence.
    let status = watch.status("target");
    let at = status["since"].as_str().unwrap();
    let output = run(&[
        "correlate",
        &watch.file(),
        "--server",
        "target",
        "--at",
        at,
        "--format",
        "json",
    ]);
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(document["verdict"], "application");
    assert_eq!(document["incident"], status["incident"]);
    assert!(
        document["counts"]["probe_trace_spans"].as_u64().unwrap() > 0,
        "{document}"
    );
    assert!(!document["spans"].as_array().unwrap().is_empty());
    assert!(!document["queries"].as_array().unwrap().is_empty());
    assert_eq!(output.status.code(), Some(0));

    // Judged again from the store, while the backend is gone.
    drop(jaeger);
    let incident = status["incident"].as_str().unwrap();
    let args = [
        "correlate",
        &watch.file(),
        "--incident",
        incident,
        "--again",
        "--format",
        "json",
    ];
    let again = run(&args);
    let read: serde_json::Value =
        serde_json::from_slice(&again.stdout).unwrap_or_else(|e| panic!("{e}: {again:?}"));
    for key in [
        "verdict", "reason", "rule", "incident", "at", "counts", "controls",
    ] {
        let (now, stored) = (&document[key], &read[key]);
        let same = if key == "counts" || key == "controls" || key == "reason" {
            now.is_null() == stored.is_null()
        } else {
            now == stored
        };
        assert!(same, "{key}: {now} and {stored}");
    }
    assert_eq!(read["verdict"], "application");
    assert_eq!(read["rule"], "joined_span");
    assert!(!read["spans"].as_array().unwrap().is_empty(), "{read}");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("judged again from what was said"), "{said}");
    // Somebody else's alert of the same time is the same incident, and a server that nobody knows has no verdict.
    let alertmanager = serde_json::json!({ "version": "4", "status": "firing", "alerts": [
        { "status": "firing", "labels": { "alertname": "McpDown", "instance": demo_url }, "startsAt": at },
        { "status": "firing", "labels": { "alertname": "McpDown", "instance": "elsewhere:80" }, "startsAt": at },
    ] });
    let alert = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(alert.path(), alertmanager.to_string()).unwrap();
    let args = [
        "correlate",
        &watch.file(),
        "--alert",
        alert.path().to_str().unwrap(),
        "--format",
        "json",
    ];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = &answers["alerts"][0]["verdict"];
    assert_eq!(verdict["incident"], incident, "{answers}");
    // The backend is gone by now.
    assert_eq!(verdict["verdict"], "inconclusive", "{answers}");
    let unknown = answers["alerts"][1]["error"].as_str().unwrap();
    assert!(unknown.contains("no label names a server"), "{answers}");
    // The same where one looks first.
    let shown = run(&["incidents", "show", incident, &watch.file()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in [
        "rule 2 (joined_span)",
        "own_spans_returned",
        "the demo was told to fail",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn infrastructure_when_the_server_is_gone() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("infrastructure", Some(jaeger.otlp));
    let port = demo.port;
    verdict_after(&jaeger, &mcp(port), move || drop(demo), "infrastructure");
}

#[test]
fn v3_application_when_the_server_answers_with_errors() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("v3-application", Some(jaeger.otlp));
    let break_it = || demo.fail("initialize");
    verdict_by("v3", &jaeger, &mcp(demo.port), break_it, "application");
}

#[test]
fn v3_infrastructure_when_the_server_is_gone() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("v3-infrastructure", Some(jaeger.otlp));
    let url = mcp(demo.port);
    verdict_by("v3", &jaeger, &url, move || drop(demo), "infrastructure");
}

#[test]
fn v3_path_when_others_are_served_and_we_are_not() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("v3-path", Some(jaeger.otlp));
    let proxy = Proxy::start(demo.port);
    let others = Others::start(demo.port);
    let cut = Arc::clone(&proxy.cut);
    let break_it = move || cut.store(true, Ordering::Relaxed);
    verdict_by("v3", &jaeger, &mcp(proxy.port), break_it, "path");
    drop(others);
}

#[test]
fn not_instrumented_when_the_server_never_left_a_span() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("silent", None);
    let port = demo.port;
    verdict_after(&jaeger, &mcp(port), move || drop(demo), "not_instrumented");
}

#[test]
fn a_rehearsal_says_before_the_outage_what_would_be_missing() {
    let jaeger = Jaeger::start();
    let traced = Demo::start("traced", Some(jaeger.otlp));
    let silent = Demo::start("silent", None);
    let watch = Watch::start(&format!(
        r#"
        [defaults]
        every = "1s"
        timeout = "2s"
        [[server]]
        name = "traced"
        url = "{}"
        [[server]]
        name = "silent"
        url = "{}"
        [telemetry]
        endpoint = "http://127.0.0.1:{}"
        [traces]
        backend = "jaeger"
        url = "http://127.0.0.1:{}"
        "#,
        mcp(traced.port),
        mcp(silent.port),
        jaeger.otlp,
        jaeger.query
    ));
    watch.until_state("traced", "up");
    watch.until_state("silent", "up");
    std::thread::sleep(HEALTHY);
    let rehearse = || {
        let args = ["correlate", &watch.file(), "--rehearse", "--format", "json"];
        let output = run(&args);
        let document: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        (output.status.code(), document["targets"].clone())
    };
    let (code, targets) = rehearse();
    assert_eq!(code, Some(0));
    assert_eq!(targets[0]["infrastructure"], "reachable", "{targets}");
    assert_eq!(targets[0]["service"], "traced");
    assert_eq!(targets[1]["infrastructure"], "unreachable", "{targets}");
    let missing = targets[1]["missing"].as_array().unwrap();
    let codes: Vec<_> = missing.iter().map(|lack| &lack["code"]).collect();
    assert_eq!(codes, ["service_unknown", "never_a_span"]);
    drop(jaeger);
    // Then nothing can be found out.
    let (code, targets) = rehearse();
    assert_eq!(code, Some(3));
    assert_eq!(targets[0]["infrastructure"], "unknown", "{targets}");
    let table = run(&["correlate", &watch.file(), "--rehearse"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("cannot be asked: no connection"), "{table}");
}

/// Watches a server that traces nothing but calls of tools, with `keys` besides.
fn watch_tools_only(jaeger: &Jaeger, url: &str, keys: &str) -> Watch {
    Watch::start(&format!(
        r#"
        [defaults]
        every = "1s"
        timeout = "2s"
        [[server]]
        name = "target"
        url = "{url}"
        {keys}
        [telemetry]
        endpoint = "http://127.0.0.1:{}"
        [traces]
        backend = "jaeger"
        url = "http://127.0.0.1:{}"
        recheck = ["3s", "7s", "14s"]
        "#,
        jaeger.otlp, jaeger.query
    ))
}

#[test]
fn a_canary_makes_a_server_that_traces_only_tools_judgeable() {
    let jaeger = Jaeger::start();
    for (service, keys, expected) in [
        ("no-canary", "", "not_instrumented"),
        (
            "canary",
            r#"canary = { tool = "add", arguments = { a = 40, b = 2.5 } }"#,
            "infrastructure",
        ),
        // One that fails day after day leaves spans as well, and neither is the target down for it nor the server blamed.
        (
            "bad-canary",
            r#"canary = { tool = "add", arguments = { a = "x" } }"#,
            "infrastructure",
        ),
    ] {
        let demo = Demo::start_with(service, Some(jaeger.otlp), &["--trace-tools-only"]);
        let watch = watch_tools_only(&jaeger, &mcp(demo.port), keys);
        watch.until_state("target", "up");
        std::thread::sleep(HEALTHY);
        drop(demo);
        watch.until_state("target", "down");
        watch.until_verdict("target");
        let status = eventually("the verdict in status", || {
            let status = watch.status("target");
            (status["provisional"] == false).then_some(status)
        });
        assert_eq!(status["verdict"], expected, "{service}: {status}");
    }
}

#[test]
fn response_lost_when_the_answer_does_not_arrive() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("response-lost", Some(jaeger.otlp));
    verdict_after(
        &jaeger,
        &mcp(demo.port),
        || demo.fail("drop"),
        "response_lost",
    );
}

#[test]
fn path_when_others_are_served_and_we_are_not() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("path", Some(jaeger.otlp));
    let proxy = Proxy::start(demo.port);
    let others = Others::start(demo.port);
    let cut = Arc::clone(&proxy.cut);
    verdict_after(
        &jaeger,
        &mcp(proxy.port),
        move || cut.store(true, Ordering::Relaxed),
        "path",
    );
    drop(others);
}

#[test]
fn inconclusive_when_the_backend_is_down() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("backend-down", Some(jaeger.otlp));
    let port = demo.port;
    let freeze = || {
        // Frozen, not gone: it accepts connections and never answers.
        jaeger.program.signal("STOP");
        drop(demo);
    };
    verdict_after(&jaeger, &mcp(port), freeze, "inconclusive");
}

#[test]
fn inconclusive_when_tracing_broke_before_the_server_did() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("tracing-off", Some(jaeger.otlp));
    let port = demo.port;
    let break_both = move || {
        demo.fail("tracing-off");
        std::thread::sleep(HEALTHY);
        drop(demo);
    };
    verdict_after(&jaeger, &mcp(port), break_both, "inconclusive");
}

/// A TCP proxy that can be cut: then it refuses and resets.
struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        std::thread::spawn(move || {
            while !is_cut.load(Ordering::Relaxed) {
                if let Ok((client, _)) = listener.accept() {
                    client.set_nonblocking(false).unwrap();
                    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                        continue;
                    };
                    pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                    pump(server, client);
                } else {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { port, cut }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            if to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        to.shutdown(std::net::Shutdown::Both).ok();
    });
}

/// Somebody else who goes on using the server directly.
struct Others {
    stop: Arc<AtomicBool>,
}

impl Others {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                call(port);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        eventually("the first answer to others", || {
            (call(port) == 200).then_some(())
        });
        Self { stop }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn call(port: u16) -> u16 {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"others","version":"1"}}}}"#;
    let headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/list"),
    ];
    http("POST", port, "/mcp", &headers, body).0
}
