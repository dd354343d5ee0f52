//! Servers on other people's SDKs, pinned by version in `tests/servers/`: every file of `data/real` is one of them
//! with what `mcpprobe check` has to say of it, twenty times over, and no session of ours stays behind. The format is
//! explained at [`case::Case`].

mod case;
mod server;

use std::process::Stdio;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support;
use case::{Case, Expected};
use server::Server;

/// Servers at once: most of the time goes into starting them.
const AT_ONCE: usize = 3;

/// How often each server is probed, in each era that its file names.
const ROUNDS: usize = 20;

/// The same for a stdio server and an era other than `auto`: each round is a process, of up to 1.5 s of CPU.
const ROUNDS_OF_PROCESSES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_real_server_is_judged_rightly_and_keeps_no_session() {
    // For work on a few of them.
    let only = std::env::var("REAL_SERVER").unwrap_or_default();
    let mut cases: Vec<_> = Case::all(&support::here("data/real"))
        .into_iter()
        .filter(|case| case.name.contains(&only))
        .collect();
    // Those that take longest first.
    cases.sort_by_key(|case| case.command.is_none());
    let (count, least) = (cases.len(), if only.is_empty() { 45 } else { 1 });
    assert!(count >= least, "only {count} cases");
    let failures: Vec<_> = futures_util::stream::iter(cases)
        .map(|case| async move {
            let begun = std::time::Instant::now();
            let complaints = run(&case).await;
            println!("{}: {:.1?}", case.name, begun.elapsed());
            (case.name, complaints)
        })
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

/// Everything that is not as the case expects it, each thing once.
async fn run(case: &Case) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let server = match Server::start(case, folder.path()).await {
        Ok(server) => server,
        Err(complaint) => return vec![complaint],
    };
    let mut complaints = match check(case, &server, folder.path()).await {
        Ok(document) => compare(case, &document),
        Err(complaint) => vec![complaint],
    };
    complaints.extend(server.sessions_left(case).await);
    if !complaints.is_empty() {
        complaints.extend(server.last_words());
    }
    server.stop().await;
    complaints
}

/// Probes the server in all rounds of all eras by one run of the program.
async fn check(case: &Case, server: &Server, folder: &std::path::Path) -> Result<Value, String> {
    let mut targets = Vec::new();
    for (era, _) in case.expectations() {
        let processes = case.command.is_some() && era != "auto";
        for round in 1..=if processes {
            ROUNDS_OF_PROCESSES
        } else {
            ROUNDS
        } {
            let mut target = json!(case.probe);
            target["name"] = json!(format!("{era} {round}"));
            target["era"] = json!(era);
            target["timeout"] = json!("60s");
            match (&case.url, &case.command) {
                (Some(url), None) => target["url"] = json!(server.fill(url)),
                (None, Some(words)) => target["command"] = json!(server.fill_all(words)),
                _ => panic!("{}: a server has a url or a command", case.name),
            }
            targets.push(target);
        }
    }
    let file = folder.join("servers.toml");
    let config = toml::to_string(&json!({ "server": targets })).unwrap();
    std::fs::write(&file, config).unwrap();
    let child = tokio::process::Command::from(support::mcpprobe())
        .args(["check", "--format", "json", "--concurrency"])
        // A process that starts fills a core, which other tests want too.
        .arg(if case.command.is_some() { "1" } else { "4" })
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let patience = 5 * support::PATIENCE;
    let output = tokio::time::timeout(patience, child.wait_with_output())
        .await
        .map_err(|_| format!("mcpprobe did not end within {patience:?}"))?
        .unwrap();
    let up = case.expectations().all(|(_, expected)| expected.is_up());
    let (code, expected) = (output.status.code(), if up { 0 } else { 2 });
    let document: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("no JSON, {}: {output:?}", output.status))?;
    if document["targets"].as_array().map(Vec::len) != Some(targets.len()) {
        return Err(format!("not all {} targets: {document}", targets.len()));
    }
    // With a wrong state the code is wrong too, and the state says more.
    if code != Some(expected) && compare(case, &document).is_empty() {
        return Err(format!("exit code: expected {expected}, found {code:?}"));
    }
    Ok(document)
}

/// What the program said against what it should say; a complaint is told once, with the number of rounds that it
/// is true of.
fn compare(case: &Case, document: &Value) -> Vec<String> {
    let mut complaints = Vec::<(String, usize)>::new();
    for target in document["targets"].as_array().into_iter().flatten() {
        let name = target["name"].as_str().unwrap_or_default();
        let era = name.split(' ').next().unwrap_or_default();
        let expected = case.expectation(era);
        for complaint in differences(case, expected, target) {
            let complaint = format!("{era}: {complaint}");
            match complaints.iter_mut().find(|(known, _)| *known == complaint) {
                Some((_, times)) => *times += 1,
                None => complaints.push((complaint, 1)),
            }
        }
    }
    complaints
        .into_iter()
        .map(|(complaint, times)| format!("{times} times {complaint}"))
        .collect()
}

fn differences(case: &Case, expected: &Expected, target: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    // Nothing else can be right then.
    if target["state"] != expected.keys["state"] {
        return vec![format!(
            "expected {}, found {} by {}, {}: {}",
            expected.keys["state"],
            target["state"],
            target["failed_layer"],
            target["reason"],
            target["message"]
        )];
    }
    let mut differ = |what: &str, expected: Value, found: &Value| {
        differences.push(format!(
            "{what}: expected {expected}, found {found}; message: {}",
            target["message"]
        ));
    };
    for (key, value) in &expected.keys {
        let found = &target[key];
        let holds = match (key.as_str(), value.as_str(), found.as_str()) {
            ("message", Some(part), Some(message)) => message.contains(part),
            _ => value == found,
        };
        if !holds {
            differ(key, value.clone(), found);
        }
    }
    if expected.is_up() {
        if target["server"]["name"] != case.server {
            differ("server", json!(case.server), &target["server"]);
        }
        let [least, most] = case.tools;
        if !(least..=most).contains(&target["tools"].as_u64().unwrap_or(u64::MAX)) {
            differ("tools", json!(case.tools), &target["tools"]);
        }
        let outcomes: Vec<_> = target["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|layer| layer["outcome"].clone())
            .collect();
        let http = if case.command.is_some() {
            "skipped"
        } else {
            "ok"
        };
        if outcomes != ["ok", http, "ok", "ok"] {
            differ("layers", json!(["ok", http, "ok", "ok"]), &json!(outcomes));
        }
    }
    differences
}
