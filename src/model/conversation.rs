//! What was said in one probe, for a person to read.

use std::time::Duration;

/// Everything that one probe sent and read, in the order of time. No secret and no live control character is in it.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// What happened.
    pub entries: Vec<Remark>,
    /// A command that repeats the last request; secrets stand in it as they were typed (`${VAR}`) or as `***`.
    pub curl: Option<String>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Remark {
    /// Offset from the start of the probe.
    pub at: Duration,
    /// What kind of thing.
    pub kind: RemarkKind,
    /// Its lines.
    pub lines: Vec<String>,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// We did or found something.
    Note,
    /// We sent this.
    Sent,
    /// The server sent this.
    Received,
    /// The server did something that clients survive.
    Deviation,
}
