//! What it means: the typed values judged, all complaints at once.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Config;
use super::alerting::Names;
use super::channel::{RawChannel, check_channels};
use super::complaint::Complaint;
use super::keys::Typed;
use super::parent;
use super::raw::{RawFile, RawServer};
use super::server::ServerChecker;
use super::store::check_store;
use super::substitute::{Sources, Substituted, substitute};
use super::telemetry::check_telemetry;
use super::traces::{self, check_traces};
use crate::model::{Alerting, Profile};

/// Judges a whole file.
pub(super) fn check(
    raw: RawFile,
    sources: &Sources<'_>,
    profile: Option<&Profile>,
    out: &mut Findings,
) -> Config {
    let has_telemetry = raw.telemetry.as_ref().is_some_and(|t| t.endpoint.is_some());
    let telemetry = check_telemetry(raw.telemetry.unwrap_or_default(), sources, out);
    let tracestate = telemetry.tracestate.clone();
    let traces = check_traces(raw.traces, has_telemetry, sources, out);
    traces::check_names(&raw.servers, &traces, out);
    let mut checker = ServerChecker::new(&raw.defaults, &tracestate, sources, profile, out);
    checker.check_defaults();
    let targets = raw
        .servers
        .iter()
        .filter_map(|server| checker.check(server))
        .collect();
    parent::check(&raw.servers, out);
    let names = Names {
        channels: raw.channels.iter().filter_map(RawChannel::name).collect(),
        ..names(&raw.defaults, &raw.servers)
    };
    let alerting = raw.alerting.check(&names, sources, out);
    let alerting = Alerting {
        channels: check_channels(&raw.channels, sources, out),
        ..alerting
    };
    Config {
        targets,
        schedule: raw.schedule,
        store: check_store(raw.store, sources, out),
        telemetry,
        traces,
        alerting,
    }
}

/// The names and tags of the servers, also of those that cannot be used: they are there, and have complaints of their own.
fn names<'a>(defaults: &'a RawServer, servers: &'a [RawServer]) -> Names<'a> {
    let names = servers.iter().filter_map(|server| server.name.as_ref());
    let tags = servers
        .iter()
        .filter_map(|server| server.tags.as_ref().or(defaults.tags.as_ref()))
        .flat_map(|tags| &tags.value);
    Names {
        servers: names.map(|name| name.value.as_str()).collect(),
        tags: tags.map(|tag| tag.value.as_str()).collect(),
        channels: Vec::new(),
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

    /// The duration, or a complaint when it is not in `range`.
    pub(super) fn duration_in(
        &mut self,
        typed: &Typed<Duration>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        if range.contains(&typed.value) {
            return Some(typed.value);
        }
        self.error(Complaint::at(
            typed.span.clone(),
            format!("`{key}` is out of range"),
            format!(
                "has to be from {} to {}",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end())
            ),
        ));
        None
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
