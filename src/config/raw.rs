//! What was typed: every table of the file with its values and where they stand, nothing judged but keys and types.

use std::ops::Range;
use std::time::Duration;

use toml::de::DeTable;

use super::alerting::{RawAlerting, Tables};
use super::canary::{self, RawCanary};
use super::channel::{self, RawChannel};
use super::complaint::Complaint;
use super::expect::{self, RawExpect};
use super::keys::{Keys, Typed};
use super::store::{RawStore, read_store};
use super::traces::{RawTraces, read_traces};
use super::{CONCURRENCY, ScheduleSettings};
use crate::model::{EraMode, OtlpProtocol, Redirects, TraceContext};

/// The keys that a `[[server]]` and `[defaults]` share.
const SHARED_KEYS: [&str; 20] = [
    "every",
    "cron",
    "timezone",
    "timeout",
    "profile",
    "era",
    "redirects",
    "trace_context",
    "headers",
    "tags",
    "proxy",
    "resolver",
    "ip",
    "source_address",
    "ca_file",
    "cert_file",
    "key_file",
    "server_name",
    "insecure_skip_verify",
    "expect",
];
const OWN_KEYS: [&str; 10] = [
    "name", "url", "command", "start", "env", "cwd", "service", "parent", "traces", "canary",
];

/// What `era` can be, here and in a profile.
pub(super) const ERAS: [(&str, EraMode); 4] = [
    ("auto", EraMode::Auto),
    ("legacy", EraMode::Legacy),
    ("modern", EraMode::Modern),
    ("both", EraMode::Both),
];

const TELEMETRY_KEYS: [&str; 7] = [
    "endpoint",
    "protocol",
    "headers",
    "ca_file",
    "cert_file",
    "key_file",
    "tracestate",
];

/// A whole file.
#[derive(Default)]
pub(super) struct RawFile {
    pub(super) defaults: RawServer,
    pub(super) servers: Vec<RawServer>,
    pub(super) schedule: ScheduleSettings,
    pub(super) store: RawStore,
    pub(super) telemetry: Option<RawTelemetry>,
    pub(super) traces: Vec<RawTraces>,
    pub(super) alerting: RawAlerting,
    pub(super) channels: Vec<RawChannel>,
}

/// A `[[server]]`, or `[defaults]`.
#[derive(Default)]
pub(super) struct RawServer {
    pub(super) span: Range<usize>,
    /// The keys that are there, whatever their type.
    pub(super) given: Vec<&'static str>,
    pub(super) name: Option<Typed<String>>,
    pub(super) url: Option<Typed<String>>,
    pub(super) command: Option<Typed<Vec<Typed<String>>>>,
    pub(super) start: Option<Typed<Vec<Typed<String>>>>,
    pub(super) env: Vec<Pair>,
    pub(super) cwd: Option<Typed<String>>,
    pub(super) service: Option<Typed<String>>,
    pub(super) parent: Option<Typed<String>>,
    pub(super) traces: Option<Typed<String>>,
    pub(super) service_attributes: Vec<Pair>,
    pub(super) canary: Option<RawCanary>,
    pub(super) every: Option<Typed<Duration>>,
    pub(super) cron: Option<Typed<String>>,
    pub(super) timezone: Option<Typed<String>>,
    pub(super) timeout: Option<Typed<Duration>>,
    pub(super) profile: Option<Typed<String>>,
    pub(super) era: Option<EraMode>,
    pub(super) redirects: Option<Redirects>,
    pub(super) trace_context: Option<TraceContext>,
    pub(super) headers: Vec<Pair>,
    pub(super) tags: Option<Typed<Vec<Typed<String>>>>,
    pub(super) network: RawNetwork,
    pub(super) expect: RawExpect,
}

/// The keys of a server that say how its host is reached.
#[derive(Default)]
pub(super) struct RawNetwork {
    pub(super) proxy: Option<Typed<String>>,
    pub(super) resolver: Option<Typed<String>>,
    pub(super) ip: Option<Typed<String>>,
    pub(super) source_address: Option<Typed<String>>,
    pub(super) ca_file: Option<Typed<String>>,
    pub(super) cert_file: Option<Typed<String>>,
    pub(super) key_file: Option<Typed<String>>,
    pub(super) server_name: Option<Typed<String>>,
    pub(super) insecure_skip_verify: Option<Typed<bool>>,
}

impl RawNetwork {
    /// Where these keys stand, those that there are.
    pub(super) fn spans(&self) -> impl Iterator<Item = Range<usize>> {
        let texts = [
            &self.proxy,
            &self.resolver,
            &self.ip,
            &self.source_address,
            &self.ca_file,
            &self.cert_file,
            &self.key_file,
            &self.server_name,
        ];
        let flag = self.insecure_skip_verify.as_ref().map(|t| t.span.clone());
        texts
            .into_iter()
            .filter_map(|text| text.as_ref().map(|t| t.span.clone()))
            .chain(flag)
    }
}

/// A key of the user's own and its value.
pub(super) type Pair = (Typed<String>, Typed<String>);

/// `[telemetry]`.
#[derive(Default)]
pub(super) struct RawTelemetry {
    /// The keys that are there, whatever their type.
    pub(super) given: Vec<&'static str>,
    pub(super) endpoint: Option<Typed<String>>,
    pub(super) protocol: Option<OtlpProtocol>,
    pub(super) headers: Vec<Pair>,
    pub(super) ca_file: Option<Typed<String>>,
    pub(super) cert_file: Option<Typed<String>>,
    pub(super) key_file: Option<Typed<String>>,
    pub(super) tracestate: Option<Typed<String>>,
}

/// Reads the whole file.
pub(super) fn read<'t>(root: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> RawFile {
    let known = [
        "defaults",
        "server",
        "schedule",
        "store",
        "telemetry",
        "traces",
        "channel",
    ];
    let known: Vec<_> = known.into_iter().chain(Tables::KEYS).collect();
    let mut keys = Keys::of(root, "the file", &known, complaints);
    let defaults = keys.table("defaults");
    let servers = keys.tables("server");
    let schedule = keys.table("schedule");
    let store = keys.table("store");
    let telemetry = keys.table("telemetry");
    let traces = keys.table_or_tables("traces");
    let alerting = Tables::of(&mut keys);
    let channels = keys.tables("channel");
    RawFile {
        defaults: defaults
            .map(|table| read_defaults(table, complaints))
            .unwrap_or_default(),
        servers: servers
            .into_iter()
            .map(|(table, span)| read_server(table, span, complaints))
            .collect(),
        schedule: schedule
            .map(|table| read_schedule(table, complaints))
            .unwrap_or_default(),
        store: store
            .map(|table| read_store(table, complaints))
            .unwrap_or_default(),
        telemetry: telemetry.map(|table| read_telemetry(table, complaints)),
        traces: traces
            .into_iter()
            .map(|(table, span)| read_traces(table, span, complaints))
            .collect(),
        alerting: alerting.read(complaints),
        channels: channels
            .into_iter()
            .map(|(table, span)| channel::read(table, span, complaints))
            .collect(),
    }
}

fn read_defaults<'t>(table: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> RawServer {
    let mut keys = Keys::of(table, "[defaults]", &SHARED_KEYS, complaints);
    let mut server = RawServer::default();
    read_shared(&mut keys, &mut server);
    server
}

fn read_server<'t>(
    table: &'t DeTable<'t>,
    span: Range<usize>,
    complaints: &mut Vec<Complaint>,
) -> RawServer {
    let known: Vec<_> = OWN_KEYS.into_iter().chain(SHARED_KEYS).collect();
    let mut keys = Keys::of(table, "[[server]]", &known, complaints);
    let given = OWN_KEYS
        .into_iter()
        .filter(|key| table.contains_key(*key))
        .collect();
    let mut server = RawServer {
        span,
        given,
        name: keys.text("name"),
        url: keys.text("url"),
        command: keys.texts("command"),
        start: keys.texts("start"),
        env: keys.text_table("env").unwrap_or_default(),
        cwd: keys.text("cwd"),
        parent: keys.text("parent"),
        traces: keys.text("traces"),
        canary: canary::read(&mut keys),
        ..RawServer::default()
    };
    if keys.is_table("service") {
        for (name, value) in keys.text_table("service").unwrap_or_default() {
            if name.value == "name" {
                server.service = Some(value);
            } else {
                server.service_attributes.push((name, value));
            }
        }
    } else {
        server.service = keys.text("service");
    }
    read_shared(&mut keys, &mut server);
    server
}

fn read_shared(keys: &mut Keys<'_, '_>, server: &mut RawServer) {
    server.every = keys.duration("every");
    server.cron = keys.text("cron");
    server.timezone = keys.text("timezone");
    server.timeout = keys.duration("timeout");
    server.profile = keys.text("profile");
    server.era = keys.word("era", &ERAS);
    server.redirects = keys.word(
        "redirects",
        &[
            ("same-origin", Redirects::SameOrigin),
            ("any", Redirects::Any),
            ("off", Redirects::Off),
        ],
    );
    server.trace_context = keys.word(
        "trace_context",
        &[
            ("both", TraceContext::Both),
            ("headers", TraceContext::Headers),
            ("meta", TraceContext::Meta),
            ("off", TraceContext::Off),
        ],
    );
    server.headers = keys.text_table("headers").unwrap_or_default();
    server.tags = keys.texts("tags");
    server.network = RawNetwork {
        proxy: keys.text("proxy"),
        resolver: keys.text("resolver"),
        ip: keys.number_or_text("ip"),
        source_address: keys.text("source_address"),
        ca_file: keys.text("ca_file"),
        cert_file: keys.text("cert_file"),
        key_file: keys.text("key_file"),
        server_name: keys.text("server_name"),
        insecure_skip_verify: keys.flag("insecure_skip_verify"),
    };
    server.expect = expect::read(keys);
}

fn read_schedule<'t>(table: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> ScheduleSettings {
    let known = ["concurrency", "per_host"];
    let mut keys = Keys::of(table, "[schedule]", &known, complaints);
    ScheduleSettings {
        concurrency: keys.count("concurrency", CONCURRENCY),
        per_host: keys.count("per_host", CONCURRENCY),
    }
}

fn read_telemetry<'t>(table: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> RawTelemetry {
    let mut keys = Keys::of(table, "[telemetry]", &TELEMETRY_KEYS, complaints);
    let given = TELEMETRY_KEYS
        .into_iter()
        .filter(|key| table.contains_key(*key))
        .collect();
    RawTelemetry {
        given,
        endpoint: keys.text("endpoint"),
        protocol: keys.word("protocol", &OtlpProtocol::NAMES),
        headers: keys.text_table("headers").unwrap_or_default(),
        ca_file: keys.text("ca_file"),
        cert_file: keys.text("cert_file"),
        key_file: keys.text("key_file"),
        tracestate: keys.text("tracestate"),
    }
}
