//! A WebSocket client that speaks `fanline.v1` and hides nothing.

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::DEADLINE;
use super::program::Program;

pub struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// For messages of failed assertions.
    name: String,
}

/// A frame in its envelope; `data` is the text exactly as it stands there.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    pub topic: &'a str,
    pub offset: u64,
    pub ts: u64,
    #[serde(borrow)]
    pub data: &'a RawValue,
}

impl Client {
    /// A client that is on the quotes of the simulated market, and has had the first.
    pub async fn of_quotes(server: &Program) -> Client {
        let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.%3E")).await;
        client.expect_op("welcome").await;
        client.expect_op("subscribed").await;
        client.frame().await;
        client
    }

    pub async fn connect(url: &str) -> Client {
        let connected = timeout(DEADLINE, connect_async(url)).await;
        let connected = connected.unwrap_or_else(|_| panic!("expected a handshake in time from {url}"));
        let (stream, _) = connected.unwrap_or_else(|error| panic!("expected a WebSocket on {url}: {error}"));
        Client { stream, name: url.into() }
    }

    pub async fn send(&mut self, message: Message) {
        self.stream.send(message).await.unwrap_or_else(|error| panic!("{}: expected to send: {error}", self.name));
    }

    pub async fn command(&mut self, command: Value) {
        self.send(Message::text(command.to_string())).await;
    }

    /// The next message of any kind, pongs included.
    pub async fn next(&mut self) -> Message {
        match timeout(DEADLINE, self.stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(end) => panic!("{}: expected a message, found the end: {end:?}", self.name),
            Err(_) => panic!("{}: expected a message within {DEADLINE:?}", self.name),
        }
    }

    /// Offset of the next frame; everything that comes later has a greater one.
    pub async fn newest_offset(&mut self) -> u64 {
        let text = self.frame().await;
        let frame: Envelope = serde_json::from_str(&text).unwrap_or_else(|_| panic!("expected a frame: {text}"));
        frame.offset
    }

    /// Waits for the connection's end, however it comes. Messages before it are passed over.
    pub async fn expect_end(&mut self) {
        let ended = async { while matches!(self.stream.next().await, Some(Ok(_))) {} };
        assert!(timeout(DEADLINE, ended).await.is_ok(), "{}: expected the end within {DEADLINE:?}", self.name);
    }

    /// Everything with an `op` but heartbeats, up to the connection's end, however that comes.
    pub async fn notices_to_the_end(&mut self) -> Vec<Value> {
        let mut notices = Vec::new();
        let reading = async {
            while let Some(Ok(message)) = self.stream.next().await {
                let text = message.into_text().unwrap_or_default();
                if text.starts_with(r#"{"op":"#) && !text.starts_with(r#"{"op":"heartbeat""#) {
                    notices.push(serde_json::from_str(&text).unwrap_or_else(|_| panic!("expected JSON: {text}")));
                }
            }
        };
        assert!(timeout(DEADLINE, reading).await.is_ok(), "{}: expected the end within {DEADLINE:?}", self.name);
        notices
    }

    /// The next text message. Heartbeats and pings are passed over; nothing else is.
    pub async fn text(&mut self) -> String {
        loop {
            match self.next().await {
                Message::Text(text) if text.starts_with(r#"{"op":"heartbeat""#) => {}
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{}: expected text, found {other:?}", self.name),
            }
        }
    }

    /// The next message with an `op`, which must be `op`. Notices about the feed's state are passed over.
    pub async fn expect_op(&mut self, op: &str) -> Value {
        loop {
            let text = self.text().await;
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("expected JSON: {text}"));
            match value["op"].as_str() {
                Some("stale" | "live") if op != "stale" && op != "live" => {}
                found if found == Some(op) => return value,
                _ => panic!("{}: expected `{op}`, found {text}", self.name),
            }
        }
    }

    /// Passes over everything up to the notice that the feed is live again.
    pub async fn expect_live(&mut self) {
        while !self.text().await.starts_with(r#"{"op":"live""#) {}
    }

    /// The next frame's text, still in its envelope. Notices about the feed's state are passed over.
    pub async fn frame(&mut self) -> String {
        loop {
            let text = self.text().await;
            if !text.starts_with(r#"{"op":"stale""#) && !text.starts_with(r#"{"op":"live""#) {
                return text;
            }
        }
    }

    /// Makes sure that nothing more is on its way: the answer to a command comes next.
    pub async fn expect_silence(&mut self) {
        self.command(json!({"op": "ping", "id": "silence"})).await;
        let pong = self.expect_op("pong").await;
        assert_eq!(pong["id"], "silence");
    }

    /// As `expect_raw_silence`, with frames that are still on their way before the pong.
    pub async fn expect_raw_life(&mut self) {
        let id = Bytes::from_static(b"still there");
        self.send(Message::Ping(id.clone())).await;
        loop {
            match self.next().await {
                Message::Pong(found) if found == id => return,
                Message::Ping(_) | Message::Text(_) => {}
                other => panic!("{}: expected a pong, found {other:?}", self.name),
            }
        }
    }

    /// Like `expect_silence` for a raw connection, which gets no answers: a WebSocket pong comes next.
    pub async fn expect_raw_silence(&mut self) {
        let id = Bytes::from_static(b"silence");
        self.send(Message::Ping(id.clone())).await;
        loop {
            match self.next().await {
                Message::Pong(found) if found == id => return,
                Message::Ping(_) => {}
                other => panic!("{}: expected a pong, found {other:?}", self.name),
            }
        }
    }
}
