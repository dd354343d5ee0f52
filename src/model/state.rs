//! What a probe found a target to be.

use serde::{Deserialize, Serialize};

/// The state of a target. Ordered by how bad it is for the exit code of `check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All layers passed.
    Up,
    /// All passed, but an expectation that is not an outage did not hold.
    Degraded,
    /// The server is alive and asks, correctly, for a credential that we lack.
    AuthRequired,
    /// A layer failed.
    Down,
    /// The prober itself could not judge.
    #[default]
    Unknown,
}

impl State {
    /// All states, in the order in which they are summed up.
    pub const ALL: [Self; 5] = [
        Self::Up,
        Self::Degraded,
        Self::AuthRequired,
        Self::Down,
        Self::Unknown,
    ];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::AuthRequired => "auth_required",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// A session would work, if perhaps not well.
    pub fn works(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }

    /// The server failed us; `unknown` is our own trouble and is not counted.
    pub fn failed(self) -> bool {
        matches!(self, Self::Down | Self::AuthRequired)
    }
}
