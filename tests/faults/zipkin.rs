//! A real Zipkin, fed as the collector's Zipkin exporter does.

use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::network::port;
use super::otlp::{Span, pairs, spans};
use crate::support::{Program, Small, cache, empty_answer, eventually, http};

pub(super) struct Zipkin {
    pub(super) program: Program,
    pub(super) port: u16,
    /// Where OTLP is taken, as JSON.
    pub(super) otlp: u16,
}

impl Zipkin {
    pub(super) fn start() -> Self {
        let port = port();
        let mut command = Command::new("java");
        command
            // It lives for a minute.
            .args([
                "-Xmx512m",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-jar",
            ])
            .arg(cache().join("zipkin/zipkin-server-exec.jar"))
            .env("QUERY_PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let program = Program::start(&mut command, port);
        eventually("Zipkin", || {
            (http("GET", port, "/health", &[], "").0 == 200).then_some(())
        });
        let otlp = super::network::port();
        Small::start_on(otlp, move |asked| {
            let spans: Vec<_> = spans(&asked.body).iter().map(translated).collect();
            let headers = [("Content-Type", "application/json")];
            let body = Value::from(spans).to_string();
            let (status, _) = http("POST", port, "/api/v2/spans", &headers, &body);
            match status {
                202 => empty_answer("200 OK"),
                _ => empty_answer("503 Service Unavailable"),
            }
        });
        Self {
            program,
            port,
            otlp,
        }
    }
}

fn translated(span: &Span) -> Value {
    let mut tags: Map<String, Value> = pairs(&span.resource)
        .into_iter()
        .filter(|(key, _)| key != "service.name")
        .chain(pairs(&span.span["attributes"]))
        .map(|(key, value)| (key, value.into()))
        .collect();
    tags.insert("otel.scope.name".to_owned(), span.scope.clone());
    if span.is_error() {
        tags.insert("otel.status_code".to_owned(), "ERROR".into());
        let message = span.message();
        tags.insert(
            "error".to_owned(),
            if message.is_empty() { "true" } else { message }.into(),
        );
    }
    let (start, end) = (
        span.nanos("startTimeUnixNano"),
        span.nanos("endTimeUnixNano"),
    );
    let mut translated = json!({
        "traceId": span.text("traceId"),
        "id": span.text("spanId"),
        "name": span.text("name"),
        "timestamp": start / 1_000,
        // Zipkin takes none for one that is not known.
        "duration": ((end - start) / 1_000).max(1),
        "localEndpoint": { "serviceName": span.service() },
        "tags": tags,
    });
    let parent = span.text("parentSpanId");
    if !parent.is_empty() {
        translated["parentId"] = parent.into();
    }
    if ["SERVER", "CLIENT", "PRODUCER", "CONSUMER"].contains(&span.kind()) {
        translated["kind"] = span.kind().into();
    }
    translated
}
