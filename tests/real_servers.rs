//! Servers on other people's SDKs, pinned by version in `tests/servers/`: all of them are up, with the right era,
//! version, name and tools, and no session of ours stays behind.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{
    Demo, Program, cache, check_json, example, free_port, here, http, only_target,
};

/// What a server has to look like.
struct Expected {
    era: &'static str,
    version: &'static str,
    server: &'static str,
    /// At least; some servers change their list while they run.
    tools: u64,
}

fn assert_up(args: &[&str], expected: &Expected) {
    let (document, code) = check_json(args);
    let target = only_target(&document);
    assert_eq!(target["state"], "up", "{target:#}");
    assert_eq!(code, 0);
    assert_eq!(target["era"], expected.era, "{target:#}");
    assert_eq!(target["protocol_version"], expected.version);
    assert_eq!(target["server"]["name"], expected.server);
    assert!(
        target["tools"].as_u64().unwrap() >= expected.tools,
        "{target:#}"
    );
    let layers: Vec<_> = target["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["outcome"].clone())
        .collect();
    let http = if target["transport"] == "stdio" {
        "skipped"
    } else {
        "ok"
    };
    assert_eq!(layers, ["ok", http, "ok", "ok"]);
}

/// `sessions` of a JSON answer.
fn sessions(port: u16, path: &str) -> u64 {
    let (status, body) = http("GET", port, path, &[], "");
    assert_eq!(status, 200, "{body}");
    let start = body.find('{').expect("JSON");
    let end = body.rfind('}').expect("JSON");
    let answer: Value = serde_json::from_str(&body[start..=end]).unwrap();
    answer["sessions"]
        .as_u64()
        .unwrap_or_else(|| panic!("{body}"))
}

/// A hundred probes in both eras' ways leave as many sessions as there were.
fn assert_no_session_stays(url: &str, count: impl Fn() -> u64) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let mut config = String::new();
    for n in 0..100 {
        let era = ["auto", "legacy"][n % 2];
        config.push_str(&format!(
            "[[server]]\nname = \"n{n}\"\nurl = \"{url}\"\nera = \"{era}\"\n"
        ));
    }
    std::fs::write(&file, config).unwrap();
    let before = count();
    let (document, code) = check_json(&[file.to_str().unwrap(), "--concurrency", "8"]);
    assert_eq!(document["summary"]["up"], 100, "{document:#}");
    assert_eq!(code, 0);
    assert_eq!(count(), before);
}

fn python(args: &[&str]) -> Command {
    let mut command = Command::new(cache().join("python/bin/python"));
    command
        .arg(here("servers/python/server.py"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn start_python(mode: &str) -> (Program, u16) {
    let port = free_port();
    let program = Program::start(
        &mut python(&["--port", &port.to_string(), "--mode", mode]),
        port,
    );
    (program, port)
}

#[test]
fn python_sdk_over_http() {
    for mode in ["stateful", "stateless", "json"] {
        let (_server, port) = start_python(mode);
        let url = format!("http://127.0.0.1:{port}/mcp");
        let modern = Expected {
            era: "modern",
            version: "2026-07-28",
            server: "python-sdk-server",
            tools: 2,
        };
        assert_up(&[&url], &modern);
        assert_no_session_stays(&url, || sessions(port, "/__sessions"));
    }
}

#[test]
fn python_sdk_over_stdio() {
    let python = cache().join("python/bin/python");
    let server = here("servers/python/server.py");
    let expected = Expected {
        era: "modern",
        version: "2026-07-28",
        server: "python-sdk-server",
        tools: 2,
    };
    assert_up(
        &[
            "--timeout",
            "30s",
            "--",
            python.to_str().unwrap(),
            server.to_str().unwrap(),
            "--stdio",
        ],
        &expected,
    );
}

fn start_go(args: &[&str]) -> (Program, u16) {
    let port = free_port();
    let mut command = Command::new(cache().join("go/server"));
    command
        .arg("-addr")
        .arg(format!("127.0.0.1:{port}"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    (Program::start(&mut command, port), port)
}

#[test]
fn go_sdk_over_http() {
    // Its stateful mode answers `server/discover` with legacy versions only.
    let (_server, port) = start_go(&[]);
    let url = format!("http://127.0.0.1:{port}/mcp");
    assert_up(
        &[&url],
        &Expected {
            era: "legacy",
            version: "2025-11-25",
            server: "go-sdk-server",
            tools: 2,
        },
    );
    assert_no_session_stays(&url, || sessions(port, "/__sessions"));
    let (_server, port) = start_go(&["-stateless"]);
    let url = format!("http://127.0.0.1:{port}/mcp");
    assert_up(
        &[&url],
        &Expected {
            era: "modern",
            version: "2026-07-28",
            server: "go-sdk-server",
            tools: 2,
        },
    );
}

#[test]
fn go_sdk_over_stdio() {
    let server = cache().join("go/server");
    let expected = Expected {
        era: "modern",
        version: "2026-07-28",
        server: "go-sdk-server",
        tools: 2,
    };
    assert_up(&["--", server.to_str().unwrap(), "-stdio"], &expected);
}

fn everything() -> PathBuf {
    cache().join("npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js")
}

#[test]
fn typescript_sdk_over_http() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let out = std::fs::File::create(&log).unwrap();
    let mut command = Command::new("node");
    command
        .arg("--require")
        .arg(here("servers/npm/loopback.cjs"))
        .arg(everything())
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stderr(out.try_clone().unwrap())
        .stdout(out);
    let _server = Program::start(&mut command, port);
    let url = format!("http://127.0.0.1:{port}/mcp");
    let expected = Expected {
        era: "legacy",
        version: "2025-11-25",
        server: "mcp-servers/everything",
        tools: 10,
    };
    assert_up(&[&url], &expected);
    // Only its log tells how many sessions live.
    let live = || {
        let text = std::fs::read_to_string(&log).unwrap();
        let begun = text.matches("Session initialized with ID").count();
        let ended = text.matches("Transport closed for session").count();
        assert!(begun > 0, "its log has changed: {text}");
        u64::try_from(begun).unwrap() - u64::try_from(ended).unwrap()
    };
    assert_no_session_stays(&url, live);
}

#[test]
fn typescript_sdk_over_stdio() {
    let expected = Expected {
        era: "legacy",
        version: "2025-11-25",
        server: "mcp-servers/everything",
        tools: 10,
    };
    assert_up(
        &[
            "--timeout",
            "30s",
            "--",
            "node",
            everything().to_str().unwrap(),
            "stdio",
        ],
        &expected,
    );
}

#[test]
fn rust_sdk_over_http() {
    let demo = Demo::start("rust-sdk", None);
    let url = format!("http://127.0.0.1:{}/mcp", demo.port);
    assert_up(
        &[&url],
        &Expected {
            era: "modern",
            version: "2026-07-28",
            server: "demo_server",
            tools: 3,
        },
    );
    assert_no_session_stays(&url, || demo.sessions());
}

#[test]
fn rust_sdk_over_stdio() {
    let server = example("demo_server");
    let expected = Expected {
        era: "modern",
        version: "2026-07-28",
        server: "demo_server",
        tools: 3,
    };
    assert_up(&["--", server.to_str().unwrap(), "--stdio"], &expected);
}
