//! Clients of Binance.

use std::path::Path;

use kit::tape::capture;
use serde_json::Value;

use super::venue_client::{ClientHome, VenueClient};
use super::venue_file::{put_line, written};

/// Streams that the clients ask for; the feed has more.
pub const STREAMS: [&str; 6] = [
    "btcusdt@trade",
    "btcusdt@bookTicker",
    "btcusdt@depth@100ms",
    "ethusdt@trade",
    "ethusdt@bookTicker",
    "ethusdt@depth@100ms",
];

const fn of_binance(name: &'static str) -> VenueClient {
    VenueClient { name, home: ClientHome::Python("venues"), profile: "binance", items: &STREAMS, speed: "max" }
}

#[test]
fn python_binance_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = of_binance("python-binance");
    let written = written("binance-python", &messages());
    client.compare(&written, events_of(&written).len());
    client.survive_a_loss(&written, "0.1");
    if let Some(recording) = capture("binance-spot") {
        client.compare(&recording, events_of(&recording).len());
    }
}

#[test]
fn unicorn_binance_websocket_api_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = of_binance("unicorn");
    let written = written("binance-unicorn", &messages());
    client.compare(&written, events_of(&written).len());
    client.survive_a_loss(&written, "0.1");
}

#[test]
fn the_official_client_of_binance_sees_through_fanline_what_it_sees_at_the_venue() {
    let written = written("binance-sdk", &messages());
    // It throws away what comes before it has asked, as all of a replay does.
    let client = of_binance("binance-sdk");
    client.see(&written, &events_of(&written));
    // No end of a connection brings it back, whatever the code: only the message before it does.
    client.survive_a_loss(&written, "0.1");
}

/// Events of the streams in a file, as clients print them.
fn events_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a sound line"));
    let messages = lines.filter(|line| line["dir"] == "in").filter_map(|line| {
        let message: Value = serde_json::from_str(line["data"].as_str()?).ok()?;
        is_asked_for(&message).then(|| message.to_string())
    });
    messages.collect()
}

pub fn is_asked_for(message: &Value) -> bool {
    message["stream"].as_str().is_some_and(|stream| STREAMS.contains(&stream))
}

/// Numbers follow each other as at the venue, and further streams are among them.
pub fn messages() -> String {
    let mut lines = String::new();
    for number in 0..600_u64 {
        let symbol = ["btcusdt", "ethusdt", "bnbusdt"][number as usize % 3];
        let upper = symbol.to_uppercase();
        let (first, last) = (number / 3 * 5 + 1, number / 3 * 5 + 5);
        let trade = format!(r#"{{"e":"trade","s":"{upper}","t":{number},"p":"{number}.50000000","q":"1.0"}}"#);
        let ticker = format!(r#"{{"u":{last},"s":"{upper}","b":"{number}.1","B":"1.0","a":"{number}.2","A":"2"}}"#);
        let depth =
            format!(r#"{{"e":"depthUpdate","s":"{upper}","U":{first},"u":{last},"b":[["{number}.1","0.0"]],"a":[]}}"#);
        for (place, (kind, data)) in
            [("trade", trade), ("bookTicker", ticker), ("depth@100ms", depth)].iter().enumerate()
        {
            let t_ms = (number * 3 + place as u64) * 2;
            put_line(&mut lines, t_ms, &format!(r#"{{"stream":"{symbol}@{kind}","data":{data}}}"#));
        }
    }
    lines
}
