//! What can be asked of the store, and what it answers.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::convention::Outcome;
use crate::model::{RecordedSpan, Text, TraceId, Window};

/// Which traces are wanted. Everything that is said has to hold; what is left out holds for all.
#[derive(Clone, Debug, Default)]
pub struct TraceFilter {
    /// A span of this service is in it.
    pub service: Option<String>,
    /// It went like this as a whole.
    pub outcome: Option<Outcome>,
    /// It began then or later.
    pub since: Option<SystemTime>,
    /// It began before.
    pub until: Option<SystemTime>,
    /// From its first span's start to the end of the last.
    pub min_duration: Option<Duration>,
    /// A span of this session is in it.
    pub session: Option<String>,
    /// A call of this tool is in it.
    pub tool: Option<String>,
    /// A span of this project is in it.
    pub project: Option<String>,
}

/// A trace in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceSummary {
    /// Its id.
    pub id: TraceId,
    /// The start of its first span.
    #[serde(skip)]
    pub started: SystemTime,
    /// From there to the end of its last span.
    #[serde(skip)]
    pub duration: Duration,
    /// Spans, each once.
    pub spans: usize,
    /// Services, each once, in the order in which they first began something.
    pub services: Vec<Text>,
    /// Projects, likewise.
    pub projects: Vec<Text>,
    /// The name of the span without a parent, or of the first one whose parent is not there.
    pub name: Text,
    /// `blocked` when anything was, `error` when anything failed.
    pub outcome: Outcome,
    /// The first session that a span names.
    pub session: Option<Text>,
    /// Tools that were called, each once.
    pub tools: Vec<Text>,
    /// Spans that failed.
    pub errors: usize,
    /// It has more spans than are read of one: all of this is of a part of it.
    pub truncated: bool,
}

/// Traces, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceList {
    /// At most as many as were wanted.
    pub traces: Vec<TraceSummary>,
    /// There are or may be more that match.
    pub truncated: bool,
}

/// Spans of a trace, or of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundSpans {
    /// In the order in which they began.
    pub spans: Vec<RecordedSpan>,
    /// What they take, as [`RecordedSpan::size`] counts.
    pub bytes: usize,
    /// There are more: these are not all.
    pub truncated: bool,
}

/// A service that has sent spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `service.name`; empty for spans without.
    pub name: Text,
    /// Start of its first span that is kept.
    pub first_seen: SystemTime,
    /// Start of its latest span.
    pub last_seen: SystemTime,
    /// Spans that are kept; one that was delivered twice may count twice for an hour.
    pub spans: u64,
    /// Spans of them that failed or were blocked.
    pub errors: u64,
}

/// A project: what a process says that it belongs to, or its service.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Its name.
    pub name: Text,
    /// Traces with a span of it; one that took long may count twice.
    pub traces: u64,
    /// Spans.
    pub spans: u64,
    /// Spans of them that failed or were blocked.
    pub errors: u64,
    /// Start of its first span that is kept.
    pub first_seen: SystemTime,
    /// Start of its latest span.
    pub last_seen: SystemTime,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Spans in the file.
    pub spans: u64,
    /// Blocks that they are in.
    pub blocks: u64,
    /// Bytes of the file that hold something.
    pub bytes: u64,
}

/// What is known of whether everything that was sent is there: "nothing" and "nothing that was kept" are two things.
#[derive(Clone, Debug, PartialEq)]
pub struct Completeness {
    /// Whatever was taken in and began since then is still there.
    pub kept_since: SystemTime,
    /// The times in which somebody was there to take spans, oldest first; they end when that was last written down.
    pub runs: Vec<Window>,
    /// Spans that came in and are not there, oldest first.
    pub losses: Vec<LostSpans>,
}

impl Completeness {
    /// Whether anything may be missing of what was sent in `window`.
    pub fn is_whole(&self, window: Window) -> bool {
        let lost = |loss: &LostSpans| loss.first < window.to && window.from <= loss.last;
        let covered = |run: &Window| run.from <= window.from && window.to <= run.to;
        self.kept_since <= window.from
            && self.runs.iter().any(covered)
            && !self.losses.iter().any(lost)
    }
}

/// Spans that came in and are not there.
#[derive(Clone, Debug, PartialEq)]
pub struct LostSpans {
    /// When it began.
    pub first: SystemTime,
    /// When it was last.
    pub last: SystemTime,
    /// Spans, or requests of unknown content that were turned away.
    pub count: u64,
    /// `turned_away` or `damaged`.
    pub reason: Text,
}
