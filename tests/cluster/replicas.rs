//! The log of a cluster with three copies, on three real nats-servers: the loss of one of these costs nobody anything.

use std::time::Instant;

use kit::cluster_nodes::{NODES, Nodes};
use kit::nats::NatsServer;
use kit::program::Program;
use kit::seen::{Seen, check_equal, head};
use kit::{DEADLINE, eventually};
use serde_json::Value;

struct Replicated {
    nats: [NatsServer; 3],
    market: Program,
    nodes: Vec<Program>,
}

impl Replicated {
    /// None if there is no nats-server.
    fn start(test: &str) -> Option<Replicated> {
        let nats = NatsServer::group(test)?;
        let market = Program::simulate(&["--rate", "500"]);
        let mut all = Replicated { nats, market, nodes: Vec::new() };
        let urls = all.nats.each_ref().map(NatsServer::url).join(",");
        all.nodes = (0..NODES).map(|index| all.node(&format!("node-{index}"), &urls)).collect();
        Some(all)
    }

    /// A server of the cluster that has joined.
    fn node(&self, name: &str, urls: &str) -> Program {
        let settings = [
            ("CLUSTER_URLS", urls),
            ("CLUSTER_REPLICAS", "3"),
            ("CLUSTER_NODE_NAME", name),
            ("ADMIN_LISTEN", "127.0.0.1:0"),
            ("SLOW_WRITE_DEADLINE", "10m"),
        ];
        Program::serve(&[&self.market.ws("/"), "--profile", "simulated"], &settings)
    }

    fn ingester(&self) -> usize {
        let holds = |node: &Program| Nodes::gauge(node, "fanline_cluster_ingester") == 1.0;
        eventually("one node is the ingester", || {
            let found: Vec<usize> = (0..NODES).filter(|index| holds(&self.nodes[*index])).collect();
            (found.len() == 1).then(|| found[0])
        })
    }

    /// The nats-server that leads the log, once the two others have all of it.
    async fn leader(&self) -> usize {
        let nats = async_nats::connect(self.nats.each_ref().map(NatsServer::url).to_vec());
        let nats = nats.await.expect("a nats-server listens");
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < DEADLINE, "the log has no leader that the others follow");
            let Ok(answer) = nats.request("$JS.API.STREAM.INFO.FANLINE_feed", "".into()).await else { continue };
            let log: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            let followers = log["cluster"]["replicas"].as_array().map_or(&[][..], Vec::as_slice);
            let level = followers.iter().filter(|it| it["current"] == true && it["offline"] != true).count();
            let index = |name: &str| name.strip_prefix("nats-")?.parse().ok();
            if let (2, Some(leader)) = (level, log["cluster"]["leader"].as_str().and_then(index)) {
                return leader;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_kept_when_the_leader_of_the_log_is_lost() {
    let Some(mut all) = Replicated::start("replicas-leader") else { return };
    let ingester = all.ingester();
    let term = |all: &Replicated| Nodes::gauge(&all.nodes[ingester], "fanline_cluster_term");
    let (mut seen, before) = (Seen::default(), term(&all));
    // The last one sends its clients away first.
    for signal in ["KILL", "TERM", "USR2"] {
        let leader = all.leader().await;
        let (one, other) = (&all.nodes[(ingester + 1) % NODES], &all.nodes[(ingester + 2) % NODES]);
        seen.read(one, head(one)).await;
        all.nats[leader].signal(signal);
        let began = Instant::now();
        seen.read(other, head(other) + 1_000).await;
        println!("{signal}: 1,000 messages after {:?}", began.elapsed());
        all.nats[leader].wait();
        all.nats[leader].run();
        assert_eq!((all.ingester(), term(&all)), (ingester, before), "{signal}");
    }
    assert_eq!((&seen.skipped, seen.gaps), (&Vec::new(), 0));
    let joined = seen.joined.expect("it has subscribed");
    assert_eq!(seen.messages.range(joined + 1..).count() as u64, seen.cursor - joined);
    let mut again = Seen { epoch: seen.epoch.clone(), ..Seen::default() };
    again.read(&all.nodes[ingester], seen.cursor).await;
    check_equal(&[seen, again]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_nats_server_hangs_goes_on_with_another() {
    let Some(all) = Replicated::start("replicas-hang") else { return };
    // Without the ingester and the log's leader, so that only what follows has to be mended.
    let (leader, ingester) = (all.leader().await, format!("fanline node-{}", all.ingester()));
    let spare = |index: &usize| *index != leader && !all.nats[*index].has_client(&ingester);
    let hung = &all.nats[(0..3).find(spare).expect("one of three is neither")];
    // It is told of the others by the one that it knows.
    let node = all.node("knows-one", &hung.url());
    assert!(hung.has_client("fanline knows-one"));
    let mut seen = Seen::default();
    seen.read(&node, 100).await;
    hung.signal("STOP");
    eventually("it is cut off", || (node.get("/readyz").status == 503).then_some(()));
    assert_eq!(node.get("/readyz").json()["reason"], "cluster");
    eventually("it is back", || (node.get("/readyz").status == 200).then_some(()));
    seen.read(&node, head(&node) + 500).await;
    hung.signal("CONT");
    assert_eq!((seen.skipped, seen.gaps), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingester_that_hangs_with_the_leader_of_the_log_is_replaced() {
    let Some(all) = Replicated::start("replicas-both") else { return };
    let ingester = all.ingester();
    let (hung, other) = (&all.nodes[ingester], &all.nodes[(ingester + 1) % NODES]);
    let mut seen = Seen::default();
    seen.read(hung, 300).await;
    let leader = all.leader().await;
    all.nats[leader].signal("STOP");
    hung.signal("STOP");
    let holds = |node: &Program| Nodes::gauge(node, "fanline_cluster_ingester") == 1.0;
    let others = || all.nodes.iter().enumerate().filter(|(index, _)| *index != ingester);
    eventually("another one takes over", || others().any(|(_, node)| holds(node)).then_some(()));
    let mut on = Seen { epoch: seen.epoch.clone(), cursor: seen.cursor, ..Seen::default() };
    on.read(other, head(other) + 500).await;
    all.nats[leader].signal("CONT");
    hung.signal("CONT");
    eventually("it has given the feed up", || (!holds(hung)).then_some(()));
    seen.read(hung, on.cursor).await;
    assert_eq!((&seen.skipped, &on.skipped), (&Vec::new(), &Vec::new()));
    assert!(on.gaps > 0, "nobody listened to the market for a while");
    check_equal(&[seen, on]);
}
