//! ccxt.pro, which is large: `make stock-clients` installs it and runs these tests.

use std::path::{Path, PathBuf};

use kit::tape::capture;
use serde_json::Value;

use super::binance;
use super::coinbase;
use super::others::{BYBIT_EACH, BYBIT_TOPICS, bybit_messages};
use super::venue_client::{ClientHome, VenueClient};
use super::venue_file::{part_of, written};

const fn ccxt(name: &'static str, profile: &'static str, items: &'static [&'static str]) -> VenueClient {
    VenueClient { name, home: ClientHome::Python("ccxt"), profile, items, speed: "max" }
}

/// What it sees of a recording at the venue, which sends only what was asked for, and through fanline.
/// Gives what was asked for.
fn compare_recorded(client: &VenueClient, feed: &str, is_asked_for: impl FnMut(&Value) -> bool) -> Option<PathBuf> {
    let recording = capture(feed)?;
    let (part, count) = part_of(client.name, &recording, &[], is_asked_for);
    client.compare_with(&part, &recording, count);
    Some(part)
}

/// Its order books begin when the venue has answered, with a snapshot over HTTP, which fits the first change.
#[test]
#[ignore = "needs ccxt: make stock-clients"]
fn ccxt_sees_through_fanline_what_it_sees_at_binance() {
    let client = ccxt("ccxt-binance", "binance", &binance::STREAMS);
    let written = written("ccxt-binance", &binance::messages());
    let granted = r#"{"result":null,"id":1}"#;
    let asked = |file: &Path, name: &str| part_of(name, file, &[granted], binance::is_asked_for);
    let (part, count) = asked(&written, "ccxt-binance-asked");
    client.compare_with(&part, &written, count);
    client.survive_a_loss(&written, "0.05");
    let Some(recording) = capture("binance-spot") else { return };
    let client = ccxt("ccxt-binance", "binance", &["btcusdt@trade", "btcusdt@bookTicker", "ethusdt@trade"]);
    let is_asked = |message: &Value| message["stream"].as_str().is_some_and(|stream| client.items.contains(&stream));
    let (part, count) = part_of("ccxt-binance-recorded", &recording, &[granted], is_asked);
    client.compare_with(&part, &recording, count);
}

#[test]
#[ignore = "needs ccxt: make stock-clients"]
fn ccxt_sees_through_fanline_what_it_sees_at_kraken() {
    let client = ccxt("ccxt-kraken", "kraken-v2", &["book.BTC/USD"]);
    let Some(recording) = capture("kraken-v2") else { return };
    // Further on it has books of 25 levels, whose checksums are not those of the 10 that are asked for.
    let mut has_ten = false;
    let (part, count) = part_of(client.name, &recording, &[], |message| {
        let book = &message["data"][0];
        if message["channel"] != "book" || book["symbol"] != "BTC/USD" {
            return false;
        }
        if message["type"] == "snapshot" {
            has_ten = book["bids"].as_array().is_some_and(|levels| levels.len() == 10);
        }
        has_ten
    });
    client.compare(&part, count);
    client.stay_through_a_loss(&part);
}

#[test]
#[ignore = "needs ccxt: make stock-clients"]
fn ccxt_sees_through_fanline_what_it_sees_at_okx() {
    let client = ccxt("ccxt-okx", "okx-v5", &["trades.BTC-USDT", "tickers.BTC-USDT", "books.BTC-USDT"]);
    let part = compare_recorded(&client, "okx-v5", |message| {
        message["arg"]["instId"] == "BTC-USDT" && message["data"].is_array()
    });
    if let Some(part) = part {
        client.survive_a_loss(&part, "1");
    }
}

#[test]
#[ignore = "needs ccxt: make stock-clients"]
fn ccxt_sees_through_fanline_what_it_sees_at_bybit() {
    let client = ccxt("ccxt-bybit", "bybit-v5", &BYBIT_TOPICS);
    let written = written("ccxt-bybit", &bybit_messages());
    client.compare(&written, BYBIT_TOPICS.len() * BYBIT_EACH);
    client.survive_a_loss(&written, "0.05");
}

#[test]
#[ignore = "needs ccxt: make stock-clients"]
fn ccxt_sees_through_fanline_what_it_sees_at_coinbase() {
    let client = ccxt("ccxt-coinbase", "coinbase-advanced", &coinbase::ITEMS);
    let written = written("ccxt-coinbase", &coinbase::messages(1));
    client.compare(&written, coinbase::ITEMS.len() * coinbase::EACH);
    client.survive_a_loss(&written, "0.05");
}

#[test]
#[ignore = "needs ccxt: make stock-clients"]
fn ccxt_sees_through_fanline_what_it_sees_at_coinbase_exchange() {
    let client =
        ccxt("ccxt-coinbaseexchange", "coinbase-exchange", &["matches.SKL-USD", "ticker.SKL-USD", "level2.SKL-USD"]);
    let part = compare_recorded(&client, "coinbase-exchange", |message| {
        message["product_id"] == "SKL-USD" && message["type"] != "last_match"
    });
    if let Some(part) = part {
        client.survive_a_loss(&part, "1");
    }
}
