//! From a file to targets: what was typed (`raw`), then what it means (`checked`).
//!
//! All complaints come at once, each with its line. Nothing here probes or connects.

mod alerting;
mod backend;
mod canary;
mod channel;
mod checked;
mod client_tls;
mod complaint;
mod control;
mod cron;
mod endpoint;
mod environment;
mod expect;
mod header;
mod heartbeat;
mod keys;
mod maintenance;
mod mask;
mod network;
mod parent;
mod profile;
mod raw;
mod route;
mod server;
mod store;
mod substitute;
mod telemetry;
mod timing;
mod traces;
mod tracestate;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use environment::ProxyOfEnvironment;

use crate::model::{
    Alerting, CommandLine, Endpoint, Profile, ReceiverSettings, Redirects, Retention, Secret,
    Target, Timing, TraceContext, TracesSettings,
};

pub use complaint::{Complaint, Complaints, Source};
pub use keys::nearest;
pub use profile::{load as load_profile, names as profile_names};
pub use server::TIMEOUTS;

/// Marks a probe's requests for samplers and collectors.
pub const DEFAULT_TRACESTATE: &str = "alivemcp=probe,vendor=otlp";

/// The store of a file that names none.
const DEFAULT_STORE: &str = "mcpprobe.db";

/// Bytes of a configuration file: ten thousand targets fit in; more is not a configuration.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Probes at once, to one host or to all. 4,096: more than 10,000 hanging targets a minute need, and a socket or three
/// pipes each.
pub const CONCURRENCY: RangeInclusive<usize> = 1..=4_096;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every `[[server]]`, in the order of the file.
    pub targets: Vec<Target>,
    /// `[schedule]`.
    pub schedule: ScheduleSettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[telemetry]`.
    pub telemetry: TelemetrySettings,
    /// `[traces]`, or every one of `[[traces]]`; the first is asked about targets that name none.
    pub traces: Vec<TracesSettings>,
    /// `[alerting]`, `[[route]]`, `[[maintenance]]`, `[self]` and `[heartbeat]`.
    pub alerting: Alerting,
}

/// `[schedule]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// Probes at once.
    pub concurrency: Option<usize>,
    /// Probes at once to one host.
    pub per_host: Option<usize>,
}

/// `[store]`.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The SQLite file; relative paths are relative to the configuration file.
    pub path: PathBuf,
    /// How long what is kept.
    pub keep: Retention,
}

/// `[telemetry]`.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// Where our own spans go.
    pub receiver: ReceiverSettings,
    /// Value of `tracestate`.
    pub tracestate: String,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            receiver: ReceiverSettings::default(),
            tracestate: DEFAULT_TRACESTATE.to_owned(),
        }
    }
}

/// A configuration, and what is doubtful about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its warnings; `errors` is empty.
    pub doubts: Complaints,
}

/// Reads and judges a file. `profile`, where there is one, stands in the place of every profile that the file names.
///
/// # Errors
/// All complaints, when there is any error among them.
pub fn load(path: &Path, profile: Option<&Profile>) -> Result<Loaded, Complaints> {
    let text = read_file(path, MAX_FILE);
    match text {
        Ok(text) => {
            // A bare file name has an empty parent, which names no folder.
            let folder = std::path::absolute(path)
                .ok()
                .and_then(|path| Some(path.parent()?.to_owned()))
                .unwrap_or_else(|| PathBuf::from("."));
            let env = |name: &str| std::env::var(name).ok();
            let sources = substitute::Sources {
                env: &env,
                folder: &folder,
                now: SystemTime::now(),
            };
            judge(&text, &path.display().to_string(), &sources, profile)
        }
        Err(why) => Err(Complaints {
            path: path.display().to_string(),
            source: String::new(),
            errors: vec![Complaint {
                title: format!("cannot read {}: {why}", path.display()),
                span: None,
                label: String::new(),
                help: None,
                file: None,
            }],
            warnings: Vec::new(),
        }),
    }
}

fn read_file(path: &Path, largest: u64) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // The length is counted while reading: what metadata say of a device or a pipe means nothing.
    std::fs::File::open(path)
        .and_then(|file| file.take(largest + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > largest {
        return Err(format!("it is larger than {largest} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("it is not UTF-8: line {line}")
    })
}

/// The store that a file names, also when nothing else of it can be used: for a look at what a `watch` goes on with.
pub fn store_of(path: &Path) -> PathBuf {
    let text = read_file(path, MAX_FILE).unwrap_or_default();
    let (root, _) = toml::de::DeTable::parse_recoverable(&text);
    let named = root
        .get_ref()
        .get("store")
        .and_then(|store| store.get_ref().as_table()?.get("path")?.get_ref().as_str());
    let folder = path.parent().unwrap_or(Path::new(""));
    let sources = substitute::Sources {
        env: &|name| std::env::var(name).ok(),
        folder,
        now: SystemTime::now(),
    };
    let named = named.and_then(|named| substitute::substitute(named, &sources).ok());
    folder.join(named.map_or_else(|| DEFAULT_STORE.to_owned(), |named| named.value))
}

/// Judges the text of a file, as of `now`. Pure but for the files that it names (`${file:PATH}`, `profile`, PEM).
///
/// # Errors
/// All complaints, when there is any error among them.
pub fn parse(
    text: &str,
    path: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<Loaded, Complaints> {
    judge(text, path, &substitute::Sources { env, folder, now }, None)
}

/// What a syntax error means to a person.
fn syntax_complaints(errors: &[toml::de::Error]) -> Vec<Complaint> {
    let complaint = |error: &toml::de::Error| Complaint {
        title: match error.span() {
            Some(_) => "this is not TOML".to_owned(),
            None => format!("this is not TOML: {}", error.message()),
        },
        span: error.span(),
        label: error.message().to_owned(),
        help: None,
        file: None,
    };
    errors.iter().map(complaint).collect()
}

fn judge(
    text: &str,
    path: &str,
    sources: &substitute::Sources<'_>,
    profile: Option<&Profile>,
) -> Result<Loaded, Complaints> {
    let (root, syntax) = toml::de::DeTable::parse_recoverable(text);
    let mut findings = checked::Findings {
        errors: syntax_complaints(&syntax),
        warnings: Vec::new(),
    };
    let mut complaints = Complaints {
        path: path.to_owned(),
        source: mask::masked(text),
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    // After a syntax error the rest of the file may mean something else than was typed.
    if !findings.errors.is_empty() {
        complaints.errors = findings.errors;
        return Err(complaints);
    }
    let raw = raw::read(root.get_ref(), &mut findings.errors);
    let config = checked::check(raw, sources, profile, &mut findings);
    complaints.errors = findings.errors;
    complaints.warnings = findings.warnings;
    // Those of this file first, then those of the profiles that it names.
    complaints.errors.sort_by_cached_key(|complaint| {
        let file = complaint.file.as_ref().map(|file| file.path.clone());
        (file, complaint.span.as_ref().map_or(0, |span| span.start))
    });
    if complaints.errors.is_empty() {
        Ok(Loaded {
            config,
            doubts: complaints,
        })
    } else {
        Err(complaints)
    }
}

/// A target that was named on the command line, with every setting at its default.
#[derive(Clone, Debug)]
pub enum AdHoc {
    /// A URL, also of a Unix-domain socket.
    Url(String),
    /// A stdio server's command; not empty.
    Command(Vec<String>),
}

impl AdHoc {
    /// A sentence for each variable of a proxy that was meant for it and cannot be used.
    pub fn doubts(&self, env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        let address = match self {
            // Nothing is in the way to a socket of this machine.
            Self::Url(url) => endpoint::parse_address(url)
                .ok()
                .filter(|address| address.socket.is_none()),
            Self::Command(_) => None,
        };
        let endpoint = address.map(|address| {
            endpoint::http_endpoint(address, String::new(), Vec::new(), &mut Vec::new())
        });
        endpoint
            .map(|endpoint| ProxyOfEnvironment::of(env, &endpoint.url, &mut Vec::new()).doubts)
            .unwrap_or_default()
    }

    /// The target. Without a profile it is the default one; a proxy is what the environment says, looked up by `env`.
    ///
    /// # Errors
    /// A sentence when the URL cannot be used or the command is empty.
    pub fn target(
        self,
        profile: Option<&Profile>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Target, String> {
        let mut secrets = Vec::new();
        let endpoint = match self {
            Self::Url(url) => {
                let shown = endpoint::shown_url(&url);
                let address = endpoint::parse_address(&url)
                    .map_err(|problem| format!("this is no usable URL: {shown}: {problem}"))?;
                let mut endpoint =
                    endpoint::http_endpoint(address, shown, Vec::new(), &mut secrets);
                let found = ProxyOfEnvironment::of(env, &endpoint.url, &mut secrets);
                endpoint.network.proxy = found.proxy;
                Endpoint::Http(Box::new(endpoint))
            }
            Self::Command(words) => {
                let shown = words.join(" ");
                let mut words = words.into_iter();
                Endpoint::Stdio(CommandLine {
                    program: words
                        .next()
                        .filter(|program| !program.is_empty())
                        .ok_or("the command names no program")?,
                    args: words.collect(),
                    shown,
                    env: Default::default(),
                    cwd: None,
                })
            }
        };
        let profile = profile
            .cloned()
            .or_else(|| profile::named(profile::DEFAULT))
            .ok_or("the default profile is missing")?;
        Ok(Target {
            name: endpoint.shown().to_owned(),
            endpoint,
            start: None,
            timing: Timing::Every(timing::DEFAULT_EVERY),
            timeout: server::DEFAULT_TIMEOUT,
            era: profile.era.unwrap_or_default(),
            expect: profile.expect.clone(),
            profile,
            redirects: Redirects::default(),
            trace_context: TraceContext::default(),
            tracestate: DEFAULT_TRACESTATE.to_owned(),
            tags: Vec::new(),
            parent: None,
            service: None,
            canary: None,
            traces: None,
            secrets: secrets.iter().flat_map(Secret::forms).collect(),
        })
    }
}
