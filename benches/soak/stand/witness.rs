//! A client of everything that checks each message: the next offset, or a word about what is missing. It resumes after
//! each loss of its connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(50);
/// It looks whether all is over at least as often.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Witness {
    name: String,
    epoch: String,
    /// Everything up to here was received or told as missing.
    position: Option<u64>,
    /// Values of before follow up to here, in any order.
    values_to: u64,
    pub checked: u64,
    pub told: u64,
    pub untold: Vec<String>,
}

/// Offsets that stand for nothing after a kill (docs/ARCHIVE.md).
const PASSED_MAX: u64 = 8193;

/// A frame or a server message.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    op: String,
    epoch: Option<String>,
    offset: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
}

impl Witness {
    /// Until it is over.
    pub async fn watch(address: SocketAddr, index: usize, is_over: Arc<AtomicBool>) -> Witness {
        let mut witness = Witness { name: format!("witness {index}"), ..Witness::default() };
        while !is_over.load(Relaxed) {
            let since = witness.position.map(|position| format!("&since={}:{position}", witness.epoch));
            let url = format!("ws://{address}/v1/ws?topics=%3E{}", since.unwrap_or_default());
            let Ok((mut stream, _)) = connect_async(&url).await else {
                sleep(AGAIN).await;
                continue;
            };
            while !is_over.load(Relaxed) {
                match timeout(LOOK, stream.next()).await {
                    Ok(Some(Ok(Message::Text(text)))) => witness.read(&text),
                    Ok(Some(Ok(_))) | Err(_) => {}
                    Ok(Some(Err(_)) | None) => break,
                }
            }
        }
        witness
    }

    fn read(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<Envelope>(text) else {
            return self.accuse(&format!("no JSON: {text}"));
        };
        self.checked += 1;
        match (&*message.op, message.offset, self.position) {
            // Of another epoch, `skipped` follows.
            ("welcome", ..) => self.epoch = message.epoch.unwrap_or_default(),
            ("subscribed", Some(offset), None) => (self.position, self.values_to) = (Some(offset), offset),
            ("subscribed", ..) => {}
            ("skipped", ..) => {
                self.told += 1;
                let Some(to) = message.to.or(message.offset) else {
                    return self.accuse(&format!("a skip without an end: {text}"));
                };
                let is_next = message.from.zip(self.position).is_none_or(|(from, position)| from <= position + 1);
                if !is_next {
                    self.accuse(&format!("a skip that begins later: {text}"));
                }
                (self.position, self.values_to) = (Some(to), to);
            }
            ("heartbeat", Some(offset), Some(position)) if offset > position => {
                self.accuse(&format!("a heartbeat beyond: {text}"));
            }
            ("" | "gap" | "stale" | "live" | "refused", Some(offset), Some(position)) => {
                // A server that goes on from its archive passes over offsets, and says of each topic what is missing.
                let goes_on = message.op == "gap" && offset > position && offset - position <= PASSED_MAX;
                if offset == position + 1 || goes_on {
                    self.position = Some(offset);
                } else if offset > self.values_to {
                    self.accuse(&text[..text.len().min(200)]);
                    self.position = Some(offset);
                }
                self.told += u64::from(message.op == "gap");
            }
            _ => {}
        }
    }

    fn accuse(&mut self, what: &str) {
        self.untold.push(format!("{}: at {:?}: {what}", self.name, self.position));
    }
}
