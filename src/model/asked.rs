//! One asking of a backend about a case: whom, when, what, and what it showed. Enough to judge it again.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Evidence;
use super::nanos::instant;

/// A backend was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Name of the target.
    pub target: String,
    /// The incident, where it is one of ours.
    pub incident: Option<String>,
    /// The first failed probe's start, or the time that was asked for.
    #[serde(with = "instant")]
    pub at: SystemTime,
    /// When the backend was asked.
    #[serde(with = "instant")]
    pub asked_at: SystemTime,
    /// Which backend.
    pub backend: AskedBackend,
    /// What it was asked, in order.
    pub queries: Vec<Query>,
    /// Where a person sees the traces that tell most, in the backend's own UI.
    pub links: Vec<String>,
    /// It would have had more to say later.
    pub provisional: bool,
    /// What was found.
    pub evidence: Evidence,
}

/// Who was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedBackend {
    /// `name` of its `[[traces]]`.
    pub name: String,
    /// The word of its `backend`.
    pub kind: String,
    /// Where, without credentials; nothing where it is no matter of a URL.
    pub url: Option<String>,
}

/// One query, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// When it was sent.
    #[serde(with = "instant")]
    pub at: SystemTime,
    /// What it asked.
    pub text: String,
}
