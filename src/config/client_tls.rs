//! `ca_file`, `cert_file` and `key_file`, judged.

use std::fs::File;

use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::Typed;
use super::substitute::Sources;
use crate::model::{ClientTls, Identity, Pem};

/// The three keys, as they were typed.
pub(super) struct TlsFiles<'a> {
    /// Keys that are there, whatever their type.
    pub(super) given: &'a [&'static str],
    pub(super) ca_file: Option<&'a Typed<String>>,
    pub(super) cert_file: Option<&'a Typed<String>>,
    pub(super) key_file: Option<&'a Typed<String>>,
}

impl TlsFiles<'_> {
    /// Reads the files.
    pub(super) fn check(&self, sources: &Sources<'_>, out: &mut Findings) -> ClientTls {
        let mut pem = |file: Option<&Typed<String>>, key, read: fn(File) -> Result<Pem, String>| {
            let file = file?;
            let path = sources.folder.join(out.substitute(file, sources)?.value);
            let read = File::open(path)
                .map_err(|error| format!("cannot be read: {error}"))
                .and_then(read);
            read.map_err(|why| out.error(unusable(file, key, why))).ok()
        };
        let authorities = pem(self.ca_file, "ca_file", Pem::certificates);
        let certificate = pem(self.cert_file, "cert_file", Pem::certificates);
        let private_key = pem(self.key_file, "key_file", Pem::private_key);
        for (file, other) in [(self.cert_file, "key_file"), (self.key_file, "cert_file")] {
            if let Some(file) = file
                && !self.given.contains(&other)
            {
                out.error(Complaint::at(
                    file.span.clone(),
                    format!("`{other}` is missing"),
                    "a client's certificate and its key are needed together",
                ));
            }
        }
        let identity = certificate.zip(private_key).and_then(|(certificate, key)| {
            let file = self.key_file?;
            Identity::new(certificate, key)
                .map_err(|why| out.error(unusable(file, "key_file", why)))
                .ok()
        });
        ClientTls {
            authorities,
            identity,
        }
    }
}

fn unusable(file: &Typed<String>, key: &str, why: String) -> Complaint {
    // The path is not told: where PEM was typed or put in instead of a path, it is the secret itself.
    Complaint::at(
        file.span.clone(),
        format!("the file of `{key}` cannot be used"),
        format!("it {why}"),
    )
    .help("a file in PEM; a relative path starts at the folder of this file")
}
