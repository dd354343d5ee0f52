//! What a vendor's backend is asked, and what is made of its answers: the contract as its documentation has it.
//!
//! A file of `data/backends/<kind>/` is one case: what `[[traces]]` has, the requests that have to come in that order
//! with the answers they get, and what has to come of it.

mod case;
mod crowd;
mod fake;
mod story;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use case::Case;

use crate::support::here;

/// The kinds of this file.
const KINDS: [&str; 6] = [
    "honeycomb",
    "datadog",
    "newrelic",
    "axiom",
    "highflame",
    "lightstep",
];

/// What has to be there for each kind that can be asked.
const NEEDED: [&str; 10] = [
    "found",
    "empty",
    "error",
    "credential",
    "too_often",
    "too_often_without_a_time",
    "partial",
    "cut",
    "html",
    "hang",
];

fn files(kind: &str) -> Vec<PathBuf> {
    let folder = here(&format!("data/backends/{kind}"));
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_case_is_there() {
    for kind in KINDS {
        let names: BTreeSet<_> = files(kind)
            .iter()
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(!names.is_empty(), "{kind} has no case");
        if !matches!(kind, "highflame" | "lightstep") {
            let missing: Vec<_> = NEEDED.iter().filter(|n| !names.contains(**n)).collect();
            assert!(missing.is_empty(), "{kind} has no {missing:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backend_is_asked_as_documented_and_believed_only_as_far_as_it_goes() {
    mcpprobe::install_tls_provider();
    let mut tasks = tokio::task::JoinSet::new();
    let mut count = 0;
    for path in KINDS.iter().flat_map(|kind| files(kind)) {
        count += 1;
        tasks.spawn(async move {
            let name = path.display().to_string();
            let complaints = Case::read(&path).run().await;
            (name, complaints)
        });
    }
    let told = tasks.join_all().await;
    assert!(count >= 4 * NEEDED.len(), "only {count} cases");
    let wrong: Vec<_> = told
        .into_iter()
        .filter(|(_, complaints)| !complaints.is_empty())
        .map(|(name, complaints)| format!("{name}\n  {}", complaints.join("\n  ")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// A vendor's limit is that of an account, however many incidents and `[[traces]]` there are.
#[tokio::test]
async fn the_eleventh_inquiry_of_a_minute_is_told_that_it_was_not_made() {
    mcpprobe::install_tls_provider();
    let path = here("data/backends/honeycomb/empty.toml");
    let told = Case::read(&path).repeatedly(10).await;
    assert_eq!(told.verdicts, ["infrastructure"; 10]);
    let why = "its limit of 10 queries in 1m is spent by other incidents; asked again at ";
    assert!(told.beside.contains(why), "{}", told.beside);
    assert_eq!(told.complaints, Vec::<String>::new());
    let wait = told
        .refused_until
        .duration_since(std::time::SystemTime::now());
    assert!(wait.unwrap().as_secs() <= 60);
}
