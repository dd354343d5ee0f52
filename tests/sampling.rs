//! Probes' traces survive tail sampling: the policy of `examples/`, in a real collector.

use std::process::{Command, Stdio};

use crate::support::{Demo, Jaeger, Program, cache, free_port, here, http, mcpprobe, only_target};

/// One in a hundred is kept by chance: of so few at most this many, but once in ten million times.
const ORDINARY: usize = 40;
const BY_CHANCE: usize = 8;

#[test]
fn the_policy_keeps_probes_with_the_servers_spans_and_not_the_rest() {
    let jaeger = Jaeger::start();
    let collector = Collector::start(&jaeger);
    let demo = Demo::start("sampled", Some(collector.otlp));
    for _ in 0..ORDINARY {
        ordinary_call(demo.port);
    }
    let endpoint = format!("http://127.0.0.1:{}", collector.otlp);
    let traces: Vec<String> = (0..3)
        .map(|_| {
            let output = mcpprobe()
                .args(["check", "--format", "json", &demo.url()])
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let document = serde_json::from_slice(&output.stdout).unwrap();
            only_target(&document)["trace_id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for trace in &traces {
        // Ours: the session, its transport with one phase, two operations. The server's: one of each request.
        let spans = jaeger.trace(trace, 7);
        let of_server = spans.iter().filter(|span| {
            let tags = span["tags"].as_array().unwrap();
            tags.iter()
                .any(|tag| tag["key"] == "span.kind" && tag["value"] == "server")
        });
        assert!(of_server.count() >= 2, "{spans:#?}");
    }
    // They were sent before the probes, so that they have been decided on.
    let path = "/api/traces?service=sampled&limit=1000&lookback=1h";
    let (_, body) = http("GET", jaeger.query, path, &[], "");
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    let kept = page["data"].as_array().unwrap();
    let probes = kept.iter().filter(|kept| {
        let id = kept["traceID"].as_str().unwrap_or_default();
        traces.iter().any(|trace| trace == id)
    });
    assert_eq!(probes.count(), traces.len());
    assert!(
        kept.len() <= traces.len() + BY_CHANCE,
        "{} are kept",
        kept.len()
    );
}

struct Collector {
    _program: Program,
    otlp: u16,
}

impl Collector {
    fn start(to: &Jaeger) -> Self {
        let (otlp, grpc) = (free_port(), free_port());
        let config = here("../examples/collector-keep-probes.yaml");
        let mut command = Command::new(cache().join("jaeger/jaeger"));
        command
            .arg(format!("--config=file:{}", config.display()))
            .env("OTLP_HTTP", format!("127.0.0.1:{otlp}"))
            .env("OTLP_GRPC", format!("127.0.0.1:{grpc}"))
            // The demo server sends its spans within a second.
            .env("DECISION_WAIT", "4s")
            .env("EXPORT_TO", format!("http://127.0.0.1:{}", to.otlp))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            _program: Program::start(&mut command, otlp),
            otlp,
        }
    }
}

/// By somebody who traces nothing.
fn ordinary_call(port: u16) {
    let meta = serde_json::json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "others", "version": "1" },
    });
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
    let headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/list"),
    ];
    let (status, answer) = http("POST", port, "/mcp", &headers, &body.to_string());
    assert_eq!(status, 200, "{answer}");
}
