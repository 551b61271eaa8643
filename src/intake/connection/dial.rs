//! Dialing: one WebSocket connection to the feed. Name, proxy, TCP, TLS, handshake and redirects share one
//! deadline.

use std::net::SocketAddr;

use shared_deflate::negotiate::{self, OFFER};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SEC_WEBSOCKET_EXTENSIONS,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::intake::connection::inflating::{CompressionFault, Inflating};
use crate::intake::connection::loss::Loss;
use crate::intake::connection::redirect::Redirects;
use crate::intake::connection::retry_after::RetryAfter;
use crate::intake::connection::upstream_line::{self, FeedStream, UpstreamLine};
use crate::profile::target::{FeedUrl, without_secrets};

pub(crate) type UpstreamSocket = WebSocketStream<Inflating<FeedStream>>;

/// Everything that repeated attempts share.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub line: UpstreamLine,
    limits: WebSocketConfig,
    message_bytes_max: usize,
    /// Whether compression is offered.
    deflate: bool,
}

/// A handshake that failed.
struct Refusal {
    loss: Loss,
    /// Where the feed is instead.
    location: Option<String>,
}

impl From<Loss> for Refusal {
    fn from(loss: Loss) -> Refusal {
        Refusal { loss, location: None }
    }
}

/// One address to connect to, and the headers of the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub target: FeedUrl,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Dialer {
    pub(crate) fn new(line: UpstreamLine, message_bytes_max: usize, deflate: bool) -> Dialer {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            // Requests are small and rare: none waits for another.
            .write_buffer_size(0);
        Dialer { line, limits, message_bytes_max, deflate }
    }

    /// One attempt: everything shares one deadline.
    pub(crate) async fn connect(self, mut endpoint: Endpoint) -> Result<UpstreamSocket, Loss> {
        let deadline = Instant::now() + self.line.route.timeout;
        let mut redirects = Redirects::new(&self.line.route);
        loop {
            let attempt = self.attempt(&endpoint, redirects.shows_certificate, deadline).await;
            let Refusal { loss, location } = match attempt {
                Ok(socket) => return Ok(socket),
                Err(refusal) => refusal,
            };
            let Some(location) = location.filter(|_| self.line.route.redirects_max > 0) else { return Err(loss) };
            endpoint = redirects.next(&endpoint, &location)?;
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        shows_certificate: bool,
        deadline: Instant,
    ) -> Result<UpstreamSocket, Refusal> {
        let target = &endpoint.target;
        let (address, stream) = self.line.reach(target, deadline).await?;
        let shaken = self.shake_hands(endpoint, shows_certificate, address, stream);
        let shaken = tokio::time::timeout_at(deadline, shaken).await.unwrap_or_else(|_| {
            let host = target.host().to_string();
            Err(Loss::ConnectTimeout { host, address, after: self.line.route.timeout }.into())
        });
        self.line.remember(address, shaken.is_ok());
        shaken
    }

    async fn shake_hands(
        &self,
        endpoint: &Endpoint,
        shows_certificate: bool,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<UpstreamSocket, Refusal> {
        let target = &endpoint.target;
        let loss = |error| Refusal { location: location(&error), loss: handshake_loss(target, address, error) };
        let mut request = target.as_str().into_client_request().map_err(loss)?;
        let headers = request.headers_mut();
        if let Some(authorization) = target.authorization() {
            headers.insert(AUTHORIZATION, authorization);
        }
        for (name, value) in &endpoint.headers {
            headers.insert(name.clone(), value.clone());
        }
        let stream = self.line.secure(target, shows_certificate, (address, stream)).await?;
        let stream = if self.deflate {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(OFFER));
            Inflating::offered(stream)
        } else {
            Inflating::plain(stream)
        };
        let (mut socket, response) =
            client_async_with_config(request, stream, Some(self.limits)).await.map_err(loss)?;
        if self.deflate {
            let is_compressed = is_compressed(&response).map_err(|error| Loss::Compression { error })?;
            let begun = socket.get_mut().begin(is_compressed, self.message_bytes_max);
            begun.map_err(compression_loss)?;
        }
        Ok(socket)
    }
}

/// Whether the feed compresses, by its answer to the handshake.
fn is_compressed(response: &Response) -> Result<bool, String> {
    let values = response.headers().get_all(SEC_WEBSOCKET_EXTENSIONS).iter().map(HeaderValue::to_str);
    let values = values.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    negotiate::agreed(values).map(|agreement| agreement.is_some()).map_err(|error| error.to_string())
}

fn compression_loss(fault: CompressionFault) -> Loss {
    match fault {
        CompressionFault::TooBig { max } => Loss::TooBig { bytes: None, max, setting: "" },
        CompressionFault::Broken(error) => Loss::Compression { error },
    }
}

/// Bytes read from the connection so far, TLS included.
pub(crate) fn bytes_read(socket: &UpstreamSocket) -> u64 {
    upstream_line::bytes_read(socket.get_ref().get_ref())
}

/// Where a redirect leads.
fn location(error: &Error) -> Option<String> {
    let Error::Http(response) = error else { return None };
    let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    location.to_str().ok().map(str::to_string)
}

fn handshake_loss(target: &FeedUrl, address: SocketAddr, error: Error) -> Loss {
    let url = target.shown();
    match error {
        Error::Http(response) => not_websocket(url, &response),
        Error::Io(error) => {
            Loss::Cut { error: format!("{address} ended the connection during the handshake: {error}") }
        }
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            Loss::Cut { error: format!("{address} ended the connection during the handshake") }
        }
        other => Loss::NotHttp { url, error: other.to_string() },
    }
}

/// The loss for an error of an established connection.
pub(crate) fn loss(error: Error) -> Loss {
    use tokio_tungstenite::tungstenite::error::CapacityError;
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Loss::TooBig { bytes: Some(size), max: max_size, setting: "" }
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Loss::Cut { error: "the connection ended without a close frame".to_string() }
        }
        Error::ConnectionClosed | Error::AlreadyClosed => Loss::Closed { code: None, reason: String::new() },
        Error::Protocol(error) => Loss::Broken { error: error.to_string() },
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<CompressionFault>()) => {
            let fault = error.into_inner().and_then(|inner| inner.downcast().ok());
            compression_loss(*fault.expect("it is one"))
        }
        Error::Utf8(error) => Loss::Broken { error: format!("text that is not UTF-8: {error}") },
        other => Loss::Cut { error: other.to_string() },
    }
}

/// The loss for the feed's close frame.
pub(crate) fn closed(frame: Option<(u16, Utf8Bytes)>) -> Loss {
    match frame {
        Some((code, reason)) => Loss::Closed { code: Some(code), reason: reason.to_string() },
        None => Loss::Closed { code: None, reason: String::new() },
    }
}

fn not_websocket(url: String, response: &Response) -> Loss {
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status().as_u16();
    let remedy = match status {
        200..=299 => "this address serves something else; look up the feed's WebSocket path".to_string(),
        300..=399 => {
            let location = header(LOCATION).map_or("none given".to_string(), without_secrets);
            format!("use the address it points to, or set `upstream.redirects_max`: `{location}`")
        }
        401 | 403 => "the feed wants credentials, or refuses this address".to_string(),
        400 => {
            "check the URL's path and parameters, and `upstream.client_certificate` if the feed wants one".to_string()
        }
        404 | 405 | 426 => "check the URL's path and parameters".to_string(),
        418 | 429 => "too many attempts for the feed; wait, and run one instance per address".to_string(),
        500..=599 => "the feed has a problem; wait".to_string(),
        _ => "check the URL".to_string(),
    };
    let said = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let said: String = said.chars().take(80).flat_map(char::escape_debug).collect();
    let remedy = if said.is_empty() { remedy } else { format!("{remedy}; it says `{said}`") };
    let retry_after = header(RETRY_AFTER).and_then(|value| RetryAfter::read(value, header(DATE)));
    Loss::NotWebSocket { url, status, remedy, retry_after }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;

    use super::*;
    use crate::intake::connection::dead::Dead;
    use crate::intake::connection::feed_tls::FeedTls;
    use crate::intake::connection::resolve::{Resolution, Resolve};
    use crate::intake::connection::upstream_line::FeedRoute;

    /// A name server that knows one name; without addresses it never answers.
    struct OneNameResolver(Vec<SocketAddr>);

    impl Resolve for OneNameResolver {
        fn resolve(&self, name: &str, _: u16) -> Resolution {
            assert_eq!(name, "venue.test");
            let found = self.0.clone();
            Box::pin(async move { if found.is_empty() { std::future::pending().await } else { Ok(found) } })
        }
    }

    fn dialer(timeout: Duration, addresses: &[SocketAddr]) -> Dialer {
        let tls = Arc::new(FeedTls::new(None).expect("TLS can be set up"));
        let route = FeedRoute { timeout, tls, proxy: None, redirects_max: 0, says_secrets: false };
        Dialer::new(UpstreamLine::new(route, Arc::new(OneNameResolver(addresses.to_vec()))), 1000, false)
    }

    fn endpoint() -> Endpoint {
        Endpoint { target: FeedUrl::parse("ws://venue.test/feed").expect("a URL"), headers: Vec::new() }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    #[tokio::test]
    async fn a_host_with_a_dead_first_address_is_reached_at_another_one() {
        let (dead, (good, address)) = (Dead::open(), listener().await);
        let dialing = tokio::spawn(dialer(Duration::from_secs(20), &[dead.address, address]).connect(endpoint()));
        let (stream, _) = good.accept().await.expect("a connection");
        accept_async(stream).await.expect("a handshake");
        assert!(dialing.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn an_address_that_accepts_and_is_mute_is_tried_last_the_next_time() {
        let ((mute, first), (good, second)) = (listener().await, listener().await);
        let dialer = dialer(Duration::from_millis(200), &[first, second]);
        let loss = dialer.clone().connect(endpoint()).await.expect_err("it never answers").to_string();
        assert!(
            loss.contains(&first.to_string()) && loss.contains("did not complete the WebSocket handshake"),
            "{loss}"
        );
        let mut patient = dialer.clone();
        patient.line.route.timeout = Duration::from_secs(20);
        let dialing = tokio::spawn(patient.connect(endpoint()));
        let (stream, _) = good.accept().await.expect("a connection");
        accept_async(stream).await.expect("a handshake");
        assert!(dialing.await.expect("no panic").is_ok());
        drop(mute);
    }

    #[tokio::test]
    async fn a_name_server_that_is_silent_is_waited_for_no_longer_than_allowed() {
        let loss = dialer(Duration::from_millis(50), &[]).connect(endpoint()).await.expect_err("no address");
        assert_eq!(loss.label(), "connect_timeout");
        assert!(loss.to_string().contains("`venue.test`"), "{loss}");
    }
}
