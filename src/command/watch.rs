//! `mcpprobe watch`: probe on schedule until stopped.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use super::live::{Drawer, LiveView};
use super::{Exit, Hangup, Trouble, cancelled_by_signals, check, terminal};
use crate::cli::{FailOn, Format, LogFormat, WatchArgs};
use crate::config::{self, Complaints, Config};
use crate::daemon::{self, Daemon, Embedded, Enquirer, Output, Parts, Seen, Started};
use crate::model::{ChannelKind, State, Target, Timing};
use crate::report::CheckReport;
use crate::report::line::{self, LineFormat};
use crate::schedule::Limits;
use crate::telemetry::{self, ExportSettings, Telemetry};

pub(super) async fn run(args: WatchArgs) -> Result<Exit, Trouble> {
    let seen = Seen::now(&args.file);
    let loaded = match config::load(&args.file, None) {
        Ok(loaded) => loaded,
        Err(complaints) => {
            terminal::complain_about(&complaints);
            return Err(Trouble::Configuration);
        }
    };
    let (mut config, doubts) = (loaded.config, loaded.doubts);
    if args.once {
        fire_until_resolved(&mut config);
    }
    if config.targets.is_empty() {
        return Err(Trouble::Sentence(format!(
            "{} has no [[server]] to watch",
            args.file.display()
        )));
    }
    // On a terminal SIGHUP means that it was closed.
    let hangup = match args.once || std::io::stdout().is_terminal() {
        true => Hangup::Ends,
        false => Hangup::Spared,
    };
    let stop = cancelled_by_signals(hangup)?;
    let format = match args.log_format {
        LogFormat::Text => LineFormat::Text {
            colour: terminal::colour(&std::io::stdout()),
        },
        LogFormat::Json => LineFormat::Json,
    };
    if args.log_format == LogFormat::Text {
        terminal::complain_about(&doubts);
    }
    let (output, drawer) = output(&args)?;
    if args.log_format == LogFormat::Json {
        say_doubts(&*output, format, &doubts);
    }
    let settings =
        ExportSettings::read(&config.telemetry.receiver, &|name| std::env::var(name).ok());
    let warn_to = Arc::clone(&output);
    let warn = move |text: &str| {
        warn_to.warning(&line::message(format, SystemTime::now(), "warning", text));
    };
    let warn: telemetry::Warn = Arc::new(warn);
    let enquirer = Enquirer::default();
    // The last to end: what the others do at their end are spans too.
    let embedded = daemon::embedded(&config.traces)
        .and_then(|embedded| Embedded::start(embedded, settings.resource(), &enquirer, &warn));
    let local = embedded.as_ref().map(Embedded::local);
    let telemetry = Telemetry::start(&settings, local, warn);
    let (file, doubts_to) = (args.file.clone(), Arc::clone(&output));
    let reread = move || match config::load(&file, None) {
        Ok(loaded) => {
            say_doubts(&*doubts_to, format, &loaded.doubts);
            Ok(loaded.config)
        }
        Err(complaints) => Err(complaints.to_string()),
    };
    let channels = config.alerting.channels.len();
    let daemon = Daemon::new(Parts {
        config,
        file: args.file.clone(),
        seen,
        reread: Arc::new(reread),
        at_once: if args.once {
            Limits::IN_A_ROUND
        } else {
            Limits::ON_SCHEDULE
        },
        telemetry,
        format,
        output: Arc::clone(&output),
        board: drawer.as_ref().map(Drawer::board),
        enquirer,
    })
    .await
    .inspect_err(|_| output.flush())?;
    let targets = daemon.targets();
    let started =
        Started::start(targets.iter().map(AsRef::as_ref)).inspect_err(|_| output.flush())?;
    if args.once {
        return Ok(once(&args, daemon, started, stop, &targets, &*output).await);
    }
    let now = SystemTime::now();
    let watching = watching(&targets, &args.file.display().to_string());
    let unheard = (channels == 0).then(|| {
        "there is no [[channel]]: incidents are recorded, and nobody is told of them".to_owned()
    });
    let texts = std::iter::once(watching)
        .chain(waiting(&targets, now))
        .chain(unheard)
        .chain(embedded.as_ref().and_then(Embedded::listening));
    for text in texts {
        output.warning(&line::message(format, now, "info", &text));
    }
    daemon.watch(started, stop).await;
    output.flush();
    drop(drawer);
    Ok(Exit::Ok)
}

/// What is doubtful about the file, with its lines and marks; whoever reads one object per line gets it in one.
fn say_doubts(output: &dyn Output, format: LineFormat, doubts: &Complaints) {
    if doubts.warnings.is_empty() {
        return;
    }
    let text = doubts.to_string();
    output.warning(&match format {
        LineFormat::Text { .. } => text,
        LineFormat::Json => line::message(format, SystemTime::now(), "warning", &text),
    });
}

/// One round, which ends as `check` does.
async fn once(
    args: &WatchArgs,
    daemon: Daemon,
    started: Started,
    stop: CancellationToken,
    targets: &[Arc<Target>],
    output: &dyn Output,
) -> Exit {
    let (started_at, begun) = (SystemTime::now(), Instant::now());
    let results = daemon.round(started, stop).await;
    output.flush();
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

/// Alerts end by themselves when nobody tells them again, and between two rounds nobody does: they last for a day, which
/// their resolution ends.
fn fire_until_resolved(config: &mut Config) {
    for channel in &mut config.alerting.channels {
        if let ChannelKind::Alertmanager(settings) = &mut channel.kind {
            settings.resend = settings.resend.max(Duration::from_secs(6 * 3600));
        }
    }
}

/// Where lines go; on a terminal also who draws the table below them.
fn output(args: &WatchArgs) -> Result<(Arc<dyn Output>, Option<Drawer>), String> {
    let lines_only = args.once || args.no_live || args.log_format == LogFormat::Json;
    if lines_only || !terminal::can_be_drawn_on() {
        return Ok((Arc::new(Lines::start()?), None));
    }
    let (view, drawer) = LiveView::start()?;
    Ok((view, Some(drawer)))
}

fn watching(targets: &[Arc<Target>], file: &str) -> String {
    let count = targets.len();
    let what = if count == 1 { "server" } else { "servers" };
    format!("watching {count} {what}; `mcpprobe status {file}` tells the state of each")
}

/// Who is not probed before its time has come, so that nobody takes the silence for an error.
fn waiting(targets: &[Arc<Target>], now: SystemTime) -> Option<String> {
    let starts = targets.iter().filter_map(|target| match &target.timing {
        Timing::Cron(cron) => Some((cron.next_after(now)?, &target.name)),
        Timing::Every(_) => None,
    });
    let starts: Vec<_> = starts.collect();
    let (at, name) = starts.iter().min()?;
    let at = humantime::format_rfc3339_seconds(*at);
    Some(match starts.len() {
        1 => format!("{name} waits for its `cron`: it is first probed at {at}"),
        count => format!("{count} servers wait for their `cron`: {name} is the first, at {at}"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn says_who_waits_until_when() {
        let now = humantime::parse_rfc3339("2026-11-21T12:00:00Z").unwrap();
        let said = |timings: &[&str]| {
            let server = |(n, timing)| {
                format!("[[server]]\nname = \"s{n}\"\nurl = \"http://a/\"\n{timing}\n")
            };
            let text: String = (0..).zip(timings).map(server).collect();
            let loaded = config::parse(&text, "f", Path::new("/"), &|_| None, now).unwrap();
            let targets: Vec<_> = loaded.config.targets.into_iter().map(Arc::new).collect();
            waiting(&targets, now).unwrap_or_default()
        };
        assert_eq!(said(&["every = \"60s\""]), "");
        assert_eq!(
            said(&["", "cron = \"0 8 * * Mon\""]),
            "s1 waits for its `cron`: it is first probed at 2026-11-23T08:00:00Z"
        );
        assert_eq!(
            said(&["cron = \"0 8 * * Mon\"", "cron = \"@hourly\""]),
            "2 servers wait for their `cron`: s1 is the first, at 2026-11-21T13:00:00Z"
        );
    }
}
