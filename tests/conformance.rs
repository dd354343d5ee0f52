//! `data/conformance.toml`: the official conformance suite against a client that is nothing but the prober,
//! `examples/conformance_client.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::support::{PATIENCE, cache, example, here};

const TABLE: &str = include_str!("data/conformance.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    run: Vec<Run>,
    left_out: Vec<LeftOut>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    scenario: String,
    versions: BTreeSet<String>,
    succeed: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    /// Names; `*` at the end stands for any rest.
    scenarios: Vec<String>,
    reason: String,
}

impl LeftOut {
    fn covers(&self, scenario: &str) -> bool {
        self.scenarios
            .iter()
            .any(|name| match name.strip_suffix('*') {
                Some(start) => scenario.starts_with(start),
                None => scenario == name,
            })
    }
}

fn table() -> Table {
    toml::from_str(TABLE).unwrap()
}

fn suite(args: &[&str]) -> Output {
    let modules = cache().join("conformance/node_modules");
    Command::new(modules.join("node/bin/node"))
        .arg("--require")
        .arg(here("servers/conformance/loopback.cjs"))
        .arg(modules.join("@modelcontextprotocol/conformance/dist/index.js"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("the suite: {error}; has tests/install run?"))
}

/// Every client scenario that the suite has, with the versions that it knows.
fn scenarios_of_the_suite() -> BTreeMap<String, BTreeSet<String>> {
    let output = suite(&["list", "--client"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("- ")?.strip_suffix(']'))
        .filter_map(|line| line.split_once(" ["))
        .map(|(name, versions)| {
            let versions = versions.split(',').map(|v| v.trim().to_owned());
            (name.to_owned(), versions.collect())
        })
        .collect()
}

#[test]
fn every_scenario_is_run_or_left_out_for_a_reason() {
    let (table, mut suite) = (table(), scenarios_of_the_suite());
    assert!(suite.len() > 40, "{suite:?}");
    for run in &table.run {
        let versions = suite.remove(&run.scenario);
        assert_eq!(versions.as_ref(), Some(&run.versions), "{}", run.scenario);
        assert!(!run.succeed.is_empty(), "{}", run.scenario);
    }
    for left_out in &table.left_out {
        assert!(!left_out.reason.is_empty());
        let before = suite.len();
        suite.retain(|scenario, _| !left_out.covers(scenario));
        assert!(suite.len() < before, "nothing is {:?}", left_out.scenarios);
    }
    assert!(suite.is_empty(), "not in the table: {suite:?}");
}

#[test]
fn the_prober_passes_what_applies_to_it() {
    let table = table();
    assert!(table.run.len() >= 8, "the table was lost or cut");
    for run in &table.run {
        assert!(!run.versions.is_empty(), "{}", run.scenario);
        for version in &run.versions {
            pass(run, version);
        }
    }
}

fn pass(run: &Run, version: &str) {
    let folder = tempfile::tempdir().unwrap();
    // The suite hands it to a shell.
    let client = format!("'{}'", example("conformance_client").display());
    let output = suite(&[
        "client",
        "--command",
        &client,
        "--scenario",
        &run.scenario,
        "--spec-version",
        version,
        "--output-dir",
        folder.path().to_str().unwrap(),
        "--timeout",
        &PATIENCE.as_millis().to_string(),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    let case = format!("{} {version}", run.scenario);
    assert!(output.status.success(), "{case}: {said}");
    let mut succeeded = BTreeMap::new();
    for check in checks(folder.path(), &case) {
        match check["status"].as_str() {
            Some("SUCCESS") => {
                let id = check["id"].as_str().unwrap().to_owned();
                *succeeded.entry(id).or_insert(0) += 1;
            }
            Some("INFO" | "SKIPPED") => {}
            _ => panic!("{case}: {check:#}"),
        }
    }
    assert_eq!(succeeded, run.succeed, "{case}: {said}");
}

/// What the suite wrote down. It writes nothing, and calls it a success, where the scenario does not know the version.
fn checks(folder: &Path, case: &str) -> Vec<Value> {
    let runs: Vec<_> = fs::read_dir(folder).unwrap().collect();
    assert_eq!(runs.len(), 1, "{case}: {runs:?}");
    let path = runs[0].as_ref().unwrap().path().join("checks.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
    serde_json::from_str(&text).unwrap()
}
