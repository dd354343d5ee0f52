//! What it means: the typed values judged, all complaints at once.

use std::path::PathBuf;

use super::complaint::Complaint;
use super::keys::Typed;
use super::raw::RawFile;
use super::server::ServerChecker;
use super::substitute::{Sources, Substituted, substitute};
use super::telemetry::check_telemetry;
use super::traces::check_traces;
use super::{Config, StoreSettings};

/// Judges a whole file.
pub(super) fn check(raw: RawFile, sources: &Sources<'_>, out: &mut Findings) -> Config {
    let has_telemetry = raw.telemetry.as_ref().is_some_and(|t| t.endpoint.is_some());
    let telemetry = check_telemetry(raw.telemetry.unwrap_or_default(), sources, out);
    let tracestate = telemetry.tracestate.clone();
    let traces = raw
        .traces
        .and_then(|traces| check_traces(traces, has_telemetry, sources, out));
    let mut checker = ServerChecker::new(&raw.defaults, &tracestate, sources, out);
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
        self.errors.push(complaint);
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
