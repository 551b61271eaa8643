//! Several servers share one feed through a real nats-server: the same offset is the same message everywhere, whichever
//! server holds the feed, and a client may go from one to the other.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::StreamExt;
use kit::http::sum;
use kit::nats::NatsServer;
use kit::program::Program;
use kit::{DEADLINE, eventually};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const NODES: usize = 3;

struct Nodes {
    market: Program,
    nats: NatsServer,
    nodes: Vec<Program>,
}

impl Nodes {
    /// None if there is no nats-server. The market is one process, to which only the ingester connects.
    fn start(test: &str, rate: &str) -> Option<Nodes> {
        let nats = NatsServer::start(test)?;
        let market = Program::simulate(&["--rate", rate]);
        let mut nodes = Nodes { market, nats, nodes: Vec::new() };
        for _ in 0..NODES {
            let node = nodes.node();
            nodes.nodes.push(node);
        }
        Some(nodes)
    }

    fn node(&self) -> Program {
        let url = self.nats.url();
        let settings = [("CLUSTER_URLS", &*url), ("SLOW_WRITE_DEADLINE", "10m")];
        Program::serve(&[&self.market.ws("/"), "--profile", "simulated"], &settings)
    }

    fn gauge(node: &Program, name: &str) -> f64 {
        sum(&node.get("/metrics").body, name, "")
    }

    /// The node that holds the feed.
    fn ingester(&self) -> usize {
        eventually("one node is the ingester", || {
            let holds = |node: &Program| Nodes::gauge(node, "fanline_cluster_ingester") == 1.0;
            let found: Vec<usize> = (0..self.nodes.len()).filter(|index| holds(&self.nodes[*index])).collect();
            (found.len() == 1).then(|| found[0])
        })
    }
}

/// What a client has been sent, by offset.
#[derive(Default)]
struct Seen {
    epoch: String,
    cursor: u64,
    /// The messages after this offset are all that there are; those up to it are the values of then.
    joined: Option<u64>,
    /// Frames and topic statuses.
    messages: BTreeMap<u64, String>,
    skipped: Vec<Value>,
    gaps: usize,
}

impl Seen {
    /// Reads on from where it is, on this node, until it has this offset, or the connection ends.
    async fn read(&mut self, node: &Program, until: u64) {
        let since =
            if self.epoch.is_empty() { String::new() } else { format!("&since={}:{}", self.epoch, self.cursor) };
        let url = node.ws(&format!("/v1/ws?policy=lossless&topics=%3E{since}"));
        let (mut stream, _) = connect_async(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        while self.cursor < until {
            let next = timeout(DEADLINE, stream.next()).await.unwrap_or_else(|_| panic!("{url}: silence"));
            let Some(Ok(Message::Text(text))) = next else { return };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            match message["op"].as_str() {
                Some("welcome") => {
                    let epoch = message["epoch"].as_str().expect("an epoch");
                    assert!(self.epoch.is_empty() || self.epoch == epoch, "{url}: another epoch, {message}");
                    self.epoch = epoch.to_owned();
                }
                Some("skipped") => self.skipped.push(message),
                Some("subscribed") if self.joined.is_none() => self.joined = message["offset"].as_u64(),
                None | Some("gap" | "stale" | "live" | "refused") => {
                    let Some(offset) = message["offset"].as_u64() else { continue };
                    assert!(offset > self.cursor, "{url}: {offset} after {}", self.cursor);
                    self.gaps += usize::from(message["op"] == "gap");
                    self.cursor = offset;
                    self.messages.insert(offset, text.as_str().to_owned());
                }
                Some(_) => {}
            }
        }
    }
}

/// Where two have seen the same offset, they have seen the same message.
fn check_equal(all: &[Seen]) {
    let mut known: BTreeMap<u64, &String> = BTreeMap::new();
    let mut compared = 0;
    for seen in all {
        for (offset, text) in &seen.messages {
            match known.get(offset) {
                Some(same) => {
                    assert_eq!(*same, text, "two contents of {offset}");
                    compared += 1;
                }
                None => {
                    known.insert(*offset, text);
                }
            }
        }
    }
    assert!(compared > 100, "only {compared} offsets were seen twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_show_the_same_and_a_client_goes_from_one_to_the_next() {
    let Some(nodes) = Nodes::start("same", "1000") else { return };
    nodes.ingester();
    let mut seen: Vec<Seen> = (0..=NODES).map(|_| Seen::default()).collect();
    let (hopping, staying) = seen.split_first_mut().expect("there are some");
    let until = 5_000;
    let stay =
        futures_util::future::join_all(staying.iter_mut().zip(&nodes.nodes).map(|(seen, node)| seen.read(node, until)));
    let hop = async {
        for step in 1.. {
            hopping.read(&nodes.nodes[step % NODES], (hopping.cursor + 100).min(until)).await;
            if hopping.cursor >= until {
                return;
            }
        }
    };
    tokio::join!(stay, hop);
    for one in &seen {
        assert_eq!(one.skipped, [] as [Value; 0]);
        let joined = one.joined.expect("it has subscribed");
        assert!(joined < until / 2, "it joined late, at {joined}");
        assert_eq!(one.messages.range(joined + 1..=until).count() as u64, until - joined, "from {joined} on");
    }
    check_equal(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_takes_over_when_the_ingester_is_killed_or_stops() {
    let Some(mut nodes) = Nodes::start("takeover", "500") else { return };
    let mut seen = Seen::default();
    for is_orderly in [false, true] {
        let ingester = nodes.ingester();
        let other = (ingester + 1) % nodes.nodes.len();
        seen.read(&nodes.nodes[other], seen.cursor + 500).await;
        let since = format!("{}:{}", seen.epoch, seen.cursor);
        let terms = Nodes::gauge(&nodes.nodes[other], "fanline_cluster_term");
        let mut lost = nodes.nodes.swap_remove(ingester);
        if is_orderly {
            lost.terminate()
        } else {
            lost.kill()
        }
        let began = Instant::now();
        let next = nodes.ingester();
        let silence = began.elapsed();
        seen.read(&nodes.nodes[next], seen.cursor + 500).await;
        // A resignation is a term as well, in which nobody has the feed.
        let terms = terms + if is_orderly { 2.0 } else { 1.0 };
        assert_eq!(Nodes::gauge(&nodes.nodes[next], "fanline_cluster_term"), terms);
        let news = nodes.nodes[next].get(&format!("/v1/poll?max=10000&since={since}")).json();
        let told = news["notes"].as_array().expect("an array").iter().any(|note| note["op"] == "gap");
        assert!(told, "nobody listened to the market for a while: {}", news["notes"]);
        println!("orderly {is_orderly}: another ingester after {silence:?}, frames after {:?}", began.elapsed());
        assert!(is_orderly || lost.wait().code().is_none());
        let node = nodes.node();
        nodes.nodes.push(node);
    }
    assert_eq!(seen.skipped, [] as [Value; 0]);
    let mut again = Seen { epoch: seen.epoch.clone(), ..Seen::default() };
    again.read(nodes.nodes.last().expect("some"), seen.cursor).await;
    check_equal(&[seen, again]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_away_is_told_and_nothing_is_lost() {
    let Some(mut nodes) = Nodes::start("away", "500") else { return };
    let mut seen = Seen::default();
    seen.read(&nodes.nodes[0], 500).await;
    nodes.nats.kill();
    let ready = |node: &Program| node.get("/readyz").status;
    eventually("every node is cut off", || nodes.nodes.iter().all(|node| ready(node) == 503).then_some(()));
    assert_eq!(nodes.nodes[0].get("/readyz").json()["reason"], "cluster");
    nodes.nats.run();
    eventually("every node is back", || nodes.nodes.iter().all(|node| ready(node) == 200).then_some(()));
    seen.read(&nodes.nodes[1], seen.cursor + 1_000).await;
    assert_eq!((seen.skipped, seen.gaps), (Vec::new(), 0));
    assert_eq!(Nodes::gauge(&nodes.nodes[0], "fanline_cluster_jumps_total"), 0.0);
}
