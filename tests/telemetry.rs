//! Spans as a real Jaeger has them.

mod receiver;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Demo, Jaeger, free_port, mcpprobe, only_target};

fn tags(span: &Value) -> BTreeMap<String, Value> {
    let tags = span["tags"].as_array().unwrap();
    tags.iter()
        .map(|tag| {
            (
                tag["key"].as_str().unwrap().to_owned(),
                tag["value"].clone(),
            )
        })
        .collect()
}

fn named<'s>(spans: &'s [Value], name: &str) -> &'s Value {
    spans
        .iter()
        .find(|span| span["operationName"] == name)
        .unwrap_or_else(|| {
            let names: Vec<_> = spans.iter().map(|span| &span["operationName"]).collect();
            panic!("no span {name} in {names:?}")
        })
}

fn parent(span: &Value) -> Option<&str> {
    span["references"][0]["spanID"].as_str()
}

/// Checks `url` with spans going to `otlp`; answers the target of the document.
fn checked(url: &str, otlp: u16, more: &[(&str, &str)]) -> Value {
    let output = mcpprobe()
        .args(["check", "--format", "json", url])
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{otlp}"),
        )
        .envs(more.iter().copied())
        .output()
        .unwrap();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    only_target(&document).clone()
}

#[test]
fn a_probe_is_one_trace_with_the_servers_spans_in_it() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("traced-demo", Some(jaeger.otlp));
    let url = format!("http://127.0.0.1:{}/mcp", demo.port);
    let target = checked(&url, jaeger.otlp, &[]);
    assert_eq!(target["state"], "up");
    let id = target["trace_id"].as_str().unwrap();
    // Ours: session, transport, connect, discover, tools_list; the server's: discover, tools/list.
    let spans = jaeger.trace(id, 7);
    let session = named(&spans, "mcp.session");
    assert_eq!(parent(session), None);
    let root = session["spanID"].as_str();
    for name in ["mcp.transport", "mcp.discover", "mcp.tools_list"] {
        assert_eq!(parent(named(&spans, name)), root, "{name}");
    }
    assert_eq!(
        parent(named(&spans, "connect")),
        named(&spans, "mcp.transport")["spanID"].as_str()
    );
    for (ours, theirs) in [
        ("mcp.discover", "server/discover"),
        ("mcp.tools_list", "tools/list"),
    ] {
        assert_eq!(
            parent(named(&spans, theirs)),
            named(&spans, ours)["spanID"].as_str(),
            "{theirs}"
        );
    }
    let list = tags(named(&spans, "mcp.tools_list"));
    for (key, value) in [
        ("span.kind", "client"),
        ("mcp.method.name", "tools/list"),
        ("mcp.operation", "tools_list"),
        ("mcp.protocol.version", "2026-07-28"),
        ("server.address", "127.0.0.1"),
        ("user_agent.synthetic.type", "test"),
        ("w3c.tracestate", "alivemcp=probe,vendor=otlp"),
        ("otel.scope.name", "mcpprobe"),
    ] {
        assert_eq!(
            list.get(key),
            Some(&Value::from(value)),
            "{key} in {list:#?}"
        );
    }
    for key in ["http.response.status_code", "http.status_code"] {
        assert_eq!(list.get(key), Some(&Value::from(200)), "{key}");
    }
    let server = tags(named(&spans, "tools/list"));
    assert_eq!(
        server.get("w3c.tracestate"),
        Some(&Value::from("alivemcp=probe,vendor=otlp"))
    );
    let events = named(&spans, "mcp.discover")["logs"].as_array().unwrap();
    assert!(
        events[0].to_string().contains("http"),
        "the http layer is an event: {events:?}"
    );
}

#[test]
fn a_session_and_its_failure_are_told() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("failing-demo", Some(jaeger.otlp));
    demo.fail("tools_list");
    let url = format!("http://127.0.0.1:{}/mcp", demo.port);
    let target = checked(&url, jaeger.otlp, &[]);
    assert_eq!(target["failed_layer"], "tools_list", "{target:#}");
    let spans = jaeger.trace(target["trace_id"].as_str().unwrap(), 7);
    for name in ["mcp.session", "mcp.tools_list"] {
        let tags = tags(named(&spans, name));
        assert_eq!(tags["error"], true, "{name}");
        assert_eq!(tags["mcpprobe.layer"], "tools_list");
        assert_eq!(tags["mcpprobe.reason"], "jsonrpc_error");
        assert_eq!(tags["error.type"], "jsonrpc_error");
    }
    let list = tags(named(&spans, "mcp.tools_list"));
    assert_eq!(list["rpc.response.status_code"], "-32603");
    assert_eq!(list["mcp.error_code"], -32603);
}

#[test]
fn a_degraded_session_is_no_error_and_says_why_it_is_no_better() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("degraded-demo", None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let text = format!(
        "[[server]]\nname = \"a\"\nurl = \"http://127.0.0.1:{}/mcp\"\nexpect = {{ min_tools = 1000 }}\n",
        demo.port
    );
    std::fs::write(&file, text).unwrap();
    let target = checked(file.to_str().unwrap(), jaeger.otlp, &[]);
    assert_eq!(target["state"], "degraded", "{target:#}");
    let spans = jaeger.trace(target["trace_id"].as_str().unwrap(), 5);
    let session = tags(named(&spans, "mcp.session"));
    assert_eq!(session["mcpprobe.state"], "degraded");
    assert_eq!(session["mcpprobe.layer"], "tools_list");
    assert_eq!(session["mcpprobe.reason"], "expectation");
    for span in &spans {
        let tags = tags(span);
        assert_eq!(tags.get("error"), None, "{tags:#?}");
        assert_eq!(tags.get("error.type"), None, "{tags:#?}");
    }
}

#[test]
fn a_legacy_session_has_its_id_and_its_negotiation_a_span_of_its_own() {
    let jaeger = Jaeger::start();
    let port = free_port();
    let mut go = std::process::Command::new(crate::support::cache().join("go/server"));
    go.arg("-addr").arg(format!("127.0.0.1:{port}"));
    let _server = crate::support::Program::start(&mut go, port);
    let target = checked(&format!("http://127.0.0.1:{port}/mcp"), jaeger.otlp, &[]);
    assert_eq!(target["era"], "legacy", "{target:#}");
    let spans = jaeger.trace(target["trace_id"].as_str().unwrap(), 6);
    let initialize = tags(named(&spans, "mcp.initialize"));
    assert_eq!(initialize["mcp.session.id"], initialize["mcp.session_id"]);
    assert!(!initialize["mcp.session.id"].as_str().unwrap().is_empty());
    let negotiate = tags(named(&spans, "mcp.negotiate"));
    assert_eq!(negotiate["mcp.method.name"], "server/discover");
}

#[test]
fn the_environment_has_its_way() {
    let jaeger = Jaeger::start();
    let demo = Demo::start("environment", None);
    let url = format!("http://127.0.0.1:{}/mcp", demo.port);
    let cut = [
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4"),
        ("OTEL_SERVICE_NAME", "renamed"),
    ];
    let target = checked(&url, jaeger.otlp, &cut);
    let spans = jaeger.trace(target["trace_id"].as_str().unwrap(), 5);
    assert_eq!(
        tags(named(&spans, "mcp.tools_list"))["mcp.method.name"],
        "tool"
    );
    // Exported after the ones that must not be: those would have come first.
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ] {
        let silent = checked(&url, jaeger.otlp, &[(name, value)]);
        let loud = checked(&url, jaeger.otlp, &[]);
        jaeger.trace(loud["trace_id"].as_str().unwrap(), 5);
        let path = format!("/api/traces/{}", silent["trace_id"].as_str().unwrap());
        let (status, _) = crate::support::http("GET", jaeger.query, &path, &[], "");
        assert_eq!(status, 404, "{name}={value} was not honoured");
    }
}
