//! `make cluster`: three servers and a balancer, of which one may be lost.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use kit::http::{get, sum};
use kit::{DEADLINE, eventually, project, scratch, server_binary, skip_loudly, skip_without_tool, tool};

use crate::{deployed, systemd_analyze};

/// deploy/cluster/run, ended with the test.
struct Cluster {
    script: Child,
    lines: mpsc::Receiver<String>,
    balancer: SocketAddr,
    /// Address and process of each server.
    nodes: Vec<(SocketAddr, u32)>,
}

impl Cluster {
    fn start() -> Option<Cluster> {
        let programs = ["nats-server", "nginx"].map(|name| {
            tool(name).or_else(|| {
                skip_without_tool("cluster", name);
                None
            })
        });
        let [Some(nats_server), Some(nginx)] = programs else { return None };
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
        let balancer = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new(project("deploy/cluster/run"));
        command.env("PROGRAM", server_binary()).env("NATS_SERVER", nats_server).env("BALANCER", nginx);
        command.env("LISTEN", balancer.to_string()).env("RESTART", "0.1").env_remove("FEED");
        let mut script = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the script starts");
        let stdout = script.stdout.take().expect("piped");
        let (said, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("{line}");
                // The test may have ended already.
                let _ = said.send(line);
            }
        });
        let mut cluster = Cluster { script, lines, balancer, nodes: Vec::new() };
        cluster.next_line("One feed, three servers.");
        for number in 1..=3 {
            let line = cluster.next_line(&format!("  node-{number} "));
            let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
            let process = line.rsplit(' ').next().and_then(|word| word.parse().ok());
            cluster.nodes.push((address.expect("an address"), process.expect("a process")));
        }
        cluster.next_line("Ctrl-C ends all of it.");
        Some(cluster)
    }

    /// The next line that begins so.
    fn next_line(&self, start: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("expected a line that begins with `{start}`, found silence"));
            if line.starts_with(start) {
                return line;
            }
        }
    }

    fn end(&mut self) -> bool {
        signal("TERM", self.script.id());
        self.script.wait().expect("a child of ours").success()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.script.try_wait().expect("a child of ours").is_none() {
            self.end();
        }
    }
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().expect("sh runs");
    assert!(sent.success(), "expected the process to be there");
}

/// What one server shows after a cursor: the frames by offset.
fn shown(address: SocketAddr, since: &str) -> BTreeMap<u64, String> {
    let answer = get(address, &format!("/v1/poll?max=10000&since={since}"));
    if answer.status == 204 {
        return BTreeMap::new();
    }
    assert_eq!(answer.status, 200, "{address}: {}", answer.body);
    let news = answer.json();
    assert!(since.starts_with(news["epoch"].as_str().expect("an epoch")), "{address}: another epoch than {since}");
    let frames = news["frames"].as_array().expect("an array");
    frames.iter().map(|frame| (frame["offset"].as_u64().expect("an offset"), frame.to_string())).collect()
}

#[test]
fn nats_server_and_systemd_understand_what_is_deployed() {
    let Some(nats_server) = tool("nats-server") else { return skip_without_tool("nats", "nats-server") };
    let mut command = Command::new(&nats_server);
    let output = command.arg("-t").arg("-c").arg(project("deploy/cluster/nats.conf")).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if tool("systemd-analyze").is_none() {
        return skip_loudly("nats", "systemd-analyze is missing; install Debian's `systemd`");
    }
    let unit = scratch().join("nats.service");
    let text = deployed("cluster/nats.service");
    let program = nats_server.to_str().expect("UTF-8");
    std::fs::write(&unit, text.replace("/usr/local/bin/nats-server", program)).expect("a writable target directory");
    let (_, told) = systemd_analyze(&["verify", "--man=no"], &unit);
    // Other units of this machine may have faults of their own.
    let faults: Vec<&str> = told.lines().filter(|line| line.contains("nats.service")).collect();
    assert_eq!(faults, [""; 0], "{told}");
}

#[test]
fn haproxy_understands_what_is_deployed() {
    let Some(haproxy) = tool("haproxy") else { return skip_without_tool("haproxy", "haproxy") };
    // As deployed, but for the certificate.
    let text = deployed("cluster/haproxy.cfg").replace(" ssl crt /etc/ssl/feed.example.com.pem alpn http/1.1", "");
    let file = scratch().join("haproxy.cfg");
    std::fs::write(&file, text).expect("a writable target directory");
    // Its libraries lie beside it if it was unpacked and not installed.
    let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let libraries = haproxy.ancestors().nth(2).expect("a folder").join(libraries);
    let mut command = Command::new(&haproxy);
    let output = command.env("LD_LIBRARY_PATH", libraries).arg("-c").arg("-f").arg(&file).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn three_servers_show_one_feed_and_one_of_them_may_be_lost() {
    let Some(mut cluster) = Cluster::start() else { return };
    let news = get(cluster.balancer, "/v1/poll?max=1").json();
    let epoch = news["epoch"].as_str().expect("an epoch");
    let since = format!("{epoch}:{}", news["offset"]);

    let shared = eventually("all servers show the same messages", || {
        let [first, second, third] = [0, 1, 2].map(|node| shown(cluster.nodes[node].0, &since));
        let same = |offset: &&u64| second.contains_key(offset) && third.contains_key(offset);
        let shared: Vec<u64> = first.keys().filter(same).copied().collect();
        for offset in &shared {
            assert_eq!((&first[offset], &first[offset]), (&second[offset], &third[offset]), "two of {offset}");
        }
        (shared.len() > 20).then_some(shared)
    });

    let holds = |node: &(SocketAddr, u32)| sum(&get(node.0, "/metrics").body, "fanline_cluster_ingester", "") == 1.0;
    let number = cluster.nodes.iter().position(holds).expect("one of them has the feed");
    let lost = cluster.nodes[number];
    signal("KILL", lost.1);
    let lost_at = shared.last().expect("some");
    let since = format!("{epoch}:{lost_at}");
    eventually("the balancer shows what another server receives", || {
        let others = cluster.nodes.iter().filter(|node| node.1 != lost.1);
        others.into_iter().find(|node| holds(node))?;
        shown(cluster.balancer, &since).keys().find(|offset| *offset > lost_at).copied()
    });
    cluster.next_line(&format!("node-{} is started again", number + 1));
    eventually("the lost one is back", || {
        TcpStream::connect(lost.0).ok()?;
        (get(lost.0, "/readyz").status == 200).then_some(())
    });

    assert!(cluster.end());
    for address in cluster.nodes.iter().map(|node| node.0).chain([cluster.balancer]) {
        assert!(TcpStream::connect(address).is_err(), "{address} is still there");
    }
}
