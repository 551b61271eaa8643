//! TLS to the feed: which certificates are trusted, and which one fanline shows.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

/// Longer files hold no certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no TLS. No error shows a key.
#[derive(Debug, thiserror::Error)]
pub enum FeedTlsError {
    #[error("cannot set up TLS: {0}")]
    Settings(#[from] rustls::Error),
    #[error("upstream.client_certificate: expected a readable file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("upstream.client_certificate: expected {expected} in PEM in `{}`, found none or a malformed one", .path.display())]
    Malformed { path: PathBuf, expected: &'static str },
    #[error("upstream.client_certificate: expected a certificate and its own key, found in `{files}`: {error}")]
    Mismatch { files: String, error: rustls::Error },
}

/// What is in force.
pub(crate) struct FeedTls {
    /// Of the certificate, as `CHAIN:KEY` or one file with both; none: the feed sees none.
    files: Option<String>,
    provider: Arc<CryptoProvider>,
    /// Without a certificate.
    anonymous: Arc<ClientConfig>,
    /// The last that could be used.
    identified: ArcSwap<ClientConfig>,
}

impl FeedTls {
    /// This machine's roots count as well as Mozilla's.
    pub(crate) fn new(files: Option<String>) -> Result<FeedTls, FeedTlsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let (_, unreadable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if unreadable > 0 {
            tracing::warn!(unreadable, "some of this machine's root certificates could not be read");
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let anonymous = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let tls = FeedTls { files, provider, identified: ArcSwap::new(anonymous.clone()), anonymous };
        tls.read_files()?;
        Ok(tls)
    }

    pub(super) fn shows_certificate(&self) -> bool {
        self.files.is_some()
    }

    pub(super) fn anonymous(&self) -> Arc<ClientConfig> {
        self.anonymous.clone()
    }

    /// With the certificate that is in the files now. If they cannot be used, with the former one. Waits for the disk.
    pub(super) fn identified(&self) -> Arc<ClientConfig> {
        if let Err(error) = self.read_files() {
            tracing::error!(%error, "the certificate for the feed cannot be used, so the former one stays in force");
        }
        self.identified.load_full()
    }

    fn read_files(&self) -> Result<(), FeedTlsError> {
        let Some(files) = &self.files else { return Ok(()) };
        let (chain_file, key_file) = files.split_once(':').unwrap_or((files, files));
        let (chain_file, key_file) = (Path::new(chain_file), Path::new(key_file));
        let malformed = |path: &Path, expected| FeedTlsError::Malformed { path: path.into(), expected };
        let chain = CertificateDer::pem_slice_iter(&read(chain_file)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| malformed(chain_file, "a certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key_file)?);
        let key = key.map_err(|_| malformed(key_file, "a private key without a password"))?;
        let certified = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|error| FeedTlsError::Mismatch { files: files.clone(), error })?;
        let mut config = ClientConfig::clone(&self.anonymous);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        self.identified.store(Arc::new(config));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FeedTlsError> {
    let unreadable = |error| FeedTlsError::Unreadable { path: path.into(), error };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pem() -> String {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["fanline".to_string()]).expect("a name");
        params.self_signed(&key).expect("signed").pem() + &key.serialize_pem()
    }

    #[test]
    fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let file = std::env::temp_dir().join(format!("fanline-feed-{}-{moment}.pem", std::process::id()));
        let write = |text: &str| std::fs::write(&file, text).expect("a writable folder");
        write(&pem());
        let tls = FeedTls::new(Some(file.to_str().expect("UTF-8").into())).expect("a certificate and its key");
        let certificate = |config: Arc<ClientConfig>| {
            let schemes = [rustls::SignatureScheme::ECDSA_NISTP256_SHA256];
            let resolved = config.client_auth_cert_resolver.resolve(&[], &schemes);
            resolved.map(|certified| certified.cert[0].to_vec())
        };
        let first = certificate(tls.identified()).expect("one is shown");
        write(&pem());
        let second = certificate(tls.identified()).expect("one is shown");
        assert_ne!(first, second);
        write("-----BEGIN CERTIFICATE-----\nhalf");
        assert_eq!(certificate(tls.identified()), Some(second));
        assert_eq!(certificate(tls.anonymous()), None);
        let files = Some(file.to_str().expect("UTF-8").to_string());
        let error = FeedTls::new(files).err().expect("half a certificate").to_string();
        assert!(error.contains("upstream.client_certificate") && error.contains("in PEM"), "{error}");
        std::fs::remove_file(&file).expect("it is there");
    }
}
