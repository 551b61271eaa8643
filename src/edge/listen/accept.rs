//! The accept loops, one for each listener, and one task per connection that is not upgraded yet.
//!
//! | bound | at the bound |
//! |---|---|
//! | slots, in total and per address | `connection_table.rs` |
//! | connections in the kernel's queue | `listener.rs` |
//! | `HEAD_BYTES_MAX` per request head | 431, and the connection is closed |
//! | bytes and time of a header of the PROXY protocol | the connection is closed (`proxy_protocol.rs`) |
//! | time for a head, between two requests, for an answer | the connection is closed (`deadlines.rs`) |
//! | requests per second on one connection | the next answer waits until the second is over |

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tower_service::Service;

use crate::access::end_journal::EndJournal;
use crate::edge::listen::client_files::{ClientFile, ClientFiles};
use crate::edge::listen::client_stream::ClientStream;
use crate::edge::listen::connection_table::{Accepted, ConnectionSlot, ConnectionTable};
use crate::edge::listen::deadlines::{ConnectionProgress, Overdue, TrackedBody, TrackedSocket};
use crate::edge::listen::drops::{Drops, REFUSAL};
use crate::edge::listen::listener::EdgeListener;
use crate::edge::listen::peer::{ClientCertificate, Peer};
use crate::edge::listen::proxy_protocol::{self, ProxiedClient};
use crate::edge::listen::since;
use crate::edge::listen::takeover::TakeoverSlot;
use crate::edge::listen::tls::acceptor::TlsAcceptor;
use crate::edge::phase::Phase;
use crate::edge::settings::{ConnectionLimits, ProxyRules};
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::RateLimitedLog;

/// 32 KiB: a query with several hundred patterns, and far more than browsers send.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Unsent bytes of an answer in the kernel; the rest waits in the shared body, at no cost.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// Pause after a failed accept, usually for want of file descriptors: long enough not to spin, too short to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The service for connections, and its bounds.
#[derive(Clone)]
pub(in crate::edge) struct HttpService {
    pub router: Router,
    /// Those of this moment; a connection keeps the deadlines of its beginning.
    pub limits: Arc<ArcSwap<ConnectionLimits>>,
    pub files: Arc<ClientFiles>,
    /// Who may name the client of a request.
    pub proxies: Arc<ProxyRules>,
    /// For the listeners that speak TLS; there is one if there are such listeners.
    pub tls: Option<Arc<TlsAcceptor>>,
    pub meters: Meters,
    pub journal: EndJournal,
    /// Time for answers under way after the stop.
    pub stop_timeout: Duration,
}

/// Accepts from all listeners until `phase` is [`Phase::Stopped`], then waits for the connections to end.
pub(in crate::edge) async fn accept_all(
    listeners: Vec<EdgeListener>,
    service: HttpService,
    phase: watch::Receiver<Phase>,
) {
    let places = ConnectionTable::new(service.limits.clone(), service.files.clone(), &service.meters);
    let drops = Drops::new(&service.meters, service.journal.clone());
    let stop_timeout = service.stop_timeout;
    let accepting = listeners.into_iter().map(|listener| {
        let acceptor = Acceptor { listener, service: service.clone(), places: places.clone(), drops: drops.clone() };
        acceptor.run(phase.clone())
    });
    join_all(accepting).await;
    // Each connection ends by itself within `stop_timeout`; nothing can be done about a late one.
    let _ = tokio::time::timeout(stop_timeout, places.emptied()).await;
}

/// The loop of one listener. All share the slots.
struct Acceptor {
    listener: EdgeListener,
    service: HttpService,
    places: Arc<ConnectionTable>,
    drops: Drops,
}

/// A connection that may be served.
struct AcceptedConnection {
    socket: ClientStream,
    peer: Peer,
    slot: ConnectionSlot,
    file: ClientFile,
}

impl Acceptor {
    async fn run(self, mut phase: watch::Receiver<Phase>) {
        let (mut errors, mut strangers) = (RateLimitedLog::default(), RateLimitedLog::default());
        let started = Instant::now();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut phase) => break,
                accepted = self.accept(&mut strangers, started) => accepted,
            };
            match accepted {
                Ok(AcceptedConnection { socket, peer, slot, file }) => {
                    let connection = HttpConnection {
                        router: self.service.router.clone(),
                        peer,
                        names_client: self.listener.proxy,
                        tls: self.service.tls.clone().filter(|_| self.listener.tls),
                        proxies: self.service.proxies.clone(),
                        phase: phase.clone(),
                        limits: **self.service.limits.load(),
                        stop_timeout: self.service.stop_timeout,
                        drops: self.drops.clone(),
                        file: Some(file),
                    };
                    tokio::spawn(connection.serve(socket, slot));
                }
                Err(error) if concerns_one_client(&error) => {}
                Err(error) => {
                    log_accept_error(&error, &mut errors, started);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The next connection, with its slot. While all slots are busy it waits, and others wait in the kernel's queue.
    async fn accept(&self, strangers: &mut RateLimitedLog, started: Instant) -> io::Result<AcceptedConnection> {
        loop {
            let file = self.places.files.take().await;
            let (socket, address) = self.listener.accept().await?;
            let peer = Peer::new(address, self.listener.scheme, &self.service.proxies);
            if self.listener.proxy && !peer.is_proxy() {
                self.drops.stranger(peer);
                log_stranger(peer, strangers, started);
                continue;
            }
            let slot = loop {
                match self.places.enter(peer.counted(), Instant::now()) {
                    Accepted::Slot(slot) => break Some(slot),
                    Accepted::Full => self.places.moved.notified().await,
                    Accepted::Refused => break None,
                }
            };
            match slot {
                Some(slot) => return Ok(AcceptedConnection { socket, peer, slot, file }),
                None => {
                    self.drops.crowded(peer);
                    if !self.listener.tls {
                        socket.hint(REFUSAL);
                    }
                    // It may have been woken for a slot that another listener waits for.
                    self.places.moved.notify_one();
                }
            }
        }
    }
}

/// The client left between connecting and being accepted: some systems report it in accept(2), others as EINVAL of the
/// first setsockopt(2).
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput
    )
}

/// Returns when nothing more shall be accepted, or the sender is gone.
async fn stopped(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await;
}

/// One connection before its upgrade, if it has one.
struct HttpConnection {
    router: Router,
    peer: Peer,
    /// It opens with a header of the PROXY protocol.
    names_client: bool,
    /// It begins with a TLS handshake.
    tls: Option<Arc<TlsAcceptor>>,
    proxies: Arc<ProxyRules>,
    phase: watch::Receiver<Phase>,
    limits: ConnectionLimits,
    stop_timeout: Duration,
    drops: Drops,
    /// Freed with the socket; none once the socket is a session's.
    file: Option<ClientFile>,
}

impl HttpConnection {
    /// The slot is freed when the connection has ended or was upgraded.
    async fn serve(mut self, mut socket: ClientStream, mut slot: ConnectionSlot) {
        let peer = self.peer;
        let leave = slot.leave.clone();
        let served = async {
            if !self.names_client || self.read_proxy_header(&mut socket, &mut slot).await {
                self.await_request(socket, &mut slot).await;
            }
        };
        tokio::select! {
            () = served => {}
            () = leave.notified() => tracing::debug!(%peer, "a connection made room for another one"),
        }
    }

    /// Takes the client's address from the proxy's header; false if the connection is to be closed.
    async fn read_proxy_header(&mut self, socket: &mut ClientStream, slot: &mut ConnectionSlot) -> bool {
        let read = tokio::select! {
            read = proxy_protocol::read(socket) => Some(read),
            () = tokio::time::sleep(self.limits.header_timeout) => None,
            () = stopped(&mut self.phase) => return false,
        };
        match read {
            Some(Ok(ProxiedClient::Unknown)) => self.peer = self.peer.as_client(),
            Some(Ok(ProxiedClient::Known { address, scheme })) => {
                let scheme = scheme.unwrap_or(self.peer.scheme());
                self.peer = Peer::new(Some(address), scheme, &self.proxies);
                if let Some(address) = self.peer.counted()
                    && !slot.counts_for(address, Instant::now())
                {
                    socket.hint(REFUSAL);
                    return false;
                }
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "a connection is closed");
                self.drops.without_proxy_header(self.peer, &error.to_string());
                return false;
            }
            None => {
                self.drops.without_proxy_header(self.peer, "none in time");
                return false;
            }
        }
        true
    }

    /// Waits for the first byte.
    async fn await_request(&mut self, socket: ClientStream, slot: &mut ConnectionSlot) {
        // A silent connection costs no buffers, no handshake and no HTTP state.
        tokio::select! {
            _ = socket.first_byte() => {}
            () = tokio::time::sleep(self.limits.header_timeout) => return self.drops.overdue(self.peer, Overdue::Header),
            () = stopped(&mut self.phase) => return,
        }
        let Some(socket) = self.shake_hands(socket).await else { return };
        let certificate = socket.client_certificate();
        let progress = ConnectionProgress::new(self.limits, tokio::time::Instant::now());
        Box::pin(self.serve_http((socket, certificate), progress, slot)).await;
    }

    /// The TLS handshake, where one is due. None if it failed.
    async fn shake_hands(&mut self, socket: ClientStream) -> Option<ClientStream> {
        let (tls, socket) = match (&self.tls, socket) {
            (Some(tls), ClientStream::Tcp(socket)) => (tls, socket),
            (_, socket) => return Some(socket),
        };
        let shaken = tokio::select! {
            shaken = Box::pin(tls.accept(socket)) => shaken,
            () = stopped(&mut self.phase) => return None,
        };
        let shaken = shaken.inspect_err(|error| {
            self.drops.without_tls(self.peer, error);
            tracing::debug!(peer = %self.peer, %error, "a TLS handshake failed");
        });
        shaken.ok().map(ClientStream::Tls)
    }

    /// HTTP, up to the end or the upgrade.
    async fn serve_http(
        &mut self,
        (socket, certificate): (ClientStream, Option<ClientCertificate>),
        progress: Arc<ConnectionProgress>,
        slot: &mut ConnectionSlot,
    ) {
        if let Err(error) = socket.limit_unsent(UNSENT_BYTES_MAX) {
            tracing::debug!(%error, "unsent bytes of a connection are not bounded");
        }
        let takeover = Arc::new(TakeoverSlot::default());
        let phase = self.phase.clone();
        let answers = service_fn(|mut request| {
            let client = self.peer.client(Request::headers(&request), &self.proxies);
            request.extensions_mut().insert(client);
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            Box::pin(answer(self.router.clone(), (progress.clone(), phase.clone()), takeover.clone(), request))
        });
        let tracked = TrackedSocket::new(socket, progress.clone(), takeover.clone());
        let mut connection = http1::Builder::new()
            // The deadlines of `progress` distinguish heads, idle connections and slow readers.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(tracked), answers);
        let ended = tokio::select! {
            ended = in_time(|cx| connection.poll_without_shutdown(cx), &progress, slot) => Some(ended),
            () = stopped(&mut self.phase) => None,
        };
        let ended = match ended {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(overdue)) => {
                tracing::debug!(peer = %self.peer, reason = overdue.label(), "a connection is closed");
                return self.drops.overdue(self.peer, overdue);
            }
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                tokio::time::timeout(self.stop_timeout, poll_fn(|cx| connection.poll_without_shutdown(cx))).await
            }
        };
        match ended {
            Ok(Ok(())) => {
                let parts = connection.into_parts();
                // A copy, because the few bytes would keep hyper's whole read buffer alive.
                let unread = Bytes::copy_from_slice(&parts.read_buf);
                if let Err(mut socket) = takeover.complete(parts.io.into_inner().into_stream(), unread, &mut self.file)
                {
                    // A client that is gone already misses nothing.
                    let _ = tokio::time::timeout(self.stop_timeout, socket.shutdown()).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "a connection was lost"),
            Err(_) => tracing::debug!(peer = %self.peer, "a connection did not end in time and was dropped"),
        }
    }
}

/// Answers one request. Between two requests the connection yields to others, however many it has pipelined.
async fn answer(
    mut router: Router,
    (progress, phase): (Arc<ConnectionProgress>, watch::Receiver<Phase>),
    takeover: Arc<TakeoverSlot>,
    request: Request<Incoming>,
) -> Result<Response<TrackedBody>, Infallible> {
    let (answering, wait) = progress.begin_answer();
    match wait {
        Some(until) => tokio::time::sleep_until(until).await,
        None => tokio::task::yield_now().await,
    }
    let mut response = takeover.look(Service::call(&mut router, request).await?);
    if *phase.borrow() == Phase::Waiting && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The next request is for the process that goes on.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| answering.with(body)))
}

/// Drives the connection to its end, or until it is overdue; keeps the state of its slot.
async fn in_time<T>(
    mut connection: impl FnMut(&mut Context<'_>) -> Poll<T>,
    progress: &ConnectionProgress,
    slot: &mut ConnectionSlot,
) -> Result<T, Overdue> {
    let mut alarm = pin!(tokio::time::sleep_until(progress.due().0));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection(cx) {
            return Poll::Ready(Ok(ended));
        }
        slot.is(progress.doing());
        loop {
            let (due, overdue) = progress.due();
            // A later deadline is noticed when the timer fires.
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= tokio::time::Instant::now() {
                return Poll::Ready(Err(overdue));
            }
            alarm.as_mut().reset(due);
        }
    })
    .await
}

/// Logs that nothing can be accepted, at a limited rate: such errors repeat at every attempt.
fn log_accept_error(error: &io::Error, log: &mut RateLimitedLog, started: Instant) {
    let Some(suppressed) = log.take(since(started)) else { return };
    tracing::warn!(
        %error,
        suppressed,
        "cannot accept connections, retrying; if file descriptors ran out, raise the limit (ulimit -n)"
    );
}

/// Logs that somebody else than a proxy speaks where only proxies may, at a limited rate: anybody can try.
fn log_stranger(peer: Peer, log: &mut RateLimitedLog, started: Instant) {
    let Some(suppressed) = log.take(since(started)) else { return };
    tracing::warn!(
        %peer,
        suppressed,
        "closed a connection at a listener of the PROXY protocol: its address is not in proxy.trusted"
    );
}
