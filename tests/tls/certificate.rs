//! `fanline certificate` makes a certificate that clients accept once they are given it, for this machine's names.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use kit::program::run;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::test]
async fn a_certificate_for_development_is_accepted_for_the_names_of_this_machine() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificate");
    let _ = std::fs::remove_dir_all(&folder);
    let out = folder.to_str().expect("UTF-8");
    let (status, told, error) = run(&["certificate", "--out", out, "--name", "dev.example.com"], &[]);
    assert!(status.success(), "{error}");
    assert!(told.contains("dev.example.com") && told.contains("curl --cacert"), "{told}");
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let mode = std::fs::metadata(&key).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let before = std::fs::read(&key).expect("it is there");
    let (status, _, error) = run(&["certificate", "--out", out], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(error.contains("found one") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read(&key).expect("it is there"), before);
    for name in ["localhost", "127.0.0.1", "::1", "dev.example.com"] {
        check_handshake(&certificate, &key, name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    check_handshake(&certificate, &key, "evil.example").await.expect_err("not its name");

    let (status, _, error) = run(&["certificate", "--out", out, "--force"], &[]);
    assert!(status.success(), "{error}");
    assert_ne!(std::fs::read(&key).expect("it is there"), before);
    check_handshake(&certificate, &key, "localhost").await.expect("the new pair fits");
    let (status, _, error) = run(&["certificate", "--out", "/dev/null/folder"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(error.contains("/dev/null/folder"), "{error}");
}

/// A handshake of a client that trusts this certificate alone.
async fn check_handshake(certificate: &Path, key: &Path, name: &'static str) -> std::io::Result<()> {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let server = server.expect("versions").with_no_client_auth().with_single_cert(vec![certificate.clone()], key);
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let (ours, theirs) = tokio::io::duplex(1 << 14);
    let acceptor = TlsAcceptor::from(Arc::new(server.expect("a pair")));
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from(name).expect("a name");
    let (accepted, connected) = tokio::join!(acceptor.accept(theirs), connector.connect(name, ours));
    connected?;
    accepted.map(drop)
}
