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

    /// What it means for somebody who was just woken: one line, no word of ours.
    pub fn in_plain_words(self) -> &'static str {
        match self {
            Self::Application => {
                "The request reached the application, or others' did, and it failed: wake those who run it."
            }
            Self::Infrastructure => {
                "Nothing reaches the application any more, ours or anybody's: wake those who run its host, cluster or load balancer."
            }
            Self::Path => {
                "The application is well and serves others, but we cannot get to it: wake those who run the network, DNS or edge."
            }
            Self::ResponseLost => {
                "The application answered in time, and its answer was lost on the way back: look at the proxies and gateways in between."
            }
            Self::NotInstrumented => {
                "The traces cannot help: this server has never sent any. Look at the failed layer and the host first."
            }
            Self::Inconclusive => {
                "The traces do not say whose fault it is, and nobody should be woken because of them: look at the failed layer first."
            }
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
#[serde(rename_all = "snake_case")]
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

impl Rule {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 8] = [
        Self::BackendUnsure,
        Self::JoinedSpan,
        Self::OthersServed,
        Self::AllErrors,
        Self::NeverInstrumented,
        Self::SilenceUnproven,
        Self::NoTrace,
        Self::Otherwise,
    ];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackendUnsure => "backend_unsure",
            Self::JoinedSpan => "joined_span",
            Self::OthersServed => "others_served",
            Self::AllErrors => "all_errors",
            Self::NeverInstrumented => "never_instrumented",
            Self::SilenceUnproven => "silence_unproven",
            Self::NoTrace => "no_trace",
            Self::Otherwise => "otherwise",
        }
    }

    /// Its number in the README's list.
    pub fn number(self) -> usize {
        let before = Self::ALL.iter().take_while(|rule| **rule != self);
        1 + before.count()
    }
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

impl Control {
    /// What was checked, in words.
    pub fn in_words(&self) -> &'static str {
        match self.control {
            "backend_answers" => "the backend answered",
            "own_spans_returned" => "it has our own spans of the failed probes",
            "instrumented" => "the server has left spans at some time",
            "left_spans_before" => "our passed probes left spans",
            "clock_agrees" => "the server's clock can be put right",
            "sign_from_outside" => "the prober's own network was seen to work",
            "spans_expected_in_gap" => "requests of others to be expected since the failure",
            _ => "checked",
        }
    }
}

/// A verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
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
