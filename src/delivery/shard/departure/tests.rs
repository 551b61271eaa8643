//! How sessions end: all at once, and those that hold too much.

use std::time::Duration;

use crate::bus::feed_state::{FeedState, StaleReason};
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::shard::draining::DRAIN_PART;
use crate::protocol::encoding::Format;
use crate::settings::table::OnStale;
use crate::words::topic::Pattern;

fn subscriber(harness: &mut Harness, format: Format) -> HarnessClient {
    let patterns = vec![Pattern::parse("a").expect("a pattern")];
    let client = harness.adopt(SessionOptions { patterns, format, ..SessionOptions::default() });
    harness.settle();
    client.received();
    client
}

fn has_gone(client: &HarnessClient) -> bool {
    client.received().iter().any(|message| message["op"] == "goodbye")
}

#[test]
fn a_drain_ends_some_sessions_in_each_turn_and_the_others_go_on() {
    let mut harness = Harness::open();
    let clients: Vec<HarnessClient> = (0..DRAIN_PART * 4).map(|_| subscriber(&mut harness, Format::Envelope)).collect();
    harness.shard.drain(|| 1);
    let mut gone = vec![false; clients.len()];
    for turn in 1..=4 {
        assert!(harness.shard.has_work(), "turn {turn}");
        harness.publish("a");
        harness.turn();
        for (client, gone) in clients.iter().zip(&mut gone).filter(|(_, gone)| !**gone) {
            let heard = client.received();
            assert_eq!(heard[0]["topic"], "a", "turn {turn}: a frame before the goodbye");
            *gone = heard.iter().any(|message| message["op"] == "goodbye");
        }
        assert_eq!(gone.iter().filter(|gone| **gone).count(), DRAIN_PART * turn);
    }
    let latecomer = harness.adopt(SessionOptions::default());
    harness.settle();
    assert!(has_gone(&latecomer), "a client that joins does not wait");
    assert!(!harness.shard.has_work());
}

#[test]
fn in_waves_each_has_the_stream_until_its_own_moment() {
    const TICKS: usize = 10;
    const TICK_NS: u64 = 100_000_000;
    let mut harness = Harness::open();
    let clients: Vec<HarnessClient> = (0..40).map(|_| subscriber(&mut harness, Format::Envelope)).collect();
    harness.shard.drain_in_waves(Duration::from_nanos(TICK_NS * TICKS as u64), || 7);
    let mut gone = vec![false; clients.len()];
    for tick in 0..=TICKS {
        harness.shard.tick(harness.now);
        harness.publish("a");
        harness.settle();
        assert!(!harness.shard.has_work(), "nothing is due before the next tick");
        for (client, gone) in clients.iter().zip(&mut gone).filter(|(_, gone)| !**gone) {
            let heard = client.received();
            let goodbye = heard.iter().find(|message| message["op"] == "goodbye");
            assert!(goodbye.is_none_or(|goodbye| goodbye["reconnect_ms"] == 7), "{heard:?}");
            *gone = goodbye.is_some();
            assert!(*gone || heard.iter().any(|message| message["topic"] == "a"), "tick {tick}: {heard:?}");
        }
        let left = gone.iter().filter(|gone| **gone).count();
        assert_eq!(left, clients.len() * tick / TICKS, "tick {tick}");
        harness.now.mono_ns += TICK_NS;
    }
    assert!(gone.iter().all(|gone| *gone));
    let latecomer = harness.adopt(SessionOptions::default());
    harness.settle();
    assert!(has_gone(&latecomer), "a client that joins does not wait");
}

#[test]
fn raw_sessions_leave_a_stale_feed_within_a_second_and_not_all_at_once() {
    let stale = FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 1, message: "it is down".to_string() };
    for (ends, code) in [(true, Some([3, 245])), (false, None)] {
        let mut harness = Harness::open();
        harness.shard.settings.raw.on_stale = if ends { OnStale::Close } else { OnStale::Keep };
        let raw: Vec<HarnessClient> = (0..40).map(|_| subscriber(&mut harness, Format::Raw)).collect();
        let envelope = subscriber(&mut harness, Format::Envelope);
        harness.pass_second();
        harness.publisher.announce(stale.clone());
        harness.settle();
        harness.pass_second();
        harness.settle();
        assert_eq!(raw.iter().filter(|it| !it.pipe.borrow().to_client.is_empty()).count(), 0, "before any data");
        harness.publisher.announce(FeedState::Live);
        harness.settle();
        harness.publish("a");
        harness.publisher.announce(stale.clone());
        harness.settle();
        let ended = || raw.iter().filter(|it| it.pipe.borrow().to_client.get(4) == Some(&0x88)).count();
        for _ in 0..11 {
            let before = ended();
            harness.now.mono_ns += 100_000_000;
            harness.shard.tick(harness.now);
            harness.settle();
            assert!(ended() - before <= 10, "of 40 in a tenth of a second");
        }
        for client in &raw {
            let heard = client.pipe.borrow().to_client.clone();
            assert!(heard.starts_with(&[0x81, 2, b'{', b'}']), "what there was comes first: {heard:?}");
            let found = (heard.get(4) == Some(&0x88)).then(|| [heard[6], heard[7]]);
            assert_eq!(found, code, "1013 in {heard:?}");
        }
        let heard = envelope.received();
        let ops: Vec<&str> = heard.iter().filter_map(|message| message["op"].as_str()).collect();
        assert_eq!(ops, ["stale", "live", "stale"]);
    }
}
