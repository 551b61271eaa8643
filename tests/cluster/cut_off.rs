//! A server that holds the feed and loses the log without a word, as behind a broken switch, gives the feed up before
//! another one takes it; when the log is back it follows. `CUT_RUNS=10` does it ten times, and looks at the clock as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::cluster_nodes::{Feed, NODES, Nodes};
use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::namespace::Namespace;
use kit::nats::NatsServer;
use kit::program::Program;
use kit::seen::{Seen, check_equal, head};
use serde_json::{Value, json};

/// With `CUT_RUNS`: how long a venue that allows one connection may see two.
const BOTH_MAX: Duration = Duration::from_millis(500);
/// The same: from the cut to the next term.
const TAKEOVER_MAX: Duration = Duration::from_secs(4);

fn holds(node: &Program) -> bool {
    Nodes::gauge(node, "fanline_cluster_ingester") == 1.0
}

/// How long two connections to the feed stood at the same time.
fn both(feed: &FakeFeed) -> Duration {
    let state = feed.state();
    let overlap = |index: usize| {
        let (before, next) = (&state.connections[index], state.connections.get(index + 1)?);
        Some(before.closed.unwrap_or_else(Instant::now).saturating_duration_since(next.opened))
    };
    (0..state.connections.len()).filter_map(overlap).max().unwrap_or_default()
}

/// Of two messages in a row nothing is missing between, or a gap is told.
fn check_told(seen: &Seen) {
    let (mut last, mut is_told) = (None, true);
    for text in seen.messages.values() {
        let message: Value = serde_json::from_str(text).expect("JSON");
        if message["op"] == "gap" {
            is_told = true;
        } else if let Some(number) = message["data"]["value"].as_u64() {
            assert!(is_told || last.is_none_or(|last| number == last + 1), "{number} after {last:?} in silence");
            assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
            (last, is_told) = (Some(number), false);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingester_that_is_cut_off_gives_the_feed_up_before_another_one_takes_it() {
    let test = "cut-off";
    let runs: Option<usize> = std::env::var("CUT_RUNS").ok().and_then(|runs| runs.parse().ok());
    let Some(network) = Namespace::open(test, NODES) else { return };
    let Some(nats) = NatsServer::within(test, &network) else { return };
    let feed = FakeFeed::open();
    let port = nats.address.port();
    let mut nodes = Nodes { feed: Feed::Fake(feed.clone()), nats, nodes: Vec::new() };
    for link in 0..NODES {
        let url = format!("nats://{}", network.reached_by(link, port));
        let own = [("CLUSTER_URLS", &*url), ("CLUSTER_RELEASE", "1500ms"), ("UPSTREAM_SUBSCRIBE", "live")];
        let node = nodes.node_with(&own);
        nodes.nodes.push(node);
    }
    eventually("the feed is asked", || (feed.ready(&["live"]).len() == 1).then_some(()));
    let (published, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let (number, over, live) = (published.clone(), is_over.clone(), feed.clone());
    let feeding = std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let value = number.fetch_add(1, Ordering::Relaxed) + 1;
            live.publish("live", &json!({"topic": "live", "value": value}).to_string(), |_| false);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let (mut seen, mut after_a_cut): (Seen, Vec<Seen>) = Default::default();
    for run in 0..runs.unwrap_or(1) {
        let ingester = nodes.ingester();
        let (cut, other) = (&nodes.nodes[ingester], &nodes.nodes[(ingester + 1) % NODES]);
        seen.read(other, head(other) + 100).await;
        let term = Nodes::gauge(other, "fanline_cluster_term");
        network.cut(ingester);
        let began = Instant::now();
        let others = || nodes.nodes.iter().enumerate().filter(|(index, _)| *index != ingester);
        eventually("another one takes over", || others().any(|(_, node)| holds(node)).then_some(()));
        let takeover = began.elapsed();
        eventually("it has given the feed up", || (!holds(cut)).then_some(()));
        assert_eq!(cut.get("/readyz").status, 503);
        seen.read(other, head(other) + 200).await;
        network.join(ingester);
        let joined = Instant::now();
        eventually("it is back", || (cut.get("/readyz").status == 200).then_some(()));
        println!("run {run}: term after {takeover:?}, back {:?} after the cut was mended", joined.elapsed());
        assert_eq!(Nodes::gauge(other, "fanline_cluster_term"), term + 1.0, "nothing of the old term is left");
        let mut again = Seen { epoch: seen.epoch.clone(), cursor: seen.cursor.saturating_sub(150), ..Seen::default() };
        again.read(cut, seen.cursor).await;
        after_a_cut.push(again);
        if runs.is_some() {
            assert!(takeover < TAKEOVER_MAX, "{takeover:?}");
        }
    }
    println!("two connections at once for at most {:?}", both(&feed));
    if runs.is_some() {
        assert!(both(&feed) <= BOTH_MAX, "{:?}", both(&feed));
    }
    is_over.store(true, Ordering::Relaxed);
    feeding.join().expect("it publishes");
    assert_eq!(seen.skipped, [] as [Value; 0]);
    assert!(seen.gaps > 0, "nobody listened for a while");
    check_told(&seen);
    // On the server that was cut off, gaps that a value has superseded are not replayed.
    for again in &after_a_cut {
        let same: BTreeMap<u64, &String> = again.messages.iter().map(|(offset, text)| (*offset, text)).collect();
        assert!(same.len() > 50, "{}", same.len());
    }
    after_a_cut.push(seen);
    check_equal(&after_a_cut);
}
