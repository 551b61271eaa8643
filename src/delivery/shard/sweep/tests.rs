//! Sessions whose time is over, to the second.

use std::time::Duration;

use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::topic::Pattern;

/// Seconds that pass until the session is leaving, or gone.
fn seconds_left(harness: &mut Harness, client: &HarnessClient) -> u32 {
    let mut seconds = 0;
    while harness.shard.sessions.get(client.id).is_some_and(|session| !session.is_leaving()) {
        assert!(seconds < 60, "it stays");
        harness.pass_second();
        harness.settle();
        seconds += 1;
    }
    seconds
}

#[test]
fn a_client_that_takes_nothing_is_closed_after_the_write_deadline_and_each_byte_begins_it_again() {
    let mut harness = Harness::open();
    harness.shard.settings.slow.write_deadline = Duration::from_secs(10);
    let patterns = vec![Pattern::parse("a").expect("a pattern")];
    let mut subscriber = || harness.adopt(SessionOptions { patterns: patterns.clone(), ..SessionOptions::default() });
    let (stalled, slow, reading) = (subscriber(), subscriber(), subscriber());
    harness.settle();
    for client in [&stalled, &slow] {
        client.pipe.borrow_mut().room = 3;
    }
    harness.publish("a");
    harness.settle();
    for _ in 0..6 {
        harness.pass_second();
    }
    slow.pipe.borrow_mut().room = 1;
    harness.shard.ready(slow.id, false, harness.now);
    harness.settle();
    let ends = [seconds_left(&mut harness, &stalled), seconds_left(&mut harness, &slow)];
    assert!((4..=5).contains(&ends[0]) && (6..=7).contains(&ends[1]), "{ends:?}: 10 s after the last byte");
    assert!(harness.shard.sessions.get(reading.id).is_some_and(|session| !session.is_leaving()), "it has taken all");
}
