//! `fanline bench` accounts for every message, and says what is wrong with its arguments.

mod kit;

use kit::program::{Program, run};
use serde_json::Value;

fn measure(args: &[&str]) -> Value {
    let (status, stdout, stderr) = run(&[&["bench", "--json"], args].concat(), &[]);
    assert!(status.success(), "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in:\n{stdout}"))
}

fn count(result: &Value, name: &str) -> u64 {
    result[name].as_u64().unwrap_or_else(|| panic!("expected a count `{name}` in {result:#}"))
}

/// Every client got every message once, and the parts of the report agree with each other.
fn check_account(report: &Value, clients: u64) {
    let result = &report["result"];
    assert_eq!(count(result, "clients"), clients);
    assert!(count(result, "messages") > 0, "{result:#}");
    assert_eq!(count(result, "deliveries"), clients * count(result, "messages"), "{result:#}");
    for name in ["lost", "repeated", "gaps", "skips", "ended", "unheard"] {
        assert_eq!(count(result, name), 0, "{name} in {result:#}");
    }
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("expected a number in {result:#}"));
    let deliveries = number(&result["deliveries_per_second"]) * number(&result["seconds"]);
    assert!((deliveries / count(result, "deliveries") as f64 - 1.0).abs() < 0.01, "{result:#}");
    let latency = &result["latency"];
    let mut last = 0.0;
    for name in ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
        assert!(number(&latency[name]) >= last, "{name} in {latency:#}");
        last = number(&latency[name]);
    }
    // The first four and every 31st are followed; with compression every 127th.
    let followed = (0..clients).filter(|at| *at < 4 || at % if report["deflate"] == true { 127 } else { 31 } == 0);
    assert_eq!(count(latency, "samples"), followed.count() as u64 * count(result, "messages"));
}

#[test]
fn every_message_of_its_own_feed_is_accounted_for() {
    let report = measure(&["--clients", "50", "--seconds", "2"]);
    check_account(&report, 50);
    assert_eq!((&report["feed"], &report["latency_resolution"]), (&"bench".into(), &"1 ns".into()));
    let messages = count(&report["result"], "messages");
    assert!((100..=401).contains(&messages), "200 a second for 2 s: {messages}");
    assert!(report["result"]["bytes_per_delivery"].as_f64() > report["result"]["bytes_per_message"].as_f64());
    assert!(report.get("bare").is_none() && report.get("capacity").is_none());
}

#[test]
fn some_topics_raw_and_compressed_are_accounted_for_too() {
    let report = measure(&[
        "--clients",
        "20",
        "--seconds",
        "1",
        "--topics",
        "trade.*",
        "--format",
        "raw",
        "--deflate",
        "--rate",
        "500",
        "--compression-level",
        "1",
        "--listen",
        "127.0.0.1:1",
    ]);
    check_account(&report, 20);
    let result = &report["result"];
    assert!(count(result, "messages") < count(result, "feed_messages"), "{result:#}");
    assert!(result["bytes_per_delivery"].as_f64() < result["bytes_per_message"].as_f64(), "{result:#}");
}

#[test]
fn clients_with_different_topics_are_accounted_for_one_by_one() {
    // 60 shares of 24 topics: half of them go to three clients, the others to two.
    let own = ["--clients", "12", "--seconds", "1", "--topics-each", "5", "--simulate-symbols", "12", "--rate"];
    for rate in ["500", "max"] {
        let report = measure(&[&own[..], &[rate]].concat());
        let result = &report["result"];
        assert_eq!((count(&report, "topics_each"), count(result, "feed_topics")), (5, 24));
        assert!(report["topics"].is_null());
        let (messages, deliveries) = (count(result, "messages"), count(result, "deliveries"));
        assert_eq!(messages, count(result, "feed_messages"), "every topic is wanted");
        assert!(deliveries > 2 * messages && deliveries < 3 * messages, "{result:#}");
        // At full speed a client may be too slow for the machine's other work; then it receives `skipped`.
        for name in if rate == "max" { &["gaps", "ended"][..] } else { &["lost", "repeated", "gaps", "skips", "ended"] }
        {
            assert_eq!(count(result, name), 0, "{name} in {result:#}");
        }
    }
}

#[test]
fn a_thousand_patterns_are_sent_by_command() {
    let patterns: String = (1..1000).map(|number| format!("nothing.{number},")).collect();
    let report = measure(&["--clients", "5", "--seconds", "1", "--topics", &format!("{patterns}>")]);
    check_account(&report, 5);
}

#[test]
fn a_silent_feed_has_figures_of_connections_only() {
    let report = measure(&["--clients", "20", "--seconds", "1", "--rate", "0", "--heartbeat-interval", "100ms"]);
    let result = &report["result"];
    assert_eq!((count(result, "messages"), count(result, "deliveries"), count(result, "ended")), (0, 0, 0));
    assert!(count(result, "notices") >= 20, "heartbeats: {result:#}");
    assert!(result["bytes_per_delivery"].is_null() && result["latency"].is_null(), "{result:#}");
    assert!(result["server"]["cpu_us_per_delivery"].is_null() && result["server"]["cores"].is_number(), "{result:#}");
    assert_eq!(count(&result["connecting"], "clients"), 20);
}

#[test]
fn refused_subscriptions_are_reported() {
    let args = ["bench", "--clients", "9", "--topics-each", "2", "--limits-lanes-max", "2", "--seconds", "1"];
    let (status, _, stderr) = run(&args, &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("raise limits.lanes_max"), "{stderr}");
}

#[test]
fn the_bare_loop_is_measured_too() {
    let report = measure(&["--clients", "10", "--seconds", "1", "--bare"]);
    check_account(&report, 10);
    let bare = report["bare"].as_array().expect("rows");
    let batches: Vec<u64> = bare.iter().map(|row| count(row, "messages_per_send")).collect();
    assert_eq!(batches, [1, 16, 64]);
    assert!(
        bare.iter().all(|row| count(row, "deliveries") > 0 && count(row, "deliveries").is_multiple_of(10)),
        "{bare:#?}"
    );
}

#[test]
fn a_running_server_is_measured_from_outside() {
    let server = Program::serve(&["--simulate-rate", "500"], &[]);
    let report = measure(&["--target", &server.ws("/v1/ws?topics=quote.*"), "--clients", "10", "--seconds", "1"]);
    let result = &report["result"];
    assert!(count(result, "deliveries") > 0, "{result:#}");
    assert_eq!((count(result, "gaps"), count(result, "ended")), (0, 0));
    assert!(result["server"].is_null() && result["lost"].is_null() && result["messages"].is_null());
    assert_eq!(report["latency_resolution"], "1 ms");
}

#[test]
fn an_impossible_measurement_is_refused_with_the_reason() {
    for (args, parts) in [
        (&["--clients", "0"][..], ["0", "1..=1000000"]),
        (&["--rate", "fast"], ["`max`, 0, or a number", "`fast`"]),
        (&["--latency-max", "soon"], ["soon", "--latency-max"]),
        (&["--topics", "a..b"], ["--topics", "empty token"]),
        (&["--target", "wss://example.com/"], ["ws://HOST:PORT", "`wss://example.com/`"]),
        (&["--target", "ws://127.0.0.1:9", "--rate", "5"], ["--rate", "--target"]),
        (&["--target", "ws://127.0.0.1:9", "--shards-count", "1"], ["`--shards-count`", "--target"]),
        (&["ws://127.0.0.1:9/", "--rate", "5"], ["`--rate`", "a configured feed"]),
        (&["ws://127.0.0.1:9/", "--capacity", "--format", "raw"], ["latency", "--format envelope"]),
        (&["ws://127.0.0.1:9/", "--topics-each", "5"], ["`--topics-each`", "a configured feed"]),
        (&["--topics-each", "5", "--topics", "a"], ["--topics-each", "--topics"]),
        (&["--topics-each", "5", "--simulate-symbols", "2"], ["at most 4", "--simulate-symbols"]),
        (&["--topics-each", "5", "--limits-patterns-max", "4"], ["at most 4 patterns", "limits.patterns_max"]),
        (&["--rate", "0", "--capacity"], ["`--capacity`", "feed with messages"]),
        (&["--bare", "--topics", "nothing"], ["`--bare`", "feed with messages"]),
        (&["--shards-count", "x"], ["--shards-count", "`x`"]),
        (&["--simulate-symbols", "0"], ["--simulate-symbols", "0"]),
    ] {
        let (status, stdout, stderr) = run(&[&["bench"], args].concat(), &[]);
        assert_eq!((status.code(), &*stdout), (Some(2), ""), "{args:?}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{args:?}: expected {parts:?} in:\n{stderr}");
    }
    let (status, _, stderr) = run(&["bench", "--target", "ws://127.0.0.1:9"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("is the server running there?"), "{stderr}");
}
