//! What the protocol says of answers, and of who may send.

use mcpprobe::model::{AttributeValue, RecordedKind, Secret, SpanStatus};
use mcpprobe::traces::{ListenSettings, Receiver};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::rig::{JSON, Options, PROTOBUF, Rig, nanos, request, span};
use std::sync::Arc;
use std::time::SystemTime;

#[tokio::test]
async fn answers_are_in_the_senders_encoding() {
    let rig = Rig::start();
    let answer = rig
        .post(PROTOBUF, request("a", vec![span(7, 1)]).encode_to_vec())
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], PROTOBUF);
    assert!(answer.bytes().await.unwrap().is_empty());
    let answer = rig.post(JSON, b"{}".to_vec()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], JSON);
    assert_eq!(answer.text().await.unwrap(), "{}");
    let answer = rig
        .post("application/json; charset=utf-8", b"{".to_vec())
        .await;
    assert_eq!(answer.status(), 400);
    let status: Value = answer.json().await.unwrap();
    assert_eq!(status["code"], 3);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("cannot decode")
    );
    let answer = rig.post(PROTOBUF, vec![255]).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], PROTOBUF);
    let status = tonic_types::Status::decode(answer.bytes().await.unwrap()).unwrap();
    assert_eq!(status.code, 3);
}

#[tokio::test]
async fn json_is_read_as_protobuf_is() {
    let rig = Rig::start();
    let start = nanos(SystemTime::now());
    let body = json!({"resourceSpans": [{
        "scopeSpans": [{
            "spans": [{
                "traceId": "0000000000000000000000000000000A", "spanId": "000000000000000b",
                "parentSpanId": "", "name": "tools/call weather", "kind": 3, "unknown": {"a": [1]},
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": start + 5,
                "attributes": [
                    {"key": "text", "value": {"stringValue": "a\"b"}},
                    {"key": "int", "value": {"intValue": "-7"}},
                    {"key": "number", "value": {"intValue": 7}},
                    {"key": "double", "value": {"doubleValue": 1.5}},
                    {"key": "bool", "value": {"boolValue": true}},
                    {"key": "bytes", "value": {"bytesValue": "AP8="}},
                    {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": "1"}]}}},
                    {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": false}}]}}},
                    {"key": "empty", "value": {}},
                    {"key": "none", "value": null}],
                "events": [{"timeUnixNano": start.to_string(), "name": "exception", "attributes": []}],
                "links": [{"traceId": "0000000000000000000000000000000c", "spanId": "000000000000000d"}],
                "status": {"code": 2, "message": "no"}}],
            "scope": {"name": "library", "version": "1"}}],
        // After its spans, as any order is allowed.
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "weather"}}]}}]});
    let answer = rig.post(JSON, body.to_string().into_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let [span] = &rig.trace(10)[..] else {
        panic!("no span");
    };
    assert_eq!(span.service.as_str(), "weather");
    assert_eq!(span.scope.as_str(), "library");
    assert_eq!(span.kind, RecordedKind::Client);
    assert_eq!(span.duration.as_nanos(), 5);
    assert_eq!(span.status, SpanStatus::Error("no".into()));
    assert_eq!((span.events.len(), span.links.len()), (1, 1));
    let values: Vec<_> = span.attributes.iter().map(|a| a.value.clone()).collect();
    let expected = [
        AttributeValue::Text("a\"b".to_owned()),
        AttributeValue::Int(-7),
        AttributeValue::Int(7),
        AttributeValue::Double(1.5),
        AttributeValue::Bool(true),
        AttributeValue::Bytes(vec![0, 255]),
        AttributeValue::Json("[\"x\",1]".to_owned()),
        AttributeValue::Json("{\"k\":false}".to_owned()),
        AttributeValue::Empty,
        AttributeValue::Empty,
    ];
    assert_eq!(values, expected);
}

#[tokio::test]
async fn what_is_no_request_for_traces_is_told_so() {
    let rig = Rig::start();
    let get = rig.client.get(format!("{}/v1/traces", rig.url()));
    let answer = get.send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "POST");
    for path in ["v1/metrics", "v1/logs", ""] {
        let answer = rig
            .client
            .post(format!("{}/{path}", rig.url()))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_taken() {
    let rig = Rig::start_with(Options {
        token: Some(Secret::new("s3cret-token")),
        ..Options::default()
    });
    let body = request("a", vec![span(7, 1)]).encode_to_vec();
    for wrong in [
        None,
        Some("Bearer s3cret-toke"),
        Some("Bearer s3cret-token2"),
        Some("Basic s3cret-token"),
        Some(""),
    ] {
        let mut request = rig.request(PROTOBUF, body.clone());
        if let Some(wrong) = wrong {
            request = request.header("authorization", wrong);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{wrong:?}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    let mut grpc = grpc(&rig).await;
    let refused = grpc
        .export(request("a", vec![span(7, 1)]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(rig.trace(7).is_empty());
    let mut allowed = tonic::Request::new(request("a", vec![span(7, 1)]));
    let token = "Bearer s3cret-token".parse().unwrap();
    allowed.metadata_mut().insert("authorization", token);
    grpc.export(allowed).await.unwrap();
    let right = rig.request(PROTOBUF, request("a", vec![span(7, 2)]).encode_to_vec());
    let answer = right
        .header("authorization", "bearer s3cret-token")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(rig.trace(7).len(), 2);
    assert_eq!(rig.receiver.received().refused, 6);
}

async fn grpc(rig: &Rig) -> TraceServiceClient<tonic::transport::Channel> {
    let endpoint = format!("http://{}", rig.receiver.grpc.unwrap());
    TraceServiceClient::connect(endpoint).await.unwrap()
}

#[tokio::test]
async fn grpc_is_answered_as_http_is() {
    let rig = Rig::start();
    let mut client = grpc(&rig).await.send_compressed(CompressionEncoding::Gzip);
    let mut bad = span(7, 2);
    bad.trace_id = vec![0; 16];
    let answer = client
        .export(request("a", vec![span(7, 1), bad]))
        .await
        .unwrap()
        .into_inner();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(
        partial.error_message.contains("trace id"),
        "{}",
        partial.error_message
    );
    let answer = client
        .export(request("a", vec![span(7, 3)]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer, ExportTraceServiceResponse::default());
    assert_eq!(rig.trace(7).len(), 2);
    let large = super::rig::text(&"x".repeat(17 * 1024 * 1024));
    let mut bad = span(7, 4);
    bad.attributes = vec![super::rig::attribute("a", large)];
    let plain = grpc(&rig).await.export(request("a", vec![bad])).await;
    assert_eq!(plain.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn each_port_takes_both_protocols() {
    let rig = Rig::start();
    let swapped = format!("http://{}", rig.receiver.http.unwrap());
    let mut client = TraceServiceClient::connect(swapped).await.unwrap();
    client.export(request("a", vec![span(7, 1)])).await.unwrap();
    let url = format!("http://{}/v1/traces", rig.receiver.grpc.unwrap());
    let body = request("a", vec![span(7, 2)]).encode_to_vec();
    let answer = rig
        .client
        .post(url)
        .header("content-type", PROTOBUF)
        .body(body)
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(rig.trace(7).len(), 2);
}

#[tokio::test]
async fn a_taken_port_is_a_sentence_and_the_other_one_serves() {
    let rig = Rig::start();
    let taken = rig.receiver.http;
    let listen = ListenSettings {
        http: taken,
        grpc: Some(([127, 0, 0, 1], 0).into()),
        ..ListenSettings::default()
    };
    let second = Receiver::start(
        listen,
        rig.store.intake(),
        Arc::new(|text| panic!("{text}")),
    );
    assert_eq!(second.http, None);
    assert!(
        second.troubles[0].contains(&taken.unwrap().to_string()),
        "{:?}",
        second.troubles
    );
    let endpoint = format!("http://{}", second.grpc.unwrap());
    let mut client = TraceServiceClient::connect(endpoint).await.unwrap();
    client.export(request("a", vec![span(7, 1)])).await.unwrap();
    assert_eq!(rig.trace(7).len(), 1);
}
