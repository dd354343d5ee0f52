//! TLS on a connection: against the platform's roots, or what the user trusts in their place.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Fault, reason_of_io};
use super::socket::Stream;
use crate::model::Reason;

/// What a handshake is to demand and to offer.
#[derive(Clone, Copy, Default)]
pub(super) struct Demands<'a> {
    /// Trusted in place of the platform's roots.
    pub(super) roots: Option<&'a Arc<RootCertStore>>,
    /// Shown when the server asks for a client's certificate.
    pub(super) identity: Option<&'a Arc<CertifiedKey>>,
    /// Any certificate will do.
    pub(super) skip_verify: bool,
    /// HTTP/2 is offered besides HTTP/1.1.
    pub(super) http2: bool,
}

impl Demands<'_> {
    fn is_usual(&self) -> bool {
        self.roots.is_none() && self.identity.is_none() && !self.skip_verify && self.http2
    }
}

/// Agrees on TLS with the server that should be `host`.
pub(super) async fn handshake<S: Stream>(
    stream: S,
    host: &str,
    demands: &Demands<'_>,
) -> Result<TlsStream<S>, Fault> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Fault::new(Reason::TlsHandshake, format!("{host} is no name for TLS")))?;
    TlsConnector::from(config(demands)?)
        .connect(name, stream)
        .await
        .map_err(|error| fault(host, &error))
}

/// The usual one is built once, at the first https target; others are built for each handshake, which takes some
/// microseconds where the platform's roots have been read.
fn config(demands: &Demands<'_>) -> Result<Arc<ClientConfig>, Fault> {
    static USUAL: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    if demands.is_usual() {
        return USUAL
            .get_or_init(|| build(demands))
            .clone()
            .map_err(own_trouble);
    }
    build(demands).map_err(own_trouble)
}

fn own_trouble(why: String) -> Fault {
    Fault::new(
        Reason::ProberResources,
        format!("TLS cannot be set up here: {why}"),
    )
}

fn build(demands: &Demands<'_>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match demands.roots {
        _ if demands.skip_verify => Arc::new(AnyCertificate(Arc::clone(&provider))),
        Some(roots) => trusting(roots, &provider)?,
        None => platform(&provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match demands.identity {
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
        None => builder.with_no_client_auth(),
    };
    // A resumed session would skip the certificate, which is what is to be looked at.
    config.resumption = Resumption::disabled();
    if demands.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

/// The platform's own judge of certificates. Reading its roots takes milliseconds, hence once.
fn platform(provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    static PLATFORM: OnceLock<Result<Arc<dyn ServerCertVerifier>, String>> = OnceLock::new();
    PLATFORM
        .get_or_init(|| {
            rustls_platform_verifier::Verifier::new(Arc::clone(provider))
                .map(|verifier| Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
                .map_err(|error| format!("the trusted certificates cannot be read: {error}"))
        })
        .clone()
}

/// `ca_file`.
fn trusting(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| error.to_string())?;
    Ok(verifier)
}

/// `insecure_skip_verify`: any certificate, but its holder still has to have the key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What was agreed, in a few words.
pub(super) fn describe<S>(stream: &TlsStream<S>) -> String {
    let (_, session) = stream.get_ref();
    let version = session
        .protocol_version()
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    let application = match session.alpn_protocol() {
        Some(protocol) => String::from_utf8_lossy(protocol).into_owned(),
        None => "no ALPN".to_owned(),
    };
    format!("{version}, {application}")
}

fn fault(host: &str, error: &io::Error) -> Fault {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        let message = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the server closed the connection in the TLS handshake".to_owned()
            }
            _ => format!("TLS handshake: {error}"),
        };
        let reason = reason_of_io(error).unwrap_or(Reason::TlsHandshake);
        return Fault::new(reason, message);
    };
    let rustls::Error::InvalidCertificate(certificate) = tls else {
        return Fault::new(Reason::TlsHandshake, format!("TLS handshake: {tls}"));
    };
    let (reason, what) = match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (Reason::TlsExpired, "has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (Reason::TlsExpired, "is not valid yet")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Reason::TlsNameMismatch, "is for another name")
        }
        _ => (Reason::TlsUntrusted, "is not trusted"),
    };
    Fault::new(
        reason,
        format!("the certificate of {host} {what}: {certificate}"),
    )
}
