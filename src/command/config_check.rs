//! `mcpprobe config check FILE`.

use std::path::Path;

use super::{Exit, terminal};
use crate::config;
use crate::model::escaped;

pub(super) fn run(path: &Path) -> Result<Exit, String> {
    let loaded = config::load(path).map_err(|complaints| {
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
    let file = path.display().to_string();
    terminal::print(&format!("{}: {count} {what}, no errors\n", escaped(&file)));
    Ok(Exit::Ok)
}
