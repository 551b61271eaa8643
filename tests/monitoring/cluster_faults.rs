//! Alerts about a cluster fire with faults of two real servers and a real nats-server, and clear when they are over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::MACHINE;
use crate::prometheus::{Prometheus, hasty};
use kit::document::read;
use kit::nats::NatsServer;
use kit::program::Program;
use kit::{eventually, skip_without_tool};

/// As the servers name it (`cluster.name` has its default).
const STREAM: &str = "FANLINE_feed";

fn serve(listen: &str, node: &str, market: &Program, nats: &str) -> Program {
    // The feed is given up soon.
    let settings = [("CLUSTER_URLS", nats), ("CLUSTER_NODE_NAME", node), ("CLUSTER_RELEASE", "1s")];
    Program::serve_on(listen, &[&market.ws("/"), "--profile", "simulated"], &settings)
}

fn the_log_is_away(prometheus: &Prometheus, nats: &mut NatsServer, servers: &[SocketAddr]) {
    nats.kill();
    prometheus.fires_anywhere("FanlineClusterWithoutIngester");
    servers.iter().for_each(|server| prometheus.fires("FanlineClusterLags", *server));
    nats.run();
    prometheus.clears_anywhere("FanlineClusterWithoutIngester");
    servers.iter().for_each(|server| prometheus.clears("FanlineClusterLags", *server));
}

fn the_log_is_deleted(prometheus: &Prometheus, nats: &NatsServer) {
    let mut socket = TcpStream::connect(nats.address).expect("it listens");
    write!(socket, "CONNECT {{\"verbose\":false}}\r\nPUB $JS.API.STREAM.DELETE.{STREAM} 0\r\n\r\nPING\r\n")
        .expect("sent");
    // Its answer to the ping follows what it has done before.
    let mut answers = String::new();
    while !answers.contains("PONG") {
        let mut bytes = [0; 4096];
        let read = socket.read(&mut bytes).expect("an answer");
        assert!(read > 0, "nats-server has hung up: {answers}");
        answers.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    prometheus.fires_anywhere("FanlineClusterHealed");
    prometheus.clears_anywhere("FanlineClusterHealed");
}

/// Nobody is left who knows what the log had.
fn all_servers_are_killed(prometheus: &Prometheus, servers: [Program; 2], start: impl Fn(&str, usize) -> Program) {
    let addresses = servers.map(|mut server| {
        server.kill();
        server.addr().to_string()
    });
    let _servers: Vec<Program> = addresses.iter().enumerate().map(|(index, address)| start(address, index)).collect();
    prometheus.fires_anywhere("FanlineClusterEpochChanged");
    prometheus.clears_anywhere("FanlineClusterEpochChanged");
}

#[test]
fn alerts_about_a_cluster_fire_with_its_faults_and_clear_when_they_are_over() {
    let _beside = MACHINE.read();
    let Some(mut nats) = NatsServer::start("monitoring") else { return };
    let (market, url) = (Program::simulate(&["--rate", "50"]), nats.url());
    let start = |listen: &str, index: usize| serve(listen, ["a", "b"][index], &market, &url);
    let servers = [0, 1].map(|index| start("127.0.0.1:0", index));
    let addresses = [servers[0].addr(), servers[1].addr()];
    let rules = hasty(&read("deploy/prometheus/alerts.yml"));
    let Some(prometheus) = Prometheus::start("monitoring-cluster", &rules, &addresses) else {
        return skip_without_tool("cluster faults", "prometheus");
    };
    let holds_feed = || !prometheus.query("sum(fanline_cluster_ingester) == 1 and count(up == 1) == 2").is_empty();
    eventually("one server holds the feed", || holds_feed().then_some(()));
    the_log_is_away(&prometheus, &mut nats, &addresses);
    the_log_is_deleted(&prometheus, &nats);
    all_servers_are_killed(&prometheus, servers, start);
}
