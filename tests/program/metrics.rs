//! `/metrics` is sound for Prometheus and tells what the person on call asks first.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use kit::client::Client;
use kit::http::{Answer, sum};
use kit::program::Program;
use kit::{eventually, skip_without_tool, tool};
use serde_json::json;

/// A server on its own simulated market, after one client has received frames: the client must live on.
async fn visited() -> (Program, Client) {
    let server = tokio::task::spawn_blocking(|| Program::serve(&[], &[])).await.expect("a server");
    let mut client = Client::connect(&server.ws("/v1/ws")).await;
    client.command(json!({"op": "subscribe", "topics": ["trade.*", "quote.AAPL"]})).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    for _ in 0..100 {
        client.frame().await;
    }
    (server, client)
}

/// Metrics of a server once they tell of the client's 100 frames.
fn scrape(server: &Program) -> Answer {
    eventually("100 deliveries are counted", || {
        let answer = server.get("/metrics");
        (sum(&answer.body, "fanline_deliveries_total", "") >= 100.0).then_some(answer)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_the_metrics() {
    let Some(promtool) = tool("promtool") else { return skip_without_tool("metrics", "promtool") };
    let (server, _client) = visited().await;
    let answer = scrape(&server);
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    check.stdin.take().expect("piped").write_all(answer.body.as_bytes()).expect("promtool reads");
    let output = check.wait_with_output().expect("promtool ends");
    let complaints = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}\n{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_reports_its_resources_by_prometheus_names() {
    let (server, _client) = visited().await;
    let metrics = scrape(&server).body;
    let total = |name| sum(&metrics, name, "");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!(total("process_cpu_seconds_total") > 0.0);
    let resident = server.resident_bytes().expect("this system has /proc") as f64;
    let told = total("process_resident_memory_bytes");
    assert!(told > resident / 2.0 && told < resident * 2.0, "told {told}, the kernel says {resident}");
    assert!(total("process_virtual_memory_bytes") >= told);
    // A listener, a client, the feed and its simulated market, the shards' own.
    assert!(total("process_open_fds") >= 6.0 && total("process_open_fds") < total("process_max_fds"));
    assert!((now - total("process_start_time_seconds")).abs() < 600.0);
    assert!(total("process_threads") >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_prices_are_called_simulated_everywhere_and_others_are_not() {
    let server = tokio::task::spawn_blocking(|| Program::serve(&[], &[])).await.expect("a server");
    let (real, _venue) = tokio::task::spawn_blocking(move || {
        let venue = Program::simulate(&[]);
        // Nobody can know what another server sends; with `generic` it is a feed like any other.
        (Program::serve(&[&venue.ws("/"), "--profile", "generic"], &[]), venue)
    })
    .await
    .expect("a server");
    for (server, simulated) in [(&server, true), (&real, false)] {
        let mut client = Client::connect(&server.ws("/v1/ws")).await;
        let welcome = client.expect_op("welcome").await;
        let expected = if simulated { json!(true) } else { json!(null) };
        assert_eq!(welcome["simulated"], expected, "{welcome}");
        let ready = eventually("ready", || Some(server.get("/readyz")).filter(|answer| answer.status == 200));
        assert_eq!(ready.json()["simulated"], expected, "{}", ready.body);
        let snapshot = server.get("/v1/snapshot?topics=none").json();
        assert_eq!(snapshot["feed"]["simulated"], expected, "{snapshot}");
        let metrics = server.get("/metrics").body;
        assert_eq!(sum(&metrics, "fanline_upstream_simulated", ""), f64::from(u8::from(simulated)));
        let warned = |log: &str| log.lines().any(|line| line.contains("WARN") && line.contains("SIMULATED PRICES"));
        assert_eq!(warned(&server.log()), simulated, "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_count_what_happened() {
    let (server, _client) = visited().await;
    let pairs =
        [("fanline_frames_total", "fanline_ring_frames"), ("fanline_frame_payload_bytes_total", "fanline_ring_bytes")];
    // A message may come while the metrics are written, so one scrape of several shows what has come as often as it is kept.
    let metrics = eventually("the ring has overwritten nothing", || {
        let metrics = scrape(&server).body;
        pairs.iter().all(|(came, kept)| sum(&metrics, came, "") == sum(&metrics, kept, "")).then_some(metrics)
    });
    let total = |name, labels| sum(&metrics, name, labels);
    assert_eq!(total("fanline_upstream_up", ""), 1.0);
    assert_eq!(total("fanline_upstream_state", "state=\"live\""), 1.0);
    assert_eq!(total("fanline_upstream_state", ""), 1.0, "one state at a time");
    assert_eq!(total("fanline_sessions", ""), 1.0);
    assert_eq!(total("fanline_lanes", ""), 1.0);
    assert_eq!(total("fanline_skips_total", ""), 0.0);
    assert_eq!(total("fanline_upstream_reconnects_total", ""), 0.0);
    assert_eq!(total("fanline_topics", ""), 120.0);
    assert!(total("fanline_frames_total", "") >= 120.0);
    assert!(total("fanline_sent_bytes_total", "encoding=\"envelope\"") >= 100.0 * 150.0);
    assert_eq!(total("fanline_sent_bytes_total", "deflate"), 0.0);
    assert!(total("fanline_publish_to_write_seconds_count", "") >= 1.0);
    assert!(total("fanline_receipt_to_publish_seconds_count", "") >= 1.0);
    // The market says when it has made a message, by the clock of this machine.
    eventually("messages have an age", || {
        let metrics = server.get("/metrics").body;
        assert_eq!(sum(&metrics, "fanline_venue_time_oddities_total", ""), 0.0, "{metrics}");
        (sum(&metrics, "fanline_venue_to_receipt_seconds_count", "") >= 1.0).then_some(())
    });
}

/// Sessions of each of three shards, once all of them count in the metrics.
fn sessions(server: &Program, expected: f64) -> [f64; 3] {
    let of = |body: &str| [0, 1, 2].map(|shard| sum(body, "fanline_sessions", &format!("shard=\"{shard}\"")));
    eventually("all sessions are counted", || {
        Some(of(&server.get("/metrics").body)).filter(|sessions| sessions.iter().sum::<f64>() == expected)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_shard_comes_into_use_when_the_others_are_full_and_has_the_current_values() {
    // Busy for half of the time on a machine that is: then it is used earlier, so the market is slow.
    let settings = [("SHARDS_COUNT", "3"), ("SHARDS_SPREAD_AFTER", "4"), ("SIMULATE_RATE", "2")];
    let server = tokio::task::spawn_blocking(move || Program::serve(&[], &settings)).await.expect("a server");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(&server.ws("/v1/ws?topics=quote.AAPL")).await);
    }
    assert_eq!(sessions(&server, 4.0), [4.0, 0.0, 0.0]);
    eventually("the market has opened", || {
        (sum(&server.get("/metrics").body, "fanline_topics", "") == 120.0).then_some(())
    });
    let mut newcomer = Client::connect(&server.ws("/v1/ws?topics=quote.AAPL")).await;
    assert_eq!(sessions(&server, 5.0), [4.0, 1.0, 0.0]);
    newcomer.expect_op("welcome").await;
    newcomer.expect_op("subscribed").await;
    let snapshot = newcomer.frame().await;
    assert!(snapshot.contains("\"quote.AAPL\""), "a shard that had no client knows what is current: {snapshot}");
    clients.push(newcomer);
    for _ in 0..3 {
        clients.push(Client::connect(&server.ws("/v1/ws")).await);
    }
    assert_eq!(sessions(&server, 8.0), [4.0, 4.0, 0.0]);
}
