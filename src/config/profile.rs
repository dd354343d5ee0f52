//! The built-in profiles: the files of `probes/`, embedded.

use crate::model::Profile;

const BUILT_IN: [(&str, &str); 2] = [
    ("handshake", include_str!("../../probes/handshake.toml")),
    ("reachable", include_str!("../../probes/reachable.toml")),
];

/// Names of the built-in profiles.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The built-in profile called `name`.
pub fn named(name: &str) -> Option<Profile> {
    let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    // A test reads every embedded file.
    toml::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_can_be_read() {
        assert!(names().count() > 0);
        for name in names() {
            assert!(named(name).is_some(), "{name}");
        }
        assert_eq!(named("nosuch"), None);
    }
}
