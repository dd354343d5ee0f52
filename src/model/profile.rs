//! How deep to probe.

use serde::Deserialize;

use super::Layer;

/// A probing profile, as in the TOML files of `probes/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What the profile is for, in a sentence.
    pub description: String,
    /// The last layer that is asked for; those after it are skipped.
    pub depth: Layer,
}
