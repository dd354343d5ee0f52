//! What the embedded trace backend answers: by its commands, by its API, and as Jaeger would.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpprobe::daemon::api::{Reply, answer};
use mcpprobe::traces::{ListenSettings, Reader, Receiver, Store, StoreSettings};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde_json::Value;

use crate::support::{Demo, Watch, eventually, free_port, http, mcpprobe, run};

const WEATHER: &str = "0af7651916cd43dd8448eb211c80319c";
const FILES: &str = "1bf7651916cd43dd8448eb211c80319c";

fn key(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(value: &str) -> Any {
    Any::StringValue(value.to_owned())
}

struct Told<'a> {
    trace: &'a str,
    id: u8,
    parent: u8,
    name: &'a str,
    /// Seconds ago, and how many milliseconds it took.
    ago: u64,
    took: u64,
    error: Option<&'a str>,
    attributes: Vec<KeyValue>,
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn span(told: Told<'_>, now: SystemTime) -> Span {
    let start = now - Duration::from_secs(told.ago);
    let start = u64::try_from(start.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    Span {
        trace_id: bytes(told.trace),
        span_id: vec![told.id; 8],
        parent_span_id: match told.parent {
            0 => Vec::new(),
            parent => vec![parent; 8],
        },
        name: told.name.to_owned(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + told.took * 1_000_000,
        attributes: told.attributes,
        status: told.error.map(|message| Status {
            message: message.to_owned(),
            code: StatusCode::Error.into(),
        }),
        ..Span::default()
    }
}

fn request(service: &str, spans: Vec<Span>) -> Vec<u8> {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![key("service.name", text(service))],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "test".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

/// A configuration with a file of spans beside it: an agent's call of a tool that failed below, and a listing that did not.
struct Kept {
    folder: tempfile::TempDir,
    receiver: Receiver,
    store: Store,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = "[traces]\notlp_http = \"off\"\notlp_grpc = \"off\"\npath = \"spans.db\"\n";
        std::fs::write(folder.path().join("servers.toml"), config).unwrap();
        let settings = StoreSettings {
            path: folder.path().join("spans.db"),
            keep: Duration::from_secs(7 * 24 * 3600),
            max_size: 100_000_000,
            keep_content: false,
        };
        let store = Store::open(settings, Arc::new(|why| panic!("{why}"))).unwrap();
        let listen = ListenSettings {
            http: Some(([127, 0, 0, 1], 0).into()),
            ..ListenSettings::default()
        };
        let receiver = Receiver::start(listen, store.intake(), Arc::new(|why| panic!("{why}")));
        let kept = Self {
            folder,
            receiver,
            store,
        };
        let now = SystemTime::now();
        kept.record(
            "agent",
            vec![span(
                Told {
                    trace: WEATHER,
                    id: 1,
                    parent: 0,
                    name: "chat",
                    ago: 60,
                    took: 400,
                    error: None,
                    attributes: vec![key("gen_ai.conversation.id", text("talk-1"))],
                },
                now,
            )],
        );
        kept.record(
            "weather-mcp",
            vec![
                span(
                    Told {
                        trace: WEATHER,
                        id: 2,
                        parent: 1,
                        name: "tools/call forecast",
                        ago: 60,
                        took: 300,
                        error: Some("no data"),
                        attributes: vec![
                            key("mcp.method.name", text("tools/call")),
                            key("gen_ai.tool.name", text("forecast")),
                            key(
                                "gen_ai.tool.call.arguments",
                                text("{\"city\":\"Secretville\"}"),
                            ),
                            key("http.response.status_code", Any::IntValue(503)),
                        ],
                    },
                    now,
                ),
                span(
                    Told {
                        trace: FILES,
                        id: 3,
                        parent: 0,
                        name: "tools/list",
                        ago: 30,
                        took: 5,
                        error: None,
                        attributes: vec![key("mcp.session.id", text("s-9"))],
                    },
                    now,
                ),
            ],
        );
        kept.store.flush();
        kept
    }

    fn record(&self, service: &str, spans: Vec<Span>) {
        let body = request(service, spans);
        let mut stream = TcpStream::connect(self.receiver.http.unwrap()).unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn file(&self) -> String {
        self.folder
            .path()
            .join("servers.toml")
            .display()
            .to_string()
    }

    fn asked(&self, path: &str, query: &str) -> Reply {
        let reader = Reader::open(&self.folder.path().join("spans.db"));
        answer(&reader, path, query, SystemTime::now()).unwrap_or_else(|| panic!("{path}"))
    }

    fn ids(&self, words: &[&str]) -> Vec<String> {
        let mut all = vec!["traces", "--format", "json"];
        let file = self.file();
        all.push(&file);
        all.extend(words);
        let output = run(&all);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], 1);
        let traces = document["traces"].as_array().unwrap().iter();
        traces
            .map(|trace| trace["trace_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn traces_are_listed_newest_first_and_by_everything_that_they_can_be_asked_by() {
    let kept = Kept::new();
    let cases: [(&[&str], &[&str]); 11] = [
        (&[], &[FILES, WEATHER]),
        (&["--service", "agent"], &[WEATHER]),
        (&["--service", "nobody"], &[]),
        (&["--status", "error"], &[WEATHER]),
        (&["--status", "ok"], &[FILES]),
        (&["--since", "45s"], &[FILES]),
        (&["--min-duration", "100ms"], &[WEATHER]),
        (&["--session", "s-9"], &[FILES]),
        (&["--session", "talk-1"], &[WEATHER]),
        (&["--tool", "forecast"], &[WEATHER]),
        (&["--limit", "1"], &[FILES]),
    ];
    for (words, expected) in cases {
        assert_eq!(kept.ids(words), expected, "{words:?}");
    }
    let table = run(&["traces", &kept.file()]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("error (1)") && table.contains("agent, weather-mcp"),
        "{table}"
    );
    let groups = run(&[
        "traces",
        &kept.file(),
        "--by",
        "service",
        "--format",
        "json",
    ]);
    let groups: Value = serde_json::from_slice(&groups.stdout).unwrap();
    let counted: BTreeSet<_> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            (
                group["service"].as_str().unwrap(),
                group["traces"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(counted, [("agent", 1), ("weather-mcp", 2)].into());
}

#[test]
fn a_trace_is_drawn_with_its_errors_and_without_anybodys_arguments() {
    let kept = Kept::new();
    let drawn = run(&["trace", WEATHER, &kept.file(), "--attributes"]);
    assert_eq!(drawn.status.code(), Some(0), "{drawn:?}");
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.contains("└─ tools/call forecast"), "{drawn}");
    assert!(drawn.contains("error: no data"), "{drawn}");
    assert!(drawn.contains("gen_ai.tool.name  forecast"), "{drawn}");
    assert!(!drawn.contains("Secretville"), "{drawn}");
    let one = run(&["trace", WEATHER, &kept.file(), "--span", "0202020202020202"]);
    assert!(
        String::from_utf8(one.stdout)
            .unwrap()
            .contains("http.response.status_code  503")
    );
    let json = run(&["trace", WEATHER, &kept.file(), "--format", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["status"], "error");
    assert_eq!(json["spans"][1]["parent_id"], "0101010101010101");
    assert_eq!(json["spans"][1]["status_message"], "no data");
    for (words, said) in [
        (["trace", "12z", &kept.file()], "no trace's id"),
        (
            ["trace", "ffffffffffffffffffffffffffffffff", &kept.file()],
            "there is no trace",
        ),
    ] {
        let output = run(&words);
        assert_eq!(output.status.code(), Some(3));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn who_keeps_traces_elsewhere_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    for (config, said) in [
        ("", "has no [traces]"),
        (
            "[telemetry]\nendpoint = \"http://localhost:1\"\n[traces]\nbackend = \"jaeger\"\nurl = \"http://localhost:2\"\n",
            "in jaeger",
        ),
        ("[traces]\n", "has not been made yet"),
    ] {
        std::fs::write(&file, config).unwrap();
        let output = mcpprobe().arg("traces").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(said), "{stderr}");
    }
}

/// What Jaeger 2.13 answers to the same questions: status, and how many traces.
#[test]
fn jaegers_clients_find_what_they_look_for() {
    let kept = Kept::new();
    let micros = |ago: u64| {
        let at = SystemTime::now() - Duration::from_secs(ago);
        at.duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros()
            .to_string()
    };
    let (from, to) = (micros(120), micros(0));
    let cases = [
        ("service=weather-mcp".to_owned(), 200, 2),
        (
            format!(
                "service=weather-mcp&start={from}&end={to}&limit=20&lookback=custom&maxDuration&minDuration"
            ),
            200,
            2,
        ),
        (
            format!("service=weather-mcp&start={}&end={to}", micros(45)),
            200,
            1,
        ),
        (
            "service=weather-mcp&operation=tools%2Flist".to_owned(),
            200,
            1,
        ),
        (
            "service=weather-mcp&tags=%7B%22http.response.status_code%22%3A%22503%22%7D".to_owned(),
            200,
            1,
        ),
        (
            "service=weather-mcp&tags=%7B%22error%22%3A%22true%22%7D".to_owned(),
            200,
            1,
        ),
        (
            "service=agent&tags=%7B%22error%22%3A%22true%22%7D".to_owned(),
            200,
            0,
        ),
        (
            "service=weather-mcp&tag=gen_ai.tool.name:forecast".to_owned(),
            200,
            1,
        ),
        ("service=weather-mcp&minDuration=100ms".to_owned(), 200, 1),
        ("service=weather-mcp&maxDuration=100ms".to_owned(), 200, 1),
        // Of the trace's 400 ms these are the agent's, and 300 the server's.
        ("service=weather-mcp&minDuration=350ms".to_owned(), 200, 0),
        ("service=agent&minDuration=350ms".to_owned(), 200, 1),
        ("service=weather-mcp&maxDuration=350ms".to_owned(), 200, 2),
        (
            "service=weather-mcp&operation=tools%2Flist&minDuration=100ms".to_owned(),
            200,
            0,
        ),
        ("service=weather-mcp&limit=1".to_owned(), 200, 1),
        ("service=nosuch".to_owned(), 200, 0),
        (format!("traceID={WEATHER}&traceID={FILES}"), 200, 2),
        ("traceID=abc".to_owned(), 200, 0),
        (
            "service=weather-mcp&tags=%7B%22a%22%3A1%7D".to_owned(),
            400,
            0,
        ),
        ("service=weather-mcp&limit=0".to_owned(), 400, 0),
        ("service=weather-mcp&minDuration=soon".to_owned(), 400, 0),
    ];
    for (query, status, count) in &cases {
        let reply = kept.asked("/api/traces", query);
        assert_eq!(reply.status, *status, "{query}: {}", reply.body);
        let found = reply.body["data"].as_array().map_or(0, Vec::len);
        assert_eq!(found, *count, "{query}: {}", reply.body);
        assert_eq!(reply.body["errors"].is_null(), *status == 200, "{query}");
    }
}

#[test]
fn jaegers_clients_are_answered_in_its_shape() {
    let kept = Kept::new();
    let reply = kept.asked(&format!("/api/traces/{WEATHER}"), "");
    let span = &reply.body["data"][0]["spans"][1];
    assert_eq!(span["operationName"], "tools/call forecast");
    assert_eq!(span["references"][0]["refType"], "CHILD_OF");
    assert_eq!(span["duration"], 300_000);
    let process = span["processID"].as_str().unwrap();
    assert_eq!(
        reply.body["data"][0]["processes"][process]["serviceName"],
        "weather-mcp"
    );
    assert!(span["tags"].as_array().unwrap().contains(
        &serde_json::json!({ "key": "http.response.status_code", "type": "int64", "value": 503 })
    ));
    assert_eq!(kept.asked("/api/traces/ffff", "").status, 404);
    assert_eq!(kept.asked("/api/traces/zzz", "").status, 400);
    assert_eq!(
        kept.asked("/api/services", "").body["data"],
        serde_json::json!(["agent", "weather-mcp"])
    );
    assert_eq!(
        kept.asked("/api/services/weather-mcp/operations", "").body["data"],
        serde_json::json!(["tools/call forecast", "tools/list"])
    );
    let operations = kept.asked("/api/operations", "service=agent&spanKind=server");
    assert_eq!(
        operations.body["data"],
        serde_json::json!([{ "name": "chat", "spanKind": "server" }])
    );
    let calls = kept.asked("/api/dependencies", "");
    assert_eq!(
        calls.body["data"],
        serde_json::json!([{ "parent": "agent", "child": "weather-mcp", "callCount": 1 }])
    );
}

#[test]
fn our_own_api_lists_shows_and_counts() {
    let kept = Kept::new();
    let list = kept.asked("/api/traces", "status=error&since=1h");
    assert_eq!(list.body["schema"], 1);
    assert_eq!(list.body["traces"][0]["trace_id"], WEATHER);
    assert_eq!(list.body["traces"][0]["session"], "talk-1");
    assert_eq!(list.body["data"], serde_json::json!([]));
    // Ours is that of the whole trace.
    let long = kept.asked("/api/traces", "service=weather-mcp&min_duration=350ms");
    assert_eq!(long.body["traces"][0]["trace_id"], WEATHER);
    let trace = kept.asked(&format!("/api/traces/{FILES}"), "");
    assert_eq!(trace.body["spans"][0]["name"], "tools/list");
    let projects = kept.asked("/api/projects", "");
    let names: Vec<_> = projects.body["projects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|project| project["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["agent", "weather-mcp"]);
    for (query, key) in [("since=soon", "since"), ("status=bad", "status")] {
        let reply = kept.asked("/api/traces", query);
        assert_eq!(reply.status, 400);
        assert!(
            reply.body["errors"][0]["msg"]
                .as_str()
                .unwrap()
                .contains(key)
        );
    }
    let reader = Reader::open(&kept.folder.path().join("spans.db"));
    assert!(answer(&reader, "/api/nothing", "", SystemTime::now()).is_none());
}

/// Spans of the largest values that are kept: some six megabytes.
fn bulk(trace: &str, from: u8) -> Vec<Span> {
    let spans = (from..from + 100).map(|id| {
        let attributes = (0..15).map(|n| key(&n.to_string(), text(&"x".repeat(4_000))));
        let told = Told {
            trace,
            id,
            parent: 0,
            name: "large",
            ago: 20,
            took: 1,
            error: None,
            attributes: attributes.collect(),
        };
        span(told, SystemTime::now())
    });
    spans.collect()
}

#[test]
fn an_answer_that_would_be_too_large_is_cut_and_says_so() {
    const MEDIUM: &str = "2bf7651916cd43dd8448eb211c80319c";
    const LARGE: &str = "3bf7651916cd43dd8448eb211c80319c";
    let kept = Kept::new();
    kept.record("bulk", bulk(MEDIUM, 1));
    kept.record("bulk", bulk(MEDIUM, 101));
    // Six times as much: ids are one byte here, so services tell them apart.
    for service in ["a", "b", "c"] {
        kept.record(service, bulk(LARGE, 1));
        kept.record(service, bulk(LARGE, 101));
    }
    kept.store.flush();
    let told = |query: &str| {
        let reply = kept.asked("/api/traces", query);
        assert_eq!(reply.status, 200);
        let cut = reply.body["truncated"].as_bool().unwrap();
        assert_eq!(reply.body["errors"][0]["code"] == 206, cut, "{query}");
        (reply.body["data"].as_array().unwrap().len(), cut)
    };
    // However often one is asked for, it is told once.
    let again = format!("traceID={MEDIUM}&traceID={MEDIUM}&traceID={MEDIUM}&traceID={FILES}");
    assert_eq!(told(&again), (2, false));
    assert_eq!(
        told(&format!("traceID={LARGE}&traceID={MEDIUM}")),
        (1, true)
    );
    assert_eq!(told("service=bulk"), (1, false));
    let large = kept.asked(&format!("/api/traces/{LARGE}"), "").body;
    assert_eq!(large["truncated"], true);
    assert!(large["data"][0]["warnings"][0].is_string());
    let spans = large["spans"].as_array().unwrap().len();
    assert!((400..600).contains(&spans), "{spans}");
    let medium = kept.asked(&format!("/api/traces/{MEDIUM}"), "").body;
    assert_eq!(medium["truncated"], false);
    assert!(medium["data"][0]["warnings"].is_null());
    assert_eq!(medium["span_count"], 200);
}

#[test]
fn what_cannot_be_read_is_an_error_to_whoever_asks() {
    let kept = Kept::new();
    let file = rusqlite::Connection::open(kept.folder.path().join("spans.db")).unwrap();
    file.execute("UPDATE content SET bytes = x'00'", [])
        .unwrap();
    for (path, query) in [
        ("/api/traces".to_owned(), "service=agent"),
        ("/api/traces".to_owned(), "since=1h"),
        (format!("/api/traces/{WEATHER}"), ""),
        ("/api/services/agent/operations".to_owned(), ""),
    ] {
        let reply = kept.asked(&path, query);
        assert_eq!(reply.status, 503, "{path}: {}", reply.body);
    }
    let file = kept.file();
    for words in [vec!["traces", &file], vec!["trace", WEATHER, &file]] {
        let output = run(&words);
        assert_eq!(output.status.code(), Some(3));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("is damaged"), "{stderr}");
    }
}

/// Under `watch`: spans come in, questions are answered, and who has an alert of their own is told whose fault it is.
#[test]
fn a_watch_answers_at_the_port_at_which_it_receives() {
    let demo = Demo::start("asked-mcp", None);
    let port = free_port();
    let watch = Watch::start(&format!(
        r#"
        [defaults]
        every = "1s"
        [[server]]
        name = "asked"
        url = "{}"
        [traces]
        otlp_http = "127.0.0.1:{port}"
        otlp_grpc = "off"
        token = "s3cret"
        "#,
        demo.url()
    ));
    watch.until_state("asked", "up");
    let token = [("Authorization", "Bearer s3cret")];
    let services = eventually("our own spans", || {
        let (status, body) = http("GET", port, "/api/services", &token, "");
        assert_eq!(status, 200, "{body}");
        let services: Value = serde_json::from_str(&body).unwrap();
        (services["data"] != serde_json::json!([])).then_some(services)
    });
    assert_eq!(services["data"], serde_json::json!(["mcpprobe"]));
    assert_eq!(http("GET", port, "/api/services", &[], "").0, 401);
    assert_eq!(http("DELETE", port, "/api/services", &token, "").0, 405);
    assert_eq!(http("GET", port, "/api/nothing", &token, "").0, 404);
    let at = humantime::format_rfc3339_seconds(SystemTime::now() - Duration::from_secs(1));
    let alert = format!(r#"{{"server": "asked", "at": "{at}"}}"#);
    let (status, body) = http("POST", port, "/api/correlate", &token, &alert);
    assert_eq!(status, 200, "{body}");
    let verdict: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(verdict["server"], "asked");
    assert_eq!(verdict["backend"], "embedded");
    assert_eq!(verdict["verdict"], "not_instrumented", "{verdict:#}");
    for wrong in [
        "",
        "{}",
        r#"{"server": "nobody", "at": "2026-01-01T00:00:00Z"}"#,
    ] {
        let (status, body) = http("POST", port, "/api/correlate", &token, wrong);
        assert_eq!(status, 400, "{body}");
    }
}
