//! One probe of one target: a real session, over sockets and processes of our own.
//!
//! A probe never fails: whatever the server does becomes a [`ProbeResult`]. Everything that a
//! server sends is bounded by a number of `limits`, the whole by the target's timeout, and the
//! session is ended on every way out.

mod answer_search;
mod body;
mod certificate;
mod channel;
mod coding;
mod connect;
mod cookies;
mod curl;
mod dial;
mod discover;
mod expectation;
mod fault;
mod gauge;
mod head;
mod http;
mod http_client;
mod http_sse;
mod initialize;
mod ladder;
mod limits;
mod mirrored;
mod name_server;
mod proxy;
mod record;
mod redirect;
mod replies;
mod resolve;
mod rpc;
mod socket;
mod sse;
mod stdio;
mod streamable_http;
mod tls;
mod tools_call;
mod tools_list;
mod transcript;

use tokio_util::sync::CancellationToken;

use crate::model::{Dialect, ProbeResult, Secret, SessionEnd, State, Target, Text, ToolCall};
use channel::Channel;
use ladder::Ladder;
use record::Record;

pub use stdio::keep_last_lines;

/// Whether what is said in a probe is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Nobody will read it.
    #[default]
    Never,
    /// Where the target does not work.
    IfFailed,
    /// In any case.
    Always,
}

/// What is known and wanted besides the target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'w> {
    /// What the target spoke last time, where that is known.
    pub hint: Option<Dialect>,
    /// Whether the whole conversation is wanted, for somebody to read.
    pub conversation: Wanted,
    /// A tool to be called once all are listed. There is no layer for it: its failure is one of `tools_list`.
    pub call: Option<&'w ToolCall>,
}

/// Probes `target` once.
///
/// Answers `None` when `cancel` ended it early: then nothing is known of the server, and its
/// session has been ended all the same.
pub async fn probe(
    target: &Target,
    wish: Wish<'_>,
    cancel: &CancellationToken,
) -> Option<ProbeResult> {
    let mut channel = Channel::to(target);
    let mut record = Record::start(wish.conversation != Wanted::Never);
    let root = rpc::traceparent(record.trace_id, record.root_span);
    let mut ladder = Ladder::new(target, &mut channel, &mut record, wish.call);
    let end = {
        // Pinned first: it is some kilobytes, which would be moved into the timeout and the select.
        let climb = std::pin::pin!(ladder.climb(wish.hint));
        tokio::select! {
            end = tokio::time::timeout(target.timeout, climb) => Some(end),
            () = cancel.cancelled() => None,
        }
    };
    if !matches!(end, Some(Ok(Ok(())))) {
        // An exchange may have stopped half-way: nothing more can be said on its connection.
        channel.hang_up();
    }
    record.learnt = channel.secrets();
    let end = end.map(|end| {
        let last_words = channel.last_words();
        if !last_words.trim().is_empty() {
            record.say(|| format!("stderr ends: {last_words}"));
        }
        let end = end.unwrap_or_else(|_| {
            let fault = record.deadline(target.timeout);
            Err(match last_words.trim() {
                "" => fault,
                last => fault.and(&format!("; its stderr ends: {last}")),
            })
        });
        let fault = record.within_depth(target.profile.depth, end).err();
        if let Some(fault) = &fault {
            record.say(|| format!("{}: {}", fault.reason, fault.message));
        }
        fault
    });
    let mut after = record.afterwards();
    let result = end.map(|fault| {
        let mut result = record.finish(target, channel.transport(), fault);
        let learnt = channel.secrets();
        let secrets = target.secrets.iter().chain(&learnt).map(Secret::expose);
        result.session_id = channel.session_id().map(|id| Text::redacted(id, secrets));
        result
    });
    let is_well = result
        .as_ref()
        .is_some_and(|result| result.state == State::Up);
    if wish.conversation == Wanted::IfFailed && is_well {
        after.forget();
    }
    let session_end = channel.end(&mut after, &root).await;
    result.map(|mut result| {
        result.session_end = session_end;
        if session_end == SessionEnd::Failed {
            let note = "the session on the server could not be ended";
            after.note(note);
            result.notes.push(note.into());
        }
        after.learnt = channel.secrets();
        result.conversation = after.conversation(target);
        result
    })
}
