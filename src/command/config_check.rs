//! `mcpprobe config check FILE`.

use std::path::Path;

use super::{Exit, terminal};
use crate::config;

pub(super) fn run(path: &Path) -> Result<Exit, String> {
    let loaded = config::load(path, None).map_err(|complaints| {
        let count = complaints.errors.len();
        let what = if count == 1 { "error" } else { "errors" };
        format!(
            "{}\n\n{count} {what} in {}",
            complaints.to_string().trim_end(),
            complaints.path
        )
    })?;
    terminal::complain(&loaded.doubts.to_string());
    let count = loaded.config.targets.len();
    let what = if count == 1 { "server" } else { "servers" };
    terminal::print(&format!("{}: {count} {what}, no errors\n", path.display()));
    Ok(Exit::Ok)
}
