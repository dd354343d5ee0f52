//! TLS on a connection, against the platform's roots.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Fault, reason_of_io};
use crate::model::Reason;

/// Built once, at the first https target: reading the platform's roots takes milliseconds.
fn config() -> Result<Arc<ClientConfig>, Fault> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .and_then(|builder| builder.with_platform_verifier())
                .map_err(|error| error.to_string())?
                .with_no_client_auth();
            // A resumed session would skip the certificate, which is what is to be looked at.
            config.resumption = Resumption::disabled();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        })
        .clone()
        .map_err(|error| {
            Fault::new(
                Reason::ProberResources,
                format!("this machine's trusted certificates cannot be read: {error}"),
            )
        })
}

/// Agrees on TLS with the server that should be `host`.
pub(super) async fn handshake(
    stream: TcpStream,
    host: &str,
) -> Result<TlsStream<TcpStream>, Fault> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Fault::new(Reason::TlsHandshake, format!("{host} is no name for TLS")))?;
    TlsConnector::from(config()?)
        .connect(name, stream)
        .await
        .map_err(|error| fault(host, &error))
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
