//! A `[[server]]`, judged.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::{check_address, http_endpoint, shown_url};
use super::header::check_header;
use super::keys::Typed;
use super::network::{KnownFiles, NetworkChecker, family_of};
use super::profile::{self, Profiles};
use super::raw::RawServer;
use super::substitute::Sources;
use super::timing;
use crate::model::{
    CommandLine, Endpoint, Header, HttpEndpoint, Profile, Secret, ServiceName, Target, Timing,
};

pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a whole probe: less is shorter than a round trip over a continent and a handshake, more says nothing that an
/// agent would wait for.
pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
/// Names stand in tables and file paths of the user's.
const MAX_NAME: usize = 100;

/// Judges one server after the other.
pub(super) struct ServerChecker<'a> {
    defaults: &'a RawServer,
    tracestate: &'a str,
    sources: &'a Sources<'a>,
    /// Stands in the place of every profile of the file.
    forced: Option<&'a Profile>,
    profiles: Profiles,
    out: &'a mut Findings,
    names: BTreeMap<String, Range<usize>>,
    /// Of a server that says nothing else.
    timing: Timing,
    files: KnownFiles,
}

impl<'a> ServerChecker<'a> {
    pub(super) fn new(
        defaults: &'a RawServer,
        tracestate: &'a str,
        sources: &'a Sources<'a>,
        forced: Option<&'a Profile>,
        out: &'a mut Findings,
    ) -> Self {
        Self {
            defaults,
            tracestate,
            sources,
            forced,
            profiles: Profiles::default(),
            out,
            names: BTreeMap::new(),
            timing: Timing::Every(timing::DEFAULT_EVERY),
            files: KnownFiles::default(),
        }
    }

    /// Complains about `[defaults]` once, not once per server.
    pub(super) fn check_defaults(&mut self) {
        self.timing = timing::of_defaults(self.defaults, self.sources, self.out);
        self.timeout(self.defaults);
        self.profile_of(self.defaults);
        for header in &self.defaults.headers {
            check_header(header, &mut Vec::new(), self.sources, self.out);
        }
    }

    pub(super) fn check(&mut self, raw: &RawServer) -> Option<Target> {
        let mut secrets = Vec::new();
        let name = self.name(raw);
        let timing = timing::of_server(raw, self.defaults, &self.timing, self.sources, self.out);
        let timeout = self.timeout(raw);
        let profile = self.profile(raw);
        let headers = self.headers(raw, &mut secrets);
        let cwd = raw
            .cwd
            .as_ref()
            .and_then(|cwd| self.out.substitute(cwd, self.sources))
            .map_or_else(
                || self.sources.folder.to_owned(),
                |cwd| self.sources.folder.join(cwd.value),
            );
        let env = self.env(raw, &mut secrets);
        let start = raw
            .start
            .as_ref()
            .and_then(|start| self.command(start, "start", &env, &cwd, &mut secrets));
        let endpoint = self.endpoint(raw, headers, &env, &cwd, &mut secrets);
        self.useless_keys(raw);
        if let Some(endpoint) = &endpoint {
            raw.expect.check_endpoint(endpoint, self.out);
        }
        let service = self.service(raw);
        let canary = raw.canary.as_ref();
        let canary = canary.and_then(|canary| canary.check(profile.as_ref(), self.out));
        let defaults = self.defaults;
        let profile = profile?;
        Some(Target {
            name: name?,
            endpoint: endpoint?,
            start,
            timing,
            timeout: timeout
                .or(defaults.timeout.as_ref().map(|t| t.value))
                .unwrap_or(DEFAULT_TIMEOUT),
            era: raw.era.or(profile.era).or(defaults.era).unwrap_or_default(),
            expect: raw
                .expect
                .expect
                .or(&profile.expect)
                .or(&defaults.expect.expect),
            profile,
            redirects: raw.redirects.or(defaults.redirects).unwrap_or_default(),
            trace_context: raw
                .trace_context
                .or(defaults.trace_context)
                .unwrap_or_default(),
            tracestate: self.tracestate.to_owned(),
            tags: raw
                .tags
                .as_ref()
                .or(defaults.tags.as_ref())
                .map(|tags| tags.value.iter().map(|tag| tag.value.clone()).collect())
                .unwrap_or_default(),
            parent: raw.parent.as_ref().map(|parent| parent.value.clone()),
            service,
            canary,
            traces: raw.traces.as_ref().map(|name| name.value.clone()),
            secrets: secrets.iter().flat_map(Secret::forms).collect(),
        })
    }

    fn endpoint(
        &mut self,
        raw: &RawServer,
        headers: Vec<Header>,
        env: &BTreeMap<String, String>,
        cwd: &Path,
        secrets: &mut Vec<Secret>,
    ) -> Option<Endpoint> {
        match (&raw.url, &raw.command) {
            (Some(url), None) => self
                .http(raw, url, headers, secrets)
                .map(|http| Endpoint::Http(Box::new(http))),
            (None, Some(command)) => {
                if let Some(start) = &raw.start {
                    self.out.error(Complaint::at(
                        start.span.clone(),
                        "`start` is for servers with a `url`",
                        "`command` is started by itself for each probe",
                    ));
                }
                self.command(command, "command", env, cwd, secrets)
                    .map(Endpoint::Stdio)
            }
            (Some(url), Some(_)) => {
                self.out.error(Complaint::at(
                    url.span.clone(),
                    "a server has a `url` or a `command`, not both",
                    "remove one of them",
                ));
                None
            }
            (None, None) if raw.given.iter().any(|key| ["url", "command"].contains(key)) => None,
            (None, None) => {
                self.out.error(
                    Complaint::at(raw.span.clone(), "a server without `url` or `command`", "add one")
                        .help("url = \"https://weather.example/mcp\" or command = [\"npx\", \"-y\", \"...\"]"),
                );
                None
            }
        }
    }

    /// A key that could not do anything was meant for something else.
    fn useless_keys(&mut self, raw: &RawServer) {
        let starts_nothing = raw.command.is_none() && raw.start.is_none();
        let cwd = raw.cwd.iter().map(|cwd| cwd.span.clone());
        let env = raw.env.iter().map(|(name, _)| name.span.clone());
        let for_programs = cwd.chain(env).filter(|_| starts_nothing);
        let headers = raw.headers.iter().map(|(name, _)| name.span.clone());
        let for_urls = headers
            .chain(raw.network.spans())
            .filter(|_| raw.command.is_some());
        for (span, why) in for_programs
            .map(|span| (span, "only for a `command` or `start`"))
            .chain(for_urls.map(|span| (span, "only for a `url`")))
        {
            self.out
                .error(Complaint::at(span, "this has no effect here", why));
        }
    }

    fn name(&mut self, raw: &RawServer) -> Option<String> {
        let Some(name) = &raw.name else {
            // A name of the wrong type has been complained about.
            if raw.given.contains(&"name") {
                return None;
            }
            self.out.error(Complaint::at(
                raw.span.clone(),
                "a server without `name`",
                "add a name of your own",
            ));
            return None;
        };
        let problem = if name.value.trim().is_empty() {
            Some("is empty".to_owned())
        } else if name.value.chars().count() > MAX_NAME {
            Some(format!("is longer than {MAX_NAME} characters"))
        } else if name.value.chars().any(|c| c.is_control() || c == ',') {
            Some("a name has no commas and no control characters".to_owned())
        } else if self.names.contains_key(&name.value) {
            Some("another server has this name".to_owned())
        } else {
            None
        };
        match problem {
            Some(problem) => {
                self.out.error(Complaint::at(
                    name.span.clone(),
                    "`name` cannot be used",
                    problem,
                ));
                None
            }
            None => {
                self.names.insert(name.value.clone(), name.span.clone());
                Some(name.value.clone())
            }
        }
    }

    fn timeout(&mut self, raw: &RawServer) -> Option<Duration> {
        self.out
            .duration_in(raw.timeout.as_ref()?, "timeout", TIMEOUTS)
    }

    /// The profile that a server is probed with; the one that it names itself has to be there in any case.
    fn profile(&mut self, raw: &RawServer) -> Option<Profile> {
        let own = self.profile_of(raw);
        let profile = match (self.forced, &raw.profile, &self.defaults.profile) {
            (Some(forced), ..) => Some(forced.clone()),
            (None, Some(_), _) => own,
            // What is wrong with that of [defaults] has been said once.
            (None, None, Some(typed)) => {
                let folder = self.sources.folder;
                self.profiles.get(typed, folder, &mut Vec::new())
            }
            (None, None, None) => profile::named(profile::DEFAULT),
        }?;
        // With another profile than its own a server may end earlier than it was meant to.
        if self.forced.is_none() {
            raw.expect.check_depth(profile.depth, &mut self.out.errors);
        }
        Some(profile)
    }

    /// The profile that a table names.
    fn profile_of(&mut self, raw: &RawServer) -> Option<Profile> {
        let typed = raw.profile.as_ref()?;
        let folder = self.sources.folder;
        self.profiles.get(typed, folder, &mut self.out.errors)
    }

    fn headers(&mut self, raw: &RawServer, secrets: &mut Vec<Secret>) -> Vec<Header> {
        let own: Vec<_> = raw.headers.iter().map(|(name, _)| &name.value).collect();
        let inherited = self
            .defaults
            .headers
            .iter()
            .filter(|(name, _)| !own.iter().any(|own| own.eq_ignore_ascii_case(&name.value)));
        let mut headers: Vec<_> = raw
            .headers
            .iter()
            .filter_map(|header| check_header(header, secrets, self.sources, self.out))
            .collect();
        // What is wrong with those of [defaults] has been said once.
        let said = self.out.errors.len();
        headers.extend(
            inherited.filter_map(|header| check_header(header, secrets, self.sources, self.out)),
        );
        self.out.errors.truncate(said);
        headers
    }

    fn env(&mut self, raw: &RawServer, secrets: &mut Vec<Secret>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for (name, value) in &raw.env {
            if let Some(text) = self.out.substitute(value, self.sources) {
                secrets.extend(text.secrets);
                // Keys of services are often typed in clear; words such as `debug` are shorter.
                if text.value.len() >= SHORTEST_CLEAR_SECRET {
                    secrets.push(Secret::new(text.value.clone()));
                }
                if name.value.is_empty() || name.value.contains(['=', '\0']) {
                    self.out.error(Complaint::at(
                        name.span.clone(),
                        "a name in `env` cannot be used",
                        "it is empty, or holds `=` or a NUL",
                    ));
                }
                self.no_nul("env", &text.value, value);
                env.insert(name.value.clone(), text.value);
            }
        }
        env
    }

    /// No program can be given a NUL.
    fn no_nul(&mut self, key: &str, value: &str, typed: &Typed<String>) {
        if value.contains('\0') {
            self.out.error(Complaint::at(
                typed.span.clone(),
                format!("`{key}` cannot be given to a program"),
                "it holds a NUL",
            ));
        }
    }

    fn command(
        &mut self,
        words: &Typed<Vec<Typed<String>>>,
        key: &str,
        env: &BTreeMap<String, String>,
        cwd: &Path,
        secrets: &mut Vec<Secret>,
    ) -> Option<CommandLine> {
        let mut shown = Vec::new();
        let mut values = Vec::new();
        for word in &words.value {
            let text = self.out.substitute(word, self.sources)?;
            self.no_nul(key, &text.value, word);
            shown.push(text.shown);
            values.push(text.value);
            secrets.extend(text.secrets);
        }
        let mut values = values.into_iter();
        let Some(program) = values.next().filter(|program| !program.is_empty()) else {
            self.out.error(Complaint::at(
                words.span.clone(),
                format!("`{key}` names no program"),
                "write [\"program\", \"argument\", ...]",
            ));
            return None;
        };
        Some(CommandLine {
            program,
            args: values.collect(),
            shown: shown.join(" "),
            env: env.clone(),
            cwd: Some(cwd.to_owned()),
        })
    }

    fn http(
        &mut self,
        raw: &RawServer,
        typed: &Typed<String>,
        headers: Vec<Header>,
        secrets: &mut Vec<Secret>,
    ) -> Option<HttpEndpoint> {
        let text = self.out.substitute(typed, self.sources)?;
        secrets.extend(text.secrets);
        let address = check_address(&text.value, &typed.span, self.out)?;
        let shown = shown_url(&text.shown);
        let mut endpoint = http_endpoint(address, shown, headers, secrets);
        let mut checker = NetworkChecker {
            own: &raw.network,
            defaults: &self.defaults.network,
            sources: self.sources,
            files: &mut self.files,
            out: self.out,
        };
        endpoint.network = checker.network(&endpoint, secrets);
        endpoint.tls = checker.tls();
        if let (Some(wanted), Some(found)) = (endpoint.network.family, family_of(&endpoint.url))
            && wanted != found
        {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "`url` names an address of the other family",
                format!("`ip` says {wanted}"),
            ));
        }
        Some(endpoint)
    }

    fn service(&mut self, raw: &RawServer) -> Option<ServiceName> {
        if let (None, Some((key, _))) = (&raw.service, raw.service_attributes.first()) {
            self.out.error(Complaint::at(
                key.span.clone(),
                "`service` without a `name`",
                "attributes narrow a service down, they do not name it",
            ));
        }
        let name = self
            .out
            .substitute(raw.service.as_ref()?, self.sources)?
            .value;
        let attributes = raw
            .service_attributes
            .iter()
            .filter_map(|(key, value)| {
                Some((
                    key.value.clone(),
                    self.out.substitute(value, self.sources)?.value,
                ))
            })
            .collect();
        Some(ServiceName { name, attributes })
    }
}

/// A value of the environment that is typed in clear and shorter than this is a setting, not a secret.
const SHORTEST_CLEAR_SECRET: usize = 8;
