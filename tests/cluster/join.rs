//! A server that joins a cluster, or was away for too long, has what the others have, though the log does not: values,
//! kept messages, the state of topics. What another one says in their place is not believed.

use std::sync::Arc;

use async_nats::Client as NatsClient;
use bytes::Bytes;
use feed_log::chain::Chain;
use feed_log::entry::{Deflate, EntryBody, EntryPlace, PartCount};
use futures_util::StreamExt;
use kit::client::Client;
use kit::cluster_nodes::{Feed, Nodes};
use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::program::Program;
use kit::relay::Relay;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A small log, soon full; and topics that keep more than one message.
const SMALL: &[(&str, &str)] =
    &[("CLUSTER_BYTES_MAX", "16MiB"), ("HISTORY_KEEP", "kept=3"), ("UPSTREAM_SUBSCRIBE", "old,kept,filler,later")];
/// Bytes of a message that fills the log. Letters at random, so that they take almost as much when deflated.
const FILLER_BYTES: usize = 256 << 10;

struct Joining {
    feed: FakeFeed,
    nodes: Nodes,
    nats: NatsClient,
}

impl Joining {
    /// Two servers with values that the log does not have any more.
    async fn start(test: &str) -> Option<Joining> {
        let feed = FakeFeed::open();
        let nodes = Nodes::with(test, Feed::Fake(feed.clone()), 2, SMALL)?;
        let nats = async_nats::connect(nodes.nats.url()).await.expect("nats-server listens");
        eventually("the feed is asked for all", || (feed.ready(&TOPICS).len() == 1).then_some(()));
        let joining = Joining { feed, nodes, nats };
        for number in 1..=5 {
            joining.publish("kept", json!(number));
        }
        joining.publish("old", json!("of long ago"));
        joining.wait_for("of long ago");
        let newest = joining.log().await.1;
        joining.fill_log(newest, &joining.nodes.nodes[0]).await;
        Some(joining)
    }

    fn publish(&self, topic: &str, value: Value) {
        let text = json!({"topic": topic, "value": value}).to_string();
        assert_eq!(self.feed.publish(topic, &text, |_| false), 1);
    }

    /// Each server shows it.
    fn wait_for(&self, text: &str) {
        self.nodes.nodes.iter().for_each(|node| shows(node, text));
    }

    /// The numbers of the first and of the last entry.
    async fn log(&self) -> (u64, u64) {
        let info =
            self.nats.request("$JS.API.STREAM.INFO.FANLINE_feed", Bytes::new()).await.expect("JetStream answers");
        let info: Value = serde_json::from_slice(&info.payload).expect("JSON");
        let number = |name: &str| info["state"][name].as_u64().expect("a number");
        (number("first_seq"), number("last_seq"))
    }

    /// Publishes until the log has nothing any more of what was up to this entry.
    async fn fill_log(&self, entry: u64, shown: &Program) {
        let mut rng = StdRng::seed_from_u64(entry);
        while self.log().await.0 <= entry {
            let filler: String = (0..FILLER_BYTES).map(|_| rng.random_range('#'..'[')).collect();
            self.publish("filler", json!(filler));
            shows(shown, &filler);
        }
    }
}

fn shows(node: &Program, text: &str) {
    eventually("it is shown", || node.get("/v1/snapshot").body.contains(text).then_some(()));
}

const TOPICS: [&str; 4] = ["old", "kept", "filler", "later"];

/// All values, once both servers are at the same place.
fn same_values(one: &Program, other: &Program) -> Value {
    eventually("both have the same values", || {
        let [one, other] = [one, other].map(|node| node.get("/v1/snapshot").body);
        (one == other).then(|| serde_json::from_str(&one).expect("JSON"))
    })
}

fn snapshots(node: &Program, result: &str) -> f64 {
    Nodes::labelled(node, "fanline_cluster_snapshots_total", &format!("result=\"{result}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_joins_has_what_the_others_have_though_the_log_does_not() {
    let Some(joining) = Joining::start("join").await else { return };
    let joined = joining.nodes.node_with(SMALL);
    let peer = &joining.nodes.nodes[1];
    let at_once = joined.get("/v1/snapshot").json();
    let values = same_values(&joined, peer);
    assert_eq!(at_once["frames"], values["frames"], "it listens once it has all");
    assert!(values.to_string().contains("of long ago"), "{values}");
    assert_eq!(snapshots(&joined, "taken"), 1.0);
    let topics = [&joined, peer].map(|node| node.get("/v1/topics").json()["topics"].clone());
    assert_eq!(topics[0], topics[1], "counts and times");
    let mut clients = Vec::new();
    for node in [&joined, peer] {
        let mut client = Client::connect(&node.ws("/v1/ws?topics=kept,old")).await;
        client.expect_op("welcome").await;
        client.expect_op("subscribed").await;
        let mut frames = Vec::new();
        for _ in 0..4 {
            frames.push(client.frame().await);
        }
        clients.push(frames);
    }
    assert_eq!(clients[0], clients[1], "three that are kept, and one value");

    // What the log still has, the ring has as well: a replay from any place is the same on both.
    let (epoch, head) = (values["epoch"].as_str().expect("an epoch"), values["offset"].as_u64().expect("an offset"));
    let held = joining.nodes.nodes.len() as u64 + 8;
    for since in head - held..head {
        let path = format!("/v1/poll?max=100&since={epoch}:{since}");
        let [one, other] = [&joined, peer].map(|node| node.get(&path));
        assert!(
            one.status == 200 && one.body == other.body,
            "{path}: {} and {} bytes",
            one.body.len(),
            other.body.len()
        );
        assert!(!one.body.contains("\"skipped\""), "{path}: some are skipped");
    }

    // It goes on like any other, and can give what it was given.
    joining.publish("later", json!("now"));
    joining.wait_for("now");
    let mut third = joining.nodes.node_with(SMALL);
    assert!(same_values(&third, &joined).to_string().contains("of long ago"));
    third.kill();
}

/// What a server says that has no snapshot that counts, and what it gives as one.
struct Lie {
    what: &'static str,
    answer: String,
    pieces: Bytes,
}

impl Lie {
    /// An offer of these bytes, said to be made after an entry of this offset.
    fn offer(what: &'static str, pieces: Bytes, (bytes, epoch, offset): (usize, u64, u64)) -> Lie {
        let answer = json!({"node": 666, "answer": {"offered": {
            "number": 1, "bytes": bytes, "sha256": hex::encode(Sha256::digest(&pieces)), "offset": offset,
            "read_from": 1, "sequence": 1, "term": 1, "ingester": 1, "epoch": epoch, "next_offset": 5,
            "chain": "00".repeat(16), "is_resigned": false,
            "feed": {"label": "live", "reason": "", "since_ms": 0, "message": ""},
        }}});
        Lie { what, answer: answer.to_string(), pieces }
    }

    /// Answers each question for a snapshot so.
    async fn tell(self: Arc<Lie>, nats: NatsClient) {
        let mut asked = nats.subscribe("fanline.feed.snapshot.*").await.expect("a connection");
        while let Some(message) = asked.next().await {
            let is_piece = !message.payload.is_empty();
            let answer = if is_piece { self.pieces.clone() } else { Bytes::from(self.answer.clone()) };
            if let Some(to) = message.reply {
                nats.publish(to, answer).await.expect("a connection");
            }
        }
    }
}

/// No topics at all, in the right form, after an entry that no log has.
fn no_topics(epoch: u64, offset: u64) -> Bytes {
    let (term, node, first, mut chain_before) = (1, 1, offset + 1, Chain::START);
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let place = EntryPlace { term, node, epoch, first, chain_before, sent_ms: 0 };
        let body = EntryBody::Retained { items: Vec::new(), is_last: true };
        let (entry, chain) = place.encode(&body, Deflate::No, PartCount::default()).expect("it is small");
        bytes.extend(u32::try_from(entry.len()).expect("it is small").to_le_bytes());
        bytes.extend(entry);
        chain_before = chain;
    }
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_false_or_broken_neither_holds_up_a_start_nor_is_taken() {
    const TRIES: usize = 20;
    let Some(joining) = Joining::start("false-snapshot").await else { return };
    let real = joining.nodes.nodes[0].get("/v1/snapshot").json();
    let epoch = u64::from_str_radix(real["epoch"].as_str().expect("an epoch"), 16).expect("an epoch");
    let (fits, nothing) = (no_topics(epoch, 5), Bytes::from_static(b"nothing"));
    let plain = |what, answer: &str| Lie { what, answer: answer.to_owned(), pieces: Bytes::new() };
    let lies = [
        plain("noise", "{"),
        plain("none", r#"{"node":666,"answer":"nothing"}"#),
        Lie::offer("too large", nothing.clone(), (usize::MAX, epoch, 5)),
        Lie::offer("noise in pieces", nothing.clone(), (nothing.len(), epoch, 5)),
        Lie::offer("more than was said", nothing, (3, epoch, 5)),
        Lie::offer("far ahead", no_topics(epoch, u64::MAX - 1), (fits.len(), epoch, u64::MAX - 1)),
        Lie::offer("of another history", fits.clone(), (fits.len(), epoch, 5)),
    ];
    for lie in lies {
        let (what, lie) = (lie.what, Arc::new(lie));
        let liar = tokio::spawn(lie.tell(joining.nats.clone()));
        // Whoever answers first is heard: the liar is before long.
        let is_heard = |_| {
            let joined = joining.nodes.node_with(SMALL);
            let body = joined.get("/v1/snapshot").body;
            assert!(body.contains("\"filler\""), "{what}: what the log has is there");
            let (taken, dropped) = (snapshots(&joined, "taken"), snapshots(&joined, "dropped"));
            assert_eq!(body.contains("of long ago"), taken == 1.0, "{what}: {dropped} dropped");
            if what == "of another history" {
                // The log says again and again how the feed is.
                eventually("it is ready", || (joined.get("/readyz").status == 200).then_some(()));
            }
            dropped == 1.0 || joined.log().contains("snapshot is of no use")
        };
        assert!(tokio::task::block_in_place(|| (0..TRIES).any(is_heard)), "{what}: nobody has heard it");
        liar.abort();
    }
}

/// How many topics there are when a server joins a busy cluster, and how many frames the rings hold: 100,000 and 65,536
/// with `JOIN_TOPICS=100000`.
fn busy_size() -> (usize, usize) {
    let topics = std::env::var("JOIN_TOPICS").ok().and_then(|topics| topics.parse().ok()).unwrap_or(2_000);
    (topics, if topics > 10_000 { 65_536 } else { 4_096 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_joins_while_the_feed_runs_replays_what_the_others_do() {
    const REPLAYS: usize = 1_000;
    let (topics, ring) = busy_size();
    let (feed, ring_frames) = (FakeFeed::open(), ring.to_string());
    let own = [("RING_FRAMES_MAX", &*ring_frames), ("LIMITS_TOPICS_MAX", "200000")];
    let Some(nodes) = Nodes::with("busy", Feed::Fake(feed.clone()), 2, &own) else { return };
    let mut client = Client::connect(&nodes.nodes[0].ws("/v1/ws")).await;
    client.expect_op("welcome").await;
    client.command(json!({"op": "subscribe", "topics": ["all"]})).await;
    client.expect_op("subscribed").await;
    eventually("it is wanted", || (feed.ready(&["all"]).len() == 1).then_some(()));
    let publish = |number: usize| {
        let text = json!({"topic": format!("t.{}", number * 7919 % topics), "value": number}).to_string();
        feed.publish("all", &text, |_| false);
    };
    // More than the rings hold, so that most values are older than anything in them.
    let first = topics + ring;
    for number in 0..first {
        publish(number);
        if number % 1_000 == 999 {
            let shown = || Nodes::gauge(&nodes.nodes[1], "fanline_head_offset") >= number as f64 - 10_000.0;
            eventually("the feed is followed", || shown().then_some(()));
        }
    }
    let known = || Nodes::gauge(&nodes.nodes[1], "fanline_topics") == topics as f64;
    eventually("all topics are known", || known().then_some(()));

    let (joined, published) = std::thread::scope(|scope| {
        let joining = scope.spawn(|| {
            let began = std::time::Instant::now();
            let joined = nodes.node_with(&own);
            println!("{topics} topics, {ring} frames: ready after {:?}", began.elapsed());
            let at_once = Nodes::gauge(&joined, "fanline_topics");
            assert_eq!(at_once, topics as f64, "it listens once it has all");
            joined
        });
        let mut number = first;
        while !joining.is_finished() {
            publish(number);
            number += 1;
            std::thread::yield_now();
        }
        (joining.join().expect("it joins"), number)
    });
    assert_eq!(snapshots(&joined, "taken"), 1.0);
    let peer = &nodes.nodes[1];
    let last = format!("/v1/snapshot?topics=t.{}", (published - 1) * 7919 % topics);
    let shows_last = |node: &Program| node.get(&last).body.contains(&format!("\"value\":{}", published - 1));
    eventually("nothing is under way any more", || (shows_last(&joined) && shows_last(peer)).then_some(()));
    let values = same_values(&joined, peer);
    assert_eq!(values["frames"].as_array().map(Vec::len), Some(topics), "{}", values["offset"]);
    let (epoch, head) = (values["epoch"].as_str().expect("an epoch"), values["offset"].as_u64().expect("an offset"));
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..REPLAYS {
        let since = rng.random_range(head - ring as u64..head);
        let path = format!("/v1/poll?max=20&since={epoch}:{since}");
        let [one, other] = [&joined, peer].map(|node| node.get(&path));
        assert_eq!((one.status, &one.body), (200, &other.body), "{path}");
        assert!(!one.body.contains("\"skipped\""), "{path}: {}", one.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_for_longer_than_the_log_holds_has_the_values_of_the_others() {
    let Some(joining) = Joining::start("away-for-long").await else { return };
    let (relay, shown) = (Relay::shut(), &joining.nodes.nodes[0]);
    relay.open(joining.nodes.nats.address);
    let url = format!("nats://{}", relay.addr());
    let away = joining.nodes.node_with(&[SMALL, &[("CLUSTER_URLS", &url)]].concat());
    let mut client = Client::connect(&away.ws("/v1/ws?topics=old,later")).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    assert!(client.frame().await.contains("of long ago"));
    relay.cut();
    eventually("it has no log", || (away.get("/readyz").status == 503).then_some(()));
    joining.publish("later", json!("meanwhile"));
    shows(shown, "meanwhile");
    joining.fill_log(joining.log().await.1, shown).await;
    relay.open(joining.nodes.nats.address);
    let values = same_values(&away, shown);
    assert!(values.to_string().contains("meanwhile"), "{values}");
    eventually("it is ready", || (away.get("/readyz").status == 200).then_some(()));
    assert_eq!(snapshots(&away, "taken"), 2.0, "when it joined, and now");
    // Its clients are told that they have missed something, and have the value.
    let mut told = Vec::new();
    while !told.iter().any(|text: &String| text.contains("meanwhile")) {
        told.push(client.text().await);
    }
    assert!(told.iter().any(|text| text.starts_with("{\"op\":\"skipped\"")), "{told:?}");
    joining.publish("later", json!("and on"));
    while !client.text().await.contains("and on") {}
}
