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
use crate::support::{Asked, Small, empty_answer};

/// `trace_idle_period`; searches were seen to find a trace 6.4 to 9.9 s after it was sent.
const IDLE: Duration = Duration::from_secs(8);

type Store = BTreeMap<String, (Instant, Vec<Kept>)>;

/// A span, and what answers have of it: written once, for it is asked for often.
struct Kept {
    service: String,
    start: u64,
    by_id: String,
    selected: String,
}

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
                Some(id) => answered(&by_id(&store, id)),
                None if path == "/api/search" => answered(&search(&store, asked)),
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
        spans.push(Kept {
            service: span.service(),
            start: span.nanos("startTimeUnixNano"),
            by_id: of_resource(&span).to_string(),
            selected: selected(&span).to_string(),
        });
    }
}

fn answered(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn by_id(store: &Store, id: &str) -> String {
    let Some((_, spans)) = store.get(id) else {
        return r#"{"trace":{},"metrics":{}}"#.to_owned();
    };
    let all: Vec<_> = spans.iter().map(|span| span.by_id.as_str()).collect();
    let all = all.join(",");
    format!(r#"{{"trace":{{"resourceSpans":[{all}]}},"metrics":{{"inspectedBytes":"1"}}}}"#)
}

fn of_resource(span: &Span) -> Value {
    json!({
        "resource": { "attributes": span.resource },
        "scopeSpans": [{ "scope": { "name": span.scope }, "spans": [stored(span)] }],
    })
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
fn search(store: &Store, asked: &Asked) -> String {
    let url = Url::parse(&format!("http://localhost{}", asked.target)).unwrap();
    let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    let text = &query["q"];
    let seconds = |key: &str| query[key].parse::<u64>().unwrap() * 1_000_000_000;
    let window = seconds("start")..seconds("end");
    let named: Vec<_> = text.split('"').skip(1).step_by(2).collect();
    let by_service = text.contains("resource.service.name =");
    let mut traces = Vec::new();
    for (id, (last, spans)) in store {
        let named_so = by_service || named.contains(&id.as_str());
        if !named_so || last.elapsed() < IDLE {
            continue;
        }
        let found: Vec<_> = spans
            .iter()
            .filter(|span| !by_service || span.service == named[0])
            .filter(|span| window.contains(&span.start))
            .map(|span| span.selected.as_str())
            .collect();
        if !found.is_empty() {
            let id = id.trim_start_matches('0');
            let (matched, found) = (found.len(), found.join(","));
            traces.push(format!(
                r#"{{"traceID":"{id}","spanSets":[{{"spans":[{found}],"matched":{matched}}}]}}"#
            ));
        }
    }
    let traces = traces.join(",");
    format!(r#"{{"traces":[{traces}],"metrics":{{"completedJobs":3,"totalJobs":3}}}}"#)
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
