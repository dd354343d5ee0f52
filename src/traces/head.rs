//! What is known of a block without reading it, small enough to be kept in memory for all blocks.

use serde::{Deserialize, Serialize};

use super::block::Owner;

/// Whose spans are in a block, and when they began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) groups: Vec<Group>,
    /// There were more services than groups: the last one counts for them too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) others: bool,
}

/// Services told apart in a block. There are a handful, unless somebody makes them up.
pub(super) const MAX_GROUPS: usize = 256;

/// The spans of one service in a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    #[serde(rename = "s")]
    pub(super) service: String,
    #[serde(rename = "p", default, skip_serializing_if = "String::is_empty")]
    pub(super) project: String,
    /// Earliest start, in nanoseconds since the epoch.
    #[serde(rename = "a")]
    pub(super) first: u64,
    /// Latest start.
    #[serde(rename = "z")]
    pub(super) last: u64,
    /// Longest duration.
    #[serde(rename = "d")]
    pub(super) longest: u64,
    #[serde(rename = "n")]
    pub(super) spans: u32,
    /// Spans whose outcome is not `ok`.
    #[serde(rename = "e")]
    pub(super) failed: u32,
    #[serde(rename = "t")]
    pub(super) traces: u32,
}

impl Group {
    pub(super) fn of(owner: &Owner) -> Self {
        Self {
            service: owner.service.clone(),
            project: owner.project.clone(),
            first: u64::MAX,
            last: 0,
            longest: 0,
            spans: 0,
            failed: 0,
            traces: 0,
        }
    }
}

impl Head {
    /// Whether spans of `service` may be in it.
    pub(super) fn may_have(&self, service: &str) -> bool {
        self.others || self.groups.iter().any(|group| group.service == service)
    }

    pub(super) fn first(&self) -> u64 {
        self.groups.iter().map(|g| g.first).min().unwrap_or(0)
    }

    pub(super) fn last(&self) -> u64 {
        self.groups.iter().map(|g| g.last).max().unwrap_or(0)
    }

    pub(super) fn spans(&self) -> u64 {
        self.groups.iter().map(|g| u64::from(g.spans)).sum()
    }
}

/// A trace id in four bytes: it says in which blocks a trace cannot be. Ids need not be random (some backends' have
/// leading zeros or a time in front), so all of their bytes go in.
pub(super) fn fingerprint(trace: [u8; 16]) -> u32 {
    let id = u128::from_le_bytes(trace);
    let folded = (id as u64) ^ ((id >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
