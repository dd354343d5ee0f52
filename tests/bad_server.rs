//! A server that does everything wrong, or right in an odd way: every file of `data/servers` is one behaviour
//! with what `mcpprobe check` has to say of it. The format is explained at [`case::Case`] and [`case::On`].
//!
//! Whatever a case is about, every session has to be ended by DELETE, every process of a stdio server has to be
//! gone, and every request has to carry the right head and trace context.

mod case;
mod coding;
mod http2;
mod name_server;
mod proxy;
mod request;
mod server;
mod target;
mod tls;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mcpprobe::model::{Dialect, Layer, Reason};
use mcpprobe::probe::{self, Wish};
use mcpprobe::report::{self, CheckReport};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support;
use case::{Case, Hint, Speaks};
use server::Server;

/// Programs at once: most of them wait for a deadline.
const AT_ONCE: usize = 12;

/// Reasons that no file can bring about, and why.
const UNREACHED: [(Reason, &str); 0] = [];

fn cases() -> Vec<Case> {
    Case::all(&support::here("data/servers"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_of_every_bad_server_what_is_wrong() {
    // For work on a few of them.
    let only = std::env::var("BAD_SERVER").unwrap_or_default();
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|case| case.name.contains(&only))
        .map(Arc::new)
        .collect();
    let (count, least) = (cases.len(), if only.is_empty() { 80 } else { 1 });
    assert!(count >= least, "only {count} cases");
    let failures: Vec<_> = futures_util::stream::iter(cases)
        .map(|case| async move { (case.name.clone(), run(case).await) })
        .buffer_unordered(AT_ONCE)
        .filter(|(_, complaints)| std::future::ready(!complaints.is_empty()))
        .map(|(name, complaints)| format!("{name}.toml:\n    {}\n", complaints.join("\n    ")))
        .collect()
        .await;
    assert!(
        failures.is_empty(),
        "{} of {count} cases:\n{}",
        failures.len(),
        failures.concat()
    );
}

#[test]
fn every_reason_and_layer_has_a_case() {
    let cases = cases();
    let reached: BTreeSet<_> = cases
        .iter()
        .filter_map(|case| case.expects("reason"))
        .collect();
    let known: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    println!("reached: {reached:?}\nnot reached: {UNREACHED:?}");
    let unreached: BTreeSet<_> = UNREACHED
        .iter()
        .map(|(reason, _)| reason.as_str())
        .collect();
    assert_eq!(&known - &reached, unreached);
    assert_eq!(&reached - &known, BTreeSet::new());
    for layer in ["http", "initialize", "tools_list"] {
        let fails = |case: &&Case| case.expects("failed_layer") == Some(layer);
        assert!(
            cases.iter().filter(fails).any(|case| case.http_sse),
            "{layer}"
        );
        assert!(cases.iter().filter(fails).any(|case| case.http2), "{layer}");
    }
    for layer in Layer::ALL.map(Layer::as_str) {
        for era in [Speaks::Legacy, Speaks::Modern] {
            let mut failing = cases
                .iter()
                .filter(|case| case.expects("failed_layer") == Some(layer));
            // Below `initialize` the era is that of nobody.
            assert!(
                failing.any(|case| case.era == era || layer == "transport"),
                "{era:?} {layer}"
            );
        }
    }
}

/// Everything that is not as the case expects it.
async fn run(case: Arc<Case>) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let server = Server::start(case.clone(), folder.path()).await;
    write_config(&case, &server, folder.path());
    let mut complaints = Vec::new();
    let (said, target) = if case.hint.is_some() || case.expects("notes").is_some() {
        let target = check_here(&case, folder.path()).await;
        (target.to_string(), target)
    } else {
        let Some(output) = check(&case, &server, folder.path()).await else {
            return vec![format!(
                "mcpprobe did not end within {:?}",
                support::PATIENCE
            )];
        };
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let Ok(document) = serde_json::from_slice::<Value>(&output.stdout) else {
            return vec![format!("no JSON, {}: {said}", output.status)];
        };
        complaints.extend(wrong_exit(&case, output.status.code()));
        (said.into_owned(), support::only_target(&document).clone())
    };
    complaints.extend(compare(&case, &target));
    for word in ["panicked"].into_iter().chain(case.expects("nowhere")) {
        if said.contains(word) {
            complaints.push(format!("{word:?} is in the output"));
        }
    }
    complaints.extend(seen(&case, &server, &target["trace_id"]));
    complaints.extend(server.proxy.mistakes());
    complaints.extend(server.name_server.mistakes());
    complaints.extend(left_open(&server).await);
    complaints.extend(left_behind(folder.path()).await);
    if !complaints.is_empty() {
        complaints.push(format!("message: {}", target["message"]));
    }
    complaints
}

fn write_config(case: &Case, server: &Server, folder: &Path) {
    let config = json!({ "server": [target::target(case, server, folder)] });
    let config = toml::to_string(&config).unwrap();
    std::fs::write(folder.join("servers.toml"), config).unwrap();
    if let Some(profile) = &case.profile {
        std::fs::write(folder.join("profile.toml"), profile).unwrap();
    }
}

/// Probes in this process, where a probe can be given a hint, and its notes can be read: the target as in JSON, and
/// its `notes`.
async fn check_here(case: &Case, folder: &Path) -> Value {
    let loaded = mcpprobe::config::load(&folder.join("servers.toml"), None).unwrap();
    let target = &loaded.config.targets[0];
    let wish = Wish {
        hint: case.hint.map(|hint| match hint {
            Hint::Legacy => Dialect::Legacy,
            Hint::HttpSse => Dialect::HttpSse,
            Hint::Modern => Dialect::Modern,
        }),
        conversation: mcpprobe::probe::Wanted::Always,
        call: None,
    };
    let result = probe::probe(target, wish, &CancellationToken::new()).await;
    let result = result.unwrap();
    let report = CheckReport {
        started_at: result.started_at,
        duration: result.duration,
        targets: vec![(target, Some(&result))],
    };
    let mut found = support::only_target(&report::json::check(&report)).clone();
    let notes: Vec<_> = result.notes.iter().map(|note| note.as_str()).collect();
    found["notes"] = json!(notes.join("\n"));
    found
}

/// Runs `mcpprobe check` on the case's server; `None` when it does not end.
async fn check(case: &Case, server: &Arc<Server>, folder: &Path) -> Option<Output> {
    let env = case.env.iter();
    let env = env.map(|(name, value)| (name, server.settings(value)));
    let child = tokio::process::Command::from(support::mcpprobe())
        .args(["check", "--format", "json"])
        .arg(folder.join("servers.toml"))
        .env("SSL_CERT_FILE", tls::authority().1.path())
        .env_remove("SSL_CERT_DIR")
        .envs(env)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    if case.interrupt {
        let (server, id) = (server.clone(), child.id().unwrap().cast_signed());
        tokio::spawn(async move {
            server.hung.notified().await;
            kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        });
    }
    let ended = tokio::time::timeout(support::PATIENCE, child.wait_with_output()).await;
    ended.ok().map(|output| output.unwrap())
}

/// What the program said against what it should say.
fn compare(case: &Case, found: &Value) -> Vec<String> {
    let mut complaints: Vec<_> = inconsistent(found).into_iter().collect();
    for (key, expected) in case.expect.iter().filter(|(key, _)| *key != "nowhere") {
        let found = match key.as_str() {
            "outcomes" => &found["layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|layer| layer["outcome"].clone())
                .collect(),
            _ => &found[key],
        };
        let holds = match (key.as_str(), expected.as_str(), found.as_str()) {
            ("message" | "notes", Some(part), Some(text)) => text.contains(part),
            _ => expected == found,
        };
        if !holds {
            complaints.push(format!("{key}: expected {expected}, found {found}"));
        }
    }
    complaints
}

fn wrong_exit(case: &Case, found: Option<i32>) -> Option<String> {
    let exit = match case.expects("state").unwrap() {
        "up" | "degraded" => 0,
        "down" | "auth_required" => 2,
        "unknown" => 3,
        other => panic!("{}: there is no state {other}", case.name),
    };
    (found != Some(exit)).then(|| format!("exit code: expected {exit}, found {found:?}"))
}

/// Every layer below the failed one has passed or is skipped, and none above it was reached.
fn inconsistent(found: &Value) -> Option<String> {
    // What was expected is judged when all is read: layers behind the one that fell short have passed.
    if found["reason"] == "expectation" {
        return None;
    }
    let layers = found["layers"].as_array()?;
    let outcomes: Vec<_> = layers.iter().map(|layer| &layer["outcome"]).collect();
    let failed = layers
        .iter()
        .position(|layer| layer["layer"] == found["failed_layer"])
        .unwrap_or(layers.len());
    let holds = |(index, outcome): (usize, &&Value)| match index.cmp(&failed) {
        _ if *outcome == "skipped" => true,
        Ordering::Less => *outcome == "ok",
        Ordering::Equal => *outcome == "failed",
        Ordering::Greater => *outcome == "not_reached",
    };
    let consistent = outcomes.iter().enumerate().all(holds);
    (!consistent).then(|| format!("failed at {}, but {outcomes:?}", found["failed_layer"]))
}

/// What the server has to complain about.
fn seen(case: &Case, server: &Server, trace_id: &Value) -> Vec<String> {
    let seen = server.seen.lock().unwrap();
    let mut complaints: Vec<_> = seen.mistakes.iter().cloned().collect();
    // An interrupted probe has no result and so no trace.
    let strange = seen
        .traces
        .iter()
        .filter(|trace| trace_id != trace.as_str() && !case.interrupt);
    complaints.extend(strange.map(|trace| format!("trace {trace} is not that of the result")));
    let unused = (0..case.on.len()).filter(|index| !seen.uses.contains_key(index));
    complaints.extend(unused.map(|index| format!("[[on]] number {} was never used", index + 1)));
    let left = seen
        .sessions
        .iter()
        .filter(|session| !seen.ended.contains(*session))
        .count();
    if left > 0 {
        complaints.push(format!("sessions left: {left} of {}", seen.sessions.len()));
    }
    complaints
}

/// Streams that the program has left open.
async fn left_open(server: &Server) -> Option<String> {
    let open = || server.seen.lock().unwrap().open_streams;
    let closed = async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.err().map(|_| format!("streams left: {}", open()))
}

/// What a stdio server has to complain about, and which of its processes still run.
async fn left_behind(folder: &Path) -> Vec<String> {
    let read = |file| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let mut complaints: Vec<_> = read("complaints").lines().map(str::to_owned).collect();
    for pid in read("pids").lines() {
        let gone = async {
            while runs(pid) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), gone)
            .await
            .is_err()
        {
            complaints.push(format!("process {pid} is left"));
        }
    }
    complaints
}

fn runs(pid: &str) -> bool {
    // A zombie waits for the init process only.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
