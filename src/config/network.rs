//! The way to a host, and its TLS: `proxy`, `resolver`, `ip`, `source_address`, `ca_file` and the like, judged.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use url::{Host, Url};

use super::checked::Findings;
use super::client_tls::TlsFiles;
use super::complaint::Complaint;
use super::endpoint::take_credentials;
use super::environment::ProxyOfEnvironment;
use super::keys::Typed;
use super::raw::RawNetwork;
use super::substitute::Sources;
use crate::model::{HttpEndpoint, IpFamily, Network, Proxy, Secret, TlsFileNames, TlsSettings};

const DNS_PORT: u16 = 53;

/// Judges the keys of one server, those of `[defaults]` standing in for what it does not say itself.
pub(super) struct NetworkChecker<'a> {
    pub(super) own: &'a RawNetwork,
    pub(super) defaults: &'a RawNetwork,
    pub(super) sources: &'a Sources<'a>,
    pub(super) files: &'a mut KnownFiles,
    pub(super) out: &'a mut Findings,
}

/// Files that were read, by what was typed for the three of them: a thousand servers may name the same bundle, which is
/// read and kept once.
pub(super) type KnownFiles = HashMap<[Option<String>; 3], Trust>;

/// Whom TLS trusts, and who we are.
pub(super) type Trust = (Option<Arc<RootCertStore>>, Option<Arc<CertifiedKey>>);

impl NetworkChecker<'_> {
    pub(super) fn network(
        &mut self,
        endpoint: &HttpEndpoint,
        secrets: &mut Vec<Secret>,
    ) -> Network {
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
            proxy: self.proxy(endpoint, secrets),
            resolver: self.resolver(),
            family,
            source_address: source_address.map(|source| source.value),
        }
    }

    pub(super) fn tls(&mut self) -> TlsSettings {
        let (roots, identity) = self.trust();
        TlsSettings {
            roots,
            identity,
            server_name: self.server_name(),
            insecure_skip_verify: self.skip_verify(),
            files: TlsFileNames {
                ca_file: self.shown_path(pick(&self.own.ca_file, &self.defaults.ca_file)),
                cert_file: self.shown_path(pick(&self.own.cert_file, &self.defaults.cert_file)),
                key_file: self.shown_path(pick(&self.own.key_file, &self.defaults.key_file)),
            },
        }
    }

    fn shown_path(&self, typed: Option<&Typed<String>>) -> Option<String> {
        let typed = &typed?.value;
        if typed.contains("${") {
            return Some(typed.clone());
        }
        Some(self.sources.folder.join(typed).display().to_string())
    }

    fn trust(&mut self) -> Trust {
        let ca_file = pick(&self.own.ca_file, &self.defaults.ca_file);
        let cert_file = pick(&self.own.cert_file, &self.defaults.cert_file);
        let key_file = pick(&self.own.key_file, &self.defaults.key_file);
        let typed = [ca_file, cert_file, key_file].map(|file| Some(file?.value.clone()));
        if let Some(known) = self.files.get(&typed) {
            return known.clone();
        }
        let given = [("cert_file", cert_file), ("key_file", key_file)];
        let given: Vec<_> = given
            .into_iter()
            .filter_map(|(key, typed)| typed.map(|_| key))
            .collect();
        let files = TlsFiles {
            given: &given,
            ca_file,
            cert_file,
            key_file,
        };
        let errors = self.out.errors.len();
        let tls = files.check(self.sources, self.out);
        let roots = tls.authorities.and_then(|pem| pem.to_roots().ok());
        let identity = tls.identity.map(|own| Arc::clone(own.certified()));
        let trust = (roots.map(Arc::new), identity);
        // What is wrong is said at each line that names it.
        if self.out.errors.len() == errors {
            self.files.insert(typed, trust.clone());
        }
        trust
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
    fn proxy(&mut self, endpoint: &HttpEndpoint, secrets: &mut Vec<Secret>) -> Option<Proxy> {
        let Some(typed) = pick(&self.own.proxy, &self.defaults.proxy) else {
            let found = ProxyOfEnvironment::of(self.sources.env, &endpoint.url, secrets);
            // Nothing is in the way to a socket of this machine.
            let doubts = found.doubts.into_iter();
            for title in doubts.filter(|_| endpoint.socket.is_none()) {
                self.out.warning(Complaint {
                    title,
                    span: None,
                    label: String::new(),
                    help: Some("`proxy` in the file says otherwise, \"off\" for none".to_owned()),
                    file: None,
                });
            }
            return found.proxy;
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
}

/// What a server says itself, or else what `[defaults]` say.
fn pick<'a, T>(own: &'a Option<T>, defaults: &'a Option<T>) -> Option<&'a T> {
    own.as_ref().or(defaults.as_ref())
}

/// A proxy whose URL may hold a user and a password.
pub(super) fn proxy_at(mut url: Url, secrets: &mut Vec<Secret>) -> Proxy {
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
