//! The exporters of five SDKs, and our own spans without one.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use mcpprobe::model::{AttributeValue, RecordedKind, TraceId};
use mcpprobe::traces::{Outcome, TraceFilter, convention};
use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{
    Compression, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    SdkTracerProvider, SimpleSpanProcessor, SpanData, SpanExporter as _,
};

use super::rig::Rig;
use crate::support::{cache, here};

/// Spans as the SDK hands them over.
#[derive(Clone, Debug, Default)]
struct Finished(Arc<Mutex<Vec<SpanData>>>);

impl Finished {
    fn spans(&self) -> Vec<SpanData> {
        self.0.lock().unwrap().clone()
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Finished {
    async fn export(&self, batch: Vec<SpanData>) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// A call of a tool, and what it called.
fn record(provider: &SdkTracerProvider) -> TraceId {
    let tracer = provider.tracer("weather");
    let call = tracer
        .span_builder("tools/call weather")
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("mcp.method.name", "tools/call"),
            KeyValue::new("gen_ai.tool.name", "weather"),
            KeyValue::new("mcp.session.id", "session-1"),
            KeyValue::new("gen_ai.tool.call.arguments", "{\"city\": \"Vienna\"}"),
            KeyValue::new("http.request.header.authorization", "Bearer x"),
            KeyValue::new("url.full", "https://me:pw@api.example/v1?api_key=x&q=1"),
        ])
        .start(&tracer);
    let id = TraceId(call.span_context().trace_id().to_bytes());
    let context = Context::new().with_span(call);
    let mut child = tracer
        .span_builder("GET")
        .with_kind(SpanKind::Client)
        .start_with_context(&tracer, &context);
    child.add_event("exception", vec![KeyValue::new("exception.message", "no")]);
    child.set_status(Status::error("upstream"));
    child.end();
    context.span().end();
    id
}

fn check(rig: &Rig, id: TraceId, service: &str) {
    rig.store.flush();
    let reader = rig.store.reader();
    let spans = reader.trace(id).unwrap().spans;
    let [call, child] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(call.service.as_str(), service);
    assert_eq!(
        (call.kind, child.kind),
        (RecordedKind::Server, RecordedKind::Client)
    );
    assert_eq!(child.parent, Some(call.span_id));
    assert_eq!(
        child.events[0].attributes[0].value,
        AttributeValue::Text("no".to_owned())
    );
    assert_eq!(convention::outcome(child), Outcome::Error);
    assert_eq!(convention::session(call).unwrap(), "session-1");
    assert_eq!(convention::method(call).unwrap(), "tools/call");
    let mut kept: Vec<_> = call.attributes.iter().map(|a| a.key.as_str()).collect();
    // Java sorts them.
    kept.sort_unstable();
    let expected = [
        "gen_ai.tool.name",
        "mcp.method.name",
        "mcp.session.id",
        "url.full",
    ];
    assert_eq!(kept, expected);
    assert_eq!(call.dropped, 2);
    let url = call.attribute("url.full").unwrap().plain();
    assert_eq!(
        url,
        "https://REDACTED:REDACTED@api.example/v1?api_key=REDACTED&q=1"
    );
    let by_session = TraceFilter {
        session: Some("session-1".to_owned()),
        outcome: Some(Outcome::Error),
        service: Some(service.to_owned()),
        ..TraceFilter::default()
    };
    let listed = reader.list(&by_session, 5).unwrap().traces;
    assert!(
        listed
            .iter()
            .any(|trace| trace.id == id && trace.spans == 2)
    );
}

/// Exports what a process of another thread has recorded, as the SDK batches it.
async fn export(exporter: SpanExporter, rig: &Rig) {
    let memory = Finished::default();
    let resource = Resource::builder().with_service_name("weather-mcp").build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SimpleSpanProcessor::new(memory.clone()))
        .with_resource(resource.clone())
        .build();
    let id = record(&provider);
    let mut exporter = exporter;
    exporter.set_resource(&resource);
    exporter.export(memory.spans()).await.unwrap();
    check(rig, id, "weather-mcp");
}

/// Has a program of `tests/exporters` send its call of a tool to each port, plain and gzipped.
fn exported_by(command: impl Fn() -> Command, json: bool) {
    let rig = Rig::start();
    let grpc = format!("http://{}", rig.receiver.grpc.unwrap());
    let mut ways = vec![("http/protobuf", rig.url()), ("grpc", grpc)];
    if json {
        ways.push(("http/json", rig.url()));
    }
    for (protocol, endpoint) in ways {
        for compression in [None, Some("gzip")] {
            let mut command = command();
            // Python knows no word for none.
            if let Some(compression) = compression {
                command.env("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
            }
            let output = command
                .env("OTEL_SERVICE_NAME", "weather-mcp")
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
                .env("OTEL_METRICS_EXPORTER", "none")
                .env("OTEL_LOGS_EXPORTER", "none")
                .output()
                .unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            let id: TraceId = printed.trim().parse().unwrap_or_else(|error| {
                panic!("{protocol}, {compression:?}: {error:?}, {output:?}")
            });
            check(&rig, id, "weather-mcp");
        }
    }
    assert!(rig.warnings().is_empty(), "{:?}", rig.warnings());
}

#[test]
fn python() {
    let program = || {
        let mut command = Command::new(cache().join("exporter-python/bin/python"));
        command.arg(here("exporters/python/exporter.py"));
        command
    };
    exported_by(program, false);
}

#[test]
fn node() {
    let program = || {
        let mut command = Command::new("node");
        command.arg(cache().join("exporter-node/exporter.mjs"));
        command
    };
    exported_by(program, true);
}

#[test]
fn go() {
    exported_by(|| Command::new(cache().join("exporter-go/server")), false);
}

#[test]
fn java() {
    let program = || {
        let mut command = Command::new("java");
        command.arg("-cp").arg(cache().join("exporter-java/*"));
        command.arg(here("exporters/java/Exporter.java"));
        command
    };
    exported_by(program, false);
}

#[tokio::test]
async fn rust_over_http() {
    let rig = Rig::start();
    for compression in [None, Some(Compression::Gzip)] {
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_http_client(rig.client.clone())
            .with_endpoint(format!("{}/v1/traces", rig.url()))
            .with_protocol(Protocol::HttpBinary);
        if let Some(compression) = compression {
            builder = builder.with_compression(compression);
        }
        export(builder.build().unwrap(), &rig).await;
    }
}

#[tokio::test]
async fn rust_over_grpc() {
    let rig = Rig::start();
    for compression in [None, Some(Compression::Gzip)] {
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", rig.receiver.grpc.unwrap()));
        if let Some(compression) = compression {
            builder = builder.with_compression(compression);
        }
        export(builder.build().unwrap(), &rig).await;
    }
}

/// The last probes' spans come in while everything ends.
#[tokio::test]
async fn our_own_spans_that_wait_at_the_end_are_taken_in() {
    let memory = Finished::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SimpleSpanProcessor::new(memory.clone()))
        .build();
    record(&provider);
    for _ in 0..10 {
        let rig = Rig::start();
        let own = rig.receiver.own_spans();
        for _ in 0..30 {
            assert!(own.put(memory.spans()));
        }
        assert_eq!(rig.end().0, 60);
    }
}

#[tokio::test]
async fn our_own_spans_need_no_network() {
    let rig = Rig::start();
    let memory = Finished::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SimpleSpanProcessor::new(memory.clone()))
        .build();
    let before = SystemTime::now();
    let id = record(&provider);
    assert!(rig.receiver.own_spans().put(memory.spans()));
    crate::support::eventually("our own spans", || {
        (rig.receiver.received().accepted == 2).then_some(())
    });
    check(&rig, id, "mcpprobe");
    let now = SystemTime::now();
    let window = mcpprobe::model::Window {
        from: before,
        to: now,
    };
    let found = rig
        .store
        .reader()
        .service_window("mcpprobe", window, 10)
        .unwrap();
    assert_eq!((found.spans.len(), found.truncated), (2, false));
}
