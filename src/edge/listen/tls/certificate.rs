//! A certificate with its key, from files, and which of several a client gets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::edge::listen::tls::files::{TlsFileError, read_file};

/// What a session keeps of its client's certificate; most subjects have less than 100 bytes.
const SUBJECT_BYTES_MAX: usize = 256;

/// One of `tls.certificates`, checked.
pub(in crate::edge) struct ServerCertificate {
    key: Arc<CertifiedKey>,
    /// Its subject, or the setting if it has none.
    pub name: String,
    /// End of its validity, Unix time in seconds.
    pub not_after: u64,
    pub is_rsa: bool,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Reads `CHAIN:KEY`, or one file with both.
    pub(crate) fn load(files: &str, provider: &CryptoProvider) -> Result<ServerCertificate, TlsFileError> {
        let (chain_file, key_file) = files.split_once(':').unwrap_or((files, files));
        let (chain_file, key_file) = (Path::new(chain_file), Path::new(key_file));
        let chain = certificates(chain_file)?;
        let bad_key = |found: String| TlsFileError::Key { path: key_file.into(), found };
        let key = PrivateKeyDer::from_pem_slice(&read_file(key_file)?).map_err(|error| match error {
            pem::Error::NoItemsFound => bad_key("none".into()),
            _ => bad_key("a malformed one".into()),
        })?;
        let certified = CertifiedKey::from_der(chain.clone(), key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsFileError::Mismatch { chain: chain_file.into(), key: key_file.into() }
            }
            // What rustls says of a key holds nothing of it.
            error => bad_key(error.to_string()),
        })?;
        let malformed = |found: String| TlsFileError::Certificate { path: chain_file.into(), found };
        let parsed = Certificate::from_der(&chain[0]).map_err(|error| malformed(error.to_string()))?;
        let certificate = parsed.tbs_certificate();
        let not_after = certificate.validity().not_after.to_unix_duration().as_secs();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        if not_after < now {
            let days = (now - not_after) / 86_400;
            return Err(malformed(format!("one that expired {days} days ago")));
        }
        let subject = certificate.subject().to_string();
        let name = if subject.is_empty() { files.into() } else { subject };
        let is_rsa = certified.key.algorithm() == SignatureAlgorithm::RSA;
        Ok(ServerCertificate { key: Arc::new(certified), name, not_after, is_rsa })
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.key.end_entity_cert().and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }

    /// Whether the client can check signatures of the key.
    fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }
}

/// The subject of a certificate that was verified; the certificate's hash, if it has none.
pub(in crate::edge) fn subject_of(certificate: &CertificateDer<'_>) -> String {
    let parsed = Certificate::from_der(certificate).ok();
    let subject = parsed.map(|parsed| parsed.tbs_certificate().subject().to_string()).unwrap_or_default();
    match subject.is_empty() {
        true => format!("sha256:{}", hex::encode(Sha256::digest(certificate))),
        false => subject[..subject.floor_char_boundary(SUBJECT_BYTES_MAX)].into(),
    }
}

/// All certificates of a PEM file, at least one.
pub(in crate::edge) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bytes = read_file(path)?;
    let malformed = |found: String| TlsFileError::Certificate { path: path.into(), found };
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| malformed("a malformed one".into()))?;
    if chain.is_empty() { Err(malformed("none".into())) } else { Ok(chain) }
}

/// Chooses by the name that the client asks for (SNI), wildcards included, and by the signatures that it knows. If none
/// has the name, the first one that suits is shown.
#[derive(Debug)]
pub(in crate::edge) struct CertificateChoice(pub(crate) Vec<ServerCertificate>);

impl ResolvesServerCert for CertificateChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let suiting = || self.0.iter().filter(|certificate| certificate.suits(hello.signature_schemes()));
        let named = name.and_then(|name| suiting().find(|certificate| certificate.is_for(&name)));
        named.or_else(|| suiting().next()).map(|certificate| certificate.key.clone())
    }
}
