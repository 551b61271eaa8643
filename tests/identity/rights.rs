//! Every client sees what its rights allow, on every way to it, and nothing else: from the real binary.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kit::eventually;
use kit::http::{Answer, ask};
use kit::program::{Program, run};
use kit::raw_client::RawClient;
use serde_json::{Value, json};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const DELAY_MS: u64 = 2_000;
const TIERS: &str = r#"
[simulate]
rate = 500

[auth]
sources = ["message", "subprotocol", "header", "cookie", "ticket"]
expiry_grace = "0s"

[[auth.issuer]]
issuer = "development"
audience = ["fanline"]
algorithms = ["HS256"]
secret_file = "SECRET"

[auth.tier.pro]
topics = [">"]

[auth.tier.free]
topics = ["quote.>"]
delay = "2s"

[auth.tier.one]
topics = ["quote.AAPL", "trade.BTC-USD"]
"#;
const ANONYMOUS: &str = "[auth.anonymous]\ntier = \"free\"\n";

/// A server with tiers, its folder and its operator.
struct House {
    folder: PathBuf,
    server: Program,
}

impl House {
    fn open(name: &str, anonymous: &str, settings: &[(&str, &str)]) -> House {
        let folder = std::env::temp_dir().join(format!("fanline-rights-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (secret, config) = (folder.join("secret.txt"), folder.join("fanline.toml"));
        std::fs::write(&secret, "a secret of a test, long enough for any hash: 0123456789abcdef").expect("a file");
        let text = TIERS.replace("SECRET", secret.to_str().expect("UTF-8"));
        std::fs::write(&config, text + anonymous).expect("a file");
        let admin = format!("unix:{}", folder.join("admin").display());
        let args = ["--config", config.to_str().expect("UTF-8"), "--admin-listen", &admin];
        let server = Program::serve(&args, settings);
        House { folder, server }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn token(&self, subject: &str, tier: &str, more: &[&str]) -> String {
        let secret = self.path("secret.txt");
        let args = ["token", "--secret-file", &secret, "--sub", subject, "--tier", tier];
        let (status, token, log) = run(&[&args, more].concat(), &[]);
        assert!(status.success(), "{log}");
        token.trim().to_owned()
    }

    fn order(&self, args: &[&str]) {
        let socket = self.path("admin");
        let (status, _, told) = run(&[&["admin", "--socket", &socket], args].concat(), &[]);
        assert!(status.success(), "{args:?}: {told}");
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// A session that has shown its token.
    fn session(&self, token: &str) -> RawClient {
        RawClient::connect(self.addr(), "/v1/ws", &format!("Authorization: Bearer {token}\r\n"))
    }

    /// The answer to a request with these headers.
    fn get(&self, path: &str, headers: &str) -> Answer {
        self.request("GET", path, headers)
    }

    fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let addr = self.addr();
        ask(addr, &format!("{method} {path} HTTP/1.0\r\nHost: {addr}\r\n{headers}\r\n"))
    }

    fn ticket(&self, token: &str, headers: &str) -> String {
        let answer = self.request("POST", "/v1/ticket", &format!("{}{headers}", bearer(token)));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// The first offset that nobody who is delayed may know of.
    fn live_offset(&self) -> u64 {
        let mut socket = UnixStream::connect(self.path("admin")).expect("the operator's listener");
        socket.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a request");
        let mut metrics = String::new();
        socket.read_to_string(&mut metrics).expect("an answer");
        let head = metrics.lines().find_map(|line| line.strip_prefix("fanline_head_offset "));
        head.and_then(|head| head.parse::<f64>().ok()).expect("a number") as u64
    }

    /// Waits until the delayed view shows something.
    fn warm(&self) {
        eventually("the delayed view has values", || {
            let frames = self.get("/v1/snapshot", "").json()["frames"].as_array().map_or(0, Vec::len);
            (frames > 10).then_some(())
        });
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn say(client: &mut RawClient, command: Value) {
    client.command(&command.to_string());
}

/// The next message.
fn next(client: &mut RawClient) -> Value {
    loop {
        match client.next_frame().expect("the server stays") {
            (TEXT, payload) => return serde_json::from_slice(&payload).expect("JSON"),
            (CLOSE, payload) => panic!("expected a message, found the end: {}", String::from_utf8_lossy(&payload)),
            _ => {}
        }
    }
}

/// Reads up to the next message with one of these `op`; each frame before must be allowed.
fn until(client: &mut RawClient, ops: &[&str], allows: impl Fn(&Value) -> bool) -> Value {
    loop {
        let message = next(client);
        match message["op"].as_str() {
            Some(op) if ops.contains(&op) => return message,
            Some(_) => {}
            None => assert!(allows(&message), "not allowed: {message}"),
        }
    }
}

/// Reads so many frames, each of which must be allowed.
fn frames(client: &mut RawClient, count: usize, allows: impl Fn(&Value) -> bool) {
    let mut seen = 0;
    while seen < count {
        let message = next(client);
        if message["op"].is_null() {
            assert!(allows(&message), "not allowed: {message}");
            seen += 1;
        }
    }
}

fn topic(frame: &Value) -> &str {
    frame["topic"].as_str().expect("a topic")
}

fn of_pro(_: &Value) -> bool {
    true
}

fn of_free(frame: &Value) -> bool {
    topic(frame).starts_with("quote.") && frame["ts"].as_u64().expect("a time") + DELAY_MS <= wall_ms()
}

fn of_one(frame: &Value) -> bool {
    ["quote.AAPL", "trade.BTC-USD"].contains(&topic(frame))
}

fn of_trades(frame: &Value) -> bool {
    topic(frame).starts_with("trade.")
}

#[test]
fn everybody_receives_what_he_may_and_nothing_else() {
    let house = House::open("live", ANONYMOUS, &[]);
    house.warm();
    let wanted = json!({"op": "subscribe", "id": 1, "topics": [">", "trade.MSFT"]});
    let trades = house.token("dora", "pro", &["--topic", "trade.*"]);
    let mut clients = [
        (RawClient::connect(house.addr(), "/v1/ws", ""), true, of_free as fn(&Value) -> bool),
        (house.session(&house.token("bob", "pro", &[])), false, of_pro),
        (house.session(&house.token("carol", "one", &[])), true, of_one),
        (house.session(&trades), false, of_trades),
    ];
    // All at once: what is made for one must not be sent to another. Lanes are left and joined again.
    for round in 0..2 {
        for (client, forbids, allows) in &mut clients {
            say(client, wanted.clone());
            let subscribed = until(client, &["subscribed", "error"], *allows);
            let expected = if *forbids { json!(["trade.MSFT"]) } else { Value::Null };
            assert_eq!((&subscribed["id"], &subscribed["forbidden"]), (&json!(1), &expected), "{subscribed}");
        }
        for (client, _, allows) in &mut clients {
            frames(client, 60, *allows);
            if round == 0 {
                say(client, json!({"op": "unsubscribe", "id": 2, "topics": [">"]}));
                until(client, &["unsubscribed"], *allows);
            }
        }
    }
}

#[test]
fn single_answers_are_by_rights_and_by_view_on_all_ways() {
    let house = House::open("single", ANONYMOUS, &[("HTTP_ALLOWED_ORIGINS", "http://a.example,http://b.example")]);
    house.warm();
    let (pro, one) = (house.token("bob", "pro", &[]), house.token("carol", "one", &[]));
    let own = format!("Origin: http://{}\r\n", house.addr());
    // Fast, so that an answer that is kept for a second would be found.
    for round in 0..3 {
        for path in ["/v1/snapshot", "/v1/topics", "/v1/snapshot?topics=%3E", "/v1/snapshot?topics=trade.*,quote.AAPL"]
        {
            let join = if path.contains('?') { "&" } else { "?" };
            let ways = |token: &str| {
                let encoded = URL_SAFE_NO_PAD.encode(token);
                [
                    (path.to_owned(), bearer(token)),
                    (path.to_owned(), format!("Sec-WebSocket-Protocol: fanline.v1, fanline.bearer.{encoded}\r\n")),
                    (path.to_owned(), format!("{own}Cookie: __Host-fanline={token}\r\n")),
                    (format!("{path}{join}ticket={}", house.ticket(token, "")), String::new()),
                ]
            };
            let strange = format!("Cookie: __Host-fanline={pro}\r\n");
            let anonymous = [(path.to_owned(), String::new()), (path.to_owned(), strange)];
            let asked = ways(&pro).map(|way| (way, of_pro as fn(&Value) -> bool, false)).into_iter();
            let asked = asked.chain(ways(&one).map(|way| (way, of_one as fn(&Value) -> bool, false)));
            let asked = asked.chain(anonymous.map(|way| (way, of_free as fn(&Value) -> bool, true)));
            for ((path, headers), allows, is_late) in asked {
                let before = house.live_offset();
                let answer = house.get(&path, &headers);
                assert_eq!(answer.status, 200, "{path} {headers}: {}", answer.body);
                assert_eq!(answer.header("cache-control"), Some("private, no-store"), "{path}");
                assert_eq!(answer.header("etag").is_some(), path.starts_with("/v1/snapshot"), "{path}");
                let body = answer.json();
                let list = if body["topics"].is_array() { &body["topics"] } else { &body["frames"] };
                let list = list.as_array().expect("a list");
                assert!(!list.is_empty() && list.iter().all(allows), "round {round}, {path} {headers}: {body}");
                if is_late {
                    let newest = list.iter().filter_map(|line| line["offset"].as_u64()).max();
                    let offset = body["offset"].as_u64().expect("an offset");
                    assert!(offset < before && newest <= Some(offset), "{offset} of {before}: {path}");
                }
            }
        }
    }
    // The tag of an answer with other rights is not known, even where the values are the same.
    let tagged = house.get("/v1/snapshot?topics=quote.AAPL", &bearer(&pro));
    let tag = format!("If-None-Match: {}\r\n", tagged.header("etag").expect("a tag"));
    let other = house.get("/v1/snapshot?topics=quote.AAPL", &(bearer(&one) + &tag));
    assert_eq!(other.status, 200, "{}", other.body);
    let head = house.request("HEAD", "/v1/snapshot", &bearer(&pro));
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(house.get("/metrics", "").status, 404, "they tell how much happens now");
    for bad in [format!("{pro}x"), "rubbish".to_owned()] {
        let answer = house.get("/v1/snapshot", &bearer(&bad));
        assert_eq!(answer.status, 401, "never as an anonymous client: {}", answer.body);
    }
    let ticket = house.ticket(&pro, "Origin: http://a.example\r\n");
    let shown = |origin: &str| house.get(&format!("/v1/topics?ticket={ticket}"), origin).status;
    assert_eq!(shown("Origin: http://b.example\r\n"), 401, "from another page");
    assert_eq!(shown("Origin: http://a.example\r\n"), 401, "a second time");
}

#[test]
fn a_fresh_token_changes_the_rights_of_its_subject_alone_and_keeps_the_session() {
    let house = House::open("fresh", ANONYMOUS, &[]);
    house.warm();
    let mut client = house.session(&house.token("bob", "pro", &[]));
    say(&mut client, json!({"op": "subscribe", "id": 1, "topics": ["trade.*", "trade.MSFT"]}));
    until(&mut client, &["subscribed"], of_pro);
    frames(&mut client, 20, of_trades);
    say(&mut client, json!({"op": "auth", "id": 2, "token": house.token("eve", "one", &[])}));
    let refused = until(&mut client, &["error", "authenticated"], of_trades);
    assert_eq!((&refused["id"], &refused["code"]), (&json!(2), &json!("unauthenticated")), "{refused}");
    frames(&mut client, 20, of_trades);
    // The command behind it must be judged by the new rights.
    say(&mut client, json!({"op": "auth", "id": 3, "token": house.token("bob", "one", &[])}));
    say(&mut client, json!({"op": "subscribe", "id": 4, "topics": ["quote.MSFT", "quote.AAPL"]}));
    assert_eq!(until(&mut client, &["error", "authenticated"], of_trades)["tier"], "one");
    let left = until(&mut client, &["unsubscribed"], of_one);
    assert_eq!((&left["reason"], &left["forbidden"]), (&json!("forbidden"), &json!(["trade.MSFT"])), "{left}");
    let rights = until(&mut client, &["subscribed"], of_one);
    assert_eq!((&rights["reason"], &rights["topics"]), (&json!("rights"), &json!(["trade.*"])), "{rights}");
    let subscribed = until(&mut client, &["subscribed"], of_one);
    assert_eq!((&subscribed["id"], &subscribed["forbidden"]), (&json!(4), &json!(["quote.MSFT"])), "{subscribed}");
    frames(&mut client, 40, of_one);
    // To the delayed view: what it has may not be shown any more, and nothing comes early.
    say(&mut client, json!({"op": "auth", "id": 5, "token": house.token("bob", "free", &[])}));
    let view = until(&mut client, &["view"], of_one);
    assert_eq!(view["delay_ms"], DELAY_MS, "{view}");
    frames(&mut client, 20, of_free);
}

#[test]
fn nothing_follows_the_end_of_a_token() {
    let house = House::open("end", ANONYMOUS, &[]);
    let token = house.token("bob", "pro", &["--expires", "3s"]);
    let ends_ms = wall_ms() + 3_000;
    let mut client = house.session(&token);
    say(&mut client, json!({"op": "subscribe", "id": 1, "topics": [">"]}));
    let (mut newest_ms, mut warned) = (0, false);
    let code = loop {
        match client.next_frame().expect("a close frame before the end") {
            (CLOSE, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
            (TEXT, payload) => {
                let message: Value = serde_json::from_slice(&payload).expect("JSON");
                warned |= message["op"] == "token_expiring";
                newest_ms = newest_ms.max(message["ts"].as_u64().unwrap_or(0));
            }
            _ => {}
        }
    };
    assert_eq!(code, 4401);
    assert!(warned && newest_ms > 0 && newest_ms < ends_ms, "the newest is of {newest_ms}, the token of {ends_ms}");
    eventually("the token has ended", || (wall_ms() > ends_ms + 1_000).then_some(()));
    // Within `auth.leeway`, but not within `auth.expiry_grace`.
    let mut late = RawClient::connect(house.addr(), "/v1/ws", "");
    say(&mut late, json!({"op": "auth", "id": 1, "token": token}));
    say(&mut late, json!({"op": "subscribe", "id": 2, "topics": [">"]}));
    assert_eq!(until(&mut late, &["error", "authenticated"], |_| false)["code"], "unauthenticated");
    assert_eq!(late.expect_close().0, 4401);
}

#[test]
fn who_is_sent_away_may_come_back_and_who_is_revoked_may_not() {
    let house = House::open("orders", ANONYMOUS, &[]);
    let (bob, eve) = (house.token("bob", "pro", &[]), house.token("eve", "pro", &[]));
    let (mut of_bob, mut of_eve) = (house.session(&bob), house.session(&eve));
    for client in [&mut of_bob, &mut of_eve] {
        say(client, json!({"op": "subscribe", "id": 1, "topics": [">"]}));
        frames(client, 20, of_pro);
    }
    let ticket = house.ticket(&eve, "");
    house.order(&["disconnect", "--sub", "bob"]);
    assert_eq!(of_bob.expect_close().0, 4412);
    house.order(&["revoke", "--sub", "eve"]);
    assert_eq!(of_eve.expect_close().0, 4503);
    assert_eq!(until(&mut house.session(&bob), &["authenticated", "error"], of_pro)["op"], "authenticated");
    let mut again = house.session(&eve);
    assert_eq!(until(&mut again, &["authenticated", "error"], |_| false)["code"], "forbidden");
    assert_eq!(again.expect_close().0, 4503);
    assert_eq!(house.get("/v1/snapshot", &bearer(&eve)).status, 403);
    assert_eq!(house.get(&format!("/v1/snapshot?ticket={ticket}"), "").status, 403, "as its token");
    assert_eq!(house.request("POST", "/v1/ticket", &bearer(&eve)).status, 403);
}

#[test]
fn a_client_without_a_credential_learns_nothing_and_no_token_is_logged() {
    let house = House::open("required", "", &[("LOG_LEVEL", "trace")]);
    let token = house.token("bob", "pro", &[]);
    frames_of_feed(&house, &token);
    // Whether a cursor is still to come would tell how much happens.
    let mut client = RawClient::connect(house.addr(), "/v1/ws", "");
    let welcome = until(&mut client, &["welcome"], |_| false);
    assert_eq!(welcome["offset"], 0, "{welcome}");
    let epoch = welcome["epoch"].as_str().expect("an epoch");
    for offset in [1, u64::MAX / 2] {
        let path = format!("/v1/ws?topics=%3E&since={epoch}:{offset}");
        let mut guess = RawClient::connect(house.addr(), &path, "");
        say(&mut guess, json!({"op": "subscribe", "id": 1, "topics": [">"]}));
        let refused = until(&mut guess, &["subscribed", "error"], |_| false);
        assert_eq!((&refused["id"], &refused["code"]), (&json!(1), &json!("unauthenticated")), "{refused}");
    }
    for path in ["/v1/snapshot", "/v1/topics"] {
        let answer = house.get(path, "");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{}", answer.body);
    }
    assert_eq!(house.get("/metrics", "").status, 404);
    let in_url = house.get(&format!("/v1/snapshot?access_token={token}"), "");
    assert_eq!((in_url.status, &in_url.json()["code"]), (400, &json!("token_in_url")));
    let ticket = house.ticket(&token, "");
    assert_eq!(house.get(&format!("/v1/topics?ticket={ticket}"), "").status, 200);
    let forged = format!("{token}x");
    assert_eq!(house.get("/v1/topics", &bearer(&forged)).status, 401);
    let signature = token.rsplit('.').next().expect("three parts");
    let log = house.server.log();
    assert!(log.contains("INFO"), "expected a log, found {} bytes", log.len());
    assert!(!log.contains(signature) && !log.contains(&ticket) && !in_url.body.contains(signature), "a token is told");
}

#[test]
fn a_way_that_the_operator_closes_is_closed() {
    let house = House::open("closed", ANONYMOUS, &[("AUTH_SOURCES", "header")]);
    let token = house.token("bob", "pro", &[]);
    frames_of_feed(&house, &token);
    let mut client = RawClient::connect(house.addr(), "/v1/ws", "");
    say(&mut client, json!({"op": "auth", "id": 1, "token": token}));
    assert_eq!(until(&mut client, &["error", "authenticated"], of_free)["code"], "bad_request");
    let encoded = format!("Sec-WebSocket-Protocol: fanline.bearer.{}\r\n", URL_SAFE_NO_PAD.encode(&token));
    let mut offering = RawClient::connect(house.addr(), "/v1/ws", &encoded);
    say(&mut offering, json!({"op": "subscribe", "id": 2, "topics": ["trade.*"]}));
    assert_eq!(until(&mut offering, &["subscribed"], of_free)["forbidden"], json!(["trade.*"]));
    assert_eq!(house.request("POST", "/v1/ticket", &bearer(&token)).status, 401);
}

/// Reads some frames, so that the feed is there.
fn frames_of_feed(house: &House, token: &str) {
    let mut client = house.session(token);
    say(&mut client, json!({"op": "subscribe", "id": 1, "topics": [">"]}));
    frames(&mut client, 50, of_pro);
}
