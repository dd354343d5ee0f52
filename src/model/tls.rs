//! Whom a TLS client trusts and who it is, from PEM. What is in here was looked at and can be used; opening the files
//! is the caller's.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

/// Largest file of PEM, bytes: four times the bundle of all roots that a platform trusts.
const MAX_PEM: u64 = 1024 * 1024;

/// What a TLS client is told beyond what the platform knows.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// The only authorities trusted; the platform's roots count when absent.
    pub authorities: Option<Pem>,
    /// Shown to a server that asks for it.
    pub identity: Option<Identity>,
}

/// PEM with at least one certificate, or one private key. Never shows itself.
#[derive(Clone)]
pub struct Pem(Vec<u8>);

impl Pem {
    /// Reads certificates.
    ///
    /// # Errors
    /// Why they cannot be used, to be read after the name of the file.
    pub fn certificates(file: impl Read) -> Result<Self, String> {
        let pem = Self::read(file)?;
        let certificates = pem.to_certificates()?;
        if certificates.is_empty() {
            return Err("holds no certificate in PEM".to_owned());
        }
        pem.to_roots()?;
        Ok(pem)
    }

    /// Every certificate in it as an authority.
    ///
    /// # Errors
    /// When one cannot be understood.
    pub fn to_roots(&self) -> Result<RootCertStore, String> {
        // What can be an authority can be read as a certificate: this is the most lenient of rustls' readers.
        let mut roots = RootCertStore::empty();
        for certificate in self.to_certificates()? {
            roots
                .add(certificate)
                .map_err(|_| "holds a certificate that cannot be understood")?;
        }
        Ok(roots)
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// Why it cannot be used, to be read after the name of the file.
    pub fn private_key(file: impl Read) -> Result<Self, String> {
        let pem = Self::read(file)?;
        pem.to_private_key()?;
        Ok(pem)
    }

    fn read(file: impl Read) -> Result<Self, String> {
        let mut bytes = Vec::new();
        file.take(MAX_PEM + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > MAX_PEM {
            return Err(format!("is larger than {MAX_PEM} bytes"));
        }
        Ok(Self(bytes))
    }

    /// The text itself, for the one place that uses it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Every certificate in it.
    ///
    /// # Errors
    /// When one is no PEM inside.
    pub fn to_certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(&self.0)
            .collect::<Result<_, _>>()
            .map_err(|_| "holds broken PEM".to_owned())
    }

    /// The first private key in it.
    ///
    /// # Errors
    /// When there is none.
    pub fn to_private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.0).map_err(|_| {
            "holds no private key in PEM (one under a passphrase does not count)".to_owned()
        })
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A certificate, with the chain above it, and its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: Pem,
    key: Pem,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Puts both together.
    ///
    /// # Errors
    /// Why they cannot be used, to be read after the name of the key's file.
    pub fn new(certificate: Pem, key: Pem) -> Result<Self, String> {
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(
            certificate.to_certificates()?,
            key.to_private_key()?,
            &provider,
        ) {
            Ok(certified) => Ok(Self {
                certificate,
                key,
                certified: Arc::new(certified),
            }),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err("holds the key of another certificate".to_owned())
            }
            Err(error) => Err(format!("cannot be used with the certificate: {error}")),
        }
    }

    /// The certificate and its chain.
    pub fn certificate(&self) -> &Pem {
        &self.certificate
    }

    /// Both, ready to be used.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The private key.
    pub fn key(&self) -> &Pem {
        &self.key
    }
}
