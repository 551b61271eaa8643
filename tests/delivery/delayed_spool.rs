//! What waits on disk for a delayed view is shown as it was, in order and not earlier, and nothing of it stays.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use kit::client::Client;
use kit::eventually;
use kit::http::sum;
use kit::program::{Program, run};
use kit::tiers::TierFolder;
use serde_json::{Value, json};

const DELAY_MS: u64 = 5_000;
/// About 3 MB wait, of which one has room in memory.
const TABLES: &str = r#"
[simulate]
rate = 2000

[delay]
bytes_max = "2MiB"

[auth.tier.pro]
topics = [">"]

[auth.tier.free]
topics = ["quote.>"]
delay = "5s"

[auth.anonymous]
tier = "free"
"#;
/// Messages that are compared.
const COMPARED: usize = 1_000;

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// The text of the next frame, and its offset; other messages go to `others`.
async fn next_frame(client: &mut Client, others: &mut Vec<Value>) -> (u64, String) {
    loop {
        let text = client.text().await;
        let message: Value = serde_json::from_str(&text).expect("JSON");
        match message["op"].as_str() {
            Some(_) => others.push(message),
            None => return (message["offset"].as_u64().expect("an offset"), text),
        }
    }
}

async fn until_op(client: &mut Client, op: &str) {
    loop {
        let message: Value = serde_json::from_str(&client.text().await).expect("JSON");
        assert_ne!(message["op"], "error", "{message}");
        if message["op"] == op {
            return;
        }
    }
}

async fn live_client(folder: &TierFolder, server: &Program) -> Client {
    let mut client = Client::connect(&server.ws("/v1/ws")).await;
    let token = folder.token("alice", "pro", &["--expires", "1h"]);
    client.command(json!({"op": "auth", "id": 1, "token": token})).await;
    until_op(&mut client, "authenticated").await;
    client.command(json!({"op": "subscribe", "id": 2, "topics": ["quote.*"]})).await;
    until_op(&mut client, "subscribed").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_disk_is_shown_as_it_was_and_not_earlier_and_nothing_of_it_stays() {
    let folder = TierFolder::new("delayed-spool", TABLES);
    let spool = folder.path("spool");
    let mut server = folder.serve(&[("DELAY_SPOOL_DIR", &spool)]);

    // A second server is refused the directory, in one sentence.
    let second = TierFolder::new("delayed-spool-second", TABLES);
    let args = second.args();
    let args = [&args.each_ref().map(String::as_str)[..], &["--listen", "127.0.0.1:0"]].concat();
    let (status, _, told) = run(&args, &[("DELAY_SPOOL_DIR", &spool)]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("delay.spool_dir") && told.contains("found another"), "{told}");

    let mut live = live_client(&folder, &server).await;
    let (mut expected, mut others) = (BTreeMap::new(), Vec::new());
    // The first of them is a value of before.
    for _ in 0..100 {
        next_frame(&mut live, &mut others).await;
    }
    while expected.len() < COMPARED {
        let (offset, text) = next_frame(&mut live, &mut others).await;
        expected.insert(offset, text);
    }
    drop(live);
    let last = *expected.last_key_value().expect("there are some").0;
    let mut delayed = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    let (mut compared, mut others) = (0, Vec::new());
    loop {
        let (offset, text) = next_frame(&mut delayed, &mut others).await;
        let message: Value = serde_json::from_str(&text).expect("JSON");
        let age_ms = wall_ms().saturating_sub(message["ts"].as_u64().expect("a time"));
        assert!(age_ms >= DELAY_MS, "after {age_ms} ms: {text}");
        if let Some(expected) = expected.get(&offset) {
            assert_eq!(&text, expected, "byte for byte");
            compared += 1;
        }
        if offset >= last {
            break;
        }
    }
    assert!(others.iter().all(|message| message["op"] != "gap"), "{others:?}");
    let metrics = folder.metrics();
    // A machine with too much to do may be slower than the feed.
    let is_refused = sum(&metrics, "fanline_view_spool_failures_total", "view=\"1\"") > 0.0;
    let is_told = others.iter().any(|message| message["op"] == "skipped" && message["reason"] == "overrun");
    assert!(compared == COMPARED || (is_refused && is_told), "{compared} have come: {others:?}\n{metrics}");
    assert!(compared > 0);

    let on_disk = |name: &str| sum(&folder.metrics(), name, "view=\"1\"");
    assert!(on_disk("fanline_view_spool_bytes") > 100_000.0, "most of them wait on disk: {}", folder.metrics());
    assert!(on_disk("fanline_view_waiting_bytes") <= 2_097_152.0, "{}", folder.metrics());
    assert_eq!(on_disk("fanline_view_lost_total"), 0.0, "{}", folder.metrics());

    // Nobody sees a file, and a kill leaves none.
    let names = |folder: &str| {
        let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.into_string().expect("UTF-8")).collect::<Vec<_>>()
    };
    assert_eq!(names(&spool), ["spool.lock"]);
    assert_eq!(std::fs::metadata(&spool).expect("a folder").mode() & 0o777, 0o700);
    server.kill();
    assert_eq!(names(&spool), ["spool.lock"]);

    // The next server starts with an empty view.
    let server = folder.serve(&[("DELAY_SPOOL_DIR", &spool)]);
    let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    let mut others = Vec::new();
    let (_, first) = next_frame(&mut client, &mut others).await;
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert!(wall_ms() - first["ts"].as_u64().expect("a time") >= DELAY_MS, "{first}");
    assert!(others.iter().any(|message| message["reason"] == "delay_warming"), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_costs_messages_and_clients_are_told() {
    let folder = TierFolder::new("delayed-spool-full", TABLES);
    let spool = folder.path("spool");
    let settings = [("DELAY_SPOOL_DIR", &*spool), ("DELAY_SPOOL_BYTES_MAX", "1MiB"), ("SIMULATE_RATE", "5000")];
    let server = folder.serve(&settings);
    let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    let (mut newest, mut others) = (0, Vec::new());
    while !others.iter().any(|message: &Value| message["op"] == "skipped" && message["reason"] == "overrun") {
        let (offset, text) = next_frame(&mut client, &mut others).await;
        let message: Value = serde_json::from_str(&text).expect("JSON");
        assert!(wall_ms() - message["ts"].as_u64().expect("a time") >= DELAY_MS, "{text}");
        newest = newest.max(offset);
    }
    assert!(newest > 0);
    let metrics = eventually("the spool is full", || {
        let metrics = folder.metrics();
        (sum(&metrics, "fanline_view_spool_failures_total", "reason=\"full\"") > 0.0).then_some(metrics)
    });
    assert!(sum(&metrics, "fanline_view_conflated_total", "") > 0.0, "{metrics}");
    assert!(sum(&metrics, "fanline_view_spool_bytes", "") <= 1_048_576.0, "{metrics}");
    eventually("the log names the remedy", || server.log().contains("raise delay.spool_bytes_max").then_some(()));
}
