//! Several servers share one feed through a real nats-server: the same offset is the same message everywhere, whichever
//! server holds the feed, and a client may go from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use kit::client::Client;
use kit::cluster_nodes::{Feed, NODES, Nodes};
use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::program::{Program, run};
use kit::relay::Relay;
use kit::seen::{Seen, check_equal, head};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_show_the_same_and_a_client_goes_from_one_to_the_next() {
    let Some(nodes) = Nodes::start("same", "1000") else { return };
    nodes.ingester();
    let mut seen: Vec<Seen> = (0..=NODES).map(|_| Seen::default()).collect();
    let (hopping, staying) = seen.split_first_mut().expect("there are some");
    let until = head(&nodes.nodes[0]) + 5_000;
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
        assert!(joined + 1_000 < until, "it joined late, at {joined} of {until}");
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

/// Nobody has seen what the log has in this life, so it may have lost something: with each start an epoch begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_which_no_server_was_left_starts_again() {
    let Some(mut nodes) = Nodes::start("cold", "500") else { return };
    let mut epochs = Vec::new();
    for is_orderly in [false, true, false] {
        let mut seen = Seen::default();
        seen.read(&nodes.nodes[nodes.ingester()], 200).await;
        epochs.push(seen.epoch);
        for mut node in nodes.nodes.drain(..) {
            if is_orderly {
                node.terminate()
            } else {
                node.kill()
            }
            node.wait();
        }
        nodes.nodes = (0..2).map(|_| nodes.node()).collect();
    }
    let mut seen = Seen::default();
    seen.read(&nodes.nodes[nodes.ingester()], 200).await;
    epochs.push(seen.epoch);
    let distinct: BTreeSet<&String> = epochs.iter().collect();
    assert_eq!(distinct.len(), epochs.len(), "{epochs:?}");
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

/// What the log holds is asked of JetStream itself.
async fn ask_log(nodes: &Nodes, call: &str) -> Value {
    let nats = async_nats::connect(nodes.nats.url()).await.expect("nats-server listens");
    let answer = nats.request(format!("$JS.API.STREAM.{call}.FANLINE_feed"), "".into()).await.expect("an answer");
    serde_json::from_slice(&answer.payload).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_deleted_is_made_again_at_the_same_offsets() {
    let Some(nodes) = Nodes::start("deleted", "500") else { return };
    let mut seen = Seen::default();
    seen.read(&nodes.nodes[0], 500).await;
    assert_eq!(ask_log(&nodes, "DELETE").await["success"], true);
    let ingester = nodes.ingester();
    let heals = || Nodes::gauge(&nodes.nodes[ingester], "fanline_cluster_heals_total");
    eventually("the ingester gives it again what it had", || (heals() > 0.0).then_some(()));
    seen.read(&nodes.nodes[1], seen.cursor + 500).await;
    assert_eq!((seen.skipped, seen.gaps), (Vec::new(), 0));
    assert!(ask_log(&nodes, "INFO").await["state"]["messages"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_replaced_and_follows_once_it_wakes() {
    let Some(nodes) = Nodes::start("hangs", "500") else { return };
    let ingester = nodes.ingester();
    let (hung, other) = (&nodes.nodes[ingester], &nodes.nodes[(ingester + 1) % NODES]);
    let mut seen = Seen::default();
    seen.read(other, 300).await;
    let mut again = Seen { epoch: seen.epoch.clone(), cursor: seen.cursor, ..Seen::default() };
    hung.signal("STOP");
    let holds = |node: &Program| Nodes::gauge(node, "fanline_cluster_ingester") == 1.0;
    let others = || nodes.nodes.iter().enumerate().filter(|(index, _)| *index != ingester);
    eventually("another one takes over", || others().any(|(_, node)| holds(node)).then_some(()));
    let until = seen.cursor + 500;
    seen.read(other, until).await;
    hung.signal("CONT");
    eventually("it has given the feed up", || (!holds(hung)).then_some(()));
    let from = again.cursor;
    again.read(hung, until).await;
    // A gap that a later value has superseded by then is not replayed.
    let is_frame = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")["op"].is_null();
    let frames = |seen: &Seen| -> Vec<u64> {
        let of_feed = seen.messages.range(from + 1..=until).filter(|(_, text)| is_frame(text));
        of_feed.map(|(offset, _)| *offset).collect()
    };
    assert_eq!(frames(&seen), frames(&again));
    assert_eq!((&seen.skipped, &again.skipped), (&Vec::new(), &Vec::new()));
    check_equal(&[seen, again]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_cursor_that_its_node_has_not_reached_waits_for_it() {
    let Some(nodes) = Nodes::start("lags", "500") else { return };
    let relay = Relay::shut();
    relay.open(nodes.nats.address);
    let lagging = nodes.node_with(&[("CLUSTER_URLS", &format!("nats://{}", relay.addr()))]);
    let mut client = Client::connect(&lagging.ws("/v1/ws")).await;
    client.expect_op("welcome").await;
    relay.cut();
    let place = |node: &Program| {
        let values = node.get("/v1/snapshot").json();
        (values["epoch"].as_str().expect("an epoch").to_owned(), values["offset"].as_u64().expect("an offset"))
    };
    // What it has read of the log is shown by then.
    let (_, behind) = place(&lagging);
    let further = || Some(place(&nodes.nodes[0])).filter(|(_, offset)| *offset > behind + 200);
    let (epoch, offset) = eventually("the others go on", further);
    let since = format!("{epoch}:{offset}");
    client.command(json!({"op": "subscribe", "topics": [">"], "since": since, "policy": "lossless"})).await;
    let taken = || Nodes::gauge(&lagging, "fanline_commands_total");
    eventually("it has heard the command", || (taken() == 1.0).then_some(()));
    assert!(place(&lagging).1 < offset);
    relay.open(nodes.nats.address);
    client.expect_op("subscribed").await;
    for next in offset + 1..offset + 100 {
        assert_eq!(client.newest_offset().await, next);
    }
}

/// How many connections to the feed have these items and none of those.
fn carriers(feed: &FakeFeed, items: &[&str], others: &[&str]) -> usize {
    let ready = feed.ready(items);
    let state = feed.state();
    let is_free = |index: &&usize| others.iter().all(|other| !state.connections[**index].items.contains(*other));
    ready.iter().filter(is_free).count()
}

async fn subscribed(node: &Program, topics: &[&str]) -> Client {
    let mut client = Client::connect(&node.ws("/v1/ws")).await;
    client.expect_op("welcome").await;
    client.command(json!({"op": "subscribe", "topics": topics})).await;
    client.expect_op("subscribed").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_any_node_want_and_say_reaches_the_feed_and_its_answer_the_client() {
    let feed = FakeFeed::open();
    let Some(mut nodes) = Nodes::share("clients", Feed::Fake(feed.clone())) else { return };
    let ingester = nodes.ingester();
    let (follower, third) = ((ingester + 1) % NODES, (ingester + 2) % NODES);
    let mut clients = BTreeMap::new();
    for (index, node) in nodes.nodes.iter().enumerate() {
        clients.insert(index, subscribed(node, &[&format!("t{index}"), "all"]).await);
    }
    eventually("all is wanted", || (carriers(&feed, &["t0", "t1", "t2", "all"], &[]) == 1).then_some(()));

    let (asked, topic) = (clients.get_mut(&follower).expect("one a node"), format!("t{follower}"));
    asked.command(json!({"op": "subscribe", "topics": ["bad.one"]})).await;
    assert_eq!(asked.expect_op("subscribed").await["pending"], json!(["bad.one"]));
    let refused = asked.expect_op("refused").await;
    assert_eq!(refused["topic"], "bad.one");
    assert_eq!(feed.publish(&topic, &json!({"topic": topic, "value": 1}).to_string(), |_| false), 1);
    assert!(asked.frame().await.contains("\"value\":1"));
    asked.command(json!({"op": "send", "id": "s", "topic": "chat.rust", "data": "hi"})).await;
    assert_eq!(asked.expect_op("sent").await, json!({"op": "sent", "id": "s"}));
    asked.command(json!({"op": "request", "id": "r", "data": {"id": 7, "method": "depth"}})).await;
    let heard = || feed.heard().into_iter().find(|text| text.contains("depth"));
    let request: Value = serde_json::from_str(&eventually("the request", heard)).expect("JSON");
    feed.say(feed.ready(&["all"])[0], &json!({"id": request["id"], "result": [1]}).to_string());
    let response = asked.expect_op("response").await;
    assert_eq!(response, json!({"op": "response", "id": "r", "data": {"id": 7, "result": [1]}}));
    asked.command(json!({"op": "send", "id": "n", "topic": "orders", "data": 1})).await;
    assert_eq!(asked.expect_op("error").await["code"], "forbidden", "rights are checked where the client is");
    let said: Vec<String> = feed.heard().into_iter().filter(|text| text.contains("say")).collect();
    assert_eq!(said, [r#"{"say":"hi","about":"chat.rust"}"#]);
    for other in [ingester, third] {
        clients.get_mut(&other).expect("one a node").expect_silence().await;
    }

    let admin = nodes.nodes[follower].admin_address();
    let command = ["cluster", "status", "--address", &admin, "--json"];
    let (status, shown, problem) = run(&command, &[]);
    assert!(status.success(), "{problem}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let name = format!("node-{ingester}");
    assert_eq!((&shown["role"], &shown["state"]), (&json!("follower"), &json!("ready")), "{shown}");
    assert_eq!((&shown["ingester"], &shown["takeover"]["node_name"]), (&json!(name), &json!(name)), "{shown}");
    let roles = |role: &str| shown["members"].as_array().into_iter().flatten().filter(|it| it["role"] == role).count();
    assert_eq!((roles("ingester"), roles("follower")), (1, 1), "{shown}");
    assert_eq!(run(&command[..4], &[]).1.lines().count(), 15, "facts, a line between, and a table of two");

    nodes.nodes[ingester].kill();
    drop(clients.remove(&ingester));
    let [gone, first, second] = [ingester, follower, third].map(|index| format!("t{index}"));
    let carried = |items: &[&str], others: &[&str]| (carriers(&feed, items, others) == 1).then_some(());
    eventually("the new ingester knows", || carried(&[&first, &second, "all"], &[&gone]));
    drop(clients.remove(&follower));
    eventually("one is let go of", || carried(&[&second, "all"], &[&first]));

    nodes.nats.kill();
    let (node, mut client) = (&nodes.nodes[third], clients.remove(&third).expect("one a node"));
    let is_noticed = || node.log().contains("the connection to the cluster's log is lost").then_some(());
    eventually("it is cut off", is_noticed);
    client.command(json!({"op": "send", "id": "d", "topic": "chat.rust", "data": "bye"})).await;
    if Nodes::gauge(node, "fanline_cluster_ingester") == 1.0 {
        client.expect_op("sent").await;
    } else {
        assert_eq!(client.expect_op("error").await["code"], "upstream_down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_beyond_the_limit_are_refused_on_every_node() {
    let feed = FakeFeed::open();
    let own = [("LIMITS_TOPICS_MAX", "2")];
    let Some(nodes) = Nodes::with("full", Feed::Fake(feed.clone()), NODES, &own) else { return };
    let ingester = nodes.ingester();
    let [mut first, mut second] = [Vec::new(), Vec::new()];
    first.push(subscribed(&nodes.nodes[(ingester + 1) % NODES], &["t.1", "t.2"]).await);
    eventually("both are wanted", || (carriers(&feed, &["t.1", "t.2"], &[]) == 1).then_some(()));
    for topic in ["t.1", "t.2"] {
        feed.publish(topic, &json!({"topic": topic, "value": 1}).to_string(), |_| false);
        assert!(first[0].frame().await.contains(topic));
    }
    second.push(subscribed(&nodes.nodes[(ingester + 2) % NODES], &["t.3"]).await);
    let refused = second[0].expect_op("refused").await;
    assert_eq!(refused["topic"], "t.3", "clients of all nodes want two others");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("clients of all servers")), "{refused}");

    // Nobody wants these any more, but they have values.
    drop(first);
    eventually("the third is wanted", || (carriers(&feed, &["t.3"], &["t.1", "t.2"]) == 1).then_some(()));
    feed.publish("t.3", &json!({"topic": "t.3", "value": 1}).to_string(), |_| false);
    loop {
        let notice: Value = serde_json::from_str(&second[0].text().await).expect("JSON");
        assert_ne!(notice["reason"], "nothing_yet", "{notice}");
        if notice["message"].as_str().is_some_and(|text| text.contains("topics.expire_after")) {
            assert_eq!((&notice["op"], &notice["topic"]), (&json!("refused"), &json!("t.3")));
            break;
        }
    }
}
