//! How sessions end: all at once, and those that hold too much.

use crate::bus::feed_state::{FeedState, StaleReason};
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::shard::draining::DRAIN_PART;
use crate::protocol::encoding::Format;
use crate::words::topic::Pattern;

fn subscriber(stage: &mut Harness, format: Format) -> HarnessClient {
    let patterns = vec![Pattern::parse("a").expect("a pattern")];
    let puppet = stage.adopt(SessionOptions { patterns, format, ..SessionOptions::default() });
    stage.settle();
    puppet.hear();
    puppet
}

fn has_gone(puppet: &HarnessClient) -> bool {
    puppet.hear().iter().any(|message| message["op"] == "goodbye")
}

#[test]
fn a_drain_tells_some_sessions_in_each_turn_and_the_others_go_on() {
    let mut stage = Harness::open();
    let puppets: Vec<HarnessClient> = (0..DRAIN_PART * 4).map(|_| subscriber(&mut stage, Format::Envelope)).collect();
    stage.shard.drain(|| 1);
    let mut gone = vec![false; puppets.len()];
    for turn in 1..=4 {
        assert!(stage.shard.has_work(), "turn {turn}");
        stage.publish("a");
        stage.turn();
        for (puppet, gone) in puppets.iter().zip(&mut gone).filter(|(_, gone)| !**gone) {
            let heard = puppet.hear();
            assert_eq!(heard[0]["topic"], "a", "turn {turn}: a frame before the goodbye");
            *gone = heard.iter().any(|message| message["op"] == "goodbye");
        }
        assert_eq!(gone.iter().filter(|gone| **gone).count(), DRAIN_PART * turn);
    }
    let newcomer = stage.adopt(SessionOptions::default());
    stage.settle();
    assert!(has_gone(&newcomer), "newcomers do not wait");
    assert!(!stage.shard.has_work());
}

#[test]
fn raw_sessions_leave_a_stale_feed_within_a_second_and_not_all_at_once() {
    let stale = FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 1, message: "it is down".to_string() };
    for (ends, code) in [(true, Some([3, 245])), (false, None)] {
        let mut stage = Harness::open();
        stage.shard.settings.ends_raw_when_stale = ends;
        let raw: Vec<HarnessClient> = (0..40).map(|_| subscriber(&mut stage, Format::Raw)).collect();
        let told = subscriber(&mut stage, Format::Envelope);
        stage.pass_second();
        stage.publisher.announce(stale.clone());
        stage.settle();
        stage.pass_second();
        stage.settle();
        assert_eq!(raw.iter().filter(|it| !it.pipe.borrow().to_client.is_empty()).count(), 0, "before any data");
        stage.publisher.announce(FeedState::Live);
        stage.settle();
        stage.publish("a");
        stage.publisher.announce(stale.clone());
        stage.settle();
        let told_so = || raw.iter().filter(|it| it.pipe.borrow().to_client.get(4) == Some(&0x88)).count();
        for _ in 0..11 {
            let before = told_so();
            stage.now.mono_ns += 100_000_000;
            stage.shard.tick(stage.now);
            stage.settle();
            assert!(told_so() - before <= 10, "of 40 in a tenth of a second");
        }
        for puppet in &raw {
            let heard = puppet.pipe.borrow().to_client.clone();
            assert!(heard.starts_with(&[0x81, 2, b'{', b'}']), "what there was comes first: {heard:?}");
            let found = (heard.get(4) == Some(&0x88)).then(|| [heard[6], heard[7]]);
            assert_eq!(found, code, "1013 in {heard:?}");
        }
        let heard = told.hear();
        let ops: Vec<&str> = heard.iter().filter_map(|message| message["op"].as_str()).collect();
        assert_eq!(ops, ["stale", "live", "stale"]);
    }
}
