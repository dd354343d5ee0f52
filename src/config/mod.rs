//! From a file to targets: what was typed (`raw`), then what it means (`checked`).
//!
//! All complaints come at once, each with its line. Nothing here probes or connects.

mod checked;
mod complaint;
mod endpoint;
mod header;
mod keys;
mod mask;
mod profile;
mod raw;
mod server;
mod substitute;
mod telemetry;
mod traces;
mod tracestate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::model::{
    CommandLine, Endpoint, EraMode, Profile, ReceiverSettings, Redirects, Target, TraceContext,
    TracesSettings,
};

pub use complaint::{Complaint, Complaints};
pub use profile::{named as named_profile, names as profile_names};
pub use server::TIMEOUTS;

/// Marks a probe's requests for samplers and collectors.
pub const DEFAULT_TRACESTATE: &str = "alivemcp=probe,vendor=otlp";

/// Bytes of a configuration file: ten thousand targets fit in; more is not a configuration.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every `[[server]]`, in the order of the file.
    pub targets: Vec<Target>,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[telemetry]`.
    pub telemetry: TelemetrySettings,
    /// `[traces]`.
    pub traces: Option<TracesSettings>,
}

/// `[store]`.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The SQLite file; relative paths are relative to the configuration file.
    pub path: PathBuf,
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

/// Reads and judges a file.
///
/// # Errors
/// All complaints, when there is any error among them.
pub fn load(path: &Path) -> Result<Loaded, Complaints> {
    let text = read_file(path);
    match text {
        Ok(text) => {
            // A bare file name has an empty parent, which names no folder.
            let folder = std::path::absolute(path)
                .ok()
                .and_then(|path| Some(path.parent()?.to_owned()))
                .unwrap_or_else(|| PathBuf::from("."));
            parse(&text, &path.display().to_string(), &folder, &|name| {
                std::env::var(name).ok()
            })
        }
        Err(why) => Err(Complaints {
            path: path.display().to_string(),
            source: String::new(),
            errors: vec![Complaint {
                title: format!("cannot read {}: {why}", path.display()),
                span: None,
                label: String::new(),
                help: None,
            }],
            warnings: Vec::new(),
        }),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // The length is counted while reading: what metadata say of a device or a pipe means nothing.
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("it is not UTF-8: line {line}")
    })
}

/// Judges the text of a file. Pure but for the files that it names (`${file:PATH}`, PEM).
///
/// # Errors
/// All complaints, when there is any error among them.
pub fn parse(
    text: &str,
    path: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Complaints> {
    let (root, syntax) = toml::de::DeTable::parse_recoverable(text);
    let mut findings = checked::Findings::default();
    for error in &syntax {
        let title = match error.span() {
            Some(_) => "this is not TOML".to_owned(),
            None => format!("this is not TOML: {}", error.message()),
        };
        findings.errors.push(Complaint {
            title,
            span: error.span(),
            label: error.message().to_owned(),
            help: None,
        });
    }
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
    let sources = substitute::Sources { env, folder };
    let config = checked::check(raw, &sources, &mut findings);
    complaints.errors = findings.errors;
    complaints.warnings = findings.warnings;
    complaints
        .errors
        .sort_by_key(|complaint| complaint.span.as_ref().map_or(0, |span| span.start));
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
    /// A URL.
    Url(Url),
    /// A stdio server's command; not empty.
    Command(Vec<String>),
}

impl AdHoc {
    /// The target; `None` for an empty command.
    pub fn target(self) -> Option<Target> {
        let mut secrets = Vec::new();
        let endpoint = match self {
            Self::Url(url) => {
                let shown = endpoint::shown_url(url.as_str());
                Endpoint::Http(endpoint::http_endpoint(
                    url,
                    shown,
                    Vec::new(),
                    &mut secrets,
                ))
            }
            Self::Command(words) => {
                let shown = words.join(" ");
                let mut words = words.into_iter();
                Endpoint::Stdio(CommandLine {
                    program: words.next().filter(|program| !program.is_empty())?,
                    args: words.collect(),
                    shown,
                    env: Default::default(),
                    cwd: None,
                })
            }
        };
        let profile: Profile = named_profile("handshake")?;
        Some(Target {
            name: endpoint.shown().to_owned(),
            endpoint,
            start: None,
            every: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            profile,
            era: EraMode::default(),
            redirects: Redirects::default(),
            trace_context: TraceContext::default(),
            tracestate: DEFAULT_TRACESTATE.to_owned(),
            tags: Vec::new(),
            service: None,
            secrets,
        })
    }
}
