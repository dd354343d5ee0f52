//! stdio: a process of our own, one JSON message per line.

use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;

use super::channel::Call;
use super::fault::{Fault, reason_of_io};
use super::http::too_large;
use super::limits;
use super::record::{Record, Waiting};
use super::replies;
use super::rpc::{self, Answer, Incoming};
use crate::model::{CommandLine, Phase, Reason};
use crate::process::{ENVIRONMENT, ProcessGroup};

/// Characters of stderr in a message, which has room for a few more words.
const MAX_LAST_WORDS: usize = 300;

/// How long a process that closed its stdout may take to tell its exit status.
const EXIT_STATUS_GRACE: Duration = Duration::from_millis(300);

/// A target's stdio server.
pub(super) struct StdioChannel<'t> {
    command: &'t CommandLine,
    running: Option<Running>,
}

struct Running {
    process: ProcessGroup,
    stdin: Option<ChildStdin>,
    stdout: LineReader,
    stderr: Tail,
    /// It was asked and has not answered: it will hardly read that stdin has ended.
    owes_an_answer: bool,
    /// A message was read: from now on a line that is none is a deviation that clients may not survive.
    spoken: bool,
}

impl<'t> StdioChannel<'t> {
    pub(super) fn new(command: &'t CommandLine) -> Self {
        Self {
            command,
            running: None,
        }
    }

    pub(super) fn spawn(&mut self, record: &mut Record) -> Result<(), Fault> {
        record.wait_for(Waiting::Spawn);
        let start = record.now();
        let spawned = ProcessGroup::spawn(self.command, &ENVIRONMENT);
        record.phase(Phase::Spawn, start);
        let mut process = spawned.map_err(|error| {
            let reason = match reason_of_io(&error) {
                Some(Reason::ProberResources) => Reason::ProberResources,
                _ => Reason::SpawnFailed,
            };
            Fault::new(
                reason,
                format!("cannot start {}: {error}", self.command.program),
            )
        })?;
        let (stdin, stdout, stderr) = process.streams();
        self.running = Some(Running {
            process,
            stdin,
            stdout: LineReader::new(stdout),
            stderr: Tail::new(stderr),
            owes_an_answer: false,
            spoken: false,
        });
        Ok(())
    }

    /// What the server has said on stderr of late.
    pub(super) fn last_words(&self) -> String {
        self.running
            .as_ref()
            .map(|running| running.stderr.text())
            .unwrap_or_default()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.running
            .as_mut()
            .is_some_and(|running| running.process.is_running())
    }

    pub(super) async fn ask(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        let result = match &mut self.running {
            Some(running) => {
                running.owes_an_answer = true;
                let answer = running.ask(record, call).await;
                running.owes_an_answer = answer.is_err();
                answer
            }
            None => Err(Fault::new(Reason::ProcessExited, "the process is gone")),
        };
        if let Some(operation) = call.operation {
            record.close(operation, result.as_ref().err());
        }
        result
    }

    pub(super) async fn notify(&mut self, record: &mut Record, call: &Call) -> Result<(), Fault> {
        match &mut self.running {
            Some(running) => {
                record.wait_for(Waiting::Answer);
                record.say_sent(&call.body);
                running.write_or_exited(&call.body).await
            }
            None => Err(Fault::new(Reason::ProcessExited, "the process is gone")),
        }
    }

    pub(super) async fn end(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.stdin.take());
            let (patience, grace) = if running.owes_an_answer {
                limits::STDIO_END_OF_HUNG
            } else {
                limits::STDIO_END
            };
            running.process.end(patience, grace).await;
        }
    }
}

impl Running {
    async fn ask(&mut self, record: &mut Record, call: &Call) -> Result<Answer, Fault> {
        record.wait_for(Waiting::Answer);
        record.say_sent(&call.body);
        self.write_or_exited(&call.body).await?;
        let id = call.id.unwrap_or_default();
        for _ in 0..limits::MAX_MESSAGES {
            let Some(line) = self.next_line().await? else {
                return Err(self.exited().await);
            };
            record.say_line(&line);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match rpc::decode(&line, id) {
                Ok(Incoming::Answer(answer)) => {
                    self.spoken = true;
                    return Ok(answer);
                }
                Ok(Incoming::Request(request)) => {
                    self.spoken = true;
                    if call.modern {
                        record.note(replies::of_the_wrong_era(&request.method));
                    } else {
                        let reply = request.reply();
                        record.say_reply(&request.method, &reply);
                        // Whether it can be written does not matter, as long as our answer comes.
                        self.write(&reply).await.ok();
                    }
                }
                Ok(Incoming::Other) => self.spoken = true,
                // The late answer to a question that we gave up.
                Ok(Incoming::Mismatch(_)) => self.spoken = true,
                Err(fault) if is_log(&fault) && !self.spoken => {
                    record.note("stdout carries lines that are no messages; they belong on stderr");
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::new(
            Reason::BodyTooLarge,
            format!(
                "{} lines came without our answer among them",
                limits::MAX_MESSAGES
            ),
        ))
    }

    async fn write_or_exited(&mut self, message: &[u8]) -> Result<(), Fault> {
        match self.write(message).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.exited().await),
        }
    }

    async fn write(&mut self, message: &[u8]) -> std::io::Result<()> {
        let mut line = Vec::with_capacity(message.len() + 1);
        line.extend_from_slice(message);
        line.push(b'\n');
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(&line).await,
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The next line of stdout, while stderr is kept from filling up and blocking the server.
    async fn next_line(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let mut last_words = None;
        loop {
            tokio::select! {
                biased;
                line = self.stdout.next() => return line,
                () = self.stderr.read(), if self.stderr.is_open() => {}
                // What it started may hold its streams open: the process itself is what was asked.
                _ = self.process.ended(), if last_words.is_none() => {
                    last_words = Some(Instant::now() + EXIT_STATUS_GRACE);
                }
                () = sleep_until(last_words) => return Ok(None),
            }
        }
    }

    /// stdout ended: what the process says of why.
    async fn exited(&mut self) -> Fault {
        let drained = async {
            while self.stderr.is_open() {
                self.stderr.read().await;
            }
        };
        tokio::time::timeout(EXIT_STATUS_GRACE, drained).await.ok();
        let how = match self.process.wait(EXIT_STATUS_GRACE).await {
            Some(status) => describe(status),
            None => "the process closed its stdout and runs on".to_owned(),
        };
        let last = self.stderr.text();
        let message = match last.trim() {
            "" => how,
            last => format!("{how}; its stderr ends: {last}"),
        };
        Fault::new(Reason::ProcessExited, message)
    }
}

/// A line that is a log of the server's rather than a broken answer.
fn is_log(fault: &Fault) -> bool {
    matches!(fault.reason, Reason::InvalidJson | Reason::InvalidMessage)
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the process exited with status {code}"),
        (None, Some(signal)) => format!("the process was ended by signal {signal}"),
        (None, None) => "the process ended".to_owned(),
    }
}

/// Until `at`; for ever without.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Lines of bounded length. Safe to be dropped while it waits: what was read is kept.
struct LineReader {
    stdout: Option<ChildStdout>,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
}

impl LineReader {
    fn new(stdout: Option<ChildStdout>) -> Self {
        Self {
            stdout,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > limits::MAX_ANSWER {
                return Err(too_large(limits::MAX_ANSWER));
            }
            let Some(stdout) = &mut self.stdout else {
                return Ok(None);
            };
            match stdout.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                // A last line without an end is not a message yet.
                Ok(0) | Err(_) => self.stdout = None,
            }
        }
    }
}

/// Cuts at a line's start: half a line may be half a secret, which nobody would recognize.
pub fn keep_last_lines(kept: &mut Vec<u8>) {
    let surplus = kept.len().saturating_sub(limits::MAX_STDERR);
    if surplus > 0 {
        let rest = kept.get(surplus..).unwrap_or_default();
        let line = rest.iter().position(|byte| *byte == b'\n');
        kept.drain(..surplus + line.map_or(rest.len(), |at| at + 1));
    }
}

/// The last bytes of stderr.
struct Tail {
    stderr: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl Tail {
    fn new(stderr: Option<ChildStderr>) -> Self {
        Self {
            stderr,
            kept: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.stderr.is_some()
    }

    async fn read(&mut self) {
        let Some(stderr) = &mut self.stderr else {
            return;
        };
        match stderr.read_buf(&mut self.kept).await {
            Ok(1..) => {
                keep_last_lines(&mut self.kept);
            }
            Ok(0) | Err(_) => self.stderr = None,
        }
    }

    /// The last lines, one after the other, short enough for a message.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let mut lines: Vec<_> = text
            .lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(3)
            .collect();
        lines.reverse();
        let text = lines.join(" | ");
        // What stands last is the cause, and a message is cut at its end.
        match text.char_indices().rev().nth(MAX_LAST_WORDS) {
            Some((at, _)) => format!("…{}", text.get(at..).unwrap_or_default()),
            None => text,
        }
    }
}
