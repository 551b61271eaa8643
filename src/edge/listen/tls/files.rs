//! The files of TLS: read and checked together, and again when one of them changes. What cannot be used leaves the
//! former ones in force.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::edge::listen::tls::certificate::{CertificateChoice, ServerCertificate, certificates};
use crate::edge::listen::tls::tickets::TicketKeys;
use crate::edge::settings::{Settings, TlsSettings};
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// Longer files hold no certificates: 64 chains of four with RSA keys fit.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why the files cannot be used. No error shows a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("expected a readable file, found `{}`: {error}; check the files of [tls], the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("expected a file of at most 1 MiB, found `{}`; check the path", .path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: expected a valid certificate in PEM, found {found}; put the server's certificate first, its issuers behind it", .path.display())]
    Certificate { path: PathBuf, found: String },
    #[error("{}: expected a private key in PEM (PKCS#8, SEC1 or PKCS#1, without a password), found {found}", .path.display())]
    Key { path: PathBuf, found: String },
    #[error("expected the key of `{}`, found another one in `{}`; write files that belong together", .chain.display(), .key.display())]
    Mismatch { chain: PathBuf, key: PathBuf },
    #[error("{}: expected 1 to {max} keys of 64 hexadecimal digits, found something else in line {line}; make one with `openssl rand -hex 32`", .path.display())]
    TicketKey { path: PathBuf, line: usize, max: usize },
    #[error("{}: expected certificates of issuers of clients, found {found}", .path.display())]
    ClientCa { path: PathBuf, found: String },
    #[error("expected usable TLS settings, found: {0}")]
    Settings(#[from] rustls::Error),
    #[error("expected a certificate for the listener, found none in tls.certificates; write `[\"CHAIN.pem:KEY.pem\"]`")]
    NoCertificate,
}

/// Reads a file that may be anything, a pipe excepted.
pub(in crate::edge) fn read_file(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let unreadable = |error| TlsFileError::Unreadable { path: path.into(), error };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(TlsFileError::TooLarge { path: path.into() }) } else { Ok(bytes) }
}

/// What is in force.
pub struct TlsFiles {
    settings: ArcSwap<TlsSettings>,
    config: ArcSwap<ServerConfig>,
    /// Without a file of keys: keys of this process.
    own_tickets: Arc<dyn ProducesTickets>,
    /// The files as they were when they were last looked at.
    seen: Mutex<Vec<FileMark>>,
    /// Names of the certificates in force.
    names: Mutex<Vec<String>>,
    meters: Meters,
}

/// Files that were read again and can be used.
pub struct ReadFiles {
    settings: Arc<TlsSettings>,
    marks: Vec<FileMark>,
    config: Arc<ServerConfig>,
    certificates: Arc<CertificateChoice>,
}

/// When a file changed; none if it cannot be read. A symbolic link counts as what it leads to.
type FileMark = Option<(SystemTime, u64)>;

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used.
    fn load(settings: TlsSettings, meters: &Meters) -> Result<TlsFiles, TlsFileError> {
        let own_tickets = ring::Ticketer::new()?;
        let seen = Mutex::new(marks(&settings));
        let (config, certificates) = read(&settings, &own_tickets)?;
        for certificate in certificates.0.iter().filter(|certificate| certificate.is_rsa) {
            tracing::warn!(
                certificate = certificate.name,
                "the key is RSA, and each handshake costs six times as much as with ECDSA P-256; \
                 ask for a certificate with an ECDSA key"
            );
        }
        let (settings, config) = (ArcSwap::from_pointee(settings), ArcSwap::new(config));
        let files = TlsFiles { settings, config, own_tickets, seen, names: Mutex::default(), meters: meters.clone() };
        files.report(&certificates);
        Ok(files)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Whether clients show certificates of their own.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.settings.load().client_ca.is_some()
    }

    /// Reads the files again if one has changed since they were last read. If one of them cannot be used, the former ones
    /// stay in force; connections stay in any case.
    pub(in crate::edge) fn reload_if_changed(&self) {
        let settings = self.settings.load_full();
        let now = marks(&settings);
        // What cannot be used is said once.
        if std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now.clone()) == now {
            return;
        }
        match self.read_again(settings) {
            Ok(files) => {
                self.put_in_force(files);
                tracing::info!("the files of [tls] were read again");
            }
            Err(error) => {
                tracing::error!(%error, "the files of [tls] cannot be used, so the former ones stay in force")
            }
        }
    }

    /// Reads the files that these settings name, and changes nothing yet.
    pub fn read_again(&self, settings: Arc<TlsSettings>) -> Result<ReadFiles, TlsFileError> {
        let marks = marks(&settings);
        let (config, certificates) = read(&settings, &self.own_tickets)?;
        Ok(ReadFiles { settings, marks, config, certificates })
    }

    pub fn put_in_force(&self, files: ReadFiles) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = files.marks;
        self.settings.store(files.settings);
        self.config.store(files.config);
        self.report(&files.certificates);
    }

    /// When the certificates expire. One that is gone never does.
    fn report(&self, certificates: &CertificateChoice) {
        let gauge = |name: &str| self.meters.gauge(&names::TLS_NOT_AFTER, &[("name", name)]);
        let now = certificates.0.iter().map(|certificate| certificate.name.clone()).collect();
        let before = std::mem::replace(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner), now);
        before.iter().for_each(|name| gauge(name).set(f64::INFINITY));
        for certificate in &certificates.0 {
            gauge(&certificate.name).set(certificate.not_after as f64);
        }
    }
}

impl Settings {
    /// The files of `[tls]`; none if no listener speaks TLS.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load_tls(&self, meters: &Meters) -> Result<Option<Arc<TlsFiles>>, TlsFileError> {
        let speaks_tls = self.listen.iter().any(|address| address.tls);
        speaks_tls.then(|| TlsFiles::load(self.tls.clone(), meters).map(Arc::new)).transpose()
    }

    /// Names of the certificates, and when each ends, Unix time in seconds.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn certificate_ends(&self) -> Result<Vec<(String, u64)>, TlsFileError> {
        let provider = provider();
        let load = |files: &String| ServerCertificate::load(files, &provider);
        let ends = |certificate: ServerCertificate| (certificate.name, certificate.not_after);
        self.tls.certificates.iter().map(|files| load(files).map(ends)).collect()
    }
}

fn marks(settings: &TlsSettings) -> Vec<FileMark> {
    let pairs = settings.certificates.iter().flat_map(|files| {
        let (chain, key) = files.split_once(':').unwrap_or((files, files));
        [chain, key]
    });
    let others = [&settings.client_ca, &settings.ticket_key_file].into_iter().flatten().map(String::as_str);
    let mark = |path: &str| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    pairs.chain(others).map(mark).collect()
}

fn read(
    settings: &TlsSettings,
    own_tickets: &Arc<dyn ProducesTickets>,
) -> Result<(Arc<ServerConfig>, Arc<CertificateChoice>), TlsFileError> {
    let provider = Arc::new(provider());
    let load = |files: &String| ServerCertificate::load(files, &provider);
    let chosen = settings.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    if chosen.is_empty() {
        return Err(TlsFileError::NoCertificate);
    }
    let choice = Arc::new(CertificateChoice(chosen));
    let versions: &[&SupportedProtocolVersion] = if settings.allows_tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match &settings.client_ca {
        Some(path) => builder.with_client_cert_verifier(client_verifier(Path::new(path), &provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(choice.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // As the provider lists them: the cheapest first.
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.ticketer = match &settings.ticket_key_file {
        Some(path) => Arc::new(TicketKeys::load(Path::new(path))?),
        None => own_tickets.clone(),
    };
    // The keys go to the shard with the socket.
    config.enable_secret_extraction = true;
    Ok((Arc::new(config), choice))
}

/// That of ring, with the ciphers first whose keys cost least: a handshake with SHA-256 hashes in a quarter of the time of
/// SHA-384.
fn provider() -> CryptoProvider {
    use CipherSuite as Suite;
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        Suite::TLS13_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    });
    provider
}

fn client_verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsFileError> {
    let unusable = |found: String| TlsFileError::ClientCa { path: path.into(), found };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    verifier.map_err(|error| unusable(error.to_string()))
}
