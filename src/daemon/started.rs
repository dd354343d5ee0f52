//! Servers that mcpprobe starts itself (`start`), for the length of the run.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use crate::model::{CommandLine, Layer, ProbeResult, Reason, Secret, Target, Text};
use crate::probe::keep_last_lines;
use crate::process::{ENVIRONMENT, ProcessGroup};

/// How long a server may take from its start to accepting connections: it may be built or fetched first.
pub(super) const START_WAIT: Duration = Duration::from_secs(120);

/// Between two looks at a server that does not accept connections yet.
const START_POLL: Duration = Duration::from_millis(200);

/// For the last output of a server that has ended to be read; what it started may hold its streams open for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(300);
const OUTPUT_POLL: Duration = Duration::from_millis(5);

/// What a server gets to end by itself after SIGTERM is the probe's limit; before it, nothing: an HTTP server waits for nobody.
const END_PATIENCE: Duration = Duration::ZERO;

/// Between SIGTERM and SIGKILL.
const END_GRACE: Duration = Duration::from_secs(1);

/// The servers that run because of us.
#[derive(Default)]
pub struct Started {
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

struct Server {
    command: CommandLine,
    /// None once it was ended.
    process: Mutex<Option<ProcessGroup>>,
    output: Arc<Mutex<Vec<u8>>>,
    /// Its streams that have not ended yet.
    open: Arc<AtomicUsize>,
    since: Instant,
    /// It was seen accepting connections: from then on a refusal is an outage.
    accepted: Mutex<bool>,
}

impl Started {
    /// Starts every server that says so.
    ///
    /// # Errors
    /// A sentence when a command cannot be started.
    pub fn start<'t>(targets: impl Iterator<Item = &'t Target>) -> Result<Self, String> {
        let mut servers = HashMap::new();
        for target in targets {
            if let Some(command) = &target.start {
                servers.insert(
                    target.name.clone(),
                    Arc::new(Server::start(target, command)?),
                );
            }
        }
        Ok(Self {
            servers: Mutex::new(servers),
        })
    }

    /// Other targets from now on: ends servers that are not wanted any more, starts new ones, and leaves those alone
    /// whose command is the same. Answers what went wrong.
    pub async fn follow(&self, targets: &[Arc<Target>]) -> Vec<String> {
        let mut before = std::mem::take(&mut *lock(&self.servers));
        let mut servers = HashMap::new();
        let mut fresh = Vec::new();
        for target in targets {
            let Some(command) = &target.start else {
                continue;
            };
            let is_same = |server: &Arc<Server>| server.command.is_same(command);
            match before.remove(&target.name).filter(is_same) {
                Some(server) => {
                    servers.insert(target.name.clone(), server);
                }
                None => fresh.push((target, command)),
            }
        }
        // Those that go first: a new one may want their port.
        let gone = before.into_values().map(|server| server.end());
        futures_util::future::join_all(gone).await;
        let mut troubles = Vec::new();
        for (target, command) in fresh {
            match Server::start(target, command) {
                Ok(server) => {
                    servers.insert(target.name.clone(), Arc::new(server));
                }
                Err(why) => troubles.push(why),
            }
        }
        *lock(&self.servers) = servers;
        troubles
    }

    fn server(&self, target: &Target) -> Option<Arc<Server>> {
        lock(&self.servers).get(&target.name).map(Arc::clone)
    }

    /// Probes `target` with `probe`. A server that has only just been started is probed again until
    /// it accepts connections, has ended, or has had its time.
    pub async fn probe_when_up<F, P>(&self, target: &Target, mut probe: F) -> Option<ProbeResult>
    where
        F: FnMut() -> P,
        P: Future<Output = Option<ProbeResult>>,
    {
        loop {
            let mut result = probe().await?;
            let Some(server) = self.server(target) else {
                return Some(result);
            };
            let refused = result
                .failure
                .as_ref()
                .is_some_and(|f| f.layer == Layer::Transport && f.reason != Reason::Expectation);
            if !server.may_come_up(refused) {
                if let Some(words) = self.last_words(target).await
                    && let Some(failure) = &mut result.failure
                {
                    failure.message = Text::new(format!("{}; {words}", failure.message));
                }
                return Some(result);
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// Why a server that should run does not: its last words.
    async fn last_words(&self, target: &Target) -> Option<Text> {
        let server = self.server(target)?;
        if server.is_running() {
            return None;
        }
        // It has ended; what it said last may still be on its way.
        let read = async {
            while server.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(OUTPUT_POLL).await;
            }
        };
        tokio::time::timeout(OUTPUT_GRACE, read).await.ok();
        let output = lock(&server.output);
        let text = String::from_utf8_lossy(&output);
        let mut lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .rev()
            .take(3)
            .collect();
        lines.reverse();
        let words = format!(
            "the started server has ended; its output ends: {}",
            lines.join(" | ")
        );
        let secrets = target.secrets.iter().map(Secret::expose);
        Some(Text::redacted(&words, secrets))
    }

    /// Ends all of them.
    pub async fn end(self) {
        let servers = self.servers.into_inner();
        let servers = servers.unwrap_or_else(PoisonError::into_inner);
        let ends = servers.into_values().map(|server| server.end());
        futures_util::future::join_all(ends).await;
    }
}

impl Server {
    fn start(target: &Target, command: &CommandLine) -> Result<Self, String> {
        let mut process = ProcessGroup::spawn(command, &ENVIRONMENT).map_err(|error| {
            format!("cannot start {} ({}): {error}", target.name, command.shown)
        })?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let (_, stdout, stderr) = process.streams();
        let open = Arc::new(AtomicUsize::new(2));
        tokio::spawn(keep_last(stdout, Arc::clone(&output), Arc::clone(&open)));
        tokio::spawn(keep_last(stderr, Arc::clone(&output), Arc::clone(&open)));
        Ok(Self {
            command: command.clone(),
            process: Mutex::new(Some(process)),
            output,
            open,
            since: Instant::now(),
            accepted: Mutex::new(false),
        })
    }

    fn is_running(&self) -> bool {
        lock(&self.process)
            .as_mut()
            .is_some_and(ProcessGroup::is_running)
    }

    async fn end(self: Arc<Self>) {
        let process = lock(&self.process).take();
        if let Some(mut process) = process {
            process.end(END_PATIENCE, END_GRACE).await;
        }
    }

    /// Whether a refused connection may only mean that it has not got that far yet.
    fn may_come_up(&self, refused: bool) -> bool {
        let mut accepted = lock(&self.accepted);
        *accepted |= !refused;
        !*accepted && self.since.elapsed() < START_WAIT && self.is_running()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a stream to its end, so that the server never blocks on it, and keeps the last of it.
async fn keep_last(
    mut stream: Option<impl AsyncRead + Unpin>,
    output: Arc<Mutex<Vec<u8>>>,
    open: Arc<AtomicUsize>,
) {
    let mut piece = [0; 1024];
    while let Some(stream) = &mut stream
        && let Ok(read @ 1..) = stream.read(&mut piece).await
    {
        let mut output = lock(&output);
        output.extend_from_slice(piece.get(..read).unwrap_or_default());
        keep_last_lines(&mut output);
    }
    open.fetch_sub(1, Ordering::Relaxed);
}
