//! A stop loses nobody: readiness first, then a goodbye for each client with a time to come back, then the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kit::client::{Client, Envelope};
use kit::eventually;
use kit::http::{HANDSHAKE, refused_upgrade};
use kit::program::Program;
use kit::raw_client::Flood;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

const CLIENTS: usize = 20;

/// A server on its own simulated market.
fn serve(settings: &[(&str, &str)]) -> Program {
    Program::serve(&[], settings)
}

fn until_draining(server: &Program) {
    eventually("/readyz gives 503 `draining`", || {
        let answer = server.get("/readyz");
        (answer.status == 503 && answer.json()["state"] == "draining").then_some(())
    });
}

/// How a client was sent away.
struct Farewell {
    notice: Value,
    said: Instant,
}

/// Reads frames up to the goodbye, then the close frame, then the end: nothing else, in no other order.
async fn read_farewell(client: &mut Client) -> Farewell {
    let text = loop {
        let text = client.frame().await;
        if serde_json::from_str::<Envelope>(&text).is_err() {
            break text;
        }
    };
    let said = Instant::now();
    let notice: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(notice["op"], "goodbye", "{text}");
    expect_close_1001(client).await;
    Farewell { notice, said }
}

async fn expect_close_1001(client: &mut Client) {
    match client.next().await {
        Message::Close(Some(frame)) => {
            assert_eq!(u16::from(frame.code), 1001);
            assert!(frame.reason.contains("stopping"), "{}", frame.reason);
        }
        other => panic!("expected a close frame, found {other:?}"),
    }
    client.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_goes_first_and_connected_clients_still_receive_data() {
    let server = serve(&[("DRAIN_READINESS_DELAY", "1h")]);
    let mut client = Client::of_quotes(&server).await;
    let newest: u64 = client.newest_offset().await;
    server.terminate();
    until_draining(&server);

    let refused = refused_upgrade(server.addr(), "/v1/ws", HANDSHAKE);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("draining")));
    assert!(refused.header("retry-after").is_some(), "the answer says when to come back");
    assert_eq!(server.get("/healthz").status, 200, "the process still works");
    assert_eq!(server.get("/v1/snapshot?topics=none").status, 200, "and still answers");
    for _ in 0..100 {
        let text = client.frame().await;
        let frame: Envelope = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not a frame: {text}"));
        assert!(frame.offset > newest, "{text}");
    }
    client.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_receives_a_goodbye_with_its_own_time_to_reconnect() {
    const DELAY: Duration = Duration::from_millis(500);
    const SPREAD_MS: u64 = 60_000;
    let settings = [("DRAIN_READINESS_DELAY", "500ms"), ("DRAIN_RECONNECT_SPREAD", "60s")];
    let mut server = serve(&settings);
    let mut raw = Client::connect(&server.ws("/v1/ws?topics=nothing&format=raw")).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::of_quotes(&server).await);
    }
    let asked = Instant::now();
    server.terminate();
    let mut leaving = JoinSet::new();
    for mut client in clients {
        leaving.spawn(async move { read_farewell(&mut client).await });
    }
    let farewells = leaving.join_all().await;
    expect_close_1001(&mut raw).await;
    assert_eq!(farewells.len(), CLIENTS);
    let mut delays = BTreeSet::new();
    for Farewell { notice, said } in farewells {
        assert!(said - asked >= DELAY, "readiness had its time before {notice}");
        assert_eq!(notice["code"], "draining", "{notice}");
        assert!(notice["message"].as_str().is_some_and(|message| message.contains("reconnect")), "{notice}");
        let delay = notice["reconnect_ms"].as_u64().unwrap_or(u64::MAX);
        assert!(delay <= SPREAD_MS, "{notice}");
        delays.insert(delay);
    }
    // Two of 20 are the same in one of 300 runs; six of them, never.
    assert!(delays.len() > CLIENTS - 5, "clients do not come back all at once: {delays:?}");
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("stopped"), "{}", server.log());
}

/// A caller that waits for the announcement may stop the program at once.
#[test]
fn without_clients_a_stop_is_immediate_from_the_start_on() {
    for mut program in [serve(&[("DRAIN_TIMEOUT", "1h")]), Program::simulate(&[])] {
        program.terminate();
        assert_eq!(program.wait().code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_does_not_hold_the_stop() {
    let mut server = serve(&[("DRAIN_TIMEOUT", "200ms")]);
    let _deaf = Flood::start(&server, 10_000);
    let mut client = Client::of_quotes(&server).await;
    server.terminate();
    let farewell = read_farewell(&mut client).await;
    assert_eq!(farewell.notice["code"], "draining", "a client that reads receives it");
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    assert!(
        log.contains("drain.timeout has passed; the remaining sessions are closed"),
        "the deaf one was there: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut server = serve(&[("DRAIN_READINESS_DELAY", "1h"), ("DRAIN_TIMEOUT", "1h")]);
    let mut client = Client::of_quotes(&server).await;
    server.terminate();
    until_draining(&server);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("stopping at once"), "{}", server.log());
    client.expect_end().await;
}
