//! Another configuration while we run: atomic, and a bad one changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Daemon, Done, Inquiry, Started, control, inquiry, requests_of};
use crate::config::Config;
use crate::model::TracesSettings;
use crate::report::line::LineFormat;
use crate::schedule::DueQueue;
use crate::store::{Write, fact};

/// How often the file is looked at. Whoever saves it waits no longer; a look is one `stat`.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Tells when the configuration should be read again: by SIGHUP, or because the file is another one.
pub(super) struct Changed {
    file: PathBuf,
    seen: Option<Stamp>,
    /// Another one than was seen, once: it is read when it has stayed the same for a look, for it may be half written.
    unsettled: Option<Stamp>,
    look: Interval,
    hangup: Option<Signal>,
}

/// What a file looks like from outside: when it was written, its size, which one it is.
type Stamp = (Option<SystemTime>, u64, u64);

/// What the file looked like before it was read at the start: opening the store may take a while, and whoever saves the
/// file meanwhile must not wait for the next restart.
#[derive(Clone, Copy, Debug)]
pub struct Seen(Option<Stamp>);

impl Seen {
    /// To be called before the file is read.
    pub fn now(file: &Path) -> Self {
        Self(stamp(file))
    }
}

impl Changed {
    pub(super) fn watching(file: &Path, seen: Seen) -> Self {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            seen: seen.0,
            unsettled: None,
            file: file.to_owned(),
            look,
            hangup: signal(SignalKind::hangup()).ok(),
        }
    }

    /// Returns when it should be read.
    pub(super) async fn wait(&mut self) {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hangup => {
                    self.seen = stamp(&self.file);
                    self.unsettled = None;
                    return;
                }
                _ = self.look.tick() => if self.has_settled() {
                    return;
                }
            }
        }
    }

    fn has_settled(&mut self) -> bool {
        // A file that is missing for a moment is being replaced.
        let Some(now) = stamp(&self.file) else {
            return false;
        };
        if self.seen == Some(now) {
            self.unsettled = None;
            return false;
        }
        if self.unsettled.replace(now) != Some(now) {
            return false;
        }
        self.seen = self.unsettled.take();
        true
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(file).ok()?;
    Some((data.modified().ok(), data.len(), data.ino()))
}

/// What only a restart changes.
pub(super) fn fixed(config: &Config) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        config.store,
        config.telemetry,
        config.alerting.heartbeat,
        super::embedded(&config.traces)
    )
}

impl Daemon {
    /// Reads the configuration again, in the background: its files may lie on a slow disk.
    pub(super) fn reread(&mut self, background: &mut JoinSet<Done>) {
        let reread = Arc::clone(&self.settings.reread);
        self.rereads += 1;
        let number = self.rereads;
        background.spawn(async move {
            let read = tokio::task::spawn_blocking(move || reread()).await;
            let read = read.unwrap_or_else(|error| Err(error.to_string()));
            Done::Reread(number, Box::new(read))
        });
    }

    /// The configuration, if it can be used and nothing newer is being read.
    pub(super) fn reread_done(
        &mut self,
        number: u64,
        read: Result<Config, String>,
    ) -> Option<Box<Config>> {
        if number != self.rereads {
            return None;
        }
        let config = match read {
            Ok(config) if config.targets.is_empty() => {
                Err("it has no [[server]] to watch".to_owned())
            }
            read => read,
        };
        match config {
            Ok(config) => Some(Box::new(config)),
            Err(why) => {
                self.say_unusable(&why);
                self.remember_reload(Some(why));
                None
            }
        }
    }

    fn say_unusable(&self, why: &str) {
        let first = why.lines().find(|line| !line.trim().is_empty());
        // The whole of it has lines and marks. Whoever reads one object per line gets it in one.
        let (said, whole) = match self.format {
            LineFormat::Json => (why, None),
            LineFormat::Text { .. } => (first.unwrap_or_default(), Some(why)),
        };
        self.warn(&format!(
            "{} has been changed and cannot be used; watching goes on with what was read before: {said}",
            self.settings.file.display()
        ));
        if let Some(whole) = whole {
            self.output.warning(whole);
        }
    }

    pub(super) fn remember_reload(&self, error: Option<String>) {
        self.writer.write(Write::Fact {
            key: fact::RELOAD_ERROR.to_owned(),
            value: error,
        });
    }

    /// Goes on with another configuration; answers the queue for the next runner.
    pub(super) async fn reload(&mut self, config: Config, started: &Arc<Started>) -> DueQueue {
        let now = SystemTime::now();
        if fixed(&config) != self.settings.fixed {
            self.warn("[store], [telemetry], [heartbeat] and the embedded trace backend are read at a start only: restart to change them");
        }
        let (fleet, difference) = self.fleet.succeed(config.targets);
        self.fleet = fleet;
        for why in started.follow(&self.fleet.targets).await {
            self.warn(&why);
        }
        self.settings.alerting = config.alerting.clone();
        self.limits = self.settings.limits(config.schedule);
        self.set_traces(config.traces);
        if let Some(outbox) = &self.outbox {
            outbox.reload(config.alerting.channels.clone()).await;
        }
        let controls = config.alerting.controls.clone();
        let controls = controls.unwrap_or_else(control::usual);
        if controls != self.asker.controls {
            let known = self.names_of_worked();
            self.asker.replace(controls);
            self.desk.set_controls(&self.asker.worked(&known));
        }
        let words = self.settings.words(self.inquiry.as_ref());
        let targets = Arc::clone(&self.fleet.targets);
        let changes = self.desk.reload(config.alerting, &targets, words, now);
        self.commit(changes);
        if let Some(board) = &self.board {
            board.clear();
        }
        for index in 0..targets.len() {
            self.show(index, None);
        }
        let (requests, requested) = requests_of(targets.len());
        self.requests = requests;
        self.requested = Some(requested);
        self.remember_reload(None);
        self.say(
            "info",
            &format!(
                "{} read again: {} servers added, {} changed, {} removed, {} as before",
                self.settings.file.display(),
                difference.added,
                difference.changed,
                difference.removed,
                targets.len() - difference.fresh.len(),
            ),
        );
        // The last thing: the queue counts from the start of its runner, and servers that end slowly have taken time.
        let now = SystemTime::now();
        DueQueue::going_on(self.fleet.slots(now), &difference.fresh, now)
    }

    pub(super) fn set_inquiry(&mut self, inquiry: Option<Inquiry>) {
        if let Ok(mut enquirer) = self.enquirer.write() {
            enquirer.clone_from(&inquiry);
        }
        self.inquiry = inquiry;
    }

    fn set_traces(&mut self, traces: Vec<TracesSettings>) {
        let targets = &self.fleet.targets;
        let before = self.inquiry.as_ref().map(|i| Arc::clone(&i.sources));
        let before = before.as_deref().unwrap_or_default();
        match inquiry(&traces, before, &self.settings.store, targets) {
            Ok(inquiry) => self.set_inquiry(inquiry),
            Err(why) => self.warn(&why),
        }
        self.settings.traces = traces;
    }
}
