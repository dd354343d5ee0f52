//! Certificates made anew for every test that needs them.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A folder with `ca.pem`, and signed by it `server.pem` (for `localhost`) and `client.pem` with their `.key`s.
pub(crate) struct Certificates {
    pub(crate) folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "mcpprobe tests");
        let write =
            |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        for (name, host) in [("server", "localhost"), ("client", "client.example")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
