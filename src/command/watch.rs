//! `mcpprobe watch`: probe on schedule until stopped.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Exit, cancelled_by_signals, check, load, terminal};
use crate::cli::{FailOn, Format, LogFormat, WatchArgs};
use crate::daemon::{Daemon, Output, Parts, Started};
use crate::model::{State, Target};
use crate::report::CheckReport;
use crate::report::line::{self, LineFormat};
use crate::store::StoreLock;
use crate::telemetry::{ExportSettings, Telemetry};

pub(super) async fn run(args: WatchArgs) -> Result<Exit, String> {
    let config = load(&args.file)?;
    if config.targets.is_empty() {
        return Err(format!(
            "{} has no [[server]] to watch",
            args.file.display()
        ));
    }
    let _lock = StoreLock::take(&config.store.path)?;
    let stop = cancelled_by_signals()?;
    let format = match args.log_format {
        LogFormat::Text => LineFormat::Text,
        LogFormat::Json => LineFormat::Json,
    };
    let output: Arc<dyn Output> = Arc::new(Streams);
    let settings =
        ExportSettings::read(&config.telemetry.receiver, &|name| std::env::var(name).ok());
    let warn_to = Arc::clone(&output);
    let warn = move |text: &str| {
        warn_to.warning(&line::message(format, SystemTime::now(), "warning", text));
    };
    let telemetry = Telemetry::start(&settings, Arc::new(warn));
    let targets: Vec<Arc<Target>> = config.targets.into_iter().map(Arc::new).collect();
    let daemon = Daemon::new(Parts {
        targets: targets.clone(),
        store: config.store.path,
        telemetry,
        traces: config.traces,
        format,
        output,
    })?;
    let started = Started::start(targets.iter().map(AsRef::as_ref))?;
    if !args.once {
        let count = targets.len();
        let what = if count == 1 { "server" } else { "servers" };
        let text = format!(
            "watching {count} {what}; `mcpprobe status {}` tells the state of each",
            args.file.display()
        );
        terminal::complain(&line::message(format, SystemTime::now(), "info", &text));
        daemon.watch(started, stop).await;
        return Ok(Exit::Ok);
    }
    let (started_at, begun) = (SystemTime::now(), Instant::now());
    let results = daemon.round(started, stop).await;
    let report = CheckReport {
        started_at,
        duration: begun.elapsed(),
        targets: targets
            .iter()
            .zip(&results)
            .map(|(target, result)| (target.as_ref(), result.as_deref()))
            .collect(),
    };
    if format == LineFormat::Text {
        check::print(&report, Format::Table);
    }
    let states = results.iter().map(|result| {
        result
            .as_ref()
            .map_or(State::Unknown, |result| result.state)
    });
    Ok(Exit::worst(states, FailOn::Down))
}

/// stdout and stderr.
struct Streams;

impl Output for Streams {
    fn event(&self, line: &str) {
        terminal::print(&format!("{line}\n"));
    }

    fn warning(&self, line: &str) {
        terminal::complain(line);
    }
}
