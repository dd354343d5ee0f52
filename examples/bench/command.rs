//! The real `mcpprobe`, its configurations, and runs of it from start to exit.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Trouble, program};

/// How to get what is measured.
const BUILD: &str = "cargo build --release --bins";

/// The program beside this one.
pub(crate) struct Mcpprobe(PathBuf);

/// One run from start to exit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Mcpprobe {
    /// Finds it where cargo puts it: one folder above its examples.
    pub(crate) fn find() -> Result<Self, Trouble> {
        let bench = std::env::current_exe()?;
        let folder = bench
            .parent()
            .and_then(Path::parent)
            .ok_or("this program is nowhere")?;
        let path = folder.join("mcpprobe");
        let built = path
            .metadata()
            .and_then(|found| found.modified())
            .map_err(|error| format!("there is no {}: {error}; run {BUILD}", path.display()))?;
        // `cargo run --example` builds the library of today, and leaves the program of yesterday.
        let library = folder
            .join("libmcpprobe.rlib")
            .metadata()
            .and_then(|found| found.modified());
        if library.is_ok_and(|library| built < library) {
            eprintln!(
                "WARNING: {} is older than the library beside it; run {BUILD}",
                path.display()
            );
        }
        Ok(Self(path))
    }

    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.0);
        // Nothing of the caller's environment may turn the export of spans on or off.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// `watch` of `file`, everything that it says going to `log`.
    pub(crate) fn watch(
        &self,
        file: &Path,
        log: &Path,
    ) -> Result<tokio::process::Command, Trouble> {
        let log = File::create(log)?;
        let mut command = self.command();
        command
            .arg("watch")
            .arg(file)
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command.into())
    }

    /// One `check`, which must find everything up.
    pub(crate) fn check(&self, arguments: &[&OsStr]) -> Result<Run, Trouble> {
        let mut command = self.command();
        command.arg("check").args(arguments).stdout(Stdio::null());
        let cpu = program::cpu_of_ended()?;
        let start = Instant::now();
        let status = command.status()?;
        let wall = start.elapsed();
        if !status.success() {
            return Err(format!("{command:?} ended with {status}").into());
        }
        let cpu = program::cpu_of_ended()?.saturating_sub(cpu);
        Ok(Run { wall, cpu })
    }

    /// Many of them, one after the other.
    pub(crate) fn check_often(
        &self,
        runs: usize,
        arguments: &[&OsStr],
    ) -> Result<Vec<Run>, Trouble> {
        (0..runs).map(|_| self.check(arguments)).collect()
    }
}

/// A configuration with `count` targets, each due every second, their era to be found.
pub(crate) fn servers(count: usize, server: SocketAddr, sink: Option<SocketAddr>) -> String {
    let mut text = configuration(count, server, "auto");
    if let Some(sink) = sink {
        // Writing to a string does not fail.
        writeln!(text, "[telemetry]\nendpoint = \"http://{sink}\"").ok();
    }
    text
}

/// The same, their era known.
pub(crate) fn legacy_servers(count: usize, server: SocketAddr) -> String {
    configuration(count, server, "legacy")
}

fn configuration(count: usize, server: SocketAddr, era: &str) -> String {
    let mut text = format!("[defaults]\nevery = \"1s\"\nera = \"{era}\"\n");
    for number in 0..count {
        let server =
            format!("[[server]]\nname = \"server-{number}\"\nurl = \"http://{server}/mcp\"\n");
        text.push_str(&server);
    }
    text
}
