//! The listening socket, the accept loop, and one task per connection that is not upgraded yet.
//!
//! | bound | at the bound |
//! |---|---|
//! | slots, in total and per address | `connection_table.rs` |
//! | `BACKLOG` connections in the kernel's queue | the kernel makes clients retry |
//! | `HEAD_BYTES_MAX` per request head | 431, and the connection is closed |
//! | time for a head, between two requests, for an answer | the connection is closed (`deadlines.rs`) |
//! | requests per second on one connection | the next answer waits until the second is over |

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::Counter;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tower_service::Service;

use crate::edge::listen::client_stream::ClientStream;
use crate::edge::listen::connection_table::{Accepted, ConnectionSlot, ConnectionTable};
use crate::edge::listen::deadlines::{ConnectionProgress, Overdue, TrackedBody, TrackedSocket};
use crate::edge::listen::peer::Peer;
use crate::edge::phase::Phase;
use crate::edge::settings::ConnectionLimits;
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

/// Connections that may wait to be accepted: two seconds at 2,000 per second. The kernel's somaxconn may be lower.
const BACKLOG: i32 = 4096;

/// 32 KiB: a query with several hundred patterns, and far more than browsers send.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Unsent bytes of an answer in the kernel; the rest waits in the shared body, at no cost.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// Pause after a failed accept, usually for want of file descriptors: long enough not to spin, too short to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For a client whose address has used up its share of slots.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    Retry-After: 5\r\nConnection: close\r\nContent-Length: 178\r\n\r\n\
    {\"code\":\"too_many_connections\",\"message\":\"expected fewer connections from your address \
    (http.connections_per_address_max), found all of them at work; try again in a few seconds\"}";

/// Listens, with room for [`BACKLOG`] connections, in non-blocking mode.
pub(in crate::edge) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server listen while connections of its predecessor are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The service for connections, and its bounds.
pub(in crate::edge) struct HttpService {
    pub router: Router,
    pub limits: ConnectionLimits,
    pub meters: Meters,
    /// Time for answers under way after the stop.
    pub stop_timeout: Duration,
}

/// Accepts until `phase` is [`Phase::Stopped`], then waits for the connections to end.
pub(in crate::edge) async fn accept_all(
    listener: tokio::net::TcpListener,
    service: HttpService,
    mut phase: watch::Receiver<Phase>,
) {
    let places = ConnectionTable::new(service.limits, &service.meters);
    let drops = Drops::new(&service.meters);
    let (mut errors, started) = (RateLimitedLog::default(), Instant::now());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut phase) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((socket, peer, (slot, file))) => {
                let connection = HttpConnection {
                    router: service.router.clone(),
                    peer,
                    phase: phase.clone(),
                    limits: service.limits,
                    stop_timeout: service.stop_timeout,
                    drops: drops.clone(),
                    _file: file,
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
    drop(listener);
    // Each connection ends by itself within `stop_timeout`; nothing can be done about a late one.
    let _ = tokio::time::timeout(service.stop_timeout, places.emptied()).await;
}

/// The next connection, with its slot. While all slots are busy it waits, and others wait in the kernel's queue.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<ConnectionTable>,
) -> io::Result<(ClientStream, SocketAddr, (ConnectionSlot, OwnedSemaphorePermit))> {
    loop {
        let file = places.files.clone().acquire_owned().await.expect("the files are never closed");
        let (socket, peer) = listener.accept().await?;
        let slot = loop {
            match places.enter(peer.ip(), Instant::now()) {
                Accepted::Slot(slot) => break Some(slot),
                Accepted::Full => places.moved.notified().await,
                Accepted::Refused => break None,
            }
        };
        let Some(slot) = slot else {
            // A hint: a client that misses it sees the connection end.
            let _ = SockRef::from(&socket).send(REFUSAL);
            continue;
        };
        // Small frames must leave at once; the socket keeps the option when it is handed over.
        socket.set_nodelay(true)?;
        return Ok((socket.into(), peer, (slot, file)));
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

/// Counters of connections that were closed early, by reason.
#[derive(Clone)]
struct Drops {
    header: Counter,
    write: Counter,
    answer: Counter,
}

impl Drops {
    fn new(meters: &Meters) -> Drops {
        let counter = |overdue: Overdue| meters.counter(&names::HTTP_DROPPED, &[("reason", overdue.label())]);
        Drops { header: counter(Overdue::Header), write: counter(Overdue::Write), answer: counter(Overdue::Answer) }
    }

    fn count(&self, overdue: Overdue) {
        match overdue {
            Overdue::Header => self.header.increment(1),
            Overdue::Write => self.write.increment(1),
            Overdue::Answer => self.answer.increment(1),
            Overdue::KeepAlive => {}
        }
    }
}

/// One connection before its upgrade, if it has one.
struct HttpConnection {
    router: Router,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    limits: ConnectionLimits,
    stop_timeout: Duration,
    drops: Drops,
    /// Freed with the socket, or when the socket becomes a session's.
    _file: OwnedSemaphorePermit,
}

impl HttpConnection {
    /// The slot is freed when the connection has ended or was upgraded.
    async fn serve(mut self, socket: ClientStream, mut slot: ConnectionSlot) {
        let peer = self.peer;
        let leave = slot.leave.clone();
        tokio::select! {
            () = self.await_request(socket, &mut slot) => {}
            () = leave.notified() => tracing::debug!(%peer, "a connection made room for another one"),
        }
    }

    /// Waits for the first byte.
    async fn await_request(&mut self, socket: ClientStream, slot: &mut ConnectionSlot) {
        let progress = ConnectionProgress::new(self.limits, tokio::time::Instant::now());
        // A silent connection costs no buffers and no HTTP state.
        tokio::select! {
            // Not `readable`, which some sockets report before anything was sent.
            _ = socket.first_byte() => {}
            () = tokio::time::sleep(self.limits.header_timeout) => return self.drops.count(Overdue::Header),
            () = stopped(&mut self.phase) => return,
        }
        Box::pin(self.serve_http(socket, progress, slot)).await;
    }

    /// HTTP, up to the end or the upgrade.
    async fn serve_http(&mut self, socket: ClientStream, progress: Arc<ConnectionProgress>, slot: &mut ConnectionSlot) {
        if let Err(error) = socket.limit_unsent(UNSENT_BYTES_MAX) {
            tracing::debug!(%error, "unsent bytes of a connection are not bounded");
        }
        let answers = service_fn(|request| answer(self.router.clone(), Peer(self.peer), progress.clone(), request));
        let connection = http1::Builder::new()
            // The deadlines of `progress` distinguish heads, idle connections and slow readers.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(TrackedSocket::new(socket, progress.clone())), answers)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = in_time(connection.as_mut(), &progress, slot) => Some(ended),
            () = stopped(&mut self.phase) => None,
        };
        let ended = match ended {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(overdue)) => {
                tracing::debug!(peer = %self.peer, reason = overdue.label(), "a connection is closed");
                return self.drops.count(overdue);
            }
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(self.stop_timeout, connection).await
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "a connection was lost"),
            Err(_) => tracing::debug!(peer = %self.peer, "a connection did not end in time and was dropped"),
        }
    }
}

/// Answers one request. Between two requests the connection yields to others, however many it has pipelined.
async fn answer(
    mut router: Router,
    peer: Peer,
    progress: Arc<ConnectionProgress>,
    mut request: Request<Incoming>,
) -> Result<Response<TrackedBody>, Infallible> {
    let (answering, wait) = progress.begin_answer();
    match wait {
        Some(until) => tokio::time::sleep_until(until).await,
        None => tokio::task::yield_now().await,
    }
    request.extensions_mut().insert(peer);
    let response = Service::call(&mut router, request).await?;
    Ok(response.map(|body| answering.with(body)))
}

/// Drives the connection to its end, or until it is overdue; keeps the state of its slot.
async fn in_time<C: Future>(
    mut connection: Pin<&mut C>,
    progress: &ConnectionProgress,
    slot: &mut ConnectionSlot,
) -> Result<C::Output, Overdue> {
    let mut alarm = pin!(tokio::time::sleep_until(progress.due().0));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
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
    let since = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let Some(suppressed) = log.take(Stamp { wall_ms: 0, mono_ns: since }) else { return };
    tracing::warn!(
        %error,
        suppressed,
        "cannot accept connections, retrying; if file descriptors ran out, raise the limit (ulimit -n)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(REFUSAL).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(
            serde_json::from_str::<serde_json::Value>(body).is_ok_and(|body| body["code"] == "too_many_connections")
        );
    }
}
