//! The real Zipkin: what `watch` and a server sent as OTLP to a real collector is asked for there. Between them the
//! spans are made Zipkin's as OpenTelemetry's specification says, for this collector cannot.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{
    Demo, Program, Small, Watch, cache, empty_answer, eventually, free_port, here, http,
};

/// A Zipkin with its spans in memory, and a collector before it.
pub(crate) struct Zipkin {
    _server: Program,
    _collector: Program,
    pub(crate) query: u16,
    /// OTLP over HTTP.
    pub(crate) otlp: u16,
}

impl Zipkin {
    pub(crate) fn start() -> Self {
        let (query, otlp) = (free_port(), free_port());
        let server = Program::start(
            Command::new("java")
                .args(["-Xmx256m", "-jar"])
                .arg(cache().join("zipkin/zipkin-server-exec.jar"))
                .env("QUERY_PORT", query.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
            query,
        );
        eventually("a healthy Zipkin", || {
            (http("GET", query, "/health", &[], "").0 == 200).then_some(())
        });
        let sink = Small::start(move |asked| {
            let spans = zipkins(&asked.body).to_string();
            let headers = [("Content-Type", "application/json")];
            match http("POST", query, "/api/v2/spans", &headers, &spans).0 {
                202 => empty_answer("200 OK"),
                _ => empty_answer("503 Service Unavailable"),
            }
        });
        let config = here("servers/collector-to-json.yaml");
        let collector = Program::start(
            Command::new(cache().join("jaeger/jaeger"))
                .arg(format!("--config=file:{}", config.display()))
                .env("SINK_PORT", sink.port.to_string())
                .env("OTLP_HTTP_PORT", otlp.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
            otlp,
        );
        Self {
            _server: server,
            _collector: collector,
            query,
            otlp,
        }
    }

    /// Takes spans as Zipkin has them.
    fn post(&self, spans: &Value) {
        let headers = [("Content-Type", "application/json")];
        let (status, said) = http(
            "POST",
            self.query,
            "/api/v2/spans",
            &headers,
            &spans.to_string(),
        );
        assert_eq!(status, 202, "{said}");
    }

    /// What `[traces]` and `[telemetry]` say of it.
    pub(crate) fn settings(&self) -> String {
        format!(
            r#"
            [telemetry]
            endpoint = "http://127.0.0.1:{}"
            [traces]
            backend = "zipkin"
            url = "http://127.0.0.1:{}"
            recheck = ["3s", "7s", "14s"]
            "#,
            self.otlp, self.query
        )
    }
}

/// OTLP's spans as Zipkin's, by "OpenTelemetry to Zipkin Transformation".
fn zipkins(otlp: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| match value.as_object().and_then(|typed| typed.values().next()) {
        Some(Value::String(text)) => text.clone(),
        other => other.map(Value::to_string).unwrap_or_default(),
    };
    let mut spans = Vec::new();
    for of_resource in list(&otlp["resourceSpans"]) {
        let resource = list(&of_resource["resource"]["attributes"]);
        let service = resource.iter().find(|a| a["key"] == "service.name");
        let service = service.map(|a| text(&a["value"])).unwrap_or_default();
        for of_scope in list(&of_resource["scopeSpans"]) {
            for span in list(&of_scope["spans"]) {
                let nanos = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
                let (start, end) = (nanos("startTimeUnixNano"), nanos("endTimeUnixNano"));
                let mut tags = serde_json::Map::new();
                for attribute in resource.iter().chain(&list(&span["attributes"])) {
                    let key = attribute["key"].as_str().unwrap().to_owned();
                    tags.insert(key, text(&attribute["value"]).into());
                }
                tags.insert("otel.scope.name".into(), of_scope["scope"]["name"].clone());
                if span["status"]["code"] == 2 {
                    let message = span["status"]["message"].as_str().unwrap_or_default();
                    tags.insert("otel.status_code".into(), "ERROR".into());
                    tags.insert("error".into(), message.into());
                }
                let mut zipkin = json!({
                    "traceId": span["traceId"], "id": span["spanId"], "name": span["name"],
                    "timestamp": start / 1000, "duration": ((end - start) / 1000).max(1),
                    "localEndpoint": {"serviceName": service}, "tags": tags,
                });
                if span["parentSpanId"]
                    .as_str()
                    .is_some_and(|id| !id.is_empty())
                {
                    zipkin["parentId"] = span["parentSpanId"].clone();
                }
                match span["kind"].as_u64() {
                    Some(2) => zipkin["kind"] = "SERVER".into(),
                    Some(3) => zipkin["kind"] = "CLIENT".into(),
                    _ => {}
                }
                spans.push(zipkin);
            }
        }
    }
    spans.into()
}

/// What the API's file is written from: not found, empty, a limit, and times in three units.
#[test]
fn zipkin_says_what_the_recorded_answers_say() {
    let zipkin = Zipkin::start();
    let get = |path: &str| http("GET", zipkin.query, path, &[], "");
    let (status, said) = get("/api/v2/trace/000000000000000000000000000abcde");
    assert_eq!(status, 404);
    assert_eq!(
        said.strip_suffix(" not found")
            .unwrap()
            .trim_start_matches('0'),
        "abcde"
    );
    let (status, said) = get("/api/v2/traces?serviceName=nobody&limit=1500");
    assert_eq!((status, said.as_str()), (200, "[]"));
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let span = |trace: &str, name: &str| {
        json!({"traceId": trace, "id": "00000000000000c1", "kind": "SERVER", "name": name,
            "timestamp": u64::try_from(now.as_micros()).unwrap(), "duration": 1500,
            "localEndpoint": {"serviceName": "Weather-MCP"}, "tags": {"error": "broken"}})
    };
    zipkin.post(&json!([
        span("00000000000000000000000000000a01", "Tools/Call"),
        span("00000000000000000000000000000a02", "b"),
    ]));
    let path = format!(
        "/api/v2/traces?serviceName=weather-mcp&endTs={}&lookback=60000&limit=",
        now.as_millis() + 1
    );
    let found: Value = eventually("both traces", || {
        let found: Value = serde_json::from_str(&get(&format!("{path}10")).1).unwrap();
        (found.as_array().unwrap().len() == 2).then_some(found)
    });
    // Letters are folded, in the service and in the name.
    assert!(
        found.to_string().contains(r#""serviceName":"weather-mcp""#),
        "{found}"
    );
    assert!(found.to_string().contains("tools/call"), "{found}");
    // A limit cuts without a word.
    let cut: Value = serde_json::from_str(&get(&format!("{path}1")).1).unwrap();
    assert_eq!(cut.as_array().unwrap().len(), 1);
}

/// The last verdict on a server with a name of both cases after it was broken.
fn verdict_after(service: &str, break_it: impl FnOnce(Demo) -> Option<Demo>, expected: &str) {
    let zipkin = Zipkin::start();
    let demo = Demo::start(service, Some(zipkin.otlp));
    let watch = Watch::start(&format!(
        r#"
        [defaults]
        every = "1s"
        timeout = "2s"
        [[server]]
        name = "target"
        url = "{}"
        service = "{service}"
        {}
        "#,
        demo.url(),
        zipkin.settings()
    ));
    watch.until_state("target", "up");
    // Longer than a span may be late, so that the passed probes before the fault count.
    std::thread::sleep(std::time::Duration::from_secs(14));
    let _still_there = break_it(demo);
    watch.until_state("target", "down");
    let line = watch.until_verdict("target");
    assert_eq!(line["verdict"], expected, "{line}");
}

#[test]
fn zipkin_application_when_the_server_answers_with_errors() {
    let break_it = |demo: Demo| {
        demo.fail("initialize");
        Some(demo)
    };
    verdict_after("Zipkin-Application", break_it, "application");
}

#[test]
fn zipkin_infrastructure_when_the_server_is_gone() {
    let break_it = |demo| {
        drop(demo);
        None
    };
    verdict_after("Zipkin-Infrastructure", break_it, "infrastructure");
}
