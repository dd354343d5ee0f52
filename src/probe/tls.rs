//! TLS on a connection: against the platform's roots, or what the user trusts in their place.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Fault, reason_of_io};
use super::socket::Stream;
use crate::model::{Identity, Reason};

/// What a handshake is to demand and to offer.
#[derive(Clone, Copy, Default)]
pub(super) struct Demands<'a> {
    /// Trusted in place of the platform's roots.
    pub(super) roots: Option<&'a [CertificateDer<'static>]>,
    /// Shown when the server asks for a client's certificate.
    pub(super) identity: Option<&'a Identity>,
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
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| error.to_string())?,
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
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut store = RootCertStore::empty();
    // A bundle may hold what is no authority; the others count.
    store.add_parsable_certificates(roots.iter().cloned());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|error| format!("`ca_file` holds no usable certificate: {error}"))?;
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

/// The alert by which the server ended TLS, if it did.
pub(super) type Alert = Arc<OnceLock<AlertDescription>>;

/// Remembers the alert by which the server ends TLS. TLS 1.3 lets it refuse us after all was agreed from where we
/// stand: who writes meanwhile only learns that the connection is gone, and HTTP/2 forgets what an error was made of.
pub(super) struct LastWords<S> {
    stream: S,
    alert: Alert,
    /// Why nothing more can be written.
    broken: Option<io::Error>,
}

/// The server ended TLS after it was agreed, as TLS 1.3 does where it wants another certificate of ours.
pub(super) fn refused(alert: AlertDescription) -> Fault {
    Fault::new(
        Reason::TlsHandshake,
        format!("the server ended TLS: {alert:?}"),
    )
}

impl<S: Stream> LastWords<S> {
    pub(super) fn of(stream: S) -> (Self, Alert) {
        let alert = Alert::default();
        let words = Self {
            stream,
            alert: alert.clone(),
            broken: None,
        };
        (words, alert)
    }

    fn listen(&self, error: io::Error) -> io::Error {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            self.alert.set(*alert).ok();
        }
        error
    }

    /// Writes by `write`. Once that fails, what the server said before is still there to be read, and is waited for: a
    /// connection that is gone is always ready to be read.
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match ready!(write(Pin::new(&mut self.stream), cx)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => self.broken = Some(error),
            }
        }
        let mut byte = [0];
        let last = Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
        if let Err(last) = ready!(last) {
            self.listen(last);
        }
        let broken = self.broken.take();
        Poll::Ready(Err(broken.unwrap_or(io::ErrorKind::BrokenPipe.into())))
    }
}

impl<S: Stream> AsyncRead for LastWords<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(read.map_err(|error| self.listen(error)))
    }
}

impl<S: Stream> AsyncWrite for LastWords<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
