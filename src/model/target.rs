//! What is to be probed, and how: the configuration as it is meant.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use url::{Host, Url};

use serde::Serialize;

use super::{Cron, Expect, Profile, ToolCall};

/// A string that never shows itself: `Debug` prints a mask, there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The forms in which a server may repeat it: as it is, line by line, within JSON, and in a URL.
    pub fn forms(&self) -> Vec<Self> {
        let plain = self.0.as_str();
        let lines = plain.lines().map(str::trim).filter(|line| *line != plain);
        let mut forms: Vec<String> = std::iter::once(plain)
            .chain(lines)
            .map(str::to_owned)
            .collect();
        for form in forms.clone() {
            let json = serde_json::Value::from(form.as_str()).to_string();
            let json = json
                .strip_prefix('"')
                .and_then(|json| json.strip_suffix('"'))
                .unwrap_or(&json);
            let ascii: String = json
                .chars()
                .map(|c| match c {
                    c if c.is_ascii() => c.to_string(),
                    c => c
                        .encode_utf16(&mut [0; 2])
                        .iter()
                        .map(|unit| format!("\\u{unit:04x}"))
                        .collect(),
                })
                .collect();
            let in_url = percent_encode(form.as_bytes(), NON_ALPHANUMERIC).to_string();
            let from_url = percent_decode_str(&form).decode_utf8_lossy().into_owned();
            forms.extend([
                json.replace('/', "\\/"),
                ascii.replace('/', "\\/"),
                ascii,
                json.to_owned(),
                in_url,
                from_url,
            ]);
        }
        forms.sort_unstable();
        forms.dedup();
        // The longest first: a part of it must not be starred out before the whole.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.into_iter().map(Self).collect()
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
    /// What is expected of it: its own, its profile's and the defaults' expectations in one.
    pub expect: Expect,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// Where the trace context is put.
    pub trace_context: TraceContext,
    /// Value of `tracestate`; empty sends none.
    pub tracestate: String,
    /// Groups that `--only` can choose by.
    pub tags: Vec<String>,
    /// Name of the target whose outage explains this one's: while it is down no notice of this one opens.
    pub parent: Option<String>,
    /// The service's name in traces; learnt when absent.
    pub service: Option<ServiceName>,
    /// A tool that is called after every layer has passed, so that a server that traces nothing else leaves a span.
    pub canary: Option<ToolCall>,
    /// The name of the trace backend that has its spans; the first one when absent.
    pub traces: Option<String>,
    /// Values that must never be shown, even when the server repeats them.
    pub secrets: Vec<Secret>,
}

impl Target {
    /// Whether there is a network on the way: a loopback address, a Unix socket or a process is on this machine.
    pub fn is_remote(&self) -> bool {
        match &self.endpoint {
            Endpoint::Http(http) => http.socket.is_none() && !is_local(&http.url),
            Endpoint::Stdio(_) => false,
        }
    }

    /// The host that our own network has to let us reach; `None` on this machine, or behind a proxy.
    pub fn remote_host(&self) -> Option<&str> {
        match &self.endpoint {
            Endpoint::Http(http) if self.is_remote() && http.network.proxy.is_none() => {
                http.url.host_str()
            }
            Endpoint::Http(_) | Endpoint::Stdio(_) => None,
        }
    }

    /// Whether its requests go to a proxy in full, which may then answer for itself: to `https` there is a tunnel.
    pub fn is_by_plain_proxy(&self) -> bool {
        match &self.endpoint {
            Endpoint::Http(http) => http.url.scheme() == "http" && http.network.proxy.is_some(),
            Endpoint::Stdio(_) => false,
        }
    }
}

/// Whether a URL is of this machine.
pub fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
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
    /// Streamable HTTP, or HTTP+SSE: which of them is found by asking.
    Http(Box<HttpEndpoint>),
    /// stdio.
    Stdio(CommandLine),
}

impl Endpoint {
    /// The transport, as far as the configuration tells.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Http(_) => Transport::StreamableHttp,
            Self::Stdio(_) => Transport::Stdio,
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

/// How messages get to a server. The words are those of the JSON contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Streamable HTTP.
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05.
    HttpSse,
    /// stdio.
    Stdio,
}

/// A URL and what is sent to it.
#[derive(Clone)]
pub struct HttpEndpoint {
    /// `http` or `https`.
    pub url: Url,
    /// A Unix-domain socket in place of the URL's host.
    pub socket: Option<PathBuf>,
    /// The URL as it may be shown.
    pub shown: String,
    /// The user's headers. All are treated as secret.
    pub headers: Vec<Header>,
    /// The way to its host.
    pub network: Network,
    /// What `https` demands and shows.
    pub tls: TlsSettings,
}

/// A header of the user's.
#[derive(Clone)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// What is sent.
    pub value: HeaderValue,
    /// What may be shown: `${VAR}` as it was typed, or `***`.
    pub shown: String,
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// The way to a host.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Asked for a tunnel to `https`, and to pass on what goes to `http`.
    pub proxy: Option<Proxy>,
    /// The name server that is asked in place of the system's own resolution.
    pub resolver: Option<SocketAddr>,
    /// The only address family that is used.
    pub family: Option<IpFamily>,
    /// The address that connections come from.
    pub source_address: Option<IpAddr>,
}

/// `ip`: an address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `http` or `https`, without user and password.
    pub url: Url,
    /// `Proxy-Authorization`.
    pub authorization: Option<HeaderValue>,
}

/// How a server's certificate is judged, and which one we show.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// `ca_file`: trusted in place of the platform's roots.
    pub roots: Option<Arc<RootCertStore>>,
    /// `cert_file` and `key_file`.
    pub identity: Option<Arc<CertifiedKey>>,
    /// Asked for, and looked for in the certificate, in place of the URL's host.
    pub server_name: Option<String>,
    /// Any certificate will do.
    pub insecure_skip_verify: bool,
    /// What was read, for people.
    pub files: TlsFileNames,
}

/// The files of [`TlsSettings`]: whole paths, or as they were typed where a variable is in them.
#[derive(Clone, Debug, Default)]
pub struct TlsFileNames {
    /// `ca_file`.
    pub ca_file: Option<String>,
    /// `cert_file`.
    pub cert_file: Option<String>,
    /// `key_file`.
    pub key_file: Option<String>,
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

impl CommandLine {
    /// Whether `other` starts the same, but for what is shown of it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.program == other.program
            && self.args == other.args
            && self.env == other.env
            && self.cwd == other.cwd
    }
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
    /// Both, one after the other: old and new clients have to be served.
    Both,
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
