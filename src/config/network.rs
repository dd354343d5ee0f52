//! The way to a host, and its TLS: `proxy`, `resolver`, `ip`, `source_address`, `ca_file` and the like, judged.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use http::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use url::{Host, Url};

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::take_credentials;
use super::keys::Typed;
use super::raw::RawNetwork;
use super::substitute::{Sources, read_limited};
use crate::model::{Identity, IpFamily, Network, Proxy, Secret, TlsSettings};

const DNS_PORT: u16 = 53;

/// Bytes of a file of certificates: a whole system's roots are some 250 kB.
const MAX_PEM: u64 = 4 * 1024 * 1024;

/// Judges the keys of one server, those of `[defaults]` standing in for what it does not say itself.
pub(super) struct NetworkChecker<'a> {
    pub(super) own: &'a RawNetwork,
    pub(super) defaults: &'a RawNetwork,
    pub(super) sources: &'a Sources<'a>,
    pub(super) files: &'a mut CertificateFiles,
    pub(super) out: &'a mut Findings,
}

/// Files of certificates that were read: a thousand servers may name the same bundle, which is read and kept once.
#[derive(Default)]
pub(super) struct CertificateFiles(
    HashMap<PathBuf, Result<Arc<[CertificateDer<'static>]>, Unusable>>,
);

/// What is wrong with a file, to stand after its key, and what was looked for in it.
#[derive(Clone)]
struct Unusable {
    title: &'static str,
    label: String,
}

impl CertificateFiles {
    fn read(&mut self, path: PathBuf) -> Result<Arc<[CertificateDer<'static>]>, Unusable> {
        let read = |path: &PathBuf| {
            let pem = read_limited(path, MAX_PEM).map_err(|label| Unusable {
                title: "cannot be read",
                label,
            })?;
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let found = read.unwrap_or_default();
            if found.is_empty() {
                return Err(Unusable {
                    title: "holds no certificate",
                    label: "PEM: -----BEGIN CERTIFICATE-----".to_owned(),
                });
            }
            Ok(found.into())
        };
        if let Some(known) = self.0.get(&path) {
            return known.clone();
        }
        let found = read(&path);
        self.0.insert(path, found.clone());
        found
    }
}

impl NetworkChecker<'_> {
    pub(super) fn network(&mut self, url: &Url, secrets: &mut Vec<Secret>) -> Network {
        let source_address = self.source_address();
        let family = self.family();
        if let (Some(family), Some(source)) = (family, &source_address)
            && IpFamily::of(source.value) != family
        {
            self.complain(
                source.span.clone(),
                "`source_address` is of the other family",
                format!("`ip` says {family}"),
            );
        }
        Network {
            proxy: self.proxy(url, secrets),
            resolver: self.resolver(),
            family,
            source_address: source_address.map(|source| source.value),
        }
    }

    pub(super) fn tls(&mut self) -> TlsSettings {
        TlsSettings {
            roots: self.roots(),
            identity: self.identity(),
            server_name: self.server_name(),
            insecure_skip_verify: self.skip_verify(),
        }
    }

    fn roots(&mut self) -> Option<Arc<[CertificateDer<'static>]>> {
        let path = pick(&self.own.ca_file, &self.defaults.ca_file)?.clone();
        let roots = self.certificates(&path, "ca_file")?;
        // A bundle may hold what is no authority, but not nothing else.
        let (usable, _) = RootCertStore::empty().add_parsable_certificates(roots.iter().cloned());
        if usable == 0 {
            let title = "`ca_file` holds no usable certificate";
            self.complain(path.span, title, "that of an authority is wanted");
            return None;
        }
        Some(roots)
    }

    fn complain(
        &mut self,
        span: std::ops::Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.out.error(Complaint::at(span, title, label));
    }

    fn family(&mut self) -> Option<IpFamily> {
        let typed = pick(&self.own.ip, &self.defaults.ip)?;
        match typed.value.as_str() {
            "4" => Some(IpFamily::V4),
            "6" => Some(IpFamily::V6),
            "any" => None,
            _ => {
                let span = typed.span.clone();
                self.complain(span, "`ip` is no address family", "4, 6 or \"any\"");
                None
            }
        }
    }

    fn source_address(&mut self) -> Option<Typed<IpAddr>> {
        let typed = pick(&self.own.source_address, &self.defaults.source_address)?;
        let span = typed.span.clone();
        let text = self.out.substitute(typed, self.sources)?.value;
        match text.parse() {
            Ok(value) => Some(Typed { value, span }),
            Err(_) => {
                let title = "`source_address` is no IP address";
                self.complain(span, title, "an address of this machine");
                None
            }
        }
    }

    fn resolver(&mut self) -> Option<SocketAddr> {
        let typed = pick(&self.own.resolver, &self.defaults.resolver)?;
        let span = typed.span.clone();
        let text = self.out.substitute(typed, self.sources)?.value;
        let address = text
            .parse()
            .or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
        if address.is_err() {
            let title = "`resolver` is no address of a name server";
            self.complain(span, title, "write \"IP:port\", such as \"192.0.2.53:53\"");
        }
        address.ok()
    }

    /// `proxy`, or else what `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say for this URL.
    fn proxy(&mut self, url: &Url, secrets: &mut Vec<Secret>) -> Option<Proxy> {
        let Some(typed) = pick(&self.own.proxy, &self.defaults.proxy) else {
            return proxy_of_environment(self.sources, url, secrets);
        };
        if typed.value == "off" {
            return None;
        }
        let span = typed.span.clone();
        let text = self.out.substitute(typed, self.sources)?;
        secrets.extend(text.secrets);
        let problem = match Url::parse(&text.value) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                format!(
                    "{}:// is not supported, only http:// and https://",
                    url.scheme()
                )
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => "names no host".to_owned(),
            Ok(url) => return Some(proxy_at(url, secrets)),
            Err(error) => error.to_string(),
        };
        self.out.error(
            Complaint::at(span, "`proxy` is no usable URL", problem)
                .help("for example \"http://proxy.example:3128\", or \"off\" to use none"),
        );
        None
    }

    fn server_name(&mut self) -> Option<String> {
        let typed = pick(&self.own.server_name, &self.defaults.server_name)?;
        let span = typed.span.clone();
        let name = self.out.substitute(typed, self.sources)?.value;
        if ServerName::try_from(name.as_str()).is_err() {
            let title = "`server_name` is no name for TLS";
            self.complain(span, title, "a host name or an IP address");
            return None;
        }
        Some(name)
    }

    fn skip_verify(&mut self) -> bool {
        let typed = pick(
            &self.own.insecure_skip_verify,
            &self.defaults.insecure_skip_verify,
        );
        let Some(typed) = typed.filter(|typed| typed.value) else {
            return false;
        };
        let warning = Complaint::at(
            typed.span.clone(),
            "certificates are not verified",
            "whoever sits in between can read and answer everything, credentials too",
        );
        self.out.warning(warning.help(
            "`ca_file` trusts a certificate authority of your own, `server_name` another name",
        ));
        true
    }

    fn identity(&mut self) -> Option<Arc<Identity>> {
        let chain = pick(&self.own.cert_file, &self.defaults.cert_file).cloned();
        let key = pick(&self.own.key_file, &self.defaults.key_file).cloned();
        let (chain, key_path) = match (chain, key) {
            (None, None) => return None,
            (Some(chain), Some(key)) => (chain, key),
            (Some(alone), None) => {
                let title = "`cert_file` without `key_file`";
                self.complain(alone.span, title, "a certificate is shown with its key");
                return None;
            }
            (None, Some(alone)) => {
                let title = "`key_file` without `cert_file`";
                self.complain(alone.span, title, "a key proves a certificate");
                return None;
            }
        };
        let certificates = self.certificates(&chain, "cert_file");
        let pem = self.pem(&key_path, "key_file");
        let key = match PrivateKeyDer::from_pem_slice(&pem?) {
            Ok(key) => key,
            Err(_) => {
                let title = "`key_file` holds no private key";
                self.complain(key_path.span, title, "PEM, without a passphrase");
                return None;
            }
        };
        let identity = Identity {
            chain: certificates?.to_vec(),
            key,
        };
        let provider = rustls::crypto::ring::default_provider();
        let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
        match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
            Ok(_) => Some(Arc::new(identity)),
            Err(error) => {
                let title = "`cert_file` and `key_file` cannot be used together";
                self.complain(key_path.span, title, error.to_string());
                None
            }
        }
    }

    fn certificates(
        &mut self,
        path: &Typed<String>,
        key: &str,
    ) -> Option<Arc<[CertificateDer<'static>]>> {
        let file = self.out.substitute(path, self.sources)?.value;
        match self.files.read(self.sources.folder.join(file)) {
            Ok(certificates) => Some(certificates),
            Err(Unusable { title, label }) => {
                self.complain(path.span.clone(), format!("`{key}` {title}"), label);
                None
            }
        }
    }

    fn pem(&mut self, path: &Typed<String>, key: &str) -> Option<Vec<u8>> {
        let file = self.out.substitute(path, self.sources)?.value;
        match read_limited(&self.sources.folder.join(&file), MAX_PEM) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                let title = format!("`{key}` cannot be read");
                self.complain(path.span.clone(), title, why);
                None
            }
        }
    }
}

/// What a server says itself, or else what `[defaults]` say.
fn pick<'a, T>(own: &'a Option<T>, defaults: &'a Option<T>) -> Option<&'a T> {
    own.as_ref().or(defaults.as_ref())
}

/// The proxy that the environment names for `url`, by the rules of curl.
pub(super) fn proxy_of_environment(
    sources: &Sources<'_>,
    url: &Url,
    secrets: &mut Vec<Secret>,
) -> Option<Proxy> {
    let named = |lower: &str, upper: &str| {
        (sources.env)(lower)
            .or_else(|| (sources.env)(upper))
            .filter(|value| !value.is_empty())
    };
    let https = named("https_proxy", "HTTPS_PROXY");
    let http = named("http_proxy", "HTTP_PROXY");
    let all = named("all_proxy", "ALL_PROXY");
    // Nearly always there is none: then no target costs more than these three looks.
    if https.is_none() && http.is_none() && all.is_none() {
        return None;
    }
    let not_for = named("no_proxy", "NO_PROXY").unwrap_or_default();
    // For curl that is every host; the matcher takes it for the name of one.
    if not_for.trim() == "*" {
        return None;
    }
    let matcher = Matcher::builder()
        .all(all.unwrap_or_default())
        .https(https.unwrap_or_default())
        .http(http.unwrap_or_default())
        .no(not_for)
        .build();
    let found = matcher.intercept(&url.as_str().parse().ok()?)?;
    let proxy = Url::parse(&found.uri().to_string()).ok()?;
    if !matches!(proxy.scheme(), "http" | "https") {
        return None;
    }
    let mut proxy = proxy_at(proxy, secrets);
    if let Some(authorization) = found.basic_auth() {
        let mut authorization = authorization.clone();
        authorization.set_sensitive(true);
        secrets.extend(secrets_of_basic(&authorization));
        proxy.authorization = Some(authorization);
    }
    Some(proxy)
}

/// What Basic authentication hides: the pair as it is sent, and the password.
fn secrets_of_basic(value: &HeaderValue) -> Vec<Secret> {
    let text = value.to_str().unwrap_or_default();
    let pair = text.split(' ').next_back().unwrap_or_default();
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(pair)
        .unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let password = decoded.split_once(':').map(|(_, password)| password);
    [Some(pair), password]
        .into_iter()
        .flatten()
        .map(Secret::new)
        .collect()
}

/// A proxy whose URL may hold a user and a password.
fn proxy_at(mut url: Url, secrets: &mut Vec<Secret>) -> Proxy {
    let authorization = take_credentials(&mut url, secrets);
    Proxy { url, authorization }
}

/// An address that is typed as the URL's host has to be of the family that is asked for.
pub(super) fn family_of(url: &Url) -> Option<IpFamily> {
    match url.host()? {
        Host::Ipv4(_) => Some(IpFamily::V4),
        Host::Ipv6(_) => Some(IpFamily::V6),
        Host::Domain(_) => None,
    }
}
