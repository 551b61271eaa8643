//! What a client has seen of a log, on whichever servers it has been.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::DEADLINE;
use super::program::Program;

/// What a client has been sent, by offset.
#[derive(Default)]
pub struct Seen {
    pub epoch: String,
    pub cursor: u64,
    /// The messages after this offset are all that there are; those up to it are the values of then.
    pub joined: Option<u64>,
    /// Frames and topic statuses.
    pub messages: BTreeMap<u64, String>,
    /// When each came.
    pub at: BTreeMap<u64, Instant>,
    pub skipped: Vec<Value>,
    pub gaps: usize,
}

impl Seen {
    /// Reads on from where it is, on this node, until it has this offset, or the connection ends.
    pub async fn read(&mut self, node: &Program, until: u64) {
        let since =
            if self.epoch.is_empty() { String::new() } else { format!("&since={}:{}", self.epoch, self.cursor) };
        let url = node.ws(&format!("/v1/ws?policy=lossless&topics=%3E{since}"));
        let (mut stream, _) = connect_async(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        while self.cursor < until {
            let next = timeout(DEADLINE, stream.next()).await.unwrap_or_else(|_| panic!("{url}: silence"));
            let Some(Ok(Message::Text(text))) = next else { return };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            match message["op"].as_str() {
                Some("welcome") => {
                    let epoch = message["epoch"].as_str().expect("an epoch");
                    assert!(self.epoch.is_empty() || self.epoch == epoch, "{url}: another epoch, {message}");
                    self.epoch = epoch.to_owned();
                }
                Some("skipped") => self.skipped.push(message),
                Some("subscribed") if self.joined.is_none() => self.joined = message["offset"].as_u64(),
                None | Some("gap" | "stale" | "live" | "refused") => {
                    let Some(offset) = message["offset"].as_u64() else { continue };
                    assert!(offset > self.cursor, "{url}: {offset} after {}", self.cursor);
                    self.gaps += usize::from(message["op"] == "gap");
                    self.cursor = offset;
                    self.at.insert(offset, Instant::now());
                    self.messages.insert(offset, text.as_str().to_owned());
                }
                Some(_) => {}
            }
        }
    }
}

/// Where two have seen the same offset, they have seen the same message.
pub fn check_equal(all: &[Seen]) {
    let mut known: BTreeMap<u64, &String> = BTreeMap::new();
    let mut compared = 0;
    for seen in all {
        for (offset, text) in &seen.messages {
            match known.get(offset) {
                Some(same) => {
                    assert_eq!(*same, text, "two contents of {offset}");
                    compared += 1;
                }
                None => {
                    known.insert(*offset, text);
                }
            }
        }
    }
    assert!(compared > 100, "only {compared} offsets were seen twice");
}

/// Offset of the newest message.
pub fn head(node: &Program) -> u64 {
    node.get("/v1/snapshot").json()["offset"].as_u64().expect("an offset")
}
