//! A connection to one parent: the upgrade, the greeting, and messages that are checked before anybody believes them.

use std::time::Duration;

use backbone::log::StoredBytes;
use feed_log::entry::header::EntryHeader;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::cluster::relay::greeting::{ParentGreeting, PathFault};
use crate::cluster::relay::wire::{ANSWER_BYTES_MAX, ParentMessage, RelayRequest};
use crate::cluster::relay::{OFFSET_MAX, SUBPROTOCOL};

/// For one attempt, up to the greeting.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A parent that takes nothing for this long is left.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Characters of a refusal that are logged.
const SHOWN_CHARS: usize = 300;

/// Where a parent is, and what it is shown.
#[derive(Clone, Debug)]
pub(super) struct ParentAddress {
    pub url: String,
    pub key: Option<String>,
    /// Of this process.
    pub node: u64,
}

pub(super) struct ParentConnection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub greeting: ParentGreeting,
}

/// Why a parent is not followed, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParentFault {
    #[error("expected an answer within {CONNECT_MAX:?}, found none; check that the parent is reached from here")]
    NoAnswer,
    #[error("refused with {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("{0}")]
    Socket(String),
    #[error(
        "expected messages of {SUBPROTOCOL}, found something else; check that the parent is a fanline of this version"
    )]
    Malformed,
    #[error(transparent)]
    Path(#[from] PathFault),
    #[error("its log has another epoch, and other parents come first")]
    OtherEpoch,
    #[error("nothing has come for {0:?}")]
    Silent(Duration),
    #[error("its log stands still; it may have lost its own parents")]
    Standstill,
    #[error("it takes nothing")]
    Stuck,
    #[error("it has closed the connection: {0}")]
    Closed(String),
}

impl ParentConnection {
    pub async fn open(address: &ParentAddress) -> Result<ParentConnection, ParentFault> {
        timeout(CONNECT_MAX, ParentConnection::greeted(address)).await.unwrap_or(Err(ParentFault::NoAnswer))
    }

    async fn greeted(address: &ParentAddress) -> Result<ParentConnection, ParentFault> {
        let ParentAddress { url, key, node } = address;
        let glue = if url.contains('?') { '&' } else { '?' };
        let mut request = format!("{url}{glue}node={node:016x}").into_client_request().map_err(fault)?;
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        if let Some(key) = key {
            let shown = HeaderValue::try_from(format!("Bearer {key}"));
            headers.insert(header::AUTHORIZATION, shown.map_err(|error| ParentFault::Socket(error.to_string()))?);
        }
        let config =
            WebSocketConfig::default().max_message_size(Some(ANSWER_BYTES_MAX)).max_frame_size(Some(ANSWER_BYTES_MAX));
        let (mut socket, _) = connect_async_with_config(request, Some(config), true).await.map_err(fault)?;
        let ParentMessage::Greeting(json) = next(&mut socket).await? else { return Err(ParentFault::Malformed) };
        let greeting = ParentGreeting::read(&json).ok_or(ParentFault::Malformed)?;
        greeting.path.check_child(*node)?;
        Ok(ParentConnection { socket, greeting })
    }

    /// The next message. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Result<ParentMessage, ParentFault> {
        next(&mut self.socket).await
    }

    pub async fn send(&mut self, request: RelayRequest) -> Result<(), ParentFault> {
        let send = self.socket.send(Message::Binary(request.write()));
        timeout(WRITE_MAX, send).await.map_err(|_| ParentFault::Stuck)?.map_err(fault)
    }
}

async fn next(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<ParentMessage, ParentFault> {
    loop {
        let message = socket.next().await.ok_or_else(|| ParentFault::Closed("without a word".to_owned()))?;
        match message.map_err(fault)? {
            Message::Binary(bytes) => {
                let message = ParentMessage::read(bytes).ok_or(ParentFault::Malformed)?;
                return if is_sane(&message) { Ok(message) } else { Err(ParentFault::Malformed) };
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(frame) => {
                let reason = frame.map(|frame| shown(frame.reason.as_str())).unwrap_or_default();
                return Err(ParentFault::Closed(reason));
            }
            Message::Text(_) | Message::Frame(_) => return Err(ParentFault::Malformed),
        }
    }
}

/// Whether an entry stands where there can be one. What it holds is checked where it is applied.
fn is_sane(message: &ParentMessage) -> bool {
    match message {
        ParentMessage::Tailed(StoredBytes { bytes, .. })
        | ParentMessage::Entry { stored: StoredBytes { bytes, .. }, .. } => {
            EntryHeader::decode(bytes).is_ok_and(|header| header.first > 0 && header.next_offset() < OFFSET_MAX)
        }
        _ => true,
    }
}

fn fault(error: SocketError) -> ParentFault {
    match error {
        SocketError::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            match response.status().as_u16() {
                // The body may come later than the head.
                409 if !body.contains("relay_too_deep") => ParentFault::Path(PathFault::Loop),
                status => ParentFault::Refused { status, body: shown(&body) },
            }
        }
        error => ParentFault::Socket(shown(&error.to_string())),
    }
}

/// What somebody else has said, for the log.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect()
}
