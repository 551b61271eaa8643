//! Certificates of a test's own, in files.

use std::path::PathBuf;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};

/// A self-signed certificate and its key.
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl CertificateFiles {
    /// As `tls.certificates` takes them.
    pub fn pair(&self) -> String {
        format!("{}:{}", self.certificate.display(), self.key.display())
    }

    /// Lets a client program trust it: Python and OpenSSL, Node, and the scripts that drive browsers.
    pub fn trust(&self, command: &mut Command) {
        command.env("SSL_CERT_FILE", &self.certificate).env("NODE_EXTRA_CA_CERTS", &self.certificate);
    }

    /// What a client trusts.
    pub fn der(&self) -> Vec<u8> {
        use tokio_rustls::rustls::pki_types::CertificateDer;
        use tokio_rustls::rustls::pki_types::pem::PemObject;
        CertificateDer::from_pem_file(&self.certificate).expect("a certificate").to_vec()
    }
}

/// Writes files for these names; the first words of the file names are `stem`. Overwrites its predecessor.
pub fn write(stem: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names).and_then(|params| params.self_signed(&key)).expect("signed");
    let folder = super::scratch();
    let files = CertificateFiles {
        certificate: folder.join(format!("{stem}-certificate.pem")),
        key: folder.join(format!("{stem}-key.pem")),
    };
    std::fs::write(&files.certificate, certificate.pem()).expect("a writable file");
    std::fs::write(&files.key, key.serialize_pem()).expect("a writable file");
    files
}
