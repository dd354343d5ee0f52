//! `mcpprobe correlate --rehearse`: whether an outage could be proven, before there is one.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::{Exit, Trouble, correlate, terminal};
use crate::cli::Format;
use crate::config::Config;
use crate::correlate::Asking;
use crate::correlate::rehearse;
use crate::daemon::{Finding, Inquiry, Subject};
use crate::model::{BackendKind, Lack, Reach, Rehearsal, Staging, Target, Text, TraceContext};
use crate::report;
use crate::report::rehearsal::Rehearsed;

/// Targets that are asked about at once: as many as `watch` asks about.
const AT_ONCE: usize = 4;

pub(super) async fn run(config: Config, format: Format) -> Result<Exit, Trouble> {
    let has_telemetry =
        config.telemetry.receiver.endpoint.is_some() || is_exported_by_environment();
    let has_traces = !config.traces.is_empty();
    let inquiry = correlate::inquiry(config)?;
    let targets = Arc::clone(&inquiry.targets);
    let asked = stream::iter(targets.iter())
        .map(|target| rehearsed(&inquiry, target, has_traces, has_telemetry))
        .buffered(AT_ONCE);
    let rehearsed: Vec<_> = asked.collect().await;
    let text = match format {
        Format::Table => report::rehearsal::table(&rehearsed, terminal::look()),
        Format::Json => report::json::document(&report::rehearsal::json(&rehearsed)),
    };
    terminal::print(&text);
    let mut reaches = rehearsed.iter().map(|target| target.rehearsal.reach);
    let is_unknown = reaches.all(|reach| reach == Reach::Unknown);
    Ok(if is_unknown && !rehearsed.is_empty() {
        Exit::CouldNotJudge
    } else {
        Exit::Ok
    })
}

async fn rehearsed(
    inquiry: &Inquiry,
    target: &Target,
    has_traces: bool,
    has_telemetry: bool,
) -> Rehearsed {
    let source = inquiry.source(&target.name);
    let recheck = source.and_then(|source| source.settings.recheck.last().copied());
    // The embedded backend is handed our spans without a network.
    let is_ours = source.is_some_and(|source| source.backend.kind() == BackendKind::Embedded);
    let staging = Staging {
        has_traces,
        has_telemetry: has_telemetry || is_ours,
        sends_context: target.trace_context != TraceContext::Off,
        silence: recheck.unwrap_or_default(),
    };
    let found = match has_traces {
        true => about(inquiry, target).await.map(Some),
        false => Ok(None),
    };
    let (rehearsal, service) = match found {
        Ok(finding) => {
            let evidence = finding.map(|finding| finding.asked.evidence);
            let rehearsal = rehearse(&staging, evidence.as_ref());
            (rehearsal, evidence.and_then(|evidence| evidence.service))
        }
        Err(why) => {
            let lack = Lack::BackendUnsure(Text::new(why));
            (Rehearsal::of(vec![lack], None), None)
        }
    };
    Rehearsed {
        name: target.name.clone(),
        service,
        backend: source.map(|source| source.settings.name.clone()),
        rehearsal,
    }
}

/// One of these is as good as the key.
fn is_exported_by_environment() -> bool {
    [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ]
    .iter()
    .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()))
}

/// As if somebody's alert came now.
async fn about(inquiry: &Inquiry, target: &Target) -> Result<Finding, String> {
    let subject = Subject {
        target: target.name.clone(),
        incident: None,
        at: SystemTime::now(),
    };
    inquiry.about(subject, Asking::default()).await
}
