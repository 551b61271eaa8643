//! The line to the feed: name, proxy, TCP and TLS, below a WebSocket or an HTTP request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::MaybeTlsStream;
use url::Host;

use crate::intake::connection::feed_tls::FeedTls;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::proxy::Proxy;
use crate::intake::connection::race;
use crate::intake::connection::resolve::{Resolve, alternating};
use crate::intake::time::in_s;
use crate::profile::target::FeedUrl;

/// More addresses than a venue has; with more, the oldest are forgotten.
const SET_BACK_MAX: usize = 16;

pub(crate) type FeedStream = MaybeTlsStream<Watched>;

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

/// Everything that repeated attempts share.
#[derive(Clone)]
pub(crate) struct UpstreamLine {
    pub route: FeedRoute,
    resolver: Arc<dyn Resolve>,
    /// Addresses that accepted TCP and then failed the handshake, newest last: they are tried after the others. Written
    /// by failed attempts; the lock is held for a few comparisons.
    set_back: Arc<Mutex<VecDeque<SocketAddr>>>,
}

impl UpstreamLine {
    pub(crate) fn new(route: FeedRoute, resolver: Arc<dyn Resolve>) -> UpstreamLine {
        UpstreamLine { route, resolver, set_back: Arc::default() }
    }

    /// TCP to the feed, directly or through the proxy, whose address it then is.
    pub(super) async fn reach(&self, target: &FeedUrl, deadline: Instant) -> Result<(SocketAddr, TcpStream), Loss> {
        let (address, stream) = match self.route.proxy.as_deref().filter(|_| !target.is_here()) {
            Some(proxy) => self.reach_through(proxy, target, deadline).await?,
            None => self.reach_directly(target, deadline).await?,
        };
        stream.set_nodelay(true).map_err(|error| ended(address, &error))?;
        Ok((address, stream))
    }

    async fn reach_directly(&self, target: &FeedUrl, deadline: Instant) -> Result<(SocketAddr, TcpStream), Loss> {
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

    /// Whether what followed at this address went well.
    pub(super) fn remember(&self, address: SocketAddr, is_good: bool) {
        let mut set_back = self.set_back.lock().expect("no holder panics");
        set_back.retain(|other| *other != address);
        if !is_good {
            set_back.push_back(address);
        }
        if set_back.len() > SET_BACK_MAX {
            set_back.pop_front();
        }
    }

    /// TLS, if the URL wants it.
    pub(super) async fn secure(
        &self,
        target: &FeedUrl,
        shows_certificate: bool,
        (address, stream): (SocketAddr, TcpStream),
    ) -> Result<FeedStream, Loss> {
        let stream = Watched { stream, bytes_read: 0 };
        if !target.is_tls() {
            return Ok(MaybeTlsStream::Plain(stream));
        }
        let refused = |error: String| Loss::Tls { host: target.host().to_string(), address, error };
        let bare = target.host().trim_start_matches('[').trim_end_matches(']').to_string();
        let name = ServerName::try_from(bare).map_err(|error| refused(error.to_string()))?;
        let secured = TlsConnector::from(self.tls(shows_certificate).await).connect(name, stream).await;
        secured.map(MaybeTlsStream::Rustls).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => refused(error.to_string()),
            _ => ended(address, &error),
        })
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

/// The loss for an error of TCP before the connection is open.
fn ended(address: SocketAddr, error: &io::Error) -> Loss {
    Loss::Cut { error: format!("{address} ended the connection during the handshake: {error}") }
}

/// A TCP stream that counts bytes read, so that a long message on its way is not taken for a dead peer.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    bytes_read: u64,
}

/// Bytes read so far, TLS included.
pub(super) fn bytes_read(stream: &FeedStream) -> u64 {
    match stream {
        MaybeTlsStream::Plain(watched) => watched.bytes_read,
        MaybeTlsStream::Rustls(tls) => tls.get_ref().0.bytes_read,
        _ => 0,
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.bytes_read += (buf.filled().len() - before) as u64;
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
