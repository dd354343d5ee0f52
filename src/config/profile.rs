//! Profiles: the files of `probes/`, embedded, and the user's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::complaint::{Complaint, Complaints, Source};
use super::keys::{Keys, Typed, nearest};
use super::raw::ERAS;
use super::{expect, mask, read_file, syntax_complaints};
use crate::model::{Layer, Profile};

const BUILT_IN: [(&str, &str); 5] = [
    ("handshake", include_str!("../../probes/handshake.toml")),
    ("reachable", include_str!("../../probes/reachable.toml")),
    ("legacy", include_str!("../../probes/legacy.toml")),
    ("modern", include_str!("../../probes/modern.toml")),
    ("both", include_str!("../../probes/both.toml")),
];

/// What is probed where nothing else is said.
pub(super) const DEFAULT: &str = "handshake";

/// Bytes of a profile: a few keys and a list of tools.
const MAX_FILE: u64 = 64 * 1024;

/// Names of the built-in profiles.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The built-in profile called `name`.
pub(super) fn named(name: &str) -> Option<Profile> {
    let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    // A test reads every embedded file.
    parse(text).ok()
}

/// The profile that is meant on the command line: a name, or a path from the working directory.
///
/// # Errors
/// What is wrong, ready to be shown.
pub fn load(meant: &str) -> Result<Profile, String> {
    let typed = Typed {
        value: meant.to_owned(),
        span: 0..0,
    };
    let mut errors = Vec::new();
    if let Some(profile) = Profiles::default().get(&typed, Path::new(""), &mut errors) {
        return Ok(profile);
    }
    // The command line is no file with lines; the profile may be one.
    for error in errors.iter_mut().filter(|error| error.file.is_none()) {
        error.title = format!("{}: {}", error.title, error.label);
        error.span = None;
    }
    let complaints = Complaints {
        path: String::new(),
        source: String::new(),
        errors,
        warnings: Vec::new(),
    };
    Err(complaints.to_string().trim_end().to_owned())
}

/// Profiles as they are asked for; each of the user's own files is read, and complained about, once.
#[derive(Default)]
pub(super) struct Profiles {
    known: BTreeMap<PathBuf, Option<Profile>>,
}

impl Profiles {
    /// The profile that `typed` names, or the file there; its path is relative to `folder`.
    pub(super) fn get(
        &mut self,
        typed: &Typed<String>,
        folder: &Path,
        complaints: &mut Vec<Complaint>,
    ) -> Option<Profile> {
        if !is_path(&typed.value) {
            let found = named(&typed.value);
            if found.is_none() {
                complaints.push(unknown(typed));
            }
            return found;
        }
        let path = folder.join(&typed.value);
        if let Some(known) = self.known.get(&path) {
            return known.clone();
        }
        let profile = match read_file(&path, MAX_FILE) {
            Ok(text) => parse(&text)
                .map_err(|errors| complaints.extend(in_file(&path, &text, errors)))
                .ok(),
            Err(why) => {
                let title = format!("cannot read the profile {}", path.display());
                complaints.push(Complaint::at(typed.span.clone(), title, why));
                // Not remembered: each place that names it is wrong.
                return None;
            }
        };
        self.known.insert(path, profile.clone());
        profile
    }
}

/// Names of profiles have neither.
fn is_path(typed: &str) -> bool {
    typed.contains('/') || typed.ends_with(".toml")
}

fn unknown(typed: &Typed<String>) -> Complaint {
    let known: Vec<_> = names().collect();
    let label = match nearest(&typed.value, &known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("unknown profile \"{}\"", typed.value.escape_debug()),
    };
    Complaint::at(typed.span.clone(), "there is no such profile", label).help(format!(
        "profiles: {}; a path has a slash or ends in .toml",
        known.join(", ")
    ))
}

fn in_file(path: &Path, text: &str, errors: Vec<Complaint>) -> Vec<Complaint> {
    let file = Arc::new(Source {
        path: path.display().to_string(),
        text: mask::masked(text),
    });
    let mut errors = errors;
    for error in &mut errors {
        error.file = Some(Arc::clone(&file));
    }
    errors
}

/// Reads the text of a profile.
fn parse(text: &str) -> Result<Profile, Vec<Complaint>> {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let mut complaints = syntax_complaints(&syntax);
    // After a syntax error the rest of the file may mean something else than was typed.
    let profile = if complaints.is_empty() {
        read(root.get_ref(), &mut complaints)
    } else {
        None
    };
    match profile {
        Some(profile) if complaints.is_empty() => Ok(profile),
        _ => Err(complaints),
    }
}

fn read<'t>(root: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> Option<Profile> {
    let known = ["description", "depth", "era", "expect"];
    let mut keys = Keys::of(root, "the profile", &known, complaints);
    let missing: Vec<_> = ["description", "depth"]
        .into_iter()
        .filter(|key| !keys.has(key))
        .collect();
    for key in missing {
        let title = format!("the profile has no `{key}`");
        keys.complain(Complaint::at(0..0, title, "add one"));
    }
    let description = keys.text("description");
    let depth = keys.word("depth", &Layer::ALL.map(|layer| (layer.as_str(), layer)));
    let era = keys.word("era", &ERAS);
    let expect = expect::read(&mut keys);
    expect.check_depth(depth?, complaints);
    Some(Profile {
        description: description?.value,
        depth: depth?,
        era,
        expect: expect.expect,
    })
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

    #[test]
    fn every_file_of_probes_is_built_in_and_explained() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes");
        let explained = include_str!("../../probes/README.md");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                assert!(names().any(|known| known == name), "{name}");
                assert!(explained.contains(&format!("| `{name}` |")), "{name}");
                count += 1;
            }
        }
        assert_eq!(count, BUILT_IN.len());
    }
}
