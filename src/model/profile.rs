//! How deep to probe, and what to expect.

use super::{EraMode, Expect, Layer};

/// A probing profile, as in the TOML files of `probes/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What the profile is for, in a sentence.
    pub description: String,
    /// The last layer that is asked for; those after it are skipped.
    pub depth: Layer,
    /// Which era to speak, where the server does not say so itself.
    pub era: Option<EraMode>,
    /// What is expected, where the server does not say so itself.
    pub expect: Expect,
}
