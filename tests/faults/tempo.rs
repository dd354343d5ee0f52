//! Tempo as it was recorded: the forms of its answers, filled with the spans that it is sent. A trace is found by its id
//! at once, by a search when no span of it has come for a while, as its ingester does it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use url::Url;

use super::network::port;
use super::otlp::{Span, spans};
use crate::support::{Asked, Small, empty_answer, json_answer};

/// `trace_idle_period`; searches were seen to find a trace 6.4 to 9.9 s after it was sent.
const IDLE: Duration = Duration::from_secs(8);

type Store = BTreeMap<String, (Instant, Vec<Span>)>;

pub(super) struct Tempo {
    /// Of the queries and of OTLP as JSON.
    pub(super) port: u16,
}

impl Tempo {
    pub(super) fn start() -> Self {
        let store: Arc<Mutex<Store>> = Arc::default();
        let port = port();
        Small::start_on(port, move |asked| {
            let mut store = store.lock().unwrap();
            let path = asked.target.split('?').next().unwrap();
            match path.strip_prefix("/api/v2/traces/") {
                Some(id) => json_answer("200 OK", &by_id(&store, id)),
                None if path == "/api/search" => json_answer("200 OK", &search(&store, asked)),
                None => {
                    take_in(&mut store, &asked.body);
                    empty_answer("200 OK")
                }
            }
        });
        Self { port }
    }
}

fn take_in(store: &mut Store, request: &Value) {
    for span in spans(request) {
        let entry = store.entry(span.text("traceId"));
        let (last, spans) = entry.or_insert((Instant::now(), Vec::new()));
        *last = Instant::now();
        spans.push(span);
    }
}

fn by_id(store: &Store, id: &str) -> Value {
    let Some((_, spans)) = store.get(id) else {
        return json!({ "trace": {}, "metrics": {} });
    };
    let of_resource = |span: &Span| {
        json!({
            "resource": { "attributes": span.resource },
            "scopeSpans": [{ "scope": { "name": span.scope }, "spans": [stored(span)] }],
        })
    };
    let all: Vec<_> = spans.iter().map(of_resource).collect();
    json!({ "trace": { "resourceSpans": all }, "metrics": { "inspectedBytes": "1" } })
}

/// Ids in base64, and words for numbers.
fn stored(span: &Span) -> Value {
    let mut stored = span.span.clone();
    for key in ["traceId", "spanId", "parentSpanId"] {
        let hex = span.text(key);
        let bytes: Vec<_> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        stored[key] = base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into();
    }
    stored["kind"] = format!("SPAN_KIND_{}", span.kind()).into();
    stored["status"] = match span.is_error() {
        true => json!({ "code": "STATUS_CODE_ERROR", "message": span.message() }),
        false => json!({}),
    };
    stored
}

/// Two forms of a query are asked: the spans of a service, and which of some traces there are.
fn search(store: &Store, asked: &Asked) -> Value {
    let url = Url::parse(&format!("http://localhost{}", asked.target)).unwrap();
    let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    let text = &query["q"];
    let seconds = |key: &str| query[key].parse::<u64>().unwrap() * 1_000_000_000;
    let window = seconds("start")..seconds("end");
    let named: Vec<_> = text.split('"').skip(1).step_by(2).collect();
    let by_service = text.contains("resource.service.name =");
    let traces: Vec<_> = store
        .iter()
        .filter(|(_, (last, _))| last.elapsed() > IDLE)
        .filter(|(id, _)| by_service || named.iter().any(|named| named == id))
        .filter_map(|(id, (_, spans))| {
            let found: Vec<_> = spans
                .iter()
                .filter(|span| !by_service || span.service() == named[0])
                .filter(|span| window.contains(&span.nanos("startTimeUnixNano")))
                .collect();
            let selected: Vec<_> = found.iter().map(|span| selected(span)).collect();
            let set = json!({ "spans": selected, "matched": selected.len() });
            let trace =
                json!({ "traceID": id.trim_start_matches('0'), "spanSet": set, "spanSets": [set] });
            (!found.is_empty()).then_some(trace)
        })
        .collect();
    json!({ "traces": traces, "metrics": { "completedJobs": 3, "totalJobs": 3 } })
}

fn selected(span: &Span) -> Value {
    let word = |text: &str| json!({ "stringValue": text });
    let mut attributes = vec![
        json!({ "key": "kind", "value": word(&span.kind().to_lowercase()) }),
        json!({ "key": "status", "value": word(if span.is_error() { "error" } else { "unset" }) }),
        json!({ "key": "statusMessage", "value": word(span.message()) }),
        json!({ "key": "name", "value": word(&span.text("name")) }),
    ];
    for from in [&span.resource, &span.span["attributes"]] {
        attributes.extend(from.as_array().into_iter().flatten().cloned());
    }
    json!({
        "spanID": span.text("spanId"),
        "name": span.text("name"),
        "startTimeUnixNano": span.text("startTimeUnixNano"),
        "durationNanos": (span.nanos("endTimeUnixNano") - span.nanos("startTimeUnixNano")).to_string(),
        "attributes": attributes,
    })
}
