//! From a tape to 300 clients: each gets exactly the frames of its topics, in order, byte for byte.

use std::sync::Arc;

use kit::http::sum;
use kit::program::Program;
use kit::relay::Relay;
use kit::subscriber::{PATIENT, SubscriberPlan};
use kit::tape::{PROFILE, Tape};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const CLIENTS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_exactly_the_frames_of_its_topics() {
    let tape = Arc::new(Tape::open());
    let gate = Relay::shut();
    let server = Arc::new(Program::serve(&[&gate.ws("/stream"), "--profile", PROFILE], &PATIENT));

    let (ready, mut readiness) = mpsc::channel(CLIENTS);
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        let (server, tape, ready) = (server.clone(), tape.clone(), ready.clone());
        clients.spawn(async move {
            let plan = SubscriberPlan::nth(index);
            let mut subscriber = plan.subscribe(&server).await;
            // An answer proves that a shard has the session, and so the patterns of its query.
            subscriber.expect_silence().await;
            ready.send(()).await.expect("the test waits");
            drop(ready);
            let expected = plan.offsets(&tape);
            let received = match expected.last() {
                Some(last) => subscriber.read_to(*last, &tape).await,
                None => Vec::new(),
            };
            assert!(received == expected, "client {index}, {plan:?}: {}", difference(&received, &expected));
            (subscriber, received.len())
        });
    }
    // Without a sender of its own, the wait below ends when a client has failed.
    drop(ready);
    for _ in 0..CLIENTS {
        readiness.recv().await.expect("every client subscribes");
    }
    assert!(gate.refused() > 0 && gate.passed() == 0, "clients were there before the feed");

    let venue = Program::replay(tape.path(), &["--speed", "max"]);
    gate.open(venue.addr());
    let mut received = 0;
    for (mut subscriber, count) in clients.join_all().await {
        subscriber.expect_silence().await;
        received += count;
    }

    let expected: usize = (0..CLIENTS).map(|index| SubscriberPlan::nth(index).offsets(&tape).len()).sum();
    assert_eq!(received, expected);
    assert!(received as u64 > 100 * tape.end(), "{received} deliveries are too few to prove anything");
    assert_eq!(gate.passed(), 1, "the tape was served once");
    let metrics = server.get("/metrics").body;
    assert_eq!(sum(&metrics, "fanline_frames_total", ""), tape.end() as f64);
    assert_eq!(sum(&metrics, "fanline_deliveries_total", ""), expected as f64);
    assert_eq!(sum(&metrics, "fanline_skips_total", ""), 0.0);
    let made = sum(&metrics, "fanline_encodings_total", "");
    assert_eq!(made, 2.0 * tape.end() as f64, "each frame in two formats, once for all");
}

/// The first place where two lists of offsets differ, and what follows there.
fn difference(received: &[u64], expected: &[u64]) -> String {
    let at = received.iter().zip(expected).take_while(|(received, expected)| received == expected).count();
    let shown = |list: &[u64]| format!("{:?}", list.iter().skip(at).take(5).collect::<Vec<_>>());
    format!("after {at} frames expected offsets {}…, found {}…", shown(expected), shown(received))
}
