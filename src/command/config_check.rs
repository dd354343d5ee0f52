//! `mcpprobe config check FILE`.

use std::path::Path;

use super::{Exit, Trouble, terminal};
use crate::config;
use crate::model::escaped;

pub(super) fn run(path: &Path) -> Result<Exit, Trouble> {
    let loaded = config::load(path, None).map_err(|complaints| {
        terminal::complain_about(&complaints);
        let count = complaints.errors.len();
        let what = if count == 1 { "error" } else { "errors" };
        terminal::complain(&format!("{count} {what} in {}", complaints.path));
        Trouble::Configuration
    })?;
    terminal::complain_about(&loaded.doubts);
    let count = loaded.config.targets.len();
    let what = if count == 1 { "server" } else { "servers" };
    let file = path.display().to_string();
    terminal::print(&format!("{}: {count} {what}, no errors\n", escaped(&file)));
    Ok(Exit::Ok)
}
