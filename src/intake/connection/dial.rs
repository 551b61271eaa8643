//! Dialing: one WebSocket connection to the feed. Name, proxy, TCP, TLS, handshake and redirects share one
//! deadline.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::Host;

use crate::intake::connection::feed_tls::FeedTls;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::proxy::Proxy;
use crate::intake::connection::race;
use crate::intake::connection::redirect::{self, RedirectError};
use crate::intake::connection::resolve::{Resolve, alternating};
use crate::intake::connection::retry_after::RetryAfter;
use crate::intake::time::in_s;
use crate::profile::target::{FeedUrl, without_secrets};

/// More addresses than a venue has; with more, the oldest are forgotten.
const SET_BACK_MAX: usize = 16;

pub(crate) type UpstreamSocket = WebSocketStream<MaybeTlsStream<Watched>>;

/// Everything that repeated attempts share.
#[derive(Clone)]
pub(crate) struct Dialer {
    route: FeedRoute,
    limits: WebSocketConfig,
    resolver: Arc<dyn Resolve>,
    /// Addresses that accepted TCP and then failed the handshake, newest last: they are tried after the others. Written
    /// by failed attempts; the lock is held for a few comparisons.
    set_back: Arc<Mutex<VecDeque<SocketAddr>>>,
}

/// How the feed is reached.
#[derive(Clone)]
pub(crate) struct FeedRoute {
    /// For one attempt, redirects included.
    pub timeout: Duration,
    pub tls: Arc<FeedTls>,
    /// Of all addresses but this machine's own.
    pub proxy: Option<Arc<Proxy>>,
    pub redirects_max: usize,
    /// Whether messages to the feed hold secrets, so that no redirect may lead to another host.
    pub says_secrets: bool,
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
    pub(crate) fn new(route: FeedRoute, message_bytes_max: usize, resolver: Arc<dyn Resolve>) -> Dialer {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            // Requests are small and rare: none waits for another.
            .write_buffer_size(0);
        Dialer { route, limits, resolver, set_back: Arc::default() }
    }

    /// One attempt: everything shares one deadline.
    pub(crate) async fn connect(self, mut endpoint: Endpoint) -> Result<UpstreamSocket, Loss> {
        let deadline = Instant::now() + self.route.timeout;
        let mut shows_certificate = self.route.tls.shows_certificate();
        let mut followed = 0;
        loop {
            let Refusal { loss, location } = match self.attempt(&endpoint, shows_certificate, deadline).await {
                Ok(socket) => return Ok(socket),
                Err(refusal) => refusal,
            };
            let Some(location) = location.filter(|_| self.route.redirects_max > 0) else { return Err(loss) };
            let has_credentials = shows_certificate || self.route.says_secrets;
            let next = if followed == self.route.redirects_max {
                Err(RedirectError::TooMany { max: followed })
            } else {
                redirect::follow(&endpoint, &location, has_credentials)
            };
            let next = next.map_err(|error| Loss::Redirected {
                url: endpoint.target.shown(),
                location: redirect::shown(&location),
                error,
            })?;
            tracing::info!(from = endpoint.target.shown(), to = next.target.shown(), "the feed redirects");
            shows_certificate &= next.target.place() == endpoint.target.place();
            endpoint = next;
            followed += 1;
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        shows_certificate: bool,
        deadline: Instant,
    ) -> Result<UpstreamSocket, Refusal> {
        let target = &endpoint.target;
        let (address, stream) = match self.route.proxy.as_deref().filter(|_| !target.is_here()) {
            Some(proxy) => self.reach_through(proxy, target, deadline).await?,
            None => self.reach(target, deadline).await?,
        };
        let shaken = self.shake_hands(endpoint, shows_certificate, address, stream);
        let shaken = tokio::time::timeout_at(deadline, shaken).await.unwrap_or_else(|_| {
            let host = target.host().to_string();
            Err(Loss::ConnectTimeout { host, address, after: self.route.timeout }.into())
        });
        self.remember(address, shaken.is_ok());
        shaken
    }

    async fn reach(&self, target: &FeedUrl, deadline: Instant) -> Result<(SocketAddr, TcpStream), Loss> {
        let (host, after) = (|| target.host().to_string(), self.route.timeout);
        let addresses = match tokio::time::timeout_at(deadline, self.addresses(target.place())).await {
            Ok(found) => found.map_err(|error| Loss::Unresolved { host: host(), error })?,
            Err(_) => return Err(Loss::ResolveTimeout { host: host(), after }),
        };
        let reached = race::connect(&addresses, deadline).await;
        reached.map_err(|tried| Loss::Unreachable { host: host(), tried, after })
    }

    /// The stream leads to the feed, and the address is the proxy's.
    async fn reach_through(
        &self,
        proxy: &Proxy,
        target: &FeedUrl,
        deadline: Instant,
    ) -> Result<(SocketAddr, TcpStream), Loss> {
        let lost = |error: String| Loss::Proxy { host: target.host().to_string(), proxy: proxy.to_string(), error };
        let late = |_| lost(format!("no answer within {}; check its address", in_s(self.route.timeout)));
        let addresses = tokio::time::timeout_at(deadline, self.addresses(Some(proxy.place()))).await.map_err(late)?;
        let addresses =
            addresses.map_err(|error| lost(format!("its address was not found: {error}; check its name")))?;
        let reached = race::connect(&addresses, deadline).await;
        let (address, stream) = reached.map_err(|tried| lost(format!("{tried}; check that it is running")))?;
        let (host, port) = target.place().ok_or_else(|| lost("the feed's address has no host".into()))?;
        let tunnel = tokio::time::timeout_at(deadline, proxy.tunnel(stream, host, port)).await.map_err(late)?;
        tunnel.map(|stream| (address, stream)).map_err(|refusal| lost(refusal.to_string()))
    }

    /// Addresses that failed last time come last; otherwise in the resolver's order, families alternating.
    async fn addresses(&self, place: Option<(Host<&str>, u16)>) -> io::Result<Vec<SocketAddr>> {
        let found = match place {
            Some((Host::Domain(name), port)) => alternating(self.resolver.resolve(name, port).await?),
            Some((Host::Ipv4(address), port)) => vec![(address, port).into()],
            Some((Host::Ipv6(address), port)) => vec![(address, port).into()],
            None => Vec::new(),
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let set_back = self.set_back.lock().expect("no holder panics");
        let (last, mut sorted): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| set_back.contains(address));
        sorted.extend(last);
        Ok(sorted)
    }

    fn remember(&self, address: SocketAddr, is_good: bool) {
        let mut set_back = self.set_back.lock().expect("no holder panics");
        set_back.retain(|other| *other != address);
        if !is_good {
            set_back.push_back(address);
        }
        if set_back.len() > SET_BACK_MAX {
            set_back.pop_front();
        }
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
        stream.set_nodelay(true).map_err(|error| loss(Error::Io(error)))?;
        let mut request = target.as_str().into_client_request().map_err(loss)?;
        if let Some(authorization) = target.authorization() {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        for (name, value) in &endpoint.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let connector = match target.is_tls() {
            true => Connector::Rustls(self.tls(shows_certificate).await),
            false => Connector::Plain,
        };
        let stream = Watched { stream, bytes_read: 0 };
        let shaken = client_async_tls_with_config(request, stream, Some(self.limits), Some(connector)).await;
        shaken.map(|(socket, _)| socket).map_err(loss)
    }

    async fn tls(&self, shows_certificate: bool) -> Arc<ClientConfig> {
        let tls = self.route.tls.clone();
        match shows_certificate {
            true => {
                tokio::task::spawn_blocking(move || tls.identified()).await.expect("files are read without a panic")
            }
            false => tls.anonymous(),
        }
    }
}

/// Where a redirect leads.
fn location(error: &Error) -> Option<String> {
    let Error::Http(response) = error else { return None };
    let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    location.to_str().ok().map(str::to_string)
}

fn handshake_loss(target: &FeedUrl, address: SocketAddr, error: Error) -> Loss {
    let (url, host) = (target.shown(), target.host().to_string());
    match error {
        Error::Http(response) => not_websocket(url, &response),
        Error::Tls(error) => Loss::Tls { host, address, error: error.to_string() },
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Loss::Tls { host, address, error: error.to_string() }
        }
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
            Loss::TooBig { bytes: size, max: max_size, setting: "" }
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

/// A TCP stream that counts bytes read, so that a long message on its way is not taken for a dead peer.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    bytes_read: u64,
}

/// Bytes read from the connection so far, TLS included.
pub(crate) fn bytes_read(socket: &UpstreamSocket) -> u64 {
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
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;

    use super::*;
    use crate::intake::connection::dead::Dead;
    use crate::intake::connection::resolve::Resolution;

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
        Dialer::new(route, 1000, Arc::new(OneNameResolver(addresses.to_vec())))
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
        let route = FeedRoute { timeout: Duration::from_secs(20), ..dialer.route };
        let dialing = tokio::spawn(Dialer { route, ..dialer }.connect(endpoint()));
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
