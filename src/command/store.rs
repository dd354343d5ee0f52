//! `mcpprobe store`: check, copy or shrink the store's file.

use std::path::Path;

use super::{Exit, Trouble, load, terminal};
use crate::cli::StoreAction;
use crate::store::upkeep;

pub(super) fn run(action: &StoreAction) -> Result<Exit, Trouble> {
    match action {
        StoreAction::Check { file } => check(&path(file)?),
        StoreAction::Backup { to, file } => {
            let bytes = upkeep::backup(&path(file)?, to)?;
            terminal::print(&format!("{}: {}\n", to.display(), size(bytes)));
            Ok(Exit::Ok)
        }
        StoreAction::Vacuum { file } => {
            let path = path(file)?;
            let (before, after) = upkeep::vacuum(&path)?;
            let (before, after) = (size(before), size(after));
            terminal::print(&format!("{}: {before}, now {after}\n", path.display()));
            Ok(Exit::Ok)
        }
    }
}

fn path(file: &Path) -> Result<std::path::PathBuf, Trouble> {
    Ok(load(file)?.store.path)
}

fn check(store: &Path) -> Result<Exit, Trouble> {
    let complaints = upkeep::check(store)?;
    if complaints.is_empty() {
        terminal::print(&format!("{}: ok\n", store.display()));
        return Ok(Exit::Ok);
    }
    for complaint in &complaints {
        terminal::print(&format!("{}: {complaint}\n", store.display()));
    }
    Err(Trouble::Sentence(format!(
        "the store {} is broken: the next `mcpprobe watch` that meets it sets it aside and takes over what can be read",
        store.display()
    )))
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
