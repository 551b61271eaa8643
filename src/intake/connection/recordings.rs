//! Messages to venues, compared with those that the recorders of the feeds sent. The recordings are not part of the
//! project: without them this test says so and ends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::intake::recorded::capture;
use crate::profile::Profile;
use crate::profile::secrets::Secrets;
use crate::words::stamp::Stamp;

use crate::intake::connection::protocol::{Protocol, ProtocolAction};
use crate::intake::connection::protocol_config::{ProtocolConfig, Timing};

/// The recorder's messages; none if there are no recordings here.
fn recorded(feed: &str) -> Option<Vec<Value>> {
    let said = |line: Value| {
        let text = line["data"].as_str().filter(|_| line["dir"] == "out")?;
        Some(serde_json::from_str(text).expect("recorders send JSON"))
    };
    Some(capture(feed)?.into_iter().filter_map(said).collect())
}

/// A profile's messages on a connection that subscribes to these items.
fn said(profile: &str, items: &[String]) -> Vec<Value> {
    let profile = Profile::built_in(profile).expect("built in");
    let timing = Timing { idle_timeout: None, ws_ping: None, pong_timeout: Duration::from_secs(1) };
    let config = Arc::new(ProtocolConfig::new(&profile, timing, Secrets::default()));
    let subscribe = profile.subscribe.as_ref().expect("a section");
    let items: Vec<_> = items.iter().map(|item| Arc::new(subscribe.item(item))).collect();
    let at = |s: u64| Stamp { wall_ms: s * 1000, mono_ns: s * 1_000_000_000 };
    let mut protocol = Protocol::open((config, Arc::default()), &items, at(0));
    let mut said = Vec::new();
    // Long enough for the slowest rate, and shorter than any heartbeat's.
    for now in (0..5).map(at) {
        protocol.received(now);
        while let Some(step) = protocol.next(now, &|_| None) {
            match step {
                ProtocolAction::Send(text) => said.push(serde_json::from_str(&text).expect("JSON")),
                other => panic!("expected nothing but messages, found {other:?}"),
            }
        }
    }
    said
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_string()
}

/// `CHANNEL.SYMBOL` for each symbol of a list.
fn each(channel: &str, symbols: &Value) -> Vec<String> {
    let symbols = symbols.as_array().expect("a list").iter();
    symbols
        .map(|symbol| if channel.is_empty() { text(symbol) } else { format!("{channel}.{}", text(symbol)) })
        .collect()
}

fn without(mut message: Value, member: &str) -> Value {
    message.as_object_mut().expect("an object").remove(member);
    message
}

/// A feed, its profile, the items of a recorded message, and which of our messages are compared: all but known
/// differences.
type Row = (&'static str, &'static str, fn(&Value) -> Vec<String>, fn(Value) -> Option<Value>);

const ROWS: [Row; 8] = [
    // `level2` itself is for signed subscriptions only.
    (
        "coinbase-exchange",
        "coinbase-exchange",
        |message| each(&text(&message["channels"][0]), &message["product_ids"]),
        |ours| serde_json::from_str(&ours.to_string().replace("level2_batch", "level2")).ok(),
    ),
    // Ours are numbered.
    (
        "kraken-v1",
        "kraken-v1",
        |message| {
            let what = &message["subscription"];
            let depth = what["depth"].as_u64().map(|depth| format!("-{depth}")).unwrap_or_default();
            each(&(text(&what["name"]) + &depth), &message["pair"])
        },
        |ours| Some(without(ours, "reqid")),
    ),
    ("bitstamp", "bitstamp", |message| vec![text(&message["data"]["channel"])], Some),
    (
        "okx-v5",
        "okx-v5",
        |message| {
            let items = message["args"].as_array().expect("a list").iter();
            items.map(|item| format!("{}.{}", text(&item["channel"]), text(&item["instId"]))).collect()
        },
        Some,
    ),
    (
        "bitfinex-v2",
        "bitfinex-v2",
        |message| {
            let item = message.get("symbol").map(|symbol| format!("{}.{}", text(&message["channel"]), text(symbol)));
            item.into_iter().collect()
        },
        Some,
    ),
    (
        "gemini-v2",
        "gemini",
        |message| {
            let what = &message["subscriptions"][0];
            each(&text(&what["name"]), &what["symbols"])
        },
        Some,
    ),
    // Ours requests heartbeats first, so the numbers differ.
    (
        "deribit",
        "deribit",
        |message| each("", &message["params"]["channels"]),
        |ours| Some(without(ours, "id")).filter(|ours| ours["method"] != "public/set_heartbeat"),
    ),
    ("htx", "htx", |message| vec![text(&message["sub"])], Some),
];

#[test]
fn subscriptions_equal_those_of_the_recorders() {
    for (feed, profile, items, compared) in ROWS {
        let Some(mut theirs) = recorded(feed) else { continue };
        assert!(!theirs.is_empty(), "{feed}");
        match feed {
            // Each message repeats the ones before it.
            "okx-v5" => theirs = theirs.split_off(theirs.len() - 1),
            // Answers to pings are left out; `classify` checks them.
            "htx" => theirs.retain(|message| message.get("sub").is_some()),
            "deribit" => theirs = theirs.into_iter().map(|message| without(message, "id")).collect(),
            _ => {}
        }
        let items: Vec<String> = theirs.iter().flat_map(items).collect();
        let ours: Vec<Value> = said(profile, &items).into_iter().filter_map(compared).collect();
        assert_eq!(ours, theirs, "{feed}: {} items", items.len());
    }
}
