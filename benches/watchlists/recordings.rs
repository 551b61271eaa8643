//! Bytes of a delivery to clients with lists of their own: recorded feeds and the simulated market, on one shard, plain and
//! deflated side by side.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use fanline::bench::client::{AgeSource, MessageFields};
use fanline::bench::client_pool::{ClientPool, PoolTotals};
use fanline::bus::clock::Clock;
use fanline::bus::retention::Retention;
use fanline::bus::topic_status::TopicStatus;
use fanline::delivery::handoff::{Handoff, SessionOptions};
use fanline::delivery::shards::Delivery;
use fanline::intake::assemble::Assembler;
use fanline::intake::classify::{Classifier, FeedFrame, FoundUpdates};
use fanline::intake::update::{Generation, Oddity, Release, UpdateSink};
use fanline::profile::Profile;
use fanline::profile::rules::numbers::GapRemedy;
use fanline::protocol::encoding::{Format, Payload, PayloadKind};
use fanline::settings::table::MarketSettings;
use fanline::simulator::dice::Dice;
use fanline::simulator::market::Market;
use fanline::words::metrics::Meters;
use fanline::words::stamp::Stamp;
use fanline::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;

use crate::support::start_shard;

/// A feed, the profile of its venue, and how many times smaller than plain the prototype of token-shared deflate made
/// envelopes for lists of 5 and of 20 topics; of all topics where there are fewer. The aim is 0.90 times that.
pub const FEEDS: [(&str, &str, [f64; 2]); 11] = [
    (MARKET, "simulated", [5.50, 5.16]),
    ("binance-spot", "binance", [7.03, 6.95]),
    ("binance-usdm", "binance-usdm", [6.00, 5.91]),
    ("coinbase-exchange", "coinbase-exchange", [5.91, 5.78]),
    ("kraken-v1", "kraken-v1", [3.87, 3.76]),
    ("kraken-v2", "kraken-v2", [5.92, 5.92]),
    ("okx-v5", "okx-v5", [5.17, 5.10]),
    ("bitstamp", "bitstamp", [5.22, 5.09]),
    ("gemini-v2", "gemini", [5.00, 4.90]),
    ("deribit", "deribit", [7.44, 7.28]),
    ("bitfinex-v2", "bitfinex-v2", [4.80, 4.62]),
];
pub const LISTS: [usize; 2] = [5, 20];
const MARKET: &str = "simulated market";
const SYMBOLS: usize = 500;
/// Of each kind, plain and deflated; the two share their lists.
const CLIENTS: usize = 100;
const MESSAGES_PER_SECOND: u32 = 1000;
const MESSAGES: usize = 5000;
/// Messages before those that are counted, so that windows are filled.
const MESSAGES_BEFORE: usize = 2000;
const STILL: Duration = Duration::from_millis(500);
const SEED: u64 = 12;

/// What is published, in its order.
type Updates = Vec<(String, Payload, Retention)>;

/// What the clients of one feed have received.
pub struct Saving {
    pub topics: usize,
    /// Bytes of a delivery, WebSocket header included.
    pub plain: f64,
    pub deflated: f64,
    /// What went wrong, if anything did.
    pub fault: Option<String>,
}

#[derive(Default)]
struct Collected(Updates);

impl UpdateSink for Collected {
    fn publish(&mut self, topic: &str, payload: Payload, retention: Retention, _: Stamp) {
        self.0.push((topic.to_owned(), payload, retention));
    }

    fn status(&mut self, _: &str, _: TopicStatus, _: Stamp) {}

    fn remedy(&mut self, _: &str, _: GapRemedy) {}

    fn oddity(&mut self, _: &str, _: Oddity, _: Stamp) {}
}

/// None without a recording of the feed.
pub fn updates(feed: &str, profile: &str) -> Option<Updates> {
    if feed != MARKET {
        return recorded(feed, profile);
    }
    let settings = MarketSettings { symbols: SYMBOLS, ..MarketSettings::default() };
    let mut market = Market::new(settings).expect("a market");
    let messages = (0u64..).take(market.topics() + MESSAGES_BEFORE + MESSAGES).map(|number| {
        let text = market.next(1_800_000_000_000 + number).text;
        let topic = text.split('"').nth(3).unwrap_or_default().to_owned();
        (topic, Payload { bytes: Bytes::from(text), kind: PayloadKind::Json }, Retention::NEWEST)
    });
    Some(messages.collect())
}

fn recorded(feed: &str, profile: &str) -> Option<Updates> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let text = std::fs::read_to_string(shared.join("feeds").join(feed).join("capture.jsonl")).ok()?;
    let profile = Profile::built_in(profile).expect("a built-in profile");
    let (mut classifier, mut assembler, mut collected) =
        (Classifier::new(&profile), Assembler::default(), Collected::default());
    let (mut unpacked, mut found) = (Vec::new(), FoundUpdates::default());
    for line in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let data = line["data"].as_str().map(|text| text.as_bytes().to_vec());
        let data = data.or_else(|| BASE64_STANDARD.decode(line["b64"].as_str()?).ok());
        let Some(data) = data.filter(|_| line["dir"] == "in") else { continue };
        let frame = std::str::from_utf8(&data).map_or(FeedFrame::Binary(&data), FeedFrame::Text);
        let received = Stamp::default();
        for message in classifier.decoder().decode(frame, &mut unpacked) {
            if classifier.classify(&message, received, &mut found).is_some() {
                for update in found.updates(message.bytes(), &classifier, received) {
                    assembler.take(&update, Release::Of(Generation(1)), &mut collected);
                }
            }
            while let Some(waited) = classifier.next_waited(&mut found) {
                for update in found.updates(waited.text.as_bytes(), &classifier, waited.received) {
                    assembler.take(&update, Release::Of(Generation(1)), &mut collected);
                }
            }
        }
    }
    Some(collected.0)
}

/// Publishes to clients that each have a random list of this many topics, at most all.
pub fn measure(updates: &Updates, each: usize) -> Saving {
    let mut topics: Vec<&str> = updates.iter().map(|(topic, ..)| &**topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let (mut publisher, delivery, threads, clock) = start_shard(&Meters::unread());
    let keeps = Agreement { server_no_context_takeover: false, server_max_window_bits: None };
    let [plain, deflated] = [None, Some(keeps)].map(|deflate| {
        let mut dice = Dice::of(SEED);
        let lists = (0..CLIENTS).map(|_| {
            let mut left: Vec<&str> = topics.clone();
            let chosen = (0..each.min(topics.len())).map(|_| {
                let topic = left.swap_remove(dice.below_u64(left.len() as u64) as usize);
                Pattern::parse(topic).expect("a topic is a pattern")
            });
            chosen.collect()
        });
        connect(lists, deflate, &delivery, clock)
    });
    let before = updates.len().saturating_sub(MESSAGES).min(MESSAGES_BEFORE + topics.len());
    let mut publish = |updates: &[(String, Payload, Retention)]| {
        let started = Instant::now();
        for (number, (topic, payload, retention)) in (1u32..).zip(updates) {
            publisher.publish(topic, payload.clone(), retention.clone(), clock.now()).expect("a good topic");
            let due = started + Duration::from_secs(1) * number / MESSAGES_PER_SECOND;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        std::thread::sleep(STILL);
    };
    publish(&updates[..before]);
    [&plain, &deflated].into_iter().for_each(ClientPool::restart);
    publish(&updates[before..updates.len().min(before + MESSAGES)]);
    let [plain, deflated] = [plain, deflated].map(|pool| pool.totals(Vec::new()));
    delivery.stop();
    threads.join();
    let bytes = |totals: &PoolTotals| totals.tally.bytes as f64 / totals.tally.deliveries.max(1) as f64;
    let fault = [&plain, &deflated].iter().any(|totals| totals.ended + totals.tally.skips > 0);
    let fault = fault || plain.tally.deliveries != deflated.tally.deliveries || plain.tally.deliveries == 0;
    let fault = fault.then(|| {
        let tell = |totals: &PoolTotals| {
            format!("{} deliveries, {} skips, {} ended", totals.tally.deliveries, totals.tally.skips, totals.ended)
        };
        format!("plain {}; deflated {}", tell(&plain), tell(&deflated))
    });
    Saving { topics: topics.len(), plain: bytes(&plain), deflated: bytes(&deflated), fault }
}

/// Clients with these patterns each, handed to the shard.
fn connect(
    lists: impl Iterator<Item = Vec<Pattern>>,
    deflate: Option<Agreement>,
    delivery: &Delivery,
    clock: Clock,
) -> ClientPool {
    let reading = MessageFields { notices: true, dense: false, sequenced: false, age: AgeSource::Unknown };
    let mut pool = ClientPool::start(reading, deflate.is_some(), None, clock).expect("a thread");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    for patterns in lists {
        pool.join((TcpStream::connect(address).expect("loopback").into(), Vec::new()));
        let (socket, _) = listener.accept().expect("a connection");
        socket.set_nonblocking(true).expect("non-blocking");
        socket.set_nodelay(true).expect("no delay");
        let options = SessionOptions { patterns, deflate, format: Format::Envelope, ..SessionOptions::default() };
        delivery.adopt(Handoff { socket: socket.into(), unread: Bytes::new(), options, permit: None });
    }
    pool
}
