//! Clients of Massive, Kraken, Bybit and OKX.

use kit::certificate;
use kit::program::Program;
use kit::relay::Relay;
use kit::stock_client::StockClient;
use kit::subscriber::PATIENT;
use kit::tape::capture;
use kit::tls_server::TlsServer;
use serde_json::{Value, json};

use super::venue_client::{ClientHome, DEMAND, VenueClient, take};
use super::venue_file::{part_of, put_line, written};

const VENUES: ClientHome = ClientHome::Python("venues");

#[test]
fn the_client_of_massive_sees_through_fanline_what_it_sees_at_the_venue() {
    let items = &["T.AAPL", "Q.AAPL", "T.BRK.B"];
    let client = VenueClient { name: "massive", home: VENUES, profile: "polygon", items, speed: "max" };
    let written = written("massive", &massive_messages());
    client.compare(&written, 3 * 200);
    client.come_back_after_a_loss(&written, "0.1");
}

/// It checks every book against the venue's checksum.
#[test]
fn the_client_of_kraken_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = VenueClient { name: "kraken", home: VENUES, profile: "kraken-v2", items: &["BTC/USD"], speed: "4" };
    let Some(recording) = capture("kraken-v2") else { return };
    // Up to where the recording begins anew.
    client.compare(&recording, 13);
    client.stay_through_a_loss(&recording);
    // One that joins later begins with a whole book, which is right at every change.
    let venue = Program::replay(&recording, &["--speed", "4", "--loop"]);
    let server = client.serve(&venue.ws("/v2"));
    let Some(mut first) = client.start(&server.ws("/")) else { return };
    take(&mut first, 20);
    let mut late = client.start(&server.ws("/")).expect("it is there");
    let events = take(&mut late, 20);
    let message = |event: &String| serde_json::from_str::<Value>(event).expect("JSON")["data"]["message"].clone();
    assert_eq!(message(&events[0])["type"], "snapshot");
    assert!(events.iter().all(|event| message(event)["error"].is_null()), "a wrong book: {events:?}");
}

/// It ends at a change before the snapshot.
#[test]
fn the_official_client_of_bybit_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = VenueClient { name: "pybit", home: VENUES, profile: "bybit-v5", items: &BYBIT_TOPICS, speed: "max" };
    let written = written("bybit", &bybit_messages());
    // It knows no topic before it has asked for it.
    client.compare_with_patient(&written, &written, (BYBIT_TOPICS.len(), BYBIT_TOPICS.len() * BYBIT_EACH));
    client.survive_a_loss(&written, "0.1");
}

/// It takes no URL without TLS.
#[test]
fn the_official_client_of_okx_sees_through_fanline_what_the_venue_sends() {
    let items = &["trades.BTC-USDT", "tickers.BTC-USDT", "books.BTC-USDT"];
    let client = VenueClient { name: "okx", home: VENUES, profile: "okx-v5", items, speed: "max" };
    let Some(recording) = capture("okx-v5") else { return };
    let files = certificate::write("stock-okx", &["localhost"]);
    let settings = [&PATIENT[..], &[DEMAND]].concat();
    let start = |gate: &Relay| -> Option<(TlsServer, StockClient)> {
        let server = TlsServer::serve(&files.pair(), &[&gate.ws("/ws/v5/public"), "--profile", "okx-v5"], &settings);
        let mut command = client.command(&server.wss("/"))?;
        files.trust(&mut command);
        Some((server, StockClient::start(command)))
    };
    let asked = |message: &Value| message["arg"]["instId"] == "BTC-USDT" && message["data"].is_array();
    let mut expected = Vec::new();
    let (_, count) = part_of("okx-asked", &recording, &[], |message| {
        let is_asked = asked(message);
        expected.extend(is_asked.then(|| json!({"stream": message["arg"]["channel"], "data": message}).to_string()));
        is_asked
    });
    let gate = Relay::shut();
    let Some((server, mut events)) = start(&gate) else { return };
    client.await_subscriptions(&server.program);
    let venue = Program::replay(&recording, &["--speed", "max"]);
    gate.open(venue.addr());
    assert!(take(&mut events, count) == expected, "the client of OKX sees something else through fanline");
    drop((events, server));
    let gate = Relay::shut();
    let (server, events) = start(&gate).expect("it is there");
    client.go_on_after_a_loss(events, (&server.program, &gate), &recording, "1");
}

/// A message holds events of several kinds and symbols.
fn massive_messages() -> String {
    let mut lines = String::new();
    put_line(&mut lines, 0, r#"[{"ev":"status","status":"connected","message":"Connected Successfully"}]"#);
    put_line(&mut lines, 1, r#"[{"ev":"status","status":"auth_success","message":"authenticated"}]"#);
    for number in 0..200 {
        let events = format!(
            r#"[{{"ev":"T","sym":"AAPL","p":{number}.25,"s":1,"t":{number}}},{{"ev":"Q","sym":"AAPL","bp":{number}.2,"ap":{number}.3,"t":{number}}},{{"ev":"T","sym":"BRK.B","p":{number}.5,"s":2,"t":{number}}}]"#
        );
        put_line(&mut lines, 2 + number, &events);
    }
    lines
}

pub const BYBIT_TOPICS: [&str; 3] = ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"];
/// Messages of each topic.
pub const BYBIT_EACH: usize = 200;

/// As documented, without those of other symbols.
pub fn bybit_messages() -> String {
    let mut lines = String::new();
    for number in 0..BYBIT_EACH as u64 {
        let kind = if number == 0 { "snapshot" } else { "delta" };
        let ts = 1_672_304_484_000 + number;
        let size = number % 3;
        let book = format!(
            r#"{{"topic":"orderbook.50.BTCUSDT","type":"{kind}","ts":{ts},"data":{{"s":"BTCUSDT","b":[["16493.5","0.{size}"],["16{number:03}","{number}.1"]],"a":[["16611","0.{number}1"]],"u":{},"seq":{}}},"cts":{ts}}}"#,
            18_521_288 + number,
            7_961_638_724_u64 + number,
        );
        let trade = format!(
            r#"{{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":{ts},"data":[{{"T":{ts},"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.{number}","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-{number:012}","BT":false}}]}}"#
        );
        let ticker = format!(
            r#"{{"topic":"tickers.BTCUSDT","ts":{ts},"type":"snapshot","cs":{number},"data":{{"symbol":"BTCUSDT","lastPrice":"21109.{number}","highPrice24h":"21426.99","lowPrice24h":"20575","prevPrice24h":"20704.93","volume24h":"6780.866843","turnover24h":"141946527.22907118","price24hPcnt":"0.0196","usdIndexPrice":"21120.2400136"}}}}"#
        );
        for (place, data) in [book, trade, ticker].iter().enumerate() {
            put_line(&mut lines, (number * 3 + place as u64) * 2, data);
        }
    }
    lines
}
