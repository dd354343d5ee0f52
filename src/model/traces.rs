//! Where spans are kept and can be asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use url::Url;

use super::Secret;

/// One trace backend: `[traces]`, or one of `[[traces]]`.
#[derive(Clone, Debug)]
pub struct TracesSettings {
    /// `name`; the word of the backend unless the user says otherwise. Unique.
    pub name: String,
    /// What it is, and how to get at it.
    pub backend: BackendSettings,
    /// How far before the first failed probe to look.
    pub window: Duration,
    /// When to ask, after the first failure; ascending, not empty.
    pub recheck: Vec<Duration>,
}

/// What a backend is, and how to get at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSettings {
    /// Ours: `watch` receives spans and keeps them.
    Embedded(EmbeddedSettings),
    /// Somebody else's.
    Remote(RemoteSettings),
}

impl BackendSettings {
    /// Its word in `servers.toml`.
    pub fn kind(&self) -> BackendKind {
        match self {
            Self::Embedded(_) => BackendKind::Embedded,
            Self::Remote(remote) => remote.kind,
        }
    }
}

/// A backend that is asked over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// Which.
    pub kind: BackendKind,
    /// Base URL of its API; none for those that cannot be asked.
    pub url: Option<Url>,
    /// Credentials and tenants, sent with every query. All are treated as secret.
    pub headers: HeaderMap,
    /// What else it needs to know (`dataset`, `account`, `project`, ...); none of it is a secret.
    pub options: BTreeMap<&'static str, String>,
}

impl RemoteSettings {
    /// An option, where the user has set it.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

/// The embedded backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// The file of its spans.
    pub path: PathBuf,
    /// Where OTLP over HTTP, and the questions of others, are answered; nowhere when `off`.
    pub otlp_http: Option<SocketAddr>,
    /// Where OTLP over gRPC is answered.
    pub otlp_grpc: Option<SocketAddr>,
    /// What a client has to know.
    pub token: Option<Secret>,
    /// Spans that ended earlier are removed.
    pub keep: Duration,
    /// Bytes of the file; the oldest spans go first.
    pub max_size: u64,
    /// Arguments, inputs and outputs are kept too.
    pub keep_content: bool,
    /// Where everything accepted is passed on to.
    pub forward: Option<Forward>,
}

/// Another OTLP backend, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Base URL; spans go to `v1/traces` below it.
    pub url: Url,
    /// Sent with every request. All are treated as secret.
    pub headers: HeaderMap,
}

/// `backend = "..."`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names of products")]
pub enum BackendKind {
    Embedded,
    Jaeger,
    Tempo,
    Zipkin,
    Heimdall,
    Honeycomb,
    Datadog,
    NewRelic,
    Axiom,
    SigNoz,
    ClickHouse,
    Elastic,
    OpenSearch,
    Phoenix,
    Highflame,
    Lightstep,
}

impl BackendKind {
    /// Each with its word in `servers.toml`.
    pub const NAMES: [(&str, Self); 16] = [
        ("embedded", Self::Embedded),
        ("jaeger", Self::Jaeger),
        ("tempo", Self::Tempo),
        ("zipkin", Self::Zipkin),
        ("heimdall", Self::Heimdall),
        ("honeycomb", Self::Honeycomb),
        ("datadog", Self::Datadog),
        ("newrelic", Self::NewRelic),
        ("axiom", Self::Axiom),
        ("signoz", Self::SigNoz),
        ("clickhouse", Self::ClickHouse),
        ("elastic", Self::Elastic),
        ("opensearch", Self::OpenSearch),
        ("phoenix", Self::Phoenix),
        ("highflame", Self::Highflame),
        ("lightstep", Self::Lightstep),
    ];

    /// Why no program can ask it for spans, where that is so: a link for a person is all that there is.
    pub fn cannot_be_asked(self) -> Option<&'static str> {
        match self {
            Self::Highflame => Some(
                "Highflame Observatory has no documented API for queries: only a person can look at the trace there",
            ),
            Self::Lightstep => Some(
                "Lightstep (ServiceNow Cloud Observability) was discontinued: its support ended on 1 March 2026, or with the contract where that is later",
            ),
            _ => None,
        }
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        named.map_or("", |(name, _)| name)
    }
}
