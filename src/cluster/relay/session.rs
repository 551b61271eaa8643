//! One relay that reads the log of this server. It has a place of its own in what is kept, and a task of its own.

use std::sync::Arc;
use std::time::Duration;

use backbone::log::{CallId, LogRange};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::cluster::relay::greeting::ParentGreeting;
use crate::cluster::relay::meters::RelayEnd;
use crate::cluster::relay::served_log::ServedLog;
use crate::cluster::relay::wire::{ParentMessage, REQUEST_BYTES_MAX, RelayRequest};

/// A relay misses its parent after about three of these.
const BEAT: Duration = Duration::from_millis(250);
/// A relay that takes nothing for this long is left; it comes back by itself.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// For the goodbye.
const CLOSE_MAX: Duration = Duration::from_millis(200);

/// A request for a snapshot, or a piece of it, and where the answer goes.
pub(super) struct SnapshotAsk {
    pub request: Bytes,
    pub answer: oneshot::Sender<Bytes>,
}

/// What a session reads of this server.
#[derive(Clone)]
pub(super) struct SessionSources {
    pub log: Arc<ServedLog>,
    pub snapshots: mpsc::Sender<SnapshotAsk>,
    pub greeting: watch::Receiver<Option<ParentGreeting>>,
    pub stopped: watch::Receiver<bool>,
}

pub(super) struct RelaySession<S> {
    socket: WebSocketStream<S>,
    sources: SessionSources,
    /// The relay's number, which it has said itself.
    node: u64,
    /// Of the next entry; none before it has asked for the tail.
    place: Option<u64>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RelaySession<S> {
    /// `unread` is what came behind the upgrade.
    pub async fn begin(stream: S, unread: Vec<u8>, sources: SessionSources, node: u64) -> RelaySession<S> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(REQUEST_BYTES_MAX))
            .max_frame_size(Some(REQUEST_BYTES_MAX));
        let socket = WebSocketStream::from_partially_read(stream, unread, Role::Server, Some(config)).await;
        RelaySession { socket, sources, node, place: None }
    }

    pub async fn run(mut self) -> RelayEnd {
        let end = self.serve().await.err().unwrap_or(RelayEnd::Stopped);
        let (code, reason) = match end {
            RelayEnd::Closed => return end,
            RelayEnd::TooSlow => (CloseCode::Again, "too slow: what would follow is not kept any more"),
            RelayEnd::Malformed => (CloseCode::Protocol, "expected a request of fanline.log.v1"),
            RelayEnd::Loop => (CloseCode::Policy, "this relay would follow itself"),
            RelayEnd::Stopped => (CloseCode::Away, "the server is stopping"),
        };
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let goodbye = async {
            self.socket.send(close).await?;
            // A socket with something unread is reset when it is closed, and the relay would not read the goodbye.
            while self.socket.next().await.is_some_and(|message| message.is_ok()) {}
            Ok::<(), SocketError>(())
        };
        // It may be gone, or take nothing.
        let _ = timeout(CLOSE_MAX, goodbye).await;
        end
    }

    /// Until the stop.
    async fn serve(&mut self) -> Result<(), RelayEnd> {
        let (mut pushed, mut greeting, mut stopped) =
            (self.sources.log.watch(), self.sources.greeting.clone(), self.sources.stopped.clone());
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        greeting.mark_changed();
        loop {
            tokio::select! {
                message = self.socket.next() => {
                    let message = message.and_then(Result::ok).ok_or(RelayEnd::Closed)?;
                    self.hear(message).await?;
                }
                Ok(()) = pushed.changed(), if self.place.is_some() => self.push().await?,
                Ok(()) = greeting.changed() => {
                    let Some(greeting) = greeting.borrow_and_update().clone() else { continue };
                    if greeting.path.0.contains(&self.node) {
                        return Err(RelayEnd::Loop);
                    }
                    self.send([ParentMessage::Greeting(greeting.write())]).await?;
                }
                _ = beats.tick() => self.send([ParentMessage::Beat]).await?,
                () = is_stopped(&mut stopped) => return Ok(()),
            }
        }
    }

    async fn hear(&mut self, message: Message) -> Result<(), RelayEnd> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(RelayEnd::Closed),
            Message::Text(_) | Message::Frame(_) => return Err(RelayEnd::Malformed),
        };
        match RelayRequest::read(bytes).ok_or(RelayEnd::Malformed)? {
            RelayRequest::Tail { call } => {
                let (bounds, place) = self.sources.log.tail();
                self.place.get_or_insert(place);
                self.send([ParentMessage::Bounds { call, bounds }]).await
            }
            RelayRequest::Read { call, range } => self.read(call, range).await,
            RelayRequest::Snapshot { call, request } => {
                let (answer, answered) = oneshot::channel();
                let ask = SnapshotAsk { request, answer };
                let is_asked = self.sources.snapshots.send(ask).await.is_ok();
                // Nothing says that it is given no longer.
                let answer = answered.await.ok().filter(|_| is_asked).unwrap_or_default();
                self.send([ParentMessage::Snapshot { call, answer }]).await
            }
        }
    }

    async fn read(&mut self, call: CallId, range: LogRange) -> Result<(), RelayEnd> {
        let (entries, read_to) = self.sources.log.read(range);
        let entries = entries.into_iter().map(|stored| ParentMessage::Entry { call, stored });
        self.send(entries.chain([ParentMessage::ReadTo { call, read_to }])).await
    }

    /// What was pushed since the last time.
    async fn push(&mut self) -> Result<(), RelayEnd> {
        while let Some(place) = self.place {
            let (entries, next) = self.sources.log.after(place).map_err(|_| RelayEnd::TooSlow)?;
            if entries.is_empty() {
                break;
            }
            self.place = Some(next);
            self.send(entries.into_iter().map(ParentMessage::Tailed)).await?;
        }
        Ok(())
    }

    /// All of them, or the relay is left.
    async fn send(&mut self, messages: impl IntoIterator<Item = ParentMessage>) -> Result<(), RelayEnd> {
        let socket = &mut self.socket;
        let send = async move {
            for message in messages {
                socket.feed(Message::Binary(message.write())).await?;
            }
            socket.flush().await
        };
        match timeout(WRITE_MAX, send).await {
            Ok(sent) => sent.map_err(|_| RelayEnd::Closed),
            Err(_) => Err(RelayEnd::TooSlow),
        }
    }
}

/// Waits for the stop.
async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    // Without a sender the server is ending.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
