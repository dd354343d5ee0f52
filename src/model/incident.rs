//! From the first failed probe to the recovery, and everything that happens in between.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Layer, Reason, State, Target, Text, TraceId, Verdict};

macro_rules! words {
    ($name:ident: $($variant:ident = $word:literal,)*) => {
        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used everywhere.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(super) use words;

/// What an incident is about. A target has at most one open incident of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// No session would work: `down` or `auth_required`.
    Outage,
    /// It works, but not as expected.
    Degraded,
    /// Again and again a probe fails whose confirmation passes.
    Intermittent,
    /// The prober's own network is gone; of no target.
    Isolated,
}

words! { IncidentKind:
    Outage = "outage",
    Degraded = "degraded",
    Intermittent = "intermittent",
    Isolated = "isolated",
}

/// How bad it is; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nobody has to act.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody has to act now.
    Critical,
}

words! { Severity:
    Info = "info",
    Warning = "warning",
    Critical = "critical",
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Stable and unique: the start of the first failed probe's trace id.
    pub id: String,
    /// Name of the target; none for the prober's own.
    pub server: Option<String>,
    /// What it is about.
    pub kind: IncidentKind,
    /// The worst that it has been.
    pub severity: Severity,
    /// The target's state by the last probe that counted.
    pub state: State,
    /// The layer that fails.
    pub failed_layer: Option<Layer>,
    /// Why.
    pub reason: Option<Reason>,
    /// Why, in a sentence.
    pub message: Text,
    /// Trace of the first failed probe.
    pub trace_id: Option<TraceId>,
    /// Start of the first failed probe.
    pub first_failed_at: SystemTime,
    /// When it was certain enough to open.
    pub opened_at: SystemTime,
    /// Start of the first probe that passed again, or when it ended otherwise.
    pub resolved_at: Option<SystemTime>,
    /// How it ended.
    pub resolution: Option<Resolution>,
    /// The state changes too often for a recovery to be believed.
    pub flapping: bool,
    /// Somebody has taken it.
    pub acknowledged: Option<Acknowledgement>,
    /// Why no notice of it opens now.
    pub suppressed: Option<Text>,
    /// What the traces say.
    pub verdict: Option<Verdict>,
    /// The same in a sentence.
    pub verdict_reason: Option<Text>,
    /// The backend will be asked again.
    pub provisional: Option<bool>,
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The target works again.
    Recovered,
    /// The target is not in the configuration any more.
    Removed,
    /// A graver incident of the same target has taken its place.
    Superseded,
}

words! { Resolution:
    Recovered = "recovered",
    Removed = "removed",
    Superseded = "superseded",
}

/// Somebody has taken an incident: no reminders, no escalation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// When.
    pub at: SystemTime,
    /// Who.
    pub by: Text,
}

/// A line of an incident's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The incident.
    pub incident: String,
    /// When.
    pub at: SystemTime,
    /// What kind of thing happened.
    pub what: TimelineKind,
    /// What happened, in a few words.
    pub text: Text,
}

/// What a timeline tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineKind {
    /// It opened.
    Opened,
    /// The state, layer, reason or severity is another one.
    Changed,
    /// The state changes too often, or no more.
    Flapping,
    /// No notice opens: maintenance, silence, parent.
    Suppressed,
    /// A notice was written.
    Notice,
    /// A notice has arrived.
    Delivered,
    /// An attempt to deliver it failed.
    Failed,
    /// A notice was given up.
    GivenUp,
    /// Somebody has taken it.
    Acknowledged,
    /// The traces were asked.
    Verdict,
    /// It ended.
    Resolved,
}

words! { TimelineKind:
    Opened = "opened",
    Changed = "changed",
    Flapping = "flapping",
    Suppressed = "suppressed",
    Notice = "notice",
    Delivered = "delivered",
    Failed = "failed",
    GivenUp = "given_up",
    Acknowledged = "acknowledged",
    Verdict = "verdict",
    Resolved = "resolved",
}

/// `mcpprobe silence add`: no notice opens for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Short and unique.
    pub id: String,
    /// For these servers and ...
    pub servers: Vec<String>,
    /// ... those with any of these tags; both empty: for all.
    pub tags: Vec<String>,
    /// From when on.
    pub from: SystemTime,
    /// Until when; ending one sets it to now.
    pub until: SystemTime,
    /// Why.
    pub reason: Text,
    /// Who.
    pub by: Text,
}

impl Silence {
    /// Whether it holds at `now`.
    pub fn holds(&self, now: SystemTime) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether it is about this target.
    pub fn covers(&self, target: &Target) -> bool {
        super::policy::covers(&self.servers, &self.tags, target)
    }
}

/// What a person tells a running `watch` by way of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Every silence that has not ended yet.
    pub silences: Vec<Silence>,
    /// Acknowledgements by incident, of open ones.
    pub acknowledged: Vec<(String, Acknowledgement)>,
}

/// Rounded for people: "3 m 20 s" is written `3m 20s`.
pub fn spoken(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
