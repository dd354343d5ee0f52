//! Programs that are measured, and what the kernel says of them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Trouble;

/// The kernel's unit of CPU time in `/proc`: 10 ms wherever Linux runs today.
const TICK: Duration = Duration::from_millis(10);

/// From SIGTERM to the end; a `watch` flushes its store and its spans first.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program, killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    pid: Pid,
}

impl Program {
    /// Starts `command`.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, Trouble> {
        let child = command.kill_on_drop(true).spawn()?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or("the program has ended at once")?;
        Ok(Self { child, pid })
    }

    /// Starts this program again with `arguments`; answers the address that it tells once it is ready.
    pub(crate) async fn start_role<S: AsRef<OsStr>>(
        arguments: &[S],
    ) -> Result<(Self, SocketAddr), Trouble> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut program = Self::spawn(&mut command)?;
        let stdout = program.child.stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        Ok((program, line.trim().parse()?))
    }

    /// CPU time so far, in user space and in the kernel, of all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration, Trouble> {
        cpu(&self.pid.as_raw_nonzero().to_string(), 11)
    }

    /// The most memory that it ever had resident, in kB.
    pub(crate) fn peak_memory(&self) -> Result<u64, Trouble> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or("the kernel tells no VmHWM")?.parse()?)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Trouble> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn end(mut self) -> Result<(), Trouble> {
        kill_process(self.pid, Signal::TERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

/// CPU time of all the programs that have been started here and have ended.
pub(crate) fn cpu_of_ended() -> Result<Duration, Trouble> {
    cpu("self", 13)
}

/// Adds up two fields of `/proc/PROCESS/stat`, `first` of those behind the name and the one after it.
fn cpu(process: &str, first: usize) -> Result<Duration, Trouble> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat
        .rsplit_once(')')
        .ok_or("/proc/PID/stat looks unlike itself")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(first).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}

/// Runs `work` until its end, or until the program that has started this one is gone: then stdin ends.
pub(crate) async fn until_orphaned(
    work: impl Future<Output = Result<(), Trouble>>,
) -> Result<(), Trouble> {
    let mut stdin = tokio::io::stdin();
    let mut nothing = [0];
    tokio::select! {
        done = work => done,
        _ = stdin.read(&mut nothing) => std::process::exit(0),
    }
}
