//! Servers that share one feed through a real nats-server.

use super::eventually;
use super::fake_feed::{FakeFeed, PROFILE};
use super::http::{get, sum};
use super::nats::NatsServer;
use super::program::Program;

/// As many as are started at once.
pub const NODES: usize = 3;

pub struct Nodes {
    pub feed: Feed,
    pub nats: NatsServer,
    pub nodes: Vec<Program>,
}

/// One process, to which only the ingester connects.
pub enum Feed {
    Market(Program),
    Fake(FakeFeed),
}

impl Nodes {
    /// None if there is no nats-server.
    pub fn start(test: &str, rate: &str) -> Option<Nodes> {
        Nodes::share(test, Feed::Market(Program::simulate(&["--rate", rate])))
    }

    pub fn share(test: &str, feed: Feed) -> Option<Nodes> {
        Nodes::with(test, feed, NODES, &[])
    }

    /// So many, with settings of their own.
    pub fn with(test: &str, feed: Feed, count: usize, own: &[(&str, &str)]) -> Option<Nodes> {
        let nats = NatsServer::start(test)?;
        let mut nodes = Nodes { feed, nats, nodes: Vec::new() };
        for _ in 0..count {
            let node = nodes.node_with(own);
            nodes.nodes.push(node);
        }
        Some(nodes)
    }

    /// A further one, which is not among `nodes` yet. It listens, and so has joined.
    pub fn node(&self) -> Program {
        self.node_with(&[])
    }

    /// The same, with settings of its own.
    pub fn node_with(&self, own: &[(&str, &str)]) -> Program {
        let (nats, name) = (self.nats.url(), format!("node-{}", self.nodes.len()));
        let settings = [
            ("CLUSTER_URLS", &*nats),
            ("CLUSTER_NODE_NAME", &name),
            ("ADMIN_LISTEN", "127.0.0.1:0"),
            ("SLOW_WRITE_DEADLINE", "10m"),
        ];
        match &self.feed {
            Feed::Market(market) => {
                Program::serve(&[&market.ws("/"), "--profile", "simulated"], &[&settings[..], own].concat())
            }
            Feed::Fake(feed) => {
                let profile = super::scratch().join(format!("cluster-{}.toml", self.nats.address.port()));
                std::fs::write(&profile, PROFILE).expect("a folder to write to");
                let of_clients = [
                    ("UPSTREAM_DEMAND", "on"),
                    ("UPSTREAM_LINGER", "0s"),
                    ("UPSTREAM_SEND", "chat.*"),
                    ("UPSTREAM_REQUEST", "true"),
                ];
                let args = [&*feed.url(), "--profile", profile.to_str().expect("UTF-8")];
                Program::serve(&args, &[&settings[..], &of_clients, own].concat())
            }
        }
    }

    /// A metric, as the operator's listener shows it.
    pub fn gauge(node: &Program, name: &str) -> f64 {
        Nodes::labelled(node, name, "")
    }

    /// Of the series whose labels contain these.
    pub fn labelled(node: &Program, name: &str, labels: &str) -> f64 {
        let admin = node.admin_address().parse().expect("an address");
        sum(&get(admin, "/metrics").body, name, labels)
    }

    /// The node that holds the feed.
    pub fn ingester(&self) -> usize {
        eventually("one node is the ingester", || {
            let holds = |node: &Program| Nodes::gauge(node, "fanline_cluster_ingester") == 1.0;
            let found: Vec<usize> = (0..self.nodes.len()).filter(|index| holds(&self.nodes[*index])).collect();
            (found.len() == 1).then(|| found[0])
        })
    }
}
