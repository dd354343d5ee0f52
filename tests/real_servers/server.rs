//! One running server of a case, and the count of its sessions.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::case::{Case, Sessions};
use crate::support;

/// How long a server may take to see that a connection was closed, or to end.
const GRACE: Duration = Duration::from_secs(5);

/// A case's server; for a stdio server, whose processes the program itself starts, only what its texts need.
pub(super) struct Server {
    port: u16,
    child: Option<Child>,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it listens.
    pub(super) async fn start(case: &Case, folder: &Path) -> Result<Self, String> {
        let mut server = Self {
            port: support::free_port(),
            child: None,
            log: folder.join("log"),
        };
        let Some(words) = &case.start else {
            return Ok(server);
        };
        let words = server.fill_all(words);
        let out = File::create(&server.log).unwrap();
        let mut command = std::process::Command::new(&words[0]);
        command
            .args(&words[1..])
            .envs(
                case.env
                    .iter()
                    .map(|(key, value)| (key, server.fill(value))),
            )
            .stdin(Stdio::null())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            // A gateway's own servers have to go with it.
            .process_group(0);
        let child = Command::from(command)
            .spawn()
            .map_err(|error| format!("{words:?}: {error}; has tests/install run?"))?;
        let child = server.child.insert(child);
        let until = Instant::now() + support::PATIENCE;
        while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                let said = server.last_words().join("\n");
                return Err(format!("{words:?} does not listen, {ended:?}: {said}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// `text` with its placeholders filled in.
    pub(super) fn fill(&self, text: &str) -> String {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_mcpprobe"));
        let examples = program.parent().unwrap().join("examples");
        text.replace("{port}", &self.port.to_string())
            .replace("{cache}", support::cache().to_str().unwrap())
            .replace("{here}", support::here("servers").to_str().unwrap())
            .replace("{examples}", examples.to_str().unwrap())
    }

    pub(super) fn fill_all(&self, words: &[String]) -> Vec<String> {
        words.iter().map(|word| self.fill(word)).collect()
    }

    /// A complaint when sessions live on after a time of grace.
    pub(super) async fn sessions_left(&self, case: &Case) -> Option<String> {
        let sessions = case.sessions.as_ref()?;
        let until = Instant::now() + GRACE;
        loop {
            let left = self.count(sessions);
            if left == Ok(0) {
                return None;
            }
            if Instant::now() > until {
                return Some(match left {
                    Ok(left) => format!("sessions left: {left}"),
                    Err(complaint) => complaint,
                });
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn count(&self, sessions: &Sessions) -> Result<usize, String> {
        match sessions {
            Sessions::Path(path) => {
                let (_, body) = support::http("GET", self.port, path, &[], "");
                let start = body.find('{').unwrap_or_default();
                let end = body.rfind('}').map_or(start, |end| end + 1);
                serde_json::from_str::<Value>(&body[start..end])
                    .ok()
                    .and_then(|answer| answer["sessions"].as_u64())
                    .and_then(|count| usize::try_from(count).ok())
                    .ok_or_else(|| format!("{path} says no sessions: {body}"))
            }
            Sessions::Log { begun, ended } => {
                let text = std::fs::read_to_string(&self.log).unwrap();
                match (
                    text.matches(begun.as_str()).count(),
                    text.matches(ended.as_str()).count(),
                ) {
                    (0, _) => Err(format!("no session has begun: {begun:?} is not in its log")),
                    (begun, ended) => begun
                        .checked_sub(ended)
                        .ok_or_else(|| format!("{ended} of {begun} sessions have ended")),
                }
            }
            Sessions::ProcessesBeyond(usual) => {
                let id = self
                    .child
                    .as_ref()
                    .and_then(Child::id)
                    .ok_or("it has ended")?;
                let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
                    .map_err(|error| error.to_string())?;
                let count = children.split_whitespace().count();
                count
                    .checked_sub(*usual)
                    .ok_or_else(|| format!("{count} processes, which should be {usual} or more"))
            }
        }
    }

    /// The end of what it said.
    pub(super) fn last_words(&self) -> Vec<String> {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().collect();
        let last = lines.len().saturating_sub(8);
        lines[last..]
            .iter()
            .map(|line| format!("it said: {line}"))
            .collect()
    }

    /// Asks it to end, which a gateway hands on to its own servers.
    pub(super) async fn stop(mut self) {
        let Some(child) = &mut self.child else { return };
        if let Some(pid) = pid(child) {
            kill_process(pid, Signal::TERM).ok();
            timeout(GRACE, child.wait()).await.ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = self.child.as_ref().and_then(pid) {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// None when it has been waited for.
fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id()?.cast_signed())
}
