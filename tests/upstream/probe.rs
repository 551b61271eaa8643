//! `fanline probe`: what a feed holds is found out in a short look, and what keeps it from being seen is said.

use std::time::Duration;

use fanline::bus::clock::Clock;
use fanline::intake::probe::probe;
use fanline::intake::upstream::Settings;
use fanline::profile::Profile;
use futures_util::{SinkExt, StreamExt};
use kit::intake;
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

fn settings(url: &str) -> Settings {
    let generic = Profile::built_in("generic").expect("built in");
    Settings { message_bytes_max: 1 << 20, ..intake::settings(url, generic, &[]) }
}

#[tokio::test]
async fn a_probe_reports_topics_by_rate_and_how_they_were_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let settings = settings(&format!("ws://{}/feed?token=secret", listener.local_addr().expect("bound")));
    let venue = async {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mut socket = accept_async(socket).await.expect("a handshake");
        for n in 0..40 {
            let symbol = if n % 4 == 0 { "B" } else { "A" };
            let text = format!(r#"{{"type":"tick","symbol":"{symbol}","n":{n}}}"#);
            socket.send(Message::text(text)).await.expect("the probe listens");
        }
        socket.send(Message::text("garbage")).await.expect("the probe listens");
        while socket.next().await.is_some_and(|heard| heard.is_ok()) {}
    };
    let probing = probe(settings, Clock::start(), Duration::from_millis(500), 1);
    let (report, ()) = tokio::join!(probing, venue);
    let report = report.expect("a report");
    assert_eq!(report.classes, [("data", 40), ("garbled", 1)]);
    let topics: Vec<(&str, u64)> = report.topics.iter().map(|topic| (&*topic.topic, topic.count)).collect();
    assert_eq!(topics, [("tick.A", 30), ("tick.B", 10)]);
    let text = report.to_string();
    for part in ["/feed\n", "`${/type}.${/symbol}`", "tick.A", "garbled: expected JSON", "and 1 more topics"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_probe_of_nothing_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let settings = settings(&format!("ws://{}/feed", listener.local_addr().expect("bound")));
    drop(listener);
    let error = probe(settings, Clock::start(), Duration::from_millis(200), 1).await.expect_err("nobody listens");
    assert!(error.to_string().contains("could not be reached"), "{error}");
}
