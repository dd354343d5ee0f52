//! When a failure becomes an incident, and who hears of it: the alerting tables of the configuration as they are meant.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{ChannelSettings, Cron, IncidentKind, Layer, Severity, State, Target, Verdict};

/// "N of M": this many of the last so many. "N in a row" is N of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many are needed; at least 1, at most `of`.
    pub needed: u32,
    /// Of how many; at most [`Count::MOST`].
    pub of: u32,
}

impl Count {
    /// Most samples that a rule looks back on: they are kept for each target.
    pub const MOST: u32 = 64;

    /// `needed` in a row.
    pub const fn in_a_row(needed: u32) -> Self {
        Self { needed, of: needed }
    }
}

/// "N in D": this many within this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// How many; 2 to [`Count::MOST`].
    pub count: u32,
    /// Within how long.
    pub within: Duration,
}

/// `[alerting]`: what makes an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Further probes after a failed one that must all fail for it to count.
    pub confirm: u32,
    /// Before each of them.
    pub confirm_delay: Duration,
    /// Counted failures that open an incident.
    pub down_after: Count,
    /// Passes that close it.
    pub up_after: Count,
    /// Refuted failures that make a warning.
    pub intermittent: Option<Count>,
    /// Changes of state that hold an incident open.
    pub flapping: Option<Frequency>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            confirm: 2,
            confirm_delay: Duration::from_secs(3),
            down_after: Count::in_a_row(1),
            up_after: Count::in_a_row(2),
            intermittent: Some(Count { needed: 4, of: 20 }),
            flapping: Some(Frequency {
                count: 6,
                within: Duration::from_secs(600),
            }),
        }
    }
}

/// `[alerting] severity = { ... }`: how bad each kind of trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severities {
    /// Of `down`.
    pub down: Severity,
    /// Of `auth_required`.
    pub auth_required: Severity,
    /// Of `degraded`.
    pub degraded: Severity,
    /// Of refuted failures.
    pub intermittent: Severity,
    /// Of the prober's own isolation.
    pub isolated: Severity,
}

impl Default for Severities {
    fn default() -> Self {
        Self {
            down: Severity::Critical,
            auth_required: Severity::Warning,
            degraded: Severity::Warning,
            intermittent: Severity::Warning,
            isolated: Severity::Warning,
        }
    }
}

impl Severities {
    /// The severity of an incident of this kind while its target is in this state.
    pub fn of(&self, kind: IncidentKind, state: State) -> Severity {
        match kind {
            IncidentKind::Outage if state == State::AuthRequired => self.auth_required,
            IncidentKind::Outage => self.down,
            IncidentKind::Degraded => self.degraded,
            IncidentKind::Intermittent => self.intermittent,
            IncidentKind::Isolated => self.isolated,
        }
    }
}

/// `[[route]]`: which incidents go to which channels, and when. An empty list matches everything.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Names of servers.
    pub servers: Vec<String>,
    /// Any of these tags.
    pub tags: Vec<String>,
    /// Any of these severities.
    pub severities: Vec<Severity>,
    /// Any of these failed layers.
    pub layers: Vec<Layer>,
    /// Any of these verdicts; an incident without one does not match until it has one.
    pub verdicts: Vec<Verdict>,
    /// Names of the channels.
    pub channels: Vec<String>,
    /// How long an incident has to be open: escalation.
    pub after: Duration,
    /// Between reminders; none without.
    pub repeat: Option<Duration>,
    /// Only in minutes that this matches; always without.
    pub hours: Option<Arc<Cron>>,
}

/// `[[maintenance]]`: a window in which no notice opens.
#[derive(Clone, Debug)]
pub struct Maintenance {
    /// Its name, as it is recorded.
    pub name: String,
    /// When it starts.
    pub cron: Arc<Cron>,
    /// How long it lasts.
    pub duration: Duration,
    /// For these servers and ...
    pub servers: Vec<String>,
    /// ... those with any of these tags; both empty: for all.
    pub tags: Vec<String>,
}

impl Maintenance {
    /// Whether it is on at `now`.
    pub fn holds(&self, now: SystemTime) -> bool {
        // `next_after` is later than what it is asked about, so that the end itself is outside.
        let begin = now.checked_sub(self.duration);
        begin.is_some_and(|begin| {
            self.cron
                .next_after(begin)
                .is_some_and(|start| start <= now)
        })
    }

    /// Whether it is about this target.
    pub fn covers(&self, target: &Target) -> bool {
        covers(&self.servers, &self.tags, target)
    }
}

/// Both lists empty mean everything.
pub(super) fn covers(servers: &[String], tags: &[String], target: &Target) -> bool {
    (servers.is_empty() && tags.is_empty())
        || servers.contains(&target.name)
        || tags.iter().any(|tag| target.tags.contains(tag))
}

/// Something that must be reachable for the prober itself to be well (`[self] control`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ControlPoint {
    /// `gateway`: the default gateway answers in any way.
    Gateway,
    /// `dns`: a name server of the machine answers.
    Dns,
    /// `tcp://HOST:PORT`: a connection is accepted or refused by it.
    Tcp(String),
    /// `http://...`, `https://...`: any answer with a status.
    Http(String),
}

impl fmt::Display for ControlPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Dns => f.write_str("dns"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Http(url) => f.write_str(url),
        }
    }
}

/// `[heartbeat]`: whom to tell that probes really finish.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// GET is sent there.
    pub url: super::Secret,
    /// How often.
    pub every: Duration,
}

/// Everything that alerting is told by a configuration.
#[derive(Clone, Debug)]
pub struct Alerting {
    /// What makes an incident.
    pub policy: Policy,
    /// How bad it is.
    pub severities: Severities,
    /// Where notices go.
    pub channels: Vec<ChannelSettings>,
    /// Which go where; empty: everything to every channel.
    pub routes: Vec<Route>,
    /// When none is opened.
    pub maintenance: Vec<Maintenance>,
    /// What must be reachable; `None`: what the machine has (`gateway`, `dns`).
    pub controls: Option<Vec<ControlPoint>>,
    /// Whom to tell that we live.
    pub heartbeat: Option<Heartbeat>,
}
