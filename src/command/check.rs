//! `mcpprobe check`: probe once, print, exit.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::terminal::{self, Progress};
use super::{Exit, Hangup, Trouble, cancelled_by_signals, load_with};
use crate::cli::{CheckArgs, Format};
use crate::config::{self, AdHoc, ScheduleSettings, TelemetrySettings};
use crate::daemon::Started;
use crate::model::{ProbeResult, State, Target};
use crate::probe::{self, Wanted, Wish};
use crate::report::{self, CheckReport};
use crate::schedule::{Clock, DueQueue, Finished, Limits, Request, Runner, Turns};
use crate::telemetry::{ExportSettings, Telemetry};

/// Between two probes of a server that is waited for.
const WAIT_POLL: Duration = Duration::from_millis(500);

/// Quiet for this long: a check that is quicker needs no progress.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn run(args: CheckArgs) -> Result<Exit, Trouble> {
    let (mut targets, files) = targets(&args)?;
    override_timeout(&mut targets, &args)?;
    let targets: Vec<_> = only(targets, &args.only)?
        .into_iter()
        .map(Arc::new)
        .collect();
    let cancel = cancelled_by_signals(Hangup::Ends)?;
    let settings =
        ExportSettings::read(&files.telemetry.receiver, &|name| std::env::var(name).ok());
    let telemetry = Telemetry::start(
        &settings,
        None,
        Arc::new(|warning| terminal::complain(&format!("warning: {warning}"))),
    );
    let started = Arc::new(Started::start(targets.iter().map(AsRef::as_ref))?);
    let at_once = args.concurrency.map(usize::from);
    let round = Round {
        targets: &targets,
        limits: Limits {
            at_once: at_once
                .or(files.schedule.concurrency)
                .unwrap_or(Limits::IN_A_ROUND),
            per_host: files.schedule.per_host,
        },
        telemetry: &telemetry,
        cancel: &cancel,
        retries: args.retries,
        wait: args.wait_until_up,
        trace_log: args.trace_log,
        begun: Instant::now(),
    };
    let started_at = SystemTime::now();
    let results = round.probe_all(&started).await;
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
    let servers = async {
        if let Some(started) = Arc::into_inner(started) {
            started.end().await;
        }
    };
    tokio::join!(telemetry.flush(), servers);
    let states = report
        .targets
        .iter()
        .map(|(_, result)| result.map_or(State::Unknown, |result| result.state));
    Ok(Exit::worst(states, args.fail_on))
}

pub(super) fn print(report: &CheckReport<'_>, format: Format) {
    let text = match format {
        Format::Table => {
            let hint = report::table::hint(report).filter(|_| terminal::is_read_by_a_person());
            report::table::check(report, terminal::look()) + &hint.unwrap_or_default()
        }
        Format::Json => report::json::document(&report::json::check(report)),
    };
    terminal::print(&text);
}

/// What is not said by a server; that of the last file counts.
#[derive(Default)]
struct Files {
    telemetry: TelemetrySettings,
    schedule: ScheduleSettings,
}

/// What the arguments name: files, URLs or one command.
fn targets(args: &CheckArgs) -> Result<(Vec<Target>, Files), Trouble> {
    let profile = args.profile.as_deref().map(config::load_profile);
    // It says "error" of itself, for it may be of a file with lines.
    let profile = profile.transpose().map_err(|complaints| {
        terminal::complain(&complaints);
        Trouble::Configuration
    })?;
    let profile = profile.as_ref();
    let env = |name: &str| std::env::var(name).ok();
    let mut targets = Vec::new();
    let mut files = Files::default();
    let mut doubts = BTreeSet::new();
    if !args.command.is_empty() {
        targets.push(AdHoc::Command(args.command.clone()).target(profile, &env)?);
    }
    for name in &args.targets {
        if name.contains("://") {
            let url = AdHoc::Url(name.clone());
            doubts.extend(url.doubts(&env));
            targets.push(url.target(profile, &env)?);
        } else {
            let config = load_with(Path::new(name), profile)?;
            targets.extend(config.targets);
            files = Files {
                telemetry: config.telemetry,
                schedule: config.schedule,
            };
        }
    }
    for doubt in doubts {
        terminal::complain(&format!("warning: {doubt}"));
    }
    if targets.is_empty() {
        return Err("there is no [[server]] to check".to_owned().into());
    }
    Ok((targets, files))
}

fn override_timeout(targets: &mut [Target], args: &CheckArgs) -> Result<(), String> {
    let timeout = args.timeout;
    if timeout.is_some_and(|timeout| !config::TIMEOUTS.contains(&timeout)) {
        return Err("`--timeout` has to be from 10ms to 10m".to_owned());
    }
    for target in targets {
        target.timeout = timeout.unwrap_or(target.timeout);
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
    targets: &'r [Arc<Target>],
    limits: Limits,
    telemetry: &'r Telemetry,
    cancel: &'r CancellationToken,
    retries: u32,
    wait: Option<Duration>,
    trace_log: bool,
    begun: Instant,
}

/// What a probe gives; nothing when it was cancelled before it began.
type Output = Option<Arc<ProbeResult>>;

impl Round<'_> {
    /// Probes every target, again as often as was asked for.
    async fn probe_all(&self, started: &Arc<Started>) -> Vec<Output> {
        let count = self.targets.len();
        // No target is asked for again before it has ended: neither of these can be full.
        let (sender, mut ended) = mpsc::channel(count.max(1));
        let (requests, requested) = mpsc::channel(count.max(1));
        let running = tokio::spawn(self.run(Arc::clone(started), sender, requested));
        let mut results = vec![None; count];
        let mut retries = vec![self.retries; count];
        let mut progress = Progress::new();
        let mut done = 0;
        let mut tick =
            tokio::time::interval_at(self.begun + PROGRESS_AFTER, Duration::from_millis(200));
        while done < count {
            tokio::select! {
                finished = ended.recv() => {
                    let Some(Finished { index, output, .. }) = finished else { break };
                    let again = self.again(output.as_deref(), retries.get_mut(index));
                    self.take_in(index, output, &mut results);
                    let request = again.map(|after| Request { index, after });
                    if request.is_none_or(|request| requests.try_send(request).is_err()) {
                        done += 1;
                    }
                }
                _ = tick.tick() => progress.show(&format!(
                    "{done} of {count} probed, {:.0} s",
                    self.begun.elapsed().as_secs_f64()
                )),
            }
        }
        // Without anybody who could ask for more, the runner ends.
        drop(requests);
        running.await.ok();
        progress.clear();
        results
    }

    /// Runs every target once, and what is requested, until nobody can request more.
    fn run(
        &self,
        started: Arc<Started>,
        results: mpsc::Sender<Finished<Output>>,
        requests: mpsc::Receiver<Request>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let hosts = self.targets.iter().map(|target| target.endpoint.host());
        let turns = Turns::new(self.limits, hosts);
        let (targets, cancel) = (self.targets.to_vec(), self.cancel.clone());
        let stop = cancel.clone();
        let wish = Wish {
            hint: None,
            conversation: match self.trace_log {
                true => Wanted::Always,
                false => Wanted::Never,
            },
            call: None,
        };
        let work = move |index: usize| {
            let target = targets.get(index).cloned();
            let (started, cancel) = (Arc::clone(&started), cancel.clone());
            async move {
                let target = target?;
                let probe = || probe::probe(&target, wish, &cancel);
                Some(Arc::new(started.probe_when_up(&target, probe).await?))
            }
        };
        let queue = DueQueue::round(self.targets.len());
        Runner::new(queue, turns, Clock::system(), work).run(results, requests, stop)
    }

    fn take_in(&self, index: usize, output: Output, results: &mut [Output]) {
        let target = self.targets.get(index);
        if let (Some(result), Some(target), Some(slot)) = (output, target, results.get_mut(index)) {
            if self.trace_log {
                terminal::complain(&report::conversation::conversation(target, &result));
            }
            self.telemetry.emit(target, &result);
            *slot = Some(result);
        }
    }

    /// Whether to probe again, and after how long.
    fn again(&self, result: Option<&ProbeResult>, retries: Option<&mut u32>) -> Option<Duration> {
        if result?.state.works() {
            return None;
        }
        let polled = self.begun.elapsed() + WAIT_POLL;
        if self.wait.is_some_and(|wait| polled < wait) {
            return Some(WAIT_POLL);
        }
        let retries = retries?;
        *retries = retries.checked_sub(1)?;
        Some(Duration::ZERO)
    }
}
