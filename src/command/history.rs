//! `mcpprobe history`: how a server did over a time.

use std::time::SystemTime;

use super::{Exit, Trouble, load, server_named, terminal};
use crate::cli::{Format, HistoryArgs};
use crate::report;
use crate::store::Reader;

pub(super) fn run(args: &HistoryArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let name = &server_named(&config, &args.server)?.name;
    let now = SystemTime::now();
    let since = now
        .checked_sub(args.since)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let history = Reader::open(&config.store.path)?.history(name, since, now)?;
    let text = match args.format {
        Format::Table => report::history::table(name, &history, terminal::look()),
        Format::Json => report::json::document(&report::history::json(name, &history)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}
