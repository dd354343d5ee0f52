//! Certificates, good and bad, made anew for every run.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::case::Certificate;

type Authority = Issuer<'static, KeyPair>;

/// Who signs what is not untrusted, and the file of its certificate, which the program gets as `SSL_CERT_FILE`.
pub(super) fn authority() -> &'static (Authority, NamedTempFile) {
    static AUTHORITY: OnceLock<(Authority, NamedTempFile)> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let issuer = new_authority();
        let certificate = authority_params().self_signed(issuer.key()).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        (issuer, file)
    })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "mcpprobe tests");
    params
}

fn new_authority() -> Authority {
    Issuer::new(authority_params(), KeyPair::generate().unwrap())
}

/// A server for `localhost` with this certificate.
pub(super) fn acceptor(kind: Certificate) -> TlsAcceptor {
    let name = if kind == Certificate::OtherName {
        "other.example"
    } else {
        "localhost"
    };
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    let stranger = new_authority();
    let mut issuer = &authority().0;
    match kind {
        Certificate::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Certificate::EndsSoon => {
            let now = UNIX_EPOCH.elapsed().unwrap();
            params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(5 * 24 * 3600);
        }
        Certificate::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
        Certificate::Untrusted => issuer = &stranger,
        Certificate::Good | Certificate::OtherName => {}
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
