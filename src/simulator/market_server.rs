//! The simulated market as a WebSocket server: one market, the same for all clients.
//!
//! A client that joins first receives the last quote and trade of every symbol, then the stream from that moment on. Every
//! path is served, no subscription is needed, and whatever a client sends is ignored. Nothing is queued per client: all
//! read one log of the newest `LOG_MESSAGES` messages, and a client that falls behind it is disconnected.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
use crate::simulator::listener::{ClientConnection, Listener, MessageSource, StreamEnd};
use crate::simulator::market::Market;

/// 16384 messages: 80 s at the default rate, 160 ms at 100,000 messages per second; about 5 MiB at most.
const LOG_MESSAGES: usize = 16_384;
/// Messages due within one period of the timer are sent together; finer than a screen or a network can show.
const PERIOD: Duration = Duration::from_millis(2);
/// After a pause of the machine, the market catches up with at most this, then continues from now.
const ARREARS_MAX: Duration = Duration::from_millis(500);

/// The simulated market, listening but not yet serving.
pub struct Simulator {
    listener: Listener,
    market: Market,
    rate: f64,
}

/// What every client sees. One lock covers both parts, so that the values and the stream of a new client join without a gap.
struct SharedMarket {
    seen: Mutex<SharedState>,
}

struct SharedState {
    /// By `Tick::topic`. Written only by the market's task.
    latest: Vec<Utf8Bytes>,
    log: broadcast::Sender<Utf8Bytes>,
}

impl Simulator {
    /// Opens the market and listens on `addr`; port 0 takes any free one.
    pub async fn bind(addr: SocketAddr, settings: MarketSettings) -> Result<Simulator, SimulatorError> {
        let market = Market::new(settings)?;
        Ok(Simulator { listener: Listener::bind(addr).await?, market, rate: settings.rate })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop` becomes true or its sender is gone.
    pub async fn serve(mut self, stop: watch::Receiver<bool>) {
        let now_ms = wall_ms();
        let latest = (0..self.market.topics()).map(|_| self.market.next(now_ms).text.into()).collect();
        let log = broadcast::Sender::new(LOG_MESSAGES);
        let shared = Arc::new(SharedMarket { seen: Mutex::new(SharedState { latest, log }) });
        tokio::select! {
            () = run(self.market, self.rate, &shared) => {}
            () = self.listener.serve(stop, shared.clone()) => {}
        }
    }
}

/// Publishes the market's messages at its rate, for ever.
async fn run(mut market: Market, rate: f64, shared: &SharedMarket) {
    let start = Instant::now();
    let arrears_max = ARREARS_MAX.as_secs_f64() * rate;
    // Both in mean pauses since the start.
    let mut spoken = 0.0;
    let mut timer = start;
    loop {
        timer = (timer + PERIOD).max(Instant::now());
        sleep_until(timer).await;
        let due = start.elapsed().as_secs_f64() * rate;
        spoken = f64::max(spoken, due - arrears_max);
        if spoken >= due {
            continue;
        }
        let now_ms = wall_ms();
        let mut seen = shared.seen();
        while spoken < due {
            let tick = market.next(now_ms);
            spoken += tick.pause;
            let text = Utf8Bytes::from(tick.text);
            seen.latest[tick.topic] = text.clone();
            // An error only means that nobody is connected.
            let _ = seen.log.send(text);
        }
    }
}

impl SharedMarket {
    fn seen(&self) -> MutexGuard<'_, SharedState> {
        // Nothing panics while the lock is held, and a half-made change would do no harm.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> (Vec<Utf8Bytes>, broadcast::Receiver<Utf8Bytes>) {
        let seen = self.seen();
        (seen.latest.clone(), seen.log.subscribe())
    }
}

impl MessageSource for Arc<SharedMarket> {
    async fn send_all(&self, client: &mut ClientConnection) -> StreamEnd {
        match stream(self, client).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

async fn stream(shared: &SharedMarket, client: &mut ClientConnection) -> Result<std::convert::Infallible, StreamEnd> {
    let (latest, mut log) = shared.enter();
    for text in latest {
        client.put(Message::Text(text)).await?;
    }
    loop {
        let text = match log.try_recv() {
            Ok(text) => text,
            Err(TryRecvError::Empty) => {
                client.flush().await?;
                match log.recv().await {
                    Ok(text) => text,
                    Err(RecvError::Lagged(_)) => return Err(TOO_SLOW),
                    Err(RecvError::Closed) => return Err(StreamEnd::Stopping),
                }
            }
            Err(TryRecvError::Lagged(_)) => return Err(TOO_SLOW),
            Err(TryRecvError::Closed) => return Err(StreamEnd::Stopping),
        };
        client.put(Message::Text(text)).await?;
    }
}

const TOO_SLOW: StreamEnd = StreamEnd::Slow("more than 16384 messages behind");

fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio_tungstenite::connect_async;

    use super::*;

    /// Runs a simulator on a free port while `visit` uses its URL.
    async fn with_simulator<Visit: Future>(settings: MarketSettings, visit: impl FnOnce(String) -> Visit) {
        let simulator = Simulator::bind(([127, 0, 0, 1], 0).into(), settings).await.expect("a free port");
        let url = format!("ws://{}/any/path", simulator.local_addr());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(simulator.serve(stopped));
        visit(url).await;
        stop.send_replace(true);
        serving.await.expect("the simulator ends when it is stopped");
    }

    async fn read(url: &str, count: usize) -> Vec<String> {
        let (stream, _) = connect_async(url).await.expect("a WebSocket");
        let texts = stream.take(count).map(|message| message.expect("sound").into_text().expect("text").to_string());
        texts.collect().await
    }

    /// Messages of the market so far, from the numbers in the first values that a new client receives.
    async fn published(url: &str) -> u64 {
        let values = read(url, 2 * MarketSettings::default().symbols).await;
        let seq = |text: &String| -> u64 {
            let value: serde_json::Value = serde_json::from_str(text).expect("valid JSON");
            value["seq"].as_u64().expect("a number")
        };
        values.iter().map(seq).sum()
    }

    #[tokio::test]
    async fn a_client_that_joins_receives_all_values_and_then_the_shared_stream() {
        let settings = MarketSettings { seed: 7, rate: 2000.0, symbols: 10 };
        with_simulator(settings, async |url| {
            let (first, second) = tokio::join!(read(&url, 1000), async {
                read(&url, 200).await;
                read(&url, 400).await
            });
            let mut topics: Vec<&str> = second[..20].iter().filter_map(|text| text.split('"').nth(3)).collect();
            topics.sort_unstable();
            topics.dedup();
            assert_eq!(topics.len(), 20, "a quote and a trade of each symbol first: {topics:?}");
            let at = first.iter().position(|text| *text == second[20]).expect("both see the same stream");
            let shared = (first.len() - at).min(second.len() - 20);
            assert!(shared > 100, "{shared}");
            assert_eq!(first[at..at + shared], second[20..20 + shared]);
            // No gap: the first values are the newest before the client's stream began.
            for text in &second[..20] {
                let topic = text.split('"').nth(3);
                let newest = first[..at].iter().rfind(|text| text.split('"').nth(3) == topic);
                assert_eq!(newest, Some(text));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn the_market_publishes_at_its_rate() {
        let settings = MarketSettings { rate: 5000.0, symbols: 4, ..Default::default() };
        with_simulator(settings, async |url| {
            let start = Instant::now();
            read(&url, 8 + 2500).await;
            let seconds = start.elapsed().as_secs_f64();
            assert!((0.3..4.5).contains(&seconds), "expected about 0.5 s for 2500 messages, found {seconds}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_disconnected() {
        let settings = MarketSettings { rate: 500_000.0, ..Default::default() };
        with_simulator(settings, async |url| {
            let (stream, _) = connect_async(&*url).await.expect("a WebSocket");
            // Well above what the sockets and the log hold together.
            while published(&url).await < 300_000 {}
            let last =
                stream.map(|message| message.ok()).filter_map(std::future::ready).fold(None, async |_, m| Some(m));
            let Some(Message::Close(Some(close))) = last.await else { panic!("expected a close frame") };
            assert_eq!(u16::from(close.code), 1008);
            assert!(close.reason.contains("16384 messages behind"), "{}", close.reason);
        })
        .await;
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_remedy() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = taken.local_addr().expect("an address");
        let error = Simulator::bind(addr, MarketSettings::default()).await.err().expect("refused").to_string();
        assert!(error.contains(&addr.to_string()) && error.contains("--listen"), "{error}");
    }
}
