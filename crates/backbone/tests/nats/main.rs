//! Nodes on a real nats-server: no offset gets two contents and none is lost, whatever becomes of the server's process
//! and its store.

mod server;
mod stream;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backbone::follower::{FollowerBounds, NodeRole};
use backbone::ingester::IngesterSettings;
use backbone::node::{Node, NodeEvent, NodeSettings};
use backbone::turn::NodeCommand;
use bytes::Bytes;
use feed_log::entry::item::{FrameRole, LoggedFrame, LoggedItem, LoggedPayload, PayloadForm};
use feed_log::entry::{EntryBody, LogEntry, LoggedText};
use server::NatsProcess;
use stream::StreamLog;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const NODES: usize = 3;

/// What all nodes have shown, and what they say to each other.
#[derive(Default)]
struct World {
    senders: Mutex<HashMap<u64, UnboundedSender<NodeEvent>>>,
    contents: Mutex<BTreeMap<(u64, u64), Bytes>>,
    /// By node: frames shown, epochs seen, and the ingester that it knows.
    shown: Mutex<HashMap<u64, NodeShows>>,
    feed: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct NodeShows {
    frames: u64,
    epoch: u64,
    next: Option<u64>,
    is_ingester: bool,
}

impl World {
    fn tell(&self, node: u64, event: NodeEvent) {
        if let Some(sender) = self.senders.lock().expect("whole").get(&node) {
            let _ = sender.send(event);
        }
    }

    fn tell_others(&self, own: u64, event: &NodeEvent) {
        for (_, sender) in self.senders.lock().expect("whole").iter().filter(|(node, _)| **node != own) {
            let _ = sender.send(event.clone());
        }
    }

    /// I1 and I2: an offset of an epoch has one content, and they are dense.
    fn show(&self, node: u64, entry: &LogEntry, is_jump: bool) {
        let mut all = self.shown.lock().expect("whole");
        let shows = all.entry(node).or_default();
        if is_jump || shows.epoch != entry.header.epoch {
            (shows.next, shows.epoch) = (None, entry.header.epoch);
        }
        let EntryBody::Batch(items) = &entry.body else { return };
        let mut contents = self.contents.lock().expect("whole");
        for (offset, item) in (entry.header.first..).zip(items) {
            let LoggedItem::Frame(frame) = item else { panic!("only frames are appended") };
            assert!(shows.next.is_none_or(|next| next == offset), "node {node}: {offset} after {shows:?}");
            let bytes = &frame.payload.bytes;
            let known = contents.entry((shows.epoch, offset)).or_insert_with(|| bytes.clone());
            assert_eq!(known, bytes, "offset {offset} on node {node}");
            (shows.next, shows.frames) = (Some(offset + 1), shows.frames + 1);
        }
    }

    fn shows(&self, node: u64) -> NodeShows {
        self.shown.lock().expect("whole").get(&node).cloned().unwrap_or_default()
    }
}

struct RunningNode {
    number: u64,
    log: StreamLog,
    task: JoinHandle<()>,
}

impl RunningNode {
    async fn start(number: u64, url: &str, world: &Arc<World>) -> RunningNode {
        let (sender, events) = unbounded_channel();
        let log = StreamLog::connect(url, sender.clone()).await;
        world.senders.lock().expect("whole").insert(number, sender);
        let task = tokio::spawn(drive(number, log.clone(), events, world.clone()));
        RunningNode { number, log, task }
    }

    fn kill(self, world: &World) {
        self.task.abort();
        world.senders.lock().expect("whole").remove(&self.number);
        world.shown.lock().expect("whole").remove(&self.number);
    }
}

/// Answers for a term as long as it lives.
struct Answering(JoinHandle<()>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn drive(number: u64, mut log: StreamLog, mut events: UnboundedReceiver<NodeEvent>, world: Arc<World>) {
    let started = Instant::now();
    let ingester = IngesterSettings {
        node: number,
        name: LoggedText::from("test"),
        configuration: [0; 32],
        release: Duration::from_secs(15),
        deflate_over_bytes: 1024,
    };
    let bounds = FollowerBounds { kept_bytes: 64 << 20, ahead_bytes: 16 << 20 };
    let settings = NodeSettings { ingester, bounds, role: NodeRole::Candidate, priority: 0, trusts_log: false };
    let mut node = Node::new(settings, started.elapsed());
    let (mut has_feed, mut answering) = (false, None);
    let mut commands = Vec::new();
    loop {
        for command in std::mem::take(&mut commands) {
            match command {
                NodeCommand::Log { call, request } => request.send(call, &mut log),
                NodeCommand::Apply { entry, .. } => world.show(number, &entry, false),
                NodeCommand::Jump { entry, .. } => world.show(number, &entry, true),
                NodeCommand::Answer { term } => {
                    answering = term.map(|term| Answering(tokio::spawn(log.clone().answer_for(term))));
                }
                NodeCommand::OpenFeed { .. } => has_feed = true,
                NodeCommand::CloseFeed => has_feed = false,
                NodeCommand::Ping { term } => log.ping(term),
                NodeCommand::Tell(hello) => world.tell_others(number, &NodeEvent::Hello(hello)),
                NodeCommand::AskHellos => world.tell_others(number, &NodeEvent::HellosAsked),
                NodeCommand::ReportFork { epoch } => world.tell_others(number, &NodeEvent::ForkReported { epoch }),
                NodeCommand::AskSnapshot { .. } => world.tell(number, NodeEvent::NoSnapshot),
                NodeCommand::TakeSnapshot { .. } | NodeCommand::DropSnapshot { .. } | NodeCommand::Readiness(_) => {}
            }
        }
        world.shown.lock().expect("whole").entry(number).or_default().is_ingester = answering.is_some();
        if has_feed && node.is_ready_to_append() {
            let items = (0..5).map(|_| frame(number, world.feed.fetch_add(1, Ordering::Relaxed))).collect();
            commands = node.append(started.elapsed(), 0, items).expect("small frames");
            continue;
        }
        let wait = node.deadline().saturating_sub(started.elapsed());
        let event = timeout(wait, events.recv()).await.unwrap_or(Some(NodeEvent::Tick));
        commands = node.handle(started.elapsed(), 0, event.expect("the log tells events"));
    }
}

fn frame(node: u64, number: u64) -> LoggedItem {
    let bytes = Bytes::from(format!("{number} by {node}"));
    LoggedItem::Frame(LoggedFrame {
        topic: LoggedText::from("t"),
        role: FrameRole::Value { keep: 1 },
        received_ms: 0,
        venue_number: Some(number),
        payload: LoggedPayload { kind: PayloadForm::Text, bytes },
        whole: None,
    })
}

/// Until each node has shown some more frames.
async fn go_on(nodes: &[RunningNode], world: &World, server: &NatsProcess, after: &str) {
    let before: Vec<u64> = nodes.iter().map(|node| world.shows(node.number).frames).collect();
    let more = 300;
    eventually(after, world, server, || {
        assert!(nodes.iter().all(|node| !node.task.is_finished()), "a node has failed after {after}");
        nodes.iter().zip(&before).all(|(node, before)| world.shows(node.number).frames >= before + more)
    })
    .await;
}

async fn eventually(what: &str, world: &World, server: &NatsProcess, is_so: impl Fn() -> bool) {
    let waiting = timeout(Duration::from_secs(60), async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    if waiting.await.is_err() {
        let shown = world.shown.lock().expect("whole").clone();
        panic!("expected within a minute: {what}; nodes: {shown:#?}; log of the server:\n{}", server.log());
    }
}

fn epoch(nodes: &[RunningNode], world: &World) -> u64 {
    world.shows(nodes[0].number).epoch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_keep_their_content_whatever_becomes_of_the_server_and_its_store() {
    let Some(mut server) = NatsProcess::start() else { return };
    let world = Arc::new(World::default());
    let mut nodes = Vec::new();
    for number in 1..=NODES as u64 {
        nodes.push(RunningNode::start(number, &server.url(), &world).await);
    }
    go_on(&nodes, &world, &server, "the start").await;
    let first = epoch(&nodes, &world);

    server.kill();
    let copy = server.copy_store();
    server.run_again();
    go_on(&nodes, &world, &server, "kill -9 of the server").await;

    server.signal("STOP");
    sleep(Duration::from_millis(1200)).await;
    server.signal("CONT");
    go_on(&nodes, &world, &server, "SIGSTOP of the server").await;

    server.kill();
    server.put_store(&copy);
    server.run_again();
    go_on(&nodes, &world, &server, "a store of before").await;

    nodes[0].log.delete().await;
    go_on(&nodes, &world, &server, "STREAM.DELETE").await;
    assert_eq!(epoch(&nodes, &world), first, "the ingester has filled the log again");

    let ingester = nodes.iter().position(|node| world.shows(node.number).is_ingester).expect("one appends");
    nodes.remove(ingester).kill(&world);
    go_on(&nodes, &world, &server, "the end of the ingester").await;
    assert_eq!(epoch(&nodes, &world), first, "a witness has taken over");

    nodes.push(RunningNode::start(4, &server.url(), &world).await);
    go_on(&nodes, &world, &server, "another node").await;

    // Nobody is left who knows what the log had.
    server.kill();
    nodes.drain(..).for_each(|node| node.kill(&world));
    server.put_store(&copy);
    server.run_again();
    for number in 5..=6 {
        nodes.push(RunningNode::start(number, &server.url(), &world).await);
    }
    // Before, they show what the store has.
    let is_ingester = |node: &RunningNode| world.shows(node.number).is_ingester;
    eventually("a node is the ingester", &world, &server, || nodes.iter().any(is_ingester)).await;
    go_on(&nodes, &world, &server, "the end of all nodes, and a store of before").await;
    assert_ne!(epoch(&nodes, &world), first, "clients are told by another epoch");
}
