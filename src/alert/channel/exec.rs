//! A program of the user's: the webhook's body on its stdin, and its exit status is the answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{Failure, webhook};
use crate::alert::message::Message;
use crate::model::{CommandLine, Secret};
use crate::process::ProcessGroup;

/// What it gets of our environment, where that is set; everything else may be a secret.
const ENVIRONMENT: [&str; 5] = ["HOME", "LANG", "PATH", "TMPDIR", "TZ"];

/// Bytes of each of its outputs that are kept. The rest is read and thrown away, so that it does not block.
const MAX_OUTPUT: usize = 16 * 1024;

/// How long its outputs are read when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The whole group is killed when this is dropped, as it is when the time is over.
pub(super) async fn run(
    command: &[String],
    cwd: &Path,
    env: &BTreeMap<String, Secret>,
    message: &Message,
) -> Result<(), Failure> {
    let Some((program, args)) = command.split_first() else {
        return Err(Failure::lasting("the command names no program"));
    };
    let command = CommandLine {
        program: program.clone(),
        args: args.to_vec(),
        shown: program.clone(),
        env: env
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        cwd: Some(cwd.to_owned()),
    };
    let mut process = ProcessGroup::spawn(&command, &ENVIRONMENT)
        .map_err(|error| Failure::lasting(format!("cannot start {program}: {error}")))?;
    let (stdin, stdout, stderr) = process.streams();
    let mut body = webhook::body(message).to_string();
    body.push('\n');
    let write = async {
        if let Some(mut stdin) = stdin {
            // It need not read it.
            stdin.write_all(body.as_bytes()).await.ok();
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let outputs = async { tokio::join!(write, read(stdout, &mut out), read(stderr, &mut err)) };
        tokio::pin!(outputs);
        tokio::select! {
            status = process.status() => {
                // What it has started in the background may hold its outputs open, and is nothing to wait for.
                tokio::time::timeout(LAST_WORDS, outputs).await.ok();
                status
            }
            _ = &mut outputs => process.status().await,
        }
    };
    let status = status.map_err(|error| Failure::new(format!("lost {program}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let words = if err.trim_ascii().is_empty() {
        out
    } else {
        err
    };
    let words = String::from_utf8_lossy(&words);
    let last = words.trim().lines().last().unwrap_or_default();
    Err(Failure::new(format!("{program} ended with {status}")).said(last))
}

async fn read(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else {
        return;
    };
    let mut piece = [0; 4_096];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
    }
}
