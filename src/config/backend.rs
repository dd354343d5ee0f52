//! What each trace backend has to be told: one table, from which keys are read, credentials made headers, and
//! missing ones complained about.

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::de::DeTable;
use url::Url;

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::check_url;
use super::header::check_header;
use super::keys::{Keys, Typed};
use super::raw::Pair;
use super::substitute::Sources;
use crate::model::{BackendKind, RemoteSettings};

/// How one kind of backend is described.
struct Spec {
    kind: BackendKind,
    /// The API's base where the vendor has one; else `url` is needed.
    base: Base,
    credentials: &'static [Credential],
    options: &'static [Opt],
}

enum Base {
    /// `url` has to be given; the example shows the usual port.
    Own(&'static str),
    /// The vendor's, unless `url` says otherwise.
    Vendor(&'static str),
    /// The vendor's by region: an option, its default, and what stands around it in the URL.
    Region(&'static str, &'static [(&'static str, &'static str)]),
    /// Nobody can be asked.
    None,
}

/// A key that becomes a header: what stands before the value in it, and whether the backend needs it.
struct Credential {
    key: &'static str,
    header: &'static str,
    before: &'static str,
    needed: bool,
}

/// A key that is no secret.
struct Opt {
    key: &'static str,
    needed: bool,
    /// An example for who has left it out.
    example: &'static str,
    /// The only values that there are; none for free text.
    words: &'static [&'static str],
}

const fn needed(key: &'static str, header: &'static str, before: &'static str) -> Credential {
    Credential {
        key,
        header,
        before,
        needed: true,
    }
}

const fn optional(key: &'static str, header: &'static str, before: &'static str) -> Credential {
    Credential {
        key,
        header,
        before,
        needed: false,
    }
}

const fn option(key: &'static str) -> Opt {
    Opt {
        key,
        needed: false,
        example: "",
        words: &[],
    }
}

const fn one_of(key: &'static str, words: &'static [&'static str]) -> Opt {
    Opt {
        key,
        needed: false,
        example: "",
        words,
    }
}

const fn needed_option(key: &'static str, example: &'static str) -> Opt {
    Opt {
        key,
        needed: true,
        example,
        words: &[],
    }
}

const BEARER: Credential = optional("token", "authorization", "Bearer ");

/// Where people look at traces, when that is not where programs ask.
const UI: Opt = option("ui");

const SPECS: [Spec; 15] = [
    Spec {
        kind: BackendKind::Jaeger,
        base: Base::Own("http://localhost:16686"),
        credentials: &[BEARER, optional("tenant", "x-tenant", "")],
        options: &[UI, one_of("api", &["v1", "v3"])],
    },
    Spec {
        kind: BackendKind::Tempo,
        base: Base::Own("http://localhost:3200"),
        credentials: &[BEARER, optional("tenant", "x-scope-orgid", "")],
        options: &[UI, option("datasource")],
    },
    Spec {
        kind: BackendKind::Zipkin,
        base: Base::Own("http://localhost:9411"),
        credentials: &[BEARER],
        options: &[UI],
    },
    Spec {
        kind: BackendKind::Heimdall,
        base: Base::Own("http://localhost:4318"),
        credentials: &[BEARER],
        options: &[UI, needed_option("project", "weather-mcp")],
    },
    Spec {
        kind: BackendKind::Honeycomb,
        base: Base::Region(
            "region",
            &[
                ("us", "https://api.honeycomb.io"),
                ("eu", "https://api.eu1.honeycomb.io"),
            ],
        ),
        credentials: &[needed("api_key", "x-honeycomb-team", "")],
        options: &[UI, option("dataset"), option("team"), option("environment")],
    },
    Spec {
        kind: BackendKind::Datadog,
        base: Base::Region(
            "site",
            &[
                ("datadoghq.com", "https://api.datadoghq.com"),
                ("us3.datadoghq.com", "https://api.us3.datadoghq.com"),
                ("us5.datadoghq.com", "https://api.us5.datadoghq.com"),
                ("datadoghq.eu", "https://api.datadoghq.eu"),
                ("ap1.datadoghq.com", "https://api.ap1.datadoghq.com"),
                ("ap2.datadoghq.com", "https://api.ap2.datadoghq.com"),
                ("uk1.datadoghq.com", "https://api.uk1.datadoghq.com"),
                ("ddog-gov.com", "https://api.ddog-gov.com"),
                ("us2.ddog-gov.com", "https://api.us2.ddog-gov.com"),
            ],
        ),
        credentials: &[
            needed("api_key", "dd-api-key", ""),
            needed("app_key", "dd-application-key", ""),
        ],
        options: &[UI],
    },
    Spec {
        kind: BackendKind::NewRelic,
        base: Base::Region(
            "region",
            &[
                ("us", "https://api.newrelic.com"),
                ("eu", "https://api.eu.newrelic.com"),
            ],
        ),
        credentials: &[needed("api_key", "api-key", "")],
        options: &[UI, needed_option("account", "1234567")],
    },
    Spec {
        kind: BackendKind::Axiom,
        base: Base::Vendor("https://api.axiom.co"),
        credentials: &[
            needed("token", "authorization", "Bearer "),
            optional("org", "x-axiom-org-id", ""),
        ],
        options: &[UI, needed_option("dataset", "otel-traces")],
    },
    Spec {
        kind: BackendKind::SigNoz,
        base: Base::Own("http://localhost:8080"),
        credentials: &[optional("api_key", "signoz-api-key", ""), BEARER],
        options: &[UI],
    },
    Spec {
        kind: BackendKind::ClickHouse,
        base: Base::Own("http://localhost:8123"),
        credentials: &[],
        options: &[UI, option("database"), option("table")],
    },
    Spec {
        kind: BackendKind::Elastic,
        base: Base::Own("https://localhost:9200"),
        credentials: &[optional("api_key", "authorization", "ApiKey "), BEARER],
        options: &[UI, option("index")],
    },
    Spec {
        kind: BackendKind::OpenSearch,
        base: Base::Own("https://localhost:9200"),
        credentials: &[BEARER],
        options: &[UI, option("index")],
    },
    Spec {
        kind: BackendKind::Phoenix,
        base: Base::Own("http://localhost:6006"),
        credentials: &[optional("api_key", "authorization", "Bearer ")],
        options: &[UI, option("project")],
    },
    Spec {
        kind: BackendKind::Highflame,
        base: Base::None,
        credentials: &[],
        options: &[UI],
    },
    Spec {
        kind: BackendKind::Lightstep,
        base: Base::None,
        credentials: &[],
        options: &[UI, option("project")],
    },
];

impl Spec {
    fn of(kind: BackendKind) -> Option<&'static Self> {
        SPECS.iter().find(|spec| spec.kind == kind)
    }

    /// Its own keys, besides those of every `[traces]`.
    fn keys(&self) -> Vec<&'static str> {
        let mut keys = vec!["url", "headers"];
        if !matches!(self.base, Base::None) {
            keys.extend(["user", "password"]);
        }
        if let Base::Region(key, _) = self.base {
            keys.push(key);
        }
        keys.extend(self.credentials.iter().map(|credential| credential.key));
        keys.extend(self.options.iter().map(|option| option.key));
        keys
    }
}

/// The keys of a kind of backend, besides those of every `[traces]`.
pub(super) fn keys_of(kind: BackendKind) -> Vec<&'static str> {
    Spec::of(kind).map(Spec::keys).unwrap_or_default()
}

/// What was typed of a backend that is not ours.
pub(super) struct RawRemote {
    kind: BackendKind,
    url: Option<Typed<String>>,
    user: Option<Typed<String>>,
    password: Option<Typed<String>>,
    headers: Vec<Pair>,
    region: Option<(&'static str, Option<&'static str>)>,
    credentials: Vec<(&'static Credential, Option<Typed<String>>)>,
    options: Vec<(&'static Opt, Option<Typed<String>>)>,
    /// Keys that are there, whatever their type.
    given: Vec<&'static str>,
}

pub(super) fn read_remote<'t>(
    kind: BackendKind,
    keys: &mut Keys<'t, '_>,
    table: &'t DeTable<'t>,
) -> Option<RawRemote> {
    let spec = Spec::of(kind)?;
    let given = spec
        .keys()
        .into_iter()
        .filter(|key| table.contains_key(*key))
        .collect();
    let region = match spec.base {
        Base::Region(key, regions) => {
            let usual = regions.first().map(|(_, url)| *url);
            let chosen = if table.contains_key(key) {
                keys.word(key, regions)
            } else {
                usual
            };
            Some((key, chosen))
        }
        _ => None,
    };
    Some(RawRemote {
        kind,
        url: keys.text("url"),
        user: keys.text("user"),
        password: keys.text("password"),
        headers: keys.text_table("headers").unwrap_or_default(),
        region,
        credentials: spec
            .credentials
            .iter()
            .map(|credential| (credential, keys.text(credential.key)))
            .collect(),
        options: spec
            .options
            .iter()
            .map(|option| (option, keys.number_or_text(option.key)))
            .collect(),
        given,
    })
}

impl RawRemote {
    pub(super) fn check(
        self,
        span: &std::ops::Range<usize>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> Option<RemoteSettings> {
        let before = out.errors.len();
        let url = self.url(span, sources, out);
        let headers = self.headers(span, sources, out);
        let mut options = std::collections::BTreeMap::new();
        for (option, typed) in &self.options {
            match typed {
                Some(typed) => {
                    if let Some(text) = out.substitute(typed, sources) {
                        option.check(&text.value, typed, out);
                        // Else the backend could only be refused when everything else has started.
                        if option.key == "account" && text.value.parse::<u64>().is_err() {
                            out.error(Complaint::at(
                                typed.span.clone(),
                                "`account` is no account of New Relic",
                                "has to be a number",
                            ));
                        }
                        options.insert(option.key, text.value);
                    }
                }
                None if option.needed && !self.given.contains(&option.key) => out.error(
                    Complaint::at(
                        span.clone(),
                        format!("{} needs `{}`", self.kind.as_str(), option.key),
                        "add it",
                    )
                    .help(format!("{} = \"{}\"", option.key, option.example)),
                ),
                None => {}
            }
        }
        (out.errors.len() == before).then_some(RemoteSettings {
            kind: self.kind,
            url,
            headers,
            options,
        })
    }

    fn url(
        &self,
        span: &std::ops::Range<usize>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> Option<Url> {
        if let Some(typed) = &self.url {
            let text = out.substitute(typed, sources)?;
            return check_url(&text.value, &typed.span, "url", out);
        }
        if self.given.contains(&"url") {
            return None;
        }
        let spec = Spec::of(self.kind)?;
        let vendor = match spec.base {
            Base::Own(example) => {
                out.error(
                    Complaint::at(
                        span.clone(),
                        format!("[traces] has no `url` of {}", self.kind.as_str()),
                        "add one",
                    )
                    .help(format!("url = \"{example}\"")),
                );
                return None;
            }
            Base::Vendor(url) => Some(url),
            Base::Region(..) => self.region.and_then(|(_, url)| url),
            Base::None => None,
        };
        vendor.and_then(|url| Url::parse(url).ok())
    }

    fn headers(
        &self,
        span: &std::ops::Range<usize>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for header in &self.headers {
            // What the backend says back is escaped and cut, and never holds what it was sent.
            if let Some(header) = check_header(header, &mut Vec::new(), sources, out) {
                headers.insert(header.name, header.value);
            }
        }
        for (credential, typed) in &self.credentials {
            match typed {
                Some(typed) => {
                    if let Some(value) = credential.value(typed, sources, out) {
                        headers.insert(HeaderName::from_static(credential.header), value);
                    }
                }
                None if credential.needed && !self.given.contains(&credential.key) => out.error(
                    Complaint::at(
                        span.clone(),
                        format!("{} needs `{}`", self.kind.as_str(), credential.key),
                        "add it, from the environment or a file",
                    )
                    .help(format!(
                        "{} = \"${{{}}}\"",
                        credential.key,
                        credential.key.to_uppercase()
                    )),
                ),
                None => {}
            }
        }
        if let Some(value) = self.basic(sources, out) {
            headers.insert(http::header::AUTHORIZATION, value);
        }
        headers
    }

    /// `user` and `password`, as HTTP's basic authentication.
    fn basic(&self, sources: &Sources<'_>, out: &mut Findings) -> Option<HeaderValue> {
        use base64::Engine as _;
        let Some(user) = &self.user else {
            if let Some(password) = &self.password {
                out.error(Complaint::at(
                    password.span.clone(),
                    "`password` without `user`",
                    "whose is it?",
                ));
            }
            return None;
        };
        let user = out.substitute(user, sources)?;
        let password = match &self.password {
            Some(password) => out.substitute(password, sources)?.value,
            None => String::new(),
        };
        let both = format!("{}:{password}", user.value);
        let encoded = base64::engine::general_purpose::STANDARD.encode(both);
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Opt {
    fn check(&self, value: &str, typed: &Typed<String>, out: &mut Findings) {
        if value.is_empty() {
            out.error(Complaint::at(
                typed.span.clone(),
                format!("`{}` is empty", self.key),
                "leave it out",
            ));
        } else if !self.words.is_empty() && !self.words.contains(&value) {
            out.error(Complaint::at(
                typed.span.clone(),
                format!("`{}` is none of its words", self.key),
                format!("has to be {}", self.words.join(" or ")),
            ));
        }
    }
}

impl Credential {
    fn value(
        &self,
        typed: &Typed<String>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> Option<HeaderValue> {
        let text = out.substitute(typed, sources)?;
        match HeaderValue::from_str(&format!("{}{}", self.before, text.value)) {
            Ok(mut value) => {
                value.set_sensitive(true);
                Some(value)
            }
            Err(_) => {
                out.error(Complaint::at(
                    typed.span.clone(),
                    format!("`{}` cannot be sent", self.key),
                    "it holds a line end or a control character",
                ));
                None
            }
        }
    }
}
