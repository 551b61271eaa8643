//! A venue that fails on demand, and counts its faults.
//!
//! It sends numbered quotes, one every few milliseconds. Its WireFrames are written by hand, so that they can be torn
//! apart and broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Interval, interval};
use tokio_tungstenite::accept_async;

const TOPICS: u64 = 3;
const PACE: Duration = Duration::from_millis(10);
/// Between two bytes of a slow venue: a quote takes 100 ms and more.
const DRIP: Duration = Duration::from_millis(2);

/// How the venue behaves towards everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Flowing,
    /// Lines are cut, and newcomers wait at the door.
    Cut,
    /// Lines are cut, and nobody listens at the port.
    Refusing,
    /// Lines stand, and nothing comes.
    Silent,
    /// Quotes come byte by byte.
    Slow,
    /// Each quote follows a text that is no JSON.
    GarbledText,
    /// Bytes that are no WireFrames, and then nothing.
    GarbledBytes,
}

pub struct FaultyFeed {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    tally: Arc<FaultCounts>,
}

/// What the venue has done so far; written by its connections.
#[derive(Default)]
pub struct FaultCounts {
    /// Handshakes completed.
    pub connections: AtomicU64,
    /// Number of the last quote that was sent whole.
    pub quotes: AtomicU64,
    pub cuts: AtomicU64,
    /// Moments at which a quote was due and none was sent.
    pub silences: AtomicU64,
    /// Bytes that were sent one by one.
    pub drips: AtomicU64,
    pub garbled_texts: AtomicU64,
    pub garbled_bytes: AtomicU64,
}

impl FaultyFeed {
    /// Opens on a free port.
    pub async fn open() -> FaultyFeed {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (mood, moods) = watch::channel(Mood::Flowing);
        let tally = Arc::new(FaultCounts::default());
        tokio::spawn(attend(listener, moods, tally.clone()));
        FaultyFeed { address, mood, tally }
    }

    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    pub fn ws(&self) -> String {
        format!("ws://{}/feed", self.address)
    }

    pub fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub fn tally(&self) -> &FaultCounts {
        &self.tally
    }

    /// How often the venue has failed in this way.
    pub fn faults(&self, mood: Mood) -> u64 {
        let tally = &self.tally;
        let counter = match mood {
            Mood::Flowing => return 0,
            Mood::Cut | Mood::Refusing => &tally.cuts,
            Mood::Silent => &tally.silences,
            Mood::Slow => &tally.drips,
            Mood::GarbledText => &tally.garbled_texts,
            Mood::GarbledBytes => &tally.garbled_bytes,
        };
        counter.load(Ordering::SeqCst)
    }
}

/// The text of a quote.
pub fn quote(number: u64) -> String {
    format!(r#"{{"topic":"{}","n":{number}}}"#, topic(number))
}

/// The topic of a quote.
pub fn topic(number: u64) -> String {
    format!("quote.T{}", number % TOPICS)
}

/// Accepts, or does not, as the mood says.
async fn attend(listener: TcpListener, mut moods: watch::Receiver<Mood>, tally: Arc<FaultCounts>) {
    let address = listener.local_addr().expect("bound");
    let mut listener = Some(listener);
    loop {
        let mood = *moods.borrow_and_update();
        if mood == Mood::Refusing {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.expect("the port is still free"));
        }
        let newcomer = async {
            match &listener {
                Some(listener) if mood != Mood::Cut => listener.accept().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = moods.changed() => if changed.is_err() { return },
            accepted = newcomer => {
                let (socket, _) = accepted.expect("a connection");
                tokio::spawn(serve(socket, moods.clone(), tally.clone()));
            }
        }
    }
}

/// One connection, to its end by either side.
async fn serve(socket: TcpStream, mut moods: watch::Receiver<Mood>, tally: Arc<FaultCounts>) {
    // Bytes must leave one by one.
    socket.set_nodelay(true).expect("a TCP option");
    let Ok(stream) = accept_async(socket).await else { return };
    tally.connections.fetch_add(1, Ordering::SeqCst);
    let (mut hearing, mut speaking) = stream.into_inner().into_split();
    // What the guest says is of no interest; but unread bytes would turn the end of the line into a reset.
    let listening = tokio::spawn(async move { copy(&mut hearing, &mut sink()).await });
    let mut pace = interval(PACE);
    let mut drip = interval(DRIP);
    loop {
        tokio::select! {
            biased;
            changed = moods.changed() => if changed.is_err() { break },
            _ = pace.tick() => {}
        }
        let mood = *moods.borrow();
        if act(mood, &mut speaking, &mut drip, &tally).await.is_err() {
            break;
        }
    }
    listening.abort();
}

/// Does what the mood says once; an error ends the connection.
async fn act(mood: Mood, line: &mut OwnedWriteHalf, drip: &mut Interval, tally: &FaultCounts) -> std::io::Result<()> {
    let number = tally.quotes.load(Ordering::SeqCst) + 1;
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
    match mood {
        Mood::Cut | Mood::Refusing => {
            count(&tally.cuts);
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        Mood::Silent => {
            count(&tally.silences);
            return Ok(());
        }
        Mood::GarbledBytes => {
            line.write_all(&[0xFF; 16]).await?;
            count(&tally.garbled_bytes);
            return Ok(());
        }
        Mood::GarbledText => {
            line.write_all(&wire_frame(&quote(number)[..12])).await?;
            count(&tally.garbled_texts);
            line.write_all(&wire_frame(&quote(number))).await?;
        }
        Mood::Slow => {
            for byte in wire_frame(&quote(number)) {
                drip.tick().await;
                line.write_all(&[byte]).await?;
                count(&tally.drips);
            }
        }
        Mood::Flowing => line.write_all(&wire_frame(&quote(number))).await?,
    }
    count(&tally.quotes);
    Ok(())
}

/// A text message of at most 125 bytes (RFC 6455 section 5.2).
fn wire_frame(text: &str) -> Vec<u8> {
    let bytes = u8::try_from(text.len()).expect("a short text");
    [&[0x81, bytes], text.as_bytes()].concat()
}
