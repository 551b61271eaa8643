//! Servers that follow another server show the same bytes at the same offsets, at any depth; a lost parent is replaced,
//! and nothing is missing, or it is told.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use kit::client::Client;
use kit::cluster_nodes::Nodes;
use kit::http::{HANDSHAKE, ask, refused_upgrade};
use kit::program::{Program, run};
use kit::seen::{Seen, check_equal};
use kit::tiers::TierFolder;
use kit::{DEADLINE, certificate, eventually};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_hdr_async, connect_async};

const SUBPROTOCOL: &str = "fanline.log.v1";

const SERVING: [(&str, &str); 3] =
    [("RELAY_SERVE", "true"), ("ADMIN_LISTEN", "127.0.0.1:0"), ("SLOW_WRITE_DEADLINE", "10m")];

fn market(rate: &str) -> Program {
    Program::simulate(&["--rate", rate])
}

/// A server with the feed to itself.
fn core(market: &Program, more: &[(&str, &str)]) -> Program {
    core_on("127.0.0.1:0", market, more)
}

fn core_on(listen: &str, market: &Program, more: &[(&str, &str)]) -> Program {
    let feed = market.ws("/");
    Program::serve_on(listen, &[&feed, "--profile", "simulated"], &[&SERVING[..], more].concat())
}

fn relay(parents: &[&Program], more: &[(&str, &str)]) -> Program {
    relay_of(&parents.iter().map(|parent| parent.ws("")).collect::<Vec<String>>(), more)
}

fn relay_of(parents: &[String], more: &[(&str, &str)]) -> Program {
    let args: Vec<&str> = std::iter::once("relay").chain(parents.iter().map(String::as_str)).collect();
    Program::serve(&args, &[&SERVING[..], more].concat())
}

/// A port that is free now.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").to_string()
}

fn offset(program: &Program) -> u64 {
    Nodes::gauge(program, "fanline_head_offset") as u64
}

/// All offsets from the join on, without a hole.
fn check_dense(seen: &Seen) {
    assert_eq!(seen.skipped, [] as [Value; 0]);
    let joined = seen.joined.expect("it has subscribed");
    assert!(joined < seen.cursor, "it joined at {joined}, and has read up to {}", seen.cursor);
    assert_eq!(seen.messages.range(joined + 1..=seen.cursor).count() as u64, seen.cursor - joined, "from {joined} on");
}

/// How much later one saw the same offsets than the other, in the middle, over all that both have seen live.
fn median_delay(near: &Seen, far: &Seen) -> Duration {
    let from = near.joined.max(far.joined).unwrap_or_default();
    let far_at = far.at.range(from + 1..);
    let mut delays: Vec<Duration> =
        far_at.filter_map(|(offset, at)| Some(at.saturating_duration_since(*near.at.get(offset)?))).collect();
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_levels_show_the_same_bytes_at_the_same_offsets() {
    let market = market("1000");
    let core = core(&market, &[]);
    let (left, right) = (relay(&[&core], &[]), relay(&[&core], &[]));
    let last = relay(&[&left, &right], &[]);
    let servers = [&core, &left, &right, &last];
    let until = offset(&core) + 5_000;
    let mut seen: Vec<Seen> = servers.iter().map(|_| Seen::default()).collect();
    join_all(seen.iter_mut().zip(servers).map(|(seen, server)| seen.read(server, until))).await;
    seen.iter().for_each(check_dense);
    println!("one hop: {:?}, two hops: {:?}", median_delay(&seen[0], &seen[1]), median_delay(&seen[0], &seen[3]));
    check_equal(&seen);
    let relays = |server: &Program| Nodes::gauge(server, "fanline_relays");
    assert_eq!((relays(&core), relays(&left) + relays(&right), relays(&last)), (2.0, 1.0, 0.0));
    for (server, depth) in [(&core, 0.0), (&left, 1.0), (&right, 1.0), (&last, 2.0)] {
        assert_eq!(Nodes::gauge(server, "fanline_relay_depth"), depth);
        assert_eq!(Nodes::gauge(server, "fanline_relay_parent_up"), f64::from(u8::from(depth > 0.0)));
        assert_eq!(server.get("/readyz").json()["simulated"], true, "{}", server.get("/readyz").body);
    }
    // A client goes from one to the other with its cursor.
    let mut hopping = Seen::default();
    hopping.read(&core, offset(&core) + 500).await;
    for server in servers.iter().cycle().take(40) {
        hopping.read(server, hopping.cursor + 50).await;
    }
    check_dense(&hopping);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_parent_is_replaced_and_nothing_is_missing() {
    let market = market("1000");
    let core = core(&market, &[]);
    for signal in ["KILL", "STOP"] {
        let (left, right) = (relay(&[&core], &[]), relay(&[&core], &[]));
        let last = relay(&[&left, &right], &[]);
        let jumps = || Nodes::gauge(&last, "fanline_cluster_jumps_total");
        let joined_with = jumps();
        let mut seen = Seen::default();
        seen.read(&last, offset(&core) + 500).await;
        // The second one, where the first has not answered at once.
        let parent = if Nodes::gauge(&left, "fanline_relays") == 1.0 { &left } else { &right };
        parent.signal(signal);
        seen.read(&last, seen.cursor + 3_000).await;
        check_dense(&seen);
        let mut at_core = Seen { epoch: seen.epoch.clone(), cursor: seen.cursor - 2_000, ..Seen::default() };
        at_core.read(&core, seen.cursor).await;
        let arrivals: Vec<&Instant> = seen.at.values().collect();
        let longest = arrivals.windows(2).map(|pair| *pair[1] - *pair[0]).max();
        println!("SIG{signal}: the longest silence was {longest:?}");
        check_equal(&[seen, at_core]);
        assert!(Nodes::gauge(&last, "fanline_relay_parent_changes_total") >= 1.0);
        assert_eq!(jumps(), joined_with);
        if signal == "STOP" {
            parent.signal("CONT");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_starts_again_with_its_archive_goes_on_at_its_offsets() {
    let market = market("500");
    let folder = TierFolder::new("relay-archive", "");
    let archive = folder.path("archive");
    let listen = free_address();
    let more = [("ARCHIVE_DIR", &*archive)];
    let mut core = core_on(&listen, &market, &more);
    let relay = relay(&[&core], &[]);
    let jumps = || Nodes::gauge(&relay, "fanline_cluster_jumps_total");
    let joined_with = jumps();
    let mut seen = Seen::default();
    for _ in 0..2 {
        seen.read(&relay, seen.cursor.max(offset(&core)) + 500).await;
        core.kill();
        eventually("the relay says that it has no parent", || (relay.get("/readyz").status == 503).then_some(()));
        assert_eq!(relay.get("/readyz").json()["reason"], "upstream_down");
        core = core_on(&listen, &market, &more);
        eventually("the relay is back", || (relay.get("/readyz").status == 200).then_some(()));
    }
    // Offsets that nobody knows of are empty after a kill.
    seen.read(&relay, offset(&core) + 500).await;
    assert_eq!(seen.skipped, [] as [Value; 0]);
    assert_eq!(jumps(), joined_with);
    let mut at_core = Seen { epoch: seen.epoch.clone(), cursor: seen.cursor - 400, ..Seen::default() };
    at_core.read(&core, seen.cursor).await;
    check_equal(&[seen, at_core]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_begins_anew_is_told_to_clients_that_stay_on_relays_in_a_row() {
    let market = market("500");
    let listen = free_address();
    let mut core = core_on(&listen, &market, &[]);
    let between = relay(&[&core], &[]);
    let follower = relay(&[&between], &[]);
    let mut seen = Seen::default();
    seen.read(&follower, offset(&core) + 200).await;
    let mut client = Client::connect(&follower.ws("/v1/ws?topics=%3E")).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    core.kill();
    let core = core_on(&listen, &market, &[]);
    let epoch = core.get("/v1/snapshot").json()["epoch"].clone();
    let message = async |client: &mut Client, op: &str| loop {
        let message: Value = serde_json::from_str(&client.text().await).expect("JSON");
        if message["op"] == op {
            return message;
        }
    };
    assert_eq!(message(&mut client, "view").await["epoch"], epoch);
    assert_eq!(message(&mut client, "skipped").await["reason"], "epoch");
    let mut anew = Seen::default();
    anew.read(&follower, offset(&core) + 200).await;
    assert_eq!(Value::from(&*anew.epoch), epoch);
    anew.read(&follower, anew.cursor + 300).await;
    let mut at_core = Seen { epoch: anew.epoch.clone(), cursor: anew.cursor - 300, ..Seen::default() };
    at_core.read(&core, anew.cursor).await;
    check_equal(&[anew, at_core]);
    eventually("it is ready", || (follower.get("/readyz").status == 200).then_some(()));
    let news = follower.get(&format!("/v1/poll?topics=%3E&since={}:{}", seen.epoch, seen.cursor));
    assert_eq!(news.json()["skipped"]["reason"], "epoch", "{}", news.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_away_for_longer_than_the_log_is_kept_is_told_and_has_all_values() {
    let market = Program::simulate(&["--rate", "2000", "--symbols", "500"]);
    let core = core(&market, &[("RELAY_LOG_BYTES_MAX", "1MiB"), ("RING_FRAMES_MAX", "1024")]);
    let relay = relay(&[&core], &[("RING_FRAMES_MAX", "1024")]);
    let mut seen = Seen::default();
    seen.read(&relay, offset(&core) + 500).await;
    let jumps = || Nodes::gauge(&relay, "fanline_cluster_jumps_total");
    let (before, joined_with) = (offset(&core), jumps());
    relay.signal("STOP");
    eventually("the core has forgotten what the relay needs", || (offset(&core) > before + 12_000).then_some(()));
    relay.signal("CONT");
    eventually("the relay jumps", || (jumps() > joined_with).then_some(()));
    seen.read(&relay, seen.cursor + 200).await;
    assert!(!seen.skipped.is_empty(), "its clients are told");
    market.signal("STOP");
    let same = || Some(values(&core)).filter(|ours| *ours == values(&relay));
    let values = eventually("both have the same values", same);
    assert!(values.len() > 100, "{}", values.len());
}

/// The value of each topic, with its offset.
fn values(server: &Program) -> BTreeMap<String, String> {
    let snapshot = server.get("/v1/snapshot?topics=%3E").json();
    let frames = snapshot["frames"].as_array().expect("an array").clone();
    frames.iter().map(|frame| (frame["topic"].as_str().expect("a topic").to_owned(), frame.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_joins_late_has_the_values_of_quiet_topics() {
    let market = Program::simulate(&["--rate", "300", "--symbols", "2000"]);
    let core = core(&market, &[("RELAY_LOG_BYTES_MAX", "1MiB"), ("RING_FRAMES_MAX", "512")]);
    eventually("there are topics", || (Nodes::gauge(&core, "fanline_topics") >= 500.0).then_some(()));
    let before = Nodes::gauge(&core, "fanline_topics");
    let relay = relay(&[&core], &[]);
    assert!(Nodes::gauge(&relay, "fanline_topics") >= before);
    assert_eq!(Nodes::labelled(&relay, "fanline_cluster_snapshots_total", "taken"), 1.0);
    let until = offset(&core) + 500;
    let (mut one, mut other) = (Seen::default(), Seen::default());
    tokio::join!(one.read(&core, until), other.read(&relay, until));
    check_dense(&other);
    check_equal(&[one, other]);
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// As a relay connects.
async fn follow(server: &Program, node: u64) -> Socket {
    let mut request = server.ws(&format!("/v1/log?node={node:x}")).into_client_request().expect("a URL");
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    connect_async(request).await.expect("it is let in").0
}

async fn close_code(socket: &mut Socket) -> Option<u16> {
    loop {
        match timeout(DEADLINE, socket.next()).await.expect("it ends") {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

/// A server that stops says so to its relays, which are served by a thread of their own until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goodbye_to_its_relays() {
    let market = market("500");
    let files = certificate::write("relay", &["localhost"]);
    let core = core_on("127.0.0.1:0,tls://127.0.0.1:0", &market, &[("TLS_CERTIFICATES", &files.pair())]);
    let sealed = core.next_address().replace("https://127.0.0.1", "wss://localhost");
    let trusted = [("SSL_CERT_FILE", files.certificate.to_str().expect("UTF-8"))];
    let followers = [relay(&[&core], &[]), Program::serve_knowing(&["relay", &sealed], &SERVING, &trusted)];
    let mut sockets = Vec::new();
    for node in [5, 6] {
        sockets.push(follow(&core, node).await);
    }
    // What is unread at the stop must not cost the goodbye.
    sockets[1].send(Message::Binary([&[1][..], &7_u64.to_le_bytes()].concat().into())).await.expect("taken");
    core.terminate();
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, Some(1001), "{}", core.log());
    }
    for follower in followers {
        eventually("the relay tells why", || follower.log().contains("the server is stopping").then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_reads_slowly_is_cut_off_and_costs_nobody_anything() {
    let market = market("5000");
    let core = core(&market, &[("RELAY_LOG_BYTES_MAX", "1MiB")]);
    let relay = relay(&[&core], &[]);
    let mut slow = follow(&core, 5).await;
    slow.send(Message::Binary([&[1][..], &7_u64.to_le_bytes()].concat().into())).await.expect("taken");
    let until = offset(&core) + 20_000;
    let (mut one, mut other) = (Seen::default(), Seen::default());
    tokio::join!(one.read(&core, until), other.read(&relay, until));
    check_dense(&other);
    check_equal(&[one, other]);
    let ended = || Nodes::labelled(&core, "fanline_relays_ended_total", "too_slow");
    eventually("the slow one is left", || (ended() == 1.0).then_some(()));
    assert_eq!(Nodes::gauge(&core, "fanline_relays"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_of_a_relay_harm_its_parent() {
    let market = market("500");
    let core = core(&market, &[]);
    let hostile: [Message; 7] = [
        Message::Text("hello".into()),
        Message::Binary(vec![].into()),
        Message::Binary(vec![9; 9].into()),
        Message::Binary(vec![1, 2, 3].into()),
        Message::Binary([&[2][..], &[0xff; 8]].concat().into()),
        Message::Binary(vec![3; 1 << 20].into()),
        Message::Binary([&[1][..], &[0xff; 200]].concat().into()),
    ];
    let count = hostile.len() as f64;
    for message in hostile {
        let mut socket = follow(&core, 6).await;
        // It may have left already.
        let _ = socket.send(message).await;
        close_code(&mut socket).await;
    }
    let left = || ["malformed", "closed"].map(|end| Nodes::labelled(&core, "fanline_relays_ended_total", end));
    eventually("all are left", || (left().iter().sum::<f64>() == count).then_some(()));
    // Strange and allowed: an answer, and no more.
    let mut socket = follow(&core, 7).await;
    let numbers = [u64::MAX, u64::MAX, 0].map(u64::to_le_bytes).concat();
    socket.send(Message::Binary([&[2][..], &numbers].concat().into())).await.expect("taken");
    socket
        .send(Message::Binary([&[3][..], &7_u64.to_le_bytes(), b"1 99999999999999999999"].concat().into()))
        .await
        .expect("taken");
    let mut kinds = Vec::new();
    while kinds.iter().filter(|kind| [6, 7].contains(*kind)).count() < 2 {
        let message = timeout(DEADLINE, socket.next()).await.expect("an answer").expect("open").expect("a message");
        kinds.extend(message.into_data().first().copied());
    }
    assert!(!kinds.contains(&5), "there is nothing in that range");
    let relay = relay(&[&core], &[]);
    let mut seen = Seen::default();
    seen.read(&relay, offset(&core) + 1_000).await;
    check_dense(&seen);
}

/// To the upgrade, as a server that relays may follow.
#[expect(clippy::result_large_err, reason = "the type of the callback")]
fn agree(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

/// A parent that says this again and again.
async fn hostile_parent(says: Vec<Vec<u8>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let says = says.clone();
            tokio::spawn(async move {
                let greeted = accept_hdr_async(stream, agree).await;
                let Ok(mut socket) = greeted else { return };
                for message in says.iter().cycle().take(20_000) {
                    if socket.send(Message::Binary(message.clone().into())).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("ws://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_of_a_parent_harm_a_relay() {
    let market = market("500");
    let core = core(&market, &[]);
    let greeting = |json: &str| [&[1][..], json.as_bytes()].concat();
    let fine = greeting(r#"{"path":[77],"epoch":5,"simulated":false}"#);
    let mut entry = vec![3];
    entry.extend(7_u64.to_le_bytes());
    // A batch at an impossible offset.
    entry.extend([1, 1]);
    entry.extend([0xff; 58]);
    entry.push(0);
    let long = greeting(&format!(r#"{{"path":[{}],"epoch":5,"simulated":false}}"#, vec!["1"; 5000].join(",")));
    let parents = [
        hostile_parent(vec![b"\x09nonsense".to_vec()]).await,
        hostile_parent(vec![greeting("{}")]).await,
        hostile_parent(vec![long]).await,
        hostile_parent(vec![fine.clone(), entry]).await,
        hostile_parent(vec![fine.clone(), vec![3; 2 << 20]]).await,
        // Bounds that nobody has asked for, entries of no call, and never an answer.
        hostile_parent(vec![[&[4][..], &[0xff; 24]].concat(), fine]).await,
        core.ws(""),
    ];
    let relay = relay_of(&parents, &[]);
    let mut seen = Seen::default();
    seen.read(&relay, offset(&core) + 1_000).await;
    check_dense(&seen);
    let mut at_core = Seen { epoch: seen.epoch.clone(), cursor: seen.cursor - 150, ..Seen::default() };
    at_core.read(&core, seen.cursor).await;
    check_equal(&[seen, at_core]);
}

#[test]
fn only_whoever_may_follow_is_let_in() {
    let market = market("100");
    let closed = Program::serve(&[&market.ws("/"), "--profile", "simulated"], &[]);
    let upgrade = format!("{HANDSHAKE}Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
    let refusal = |server: &Program, path: &str, headers: &str| {
        let answer = refused_upgrade(server.addr(), path, headers);
        (answer.status, answer.json()["code"].as_str().expect("a code").to_owned())
    };
    assert_eq!(refusal(&closed, "/v1/log?node=1", &upgrade), (404, "relay_off".into()));

    let folder = TierFolder::new("relay-key", "[auth.tier.pro]\ntopics = [\">\"]\n");
    let (key, other) = (folder.path("key"), folder.path("other-key"));
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").expect("a file");
    std::fs::write(&other, "another key that is long enough".replace(' ', "-")).expect("a file");
    let args = folder.args();
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    let feed = market.ws("/");
    args.extend([&*feed, "--profile", "simulated", "--relay-serve", "true"]);
    let (status, _, told) = run(&args, &[("LISTEN", "127.0.0.1:0")]);
    assert_eq!(status.code(), Some(2), "{told}");
    assert!(told.contains("relay.key_file: expected a key where clients show tokens"), "{told}");

    let core = Program::serve(&args, &[("RELAY_KEY_FILE", &key), ("RELAY_CHILDREN_MAX", "1")]);
    assert_eq!(refusal(&core, "/v1/log?node=1", &upgrade), (401, "relay_key".into()));
    let token = folder.token("alice", "pro", &[]);
    for shown in [&*token, "0123456789abcdef0123456789abcde", ""] {
        let headers = format!("{upgrade}Authorization: Bearer {shown}\r\n");
        assert_eq!(refusal(&core, "/v1/log?node=1", &headers), (401, "relay_key".into()));
    }
    let shown = format!("{upgrade}Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n");
    assert_eq!(refusal(&core, "/v1/log", &shown), (400, "bad_request".into()));
    let bare = shown.replace(SUBPROTOCOL, "another");
    assert_eq!(refusal(&core, "/v1/log?node=1", &bare), (400, "bad_handshake".into()));
    let plain = ask(
        core.addr(),
        &format!(
            "GET /v1/log?node=1 HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n",
            core.addr()
        ),
    );
    assert_eq!((plain.status, &plain.json()["code"]), (426, &"not_websocket".into()));

    let follower = relay(&[&core], &[("RELAY_PARENT_KEY_FILE", &key)]);
    assert_eq!(refusal(&core, "/v1/log?node=1", &shown), (503, "too_many_relays".into()));
    // Whoever may follow decides by itself whom it shows what.
    assert_eq!(follower.get("/v1/poll?max=1").status, 200);
    let metrics = follower.get("/readyz");
    assert_eq!(metrics.status, 200, "{}", metrics.body);
}

#[test]
fn a_relay_does_not_follow_itself() {
    let market = market("100");
    let address = free_address();
    let mut core = core_on(&address, &market, &[]);
    let (first_address, second_address) = (free_address(), free_address());
    let urls = [&address, &second_address].map(|address| format!("ws://{address}"));
    let first = Program::serve_on(&first_address, &["relay", &urls[0], &urls[1]], &SERVING);
    let _second = Program::serve_on(&second_address, &["relay", &first.ws("")], &SERVING);
    core.kill();
    let told = || first.log().contains("would follow itself").then_some(());
    eventually("the first one is refused by the second", told);
    let (status, _, told) = run(&["relay", &format!("ws://{address}"), "--listen", &address], &[]);
    assert_eq!(status.code(), Some(2), "{told}");
    assert!(told.contains("where this one listens"), "{told}");
}

#[test]
fn what_a_relay_cannot_have_is_refused_with_its_place_and_the_remedy() {
    for (args, settings, sentence) in [
        (vec!["relay", "http://core"], vec![], "relay.parents: expected a URL such as `wss://parent.example.com`"),
        (vec!["relay", "ws://core"], vec![("UPSTREAM_SEND", "chat.*")], "expected no upstream.send on a relay"),
        (vec!["relay", "ws://core"], vec![("UPSTREAM_DEMAND", "on")], "expected no upstream.demand on a relay"),
        (vec!["relay", "ws://core"], vec![("UPSTREAM_URL", "ws://feed")], "expected no upstream.url on a relay"),
        (vec!["relay", "ws://core"], vec![("ARCHIVE_DIR", "/tmp/none")], "expected no archive.dir on a relay"),
        (vec!["relay", "ws://core"], vec![("CLUSTER_URLS", "nats://a")], "expected no cluster.urls on a relay"),
        (
            vec!["relay", "ws://core"],
            vec![("RELAY_PARENT_KEY_FILE", "/none")],
            "relay.parent_key_file: expected a readable",
        ),
    ] {
        let (status, _, told) = run(&args, &settings);
        assert_eq!(status.code(), Some(2), "{args:?} {settings:?}: {told}");
        assert!(told.contains(sentence), "{args:?} {settings:?}: {told}");
    }
    let (status, shown, _) = run(&["relay", "--help"], &[]);
    assert!(status.success() && shown.contains("fanline relay URL [URL…]"), "{shown}");
}
