//! The operator learns why a session has ended, whichever way it ended, and what to do about it.

use std::io::{Read, Write};
use std::net::TcpStream;

use kit::client::Client;
use kit::program::{Program, run};
use kit::raw_client::RawClient;
use kit::tiers::TierFolder;
use kit::tls_server::TlsServer;
use kit::{certificate, eventually};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];

/// What the command prints as JSON.
fn ends(target: &[&str], whom: &[&str]) -> Vec<Value> {
    let (status, told, error) = run(&[&["why", "--json"], target, whom].concat(), &[]);
    assert!(status.success(), "{error}");
    let answer: Value = serde_json::from_str(&told).expect("JSON");
    answer["ends"].as_array().expect("a list").clone()
}

/// Waits for the one end of a session.
fn end_of(target: &[&str], session: u64) -> Value {
    let number = session.to_string();
    eventually("the end is in the journal", || {
        let found = ends(target, &[&number]);
        assert!(found.len() <= 1, "a session ends once: {found:?}");
        found.into_iter().next()
    })
}

/// The number of the session, as its client learns it.
fn session_of(client: &mut RawClient) -> u64 {
    loop {
        let (_, payload) = client.next_frame().expect("the server stays");
        let message: Value = serde_json::from_slice(&payload).unwrap_or_default();
        if message["op"] == "welcome" {
            return message["session"].as_u64().expect("a number");
        }
    }
}

fn joined(server: &Program, path: &str) -> (RawClient, u64) {
    let mut client = RawClient::connect(server.addr(), path, "");
    let session = session_of(&mut client);
    (client, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_did_is_told_with_how_it_stood_and_the_remedy() {
    let server = Program::serve(ADMIN, &[]);
    let address = server.admin_address();
    let target = ["--address", &*address];

    let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.*,trade.AAPL&every=500ms")).await;
    let session = client.expect_op("welcome").await["session"].as_u64().expect("a number");
    client.expect_op("subscribed").await;
    client.frame().await;
    client.send(Message::Close(None)).await;
    client.expect_end().await;
    let end = end_of(&target, session);
    assert_eq!((&end["reason"], &end["transport"]), (&json!("client_closed"), &json!("websocket")), "{end}");
    assert_eq!(end["detail"], "closed by the client, without a code");
    assert_eq!(end["address"], "127.0.0.1", "{end}");
    let standing = &end["standing"];
    assert_eq!((&standing["patterns_count"], &standing["every_ms"]), (&json!(2), &json!(500)), "{end}");
    assert!(standing["sent_offset"].as_u64() > Some(0), "{end}");
    assert!(end["opened_ms"].as_u64() <= end["ended_ms"].as_u64() && end["opened_ms"].as_u64() > Some(0), "{end}");

    let (lost, session) = joined(&server, "/v1/ws");
    lost.kill(true);
    let end = end_of(&target, session);
    assert_eq!(end["reason"], "connection_lost", "{end}");
    assert!(end["remedy"].as_str().is_some_and(|remedy| remedy.contains("network")), "{end}");

    let (mut unmasked, session) = joined(&server, "/v1/ws");
    assert!(unmasked.write(b"\x81\x02{}"));
    let (code, sentence) = unmasked.expect_close();
    let end = end_of(&target, session);
    assert_eq!((&end["reason"], &end["close_code"]), (&json!("protocol_error"), &json!(code)), "{end}");
    assert_eq!(end["detail"], sentence.as_str(), "the same as its client was told");

    let (mut big, session) = joined(&server, "/v1/ws");
    big.send(0x81, &vec![b' '; 2 << 20]);
    let end = end_of(&target, session);
    assert_eq!((&end["reason"], &end["close_code"]), (&json!("message_too_big"), &json!(1009)), "{end}");
    assert!(end["detail"].as_str().is_some_and(|detail| detail.contains("limits.message_bytes_max")), "{end}");

    let refused = server.get("/v1/sse?topics=quote.*&policy=gold");
    assert_eq!(refused.status, 400);
    let all = ends(&target, &["127.0.0.1"]);
    let refusal = all.iter().find(|end| end["session"].is_null()).expect("a refused connection");
    assert_eq!((&refusal["transport"], &refusal["times"]), (&json!("http"), &json!(1)), "{refusal}");
    assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains("gold")), "{refusal}");
    server.get("/v1/sse?topics=quote.*&policy=gold");
    let again = ends(&target, &["127.0.0.1"]);
    let refusal = again.iter().find(|end| end["session"].is_null()).expect("a refused connection");
    assert_eq!(refusal["times"], 2, "they share a row: {refusal}");
    let newest: Vec<_> = again.iter().map(|end| end["ended_ms"].as_u64()).collect();
    assert!(newest.is_sorted_by(|one, next| one >= next), "{newest:?}");

    let (status, told, error) = run(&["why", "--address", &address, &session.to_string()], &[]);
    assert!(status.success(), "{error}");
    assert!(told.contains("message_too_big close code 1009: ") && told.contains("\n  remedy:  split"), "{told}");
    let (status, told, _) = run(&["why", "--address", &address, "nobody"], &[]);
    assert!(status.success() && told.starts_with("nothing is known of it"), "{told}");
    assert_eq!(server.get("/admin/ends").status, 404, "clients cannot ask");
}

#[test]
fn clients_that_do_not_answer_or_do_not_read_are_told_apart() {
    let settings = [("PING_INTERVAL", "200ms"), ("PING_TIMEOUT", "300ms")];
    let server = Program::serve(ADMIN, &settings);
    let address = server.admin_address();
    let target = ["--address", &*address];
    let (_silent, session) = joined(&server, "/v1/ws");
    let end = end_of(&target, session);
    assert_eq!((&end["reason"], &end["close_code"]), (&json!("ping_timeout"), &json!(4408)), "{end}");

    let settings = [("SLOW_WRITE_DEADLINE", "1s"), ("SLOW_UNSENT_BYTES_MAX", "1KiB"), ("SIMULATE_RATE", "5000")];
    let server = Program::serve(ADMIN, &settings);
    let address = server.admin_address();
    let target = ["--address", &*address];
    let mut blocked = RawClient::connect_narrow(server.addr());
    let session = session_of(&mut blocked);
    blocked.command(r#"{"op":"subscribe","topics":[">"]}"#);
    let end = end_of(&target, session);
    assert_eq!((&end["reason"], &end["close_code"]), (&json!("write_timeout"), &json!(4409)), "{end}");
    let standing = &end["standing"];
    assert!(standing["lag"].as_u64() > Some(0) && standing["unsent_bytes"].as_u64() > Some(0), "{end}");
    assert_eq!(standing["patterns"], json!([">"]), "{end}");
}

#[test]
fn orders_of_the_operator_and_rights_are_told_by_subject() {
    let tables = "[simulate]\n[auth]\nexpiry_grace = '0s'\n[auth.tier.pro]\ntopics = ['>']\nsessions = 1\n\
                  over_sessions = 'replace_oldest'\n[auth.tier.free]\ntopics = ['quote.*']\n";
    let folder = TierFolder::new("ends", tables);
    let server = folder.serve(&[]);
    let socket = folder.path("admin");
    let target = ["--socket", &*socket];
    let join = |subject: &str, tier: &str| {
        let (mut client, session) = joined(&server, "/v1/ws");
        let token = folder.token(subject, tier, &[]);
        client.command(&format!(r#"{{"op":"auth","token":"{token}"}}"#));
        while !client.next_frame().expect("it stays").1.starts_with(br#"{"op":"authenticated""#) {}
        (client, session)
    };
    let (_first, replaced) = join("ann", "pro");
    let (_second, kicked) = join("ann", "pro");
    assert_eq!(end_of(&target, replaced)["reason"], "replaced");
    folder.order(&["disconnect", "--sub", "ann"]);
    let end = end_of(&target, kicked);
    assert_eq!((&end["reason"], &end["close_code"]), (&json!("kicked"), &json!(4412)), "{end}");
    let (_third, revoked) = join("bob", "free");
    folder.order(&["revoke", "--sub", "bob"]);
    let end = end_of(&target, revoked);
    assert_eq!((&end["reason"], &end["sub"], &end["tier"]), (&json!("forbidden"), &json!("bob"), &json!("free")));
    assert!(end["remedy"].as_str().is_some_and(|remedy| remedy.contains("revocations")), "{end}");
    let (mut stranger, unauthenticated) = joined(&server, "/v1/ws");
    stranger.command(r#"{"op":"auth","token":"none"}"#);
    assert_eq!(end_of(&target, unauthenticated)["reason"], "unauthenticated");
    let of_ann: Vec<_> = ends(&target, &["ann"]).iter().map(|end| end["session"].as_u64()).collect();
    assert_eq!(of_ann, [Some(kicked), Some(replaced)]);
    assert_eq!(ends(&target, &["--sub", "bob"]).len(), 1);
}

#[test]
fn a_tls_handshake_that_fails_is_told() {
    let files = certificate::write("ends", &["localhost"]);
    let server = TlsServer::serve(&files.pair(), ADMIN, &[]);
    let address = server.program.admin_address();
    let mut plain = server.dial();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is taken");
    let mut rest = Vec::new();
    // An alert, or a reset.
    let _ = plain.read_to_end(&mut rest);
    let end = eventually("the failure is in the journal", || {
        ends(&["--address", &address], &["127.0.0.1"]).into_iter().find(|end| end["transport"] == "tls")
    });
    assert_eq!(end["reason"], "tls_failed", "{end}");
    assert!(end["detail"].as_str().is_some_and(|detail| detail.contains("check the certificate")), "{end}");
}

#[test]
fn a_flood_of_ends_and_refusals_is_bounded_and_hides_nobody_else() {
    let settings = [("JOURNAL_ENDS_MAX", "200"), ("JOURNAL_BYTES_MAX", "1MiB")];
    let server = Program::serve(ADMIN, &settings);
    let address = server.admin_address();
    let target = ["--address", &*address];
    let mut other = RawClient::connect_from([127, 0, 0, 2], server.addr(), "/v1/ws");
    let session = session_of(&mut other);
    assert!(other.send(0x88, &1000_u16.to_be_bytes()));
    end_of(&target, session);
    for _ in 0..300 {
        joined(&server, "/v1/ws").0.kill(false);
    }
    for _ in 0..300 {
        let mut refused = TcpStream::connect(server.addr()).expect("the server accepts");
        refused.write_all(b"GET /v1/sse?format=x HTTP/1.0\r\nHost: test\r\n\r\n").expect("it is taken");
        let _ = refused.read_to_end(&mut Vec::new());
    }
    let all = eventually("all ends are kept or displaced", || {
        let displaced = kit::http::get(address.parse().expect("an address"), "/metrics").body;
        let line = displaced.lines().find(|line| line.starts_with("fanline_journal_displaced_ends_total "))?;
        let number: f64 = line.rsplit(' ').next()?.parse().expect("a number");
        (number >= 201.0).then(|| ends(&target, &["--limit", "1000"]))
    });
    assert_eq!(all.iter().filter(|end| !end["session"].is_null()).count(), 100);
    assert_eq!(
        all.iter().filter(|end| end["session"].is_null()).map(|end| end["times"].as_u64()).sum::<Option<u64>>(),
        Some(300)
    );
    assert_eq!(end_of(&target, session)["detail"], "closed by the client with code 1000");
}

#[test]
fn after_a_hand_over_the_new_process_knows_why_sessions_of_the_old_one_ended() {
    let settings = [("DRAIN_RECONNECT_SPREAD", "0s"), ("DRAIN_TIMEOUT", "1s")];
    let mut server = Program::serve(ADMIN, &settings);
    let address = server.admin_address();
    let target = ["--address", &*address];
    let (left, earlier) = joined(&server, "/v1/ws");
    left.kill(false);
    assert_eq!(end_of(&target, earlier)["reason"], "connection_lost");
    let (_stays, session) = joined(&server, "/v1/ws");
    server.hand_over();
    assert_eq!(server.wait().code(), Some(0));
    let end = end_of(&target, session);
    assert_eq!((&end["reason"], &end["close_code"]), (&json!("draining"), &json!(1001)), "{end}");
    assert!(end["detail"].as_str().is_some_and(|detail| detail.contains("handed over")), "{end}");
    assert_eq!(end_of(&target, earlier)["reason"], "connection_lost");
    let (_later, later) = joined(&server, "/v1/ws");
    assert!(later > session, "numbers are not given again");
    server.end_successor();
}

#[test]
fn a_reload_bounds_the_journal_anew_and_turns_it_off() {
    let folder =
        TierFolder::new("ends-reload", "[simulate]\n[auth.tier.all]\ntopics = ['>']\n[auth.anonymous]\ntier = 'all'\n");
    let server = folder.serve(&[]);
    let socket = folder.path("admin");
    let target = ["--socket", &*socket];
    let (client, session) = joined(&server, "/v1/ws");
    client.kill(false);
    end_of(&target, session);
    let text = std::fs::read_to_string(folder.path("fanline.toml")).expect("it is there");
    std::fs::write(folder.path("fanline.toml"), format!("[journal]\nends_max = 0\n{text}")).expect("writable");
    folder.order(&["reload"]);
    assert_eq!(ends(&target, &[]), Vec::<Value>::new());
}
