//! Clients that stay through a hand-over, each on one topic, and account for every message; and strangers who come all the
//! time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kit::DEADLINE;
use kit::client::Client;
use kit::http_client::HttpClient;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// What a client has from one connection.
#[derive(Debug, Default)]
pub struct Visit {
    pub epoch: String,
    /// Text by offset.
    pub frames: BTreeMap<u64, String>,
    /// Everything else, but for heartbeats.
    pub notices: Vec<Value>,
    /// How long after the moment that the server has named for it the client was welcomed.
    pub late: Duration,
}

impl Visit {
    pub fn cursor(&self) -> String {
        format!("{}:{}", self.epoch, self.frames.keys().last().copied().unwrap_or_default())
    }

    /// Those with this `op`.
    pub fn told<'v>(&'v self, op: &'v str) -> impl Iterator<Item = &'v Value> {
        self.notices.iter().filter(move |notice| notice["op"] == op)
    }
}

/// What the members of a crowd have in common.
#[derive(Clone)]
pub struct Signs {
    /// They end.
    pub over: Arc<AtomicBool>,
    /// Clients that have had a frame since they came, by how often they have come.
    pub here: [Arc<AtomicUsize>; 3],
}

impl Signs {
    pub fn new() -> Signs {
        Signs { over: Arc::default(), here: Default::default() }
    }

    pub fn here(&self, visit: usize) -> usize {
        self.here[visit].load(Ordering::SeqCst)
    }
}

/// Comes, and comes back whenever it is sent away, until `signs` say that it is over. A client that is refused fails.
pub async fn follow(address: SocketAddr, query: String, signs: Signs) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::new();
    loop {
        let since = visits.last().map_or(String::new(), |visit| format!("&since={}", visit.cursor()));
        let url = format!("ws://{address}/v1/ws?policy=lossless&{query}{since}");
        let (visit, reconnect_ms) = visit(&url, signs.here.get(visits.len()), &signs).await;
        visits.push(visit);
        let Some(reconnect_ms) = reconnect_ms else { return visits };
        tokio::time::sleep(Duration::from_millis(reconnect_ms)).await;
    }
}

/// One connection, up to its end; when to come back, if it was sent away.
async fn visit(url: &str, here: Option<&Arc<AtomicUsize>>, signs: &Signs) -> (Visit, Option<u64>) {
    let due = Instant::now();
    let connected = timeout(DEADLINE, connect_async(url)).await.unwrap_or_else(|_| panic!("{url}: no answer"));
    let (mut stream, _) = connected.unwrap_or_else(|error| panic!("{url}: {error}"));
    let (mut visit, mut reconnect_ms) = (Visit::default(), None);
    loop {
        let next = timeout(DEADLINE, stream.next()).await.unwrap_or_else(|_| panic!("{url}: silence"));
        let Some(Ok(message)) = next else { break };
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        match message["op"].as_str() {
            None => {
                let offset = message["offset"].as_u64().expect("a frame has an offset");
                if let Some(here) = here
                    && visit.frames.is_empty()
                {
                    here.fetch_add(1, Ordering::SeqCst);
                }
                let before = visit.frames.insert(offset, text.as_str().to_owned());
                assert_eq!(before, None, "{url}: {offset} twice");
            }
            Some("heartbeat") => {}
            Some("welcome") => {
                visit.epoch = message["epoch"].as_str().expect("an epoch").to_owned();
                visit.late = due.elapsed();
            }
            Some(op) => {
                if op == "goodbye" {
                    reconnect_ms = Some(message["reconnect_ms"].as_u64().expect("a time"));
                }
                visit.notices.push(message);
            }
        }
        if signs.over.load(Ordering::SeqCst) {
            return (visit, None);
        }
    }
    let reconnect_ms = reconnect_ms.unwrap_or_else(|| panic!("{url}: an end without a goodbye"));
    (visit, Some(reconnect_ms))
}

/// Connects, asks and leaves, over and over, by WebSocket and by HTTP: each time it is answered. Gives how often.
pub fn visitors(address: SocketAddr, signs: &Signs) -> Vec<JoinHandle<usize>> {
    let over = signs.over.clone();
    let by_websocket = async move {
        let mut times = 0;
        while !over.load(Ordering::SeqCst) {
            let mut client = Client::connect(&format!("ws://{address}/v1/ws")).await;
            client.expect_op("welcome").await;
            times += 1;
        }
        times
    };
    let over = signs.over.clone();
    let by_http = async move {
        let (mut times, mut kept) = (0, None);
        while !over.load(Ordering::SeqCst) {
            let mut client = match kept.take() {
                Some(client) => client,
                None => HttpClient::connect(address).await,
            };
            let answer = client.request("GET", "/v1/topics", "").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            times += 1;
            // A server that hands over ends connections with an answer, and not between two.
            if answer.header("connection") != Some("close") && times % 10 > 0 {
                kept = Some(client);
            }
        }
        times
    };
    vec![tokio::spawn(by_websocket), tokio::spawn(by_http)]
}
