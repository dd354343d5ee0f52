//! `[traces]`, or each of `[[traces]]`: read and judged.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeTable;

use super::backend::{RawRemote, keys_of, read_remote};
use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::check_url;
use super::header::check_header;
use super::keys::{Keys, Typed, nearest};
use super::raw::{Pair, RawServer};
use super::store::size;
use super::substitute::Sources;
use crate::model::{
    BackendKind, BackendSettings, EmbeddedSettings, Forward, Secret, TracesSettings,
};

/// Windows of evidence: shorter ones hold no baseline, longer ones are cut by most backends.
const WINDOWS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));
/// Times at which a backend is asked about one incident; each is a handful of queries.
const MAX_RECHECKS: usize = 10;
/// Backends of one file. Each costs a client and a budget.
const MAX_BACKENDS: usize = 32;

const COMMON_KEYS: [&str; 4] = ["name", "backend", "window", "recheck"];
const EMBEDDED_KEYS: [&str; 10] = [
    "url",
    "path",
    "otlp_http",
    "otlp_grpc",
    "token",
    "keep",
    "max_size",
    "keep_content",
    "forward",
    "forward_headers",
];

/// The embedded backend's file, unless the user names another.
const DEFAULT_PATH: &str = "mcpprobe-traces.db";
/// Where OTLP is received: the ports that every exporter has by default, for this machine only.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(LOOPBACK, 4318);
const DEFAULT_GRPC: SocketAddr = SocketAddr::new(LOOPBACK, 4317);
const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// A week: an incident of Friday is looked into on Monday.
const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Some twenty million spans.
const DEFAULT_MAX_SIZE: u64 = 2_000_000_000;
/// Less than an hour holds no baseline of an incident that somebody looks at; more than a year is a typing error.
const KEEP: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(366 * 24 * 3600);

/// What was typed.
pub(super) struct RawTraces {
    span: Range<usize>,
    name: Option<Typed<String>>,
    kind: Option<BackendKind>,
    window: Option<Typed<Duration>>,
    recheck: Option<Typed<Vec<Typed<Duration>>>>,
    backend: Option<RawBackend>,
}

enum RawBackend {
    Embedded(RawEmbedded),
    Remote(RawRemote),
}

struct RawEmbedded {
    /// Of another backend: the file was changed from one, or lacks the word for it.
    url: Option<Typed<String>>,
    is_named: bool,
    path: Option<Typed<String>>,
    otlp_http: Option<Typed<String>>,
    otlp_grpc: Option<Typed<String>>,
    token: Option<Typed<String>>,
    keep: Option<Typed<Duration>>,
    max_size: Option<Typed<String>>,
    keep_content: Option<bool>,
    forward: Option<Typed<String>>,
    forward_headers: Vec<Pair>,
}

pub(super) fn read_traces<'t>(
    table: &'t DeTable<'t>,
    span: Range<usize>,
    complaints: &mut Vec<Complaint>,
) -> RawTraces {
    // Which keys are known depends on the backend: with an unknown one, all that any of them has.
    let word = table
        .get("backend")
        .and_then(|value| value.get_ref().as_str());
    let kind = match word {
        None => Some(BackendKind::Embedded),
        Some(word) => BackendKind::NAMES
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, kind)| *kind),
    };
    let mut known = COMMON_KEYS.to_vec();
    match kind {
        Some(BackendKind::Embedded) => known.extend(EMBEDDED_KEYS),
        Some(kind) => known.extend(keys_of(kind)),
        None => {
            known.extend(EMBEDDED_KEYS);
            known.extend(
                BackendKind::NAMES
                    .iter()
                    .flat_map(|(_, kind)| keys_of(*kind)),
            );
        }
    }
    let mut keys = Keys::of(table, "[traces]", &known, complaints);
    let named = keys.has("backend");
    // Complains about a word that is none.
    let kind = match named {
        true => keys.word("backend", &BackendKind::NAMES),
        false => kind,
    };
    let backend = kind.and_then(|kind| match kind {
        BackendKind::Embedded => Some(RawBackend::Embedded(read_embedded(&mut keys))),
        kind => read_remote(kind, &mut keys, table).map(RawBackend::Remote),
    });
    if kind.is_none() {
        // One complaint more for a wrong type, however little is known of the backend.
        keys.text("url");
    }
    RawTraces {
        span,
        name: keys.text("name"),
        kind,
        window: keys.duration("window"),
        recheck: keys.durations("recheck"),
        backend,
    }
}

fn read_embedded(keys: &mut Keys<'_, '_>) -> RawEmbedded {
    RawEmbedded {
        url: keys.text("url"),
        is_named: keys.has("backend"),
        path: keys.text("path"),
        otlp_http: keys.text("otlp_http"),
        otlp_grpc: keys.text("otlp_grpc"),
        token: keys.text("token"),
        keep: keys.duration("keep"),
        max_size: keys.text("max_size"),
        keep_content: keys.boolean("keep_content"),
        forward: keys.text("forward"),
        forward_headers: keys.text_table("forward_headers").unwrap_or_default(),
    }
}

/// Judges them all. Their names are unique.
pub(super) fn check_traces(
    raw: Vec<RawTraces>,
    has_telemetry: bool,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Vec<TracesSettings> {
    if let Some(surplus) = raw.get(MAX_BACKENDS) {
        out.error(Complaint::at(
            surplus.span.clone(),
            format!("more than {MAX_BACKENDS} trace backends"),
            "one too many",
        ));
    }
    let mut all: Vec<TracesSettings> = Vec::new();
    for raw in raw {
        let (span, name_span) = (raw.span.clone(), raw.name.as_ref().map(|n| n.span.clone()));
        let Some(settings) = check_one(raw, has_telemetry, sources, out) else {
            continue;
        };
        let is_embedded =
            |settings: &TracesSettings| matches!(settings.backend, BackendSettings::Embedded(_));
        if all.iter().any(|other| other.name == settings.name) {
            out.error(
                Complaint::at(
                    name_span.unwrap_or(span),
                    format!("two trace backends are called \"{}\"", settings.name),
                    "the second one",
                )
                .help("give each of [[traces]] a `name`"),
            );
        } else if is_embedded(&settings) && all.iter().any(is_embedded) {
            out.error(Complaint::at(
                span,
                "two embedded trace backends",
                "one receives everything that there is",
            ));
        } else {
            all.push(settings);
        }
    }
    all
}

fn check_one(
    raw: RawTraces,
    has_telemetry: bool,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Option<TracesSettings> {
    // The variables are read where the exporter is made; one of them is as good as the key.
    let by_environment = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ]
    .iter()
    .any(|name| (sources.env)(name).is_some_and(|value| !value.is_empty()));
    let is_ours = matches!(raw.kind, None | Some(BackendKind::Embedded));
    if let Some(why) = raw.kind.and_then(BackendKind::cannot_be_asked) {
        out.warnings.push(
            Complaint::at(
                raw.span.clone(),
                "every verdict of this trace backend will be inconclusive",
                why,
            )
            .help("send spans to another one as well, and name that one here"),
        );
    } else if !is_ours && !has_telemetry && !by_environment {
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
    let backend = match raw.backend? {
        RawBackend::Embedded(embedded) => {
            BackendSettings::Embedded(check_embedded(embedded, &raw.span, sources, out)?)
        }
        RawBackend::Remote(remote) => {
            BackendSettings::Remote(remote.check(&raw.span, sources, out)?)
        }
    };
    Some(TracesSettings {
        name: raw
            .name
            .map_or_else(|| backend.kind().as_str().to_owned(), |name| name.value),
        backend,
        window,
        recheck,
    })
}

fn check_embedded(
    raw: RawEmbedded,
    span: &Range<usize>,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Option<EmbeddedSettings> {
    let before = out.errors.len();
    match &raw.url {
        Some(url) if raw.is_named => out.warnings.push(Complaint::at(
            url.span.clone(),
            "`url` has no effect here",
            "the embedded backend listens at `otlp_http` and `otlp_grpc`",
        )),
        Some(url) => out.error(
            Complaint::at(
                url.span.clone(),
                "`url` of which backend?",
                "without `backend` it is the embedded one, which has none",
            )
            .help("backend = \"jaeger\""),
        ),
        None => {}
    }
    let path = raw.path.and_then(|path| out.substitute(&path, sources));
    let path = path.map_or_else(|| DEFAULT_PATH.to_owned(), |path| path.value);
    let otlp_http = check_address(raw.otlp_http, "otlp_http", DEFAULT_HTTP, out);
    let otlp_grpc = check_address(raw.otlp_grpc, "otlp_grpc", DEFAULT_GRPC, out);
    if let (Some(http), Some(grpc)) = (otlp_http, otlp_grpc)
        && http == grpc
        && http.port() != 0
    {
        out.error(Complaint::at(
            span.clone(),
            "`otlp_http` and `otlp_grpc` are the same address",
            "each needs a port of its own",
        ));
    }
    let token = raw.token.as_ref().and_then(|token| {
        let text = out.substitute(token, sources)?;
        if text.value.is_empty() {
            out.error(Complaint::at(
                token.span.clone(),
                "`token` is empty",
                "everybody knows that one",
            ));
        }
        Some(Secret::new(text.value))
    });
    let keep = match &raw.keep {
        Some(typed) => out.duration_in(typed, "keep", KEEP)?,
        None => DEFAULT_KEEP,
    };
    let max_size = match &raw.max_size {
        Some(typed) => size(typed, "2GB", out)?,
        None => DEFAULT_MAX_SIZE,
    };
    let forward = raw.forward.as_ref().and_then(|forward| {
        let text = out.substitute(forward, sources)?;
        let headers = raw
            .forward_headers
            .iter()
            .filter_map(|header| check_header(header, &mut Vec::new(), sources, out))
            .map(|header| (header.name, header.value))
            .collect();
        Some(Forward {
            url: check_url(&text.value, &forward.span, "forward", out)?,
            headers,
        })
    });
    for address in [otlp_http, otlp_grpc].into_iter().flatten() {
        if !address.ip().is_loopback() && token.is_none() {
            out.warnings.push(
                Complaint::at(
                    span.clone(),
                    format!("{address} takes spans from everybody who can reach it"),
                    "without a `token`",
                )
                .help("token = \"${OTLP_TOKEN}\""),
            );
        }
    }
    (out.errors.len() == before).then(|| EmbeddedSettings {
        path: sources.folder.join(path),
        otlp_http,
        otlp_grpc,
        token,
        keep,
        max_size,
        keep_content: raw.keep_content.unwrap_or_default(),
        forward,
    })
}

fn check_address(
    typed: Option<Typed<String>>,
    key: &str,
    usual: SocketAddr,
    out: &mut Findings,
) -> Option<SocketAddr> {
    let Some(typed) = typed else {
        return Some(usual);
    };
    if typed.value == "off" {
        return None;
    }
    let address = typed.value.parse().ok();
    if address.is_none() {
        out.error(
            Complaint::at(
                typed.span,
                format!("`{key}` is no address to listen at"),
                "has to be IP:port, or \"off\"",
            )
            .help(format!("{key} = \"{usual}\"")),
        );
    }
    address
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

/// Complains about servers that name a backend that there is not.
pub(super) fn check_names(servers: &[RawServer], traces: &[TracesSettings], out: &mut Findings) {
    let names: Vec<_> = traces.iter().map(|traces| traces.name.as_str()).collect();
    for typed in servers.iter().filter_map(|server| server.traces.as_ref()) {
        if names.contains(&typed.value.as_str()) {
            continue;
        }
        let label = match nearest(&typed.value, &names) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "no [[traces]] has this name".to_owned(),
        };
        out.error(Complaint::at(
            typed.span.clone(),
            format!(
                "there is no trace backend \"{}\"",
                typed.value.escape_debug()
            ),
            label,
        ));
    }
}
