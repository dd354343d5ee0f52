//! What nobody should send. Each case is answered as the protocol says, and the spans before it, after it and, where some
//! of it is good, in it are there afterwards.

use mcpprobe::traces::TraceFilter;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{DAY, JSON, PROTOBUF, Rig, attribute, gzip, request, span, text};

/// Trace ids of the spans that have to survive.
const BEFORE: u128 = 1;
const AFTER: u128 = 2;
const WITHIN: u128 = 3;

struct Case {
    name: &'static str,
    content_type: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
    status: u16,
    /// Spans that a partial success has to name.
    rejected: i64,
    /// Spans of [`WITHIN`] afterwards.
    kept: usize,
}

impl Case {
    /// A request that is refused as a whole.
    fn refused(name: &'static str, status: u16, body: Vec<u8>) -> Self {
        Self {
            name,
            content_type: PROTOBUF,
            encoding: "identity",
            body,
            status,
            rejected: 0,
            kept: 0,
        }
    }

    /// One that is taken, but for some of its spans.
    fn taken(name: &'static str, rejected: i64, spans: Vec<Span>) -> Self {
        let kept = spans.len() - usize::try_from(rejected).unwrap();
        Self {
            rejected,
            kept,
            ..Self::refused(name, 200, request("hostile", spans).encode_to_vec())
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::refused("too large", 413, vec![0; 17 * 1024 * 1024]),
        Case {
            encoding: "gzip",
            ..Case::refused("a gzip bomb", 413, gzip(&vec![0; 64 * 1024 * 1024]))
        },
        Case {
            encoding: "gzip",
            ..Case::refused("no gzip", 400, vec![1, 2, 3])
        },
        Case {
            encoding: "br",
            ..Case::refused("another coding", 415, vec![1, 2, 3])
        },
        Case {
            content_type: "text/plain",
            ..Case::refused("another content type", 415, b"hello".to_vec())
        },
        Case::refused("no protobuf", 400, b"hello, is anybody there?".to_vec()),
        Case::refused("a field of a wrong type", 400, vec![8, 1]),
    ];
    let whole = request("hostile", vec![span(WITHIN, 1), span(WITHIN, 2)]).encode_to_vec();
    let half = whole[..whole.len() - 5].to_vec();
    cases.push(Case::refused("truncated", 400, half));
    for (name, body) in [
        ("JSON that is none", json!("{")),
        (
            "JSON with a number for a name",
            json!({"resourceSpans": [{"scopeSpans": [{"spans": [
            {"traceId": "00000000000000000000000000000003", "spanId": "0000000000000001", "name": 7}]}]}]}),
        ),
        (
            "JSON with a word for a span",
            json!({"resourceSpans": [{"scopeSpans": [{"spans": ["span"]}]}]}),
        ),
        (
            "JSON with an object for a list",
            json!({"resourceSpans": {}}),
        ),
        (
            "JSON with words for a time",
            json!({"resourceSpans": [{"scopeSpans": [{"spans": [
            {"traceId": "00000000000000000000000000000003", "spanId": "0000000000000001", "startTimeUnixNano": "noon"}]}]}]}),
        ),
    ] {
        cases.push(Case {
            content_type: JSON,
            ..Case::refused(name, 400, body.to_string().into_bytes())
        });
    }
    cases.push(Case {
        content_type: JSON,
        ..Case::refused("JSON without end", 400, "[".repeat(1_000_000).into_bytes())
    });
    cases.extend(wrong_spans());
    cases.extend(large_spans());
    cases
}

type Span = opentelemetry_proto::tonic::trace::v1::Span;

/// A good span and another one that is not.
fn changed(change: &dyn Fn(&mut Span)) -> Vec<Span> {
    let mut changed = span(WITHIN, 2);
    change(&mut changed);
    vec![span(WITHIN, 1), changed]
}

/// Ids, parents and times that cannot be.
fn wrong_spans() -> Vec<Case> {
    let year = |years: u64| years * 31_556_952_000_000_000;
    let mut cycle = vec![span(WITHIN, 1), span(WITHIN, 2), span(WITHIN, 3)];
    for (index, parent) in [2u64, 1, 3].into_iter().enumerate() {
        cycle[index].parent_span_id = parent.to_be_bytes().to_vec();
    }
    vec![
        Case::taken(
            "a trace id of zeros",
            1,
            changed(&|s| s.trace_id = vec![0; 16]),
        ),
        Case::taken("a short trace id", 1, changed(&|s| s.trace_id = vec![1; 8])),
        Case::taken("no span id", 1, changed(&|s| s.span_id.clear())),
        Case::taken("a long span id", 1, changed(&|s| s.span_id = vec![1; 9])),
        Case::taken(
            "a parent of a wrong length",
            0,
            changed(&|s| s.parent_span_id = vec![1; 3]),
        ),
        Case::taken("parents in a cycle", 0, cycle),
        Case::taken(
            "the end before the start",
            0,
            changed(&|s| s.end_time_unix_nano = 1 + s.start_time_unix_nano - 5),
        ),
        Case::taken(
            "the year 1970",
            1,
            changed(&|s| (s.start_time_unix_nano, s.end_time_unix_nano) = (1, 2)),
        ),
        Case::taken(
            "no times",
            1,
            changed(&|s| (s.start_time_unix_nano, s.end_time_unix_nano) = (0, 0)),
        ),
        Case::taken(
            "the year 2500",
            1,
            changed(&|s| s.start_time_unix_nano = year(530)),
        ),
        Case::taken(
            "the last time there is",
            1,
            changed(&|s| s.start_time_unix_nano = u64::MAX),
        ),
    ]
}

/// More than anybody needs.
fn large_spans() -> Vec<Case> {
    vec![
        Case::taken(
            "a million attributes",
            0,
            changed(&|s| {
                s.attributes = (0..300_000)
                    .map(|n| attribute(&n.to_string(), Value::IntValue(n)))
                    .collect();
            }),
        ),
        Case::taken(
            "a value of ten megabytes",
            0,
            changed(&|s| {
                s.attributes = vec![attribute("long", text(&"ä".repeat(5_000_000)))];
            }),
        ),
        Case::taken(
            "a name of a megabyte",
            0,
            changed(&|s| s.name = "n".repeat(1_000_000)),
        ),
        Case::taken(
            "a hundred thousand events and links",
            0,
            changed(&|s| {
                s.events = vec![Event::default(); 100_000];
                s.links = vec![Link::default(); 100_000];
            }),
        ),
        Case::taken(
            "values in values in values",
            0,
            changed(&|s| {
                // Deeper than any stack would carry it, if it were carried.
                let array = |inner| {
                    Value::ArrayValue(ArrayValue {
                        values: vec![AnyValue { value: Some(inner) }],
                    })
                };
                let nested = (0..90).fold(Value::IntValue(1), |inner, _| array(inner));
                s.attributes = vec![attribute("nested", nested)];
            }),
        ),
        Case::taken(
            "what acts on a terminal",
            0,
            changed(&|s| {
                s.name = "\u{1b}[31m\u{202e}".to_owned();
                s.attributes = vec![attribute("\u{7}", text("\u{1b}]0;x\u{7}"))];
            }),
        ),
        Case {
            rejected: 500,
            kept: 65_536,
            ..Case::refused("more spans than are taken at once", 200, {
                let spans = (0..65_536 + 500).map(|n| span(WITHIN, n + 1)).collect();
                request("hostile", spans).encode_to_vec()
            })
        },
    ]
}

#[tokio::test]
async fn nothing_that_is_sent_harms_what_is_stored() {
    let cases = cases();
    assert!(cases.len() > 25);
    for case in cases {
        let Case {
            name,
            status,
            rejected,
            kept,
            ..
        } = case;
        let rig = Rig::start();
        rig.put("good", vec![span(BEFORE, 1)]).await;
        let answer = rig
            .request(case.content_type, case.body)
            .header("content-encoding", case.encoding)
            .send()
            .await;
        // Who is told that it is too much while it is still sending may lose its connection first.
        match answer {
            Ok(answer) => {
                assert_eq!(answer.status(), status, "{name}");
                let body = answer.bytes().await.unwrap();
                if status == 200 {
                    let partial = ExportTraceServiceResponse::decode(body)
                        .unwrap()
                        .partial_success;
                    let partial = partial.unwrap_or_default();
                    assert_eq!(
                        partial.rejected_spans, rejected,
                        "{name}: {}",
                        partial.error_message
                    );
                    assert_eq!(partial.error_message.is_empty(), rejected == 0, "{name}");
                }
            }
            Err(error) => assert_eq!(status, 413, "{name}: {error}"),
        }
        rig.put("good", vec![span(AFTER, 1)]).await;
        assert_eq!(rig.trace(BEFORE).len(), 1, "{name}");
        assert_eq!(rig.trace(AFTER).len(), 1, "{name}");
        let within = rig.trace(WITHIN);
        // A trace is read as far as anybody would look at it.
        assert_eq!(within.len(), kept.min(50_000), "{name}");
        for span in &within {
            let size: usize = span.attributes.iter().map(|a| a.value.plain().len()).sum();
            assert!(size <= 64 * 1024, "{name}: {size}");
            assert!(
                span.attributes.len() <= 128 && span.events.len() <= 128,
                "{name}"
            );
            assert!(!span.name.as_str().contains('\u{1b}'), "{name}");
        }
        let id = mcpprobe::model::TraceId(WITHIN.to_be_bytes());
        let found = rig.store.reader().trace(id).unwrap();
        let summary = mcpprobe::traces::summary(id, &found);
        assert_eq!(summary.is_some(), kept > 0);
        assert_eq!(found.truncated, kept > 50_000, "{name}");
        // It does not pass as far as it is read.
        let long = TraceFilter {
            service: Some("hostile".to_owned()),
            min_duration: Some(DAY),
            ..TraceFilter::default()
        };
        let list = rig.store.reader().list(&long, 5).unwrap();
        let told = (list.traces.len(), list.truncated);
        assert_eq!(told, (0, kept > 50_000), "{name}");
        assert!(rig.warnings().is_empty(), "{name}: {:?}", rig.warnings());
    }
}

#[tokio::test]
async fn what_is_cut_says_so() {
    let rig = Rig::start();
    let mut long = span(WITHIN, 1);
    long.attributes = vec![
        attribute("long", text(&"ä".repeat(5_000))),
        attribute("short", text("ä")),
    ];
    long.attributes
        .extend((0..200).map(|n| attribute(&n.to_string(), Value::IntValue(n))));
    rig.put("good", vec![long]).await;
    let [span] = &rig.trace(WITHIN)[..] else {
        panic!()
    };
    let value = span.attribute("long").unwrap().as_str().unwrap();
    assert!(
        value.ends_with("ä…") && value.len() <= 4_100,
        "{}",
        value.len()
    );
    assert_eq!(span.attribute("short").unwrap().as_str(), Some("ä"));
    assert_eq!((span.attributes.len(), span.dropped), (128, 74));
}

/// Connections that say nothing, half a head, or half a body.
#[tokio::test]
async fn who_sends_slowly_is_in_nobodys_way() {
    let rig = Rig::start();
    let mut slow = Vec::new();
    for begin in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\n",
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 1000\r\n\r\nabc",
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(rig.receiver.http.unwrap())
                .await
                .unwrap();
            stream.write_all(begin.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    rig.put("good", vec![span(AFTER, 1)]).await;
    assert_eq!(rig.trace(AFTER).len(), 1);
}

#[tokio::test]
async fn more_connections_than_are_taken_are_closed_and_there_is_room_again() {
    let rig = Rig::start();
    let address = rig.receiver.http.unwrap();
    let mut streams = Vec::new();
    let mut closed = 0;
    for _ in 0..600 {
        streams.push(TcpStream::connect(address).await.unwrap());
    }
    for stream in &mut streams[512..] {
        closed += usize::from(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    assert_eq!(closed, 88);
    drop(streams);
    let body = request("good", vec![span(AFTER, 1)]).encode_to_vec();
    // That the others have gone is noticed one after the other.
    while rig.request(PROTOBUF, body.clone()).send().await.is_err() {}
    assert_eq!(rig.trace(AFTER).len(), 1);
}
