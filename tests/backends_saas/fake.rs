//! A vendor's server: it gets requests in the order in which it expects them, and answers what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

/// A request, and what it is answered with.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    method: String,
    /// With its query.
    path: String,
    /// Those that have to be there.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The JSON that it has to be, whole.
    body: Option<String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    answer_headers: BTreeMap<String, String>,
    #[serde(default)]
    answer: String,
    /// One of many rows in the answer, in the place of `{rows}`; `{n}` is its number, with 16 digits.
    row: Option<String>,
    #[serde(default)]
    rows: usize,
    /// No answer at all.
    #[serde(default)]
    hang: bool,
}

fn ok() -> u16 {
    200
}

impl Exchange {
    fn complaint(
        &self,
        method: &str,
        path: &str,
        headers: &http::HeaderMap,
        body: &str,
    ) -> Option<String> {
        if (method, path) != (self.method.as_str(), self.path.as_str()) {
            return Some(format!(
                "{method} {path} came, not {} {}",
                self.method, self.path
            ));
        }
        for (name, value) in &self.headers {
            let came = headers.get(name).and_then(|value| value.to_str().ok());
            if came != Some(value) {
                return Some(format!(
                    "{method} {path}: {name} is {came:?}, not {value:?}"
                ));
            }
        }
        let expected: Value = match &self.body {
            Some(expected) => {
                serde_json::from_str(expected).unwrap_or_else(|error| panic!("{error}: {expected}"))
            }
            None => return None,
        };
        let came: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        (came != expected)
            .then(|| format!("{method} {path}: the body is\n    {came}\n  not\n    {expected}"))
    }

    fn answer(&self) -> String {
        let rows = (1..=self.rows).filter_map(|n| {
            let row = self.row.as_ref()?;
            Some(row.replace("{n}", &format!("{n:016}")))
        });
        let rows: Vec<_> = rows.collect();
        self.answer.replace("{rows}", &rows.join(","))
    }
}

/// What is still to come, and what has gone wrong.
#[derive(Default)]
struct Script {
    exchanges: Vec<Exchange>,
    next: usize,
    complaints: Vec<String>,
}

/// A server that is there as long as this.
pub(super) struct Fake {
    script: Arc<Mutex<Script>>,
    pub(super) url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(super) async fn start(exchanges: Vec<Exchange>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            exchanges,
            ..Script::default()
        }));
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&script));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { script, url, task }
    }

    /// What was asked in another way, and what was not asked.
    pub(super) fn end(self) -> Vec<String> {
        self.task.abort();
        let script = self.script.lock().unwrap();
        let mut complaints = script.complaints.clone();
        for missing in script.exchanges.iter().skip(script.next) {
            complaints.push(format!("{} {} never came", missing.method, missing.path));
        }
        complaints
    }
}

async fn serve(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = parts.uri.to_string();
    // Another test's prober still asks at a port that was its server's.
    if path == "/mcp" {
        return Response::builder().status(404).body(Body::empty()).unwrap();
    }
    let exchange = {
        let mut script = script.lock().unwrap();
        let next = script.next;
        script.next += 1;
        let Some(exchange) = script.exchanges.get(next).cloned() else {
            script.complaints.push(format!(
                "{} {path} came, and nothing more was expected",
                parts.method
            ));
            return Response::builder().status(500).body(Body::empty()).unwrap();
        };
        let complaint = exchange.complaint(parts.method.as_str(), &path, &parts.headers, &body);
        script.complaints.extend(complaint);
        exchange
    };
    if exchange.hang {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(exchange.status);
    for (name, value) in &exchange.answer_headers {
        response = response.header(name, value);
    }
    response.body(Body::from(exchange.answer())).unwrap()
}
