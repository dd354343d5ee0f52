//! Before any outage: whether the traces could ever prove one.

use std::time::Duration;

use serde::Serialize;

use super::Text;

/// What of the configuration matters.
#[derive(Clone, Debug)]
pub struct Staging {
    /// There is a backend for the target.
    pub has_traces: bool,
    /// Our own spans are exported.
    pub has_telemetry: bool,
    /// The target is told of our traces, so that its spans can join them.
    pub sends_context: bool,
    /// How long a silence can be looked at: until the last asking.
    pub silence: Duration,
}

/// Whether `infrastructure` could be said of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Yes, were it to go now.
    Reachable,
    /// In some outages and not in others.
    Limited,
    /// Never, as things are.
    Unreachable,
    /// It could not be found out.
    Unknown,
}

impl Reach {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Limited => "limited",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    /// There is no `[traces]`.
    NoTraces,
    /// There is no endpoint for our own spans.
    NoTelemetry,
    /// The store has no passed probe yet.
    NoProbes,
    /// The backend refuses, or answers in part.
    BackendUnsure(Text),
    /// The backend does not return our own spans, of so many passed probes.
    OwnSpansMissing(usize),
    /// Nobody knows which service is the target's.
    ServiceUnknown,
    /// One of these may be it.
    ServiceAmbiguous(Text),
    /// Another target has the same.
    ServiceShared(Text),
    /// No span of it was ever seen.
    NeverASpan,
    /// `trace_context` is off.
    ContextOff,
    /// So many of the last three passed probes left spans, and its rate makes so many requests expected in the time.
    SilenceUnproven(usize, f64),
    /// The backend keeps a part only.
    Sampled(Text),
    /// The server's clock cannot be put right.
    ClockOff(Text),
    /// The backend stands beside us and hears nobody else.
    NobodyElseHeard,
}

impl Lack {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTraces => "no_traces",
            Self::NoTelemetry => "no_telemetry",
            Self::NoProbes => "no_probes",
            Self::BackendUnsure(_) => "backend_unsure",
            Self::OwnSpansMissing(_) => "own_spans_missing",
            Self::ServiceUnknown => "service_unknown",
            Self::ServiceAmbiguous(_) => "service_ambiguous",
            Self::ServiceShared(_) => "service_shared",
            Self::NeverASpan => "never_a_span",
            Self::ContextOff => "trace_context_off",
            Self::SilenceUnproven(..) => "silence_unproven",
            Self::Sampled(_) => "sampled",
            Self::ClockOff(_) => "clock_off",
            Self::NobodyElseHeard => "nobody_else_heard",
        }
    }

    /// What it does to the verdict.
    pub fn reach(&self) -> Reach {
        match self {
            Self::NoProbes | Self::BackendUnsure(_) => Reach::Unknown,
            Self::ServiceShared(_) | Self::NobodyElseHeard => Reach::Limited,
            // Others' requests may still prove a silence.
            Self::ContextOff => Reach::Reachable,
            _ => Reach::Unreachable,
        }
    }

    /// What is missing, and what to do about it.
    pub fn says(&self) -> Text {
        let text = match self {
            Self::NoTraces => "there is no [traces]: nobody can be asked".to_owned(),
            Self::NoTelemetry => "[telemetry] has no endpoint: without our own spans in it, no silence of the backend can be believed".to_owned(),
            Self::NoProbes => "no probe has passed yet: let `watch` run for a while".to_owned(),
            Self::BackendUnsure(why) => format!("the trace backend cannot be asked: {why}"),
            Self::OwnSpansMissing(probes) => format!("the backend does not return our own spans of {probes} passed probes: does [telemetry] lead to it, and is nothing sampled on the way?"),
            Self::ServiceUnknown => "nobody knows the service: name it with `service`".to_owned(),
            Self::ServiceAmbiguous(names) => format!("spans of {names} are in our traces, but none says that it is of MCP: name the target's with `service`"),
            Self::ServiceShared(other) => format!("{other} has the same service: as long as that leaves spans, there is no silence; a table as `service` tells them apart"),
            Self::NeverASpan => "no span of it was ever seen: it is not instrumented, exports elsewhere, or traces calls of tools only (then name a `canary`)".to_owned(),
            Self::ContextOff => "`trace_context` is off: its spans cannot join ours, and only what it does for others can show that it is silent".to_owned(),
            Self::SilenceUnproven(joined, expected) => format!("{joined} of the last 3 passed probes left spans, and by its own rate {expected:.1} requests of others would be missed (5 are needed): is it sampled, or did tracing stop?"),
            Self::Sampled(why) => format!("the backend keeps only a part of what there is ({why}): absence proves nothing"),
            Self::ClockOff(why) => why.to_string(),
            Self::NobodyElseHeard => "the backend stands beside us and hears nobody but this target: only a host that refuses the connection, or probes of other hosts, show that it is not ourselves who are cut off".to_owned(),
        };
        text.into()
    }
}

/// The outcome for one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// Whether `infrastructure` could be said.
    pub reach: Reach,
    /// What is missing, the gravest first.
    pub lacks: Vec<Lack>,
    /// What a silence would be proven by.
    pub proof: Option<Text>,
}

impl Rehearsal {
    /// The worst of what is missing decides.
    pub fn of(mut lacks: Vec<Lack>, proof: Option<Text>) -> Self {
        let rank = |reach: Reach| match reach {
            Reach::Unreachable => 0,
            Reach::Unknown => 1,
            Reach::Limited => 2,
            Reach::Reachable => 3,
        };
        lacks.sort_by_key(|lack| rank(lack.reach()));
        let worst = lacks.first().map_or(Reach::Reachable, Lack::reach);
        Self {
            reach: worst,
            proof: proof.filter(|_| matches!(worst, Reach::Reachable | Reach::Limited)),
            lacks,
        }
    }
}
