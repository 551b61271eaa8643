//! Opens one WebSocket connection to the upstream: TCP, TLS, handshake, all within one deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::{Host, Url};

use super::loss::Loss;

pub type Socket = WebSocketStream<MaybeTlsStream<Watched>>;

/// Why a text cannot be the upstream's URL. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("expected a URL such as `wss://host/path`, found `{found}`; write `{remedy}`")]
    Scheme { found: String, remedy: String },
    #[error("expected a URL such as `wss://host/path`, found `{found}`: {error}")]
    Unreadable { found: String, error: String },
}

/// A URL that a WebSocket may be at.
#[derive(Clone, Debug)]
pub struct Target {
    url: Url,
}

impl Target {
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let found = text.split('?').next().unwrap_or_default().to_string();
        let instead = |scheme: &str, rest: &str| {
            let remedy = format!("{scheme}://{rest}");
            Err(TargetError::Scheme { found: found.clone(), remedy })
        };
        let Some((scheme, rest)) = found.split_once("://") else { return instead("wss", &found) };
        match scheme.to_ascii_lowercase().as_str() {
            "ws" | "wss" => {}
            "http" => return instead("ws", rest),
            _ => return instead("wss", rest),
        }
        let url = Url::parse(text).map_err(|error| TargetError::Unreadable { found, error: error.to_string() })?;
        Ok(Target { url })
    }

    /// Checks a URL that may still hold placeholders.
    pub fn check(text: &str) -> Result<(), TargetError> {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            plain.push_str(before);
            plain.push('x');
            rest = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        plain.push_str(rest);
        Target::parse(&plain).map(|_| ())
    }

    /// Without what may be secret: user, password and query.
    pub fn shown(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", self.url.scheme(), self.host(), self.url.path())
    }

    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn is_tls(&self) -> bool {
        self.url.scheme() == "wss"
    }
}

/// Everything needed to connect again and again.
#[derive(Clone)]
pub struct Dialer {
    timeout: Duration,
    tls: Arc<ClientConfig>,
    limits: WebSocketConfig,
}

/// One place to connect to, and what to say at its door.
#[derive(Clone, Debug)]
pub struct Door {
    pub target: Target,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Dialer {
    /// For TLS the roots of this machine count as well as Mozilla's.
    pub fn new(timeout: Duration, message_bytes_max: usize) -> Result<Dialer, rustls::Error> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            // Requests are small and rare: none waits for another.
            .write_buffer_size(0);
        Ok(Dialer { timeout, tls: Arc::new(tls_config()?), limits })
    }

    pub async fn connect(self, door: Door) -> Result<Socket, Loss> {
        let attempt = tokio::time::timeout(self.timeout, self.attempt(&door));
        let late = || Err(Loss::ConnectTimeout { host: door.target.host().to_string(), after: self.timeout });
        attempt.await.unwrap_or_else(|_| late())
    }

    async fn attempt(&self, door: &Door) -> Result<Socket, Loss> {
        let target = &door.target;
        let url = &target.url;
        let host = || target.host().to_string();
        let port = url.port_or_known_default().unwrap_or(443);
        let stream = match url.host() {
            Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
            Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
            Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
            None => Err(std::io::Error::from(std::io::ErrorKind::AddrNotAvailable)),
        };
        let stream = stream
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| Loss::Unreachable { host: host(), error })?;
        let mut request = url.as_str().into_client_request().map_err(|error| handshake_loss(target, error))?;
        for (name, value) in &door.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let connector = if target.is_tls() { Connector::Rustls(self.tls.clone()) } else { Connector::Plain };
        let stream = Watched { stream, bytes_read: 0 };
        let (socket, _) = client_async_tls_with_config(request, stream, Some(self.limits), Some(connector))
            .await
            .map_err(|error| handshake_loss(target, error))?;
        Ok(socket)
    }
}

fn handshake_loss(target: &Target, error: Error) -> Loss {
    let (url, host) = (target.shown(), target.host().to_string());
    match error {
        Error::Http(response) => not_websocket(url, &response),
        Error::Tls(error) => Loss::Tls { host, error: error.to_string() },
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Loss::Tls { host, error: error.to_string() }
        }
        Error::Io(error) => Loss::Unreachable { host, error },
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            Loss::Cut { error: "the connection ended during the handshake".to_string() }
        }
        other => Loss::NotHttp { url, error: other.to_string() },
    }
}

/// What broke an established connection.
pub fn loss(error: Error) -> Loss {
    use tokio_tungstenite::tungstenite::error::CapacityError;
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Loss::TooBig { bytes: size, max: max_size }
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Loss::Cut { error: "the connection ended without a close frame".to_string() }
        }
        Error::ConnectionClosed | Error::AlreadyClosed => Loss::Closed { code: None, reason: String::new() },
        Error::Protocol(error) => Loss::Broken { error: error.to_string() },
        Error::Utf8(error) => Loss::Broken { error: format!("text that is not UTF-8: {error}") },
        other => Loss::Cut { error: other.to_string() },
    }
}

/// What the upstream said in its close frame.
pub fn closed(frame: Option<(u16, Utf8Bytes)>) -> Loss {
    match frame {
        Some((code, reason)) => Loss::Closed { code: Some(code), reason: reason.to_string() },
        None => Loss::Closed { code: None, reason: String::new() },
    }
}

fn not_websocket(url: String, response: &Response) -> Loss {
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status().as_u16();
    let remedy = match status {
        200..=299 => "this address serves something else: look up the feed's WebSocket path".to_string(),
        300..=399 => format!("use the address it points to: `{}`", header(LOCATION).unwrap_or("none given")),
        401 | 403 => "the upstream wants credentials, or refuses this address".to_string(),
        400 | 404 | 405 | 426 => "check the URL's path and parameters".to_string(),
        418 | 429 => "too many attempts for the upstream: wait, and use one instance per address".to_string(),
        500..=599 => "the trouble is the upstream's: wait".to_string(),
        _ => "check the URL".to_string(),
    };
    let said = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let said: String = said.chars().take(80).flat_map(char::escape_debug).collect();
    let remedy = if said.is_empty() { remedy } else { format!("{remedy}; it says `{said}`") };
    let retry_after = header(RETRY_AFTER).and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    Loss::NotWebSocket { url, status, remedy, retry_after }
}

fn tls_config() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let (_, unreadable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if unreadable > 0 {
        tracing::warn!(unreadable, "some of this machine's root certificates could not be read");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// A TCP stream that counts what is read, so that a long message that is still arriving is not taken for a dead peer.
#[derive(Debug)]
pub struct Watched {
    stream: TcpStream,
    bytes_read: u64,
}

/// Bytes read from the connection so far, TLS included.
pub fn bytes_read(socket: &Socket) -> u64 {
    match socket.get_ref() {
        MaybeTlsStream::Plain(watched) => watched.bytes_read,
        MaybeTlsStream::Rustls(tls) => tls.get_ref().0.bytes_read,
        _ => 0,
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.bytes_read += (buf.filled().len() - before) as u64;
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_with_the_right_one() {
        for (text, part) in [
            ("https://h/x?token=secret", "write `wss://h/x`"),
            ("http://h", "write `ws://h`"),
            ("stream.example.com/ws", "write `wss://stream.example.com/ws`"),
            ("ftp://h", "write `wss://h`"),
            ("ws://", "empty host"),
            ("ws://h:99999", "port"),
        ] {
            let error = Target::parse(text).expect_err(text).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_shown_url_keeps_its_secrets() {
        let target = Target::parse("wss://user:pass@host:9/ws?token=x").expect("right");
        assert_eq!(target.shown(), "wss://host:9/ws");
    }
}
