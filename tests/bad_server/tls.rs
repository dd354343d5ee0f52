//! Certificates, good and bad, made anew for every run.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::case::Certificate;

/// Signs what is not untrusted; the program gets it as `SSL_CERT_FILE`.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) file: NamedTempFile,
}

impl Authority {
    pub(super) fn get() -> &'static Self {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        AUTHORITY.get_or_init(|| {
            let (params, key) = (ca_params(), KeyPair::generate().unwrap());
            let mut file = NamedTempFile::new().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            file.write_all(certificate.pem().as_bytes()).unwrap();
            let issuer = Issuer::new(params, key);
            Self { issuer, file }
        })
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "mcpprobe tests");
    params
}

/// A server for `localhost` with this certificate.
pub(super) fn acceptor(kind: Certificate) -> TlsAcceptor {
    let name = match kind {
        Certificate::OtherName => "other.example",
        _ => "localhost",
    };
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    match kind {
        Certificate::Expired => {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        Certificate::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
        Certificate::Good | Certificate::Untrusted | Certificate::OtherName => {}
    }
    let key = KeyPair::generate().unwrap();
    let certificate = match kind {
        Certificate::Untrusted => {
            let stranger = Issuer::new(ca_params(), KeyPair::generate().unwrap());
            params.signed_by(&key, &stranger)
        }
        _ => params.signed_by(&key, &Authority::get().issuer),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.unwrap().der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
