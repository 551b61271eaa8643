//! The part that all venues share: a listener, the handshake, and one line per guest.
//!
//! A guest is served by one task that does two things at once: it drains what the guest sends (pings are answered by
//! tungstenite meanwhile) and lets the venue talk. Bounds: `GUESTS_MAX` guests, one message of `MESSAGE_BYTES_MAX`
//! from each, `WRITE_BUFFER_BYTES` unsent bytes and a message for each. A guest that accepts nothing for
//! `WRITE_DEADLINE` is cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tracing::{debug, info, warn};

use crate::simulator::SimulatorError;

/// A venue has one guest, or a handful while it is tried out; further ones are turned away.
const GUESTS_MAX: usize = 256;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Ten times the longest pause of a loaded machine that was seen; a guest this far gone has to start over anyway.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// How long guests may take to answer the close frame when the venue stops.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);
/// After a failed accept (no file descriptors left, for one), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A venue's largest subscribe message is a few KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const WRITE_BUFFER_BYTES: usize = 32 << 10;

/// A bound listener.
pub(super) struct Listener {
    listener: TcpListener,
    addr: SocketAddr,
}

/// The sending half of one guest's connection.
pub(super) struct GuestConnection {
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
}

/// What a venue has to say, and to whom.
pub(super) trait Host: Send + Sync + 'static {
    /// Says everything that one guest is told. Dropped when the guest leaves or the venue stops.
    fn talk(&self, line: &mut GuestConnection) -> impl Future<Output = Farewell> + Send;
}

/// Why nothing more is said to a guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The connection ended or broke.
    Gone,
    /// The guest read too slowly for too long; the text says what was too much.
    Slow(&'static str),
    /// The venue is stopping.
    Stopping,
}

impl Listener {
    pub async fn bind(addr: SocketAddr) -> Result<Listener, SimulatorError> {
        let listen = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => SimulatorError::AddressInUse { addr },
            _ => SimulatorError::Listen { addr, source },
        };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        Ok(Listener { listener, addr })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets guests in until `stop` becomes true or its sender is gone; `host` says everything a guest is told.
    pub async fn serve(self, mut stop: watch::Receiver<bool>, host: impl Host) {
        let host = Arc::new(host);
        let mut guests = JoinSet::new();
        let told = stop.clone();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((_, peer)) if guests.len() >= GUESTS_MAX => {
                        warn!(%peer, max = GUESTS_MAX, "a client was refused: too many are connected");
                    }
                    Ok((socket, peer)) => {
                        guests.spawn(receive(socket, peer, told.clone(), host.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "a client could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = guests.join_next() => {}
                () = told_to_stop(&mut stop) => break,
            }
        }
        drop(self.listener);
        // Each guest's task sees the same stop, says goodbye and ends by itself within its deadlines.
        while guests.join_next().await.is_some() {}
    }
}

impl GuestConnection {
    /// Takes one message; waits while the guest has not accepted the ones before.
    pub async fn put(&mut self, message: Message) -> Result<(), Farewell> {
        within_deadline(self.sink.feed(message)).await
    }

    /// Waits until the guest's socket has accepted everything.
    pub async fn flush(&mut self) -> Result<(), Farewell> {
        within_deadline(self.sink.flush()).await
    }
}

/// The deadline stands around the blocked write, not inside it.
async fn within_deadline<E>(write: impl Future<Output = Result<(), E>>) -> Result<(), Farewell> {
    match timeout(WRITE_DEADLINE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Farewell::Gone),
        Err(_) => Err(Farewell::Slow("no byte was accepted for 30 s")),
    }
}

async fn receive(socket: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>, host: Arc<impl Host>) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX));
    let handshake = timeout(HANDSHAKE_DEADLINE, accept_async_with_config(socket, Some(config)));
    let answer = tokio::select! {
        answer = handshake => answer,
        () = told_to_stop(&mut stop) => return,
    };
    let stream = match answer {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return info!(%peer, %error, "expected a WebSocket handshake"),
        Err(_) => return info!(%peer, "expected a WebSocket handshake within 10 s"),
    };
    info!(%peer, "client connected");
    let (sink, mut source) = stream.split();
    let mut line = GuestConnection { sink };
    let farewell = tokio::select! {
        farewell = host.talk(&mut line) => farewell,
        () = drain(&mut source) => Farewell::Gone,
        () = told_to_stop(&mut stop) => Farewell::Stopping,
    };
    info!(%peer, ?farewell, "client disconnected");
    part(line, source, &farewell).await;
}

/// Ends when `stop` becomes true or nobody is left to make it so.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Reads and forgets until the guest is gone. Pings and close frames are answered by the reading itself.
async fn drain(source: &mut SplitStream<WebSocketStream<TcpStream>>) {
    while let Some(Ok(_)) = source.next().await {}
}

/// Sends the close frame and waits a moment for the answer. A guest that reads nothing is dropped unheard.
async fn part(mut line: GuestConnection, mut source: SplitStream<WebSocketStream<TcpStream>>, farewell: &Farewell) {
    let (code, reason) = match farewell {
        Farewell::Gone => return,
        Farewell::Slow(reason) => (CloseCode::Policy, *reason),
        Farewell::Stopping => (CloseCode::Away, "the venue is stopping"),
    };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let farewell = async {
        if line.sink.send(close).await.is_ok() {
            drain(&mut source).await;
        }
    };
    if timeout(CLOSE_DEADLINE, farewell).await.is_err() {
        debug!("a client did not answer the close frame");
    }
}
