//! `[traces]`, judged.

use std::time::Duration;

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::check_url;
use super::keys::Typed;
use super::raw::RawTraces;
use super::substitute::Sources;
use crate::model::TracesSettings;

/// Windows of evidence: shorter ones hold no baseline, longer ones are cut by most backends.
const WINDOWS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));
/// Times at which a backend is asked about one incident; each is a handful of queries.
const MAX_RECHECKS: usize = 10;

pub(super) fn check_traces(
    raw: RawTraces,
    has_telemetry: bool,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Option<TracesSettings> {
    if !raw.has_backend {
        out.error(
            Complaint::at(raw.span.clone(), "[traces] has no `backend`", "add one")
                .help("backend = \"jaeger\""),
        );
    }
    // The variables are read where the exporter is made; one of them is as good as the key.
    let by_environment = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ]
    .iter()
    .any(|name| (sources.env)(name).is_some_and(|value| !value.is_empty()));
    if !has_telemetry && !by_environment {
        out.warnings.push(
            Complaint::at(
                raw.span.clone(),
                "[traces] without [telemetry]: every verdict will be inconclusive",
                "our own spans have to reach this backend, or its silence proves nothing",
            )
            .help("add [telemetry] with an `endpoint` that stores in the same backend"),
        );
    }
    let window = raw
        .window
        .as_ref()
        .map_or(Duration::from_secs(300), |w| w.value);
    if let Some(typed) = &raw.window
        && !(WINDOWS.0..=WINDOWS.1).contains(&window)
    {
        out.error(Complaint::at(
            typed.span.clone(),
            "`window` is out of range",
            "has to be from 10s to 24h",
        ));
    }
    let recheck = match raw.recheck {
        None => [20, 60, 180].map(Duration::from_secs).to_vec(),
        Some(typed) => check_recheck(&typed, out),
    };
    let Some(url) = raw.url else {
        if raw.has_url {
            return None;
        }
        out.error(
            Complaint::at(raw.span, "[traces] has no `url`", "add one")
                .help("url = \"http://localhost:16686\""),
        );
        return None;
    };
    let text = out.substitute(&url, sources)?;
    let url = check_url(&text.value, &url.span, "url", out)?;
    raw.backend?;
    Some(TracesSettings {
        url,
        window,
        recheck,
    })
}

fn check_recheck(typed: &Typed<Vec<Typed<Duration>>>, out: &mut Findings) -> Vec<Duration> {
    let times: Vec<_> = typed.value.iter().map(|time| time.value).collect();
    if times.is_empty() || times.len() > MAX_RECHECKS {
        out.error(Complaint::at(
            typed.span.clone(),
            "`recheck` has to name 1 to 10 times",
            format!("names {}", times.len()),
        ));
    }
    for (earlier, later) in typed.value.iter().zip(typed.value.iter().skip(1)) {
        if earlier.value >= later.value {
            out.error(Complaint::at(
                later.span.clone(),
                "the times of `recheck` have to ascend",
                "not later than the one before",
            ));
        }
    }
    times
}
