//! `mcpprobe watch`: probe on schedule until stopped.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::{Drawer, LiveView};
use super::{Exit, Trouble, cancelled_by_signals, check, load, terminal};
use crate::cli::{FailOn, Format, LogFormat, WatchArgs};
use crate::daemon::{Daemon, Output, Parts, Started};
use crate::model::{State, Target};
use crate::report::CheckReport;
use crate::report::line::{self, LineFormat};
use crate::store::StoreLock;
use crate::telemetry::{ExportSettings, Telemetry};

pub(super) async fn run(args: WatchArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    if config.targets.is_empty() {
        return Err(Trouble::Sentence(format!(
            "{} has no [[server]] to watch",
            args.file.display()
        )));
    }
    let _lock = StoreLock::take(&config.store.path)?;
    let stop = cancelled_by_signals()?;
    let format = match args.log_format {
        LogFormat::Text => LineFormat::Text {
            colour: terminal::colour(&std::io::stdout()),
        },
        LogFormat::Json => LineFormat::Json,
    };
    let (output, drawer) = output(&args)?;
    let settings = ExportSettings::read(config.telemetry.endpoint.as_ref(), &|name| {
        std::env::var(name).ok()
    });
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
        output: Arc::clone(&output),
        board: drawer.as_ref().map(Drawer::board),
    })?;
    let started = Started::start(targets.iter().map(AsRef::as_ref))?;
    if args.once {
        return Ok(once(&args, daemon, started, stop, &targets).await);
    }
    let count = targets.len();
    let what = if count == 1 { "server" } else { "servers" };
    let text = format!(
        "watching {count} {what}; `mcpprobe status {}` tells the state of each",
        args.file.display()
    );
    output.warning(&line::message(format, SystemTime::now(), "info", &text));
    daemon.watch(started, stop).await;
    drop(drawer);
    Ok(Exit::Ok)
}

/// One round, which ends as `check` does.
async fn once(
    args: &WatchArgs,
    daemon: Daemon,
    started: Started,
    stop: CancellationToken,
    targets: &[Arc<Target>],
) -> Exit {
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
    if args.log_format == LogFormat::Text {
        check::print(&report, Format::Table);
    }
    let states = results.iter().map(|result| {
        result
            .as_ref()
            .map_or(State::Unknown, |result| result.state)
    });
    Exit::worst(states, FailOn::Down)
}

/// Where lines go; on a terminal also who draws the table below them.
fn output(args: &WatchArgs) -> Result<(Arc<dyn Output>, Option<Drawer>), String> {
    let lines_only = args.once || args.no_live || args.log_format == LogFormat::Json;
    if lines_only || !terminal::can_be_drawn_on() {
        return Ok((Arc::new(Streams), None));
    }
    let (view, drawer) = LiveView::start()?;
    Ok((view, Some(drawer)))
}

/// stdout and stderr.
struct Streams;

impl Output for Streams {
    fn event(&self, line: &str) {
        terminal::print(&format!("{line}\n"));
    }

    fn warning(&self, line: &str) {
        terminal::print_error(line);
    }
}
