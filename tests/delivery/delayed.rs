//! A client of a delayed tier is shown nothing earlier than it may see it, on any path, and is told how late it is.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use kit::client::Client;
use kit::program::{Program, run};
use serde_json::{Value, json};

const DELAY_MS: u64 = 2_000;
/// View 1 is the anonymous one; view 2 shows trades live.
const TIERS: &str = r#"
[simulate]
rate = 500

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

[auth.tier.mixed]
topics = [{ pattern = "trade.>" }, { pattern = "quote.>", delay = "2s" }]

[auth.anonymous]
tier = "free"
"#;

/// A folder with a configuration and a secret; gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("fanline-delayed-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (secret, config) = (folder.join("secret.txt"), folder.join("fanline.toml"));
        std::fs::write(&secret, "a secret of a test, long enough for any hash: 0123456789abcdef").expect("a file");
        let text = TIERS.replace("SECRET", secret.to_str().expect("UTF-8"));
        std::fs::write(&config, text).expect("a file");
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn serve(&self) -> Program {
        Program::serve(&["--config", &self.path("fanline.toml")], &[])
    }

    fn token(&self, tier: &str) -> String {
        let secret = self.path("secret.txt");
        let args = ["token", "--secret-file", &secret, "--sub", "alice", "--tier", tier, "--expires", "1h"];
        let (status, token, log) = run(&args, &[]);
        assert!(status.success(), "{log}");
        token.trim().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Reads until so many frames have come; checks that each is as old as `delay_of` its topic says. Returns the other
/// messages, and the last frame.
async fn frames(client: &mut Client, count: usize, delay_of: impl Fn(&str) -> u64) -> (Vec<Value>, Value) {
    let (mut others, mut last, mut seen) = (Vec::new(), Value::Null, 0);
    while seen < count {
        let message: Value = serde_json::from_str(&client.text().await).expect("JSON");
        if message.get("op").is_some() {
            others.push(message);
            continue;
        }
        check_age(&message, &delay_of);
        seen += 1;
        last = message;
    }
    (others, last)
}

/// Reads up to the next message with this `op`; checks the frames before it.
async fn until_op(client: &mut Client, op: &str, delay_of: impl Fn(&str) -> u64) -> Value {
    loop {
        let message: Value = serde_json::from_str(&client.text().await).expect("JSON");
        match message["op"].as_str() {
            Some(found) if found == op => return message,
            Some(found) => assert_ne!(found, "error", "{message}"),
            None => check_age(&message, &delay_of),
        }
    }
}

/// The frame is as old as `delay_of` its topic says.
fn check_age(frame: &Value, delay_of: impl Fn(&str) -> u64) {
    let (topic, ts) = (frame["topic"].as_str().expect("a topic"), frame["ts"].as_u64().expect("a time"));
    let age_ms = wall_ms().saturating_sub(ts);
    assert!(age_ms >= delay_of(topic), "{topic} after {age_ms} ms: {frame}");
}

fn delayed(_topic: &str) -> u64 {
    DELAY_MS
}

fn live(_topic: &str) -> u64 {
    0
}

async fn authenticate(client: &mut Client, token: &str, delay_of: impl Fn(&str) -> u64) -> Value {
    client.command(json!({"op": "auth", "id": 7, "token": token})).await;
    until_op(client, "authenticated", delay_of).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_delayed_client_can_ask_for_is_newer_than_it_may_be() {
    let folder = Folder::new("paths");
    let server = folder.serve();
    // At the start there is nothing for it, and it is told why.
    let mut early = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    let welcome = early.expect_op("welcome").await;
    assert_eq!(welcome["delay_ms"], DELAY_MS, "{welcome}");
    let subscribed = early.expect_op("subscribed").await;
    assert_eq!(subscribed["delay_ms"], DELAY_MS, "{subscribed}");
    let (others, _) = frames(&mut early, 500, delayed).await;
    let stale: Vec<&Value> = others.iter().filter(|message| message["op"] == "stale").collect();
    assert_eq!(stale.iter().map(|message| &message["reason"]).collect::<Vec<_>>(), ["delay_warming"], "{others:?}");
    assert!(others.iter().any(|message| message["op"] == "live"), "{others:?}");

    // One that joins now gets the values of then, and the same epoch as everybody.
    let mut late = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    let welcome = late.expect_op("welcome").await;
    frames(&mut late, 200, delayed).await;

    // A cursor of the live log means nothing to it, and it is not told how far that log is.
    let since = format!("{}:{}", welcome["epoch"].as_str().expect("an epoch"), u64::MAX / 2);
    let mut ahead = Client::connect(&server.ws(&format!("/v1/ws?topics=quote.*&since={since}"))).await;
    assert_eq!(until_op(&mut ahead, "skipped", delayed).await["reason"], "delayed");
    frames(&mut ahead, 100, delayed).await;

    for path in ["/v1/snapshot?topics=quote.*", "/v1/topics?topics=quote.*", "/v1/poll?topics=quote.*"] {
        let answer = server.get(path).json();
        assert_eq!(answer["delay_ms"], DELAY_MS, "{path}: {answer}");
        let lines = answer.get("frames").or(answer.get("topics")).and_then(Value::as_array).expect("an array");
        assert!(!lines.is_empty(), "{path}: {answer}");
        lines.iter().for_each(|line| check_age(line, delayed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_moves_a_client_to_the_view_of_its_tier_and_back() {
    let folder = Folder::new("moves");
    let server = folder.serve();
    let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    let (_, last) = frames(&mut client, 100, delayed).await;

    let authenticated = authenticate(&mut client, &folder.token("pro"), delayed).await;
    assert!(authenticated.get("delay_ms").is_none(), "{authenticated}");
    let view = until_op(&mut client, "view", live).await;
    assert!(view.get("delay_ms").is_none() && view["offset"].as_u64() > last["offset"].as_u64(), "{view}");
    // It continues behind what it has: the ring holds two seconds.
    let (others, first) = frames(&mut client, 1, live).await;
    assert!(first["offset"].as_u64() > last["offset"].as_u64());
    assert!(others.iter().all(|message| message["op"] != "skipped"), "{others:?}");
    eventually_live(&mut client).await;

    let authenticated = authenticate(&mut client, &folder.token("free"), live).await;
    assert_eq!(authenticated["delay_ms"], DELAY_MS);
    let view = until_op(&mut client, "view", live).await;
    assert_eq!(view["delay_ms"], DELAY_MS);
    let (others, _) = frames(&mut client, 300, delayed).await;
    let skipped = others.iter().find(|message| message["op"] == "skipped").expect("it starts anew");
    assert_eq!(skipped["reason"], "delayed");

    authenticate(&mut client, &folder.token("mixed"), delayed).await;
    let view = until_op(&mut client, "view", live).await;
    assert_eq!(view["delay_ms"], json!({"trade.>": 0, "quote.>": DELAY_MS}));
    client.command(json!({"op": "subscribe", "id": 8, "topics": ["trade.*"]})).await;
    let mixed = |topic: &str| if topic.starts_with("trade.") { 0 } else { DELAY_MS };
    frames(&mut client, 500, mixed).await;
}

/// Waits for a frame that no delayed client would have been sent.
async fn eventually_live(client: &mut Client) {
    for _ in 0..100_000 {
        let (_, frame) = frames(client, 1, live).await;
        if wall_ms().saturating_sub(frame["ts"].as_u64().expect("a time")) < DELAY_MS / 2 {
            return;
        }
    }
    panic!("expected live frames, found old ones only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_leaks_nothing_to_delayed_clients() {
    let folder = Folder::new("restart");
    let server = folder.serve();
    let mut pro = Client::connect(&server.ws("/v1/ws")).await;
    authenticate(&mut pro, &folder.token("pro"), delayed).await;
    pro.command(json!({"op": "subscribe", "id": 1, "topics": ["quote.*"]})).await;
    frames(&mut pro, 1000, live).await;
    drop(server);

    let server = folder.serve();
    let mut pro = Client::connect(&server.ws("/v1/ws")).await;
    authenticate(&mut pro, &folder.token("pro"), delayed).await;
    pro.command(json!({"op": "subscribe", "id": 1, "topics": ["quote.*"]})).await;
    frames(&mut pro, 50, live).await;
    let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    frames(&mut client, 300, delayed).await;
}
