//! A venue that misbehaves in every way that venues are known to: nothing that came is lost, nothing untrue is
//! reported, and what cannot be mended is said.

mod acks;
mod branches;
mod endings;
mod gaps;
mod keepalive;
mod messages;
mod opening;
mod requests;
mod snapshots;
mod tokens;

use std::path::Path;
use std::time::Duration;

use fanline::bus::feed_state::StaleReason;
use hmac::{Hmac, KeyInit, Mac};
use kit::client::Client;
use kit::eventually;
use kit::program::{Program, run};
use kit::scripted_feed::{Caller, IntakeHarness, ScriptedFeed};
use serde_json::{Value, json};

/// Items are topics; requests have numbers and are answered by them.
const NUMBERED: &str = r#"
profile = 1
name = "numbered"
[keepalive]
idle_timeout = "none"
[subscribe]
send = '{"sub":${items|json},"id":${req}}'
unsubscribe = '{"unsub":${items|json},"id":${req}}'
ack = { per = "request", id = "/id", message = "/why", timeout = "300ms" }
[[on]]
name = "nack"
as = "nack"
when = ['/ok == false']
[[on]]
name = "ack"
as = "ack"
when = ['/ok == true']
[[on]]
name = "heartbeat"
as = "heartbeat"
when = ['/beat exists']
"#;

const PRICES: &str = r#"
[[on]]
name = "price"
as = "data"
topic = "${/t}"
"#;

fn numbered() -> String {
    format!("{NUMBERED}{PRICES}")
}

fn price(topic: &str, n: u32) -> String {
    format!(r#"{{"t":"{topic}","n":{n}}}"#)
}

fn frame(topic: &str, n: u32) -> (String, String) {
    (topic.to_string(), price(topic, n))
}

/// All that clients receive about a topic that does not come.
const NOT_SENT: &str = "the feed does not send this topic";
const NOT_ANSWERED: &str = "the feed has not answered the subscription to this topic";

const REFUSED: &str = "fanline_upstream_refused_total";

const CONNECTED_ONCE: &str = "fanline_upstream_connects_total 1";

const LOGIN: &str = r#"
profile = 1
name = "club"
[login]
after = "hello"
send = '{"login":"me"}'
ok = "welcome"
timeout = "5s"
[subscribe]
after = "welcome"
send = '{"sub":${items|json}}'
[[on]]
name = "hello"
as = "greeting"
when = ['text ^= "HELLO"']
[[on]]
name = "welcome"
as = "auth_ok"
when = ['/login == "ok"']
[[on]]
name = "turned_away"
as = "fatal"
when = ['/login exists']
"#;

/// A profile as a file, whose path is given.
fn file(name: &str, profile: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstream_misbehaviour");
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, profile).expect("a file for the test");
    path.to_str().expect("a path in UTF-8").to_string()
}

/// Bitfinex-like: subscribes, and gives ticker and trades the numbers of `ids`.
async fn grant(caller: &mut Caller, ids: [u32; 2]) {
    assert_eq!(caller.hear_json().await["event"], "conf");
    for _ in 0..2 {
        let request = caller.hear_json().await;
        let (channel, symbol) = (request["channel"].as_str().expect("a name"), &request["symbol"]);
        let id = ids[usize::from(channel == "trades")];
        let ack = json!({"event": "subscribed", "channel": channel, "symbol": symbol, "chanId": id});
        caller.say(ack.to_string()).await;
    }
}

/// Asks until `/readyz` says this, and gives its whole answer.
fn until_ready_says(server: &Program, part: &str) -> Value {
    eventually(part, || Some(server.get("/readyz").json()).filter(|ready| ready.to_string().contains(part)))
}
