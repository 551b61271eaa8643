//! The built-in profiles and the guess on recorded feeds. The recordings are not part of the project: without them
//! these tests say so and end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use crate::bus::keeping::{Keeping, Note};
use crate::intake::flow::sequence::{Follow, Remedy};
use crate::intake::flow::{Flow, Outflow, Piece};
use crate::wire::encode::Payload;
use crate::words::stamp::Stamp;

use super::{Incoming, Sink, Sorted, Sorter};
use crate::intake::profile::Profile;
use crate::intake::profile::rule::Class;

/// Recordings, the profiles they belong to, and whether they hold no more than the profile knows by heart.
const RECORDED: [(&str, &str); 11] = [
    ("binance-spot", "binance"),
    ("binance-usdm", "binance-usdm"),
    ("bitfinex-v2", "bitfinex-v2"),
    ("bitstamp", "bitstamp"),
    ("coinbase-exchange", "coinbase-exchange"),
    ("deribit", "deribit"),
    ("gemini-v2", "gemini"),
    ("htx", "htx"),
    ("kraken-v1", "kraken-v1"),
    ("kraken-v2", "kraken-v2"),
    ("okx-v5", "okx-v5"),
];
const DOCUMENTED: [(&str, &str); 7] = [
    ("alpaca", "alpaca"),
    ("finnhub", "finnhub"),
    ("polygon-massive", "polygon"),
    ("pyth-hermes", "pyth-hermes"),
    ("tradermade-v1", "tradermade-v1"),
    ("tradermade-v2", "tradermade-v2"),
    ("twelvedata", "twelvedata"),
];

/// One line of a recording.
struct Line {
    conn: String,
    inbound: bool,
    bytes: Vec<u8>,
    binary: bool,
}

/// Where the recordings are; none if there are none here.
fn shared(file: &str) -> Option<String> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = shared.join("feeds").join(file);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("SKIPPED: no recording at {}; set FANLINE_SHARED", path.display());
    }
    text
}

/// What was received and sent, in its order.
fn lines(file: &str) -> Option<Vec<Line>> {
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a recording is JSON lines");
        let inbound = match line["dir"].as_str() {
            Some("in") => true,
            Some("out") => false,
            _ => return None,
        };
        let conn = line["conn"].as_str().unwrap_or_default().to_string();
        match (&line["data"], &line["b64"]) {
            (Value::String(text), _) => Some(Line { conn, inbound, bytes: text.clone().into_bytes(), binary: false }),
            (_, Value::String(text)) => {
                let bytes = BASE64_STANDARD.decode(text).expect("base64");
                Some(Line { conn, inbound, bytes, binary: true })
            }
            _ => panic!("expected `data` or `b64`, found neither"),
        }
    };
    Some(shared(file)?.lines().filter_map(line).collect())
}

fn inbound(feed: &str) -> Option<Vec<Line>> {
    let mut lines = lines(&format!("{feed}/capture.jsonl"))?;
    lines.retain(|line| line.inbound);
    Some(lines)
}
