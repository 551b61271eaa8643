//! 200 sessions at once, with lists of their own or of a few, and windows of all sizes, receive exactly their topics,
//! compressed for what each of them has; while they come, change their lists and leave.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::DEADLINE;
use kit::http::sum;
use kit::ledger::Ledger;
use kit::program::Program;
use kit::raw_client::{OFFER, RawClient};
use kit::tape::{PROFILE, Tape};
use kit::tape_feed::{ON_TAP, TapeFeed};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const SESSIONS: u64 = 200;
const TOPICS: usize = 40;
/// Topics of a list when its client comes.
const LIST: usize = 5;
/// Lists that half of the clients draw from: newcomers join a stream that others have been on for longer.
const COMMON_LISTS: u64 = 5;
/// An eighth of them for each list.
const FRAMES: u64 = 24_000;
/// Frames poured at once.
const STEP: u64 = 200;
/// Frames after which a client leaves, if it does not stay to the end.
const LIFE: Range<u64> = 50..1_500;

#[derive(Clone, Copy, Default)]
struct Lived {
    lives: u64,
    changes: u64,
    received: u64,
    /// Messages that nobody could read alone.
    referring: u64,
}

struct Harness {
    server: Program,
    tape: Arc<Tape>,
    /// Everything was poured.
    poured: AtomicBool,
    seed: u64,
}

#[test]
fn every_one_of_200_random_lists_is_decoded_with_its_own_window() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}; SEED={seed} draws the same lists again");
    let tape = Arc::new(Tape::wide(TOPICS));
    let mut faucet = TapeFeed::open(tape.clone());
    let settings = [&ON_TAP[..], &[("SHARDS_COUNT", "2"), ("HEARTBEAT_INTERVAL", "100ms")]].concat();
    let server = Program::serve(&[&faucet.ws("/stream"), "--profile", PROFILE], &settings);
    let mut lookout = RawClient::connect(server.addr(), "/v1/ws", "");
    let harness = Harness { server, tape, poured: AtomicBool::new(false), seed };
    let lived: Vec<Lived> = thread::scope(|scope| {
        let harness = &harness;
        let lives: Vec<_> = (0..SESSIONS)
            .map(|index| scope.spawn(move || harness.live(StdRng::seed_from_u64(seed.wrapping_add(index)))))
            .collect();
        while faucet.poured() < FRAMES {
            faucet.pour(STEP);
            let start = Instant::now();
            while lookout.position() < faucet.poured() {
                assert!(start.elapsed() < DEADLINE, "expected offset {} to be published", faucet.poured());
            }
        }
        harness.poured.store(true, Ordering::Relaxed);
        lives.into_iter().map(|life| life.join().expect("a client has failed; see above")).collect()
    });
    let total = |count: fn(&Lived) -> u64| lived.iter().map(count).sum::<u64>();
    let (lives, changes) = (total(|lived| lived.lives), total(|lived| lived.changes));
    let (received, referring) = (total(|lived| lived.received), total(|lived| lived.referring));
    println!("{received} messages were right in {lives} lives with {changes} changes; {referring} referred to others");
    assert!(lives > 2 * SESSIONS && changes > SESSIONS / 2, "{lives} lives with {changes} changes");
    assert!(referring > received / 2, "of {received} messages {referring} refer to messages before them");
    let metrics = harness.server.get("/metrics").body;
    let sent = sum(&metrics, "fanline_sent_bytes_total", "encoding=\"envelope_tokens\"");
    let saved = sum(&metrics, "fanline_saved_bytes_total", "scheme=\"tokens\"");
    assert!(saved > sent && sent > 0.0, "{sent} bytes sent as tokens, {saved} saved");
}

impl Harness {
    /// One client after another, until everything has been poured and received.
    fn live(&self, mut rng: StdRng) -> Lived {
        let mut lived = Lived::default();
        while self.live_once(&mut rng, &mut lived) {}
        lived
    }

    /// True if the client left before the end.
    fn live_once(&self, rng: &mut StdRng, lived: &mut Lived) -> bool {
        let path = format!("/v1/ws?policy=lossless&topics={}", self.list(rng));
        let mut client = RawClient::connect(self.server.addr(), &path, &offer(rng));
        let mut ledger = Ledger::default();
        let (life, change_at) = (rng.random_range(LIFE), rng.random_range(LIFE));
        let (mut changed, mut moved) = (false, Instant::now());
        let left_early = loop {
            if client.read(usize::MAX, Duration::from_millis(20)) > 0 {
                moved = Instant::now();
            }
            assert!(moved.elapsed() < DEADLINE, "{path}: nothing came after {}", ledger.position());
            while let Some(text) = client.text() {
                ledger.take(&text, &self.tape);
            }
            if !changed && ledger.live >= change_at {
                changed = true;
                lived.changes += 1;
                self.change(rng, &mut client);
            }
            if ledger.live >= life {
                break true;
            }
            if self.poured.load(Ordering::Relaxed) && ledger.is_at(FRAMES, &self.tape) {
                break false;
            }
        };
        assert_eq!(ledger.skips, 0, "{path}: the ring holds everything");
        lived.lives += 1;
        lived.received += ledger.live + ledger.values;
        lived.referring += client.inbox.referring;
        left_early
    }

    fn list(&self, rng: &mut StdRng) -> String {
        let mut common =
            rng.random_bool(0.5).then(|| StdRng::seed_from_u64(self.seed ^ rng.random_range(0..COMMON_LISTS)));
        let topics = self.tape.topics().sample(common.as_mut().unwrap_or(rng), LIST);
        topics.map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Asks for one topic more.
    fn change(&self, rng: &mut StdRng, client: &mut RawClient) {
        let topic = self.tape.topics().choose(rng).expect("topics");
        client.command(&serde_json::json!({"op": "subscribe", "topics": [topic]}).to_string());
    }
}

/// What browsers offer, or a smaller window.
fn offer(rng: &mut StdRng) -> String {
    match rng.random_range(9..=16) {
        16 => OFFER.to_owned(),
        bits => format!("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n"),
    }
}
