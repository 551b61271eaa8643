//! A log that has lost what nobody has kept goes on in another epoch, and the servers with it: each client is told, has the
//! current values, and from then on what all others have.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kit::cluster_nodes::{Feed, NODES, Nodes};
use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::program::Program;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const TOPICS: [&str; 3] = ["old", "live", "filler"];
const OWN: &[(&str, &str)] = &[("UPSTREAM_SUBSCRIBE", "old,live,filler")];
/// More than a server keeps of the log, 64 MiB, in letters at random.
const FILLERS: usize = 7;
const FILLER_BYTES: usize = 15 << 20;

/// What a client is sent, for as long as its connection lasts.
#[derive(Default)]
struct Told {
    epoch: String,
    /// `view` and `skipped`, in their order.
    notices: Vec<Value>,
    /// Frames and topic statuses, by epoch and offset.
    messages: BTreeMap<(String, u64), Value>,
    /// The values of `live`, of the newest epoch.
    live: Vec<u64>,
    has_ended: bool,
}

type SharedTold = Arc<Mutex<Told>>;

async fn listen(url: String, told: SharedTold) {
    let (mut stream, _) = connect_async(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(text) = message {
            told.lock().expect("whole").take(serde_json::from_str(&text).expect("JSON"));
        }
    }
    told.lock().expect("whole").has_ended = true;
}

impl Told {
    fn take(&mut self, message: Value) {
        match message["op"].as_str() {
            Some(op @ ("welcome" | "view")) => {
                self.epoch = message["epoch"].as_str().expect("an epoch").to_owned();
                self.live.clear();
                if op == "view" {
                    self.notices.push(message);
                }
            }
            Some("skipped") => self.notices.push(message),
            _ => {
                let Some(offset) = message["offset"].as_u64() else { return };
                if message["topic"] == "live" && message["op"].is_null() {
                    self.live.extend(message["data"]["value"].as_u64());
                }
                if message["op"].is_null() || message["op"] == "gap" {
                    let before = self.messages.insert((self.epoch.clone(), offset), message.clone());
                    assert_eq!(before, None, "an offset comes once, then {message}");
                }
            }
        }
    }
}

/// Clients of all nodes that stay, and a feed that goes on.
struct Scene {
    feed: FakeFeed,
    nodes: Nodes,
    told: Vec<SharedTold>,
    /// The newest value of `live`.
    published: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Scene {
    fn start(test: &str) -> Option<Scene> {
        let feed = FakeFeed::open();
        let nodes = Nodes::with(test, Feed::Fake(feed.clone()), NODES, OWN)?;
        eventually("the feed is asked for all", || (feed.ready(&TOPICS).len() == 1).then_some(()));
        let publish = |topic: &str, value: Value| {
            feed.publish(topic, &json!({"topic": topic, "value": value}).to_string(), |_| false);
        };
        publish("old", json!("of long ago"));
        let told: Vec<SharedTold> = nodes.nodes.iter().map(|_| SharedTold::default()).collect();
        for (node, told) in nodes.nodes.iter().zip(&told) {
            eventually("it is shown", || node.get("/v1/snapshot").body.contains("of long ago").then_some(()));
            tokio::spawn(listen(node.ws("/v1/ws?policy=lossless&topics=old,live"), told.clone()));
        }
        let (published, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (number, over, live) = (published.clone(), is_over.clone(), feed.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let value = number.fetch_add(1, Ordering::Relaxed) + 1;
                live.publish("live", &json!({"topic": "live", "value": value}).to_string(), |_| false);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let scene = Scene { feed, nodes, told, published, is_over };
        scene.go_on(200);
        Some(scene)
    }

    /// Until each client has so many more messages than have been published.
    fn go_on(&self, more: u64) {
        let until = self.published.load(Ordering::Relaxed) + more;
        eventually("each client has what is published", || {
            let has = |told: &SharedTold| told.lock().expect("whole").live.last() >= Some(&until);
            self.told.iter().all(has).then_some(())
        });
    }

    /// What all clients were told is the same, offset by offset, and nothing of the newest epoch is missing.
    fn check(&self, notices: &[&str]) {
        let mut known: BTreeMap<(String, u64), Value> = BTreeMap::new();
        let mut compared = 0;
        for (number, told) in self.told.iter().enumerate() {
            let told = told.lock().expect("whole");
            assert!(!told.has_ended, "the client of node {number} has stayed");
            let ops: Vec<&str> = told.notices.iter().map(|notice| notice["op"].as_str().expect("an op")).collect();
            assert_eq!(ops, notices, "node {number}: {:?}", told.notices);
            let is_dense = told.live.windows(2).all(|pair| pair[1] == pair[0] + 1);
            assert!(is_dense, "node {number}: {:?}", told.live.windows(2).find(|pair| pair[1] != pair[0] + 1));
            for (place, message) in &told.messages {
                match known.get(place) {
                    Some(same) => {
                        assert_eq!(same, message, "two contents of {place:?}, the second of node {number}");
                        compared += 1;
                    }
                    None => drop(known.insert(place.clone(), message.clone())),
                }
            }
        }
        assert!(compared > 500, "only {compared} offsets were seen twice");
    }

    fn epoch_of(node: &Program) -> String {
        node.get("/v1/snapshot").json()["epoch"].as_str().expect("an epoch").to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_deleted_or_rolled_back_under_load_is_filled_again_and_no_client_notices() {
    let Some(mut scene) = Scene::start("epoch-kept") else { return };
    let copy = scene.nodes.nats.copy_store();
    scene.go_on(300);
    scene.nodes.nats.roll_back(&copy);
    scene.go_on(300);
    let nats = async_nats::connect(scene.nodes.nats.url()).await.expect("nats-server listens");
    let answer = nats.request("$JS.API.STREAM.DELETE.FANLINE_feed", "".into()).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer.payload).contains("\"success\":true"));
    scene.go_on(300);
    let heals: f64 = scene.nodes.nodes.iter().map(|node| Nodes::gauge(node, "fanline_cluster_heals_total")).sum();
    assert!(heals >= 2.0, "the log has lost something twice: {heals}");
    scene.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_lost_more_than_anybody_keeps_goes_on_in_another_epoch_on_servers_that_stay() {
    let Some(mut scene) = Scene::start("epoch-changes") else { return };
    let copy = scene.nodes.nats.copy_store();
    scene.go_on(100);
    let before = Scene::epoch_of(&scene.nodes.nodes[0]);
    let ingester = scene.nodes.ingester();
    // It does not see how the log gets ahead, and stands elsewhere when the epoch begins.
    let (hung, other) = ((ingester + 1) % NODES, (ingester + 2) % NODES);
    scene.nodes.nodes[hung].signal("STOP");
    let mut rng = StdRng::seed_from_u64(1);
    for number in 0..=FILLERS {
        let bytes = if number < FILLERS { FILLER_BYTES } else { 1 };
        let filler: String = (0..bytes).map(|_| rng.random_range('#'..'[')).collect();
        let text = json!({"topic": "filler", "value": filler}).to_string();
        assert_eq!(scene.feed.publish("filler", &text, |_| false), 1);
    }
    let shows_filler = || {
        let values = scene.nodes.nodes[other].get("/v1/snapshot?topics=filler");
        (values.body.contains("filler") && values.body.len() < FILLER_BYTES).then_some(())
    };
    eventually("the last filler is shown", shows_filler);
    scene.nodes.nats.roll_back(&copy);
    let changed = |node: &Program| Scene::epoch_of(node) != before;
    eventually("another epoch is shown", || changed(&scene.nodes.nodes[other]).then_some(()));
    scene.nodes.nodes[hung].signal("CONT");
    eventually("it is shown on the server that hung", || changed(&scene.nodes.nodes[hung]).then_some(()));
    scene.go_on(300);

    scene.check(&["view", "skipped"]);
    let epoch = Scene::epoch_of(&scene.nodes.nodes[ingester]);
    for (number, (node, told)) in scene.nodes.nodes.iter().zip(&scene.told).enumerate() {
        let told = told.lock().expect("whole");
        assert_eq!((&told.epoch, &Scene::epoch_of(node)), (&epoch, &epoch), "node {number}");
        assert_eq!((&told.notices[0]["epoch"], &told.notices[1]["reason"]), (&json!(epoch), &json!("epoch")));
        let is_old = |((of, _), message): (&(String, u64), &Value)| *of == epoch && message["topic"] == "old";
        assert!(told.messages.iter().any(is_old), "node {number} shows the values of before");
        assert_eq!(node.get("/readyz").status, 200, "node {number}");
        let log = node.log();
        assert_eq!(log.matches("has begun another epoch").count(), 1, "{log}");
        let upper = u64::from_str_radix(&epoch[..8], 16).expect("an epoch") as f64;
        assert_eq!(Nodes::gauge(node, "fanline_cluster_epoch"), upper);
        assert_eq!(Nodes::gauge(node, "fanline_cluster_jumps_total"), if number == hung { 1.0 } else { 0.0 });
        let news = node.get(&format!("/v1/poll?topics=old&since={before}:1")).json();
        assert_eq!((&news["skipped"]["reason"], &news["epoch"]), (&json!("epoch"), &json!(epoch)), "{news}");
        assert!(news["frames"].to_string().contains("of long ago"), "{news}");
    }
    assert_eq!(scene.nodes.ingester(), ingester, "it has kept the feed");
    let latecomer = scene.nodes.node_with(OWN);
    assert_eq!(Scene::epoch_of(&latecomer), epoch);
    assert!(latecomer.get("/v1/snapshot").body.contains("of long ago"));
}
