//! TLS of the clients: whom they trust, and what they ask for.
//!
//! Each client carries out a full handshake, as so many browsers would: none resumes the session of another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::BenchError;

/// Whose certificate counts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// That of an issuer whom this machine or Mozilla trusts, or of one in this file.
    Issuers { ca: Option<PathBuf> },
    /// Anyone's. Neither the certificate nor the signature of the handshake is checked.
    Anyone,
}

/// TLS with one server.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// For the server of this name, without brackets around an IPv6 address.
    ///
    /// Errors: no certificate can have this name, or the file of issuers cannot be used.
    pub fn new(host: &str, trust: &Trust) -> Result<ClientTls, BenchError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| BenchError::ServerName { found: host.into() })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions");
        let builder = match trust {
            Trust::Issuers { ca } => builder.with_root_certificates(roots(ca.as_deref())?),
            Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsAnyone(provider))),
        };
        let mut config = builder.with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ClientTls { config: Arc::new(config), name })
    }

    /// A connection whose handshake has not begun.
    pub fn connection(&self) -> ClientConnection {
        ClientConnection::new(self.config.clone(), self.name.clone()).expect("the configuration suits a client")
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, BenchError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let unusable = |found: String| BenchError::Ca { path: path.into(), found };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
        let mut count = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(unusable("none".into()));
        }
    }
    Ok(roots)
}

#[derive(Debug)]
struct TrustsAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
