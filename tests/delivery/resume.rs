//! A client that is cut off at any byte and resumes with its cursor has, in the end, all that it was promised: every
//! message once with `lossless`; with `conflate` the right latest values, and a true notice of everything in between.

use std::thread;
use std::time::{Duration, Instant};

use kit::account::{Account, PATTERNS, Request, Totals};
use kit::http::sum;
use kit::program::Program;
use kit::raw_client::{OFFER, RawClient};
use kit::relay::Relay;
use kit::tape::{PROFILE, Tape};
use kit::{DEADLINE, eventually};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often each client is killed; 1000 times all of them.
const KILLS: usize = 125;
/// What each client asks for first, as an index into `PATTERNS`. Every second one compresses.
const CLIENTS: [usize; 8] = [0, 0, 1, 1, 2, 3, 4, 5];
/// Bytes after which a client is killed at the latest, and after what time. Compressed bytes hold about 8 times as much.
const BYTES_MAX: usize = 96 * 1024;
const DEFLATED_BYTES_MAX: usize = 12 * 1024;
const LIFE_MAX: Duration = Duration::from_millis(80);
/// A header that offers permessage-deflate for a client that keeps 4 KiB.
const SMALL_OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n";

/// Shared windows for lanes of a single client; a client with a small window receives tokens instead.
const EAGER_WINDOWS: [(&str, &str); 1] = [("COMPRESSION_WINDOW_MEMBERS_MIN", "1")];

#[test]
fn a_lossless_client_killed_1000_times_has_every_message_once() {
    // 80 times as fast as recorded is 17,000 messages a second; the ring holds the last minute of them.
    let settings = [("RING_FRAMES_MAX", "1048576"), ("RING_BYTES_MAX", "1GiB")];
    let outcome = Harness::open("80", &settings).run("lossless");
    let totals = outcome.totals;
    assert_eq!((totals.missed, totals.skipped_slow, totals.skipped_expired), (0, 0, 0), "{outcome:?}");
    assert_eq!(totals.received, totals.due, "{outcome:?}");
}

#[test]
fn a_conflated_client_killed_1000_times_has_the_latest_values_and_knows_what_it_missed() {
    // As fast as this machine can, and a ring that holds a few milliseconds of it.
    let settings = [("RING_FRAMES_MAX", "256"), ("SLOW_REPLAY_MAX", "0s")];
    let outcome = Harness::open("max", &settings).run("conflate");
    let totals = outcome.totals;
    assert_eq!(totals.received + totals.missed, totals.due, "{outcome:?}");
    assert!(totals.missed > 10_000 && totals.received > 10_000, "{outcome:?}");
    assert!(totals.skipped_expired > 100 && totals.skipped_slow > 100, "{outcome:?}");
}

/// A tape that is replayed over and over, and fanline on it.
struct Harness {
    tape: Tape,
    gate: Relay,
    server: Program,
    _venue: Program,
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    totals: Totals,
    kills: usize,
    /// Kills in the middle of a message.
    torn: usize,
    /// Connections that began with a cursor.
    resumed: usize,
    /// Subscriptions that were changed on an open connection.
    changes: usize,
    /// Messages that came compressed.
    deflated: u64,
}

impl Harness {
    fn open(speed: &str, settings: &[(&str, &str)]) -> Harness {
        let tape = Tape::open();
        let common = [("HEARTBEAT_INTERVAL", "1ms"), ("SLOW_WRITE_DEADLINE", "10m"), ("UPSTREAM_IDLE_TIMEOUT", "10m")];
        let settings = [&common[..], &EAGER_WINDOWS, settings].concat();
        let venue = Program::replay(tape.path(), &["--loop", "--speed", speed]);
        let gate = Relay::shut();
        gate.open(venue.addr());
        let server = Program::serve(&[&gate.ws("/stream"), "--profile", PROFILE], &settings);
        let harness = Harness { tape, gate, server, _venue: venue };
        eventually("every topic has a value", || (harness.head() > harness.tape.end() / 20).then_some(()));
        harness
    }

    fn head(&self) -> u64 {
        self.server.get("/v1/topics").json()["offset"].as_u64().expect("an offset")
    }

    /// Lets all clients live and die, then stops the feed, brings each to the end of it, and audits.
    fn run(&self, policy: &'static str) -> Outcome {
        let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
        println!("seed {seed}; SEED={seed} draws the same moments again");
        let start = Instant::now();
        let lived: Vec<Client> = thread::scope(|scope| {
            let lives = CLIENTS.iter().enumerate().map(|(index, pattern)| {
                let account = Account::new(&self.tape, [*pattern].into());
                let rng = StdRng::seed_from_u64(seed ^ index as u64);
                let deflate = index % 2 == 1;
                let client = Client { harness: self, account, rng, deflate, policy, outcome: Outcome::default() };
                scope.spawn(move || client.live())
            });
            let lives: Vec<_> = lives.collect();
            lives.into_iter().map(|life| life.join().expect("a client has failed; see above")).collect()
        });
        self.stop_feed();
        let outcomes = lived.into_iter().map(Client::come_to_rest);
        let outcome = outcomes.fold(Outcome::default(), Outcome::plus);
        println!("{policy}: {} frames in {:?}: {outcome:?}", self.head(), start.elapsed());
        self.expect_faults(&outcome);
        outcome
    }

    fn stop_feed(&self) {
        assert_eq!(self.gate.cut(), 1, "one line to the venue");
        eventually("the feed is down", || (self.server.get("/readyz").status == 503).then_some(()));
        assert_eq!(self.gate.passed(), 1, "the tape was served without a break");
    }

    /// The proof is worth something only if all of this has happened.
    fn expect_faults(&self, outcome: &Outcome) {
        assert_eq!(outcome.kills, KILLS * CLIENTS.len());
        assert!(outcome.torn > outcome.kills / 4, "{outcome:?}");
        assert!(outcome.resumed > outcome.kills * 3 / 4, "{outcome:?}");
        assert!(outcome.changes > outcome.kills / 20, "{outcome:?}");
        assert!(outcome.deflated > 1000, "{outcome:?}");
        let metrics = self.server.get("/metrics").body;
        for encoding in ["envelope_window", "envelope_tokens"] {
            let bytes = sum(&metrics, "fanline_sent_bytes_total", encoding);
            assert!(bytes > 1_000.0, "expected `{encoding}` in use, found {bytes} bytes of it");
        }
    }
}

struct Client<'s> {
    harness: &'s Harness,
    account: Account<'s>,
    rng: StdRng,
    deflate: bool,
    policy: &'static str,
    outcome: Outcome,
}

impl Client<'_> {
    /// Lives and dies so many times.
    fn live(mut self) -> Self {
        for _ in 0..KILLS {
            let mut link = self.connect();
            let mut bytes_max = if self.deflate { DEFLATED_BYTES_MAX } else { BYTES_MAX };
            if self.rng.random_bool(0.25) {
                // Most die while they catch up; some live to see a shared window.
                bytes_max *= 8;
            }
            let mut bytes_left = self.rng.random_range(0..bytes_max);
            let end = Instant::now() + LIFE_MAX.mul_f64(self.rng.random());
            let change_at = self.rng.random_bool(0.3).then(|| self.rng.random_range(0..bytes_max / 2));
            let mut change_at = change_at.filter(|at| *at < bytes_left).map(|at| bytes_left - at);
            while bytes_left > 0 && Instant::now() < end {
                let bytes = link.read(bytes_left, end.saturating_duration_since(Instant::now()));
                bytes_left -= bytes;
                self.read(&mut link);
                if change_at.is_some_and(|at| bytes_left <= at) && self.account.is_idle() {
                    change_at = None;
                    self.change(&mut link);
                }
            }
            self.outcome.deflated += link.inbox.deflated;
            self.outcome.torn += usize::from(link.kill(self.rng.random()));
            self.outcome.kills += 1;
            self.account.lose();
        }
        self
    }

    /// Connects, with everything in force and the cursor, in the query or by a command.
    fn connect(&mut self) -> RawClient {
        let topics: Vec<&str> = self.account.interest().iter().map(|index| PATTERNS[*index].0).collect();
        let since = self.account.since();
        self.outcome.resumed += usize::from(since.is_some());
        self.account.ask(Request::Opening);
        let addr = self.harness.server.addr();
        let offer = match (self.deflate, self.rng.random()) {
            (true, true) => OFFER,
            (true, false) => SMALL_OFFER,
            (false, _) => "",
        };
        if self.rng.random() {
            let topics = topics.join(",").replace('>', "%3E");
            let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
            let path = format!("/v1/ws?policy={}&topics={topics}{since}", self.policy);
            return RawClient::connect(addr, &path, offer);
        }
        let mut link = RawClient::connect(addr, "/v1/ws", offer);
        let mut command = serde_json::json!({"op": "subscribe", "topics": topics, "policy": self.policy});
        if let Some(since) = since {
            command["since"] = since.into();
        }
        link.command(&command.to_string());
        link
    }

    /// Asks for one pattern more or less.
    fn change(&mut self, link: &mut RawClient) {
        let interest = self.account.interest();
        let index = self.rng.random_range(0..PATTERNS.len());
        let (op, request) = match interest.contains(&index) {
            true if interest.len() == 1 => return,
            true => ("unsubscribe", Request::Unsubscribe(index)),
            false => ("subscribe", Request::Subscribe(index)),
        };
        link.command(&serde_json::json!({"op": op, "topics": [PATTERNS[index].0]}).to_string());
        self.account.ask(request);
        self.outcome.changes += 1;
    }

    /// Reads what has arrived whole. True if a pong was among it.
    fn read(&mut self, link: &mut RawClient) -> bool {
        let mut ponged = false;
        while let Some(text) = link.text() {
            ponged |= self.account.read(&text);
        }
        ponged
    }

    /// Comes back a last time, after the end of the feed: the answer to a command follows all that was missed.
    fn come_to_rest(mut self) -> Outcome {
        let head = self.harness.head();
        let mut link = self.connect();
        link.command(r#"{"op":"ping"}"#);
        while !self.read(&mut link) {
            let bytes = link.read(usize::MAX, DEADLINE);
            assert!(bytes > 0, "expected the answer, or what comes before it, within {DEADLINE:?}");
        }
        self.outcome.totals = self.account.settle(head);
        self.outcome
    }
}

impl Outcome {
    fn plus(self, other: Outcome) -> Outcome {
        let (one, two) = (self.totals, other.totals);
        let totals = Totals {
            runs: one.runs + two.runs,
            due: one.due + two.due,
            received: one.received + two.received,
            missed: one.missed + two.missed,
            values: one.values + two.values,
            skipped_slow: one.skipped_slow + two.skipped_slow,
            skipped_expired: one.skipped_expired + two.skipped_expired,
        };
        Outcome {
            totals,
            kills: self.kills + other.kills,
            torn: self.torn + other.torn,
            resumed: self.resumed + other.resumed,
            changes: self.changes + other.changes,
            deflated: self.deflated + other.deflated,
        }
    }
}
