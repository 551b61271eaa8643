//! A new process takes over from the running one: nobody is refused, everybody comes back, and what is missing is told.
//!
//! With `HANDOVER_LONG=1` the crowd is that of the promise: 2,000 clients and 5,000 messages a second.

mod crowd;
mod kinds;
mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use kit::client::Client;
use kit::eventually;
use kit::http::sum;
use kit::program::Program;
use serde_json::Value;

use crate::crowd::{Signs, Visit, follow, visitors};

/// Topics of the market are quotes and trades of its symbols.
const SYMBOLS: usize = 50;

struct Scale {
    clients: usize,
    rate: &'static str,
    spread: &'static str,
}

fn scale() -> Scale {
    if std::env::var_os("HANDOVER_LONG").is_some() {
        Scale { clients: 2_000, rate: "5000", spread: "5s" }
    } else {
        Scale { clients: 200, rate: "1000", spread: "1s" }
    }
}

/// A directory that is gone with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("fanline-handover-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a writable folder");
        Scratch(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn market(rate: &str) -> Program {
    Program::simulate(&["--rate", rate, "--symbols", &SYMBOLS.to_string()])
}

/// A ring that holds all that the test sees.
const RING: [(&str, &str); 3] =
    [("RING_FRAMES_MAX", "1048576"), ("RING_BYTES_MAX", "1GiB"), ("SLOW_REPLAY_MAX", "10m")];
/// All clients have one address, and share two cores with the servers and with other tests.
const PATIENT: [(&str, &str); 3] =
    [("HTTP_PENDING_PER_ADDRESS_MAX", "0"), ("HTTP_CONNECTIONS_PER_ADDRESS_MAX", "0"), ("HTTP_HEADER_TIMEOUT", "1m")];

/// A server of this market.
pub fn serve(market: &Program, settings: &[(&str, &str)]) -> Program {
    let settings = [&RING[..], &PATIENT, settings].concat();
    let server = Program::serve(&[&market.ws("/"), "--profile", "simulated"], &settings);
    eventually("the feed is live", || (server.get("/readyz").status == 200).then_some(()));
    server
}

/// What was seen of one hand-over.
struct Account {
    /// Of each client, its topic and its visits.
    clients: Vec<(String, Vec<Visit>)>,
    /// What somebody has seen who had everything, up to the hand-over.
    before: Visit,
    /// All that the process afterwards has.
    after: Visit,
    /// Statuses of topics that it has published: each has an offset, also where a later value has made it obsolete.
    statuses: f64,
    gaps: f64,
}

/// A crowd at load, through one hand-over.
async fn hand_over_at_load(settings: &[(&str, &str)]) -> Account {
    let Scale { clients, rate, spread } = scale();
    let market = market(rate);
    let mut server = serve(&market, &[settings, &[("DRAIN_RECONNECT_SPREAD", spread)]].concat());
    let topics = eventually("all topics have a value", || {
        let answer = server.get("/v1/topics").json();
        let topics: Vec<String> = answer["topics"]
            .as_array()?
            .iter()
            .map(|topic| topic["topic"].as_str().expect("a name").to_owned())
            .collect();
        (topics.len() >= SYMBOLS).then_some(topics)
    });
    let (address, signs) = (server.addr(), Signs::new());
    let witness_signs = Signs { over: signs.over.clone(), ..Signs::new() };
    let witness = tokio::spawn(follow(address, "topics=%3E".into(), witness_signs));
    let mut crowd = Vec::new();
    for topic in topics.iter().cycle().take(clients) {
        let following = follow(address, format!("topics={topic}"), signs.clone());
        crowd.push((topic.clone(), tokio::spawn(following)));
    }
    let visiting = visitors(address, &signs);
    let all_here = |visit| {
        tokio::task::block_in_place(|| {
            eventually("everybody is here", || (signs.here(visit) == clients).then_some(()));
        });
    };
    all_here(0);

    let pid = tokio::task::block_in_place(|| server.hand_over());
    all_here(1);
    assert!(server.log().contains("this process has taken over"), "{}", server.log());
    let ended = tokio::task::block_in_place(|| server.wait());
    assert_eq!(ended.code(), Some(0), "the process before has ended well");
    assert_ne!(server.pid(), pid);
    assert_eq!(signs.here(2), 0, "nobody was sent away again");
    assert!(server.get("/readyz").status == 200 && server.get("/healthz").status == 200);
    signs.over.store(true, Ordering::SeqCst);
    for times in join_all(visiting).await {
        let times = times.expect("each was answered");
        assert!(times > 0, "nobody came meanwhile");
    }
    let mut visits = Vec::new();
    for (topic, client) in crowd {
        visits.push((topic, client.await.expect("it was not refused")));
    }
    let late = visits.iter().map(|(_, visits)| visits[1].late).max();
    println!("clients: {clients}; the last was welcomed {late:?} after its moment");
    let last = visits.iter().filter_map(|(_, visits)| visits[1].frames.keys().last().copied()).max();
    let last = last.expect("frames came");
    let epoch = visits[0].1[1].epoch.clone();
    let after = whole(address, &epoch, last).await;
    let before = witness.await.expect("it was not refused").swap_remove(0);
    let metrics = server.get("/metrics").body;
    let told = |kind| sum(&metrics, "fanline_topic_status_total", kind);
    tokio::task::block_in_place(|| server.end_successor());
    Account { clients: visits, before, after, statuses: told(""), gaps: told("kind=\"gap\"") }
}

/// Everything from the beginning of an epoch up to an offset, as the server has it now.
async fn whole(address: SocketAddr, epoch: &str, until: u64) -> Visit {
    let url = format!("ws://{address}/v1/ws?policy=lossless&topics=%3E&since={epoch}:0");
    let mut client = Client::connect(&url).await;
    let mut visit = Visit { epoch: epoch.into(), ..Visit::default() };
    loop {
        let text = client.text().await;
        let message: Value = serde_json::from_str(&text).expect("JSON");
        if message["op"].is_null() {
            let offset = message["offset"].as_u64().expect("a frame has an offset");
            visit.frames.insert(offset, text);
            if offset >= until {
                return visit;
            }
        } else {
            assert_ne!(message["op"], "skipped", "the ring holds all: {text}");
            visit.notices.push(message);
        }
    }
}

/// The client has exactly the frames of its topic from its first to its last, as far as the other has any.
fn check(topic: &str, had: &BTreeMap<u64, String>, whole: &Visit) {
    let opening = format!("{{\"topic\":\"{topic}\",");
    let (Some(first), Some(last)) = (had.keys().next(), had.keys().last()) else { panic!("{topic}: nothing came") };
    let both = *first..=*last.min(whole.frames.keys().last().expect("frames came"));
    let expected = whole.frames.range(both.clone()).filter(|(_, text)| text.starts_with(&opening));
    let expected: Vec<(&u64, &String)> = expected.collect();
    let found: Vec<(&u64, &String)> = had.range(both).collect();
    if expected != found {
        let missing = expected.iter().find(|(offset, _)| !had.contains_key(offset));
        panic!("{topic}: {} frames, not {}; first missing: {missing:?}", found.len(), expected.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_takes_over_at_load_and_everybody_is_back_and_told_of_the_new_epoch() {
    let Account { clients, before: witness, after: whole, .. } = hand_over_at_load(&[]).await;
    for (topic, visits) in &clients {
        let [before, after] = &visits[..] else { panic!("{topic}: {} visits", visits.len()) };
        assert_ne!(before.epoch, after.epoch, "without an archive");
        let told: Vec<_> = after.told("skipped").collect();
        assert!(matches!(&told[..], [skipped] if skipped["reason"] == "epoch"), "{topic}: {told:?}");
        check(topic, &since(&before.frames, &witness), &witness);
        check(topic, &after.frames, &whole);
        assert_eq!(before.told("stale").count(), 0, "the process before has had its own feed to the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_archive_offsets_go_on_without_a_hole_and_the_moment_without_a_feed_is_told() {
    let folder = Scratch::new("archive");
    let archive = folder.path("archive");
    let account = hand_over_at_load(&[("ARCHIVE_DIR", &archive)]).await;
    let Account { clients, after: whole, statuses, gaps, .. } = account;
    let topics: BTreeSet<&String> = clients.iter().map(|(topic, _)| topic).collect();
    assert!(gaps >= topics.len() as f64, "each topic has a gap: {gaps} of {}", topics.len());
    let told = whole.notices.iter().filter(|notice| is_status(notice));
    let offsets = told.filter_map(|notice| notice["offset"].as_u64()).chain(whole.frames.keys().copied());
    let offsets: BTreeSet<u64> = offsets.collect();
    let span = offsets.last().expect("frames came") - offsets.first().expect("frames came") + 1;
    let missing = span - offsets.len() as u64;
    assert!(missing as f64 <= statuses, "offsets are dense: {missing} of {span} are missing, and {statuses} statuses");
    for (topic, visits) in &clients {
        let [before, after] = &visits[..] else { panic!("{topic}: {} visits", visits.len()) };
        assert_eq!((&before.epoch, after.told("skipped").count()), (&after.epoch, 0), "{topic}");
        let mut had = before.frames.clone();
        for (offset, text) in &after.frames {
            assert_eq!(had.insert(*offset, text.clone()), None, "{topic}: {offset} twice");
        }
        check(topic, &had, &whole);
    }
    let is_told = |visit: &Visit| visit.told("stale").any(|stale| stale["reason"] == "upstream_down");
    assert!(
        clients.iter().any(|(_, visits)| is_told(&visits[0])),
        "whoever stays for a while hears that the feed is away"
    );
}

/// Whether it may have an offset of its own.
fn is_status(notice: &Value) -> bool {
    ["gap", "stale", "live", "refused"].iter().any(|op| notice["op"] == *op)
}

/// From the first frame that both have seen.
fn since(frames: &BTreeMap<u64, String>, witness: &Visit) -> BTreeMap<u64, String> {
    let first = witness.frames.keys().find(|offset| frames.contains_key(*offset));
    first.map_or_else(BTreeMap::new, |first| frames.range(first..).map(|(at, text)| (*at, text.clone())).collect())
}

#[test]
fn one_process_after_another_takes_over_and_counts_what_it_has_done() {
    let market = market("100");
    let mut server = serve(&market, &[]);
    let mut pids = vec![server.pid()];
    let done = |server: &Program| sum(&server.get("/metrics").body, "fanline_handovers_total", "result=\"done\"");
    assert_eq!(done(&server), 0.0, "it has taken over from nobody");
    for _ in 0..3 {
        pids.push(server.hand_over());
        eventually("the new process says so", || (done(&server) == 1.0).then_some(()));
        if pids.len() == 2 {
            assert_eq!(server.wait().code(), Some(0));
        }
    }
    pids.dedup();
    assert_eq!(pids.len(), 4, "{pids:?}");
    server.end_successor();
    assert!(TcpStream::connect(server.addr()).is_err(), "nobody listens any more");
}
