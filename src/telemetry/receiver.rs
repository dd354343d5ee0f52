//! The OTLP receiver: what the environment says of it, and what the file says where that is silent.

use std::fs::File;
use std::str::FromStr;

use base64::Engine;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::model::{ClientTls, Identity, OtlpProtocol, Pem, ReceiverSettings};

/// Looks up a variable that is set and not empty.
pub(super) type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// A receiver that spans can be sent to.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    /// Complete, without credentials.
    pub(super) url: Url,
    pub(super) protocol: OtlpProtocol,
    /// Those of the environment are not among them: the SDK adds them, and they win.
    pub(super) headers: HeaderMap,
    /// Empty unless the URL is `https`.
    pub(super) tls: ClientTls,
}

impl Receiver {
    /// The receiver, or none when none is wanted or the warnings say why there is none.
    pub(super) fn read(
        configured: &ReceiverSettings,
        set: Variables<'_>,
        warnings: &mut Vec<String>,
    ) -> Option<Self> {
        match Self::try_read(configured, set) {
            Ok(receiver) => {
                warnings.extend(receiver.iter().flat_map(|receiver| receiver.doubts(set)));
                receiver
            }
            Err(why) => {
                warnings.push(format!("{why}: no span is exported"));
                None
            }
        }
    }

    fn try_read(configured: &ReceiverSettings, set: Variables<'_>) -> Result<Option<Self>, String> {
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match set("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(format!(
                    "OTEL_TRACES_EXPORTER={other} is not supported, only otlp and none"
                ));
            }
        }
        let Some((text, is_base)) = endpoint(configured, set) else {
            return Ok(None);
        };
        let protocol = protocol(configured, set)?;
        let mut url = parse(&text, protocol, set).ok_or("the endpoint is no usable URL")?;
        if is_base && protocol == OtlpProtocol::Http {
            let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        let mut headers = configured.headers.clone();
        if let Some(basic) = take_credentials(&mut url) {
            headers.entry(AUTHORIZATION).or_insert(basic);
        }
        let tls = if url.scheme() == "https" {
            tls(configured, set)?
        } else {
            ClientTls::default()
        };
        Ok(Some(Self {
            url,
            protocol,
            headers,
            tls,
        }))
    }

    /// What the environment says besides and is without effect.
    fn doubts(&self, set: Variables<'_>) -> Vec<String> {
        let headers = otlp_variable("HEADERS", set);
        let headers = headers.map(|(typed, name)| malformed(&typed, &name));
        let files = ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"];
        let files = files
            .into_iter()
            .filter(|_| self.url.scheme() == "http")
            .filter_map(|variable| otlp_variable(variable, set))
            .map(|(_, name)| format!("{name} has no effect: the endpoint is http, not https"));
        headers
            .unwrap_or_default()
            .into_iter()
            .chain(files)
            .collect()
    }

    /// The receiver as it may be shown: a path or a query may hold a token.
    pub(super) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// `OTEL_EXPORTER_OTLP_TRACES_...`, or else `OTEL_EXPORTER_OTLP_...`: the value, and the name that it stands under.
fn otlp_variable(name: &str, set: Variables<'_>) -> Option<(String, String)> {
    ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"]
        .into_iter()
        .map(|start| format!("{start}{name}"))
        .find_map(|name| Some((set(&name)?, name)))
}

/// The entries of a list of headers that the SDK leaves out. They are counted, not shown: what lacks its name may be the
/// secret.
fn malformed(typed: &str, variable: &str) -> Vec<String> {
    let is_header = |entry: &str| {
        entry.split_once('=').is_some_and(|(name, value)| {
            let value = percent_decode_str(value.trim()).decode_utf8();
            let value = value.map(|value| HeaderValue::from_str(&value));
            HeaderName::from_str(name.trim()).is_ok()
                && value.is_ok_and(|value| value.is_ok_and(|value| !value.is_empty()))
        })
    };
    let entries = (1..).zip(typed.split(','));
    entries
        .filter(|(_, entry)| !entry.trim().is_empty() && !is_header(entry))
        .map(|(number, _)| format!("{variable}: entry {number} is no name=value and is not sent"))
        .collect()
}

/// What was typed for the endpoint, and whether it is a base that HTTP adds the path of traces to. The variable for
/// traces names the whole URL.
fn endpoint(configured: &ReceiverSettings, set: Variables<'_>) -> Option<(String, bool)> {
    match otlp_variable("ENDPOINT", set) {
        Some((text, name)) => Some((text, !name.contains("TRACES"))),
        None => Some((configured.endpoint.as_ref()?.to_string(), true)),
    }
}

fn protocol(configured: &ReceiverSettings, set: Variables<'_>) -> Result<OtlpProtocol, String> {
    let Some((typed, _)) = otlp_variable("PROTOCOL", set) else {
        return Ok(configured.protocol);
    };
    OtlpProtocol::NAMES
        .iter()
        .find(|(name, _)| *name == typed)
        .map(|(_, protocol)| *protocol)
        .ok_or_else(|| {
            format!("the OTLP protocol {typed} is not supported, only http/protobuf and grpc")
        })
}

/// A URL over HTTP. One of gRPC may lack its scheme, and means TLS then, unless the environment says otherwise.
fn parse(text: &str, protocol: OtlpProtocol, set: Variables<'_>) -> Option<Url> {
    let is_insecure = || {
        otlp_variable("INSECURE", set).is_some_and(|(value, _)| value.eq_ignore_ascii_case("true"))
    };
    let url = match protocol {
        OtlpProtocol::Grpc if !text.contains("://") => {
            let scheme = if is_insecure() { "http" } else { "https" };
            Url::parse(&format!("{scheme}://{text}"))
        }
        _ => Url::parse(text),
    };
    url.ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Takes user and password out of the URL: neither HTTP client sends them. Answers the header that they mean.
fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let password = url.password().map(decoded).unwrap_or_default();
    let pair = format!("{}:{password}", decoded(url.username()));
    url.set_username("").ok();
    url.set_password(None).ok();
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The files that the environment names, each instead of the one of the file; a certificate and its key change together.
fn tls(configured: &ReceiverSettings, set: Variables<'_>) -> Result<ClientTls, String> {
    let authorities = pem("CERTIFICATE", Pem::certificates, set)?;
    let certificate = pem("CLIENT_CERTIFICATE", Pem::certificates, set)?;
    let key = pem("CLIENT_KEY", Pem::private_key, set)?;
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some((certificate, _)), Some((key, name))) => Some(
            Identity::new(certificate, key)
                .map_err(|why| format!("the file that {name} names {why}"))?,
        ),
        (Some((_, name)), None) | (None, Some((_, name))) => {
            return Err(format!(
                "{name} is set alone: a client's certificate and its key are needed together"
            ));
        }
    };
    Ok(ClientTls {
        authorities: authorities
            .map(|(pem, _)| pem)
            .or_else(|| configured.tls.authorities.clone()),
        identity: identity.or_else(|| configured.tls.identity.clone()),
    })
}

/// The PEM in the file that a variable names, and the variable's name. The path is not told when it fails: where PEM
/// was put in instead of a path, it is the secret itself.
fn pem(
    variable: &str,
    read: fn(File) -> Result<Pem, String>,
    set: Variables<'_>,
) -> Result<Option<(Pem, String)>, String> {
    let Some((path, name)) = otlp_variable(variable, set) else {
        return Ok(None);
    };
    File::open(path)
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(read)
        .map(|pem| Some((pem, name.clone())))
        .map_err(|why| format!("the file that {name} names {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The receiver with a file that names `http://configured:4318`, or the warning.
    fn read(vars: &[(&str, &str)]) -> Result<Receiver, String> {
        let configured = ReceiverSettings {
            endpoint: Url::parse("http://configured:4318").ok(),
            ..ReceiverSettings::default()
        };
        let set = |name: &str| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut warnings = Vec::new();
        Receiver::read(&configured, &set, &mut warnings)
            .ok_or_else(|| warnings.pop().unwrap_or_default())
    }

    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const EXACT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");

    #[test]
    fn the_environment_wins() {
        let url = |vars: &[(&str, &str)]| read(vars).unwrap().url.to_string();
        assert_eq!(url(&[]), "http://configured:4318/v1/traces");
        let general = (GENERAL, "http://env:4318/?k=v");
        assert_eq!(url(&[general]), "http://env:4318/v1/traces?k=v");
        let exact = (EXACT, "http://env/custom");
        assert_eq!(url(&[general, exact]), "http://env/custom");
        let http = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
        assert_eq!(read(&[GRPC]).unwrap().protocol, OtlpProtocol::Grpc);
        assert_eq!(read(&[GRPC, http]).unwrap().protocol, OtlpProtocol::Http);
    }

    #[test]
    fn an_endpoint_of_grpc_is_used_as_it_is_and_may_lack_its_scheme() {
        let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "True");
        for (vars, url) in [
            (vec![GRPC], "http://configured:4318/"),
            (vec![GRPC, (GENERAL, "env:4317")], "https://env:4317/"),
            (
                vec![GRPC, (GENERAL, "env:4317"), insecure],
                "http://env:4317/",
            ),
            (
                vec![GRPC, (EXACT, "https://env:4317"), insecure],
                "https://env:4317/",
            ),
        ] {
            assert_eq!(read(&vars).unwrap().url.as_str(), url, "{vars:?}");
        }
        assert!(read(&[(GENERAL, "env:4318")]).is_err());
        assert!(read(&[GRPC, (GENERAL, "unix://env")]).is_err());
    }

    #[test]
    fn variables_that_the_sdk_ignores_are_honoured() {
        for (name, value, warning) in [
            ("OTEL_SDK_DISABLED", "true", ""),
            ("OTEL_TRACES_EXPORTER", "none", ""),
            ("OTEL_TRACES_EXPORTER", "zipkin", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/json"),
        ] {
            let warned = read(&[(name, value)]).unwrap_err();
            assert!(warned.contains(warning), "{name}={value}: {warned}");
            assert_eq!(warned.is_empty(), warning.is_empty(), "{name}={value}");
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_shown_nowhere() {
        for vars in [vec![], vec![GRPC]] {
            let endpoint = (GENERAL, "http://us%65r:hidden@env:4317/?key=hidden");
            let receiver = read(&[vars, vec![endpoint]].concat()).unwrap();
            assert_eq!(receiver.headers[AUTHORIZATION], "Basic dXNlcjpoaWRkZW4=");
            assert_eq!(receiver.shown(), "http://env:4317");
            let debug = format!("{:?}", receiver.headers);
            assert!(!debug.contains("dXNlcjpoaWRkZW4"), "{debug}");
            assert!(!receiver.url.as_str().contains("hidden@"));
        }
    }

    #[test]
    fn what_is_without_effect_is_told_and_never_shown() {
        let headers = "OTEL_EXPORTER_OTLP_HEADERS";
        let exact = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
        let https = (GENERAL, "https://env");
        for (vars, told) in [
            (&[(headers, "a=1, b=x%20y ,")][..], &[][..]),
            (&[(headers, "hidden")], &["HEADERS: entry 1"]),
            (
                &[(headers, "a=1,hidden,b c=hidden,d=")],
                &["entry 2", "entry 3", "entry 4"],
            ),
            (&[(headers, "hidden"), (exact, "a=1")], &[]),
            (&[(exact, "a=hid%0Aden")], &["TRACES_HEADERS: entry 1"]),
            (
                &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "hidden")],
                &["CERTIFICATE has no effect"],
            ),
            (&[(headers, "hidden"), ("OTEL_SDK_DISABLED", "true")], &[]),
            (&[https, (headers, "hidden")], &["entry 1"]),
        ] {
            let mut warnings = Vec::new();
            let set = |name: &str| {
                let found = vars.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let configured = ReceiverSettings {
                endpoint: Url::parse("http://configured:4318").ok(),
                ..ReceiverSettings::default()
            };
            Receiver::read(&configured, &set, &mut warnings);
            assert_eq!(warnings.len(), told.len(), "{vars:?}: {warnings:?}");
            for (warning, part) in warnings.iter().zip(told) {
                assert!(
                    warning.contains(part) && !warning.contains("hid"),
                    "{warning}"
                );
            }
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_told_without_their_path_and_only_for_https() {
        let https = (GENERAL, "https://env");
        for name in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            for start in ["OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"] {
                let name = format!("{start}{name}");
                let warned = read(&[https, (&name, "not/there")]).unwrap_err();
                assert!(warned.contains(&name), "{warned}");
                assert!(!warned.contains("not/there"), "{warned}");
                assert!(read(&[(&name, "not/there")]).is_ok());
            }
        }
    }
}
