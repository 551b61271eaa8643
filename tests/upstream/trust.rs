//! A feed over TLS: reached if its certificate is trusted, refused with the reason if it is not.

use std::process::{Command, Output};
use std::sync::Arc;

use futures_util::SinkExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_over_tls_is_reached_if_its_certificate_is_trusted() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
    let trusted = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("trusted.pem");
    std::fs::write(&trusted, cert.pem()).expect("a writable file");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("wss://localhost:{}/feed", listener.local_addr().expect("an address").port());
    tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));

    let trusting = probe(&url, Some(&trusted)).await;
    let report = String::from_utf8_lossy(&trusting.stdout);
    assert!(trusting.status.success(), "{report}{}", String::from_utf8_lossy(&trusting.stderr));
    assert!(report.contains("EURUSD"), "{report}");

    let wary = probe(&url, None).await;
    let told = String::from_utf8_lossy(&wary.stderr);
    assert_eq!(wary.status.code(), Some(1), "{told}");
    assert!(told.contains("error: no connection to `wss://localhost:") && told.contains("UnknownIssuer"), "{told}");
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((socket, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust the certificate ends the handshake.
            let Ok(socket) = acceptor.accept(socket).await else { return };
            let mut socket = accept_async(socket).await.expect("a handshake");
            let quotes = (0..40).map(|n| Message::text(format!(r#"{{"s":"EURUSD","p":1.{n}}}"#)));
            for quote in quotes {
                socket.send(quote).await.expect("a reader");
            }
            std::future::pending::<()>().await
        });
    }
}

async fn probe(url: &str, trusted: Option<&std::path::Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanline"));
    command.args(["probe", url, "--seconds", "1"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANLINE_")) {
        command.env_remove(name);
    }
    if let Some(trusted) = trusted {
        command.env("SSL_CERT_FILE", trusted);
    }
    tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.expect("no panic")
}
