//! Clients that come and go, each with a habit, and do not look at what they read.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kit::raw_client::{OFFER, TEXT, masked};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The longest visit.
const STAY_MS: u64 = 20_000;
/// A pace that most clients ask for, so that a crowd does not cost the machine what it measures.
const EVERY_MS: u64 = 1000;
const CLOSE: u8 = 0x88;

#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Leaves with a close frame.
    Leaves,
    /// Hangs up.
    HangsUp,
    /// Ends the connection with a reset.
    Resets,
    /// Reads nothing, and then everything.
    Stalls,
    /// Changes its list all the time.
    Changes,
    /// Sends half a command.
    Breaks,
}

const HABITS: [(Habit, &str); 6] = [
    (Habit::Leaves, "visits that end with a close frame"),
    (Habit::HangsUp, "visits that end by hanging up"),
    (Habit::Resets, "visits that end with a reset"),
    (Habit::Stalls, "visits that do not read"),
    (Habit::Changes, "visits with changing lists"),
    (Habit::Breaks, "visits that break off in a command"),
];

pub struct Crowd {
    clients: Vec<JoinHandle<()>>,
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    refused: Arc<AtomicU64>,
}

impl Crowd {
    pub fn come(runtime: &Runtime, address: SocketAddr, clients: usize, seed: u64, is_over: &Arc<AtomicBool>) -> Crowd {
        let counts = Arc::new(Mutex::new(HABITS.iter().map(|(_, name)| (*name, 0)).collect::<BTreeMap<_, _>>()));
        let refused = Arc::new(AtomicU64::default());
        let clients = (0..clients as u64).map(|index| {
            let (is_over, counts, refused) = (is_over.clone(), counts.clone(), refused.clone());
            let mut rng = SmallRng::seed_from_u64(seed ^ (index << 20));
            runtime.spawn(async move {
                // Not all at once.
                sleep(Duration::from_millis(rng.random_range(0..3000))).await;
                while !is_over.load(Relaxed) {
                    let (habit, name) = HABITS[rng.random_range(0..HABITS.len())];
                    match visit(address, habit, &mut rng, &is_over).await {
                        Ok(true) => {
                            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1
                        }
                        Ok(false) => {
                            refused.fetch_add(1, Relaxed);
                            sleep(Duration::from_secs(1)).await;
                        }
                        // Ended by the server, or while it was connecting.
                        Err(_) => sleep(Duration::from_millis(100)).await,
                    }
                }
            })
        });
        Crowd { clients: clients.collect(), counts, refused }
    }

    pub fn counts(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let visits: u64 = counts.values().sum();
        format!("visits: {visits}, refused: {}", self.refused.load(Relaxed))
    }

    pub fn counts_by_name(&self) -> Vec<(String, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    /// After it is over.
    pub fn leave(&self, runtime: &Runtime) {
        let deadline = Instant::now() + Duration::from_millis(2 * STAY_MS);
        runtime.block_on(async {
            while Instant::now() < deadline && self.clients.iter().any(|client| !client.is_finished()) {
                sleep(Duration::from_millis(50)).await;
            }
        });
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// False if the server has no place.
async fn visit(address: SocketAddr, habit: Habit, rng: &mut SmallRng, is_over: &AtomicBool) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let pace = if rng.random_bool(0.8) { format!("&every={EVERY_MS}") } else { String::new() };
    let offer = if rng.random_bool(0.5) { OFFER } else { "" };
    let head = format!(
        "GET /v1/ws?topics={}{pace} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n",
        topic(rng)
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = vec![0; 16 << 10];
    let read = stream.read(&mut bytes).await?;
    if !bytes[..read].starts_with(b"HTTP/1.1 101") {
        return Ok(false);
    }
    let end = Instant::now() + Duration::from_millis(rng.random_range(50..STAY_MS));
    if matches!(habit, Habit::Stalls) {
        while Instant::now() < end && !is_over.load(Relaxed) {
            sleep(Duration::from_millis(100)).await;
        }
    }
    while Instant::now() < end && !is_over.load(Relaxed) {
        if matches!(habit, Habit::Changes) {
            let op = if rng.random_bool(0.5) { "subscribe" } else { "unsubscribe" };
            let command = format!(r#"{{"op":"{op}","topics":["{}"],"brief":true}}"#, topic(rng));
            stream.write_all(&masked(TEXT, command.as_bytes())).await?;
        }
        let look = end.min(Instant::now() + Duration::from_millis(500));
        match timeout_at(look, stream.read(&mut bytes)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    match habit {
        Habit::Leaves => {
            stream.write_all(&masked(CLOSE, &1000_u16.to_be_bytes())).await?;
            // Until the server has answered, or a while.
            while let Ok(Ok(1..)) = timeout(Duration::from_secs(5), stream.read(&mut bytes)).await {}
        }
        Habit::Resets => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        Habit::Breaks => {
            let frame = masked(TEXT, br#"{"op":"subscribe","topics":[">"]}"#);
            stream.write_all(&frame[..frame.len() / 2]).await?;
        }
        Habit::HangsUp | Habit::Stalls | Habit::Changes => {}
    }
    Ok(true)
}

fn topic(rng: &mut SmallRng) -> String {
    kit::faulty_feed::topic(rng.random_range(0..3))
}
