//! What only one process may have goes from one to the other: the audit log, the spools of delayed views, a place in a
//! cluster.

use std::sync::atomic::Ordering;

use fanline::audit::files;
use kit::client::Client;
use kit::eventually;
use kit::nats::NatsServer;
use kit::program::{Program, run};
use kit::tiers::TierFolder;
use serde_json::Value;

use crate::crowd::{Signs, follow};
use crate::{Scratch, market, whole};

/// An anonymous client sees the feed late.
const TABLES: &str = r#"
[simulate]
rate = 200

[auth.tier.pro]
topics = [">"]

[auth.tier.free]
topics = ["quote.>"]
delay = "1s"

[auth.anonymous]
tier = "free"
"#;

/// The events of an audit log, in their order.
fn events(directory: &str) -> Vec<String> {
    let files = files::list(directory.as_ref()).expect("readable");
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect();
    let event = |line: &str| serde_json::from_str::<Value>(line).ok()?["event"].as_str().map(str::to_owned);
    text.lines().filter_map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_and_the_spools_go_on_and_nobody_else_can_take_them() {
    let scratch = Scratch::new("owners");
    let (audit, spool) = (scratch.path("audit"), scratch.path("spool"));
    let folder = TierFolder::new("handover-owners", TABLES);
    let file = folder.path("fanline.toml");
    let settings = [("AUDIT_DIR", &*audit), ("DELAY_SPOOL_DIR", &*spool), ("DRAIN_RECONNECT_SPREAD", "0s")];
    let mut server = Program::serve(&["--config", &file], &settings);
    let url = server.ws("/v1/ws?topics=quote.%3E");
    let mut client = Client::connect(&url).await;
    client.expect_op("welcome").await;
    tokio::task::block_in_place(|| server.hand_over());
    let mut next = Client::connect(&url).await;
    next.expect_op("welcome").await;
    assert_eq!(client.notices_to_the_end().await.last().expect("a goodbye")["op"], "goodbye");
    assert_eq!(tokio::task::block_in_place(|| server.wait()).code(), Some(0));
    tokio::task::block_in_place(|| {
        let both = || (events(&audit).iter().filter(|event| *event == "session_open").count() == 2).then_some(());
        eventually("the events that waited are written", both);
        for (variable, directory) in [("AUDIT_DIR", &*audit), ("DELAY_SPOOL_DIR", &*spool)] {
            let args = ["--config", &file, "--listen", "127.0.0.1:0"];
            let (status, _, told) = run(&args, &[(variable, directory)]);
            assert_eq!(status.code(), Some(1), "{told}");
            assert!(told.contains("found another"), "{told}");
        }
        server.end_successor();
    });
    let lifecycle = ["start", "session_open", "session_close", "stop"];
    let told: Vec<String> = events(&audit).into_iter().filter(|event| lifecycle.contains(&&**event)).collect();
    assert_eq!(told, [lifecycle, lifecycle].concat());
    let (status, verdict, told) = run(&["audit", "verify", &audit], &[]);
    assert!(status.success(), "{verdict}{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_overs_in_quick_succession_lose_no_event_of_the_audit_log() {
    let scratch = Scratch::new("quick");
    let audit = scratch.path("audit");
    // Clients that stay keep each process for two seconds, and the audit log with it.
    let settings =
        [("AUDIT_DIR", &*audit), ("DRAIN_RECONNECT_SPREAD", "0s"), ("DRAIN_TIMEOUT", "2s"), ("SIMULATE_RATE", "200")];
    let mut server = Program::serve(&[], &settings);
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.%3E")).await;
        client.expect_op("welcome").await;
        clients.push(client);
        if number < 2 {
            tokio::task::block_in_place(|| server.hand_over());
        }
    }
    assert_eq!(tokio::task::block_in_place(|| server.wait()).code(), Some(0));
    tokio::task::block_in_place(|| server.end_successor());
    tokio::task::block_in_place(|| {
        let count = |name: &str| events(&audit).iter().filter(|event| *event == name).count();
        let are_there = || (count("start") == 3 && count("session_open") == 3 && count("stop") == 3).then_some(());
        eventually("each process has written its events", are_there);
    });
    let (status, verdict, told) = run(&["audit", "verify", &audit], &[]);
    assert!(status.success(), "{verdict}{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_clients_have_every_message_once() {
    let Some(nats) = NatsServer::start("in_a_cluster_clients_have_every_message_once") else { return };
    let market = market("500");
    let settings = [("CLUSTER_URLS", &*nats.url()), ("CLUSTER_NODE_NAME", "one"), ("DRAIN_RECONNECT_SPREAD", "1s")];
    let mut server = Program::serve(&[&market.ws("/"), "--profile", "simulated"], &settings);
    eventually("the feed is live", || (server.get("/readyz").status == 200).then_some(()));
    let signs = Signs::new();
    let client = tokio::spawn(follow(server.addr(), "topics=%3E".into(), signs.clone()));
    let came = |visit| {
        tokio::task::block_in_place(|| eventually("the client is here", || (signs.here(visit) == 1).then_some(())));
    };
    came(0);
    tokio::task::block_in_place(|| server.hand_over());
    came(1);
    assert_eq!(tokio::task::block_in_place(|| server.wait()).code(), Some(0));
    tokio::task::block_in_place(|| {
        eventually("the new process has the feed", || (server.get("/readyz").status == 200).then_some(()));
    });
    signs.over.store(true, Ordering::SeqCst);
    let visits = client.await.expect("it was not refused");
    let [before, after] = &visits[..] else { panic!("{} visits", visits.len()) };
    assert_eq!((&before.epoch, after.told("skipped").count()), (&after.epoch, 0));
    let joined = before.told("subscribed").next().expect("an answer")["offset"].as_u64().expect("an offset");
    let last = *after.frames.keys().last().expect("frames came");
    let whole = whole(server.addr(), &before.epoch, last).await;
    let had: Vec<(&u64, &String)> = before.frames.range(joined + 1..).chain(&after.frames).collect();
    let expected: Vec<(&u64, &String)> = whole.frames.range(joined + 1..=last).collect();
    assert!(had == expected, "{} frames, not {}, from {joined} on", had.len(), expected.len());
    tokio::task::block_in_place(|| server.end_successor());
}
