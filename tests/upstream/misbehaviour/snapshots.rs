//! Feeds that send changes alone: their snapshots come over HTTP, and only one that fits is published.

use std::collections::BTreeMap;

use kit::tape::capture;

use super::*;

/// Changes of this kind of numbers, with the pointers of Binance: spot has a range, futures name the change before.
fn profile(host: &str, seq: &str) -> String {
    let level = "price = 0, size = 1, remove = \"size == 0\"";
    format!(
        r#"
profile = 1
name = "diffs"
[keepalive]
idle_timeout = "none"
[subscribe]
split = "@"
symbol_first = true
send = '{{"sub":${{items|json}}}}'
[snapshot]
rule = "diff"
url = "http://{host}/depth?symbol=${{symbol|upper}}"
wrap = '{{"stream":${{item|json}},"snapshot":${{answer}}}}'
[[on]]
name = "snapshot"
as = "data"
when = ['/snapshot exists']
topic = "${{/stream}}"
mode = "book"
snapshot_when = ['/snapshot exists']
book = {{ sides = ["./snapshot/bids", "./snapshot/asks"], {level} }}
seq = {{ rule = "monotonic", last = "/snapshot/lastUpdateId" }}
[[on]]
name = "diff"
as = "data"
when = ['/data/e == "depthUpdate"']
topic = "${{/stream}}"
mode = "book"
snapshot_when = ['/snapshot exists']
book = {{ sides = ["./data/b", "./data/a"], {level} }}
seq = {{ {seq}, last = "/data/u", gap = "resubscribe" }}
"#
    )
}

const RANGE: &str = r#"rule = "range", first = "/data/U""#;

fn diff(first: u32, last: u32) -> String {
    format!(
        r#"{{"stream":"btcusdt@depth","data":{{"e":"depthUpdate","U":{first},"u":{last},"b":[["{last}","1"]],"a":[]}}}}"#
    )
}

fn snapshot(last: u32) -> String {
    format!(r#"{{"lastUpdateId":{last},"bids":[["1","1"]],"asks":[["2","1"]]}}"#)
}

fn wrapped(answer: &str, stream: &str) -> String {
    format!(r#"{{"stream":"{stream}","snapshot":{answer}}}"#)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn changes_wait_for_a_snapshot_that_fits() {
    let host = ScriptedFeed::open().await;
    let address = host.ws("").replacen("ws://", "", 1);
    let harness = IntakeHarness::open(&profile(&address, RANGE), &["btcusdt@depth"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(diff(5, 6)).await;
    let asked = host.turn_away("too old", &ok(&snapshot(3))).await;
    assert!(asked.starts_with("GET /depth?symbol=BTCUSDT HTTP/1.1\r\n"), "{asked}");
    for (first, last) in [(7, 8), (9, 9), (10, 12)] {
        caller.say(diff(first, last)).await;
    }
    host.turn_away("no JSON", &ok("<html>")).await;
    host.turn_away("a failure", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    assert!(harness.frames().is_empty(), "nothing before the snapshot: {:?}", harness.frames());
    host.turn_away("inside a change", &ok(&snapshot(8))).await;
    let mut expected = vec![wrapped(&snapshot(8), "btcusdt@depth"), diff(9, 9), diff(10, 12)];
    let texts = |frames: Vec<(String, String)>| frames.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    assert_eq!(texts(harness.until_frames(3).await), expected);
    caller.say(diff(13, 13)).await;
    caller.misbehave("13 and 14 anew", diff(13, 14)).await;
    expected.extend([diff(13, 13), diff(13, 14)]);
    assert_eq!(texts(harness.until_frames(5).await), expected);
    assert!(harness.notes().is_empty(), "{:?}", harness.notes());

    caller.misbehave("15 is missing", diff(16, 17)).await;
    harness.until_note("gap", "btcusdt@depth").await;
    host.turn_away("after the gap", &ok(&snapshot(16))).await;
    caller.say(diff(18, 18)).await;
    expected.extend([wrapped(&snapshot(16), "btcusdt@depth"), diff(16, 17), diff(18, 18)]);
    assert_eq!(texts(harness.until_frames(8).await), expected);
    assert_eq!(harness.notes().len(), 1, "{:?}", harness.notes());
    let log = harness.log();
    for part in [
        "no snapshot of `btcusdt@depth`",
        "HTTP status 503",
        "request `snapshot of diff` to `http://",
        "expected JSON, found other text",
    ] {
        assert!(log.contains(part), "expected `{part}` in {log}");
    }
    harness.end(&[("13 and 14 anew", 1), ("15 is missing", 1)]).await;
}

/// A profile's text, for the host of the snapshots.
type ProfileFor<'p> = &'p dyn Fn(&str) -> String;

/// All changes of a recording, and the snapshots that its recorder had asked for: each topic begins with its snapshot,
/// and has every change after it.
#[tokio::test]
async fn recorded_changes_fit_their_recorded_snapshots() {
    const PREV: &str = r#"rule = "prev", prev = "/data/pu""#;
    let built_in = |host: &str| {
        let text = include_str!("../../../src/profile/built_in/binance-depth.toml");
        text.replace("https://api.binance.com/api/v3", &format!("http://{host}"))
    };
    let futures = |host: &str| profile(host, PREV);
    let profiles: [(&str, ProfileFor<'_>); 2] = [("binance-spot", &built_in), ("binance-usdm", &futures)];
    for (feed, profile) in profiles {
        let Some(recording) = capture(feed) else { return };
        let lines = std::fs::read_to_string(recording).expect("a readable recording");
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
        let text = |line: &Value| line["data"].as_str().expect("a text").to_string();
        let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let mut changes: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for text in lines.iter().filter(|line| line["dir"] == "in").map(text) {
            let message = json(&text);
            if message["data"]["e"] == "depthUpdate" {
                let number = message["data"]["u"].as_u64().expect("a number");
                changes.entry(message["stream"].as_str().expect("a name").into()).or_default().push((number, text));
            }
        }
        // A snapshot belongs to the stream with such prices.
        let best = |message: &Value, side: &str| -> f64 {
            let levels = message.pointer(side).and_then(Value::as_array).expect("levels");
            let price = |level: &Value| level[0].as_str().and_then(|price| price.parse().ok()).expect("a price");
            levels.iter().map(price).fold(0.0, f64::max)
        };
        let answers = lines.iter().filter(|line| line["dir"] == "rest").map(text);
        let of_stream = |answer: String| {
            let snapshot = json(&answer);
            let number = snapshot["lastUpdateId"].as_u64().expect("a number");
            let is_near = |(_, changes): &(&String, &Vec<(u64, String)>)| {
                let highest = changes.iter().map(|(_, text)| best(&json(text), "/data/b")).fold(0.0, f64::max);
                (0.5..2.0).contains(&(highest / best(&snapshot, "/bids")))
            };
            let (stream, _) = changes.iter().find(is_near).expect("its changes are recorded");
            (stream.clone(), (number, answer))
        };
        let answers: BTreeMap<String, (u64, String)> = answers.map(of_stream).collect();
        assert_eq!(answers.len(), changes.len(), "{feed}");

        let host = ScriptedFeed::open().await;
        let address = host.ws("").replacen("ws://", "", 1);
        let streams: Vec<&str> = changes.keys().map(String::as_str).collect();
        let harness = IntakeHarness::open(&profile(&address), &streams).await;
        let mut caller = harness.accept().await;
        caller.hear().await;
        for (_, text) in changes.values().flatten() {
            caller.say(text.clone()).await;
        }
        for _ in 0..answers.len() {
            host.answer(|request| {
                let is_asked = |stream: &&String| {
                    let symbol = stream.split('@').next().unwrap_or_default().to_uppercase();
                    request.contains(&format!("symbol={symbol}"))
                };
                ok(&answers[answers.keys().find(is_asked).expect("a stream")].1)
            })
            .await;
        }
        let expected = |stream: &String| -> Vec<String> {
            let (number, answer) = &answers[stream];
            let later = changes[stream].iter().filter(|(last, _)| last > number).map(|(_, text)| text.clone());
            std::iter::once(wrapped(answer, stream)).chain(later).collect()
        };
        let count: usize = changes.keys().map(|stream| expected(stream).len()).sum();
        let frames = harness.until_frames(count).await;
        for stream in changes.keys() {
            let found: Vec<String> =
                frames.iter().filter(|(topic, _)| topic == stream).map(|(_, text)| text.clone()).collect();
            assert_eq!(found, expected(stream), "{feed}: {stream}");
        }
        assert!(harness.notes().is_empty(), "{feed}: {:?}", harness.notes());
        harness.end(&[]).await;
    }
}
