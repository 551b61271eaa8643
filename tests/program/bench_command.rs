//! `fanline bench` accounts for every message, and says what is wrong with its arguments.

use kit::certificate;
use kit::program::{Program, run};
use kit::tls_server::TlsServer;
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
    // The first four and every 31st are followed; with compression every 50th.
    let followed = (0..clients).filter(|at| *at < 4 || at % if report["deflate"] == true { 50 } else { 31 } == 0);
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
    // 200 entries of lists over 24 topics, about 8 a topic, as chance has it. With --overlap 60 over 24: half of the topics
    // go to three clients, the others to two.
    for (clients, overlap, rate, each) in
        [("40", None, "500", 4..14), ("12", Some("--overlap"), "500", 2..3), ("12", Some("--overlap"), "max", 2..3)]
    {
        let own = ["--clients", clients, "--seconds", "1", "--topics-each", "5", "--simulate-symbols", "12"];
        let args: Vec<&str> = own.into_iter().chain(overlap).chain(["--rate", rate]).collect();
        let report = measure(&args);
        let result = &report["result"];
        assert_eq!((count(&report, "topics_each"), count(result, "feed_topics")), (5, 24));
        assert!(report["topics"].is_null() && report["overlap"] == overlap.is_some());
        let (messages, deliveries) = (count(result, "messages"), count(result, "deliveries"));
        assert_eq!(messages, count(result, "feed_messages"), "every topic is wanted");
        assert!(deliveries > each.start * messages && deliveries < each.end * messages, "{result:#}");
        // At full speed a client may be too slow for the machine's other work; then it receives `skipped`.
        for name in if rate == "max" { &["gaps", "ended"][..] } else { &["lost", "repeated", "gaps", "skips", "ended"] }
        {
            assert_eq!(count(result, name), 0, "{name} in {result:#}");
        }
    }
}

#[test]
fn each_client_has_a_list_of_its_own_and_groups_share_one_with_overlap() {
    // Every list is a lane: about 37 of 40 random lists of 3 of 12 topics differ, and 4 of those that overlap.
    let own = ["bench", "--clients", "40", "--topics-each", "3", "--simulate-symbols", "6", "--seconds", "1"];
    let lanes = ["--shards-count", "1", "--limits-lanes-max", "20"];
    let (status, _, stderr) = run(&[&own[..], &lanes, &["--overlap"]].concat(), &[]);
    assert!(status.success(), "{stderr}");
    let (status, _, stderr) = run(&[&own[..], &lanes].concat(), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("raise limits.lanes_max"), "{stderr}");
}

#[test]
fn compressed_texts_of_lists_of_ones_own_are_compared_with_what_was_sent() {
    for format in ["envelope", "raw"] {
        let own = ["--clients", "100", "--seconds", "1", "--topics-each", "20", "--simulate-symbols", "30"];
        let report = measure(&[&own[..], &["--rate", "500", "--deflate", "--format", format]].concat());
        let result = &report["result"];
        for name in ["lost", "repeated", "gaps", "skips", "ended", "wrong"] {
            assert_eq!(count(result, name), 0, "{name} in {result:#}");
        }
        // The first four and the 50th are followed, a third of all messages each.
        let (compared, messages) = (count(result, "compared"), count(result, "messages"));
        assert_eq!(compared, count(&result["latency"], "samples"));
        assert!(compared > messages && compared < 3 * messages, "{result:#}");
        assert!(result["ratio"].as_f64().is_some_and(|ratio| ratio > 1.1), "{result:#}");
    }
}

#[test]
fn lists_change_under_load_and_only_the_moment_of_a_change_is_uncertain() {
    let own = ["--clients", "40", "--topics-each", "10", "--simulate-symbols", "50", "--changes-per-second", "100"];
    // Without messages what arrives are the values with which new topics begin, to the last one.
    let report = measure(&[&own[..], &["--seconds", "1", "--rate", "0"]].concat());
    let result = &report["result"];
    assert!((90..=100).contains(&count(result, "changes")), "{result:#}");
    assert_eq!(count(result, "deliveries"), count(result, "changes"));
    let moving = measure(&[&own[..], &["--seconds", "3", "--rate", "500"]].concat());
    assert!(moving["cpu_us_per_change"].is_number() && moving["unchanged"]["changes"] == 0, "{moving:#}");
    assert!(count(&moving["result"], "messages") > 1000);
    for result in [result, &moving["result"], &moving["unchanged"]] {
        for name in ["lost", "repeated", "gaps", "skips", "ended", "refusals"] {
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
fn every_message_over_tls_is_accounted_for() {
    for deflate in [None, Some("--deflate")] {
        let args: Vec<&str> = ["--tls", "--clients", "20", "--seconds", "1"].into_iter().chain(deflate).collect();
        let report = measure(&args);
        check_account(&report, 20);
        assert_eq!(report["tls"], true);
        let result = &report["result"];
        let compared = count(result, "compared");
        assert_eq!(compared > 0, deflate.is_some(), "{result:#}");
        assert_eq!(count(result, "wrong"), 0);
    }
}

#[test]
fn a_running_server_with_tls_is_measured_if_its_certificate_is_trusted() {
    let files = certificate::write("bench", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("SIMULATE_RATE", "500")]);
    let (url, ca) = (server.wss("/v1/ws?topics=quote.*"), files.certificate.display().to_string());
    for trust in [&["--ca", &*ca][..], &["--insecure"]] {
        let report = measure(&[&["--target", &*url, "--clients", "10", "--seconds", "1"], trust].concat());
        assert_eq!((&report["tls"], count(&report["result"], "gaps")), (&true.into(), 0));
        assert!(count(&report["result"], "deliveries") > 0, "{report:#}");
        assert_eq!(count(&report["result"], "ended"), 0);
    }
    // Each of them has shaken hands in full.
    assert_eq!((server.handshakes("result=\"done\""), server.handshakes("resumed=\"true\"")), (20.0, 0.0));
    for (url, told) in [
        (&*url, ["UnknownIssuer", "--ca"]),
        (&*url.replace("localhost", "127.0.0.1"), ["UnknownIssuer", "--insecure"]),
        (&*server.program.ws("/").replace("ws:", "wss:"), ["does it speak TLS", "ws://"]),
    ] {
        let (status, _, stderr) = run(&["bench", "--target", url], &[]);
        assert_eq!(status.code(), Some(1), "{url}: {stderr}");
        assert!(told.iter().all(|part| stderr.contains(part)), "{url}: expected {told:?} in:\n{stderr}");
    }
}

#[test]
fn an_impossible_measurement_is_refused_with_the_reason() {
    for (args, parts) in [
        (&["--clients", "0"][..], ["0", "1..=1000000"]),
        (&["--rate", "fast"], ["`max`, 0, or a number", "`fast`"]),
        (&["--latency-max", "soon"], ["soon", "--latency-max"]),
        (&["--topics", "a..b"], ["--topics", "empty token"]),
        (&["--target", "https://example.com/"], ["wss://HOST:PORT", "`https://example.com/`"]),
        (&["--target", "ws://127.0.0.1:9", "--insecure"], ["`--insecure`", "wss://HOST:PORT"]),
        (&["--target", "ws://127.0.0.1:9", "--tls"], ["--tls", "--target"]),
        (&["--target", "wss://127.0.0.1:9", "--ca", "/nowhere.pem"], ["--ca", "`/nowhere.pem`"]),
        (&["--ca", "/nowhere.pem"], ["--target", "--ca"]),
        (&["--target", "ws://127.0.0.1:9", "--rate", "5"], ["--rate", "--target"]),
        (&["--target", "ws://127.0.0.1:9", "--shards-count", "1"], ["`--shards-count`", "--target"]),
        (&["ws://127.0.0.1:9/", "--rate", "5"], ["`--rate`", "a configured feed"]),
        (&["ws://127.0.0.1:9/", "--capacity", "--format", "raw"], ["latency", "--format envelope"]),
        (&["ws://127.0.0.1:9/", "--topics-each", "5"], ["`--topics-each`", "a configured feed"]),
        (&["--topics-each", "5", "--topics", "a"], ["--topics-each", "--topics"]),
        (&["--overlap"], ["--topics-each", "--overlap"]),
        (&["--changes-per-second", "5"], ["--topics-each", "--changes-per-second"]),
        (&["--topics-each", "5", "--changes-per-second", "5", "--rate", "max"], ["found `max`", "--rate"]),
        (&["--topics-each", "120", "--changes-per-second", "5"], ["market's 120", "--simulate-symbols"]),
        (&["--topics-each", "5", "--changes-per-second", "99", "--clients", "3"], ["at most 75", "--clients"]),
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
