//! Who may depend on whom: every stage imports `model` only; `command` and `daemon` put stages together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::here;

/// Module and the modules of this crate that it may import, besides itself.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("config", &["model"]),
    ("schedule", &["model"]),
    // Programs of our own in process groups: for stdio servers and for notices.
    ("process", &["model"]),
    ("probe", &["model", "process"]),
    ("alert", &["model", "process"]),
    ("store", &["model"]),
    ("telemetry", &["model"]),
    ("traces", &["model"]),
    // One of its backends is ours.
    ("correlate", &["model", "traces"]),
    ("report", &["model", "store", "traces"]),
    ("cli", &[]),
    (
        "daemon",
        &[
            "model",
            "config",
            "schedule",
            "process",
            "probe",
            "alert",
            "store",
            "telemetry",
            "traces",
            "correlate",
            "report",
        ],
    ),
    (
        "command",
        &[
            "model",
            "config",
            "schedule",
            "process",
            "probe",
            "alert",
            "store",
            "telemetry",
            "traces",
            "correlate",
            "report",
            "daemon",
            "cli",
        ],
    ),
];

/// Every `.rs` file below `folder` or of that name, without its tests.
fn sources(module: &str) -> Vec<(String, String)> {
    let src = here("../src");
    let mut found = Vec::new();
    let single = src.join(format!("{module}.rs"));
    if single.exists() {
        found.push(single);
    }
    let mut folders = vec![src.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test_only(&path) {
                found.push(path);
            }
        }
    }
    found
        .iter()
        .map(|path| (path.display().to_string(), without_tests(path)))
        .collect()
}

/// Its folder's `mod.rs` has it in tests only.
fn is_test_only(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let parent = fs::read_to_string(path.with_file_name("mod.rs")).unwrap_or_default();
    parent.contains(&format!("#[cfg(test)]\nmod {name};"))
}

fn without_tests(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn every_module_imports_only_what_it_may() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let mut wrong = Vec::new();
    let mut imports = 0;
    for (module, may) in &allowed {
        let files = sources(module);
        assert!(!files.is_empty(), "src/{module} is gone");
        for (path, text) in files {
            for used in text.split("crate::").skip(1) {
                let name: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                imports += 1;
                if allowed.contains_key(name.as_str())
                    && name != *module
                    && !may.contains(&name.as_str())
                {
                    wrong.push(format!("{path} imports {name}"));
                }
            }
        }
    }
    assert!(imports > 50, "the test no longer finds the imports");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_crate_has_its_rule() {
    let lib = fs::read_to_string(here("../src/lib.rs")).unwrap();
    let modules: Vec<_> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let ruled: Vec<_> = MAY_IMPORT.iter().map(|(module, _)| *module).collect();
    assert!(!modules.is_empty());
    for module in modules {
        assert!(ruled.contains(&module), "{module} has no rule in this test");
    }
}

#[test]
fn only_the_stores_speak_sql() {
    // Probes and spans are kept in files of their own, of which one can be lost without the other.
    let stores = ["store", "traces"];
    for (module, _) in MAY_IMPORT
        .iter()
        .filter(|(module, _)| !stores.contains(module))
    {
        for (path, text) in sources(module) {
            assert!(!text.contains("rusqlite"), "{path} uses SQLite");
        }
    }
}
