//! The official client of Coinbase.

use kit::DEADLINE;
use kit::program::Program;
use kit::relay::Relay;

use super::venue_client::{ClientHome, VenueClient};
use super::venue_file::{put_line, written};

pub const ITEMS: [&str; 3] = ["ticker.BTC-USD", "market_trades.BTC-USD", "level2.BTC-USD"];
/// Messages of each channel.
pub const EACH: usize = 200;

const CLIENT: VenueClient = VenueClient {
    name: "coinbase",
    home: ClientHome::Python("coinbase"),
    profile: "coinbase-advanced",
    items: &ITEMS,
    speed: "max",
};

#[test]
fn the_official_client_of_coinbase_sees_through_fanline_what_it_sees_at_the_venue() {
    let written = written("coinbase", &messages(2));
    // A message has two trades.
    CLIENT.compare(&written, EACH * (ITEMS.len() + 1));
    CLIENT.survive_a_loss(&written, "0.05");
}

#[test]
fn heartbeats_come_to_clients_of_coinbase_that_have_asked_for_them() {
    let venue = Program::replay(&written("coinbase-heartbeats", &messages(1)), &["--loop"]);
    let gate = Relay::shut();
    gate.open(venue.addr());
    let server = CLIENT.serve(&gate.ws("/"));
    let all = VenueClient { items: &["heartbeats"], ..CLIENT };
    let Some(mut client) = all.start(&server.ws("/")) else { return };
    let mut next = || loop {
        let line = client.line(DEADLINE).expect("a heartbeat in time");
        if let Some(number) = line.strip_prefix("heartbeat ") {
            return number.parse::<u64>().expect("a number");
        }
    };
    let first = next();
    assert_eq!([next(), next()], [first + 1, first + 2]);
}

/// As documented. Numbers count the messages of a connection.
pub fn messages(trades: u64) -> String {
    let mut lines = String::new();
    let mut sequence = 0;
    let mut put = |t_ms: u64, channel: &str, events: &str| {
        let message = format!(
            r#"{{"channel":"{channel}","client_id":"","timestamp":"2023-02-09T20:30:37.167359596Z","sequence_num":{sequence},"events":[{events}]}}"#
        );
        sequence += 1;
        put_line(&mut lines, t_ms, &message);
    };
    for number in 0..EACH as u64 {
        let t_ms = number * 8;
        let ticker = format!(
            r#"{{"type":"update","tickers":[{{"type":"ticker","product_id":"BTC-USD","price":"21932.{number}","volume_24_h":"16038.28770938","low_24_h":"21835.29","high_24_h":"23011.18","low_52_w":"15460","high_52_w":"48240","price_percent_chg_24_h":"-4.15775596190603","best_bid":"21931.98","best_bid_quantity":"8000.21","best_ask":"21933.98","best_ask_quantity":"8038.07"}}]}}"#
        );
        let trade = |id: u64| {
            format!(
                r#"{{"trade_id":"{id}","product_id":"BTC-USD","price":"1260.{number}","size":"0.3","side":"BUY","time":"2019-08-14T20:42:27.265Z"}}"#
            )
        };
        // Newest first, as the venue sends them.
        let some: Vec<String> = (0..trades).rev().map(|place| trade(number * 2 + place)).collect();
        let trades = format!(r#"{{"type":"update","trades":[{}]}}"#, some.join(","));
        let kind = if number == 0 { "snapshot" } else { "update" };
        let update = |side: &str, price: u64, size: u64| {
            format!(
                r#"{{"side":"{side}","event_time":"1970-01-01T00:00:00Z","price_level":"{price}.73","new_quantity":"0.{size}"}}"#
            )
        };
        let updates =
            [update("bid", 21_921 - number % 7, number % 5), update("offer", 21_930 + number % 7, number % 5)];
        let book = format!(r#"{{"type":"{kind}","product_id":"BTC-USD","updates":[{}]}}"#, updates.join(","));
        put(t_ms, "ticker", &ticker);
        put(t_ms + 2, "market_trades", &trades);
        put(t_ms + 4, "l2_data", &book);
        if number % 50 == 0 {
            let beat = format!(
                r#"{{"current_time":"2023-06-23 20:31:56.121961769 +0000 UTC m=+91717.525857105","heartbeat_counter":{number}}}"#
            );
            put(t_ms + 6, "heartbeats", &beat);
        }
    }
    lines
}
