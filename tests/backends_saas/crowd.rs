//! More incidents at once than a vendor's limit holds, under `watch`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{PATIENCE, Small, Watch, free_port};

/// Ten may be asked about in a minute.
const INCIDENTS: usize = 12;

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A Honeycomb that has no spans, and when it was asked for a result.
fn honeycomb() -> (Small, Arc<Mutex<Vec<Instant>>>) {
    let results: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&results);
    let server = Small::start(move |asked| {
        let path = asked.target.as_str();
        match (asked.method.as_str(), path) {
            ("GET", "/1/columns/ours") => answer(
                "200 OK",
                r#"[{"key_name":"trace.trace_id"},{"key_name":"trace.span_id"},{"key_name":"name"}]"#,
            ),
            ("POST", "/1/queries/ours") => answer("200 OK", r#"{"id":"q"}"#),
            ("POST", "/1/query_results/ours") => {
                seen.lock().unwrap().push(Instant::now());
                answer("201 Created", r#"{"id":"r","complete":false}"#)
            }
            ("GET", "/1/query_results/ours/r") => answer(
                "200 OK",
                r#"{"id":"r","complete":true,"data":{"results":[]}}"#,
            ),
            ("GET", "/1/auth") => answer("200 OK", "{}"),
            _ => answer("404 Not Found", r#"{"error":"not found"}"#),
        }
    });
    (server, results)
}

fn verdicts(watch: &Watch, phrase: &str) -> usize {
    let is_so = |line: &&Value| line["event"] == "verdict" && line.to_string().contains(phrase);
    watch.lines().iter().filter(is_so).count()
}

fn wait_for(what: &str, until: Instant, mut done: impl FnMut() -> bool) {
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn incidents_over_the_limit_are_told_so_and_asked_about_when_there_is_a_turn() {
    let (server, results) = honeycomb();
    let port = server.port;
    let mut config = format!(
        r#"
        [defaults]
        every = "5s"
        timeout = "2s"
        [traces]
        backend = "honeycomb"
        url = "http://127.0.0.1:{port}"
        api_key = "k"
        dataset = "ours"
        recheck = ["1s"]
        "#
    );
    for number in 0..INCIDENTS {
        let nobody = free_port();
        config +=
            &format!("[[server]]\nname = \"t{number}\"\nurl = \"http://127.0.0.1:{nobody}/mcp\"\n");
    }
    let watch = Watch::start(&config);
    let start = Instant::now();
    let spent = "its limit of 10 queries in 1m is spent by other incidents; asked again at";
    wait_for("the refusals", start + PATIENCE, || {
        verdicts(&watch, spent) == INCIDENTS - 10
    });
    let asked = "does not return our own probe";
    wait_for("the answers", start + PATIENCE, || {
        verdicts(&watch, asked) == 10
    });
    assert_eq!(results.lock().unwrap().len(), 10);
    // The turns come back a minute after they were taken.
    wait_for("the rest", start + 2 * PATIENCE, || {
        verdicts(&watch, asked) == INCIDENTS
    });
    let times = results.lock().unwrap().clone();
    assert_eq!(times.len(), INCIDENTS);
    // What is on its way takes its time, too.
    let minute = Duration::from_secs(58);
    assert!(times[10] - times[0] >= minute, "{:?}", times[10] - times[0]);
}
