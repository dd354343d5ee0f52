//! `mcpprobe incidents`: what has happened, and taking what is open.

use std::time::SystemTime;

use super::{Exit, Trouble, causes, load, server_named, terminal, user};
use crate::cli::{AckArgs, Format, IncidentsAction, IncidentsArgs, ListIncidentsArgs, ShowArgs};
use crate::daemon::Finding;
use crate::model::{Acknowledgement, Text};
use crate::report;
use crate::store::{self, IncidentFilter, Reader, orders};

/// Incidents of one list, the newest: more than anybody reads, and a store may hold years of them.
const MAX_LISTED: usize = 1_000;

pub(super) fn run(args: &IncidentsArgs) -> Result<Exit, Trouble> {
    match &args.action {
        None => list(&args.list),
        Some(IncidentsAction::Show(args)) => show(args),
        Some(IncidentsAction::Ack(args)) => acknowledge(args),
        Some(IncidentsAction::Replay(args)) => super::replay::run(args),
    }
}

fn list(args: &ListIncidentsArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    if let Some(name) = &args.server {
        server_named(&config, name)?;
    }
    let now = SystemTime::now();
    let filter = IncidentFilter {
        server: args.server.clone(),
        open: args.open,
        since: now.checked_sub(args.since),
        limit: Some(MAX_LISTED),
    };
    let incidents = match Reader::open_if_made(&config.store.path)? {
        Some(reader) => reader.incidents(&filter)?,
        None => Vec::new(),
    };
    if incidents.len() == MAX_LISTED {
        terminal::complain(&format!("warning: only the newest {MAX_LISTED} are listed"));
    }
    let causes = causes(&incidents, &config);
    let text = match args.format {
        Format::Table => report::incidents::table(&incidents, &causes, now, terminal::look()),
        Format::Json => report::json::document(&report::incidents::json(&incidents, &causes)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

fn show(args: &ShowArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let reader = Reader::open(&config.store.path)?;
    let Some(detail) = reader.incident_detail(&args.id)? else {
        return Err(format!(
            "the store {} has no incident {}",
            config.store.path.display(),
            args.id
        )
        .into());
    };
    // Judged, not remembered: what is shown are the reasons, and they come from the evidence.
    let last = reader
        .askings(&args.id)?
        .into_iter()
        .next()
        .map(Finding::of);
    let verdict = last.as_ref().map(|last| (&last.asked, &last.judgement));
    let text = match args.format {
        Format::Table => {
            let file = args.file.display().to_string();
            report::incidents::one(&detail, verdict, &file, SystemTime::now())
        }
        Format::Json => report::json::document(&report::incidents::one_json(&detail, verdict)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

fn acknowledge(args: &AckArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let path = &config.store.path;
    let by = Acknowledgement {
        at: SystemTime::now(),
        by: Text::new(user(args.by.as_deref())),
    };
    orders::acknowledge(path, &args.id, &by)?;
    let id = Text::new(&args.id);
    terminal::print(&format!(
        "incident {id} is acknowledged by {}: no reminders and no escalation\n",
        by.by
    ));
    if !store::is_watched(path) {
        terminal::complain(&format!(
            "warning: no `mcpprobe watch {}` is running; the next one will know",
            args.file.display()
        ));
    }
    Ok(Exit::Ok)
}
