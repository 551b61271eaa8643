//! The upstream fails in every way it can: clients stay connected, are notified, and see data again, without a restart.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use fanline::bus::feed_state::{FeedState, StaleReason};
use kit::client::{Client, Envelope};
use kit::eventually;
use kit::faulty_feed::{FaultyFeed, Mood, quote, topic};
use kit::http::sum;
use kit::program::Program;
use kit::scripted_feed::IntakeHarness;
use serde_json::Value;

const CLIENTS: usize = 3;
/// New quotes that each client must see before a phase counts as one in which data flows.
const QUOTES: usize = 10;

/// One way to fail, and what comes of it.
struct Fault {
    mood: Mood,
    /// `reason` of the notice `stale`; none if data goes on.
    told: Option<&'static str>,
    /// Where fanline counts it: a series and a part of its labels.
    counted: (&'static str, &'static str),
}

const RECONNECTS: &str = "fanline_upstream_reconnects_total";
const CUT: Fault = Fault { mood: Mood::Cut, told: Some("upstream_down"), counted: (RECONNECTS, r#"reason="cut""#) };
const REFUSED: Fault =
    Fault { mood: Mood::Refusing, told: Some("upstream_down"), counted: (RECONNECTS, r#"reason="unreachable""#) };
const SILENT: Fault =
    Fault { mood: Mood::Silent, told: Some("upstream_silent"), counted: (RECONNECTS, r#"reason="silent""#) };
const SLOW: Fault =
    Fault { mood: Mood::Slow, told: None, counted: ("fanline_upstream_messages_total", r#"class="data""#) };
const GARBLED_TEXT: Fault =
    Fault { mood: Mood::GarbledText, told: None, counted: ("fanline_upstream_messages_total", r#"class="garbled""#) };
const GARBLED_BYTES: Fault =
    Fault { mood: Mood::GarbledBytes, told: Some("upstream_down"), counted: (RECONNECTS, r#"reason="broken_frames""#) };

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_lost_upstream_stay_receive_stale_and_see_data_again() {
    Harness::open(&[]).await.survives(&CUT).await.ends_as_it_began();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_an_upstream_that_refuses_stay_receive_stale_and_see_data_again() {
    Harness::open(&[]).await.survives(&REFUSED).await.ends_as_it_began();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_silent_upstream_stay_receive_stale_and_see_data_again() {
    let short = ("UPSTREAM_IDLE_TIMEOUT", "500ms");
    Harness::open(&[short]).await.survives(&SILENT).await.ends_as_it_began();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_slow_upstream_receive_its_messages_and_no_alarm() {
    // More pings than the venue has time to answer; bytes that come show well enough that it lives.
    let pings = [("UPSTREAM_PING_INTERVAL", "100ms"), ("UPSTREAM_PONG_TIMEOUT", "5s")];
    Harness::open(&pings).await.survives(&SLOW).await.ends_as_it_began();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_an_upstream_that_garbles_text_see_the_rest_and_no_alarm() {
    Harness::open(&[]).await.survives(&GARBLED_TEXT).await.ends_as_it_began();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_an_upstream_that_breaks_frames_stay_receive_stale_and_see_data_again() {
    Harness::open(&[]).await.survives(&GARBLED_BYTES).await.ends_as_it_began();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_survives_all_faults_in_turn() {
    // Long enough for a slow venue on a busy machine.
    let mut harness = Harness::open(&[("UPSTREAM_IDLE_TIMEOUT", "2s")]).await;
    for fault in [CUT, REFUSED, SILENT, SLOW, GARBLED_TEXT, GARBLED_BYTES] {
        harness = harness.survives(&fault).await;
    }
    harness.ends_as_it_began();
}

/// A venue, the real server, and clients that were there from the start.
struct Harness {
    venue: FaultyFeed,
    server: Program,
    clients: Vec<Witness>,
    epoch: Value,
}

impl Harness {
    async fn open(settings: &[(&str, &str)]) -> Harness {
        let venue = FaultyFeed::open().await;
        let backoff = [("UPSTREAM_BACKOFF_MIN", "20ms"), ("UPSTREAM_BACKOFF_MAX", "100ms")];
        let server = Program::serve(&[&venue.ws(), "--profile", "simulated"], &[&backoff, settings].concat());
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Witness::join(&server).await);
        }
        let epoch = clients[0].epoch.clone();
        let mut harness = Harness { venue, server, clients, epoch };
        harness.until_ready();
        harness.until_data_flows().await;
        harness
    }

    /// The upstream fails, and is mended again.
    async fn survives(mut self, fault: &Fault) -> Harness {
        let connections = self.venue.tally().connections.load(Ordering::SeqCst);
        let counted_before = self.counted(fault);
        self.venue.be(fault.mood);
        eventually("the fault fires", || (self.venue.faults(fault.mood) > 0).then_some(()));
        match fault.told {
            Some(reason) => self.expect_stale(reason).await,
            None => {
                self.until_data_flows().await;
                assert_eq!(self.readiness().0, 200, "a feed that delivers is ready");
                let now = self.venue.tally().connections.load(Ordering::SeqCst);
                assert_eq!(now, connections, "a line that delivers is kept");
            }
        }
        eventually("fanline counts the fault", || (self.counted(fault) > counted_before).then_some(()));
        if fault.mood == Mood::Refusing {
            let refused = TcpStream::connect(self.venue.addr()).expect_err("nobody listens");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        self.venue.be(Mood::Flowing);
        if fault.told.is_some() {
            for client in &mut self.clients {
                client.until_live().await;
            }
        }
        self.until_data_flows().await;
        self.until_ready();
        if fault.mood == Mood::GarbledText {
            let garbled = self.venue.faults(Mood::GarbledText) as f64;
            eventually("each garbled text is counted", || (self.counted(fault) == garbled).then_some(()));
        }
        self
    }

    /// The same process, the same epoch, the same sockets.
    fn ends_as_it_began(mut self) {
        assert!(self.server.is_running(), "the process has never ended");
        assert_eq!(self.server.get("/v1/topics").json()["epoch"], self.epoch);
        let metrics = self.server.get("/metrics").body;
        assert_eq!(sum(&metrics, "fanline_sessions_adopted_total", ""), CLIENTS as f64);
        assert_eq!(sum(&metrics, "fanline_goodbyes_total", ""), 0.0, "nobody was sent away");
        assert_eq!(sum(&metrics, "fanline_skips_total", ""), 0.0);
        assert!(self.clients.iter().all(|client| client.epoch == self.epoch));
    }

    /// Clients and load balancers receive the reason, with a sentence.
    async fn expect_stale(&mut self, reason: &str) {
        eventually("/readyz gives the reason", || {
            let (status, body) = self.readiness();
            (status == 503 && body["reason"] == reason && body["message"] != "").then_some(())
        });
        for client in &mut self.clients {
            client.until_stale(reason).await;
        }
    }

    /// Waits until each client has seen quotes that were sent after now.
    async fn until_data_flows(&mut self) {
        let sent = self.venue.tally().quotes.load(Ordering::SeqCst);
        for client in &mut self.clients {
            client.until_quotes_after(sent).await;
        }
    }

    fn until_ready(&self) {
        eventually("/readyz gives 200", || (self.readiness().0 == 200).then_some(()));
    }

    /// What `/readyz` says; the process is well meanwhile.
    fn readiness(&self) -> (u16, Value) {
        assert_eq!(self.server.get("/healthz").status, 200);
        let answer = self.server.get("/readyz");
        (answer.status, answer.json())
    }

    fn counted(&self, fault: &Fault) -> f64 {
        sum(&self.server.get("/metrics").body, fault.counted.0, fault.counted.1)
    }
}

/// A client of everything. Each message it reads is checked; one that may not come ends the test.
struct Witness {
    client: Client,
    epoch: Value,
    /// Frames up to here are current values, later ones are live.
    joined: u64,
    newest_offset: u64,
    newest_quote: u64,
    stale: bool,
}

/// What a witness has read.
enum News {
    Stale { reason: String },
    Live,
    Quote { number: u64 },
}

impl Witness {
    async fn join(server: &Program) -> Witness {
        let mut client = Client::connect(&server.ws("/v1/ws?topics=%3E")).await;
        let epoch = client.expect_op("welcome").await["epoch"].clone();
        let joined = client.expect_op("subscribed").await["offset"].as_u64().expect("an offset");
        Witness { client, epoch, joined, newest_offset: 0, newest_quote: 0, stale: false }
    }

    async fn until_stale(&mut self, expected: &str) {
        while !matches!(self.next().await, News::Stale { reason } if reason == expected) {}
    }

    async fn until_live(&mut self) {
        while !matches!(self.next().await, News::Live) {}
    }

    /// Reads `QUOTES` quotes with greater numbers. Nothing is stale at their end.
    async fn until_quotes_after(&mut self, sent: u64) {
        let mut seen = 0;
        while seen < QUOTES {
            if let News::Quote { number } = self.next().await {
                seen += usize::from(number > sent);
            }
        }
        assert!(!self.stale, "what flows is not stale");
    }

    async fn next(&mut self) -> News {
        let text = self.client.text().await;
        let notice: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("expected JSON: {text}"));
        match notice["op"].as_str() {
            None => News::Quote { number: self.check_frame(&text) },
            Some("stale") => {
                self.stale = true;
                assert_eq!(notice["topics"], serde_json::json!([">"]), "{text}");
                assert!(notice["since_ms"].as_u64() > Some(0) && notice["since_ms"].as_u64() <= notice["ts"].as_u64());
                assert!(notice["message"].as_str().is_some_and(|message| message.starts_with("the ")), "{text}");
                assert!(!text.contains("127.0.0.1"), "where the feed is concerns nobody else: {text}");
                News::Stale { reason: notice["reason"].as_str().unwrap_or_default().into() }
            }
            Some("live") => {
                self.stale = false;
                News::Live
            }
            Some(_) => panic!("expected frames, `stale` or `live`, found {text}"),
        }
    }

    /// A frame holds a quote byte for byte, follows the one before without a gap, and is newer.
    fn check_frame(&mut self, text: &str) -> u64 {
        let frame: Envelope = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let data: Value = serde_json::from_str(frame.data.get()).expect("JSON within JSON");
        let number = data["n"].as_u64().unwrap_or_else(|| panic!("expected a quote: {text}"));
        assert_eq!((frame.topic, frame.data.get()), (&*topic(number), &*quote(number)));
        assert!(number > self.newest_quote, "after quote {}: {text}", self.newest_quote);
        assert!(frame.offset > self.newest_offset, "after offset {}: {text}", self.newest_offset);
        if frame.offset > self.joined {
            assert_eq!(frame.offset, self.newest_offset.max(self.joined) + 1, "without a gap: {text}");
        }
        self.newest_quote = number;
        self.newest_offset = frame.offset;
        number
    }
}

/// Topics and their current values, exactly as they stand in the snapshot.
fn values(program: &Program) -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Snapshot<'a> {
        #[serde(borrow)]
        frames: Vec<Envelope<'a>>,
    }
    let body = program.get("/v1/snapshot").body;
    let snapshot: Snapshot<'_> = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
    snapshot.frames.iter().map(|frame| (frame.topic.to_string(), frame.data.get().to_string())).collect()
}

fn is_ready(program: &Program) -> bool {
    program.get("/readyz").status == 200
}

#[test]
fn a_fanline_behind_a_fanline_is_stale_when_the_other_is() {
    let mut market = Program::simulate(&[]);
    let inner = Program::serve(&[&market.ws("/"), "--profile", "simulated"], &[]);
    eventually("the first fanline is live", || is_ready(&inner).then_some(()));
    let outer = Program::serve(&[&inner.ws("/v1/ws?topics=%3E")], &[]);
    eventually("the second fanline is live", || is_ready(&outer).then_some(()));
    market.kill();
    eventually("the first fanline is stale", || (!is_ready(&inner)).then_some(()));
    let told = eventually("the second fanline is stale", || (!is_ready(&outer)).then(|| outer.get("/readyz").json()));
    assert_eq!((&told["state"], &told["reason"]), (&"down".into(), &"upstream_down".into()), "{told}");
    let message = told["message"].as_str().expect("a message");
    assert!(message.contains("its own source"), "in words of its own: {message}");
    let since = |program: &Program| program.get("/v1/snapshot").json()["feed"]["since_ms"].clone();
    assert_eq!(since(&outer), since(&inner), "since the same moment");
    // Nothing moves any more, so both hold the same.
    assert_eq!(values(&outer), values(&inner), "topics keep their names, payloads every byte");
    let metric = outer.get("/metrics").body;
    assert!(sum(&metric, "fanline_upstream_messages_total", r#"class="unmatched""#) == 0.0, "{metric}");
}

fn frame_of(topic: &str, offset: u64, data: &str) -> String {
    format!(r#"{{"topic":"{topic}","offset":{offset},"ts":1,"data":{data}}}"#)
}

#[tokio::test]
async fn the_status_reported_by_another_fanline_is_passed_on() {
    let harness = IntakeHarness::open("fanline", &[]).await;
    let mut caller = harness.accept().await;
    caller.say(r#"{"op":"subscribed","topics":[">"],"offset":5}"#).await;
    caller.say(frame_of("q.A", 5, r#"{"p":1.50, "op":"live"}"#)).await;
    harness.until_live().await;
    assert_eq!(harness.until_frames(1).await, [("q.A".to_string(), r#"{"p":1.50, "op":"live"}"#.to_string())]);

    let down = r#"{"op":"stale","topics":[">"],"reason":"upstream_down","message":"secret","since_ms":7,"ts":9}"#;
    caller.misbehave("stale", down).await;
    harness.until("stale since then", |feed| matches!(feed, FeedState::Stale { since_ms: 7, .. })).await;
    harness.until_stale(StaleReason::UpstreamDown, "its own source").await;
    caller.say(frame_of("q.A", 6, "2")).await;
    harness.until_frames(2).await;
    harness.until_stale(StaleReason::UpstreamDown, "its own source").await;
    caller.say(r#"{"op":"live","topics":[">"],"ts":10}"#).await;
    harness.until_live().await;

    caller.misbehave("skipped", r#"{"op":"skipped","from":7,"to":20,"reason":"slow"}"#).await;
    for (topic, offset) in [("q.A", 12), ("q.B", 20), ("q.A", 21), ("q.C", 22)] {
        caller.say(frame_of(topic, offset, "3")).await;
    }
    harness.until_frames(6).await;
    let gaps: Vec<String> =
        harness.notes().into_iter().filter(|(_, note)| note["op"] == "gap").map(|(of, _)| of).collect();
    assert_eq!(gaps, ["q.A", "q.B"], "a gap is reported before the value that follows, and nothing else is");

    caller.misbehave("gap", r#"{"op":"gap","topic":"q.D","offset":23,"ts":1,"reason":"sequence","missed":3}"#).await;
    assert_eq!(harness.until_note("gap", "q.D").await["missed"], 3);
    let silent =
        r#"{"op":"stale","topics":["q.B"],"reason":"topic_silent","message":"m","since_ms":4,"offset":24,"ts":1}"#;
    caller.misbehave("topic stale", silent).await;
    assert_eq!(harness.until_note("stale", "q.B").await["since_ms"], 4);
    caller.say(r#"{"op":"live","topics":["q.B"],"offset":25,"ts":1}"#).await;
    harness.until_note("live", "q.B").await;

    caller.misbehave("goodbye", r#"{"op":"goodbye","code":"draining","message":"m","reconnect_ms":1}"#).await;
    let mut next = harness.accept().await;
    next.say(frame_of("q.A", 1, "4")).await;
    harness.until_frames(7).await;
    harness.until_live().await;
    harness.end(&[("gap", 1), ("goodbye", 1), ("skipped", 1), ("stale", 1), ("topic stale", 1)]).await;
}
