//! A program in a process group of its own, of which nothing is left running.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::model::CommandLine;

/// What a server that we start gets of our environment: what programs need to run at all, and nothing that could be a
/// secret of ours. MCP's SDKs let their clients pass on `HOME`, `LOGNAME`, `PATH`, `SHELL`, `TERM` and `USER`; a language, a
/// zone and a place for temporary files are as harmless.
pub const ENVIRONMENT: [&str; 22] = [
    "HOME",
    "LANG",
    "LC_ADDRESS",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
];

/// How often a group is looked at while its stragglers end.
const STRAGGLER_POLL: Duration = Duration::from_millis(20);

/// A running program and all that it started. Dropping it kills the whole group at once.
pub struct ProcessGroup {
    child: Child,
    group: Option<Pid>,
}

impl ProcessGroup {
    /// Starts `command` with all three streams piped. Of our environment it gets the variables of these names only.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: &CommandLine, environment: &[&str]) -> io::Result<Self> {
        let mut builder = Command::new(&command.program);
        builder
            .args(&command.args)
            .env_clear()
            .envs(
                environment
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(&command.env)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(cwd) = &command.cwd {
            builder.current_dir(cwd);
        }
        let child = builder.spawn().map_err(|error| explained(command, error))?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// The three streams, once.
    pub fn streams(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (
            self.child.stdin.take(),
            self.child.stdout.take(),
            self.child.stderr.take(),
        )
    }

    /// Whether the program itself still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the program itself to end, and answers how.
    ///
    /// # Errors
    /// When the system cannot say.
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits for the program itself to end.
    pub async fn ended(&mut self) {
        self.child.wait().await.ok();
    }

    /// Waits for the program itself to end, at most `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait())
            .await
            .ok()?
            .ok()
    }

    /// Ends the group: `patience` for it to end by itself, then SIGTERM, `grace`, then SIGKILL.
    pub async fn end(&mut self, patience: Duration, grace: Duration) {
        if self.wait(patience).await.is_none() {
            self.signal(Signal::TERM);
            if self.wait(grace).await.is_none() {
                self.signal(Signal::KILL);
                self.child.wait().await.ok();
            }
        }
        // The program is gone; what it started may not be.
        if self.has_members() {
            self.signal(Signal::TERM);
            let waited = async {
                while self.has_members() {
                    tokio::time::sleep(STRAGGLER_POLL).await;
                }
            };
            if tokio::time::timeout(grace, waited).await.is_err() {
                self.signal(Signal::KILL);
            }
        }
        self.group = None;
    }

    fn has_members(&self) -> bool {
        self.group
            .is_some_and(|group| test_kill_process_group(group).is_ok())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // ESRCH: nobody left to signal.
            kill_process_group(group, signal).ok();
        }
    }
}

/// "No such file" may be the program or the folder that it should run in.
fn explained(command: &CommandLine, error: io::Error) -> io::Error {
    match &command.cwd {
        Some(cwd) if !cwd.is_dir() => io::Error::new(
            error.kind(),
            format!("its folder {} does not exist", cwd.display()),
        ),
        _ => error,
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
