//! The shared log as a stream of JetStream, as far as the tests need it.

use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::{Client, ConnectOptions, Event, Request, RequestErrorKind};
use backbone::log::{CallId, LogBounds, LogRange, LogReply, LogSequence, SharedLog, StoredBytes};
use backbone::node::NodeEvent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

const STREAM: &str = "LOG";
const APPENDS: &str = "t.log";
const COMMITTED: &str = "t.out";
const STREAM_NOT_FOUND: u64 = 10_059;
const READ_MAX: u64 = 64;

#[derive(Clone)]
pub struct StreamLog {
    client: Client,
    events: UnboundedSender<NodeEvent>,
}

impl StreamLog {
    pub async fn connect(url: &str, events: UnboundedSender<NodeEvent>) -> StreamLog {
        let told = events.clone();
        let options = ConnectOptions::new()
            .ping_interval(Duration::from_secs(1))
            .request_timeout(Some(Duration::from_secs(2)))
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .event_callback(move |event| {
                if matches!(event, Event::Connected) {
                    let _ = told.send(NodeEvent::Reconnected);
                }
                async {}
            });
        let client = options.connect(url).await.expect("nats-server listens");
        let mut committed = client.subscribe(COMMITTED).await.expect("a subscription");
        let told = events.clone();
        tokio::spawn(async move {
            while let Some(message) = committed.next().await {
                let sequence = message.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
                let sequence = sequence.and_then(|sequence| sequence.as_str().parse().ok()).expect("it is republished");
                let stored = StoredBytes { sequence: LogSequence(sequence), bytes: message.payload };
                let _ = told.send(NodeEvent::Tailed(stored));
            }
        });
        StreamLog { client, events }
    }

    /// Whether anybody answers for the term.
    pub fn ping(&self, term: u64) {
        let (client, events) = (self.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let is_answered = match client.request(format!("t.ask.{term}"), Bytes::new()).await {
                Ok(_) => true,
                Err(error) if error.kind() == RequestErrorKind::NoResponders => false,
                Err(_) => return,
            };
            let _ = events.send(NodeEvent::Pinged { term, is_answered });
        });
    }

    /// Until the task is aborted.
    pub async fn answer_for(self, term: u64) {
        let mut asked = self.client.subscribe(format!("t.ask.{term}")).await.expect("a subscription");
        while let Some(message) = asked.next().await {
            if let Some(reply) = message.reply {
                let _ = self.client.publish(reply, Bytes::new()).await;
            }
        }
    }

    pub async fn delete(&self) {
        let deleted = self.api("STREAM.DELETE", Value::Null).await.expect("an answer");
        assert_eq!(deleted["success"], true, "{deleted}");
    }

    fn reply(&self, call: CallId, reply: impl Future<Output = Option<LogReply>> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Some(reply) = reply.await {
                let _ = events.send(NodeEvent::Replied { call, reply });
            }
        });
    }

    async fn api(&self, call: &str, body: Value) -> Option<Value> {
        let payload = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let message = self.client.request(format!("$JS.API.{call}.{STREAM}"), payload).await.ok()?;
        serde_json::from_slice(&message.payload).ok()
    }

    async fn stored(self, expected: LogSequence, entry: Bytes) -> Option<LogReply> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", STREAM);
        headers.insert("Nats-Expected-Last-Sequence", expected.0.to_string());
        match self.client.send_request(APPENDS, Request::new().headers(headers).payload(entry)).await {
            Ok(message) => {
                let reply: Value = serde_json::from_slice(&message.payload).ok()?;
                let sequence = reply["seq"].as_u64().filter(|_| reply["error"].is_null());
                Some(sequence.map_or(LogReply::Refused, |sequence| LogReply::Appended(LogSequence(sequence))))
            }
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Some(LogReply::Unavailable),
            Err(_) => None,
        }
    }

    async fn bounds(self) -> Option<LogReply> {
        let info = self.api("STREAM.INFO", Value::Null).await?;
        let number = |name: &str| info["state"][name].as_u64();
        let (Some(first), Some(last)) = (number("first_seq"), number("last_seq")) else {
            let is_missing = info["error"]["err_code"] == STREAM_NOT_FOUND;
            return Some(if is_missing { LogReply::Missing } else { LogReply::Unavailable });
        };
        let first = if first == 0 { last + 1 } else { first };
        Some(LogReply::Bounds(LogBounds { first: LogSequence(first), last: LogSequence(last) }))
    }

    async fn entries(self, range: LogRange) -> Option<LogReply> {
        let to = range.to.0.min(range.from.0 + READ_MAX - 1);
        let mut entries = Vec::new();
        for sequence in range.from.0..=to {
            let got = self.api("STREAM.MSG.GET", json!({ "seq": sequence })).await?;
            if let Some(data) = got["message"]["data"].as_str() {
                let bytes = STANDARD.decode(data).expect("base64").into();
                entries.push(StoredBytes { sequence: LogSequence(sequence), bytes });
            }
        }
        Some(LogReply::Entries { entries, read_to: LogSequence(to) })
    }

    async fn created(self) -> Option<LogReply> {
        let config = json!({
            "name": STREAM, "subjects": [APPENDS], "storage": "file", "discard": "old",
            "duplicate_window": 100_000_000, "republish": { "src": APPENDS, "dest": COMMITTED },
        });
        let made = self.api("STREAM.CREATE", config).await?;
        Some(if made["error"].is_null() { LogReply::Created } else { LogReply::Unavailable })
    }
}

impl SharedLog for StreamLog {
    fn append(&mut self, call: CallId, expected: LogSequence, entry: Bytes) {
        self.reply(call, self.clone().stored(expected, entry));
    }

    fn tail(&mut self, call: CallId) {
        self.reply(call, self.clone().bounds());
    }

    fn read(&mut self, call: CallId, range: LogRange) {
        self.reply(call, self.clone().entries(range));
    }

    fn create(&mut self, call: CallId) {
        self.reply(call, self.clone().created());
    }
}
