//! One GET of a JWK Set: a fixed address, no redirects, bounded in bytes and time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// The largest sets of public issuers have about 20 KiB.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer. Shows only what the operator configured, and numbers.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the host has no address: {0}")]
    Unresolved(io::Error),
    #[error("http:// is allowed only to this machine, and the host has another address; use https://")]
    NotLoopback,
    #[error("could not connect: {0}")]
    Connect(io::Error),
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("the answer is no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("it answers with status {0}, and redirects are not followed; configure the address that has the keys")]
    Redirect(u16),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("the answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the answer is not UTF-8")]
    NotText,
}

/// Whether keys may be fetched from there: encrypted, or from this machine.
pub(in crate::identity) fn is_allowed(url: &Url) -> bool {
    let is_local = || match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let has_no_secret = url.username().is_empty() && url.password().is_none();
    has_no_secret && url.has_host() && (url.scheme() == "https" || (url.scheme() == "http" && is_local()))
}

/// This machine's roots count as well as Mozilla's.
pub(in crate::identity) fn tls_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// The text behind the address. Name, TCP, TLS and the whole answer share one deadline.
pub(super) async fn fetch(url: &Url, tls: &Arc<ClientConfig>, timeout: Duration) -> Result<String, FetchError> {
    match tokio::time::timeout(timeout, fetch_whole(url, tls)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::Timeout(timeout)),
    }
}

async fn fetch_whole(url: &Url, tls: &Arc<ClientConfig>) -> Result<String, FetchError> {
    let stream = connect(url).await?;
    let (response, _connection) = match (url.scheme(), url.host_str()) {
        ("https", Some(host)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(|error| FetchError::Tls(io::Error::other(error)))?;
            let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(FetchError::Tls)?;
            ask(url, stream).await?
        }
        _ => ask(url, stream).await?,
    };
    match response.status().as_u16() {
        200 => {}
        status @ 300..=399 => return Err(FetchError::Redirect(status)),
        status => return Err(FetchError::Status(status)),
    }
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    String::from_utf8(bytes).map_err(|_| FetchError::NotText)
}

async fn connect(url: &Url) -> Result<TcpStream, FetchError> {
    let unresolved = |error| FetchError::Unresolved(error);
    let found = match (url.host(), url.port_or_known_default()) {
        (Some(Host::Domain(name)), Some(port)) => {
            tokio::net::lookup_host((name, port)).await.map_err(unresolved)?.collect()
        }
        (Some(Host::Ipv4(address)), Some(port)) => vec![(address, port).into()],
        (Some(Host::Ipv6(address)), Some(port)) => vec![(address, port).into()],
        _ => Vec::new(),
    };
    if url.scheme() == "http" && found.iter().any(|address: &std::net::SocketAddr| !address.ip().is_loopback()) {
        return Err(FetchError::NotLoopback);
    }
    let mut last = FetchError::Unresolved(io::ErrorKind::NotFound.into());
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = FetchError::Connect(error),
        }
    }
    Err(last)
}

/// The task that drives a connection, ended with the answer or the deadline.
struct FetchConnection(JoinHandle<hyper::Result<()>>);

impl Drop for FetchConnection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask<S>(url: &Url, stream: S) -> Result<(Response<Incoming>, FetchConnection), FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = FetchConnection(tokio::spawn(connection));
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("fanline/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .expect("a URL has a path and a host that are fit for a request");
    Ok((sender.send_request(request).await?, connection))
}
