//! What all simulated feeds share: a listener, the handshake, and one connection per client.
//!
//! One task serves a client: it reads what the client sends (tungstenite answers pings meanwhile) and sends the feed's
//! messages. Bounds: `CLIENTS_MAX` clients, `HEARD_MAX` messages of `MESSAGE_BYTES_MAX` from each, `WRITE_BUFFER_BYTES`
//! unsent bytes and one message for each. A client that accepts nothing for `WRITE_DEADLINE` is disconnected.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tracing::{debug, info, warn};

use crate::simulator::SimulatorError;

/// A simulated feed has one client, or a handful in experiments; further ones are refused.
const CLIENTS_MAX: usize = 256;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Ten times the longest pause seen on a loaded machine. A client this far behind must start again anyway.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Time for clients to answer the close frame at a stop.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);
/// Pause after a failed accept, for example for want of file descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The largest subscribe message of any venue is a few KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const WRITE_BUFFER_BYTES: usize = 32 << 10;
/// Texts of a client that the feed has not looked at yet; further ones are discarded, and so are all if it never looks.
const HEARD_MAX: usize = 16;

/// A bound listener.
pub(super) struct Listener {
    listener: TcpListener,
    addr: SocketAddr,
}

/// The sending half of one client's connection.
pub(super) struct ClientConnection {
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    heard: mpsc::Receiver<Utf8Bytes>,
}

/// The messages of a simulated feed.
pub(super) trait MessageSource: Send + Sync + 'static {
    /// Sends all messages to one client. Dropped when the client leaves or the feed stops.
    fn send_all(&self, client: &mut ClientConnection) -> impl Future<Output = StreamEnd> + Send;
}

/// Why nothing more is sent to a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The connection ended or broke.
    Gone,
    /// The client read too slowly for too long; the text names the bound.
    Slow(&'static str),
    /// The feed is stopping.
    Stopping,
}

impl Listener {
    pub(super) async fn bind(addr: SocketAddr) -> Result<Listener, SimulatorError> {
        let listen = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => SimulatorError::AddressInUse { addr },
            _ => SimulatorError::Listen { addr, source },
        };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        Ok(Listener { listener, addr })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts clients until `stop` becomes true or its sender is gone; `feed` sends the messages.
    pub(super) async fn serve(self, mut stop: watch::Receiver<bool>, feed: impl MessageSource) {
        let feed = Arc::new(feed);
        let mut clients = JoinSet::new();
        let stopped = stop.clone();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((_, peer)) if clients.len() >= CLIENTS_MAX => {
                        warn!(%peer, max = CLIENTS_MAX, "a client was refused: too many are connected");
                    }
                    Ok((socket, peer)) => {
                        clients.spawn(receive(socket, peer, stopped.clone(), feed.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "a client could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = clients.join_next() => {}
                () = until_stopped(&mut stop) => break,
            }
        }
        drop(self.listener);
        // Each client's task sees the same stop, sends a close frame and ends within its deadlines.
        while clients.join_next().await.is_some() {}
    }
}

impl ClientConnection {
    /// Takes one message; waits until the client has accepted earlier ones.
    pub(super) async fn put(&mut self, message: Message) -> Result<(), StreamEnd> {
        within_deadline(self.sink.feed(message)).await
    }

    /// The next text that the client has said; waits for one.
    pub(super) async fn next_text(&mut self) -> Utf8Bytes {
        match self.heard.recv().await {
            Some(text) => text,
            // The client is gone, and this task with it.
            None => std::future::pending().await,
        }
    }

    /// The same without a wait.
    pub(super) fn text_at_hand(&mut self) -> Option<Utf8Bytes> {
        self.heard.try_recv().ok()
    }

    /// Waits until the client's socket has accepted everything.
    pub(super) async fn flush(&mut self) -> Result<(), StreamEnd> {
        within_deadline(self.sink.flush()).await
    }
}

/// Applies the deadline to the whole write.
async fn within_deadline<E>(write: impl Future<Output = Result<(), E>>) -> Result<(), StreamEnd> {
    match timeout(WRITE_DEADLINE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(StreamEnd::Gone),
        Err(_) => Err(StreamEnd::Slow("no byte was accepted for 30 s")),
    }
}

async fn receive(socket: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>, feed: Arc<impl MessageSource>) {
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
        () = until_stopped(&mut stop) => return,
    };
    let stream = match answer {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return info!(%peer, %error, "expected a WebSocket handshake"),
        Err(_) => return info!(%peer, "expected a WebSocket handshake within 10 s"),
    };
    info!(%peer, "client connected");
    let (sink, mut source) = stream.split();
    let (say, heard) = mpsc::channel(HEARD_MAX);
    let mut client = ClientConnection { sink, heard };
    let end = tokio::select! {
        end = feed.send_all(&mut client) => end,
        () = hear(&mut source, &say) => StreamEnd::Gone,
        () = until_stopped(&mut stop) => StreamEnd::Stopping,
    };
    info!(%peer, ?end, "client disconnected");
    close_client(client, source, &end).await;
}

/// Ends when `stop` becomes true or its sender is gone.
async fn until_stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Reads until the client is gone, and passes texts on. Reading also answers pings and close frames.
async fn hear(source: &mut SplitStream<WebSocketStream<TcpStream>>, say: &mpsc::Sender<Utf8Bytes>) {
    while let Some(Ok(message)) = source.next().await {
        if let Message::Text(text) = message {
            say.try_send(text).ok();
        }
    }
}

/// Reads and discards until the client is gone. Reading also answers pings and close frames.
async fn drain(source: &mut SplitStream<WebSocketStream<TcpStream>>) {
    while let Some(Ok(_)) = source.next().await {}
}

/// Sends the close frame and waits a moment for the answer. A client that reads nothing is dropped.
async fn close_client(
    mut client: ClientConnection,
    mut source: SplitStream<WebSocketStream<TcpStream>>,
    end: &StreamEnd,
) {
    let (code, reason) = match end {
        StreamEnd::Gone => return,
        StreamEnd::Slow(reason) => (CloseCode::Policy, *reason),
        StreamEnd::Stopping => (CloseCode::Away, "the simulator is stopping"),
    };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let closing = async {
        if client.sink.send(close).await.is_ok() {
            drain(&mut source).await;
        }
    };
    if timeout(CLOSE_DEADLINE, closing).await.is_err() {
        debug!("a client did not answer the close frame");
    }
}
