//! The listening socket, the accept loop, and one task per connection that is not upgraded yet.
//!
//! | bound | at the bound |
//! |---|---|
//! | `connections_max` connections | nothing is accepted until one ends; newcomers wait in the kernel's queue |
//! | `BACKLOG` connections in the kernel's queue | the kernel lets clients try again |
//! | `HEAD_BYTES_MAX` per request head | 431, and the connection is closed |
//! | `header_timeout` per request head | the connection is closed |
//! | `CONNECTION_AGE_MAX` | the answer under way may end within `stop_timeout`, then the connection is closed |

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_service::Service;

use crate::edge::upgrade::Peer;
use crate::edge::{Phase, Settings};

/// Connections that may wait to be accepted: two seconds' worth at 2,000 a second. The kernel's somaxconn may be lower.
const BACKLOG: i32 = 4096;

/// 32 KiB: a query with several hundred patterns, and far more than browsers send.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A connection that is still not upgraded after this time reads an answer very slowly, or would rather not end.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);

/// After a failed accept, usually for want of file descriptors: long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often failed accepts are told to the log at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// Listens, with room for [`BACKLOG`] connections, in non-blocking mode.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server listen while connections of its predecessor are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `phase` is [`Phase::Stopped`], then waits for the connections to end.
pub(super) async fn accept_all(
    listener: tokio::net::TcpListener,
    router: Router,
    settings: &Settings,
    mut phase: watch::Receiver<Phase>,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let mut complaint = Complaint::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut phase) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((socket, peer, place)) => {
                let connection = Connection {
                    router: router.clone(),
                    peer,
                    phase: phase.clone(),
                    header_timeout: settings.header_timeout,
                    stop_timeout: settings.stop_timeout,
                    _place: place,
                };
                tokio::spawn(connection.serve(socket));
            }
            Err(error) if concerns_one_client(&error) => {}
            Err(error) => {
                complaint.utter(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(settings.connections_max).unwrap_or(u32::MAX);
    // Each connection ends itself within `stop_timeout`; there is nothing left to do if one of them is late.
    let _ = tokio::time::timeout(settings.stop_timeout, places.acquire_many(all)).await;
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.expect("the places are never closed");
    let (socket, peer) = listener.accept().await?;
    // Small frames must leave at once; the socket keeps the option when it is handed over.
    socket.set_nodelay(true)?;
    Ok((socket, peer, place))
}

/// The client went away between connecting and being accepted: some systems tell by accept(2), others by the EINVAL
/// of the first setsockopt(2).
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput
    )
}

/// Returns when nothing shall be accepted any more; also if nobody is left to say so.
async fn stopped(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await;
}

/// One connection before its upgrade, if it ever comes to one.
struct Connection {
    router: Router,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    header_timeout: Duration,
    stop_timeout: Duration,
    /// Given back when the connection has ended or was upgraded.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(mut self, socket: TcpStream) {
        let peer = Peer(self.peer);
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let mut router = router.clone();
            async move { Service::call(&mut router, request).await.map_err(|never: Infallible| never) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stopped(&mut self.phase) => None,
            () = tokio::time::sleep(CONNECTION_AGE_MAX) => None,
        };
        let ended = match ended {
            Some(ended) => Ok(ended),
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

/// Tells the log of failed accepts, but not of each.
#[derive(Default)]
struct Complaint {
    uttered: Option<Instant>,
    kept_back: u64,
}

impl Complaint {
    fn utter(&mut self, error: &io::Error) {
        if self.uttered.is_some_and(|uttered| uttered.elapsed() < COMPLAINT_INTERVAL) {
            self.kept_back += 1;
            return;
        }
        tracing::warn!(
            %error,
            kept_back = self.kept_back,
            "cannot accept connections, trying again; if file descriptors ran out, raise the limit (ulimit -n)"
        );
        *self = Complaint { uttered: Some(Instant::now()), kept_back: 0 };
    }
}
