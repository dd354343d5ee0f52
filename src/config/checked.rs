//! What it means: the typed values judged, all complaints at once.

use std::path::PathBuf;

use super::complaint::Complaint;
use super::keys::Typed;
use super::raw::RawFile;
use super::server::ServerChecker;
use super::substitute::{Sources, Substituted, substitute};
use super::traces::{check_telemetry, check_traces};
use super::{Config, StoreSettings};
use crate::model::Profile;

/// Judges a whole file.
pub(super) fn check(
    raw: RawFile,
    sources: &Sources<'_>,
    profile: Option<&Profile>,
    out: &mut Findings,
) -> Config {
    let has_telemetry = raw.telemetry.as_ref().is_some_and(|t| t.endpoint.is_some());
    let telemetry = check_telemetry(raw.telemetry, sources, out);
    let tracestate = telemetry.tracestate.clone();
    let traces = raw
        .traces
        .and_then(|traces| check_traces(traces, has_telemetry, sources, out));
    let mut checker = ServerChecker::new(&raw.defaults, &tracestate, sources, profile, out);
    checker.check_defaults();
    let targets = raw
        .servers
        .iter()
        .filter_map(|server| checker.check(server))
        .collect();
    let path = raw
        .store_path
        .and_then(|path| out.substitute(&path, sources))
        .map_or_else(
            || PathBuf::from("mcpprobe.db"),
            |path| PathBuf::from(path.value),
        );
    Config {
        targets,
        store: StoreSettings {
            path: sources.folder.join(path),
        },
        telemetry,
        traces,
    }
}

/// Complaints so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Complaint>,
    pub(super) warnings: Vec<Complaint>,
}

impl Findings {
    pub(super) fn error(&mut self, complaint: Complaint) {
        // What is wrong with a key of [defaults] is found for each server, and said once.
        if !self.errors.contains(&complaint) {
            self.errors.push(complaint);
        }
    }

    pub(super) fn warning(&mut self, complaint: Complaint) {
        if !self.warnings.contains(&complaint) {
            self.warnings.push(complaint);
        }
    }

    pub(super) fn substitute(
        &mut self,
        typed: &Typed<String>,
        sources: &Sources<'_>,
    ) -> Option<Substituted> {
        match substitute(&typed.value, sources) {
            Ok(text) => Some(text),
            Err(why) => {
                self.error(Complaint::at(
                    typed.span.clone(),
                    "a value cannot be put in",
                    why,
                ));
                None
            }
        }
    }
}
