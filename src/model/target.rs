//! What is to be probed, and how: the configuration as it is meant.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::{Cron, Profile};

/// A string that never shows itself: `Debug` prints a mask, there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One MCP server to probe (`[[server]]`).
#[derive(Clone, Debug)]
pub struct Target {
    /// Unique name.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Started for the length of the run (`start`).
    pub start: Option<CommandLine>,
    /// When it is probed on schedule.
    pub timing: Timing,
    /// The whole probe.
    pub timeout: Duration,
    /// How deep.
    pub profile: Profile,
    /// Which era to speak.
    pub era: EraMode,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// Where the trace context is put.
    pub trace_context: TraceContext,
    /// Value of `tracestate`; empty sends none.
    pub tracestate: String,
    /// Groups that `--only` can choose by.
    pub tags: Vec<String>,
    /// The service's name in traces; learnt when absent.
    pub service: Option<ServiceName>,
    /// Values that must never be shown, even when the server repeats them.
    pub secrets: Vec<Secret>,
}

/// When a target is probed on schedule.
#[derive(Clone, Debug)]
pub enum Timing {
    /// `every`: the time between the starts of two probes, at least 1 s, however the wall clock is set.
    Every(Duration),
    /// `cron`: at these times of the wall clock.
    Cron(Arc<Cron>),
}

/// Where a target is.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// Streamable HTTP.
    Http(HttpEndpoint),
    /// stdio.
    Stdio(CommandLine),
}

impl Endpoint {
    /// `transport` of the JSON contract.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Http(_) => "streamable_http",
            Self::Stdio(_) => "stdio",
        }
    }

    /// The host of its URL, in lower case and without a port; a program has none.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Http(http) => http.url.host_str(),
            Self::Stdio(_) => None,
        }
    }

    /// The endpoint as it may be shown: secrets appear as they were typed (`${VAR}`) or as `***`.
    pub fn shown(&self) -> &str {
        match self {
            Self::Http(http) => &http.shown,
            Self::Stdio(command) => &command.shown,
        }
    }
}

/// A URL and what is sent to it.
#[derive(Clone)]
pub struct HttpEndpoint {
    /// `http` or `https`.
    pub url: Url,
    /// The URL as it may be shown.
    pub shown: String,
    /// The user's headers. All are treated as secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// A program to start.
#[derive(Clone)]
pub struct CommandLine {
    /// Program, found by `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The command as it may be shown.
    pub shown: String,
    /// Set on top of the minimal environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs; our own working directory when absent.
    pub cwd: Option<PathBuf>,
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandLine")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// `era`: which era to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EraMode {
    /// Find it.
    #[default]
    Auto,
    /// `initialize` only.
    Legacy,
    /// `server/discover` only.
    Modern,
}

/// `redirects`: which redirects are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// Within the same scheme, host and port.
    #[default]
    SameOrigin,
    /// Anywhere but from https to http; without credentials.
    Any,
    /// None.
    Off,
}

/// `trace_context`: where the trace context is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceContext {
    /// HTTP headers and `params._meta`.
    #[default]
    Both,
    /// HTTP headers only.
    Headers,
    /// `params._meta` only.
    Meta,
    /// Nowhere, for servers that refuse what they do not know.
    Off,
}

impl TraceContext {
    /// Whether HTTP headers carry it.
    pub fn in_headers(self) -> bool {
        matches!(self, Self::Both | Self::Headers)
    }

    /// Whether `params._meta` carries it.
    pub fn in_meta(self) -> bool {
        matches!(self, Self::Both | Self::Meta)
    }
}

/// `service`: how the target's spans are told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// `service.name`.
    pub name: String,
    /// Further resource attributes that have to be equal.
    pub attributes: BTreeMap<String, String>,
}

/// `[traces]`: the backend that is asked about an incident.
#[derive(Clone, Debug)]
pub struct TracesSettings {
    /// Base URL of Jaeger's query service.
    pub url: Url,
    /// How far before the first failed probe to look.
    pub window: Duration,
    /// When to ask, after the first failure; ascending, not empty.
    pub recheck: Vec<Duration>,
}
