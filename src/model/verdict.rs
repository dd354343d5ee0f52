//! Whose fault it looks like.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ServerSpan, Text};

/// What the traces say about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The server got the request, or got others, and failed.
    Application,
    /// The no-trace pattern: proven silence, where there used to be spans.
    Infrastructure,
    /// The server goes on serving others and never saw us.
    Path,
    /// The server answered our request well and in time, and the answer did not arrive.
    ResponseLost,
    /// This target never left a span, so silence says nothing.
    NotInstrumented,
    /// Anything less certain.
    Inconclusive,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Application,
        Self::Infrastructure,
        Self::Path,
        Self::ResponseLost,
        Self::NotInstrumented,
        Self::Inconclusive,
    ];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Infrastructure => "infrastructure",
            Self::Path => "path",
            Self::ResponseLost => "response_lost",
            Self::NotInstrumented => "not_instrumented",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The rule that matched: the numbers of the README's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rule {
    /// 1: the backend cannot be believed.
    BackendUnsure,
    /// 2: the server's span of the step that failed.
    JoinedSpan,
    /// 3: others are being served.
    OthersServed,
    /// 4: the last spans are all errors.
    AllErrors,
    /// 5: never a span.
    NeverInstrumented,
    /// 6: the silence is not proven.
    SilenceUnproven,
    /// 7: proven silence and a failure in front of the application.
    NoTrace,
    /// 8: everything else.
    Otherwise,
}

/// A check that the verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    /// What was checked.
    pub control: &'static str,
    /// Whether it held.
    pub held: bool,
    /// What was seen.
    pub detail: Text,
}

/// A verdict and what it rests on.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that matched.
    pub rule: Rule,
    /// One sentence for a person.
    pub reason: Text,
    /// The target's spans in both windows.
    pub service_spans: usize,
    /// Those of them that are the server's own errors.
    pub error_spans: usize,
    /// The target's spans in the traces of our failed probes.
    pub probe_trace_spans: usize,
    /// What was checked.
    pub controls: Vec<Control>,
    /// At most three spans that tell the most.
    pub telling: Vec<ServerSpan>,
}
