//! The `[[server]]` by which the program probes a case.

use std::path::Path;

use serde_json::{Value, json};

use super::case::Case;
use super::server::Server;

/// The keys of the `[[server]]`; `folder` is the case's own.
pub(super) fn target(case: &Case, server: &Server, folder: &Path) -> Value {
    let settings = server.settings(&json!(case.probe).to_string());
    let mut target: Value = serde_json::from_str(&settings).unwrap();
    target["name"] = json!(case.name);
    if let Some(script) = &case.stdio {
        let script = format!("{}\n{script}", include_str!("stdio.py"));
        target["command"] = json!(["python3", "-Sc", script]);
        target["env"] = json!({ "CASE_FOLDER": folder, "CASE_ERA": format!("{:?}", case.era) });
    }
    if target["command"].is_null() && target["url"].is_null() {
        target["url"] = json!(format!("{}/mcp", server.origin()));
    }
    target
}
