//! `mcpprobe check`: probe once, print, exit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::terminal::{self, Progress};
use super::{Exit, cancelled_by_signals, load};
use crate::cli::{CheckArgs, Format};
use crate::config::{self, AdHoc, TelemetrySettings};
use crate::daemon::Started;
use crate::model::{ProbeResult, State, Target};
use crate::probe;
use crate::report::{self, CheckReport};
use crate::telemetry::{ExportSettings, Telemetry};

/// Between two probes of a server that is waited for.
const WAIT_POLL: Duration = Duration::from_millis(500);

/// Quiet for this long: a check that is quicker needs no progress.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn run(args: CheckArgs) -> Result<Exit, String> {
    let (mut targets, telemetry) = targets(&args)?;
    override_settings(&mut targets, &args)?;
    let targets: Vec<_> = only(targets, &args.only)?
        .into_iter()
        .map(Arc::new)
        .collect();
    let cancel = cancelled_by_signals()?;
    let settings = ExportSettings::read(&telemetry.receiver, &|name| std::env::var(name).ok());
    let telemetry = Telemetry::start(
        &settings,
        Arc::new(|warning| terminal::complain(&format!("warning: {warning}"))),
    );
    let started = Started::start(targets.iter().map(AsRef::as_ref))?;
    let round = Round {
        started: &started,
        telemetry: &telemetry,
        cancel: &cancel,
        retries: args.retries,
        wait: args.wait_until_up,
        begun: Instant::now(),
    };
    let started_at = SystemTime::now();
    let results = round
        .probe_all(&targets, usize::from(args.concurrency))
        .await;
    let report = CheckReport {
        started_at,
        duration: round.begun.elapsed(),
        targets: targets
            .iter()
            .zip(&results)
            .map(|(target, result)| (target.as_ref(), result.as_deref()))
            .collect(),
    };
    print(&report, args.format);
    tokio::join!(telemetry.flush(), started.end());
    let states = report
        .targets
        .iter()
        .map(|(_, result)| result.map_or(State::Unknown, |result| result.state));
    Ok(Exit::worst(states, args.fail_on))
}

pub(super) fn print(report: &CheckReport<'_>, format: Format) {
    let text = match format {
        Format::Table => report::table::check(report, terminal::look()),
        Format::Json => format!("{:#}\n", report::json::check(report)),
    };
    terminal::print(&text);
}

/// What the arguments name: files, URLs or one command.
fn targets(args: &CheckArgs) -> Result<(Vec<Target>, TelemetrySettings), String> {
    let mut targets = Vec::new();
    let mut telemetry = TelemetrySettings::default();
    if !args.command.is_empty() {
        targets.extend(AdHoc::Command(args.command.clone()).target());
    }
    for name in &args.targets {
        if name.contains("://") {
            let url = Url::parse(name).map_err(|error| format!("this is no URL: {error}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!(
                    "{}:// is not supported, only http:// and https://",
                    url.scheme()
                ));
            }
            targets.extend(AdHoc::Url(url).target());
        } else {
            let config = load(Path::new(name))?;
            targets.extend(config.targets);
            telemetry = config.telemetry;
        }
    }
    if targets.is_empty() {
        return Err("there is no [[server]] to check".to_owned());
    }
    Ok((targets, telemetry))
}

fn override_settings(targets: &mut [Target], args: &CheckArgs) -> Result<(), String> {
    let profile = match &args.profile {
        None => None,
        Some(name) => {
            let known: Vec<_> = config::profile_names().collect();
            let profile = config::named_profile(name).ok_or_else(|| {
                format!("there is no profile {name}; profiles: {}", known.join(", "))
            })?;
            Some(profile)
        }
    };
    let timeout = args.timeout;
    if timeout.is_some_and(|timeout| !config::TIMEOUTS.contains(&timeout)) {
        return Err("`--timeout` has to be from 10ms to 10m".to_owned());
    }
    for target in targets {
        target.timeout = timeout.unwrap_or(target.timeout);
        if let Some(profile) = &profile {
            target.profile = profile.clone();
        }
    }
    Ok(())
}

/// The targets with one of these names or tags; all without any.
fn only(targets: Vec<Target>, wanted: &[String]) -> Result<Vec<Target>, String> {
    if wanted.is_empty() {
        return Ok(targets);
    }
    let matches =
        |target: &Target, word: &String| target.name == *word || target.tags.contains(word);
    for word in wanted {
        if !targets.iter().any(|target| matches(target, word)) {
            let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
            return Err(format!(
                "no server has the name or tag {word}; there are: {}",
                names.join(", ")
            ));
        }
    }
    Ok(targets
        .into_iter()
        .filter(|target| wanted.iter().any(|word| matches(target, word)))
        .collect())
}

/// One round over all targets.
struct Round<'r> {
    started: &'r Started,
    telemetry: &'r Telemetry,
    cancel: &'r CancellationToken,
    retries: u32,
    wait: Option<Duration>,
    begun: Instant,
}

impl Round<'_> {
    async fn probe_all(
        &self,
        targets: &[Arc<Target>],
        concurrency: usize,
    ) -> Vec<Option<Arc<ProbeResult>>> {
        let mut results = vec![None; targets.len()];
        let probes = targets
            .iter()
            .enumerate()
            .map(|(index, target)| async move { (index, self.probe(target).await) });
        let mut running =
            std::pin::pin!(futures_util::stream::iter(probes).buffer_unordered(concurrency));
        let mut progress = Progress::new();
        let mut done = 0;
        let mut tick =
            tokio::time::interval_at(self.begun + PROGRESS_AFTER, Duration::from_millis(200));
        loop {
            tokio::select! {
                next = running.next() => match next {
                    Some((index, result)) => {
                        done += 1;
                        if let Some(slot) = results.get_mut(index) {
                            *slot = result;
                        }
                    }
                    None => break,
                },
                _ = tick.tick() => progress.show(&format!(
                    "{done} of {} probed, {:.0} s",
                    targets.len(),
                    self.begun.elapsed().as_secs_f64()
                )),
            }
        }
        progress.clear();
        results
    }

    /// Probes one target, again as often as was asked for.
    async fn probe(&self, target: &Arc<Target>) -> Option<Arc<ProbeResult>> {
        let mut left = self.retries;
        loop {
            let probe = || probe::probe(target, None, self.cancel);
            let result = Arc::new(self.started.probe_when_up(target, probe).await?);
            self.telemetry.emit(target, &result);
            if result.state.works() {
                return Some(result);
            }
            if self
                .wait
                .is_some_and(|wait| self.begun.elapsed() + WAIT_POLL < wait)
            {
                tokio::select! {
                    () = tokio::time::sleep(WAIT_POLL) => {}
                    () = self.cancel.cancelled() => return Some(result),
                }
            } else if left > 0 {
                left -= 1;
            } else {
                return Some(result);
            }
        }
    }
}
