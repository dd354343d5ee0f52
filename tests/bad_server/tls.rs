//! Certificates, good and bad, made anew for every run.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::case::{Case, Certificate};

type Authority = (Issuer<'static, KeyPair>, NamedTempFile);

/// Who signs what is not untrusted, and the file of its certificate, which the program gets as `SSL_CERT_FILE`.
pub(super) fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| new_authority("mcpprobe tests"))
}

/// Who signs what is untrusted.
pub(super) fn stranger() -> &'static Authority {
    static STRANGER: OnceLock<Authority> = OnceLock::new();
    STRANGER.get_or_init(|| new_authority("a stranger"))
}

/// Files of a certificate that a client can show, and of its key.
pub(super) fn client() -> &'static (NamedTempFile, NamedTempFile) {
    static CLIENT: OnceLock<(NamedTempFile, NamedTempFile)> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let params = CertificateParams::new(["client".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority().0).unwrap();
        (file(&certificate.pem()), file(&key.serialize_pem()))
    })
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn new_authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), file(&certificate.pem()))
}

/// The server's side of a case's TLS, if it has any; the certificate is for `localhost`.
pub(super) fn acceptor(case: &Case) -> Option<TlsAcceptor> {
    let kind = case.tls?;
    let name = if kind == Certificate::OtherName {
        "other.example"
    } else {
        "localhost"
    };
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    let mut issuer = &authority().0;
    match kind {
        Certificate::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Certificate::EndsSoon => {
            let now = UNIX_EPOCH.elapsed().unwrap();
            params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(5 * 24 * 3600);
        }
        Certificate::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
        Certificate::Untrusted => issuer = &stranger().0,
        Certificate::Good | Certificate::OtherName => {}
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = if case.tls12 {
        &[&rustls::version::TLS12][..]
    } else {
        rustls::ALL_VERSIONS
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = if case.wants_certificate {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(authority().1.path()).unwrap();
        roots.add(root).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    if case.http2 {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Some(TlsAcceptor::from(Arc::new(config)))
}
