//! All bad servers at once in one `check`: how long it takes, and how much memory.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Trouble;
use super::bad_servers::BadServers;
use super::command::Mcpprobe;
use super::program::Program;

/// For each probe.
const BUDGET: &str = "3s";

/// Between two looks at its memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was found.
pub(crate) struct Storm {
    pub(crate) servers: usize,
    pub(crate) wall: Duration,
    /// At its peak, in kB.
    pub(crate) memory: u64,
}

/// Serves everything bad from this process and has `mcpprobe` check it.
pub(crate) async fn run(mcpprobe: &Mcpprobe) -> Result<Storm, Trouble> {
    // Each server has a listening socket and some connections.
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most)?;
    let servers = BadServers::start().await?;
    let mut command = mcpprobe.check_all(&servers.file, BUDGET, servers.authority());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut program = Program::spawn(&mut command)?;
    let mut memory = 0;
    while !program.has_ended()? {
        memory = program.peak_memory().unwrap_or_default().max(memory);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(Storm {
        servers: servers.count,
        wall: begun.elapsed(),
        memory,
    })
}

impl Mcpprobe {
    fn check_all(&self, file: &Path, budget: &str, authority: &Path) -> tokio::process::Command {
        let mut command = self.command();
        command
            .args(["check", "--format", "json", "--concurrency", "4096"])
            .args(["--timeout", budget])
            .arg(file)
            .env("SSL_CERT_FILE", authority)
            .env_remove("SSL_CERT_DIR");
        command.into()
    }
}
