//! Cases that chance seldom draws: each one played once, by hand.

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::sessions::sync_state::SyncState;

fn patterns(text: &str) -> Vec<Pattern> {
    vec![Pattern::parse(text).expect("a pattern")]
}

/// Offsets of a topic that the client has received.
fn seen(world: &Simulation, client: usize, topic: &str) -> Vec<u64> {
    world.clients[client].known.get(topic).map(|known| known.seen.clone()).unwrap_or_default()
}

#[test]
fn a_value_right_behind_the_cursor_of_an_overrun_shard_is_not_lost() {
    let mut world = Simulation::new(1, History::default());
    world.adopt(SessionOptions { patterns: patterns(">"), ..SessionOptions::default() });
    world.settle();
    world.publish_on("b.y.z", ModelKind::Value, 1);
    (0..2 * RING_FRAMES).for_each(|_| world.publish_on("a.x", ModelKind::Value, 1));
    world.settle();
    world.check();
    assert_eq!(seen(&world, 0, "b.y.z"), [1], "the ring no longer has it, and nothing newer came");
}

#[test]
fn a_client_that_joins_between_two_moments_of_its_pace_gets_each_value_once() {
    let mut world = Simulation::new(1, History::default());
    world.shard.budgets.matches = Budget::new(1000);
    let every = Some(Duration::from_millis(50));
    let terms = || SessionOptions { patterns: patterns(">"), every, ..SessionOptions::default() };
    world.adopt(terms());
    world.settle();
    world.publish_on("a.x", ModelKind::Value, 1);
    world.shard.round(world.now);
    world.publish_on("a.x", ModelKind::Value, 1);
    world.shard.round(world.now);
    world.adopt(terms());
    world.clients[1].pipe.borrow_mut().room = 1 << 20;
    // It has the value before the others of its lane do.
    while seen(&world, 1, "a.x").is_empty() {
        world.shard.run_queue(world.now);
        world.clients.iter_mut().for_each(|client| client.receive(&world.model));
    }
    world.settle();
    assert_eq!([0, 1].map(|client| seen(&world, client, "a.x")), [vec![1, 2], vec![2]]);
}

#[test]
fn after_a_long_lag_a_lossless_client_is_replayed_to_and_another_learns_what_it_missed() {
    const FRAMES: u64 = 20;
    for (policy, expected, skipped) in
        [(Policy::Lossless, (1..=FRAMES).collect(), vec![]), (Policy::Conflate, vec![1, FRAMES], vec![(2, FRAMES)])]
    {
        let mut world = Simulation::new(1, History::default());
        world.adopt(SessionOptions { patterns: patterns(">"), policy, ..SessionOptions::default() });
        world.settle();
        world.clients[0].pipe.borrow_mut().room = 0;
        for _ in 0..FRAMES {
            world.publish_on("a.x", ModelKind::Value, 1);
            world.shard.round(world.now);
        }
        world.now.mono_ns += 2 * world.shard.settings.slow.replay_max.as_nanos() as u64;
        world.settle();
        // The first frame was on its way already.
        assert_eq!(seen(&world, 0, "a.x"), expected, "{policy:?}");
        assert_eq!(world.clients[0].skipped, skipped, "{policy:?}");
    }
}

#[test]
fn a_skip_is_counted_with_its_reason() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let mut world = Simulation::metered(1, History::default(), &Meters::new(Arc::new(recorder)));
    (0..2 * RING_FRAMES).for_each(|_| world.publish_on("a.x", ModelKind::Value, 1));
    world.settle();
    let since = Some(Cursor { epoch: world.epoch, offset: Offset(1) });
    world.adopt(SessionOptions { patterns: patterns(">"), since, ..SessionOptions::default() });
    world.settle();
    assert_eq!(world.clients[0].skip_reason, "expired", "what it had missed was no longer in the ring");
    let counted = prometheus.render();
    let line = r#"fanline_skips_total{reason="expired"} 1"#;
    assert!(counted.lines().any(|found| found == line), "{counted}");
}

#[test]
fn a_session_refers_to_what_it_has_when_one_that_has_more_leaves_the_lane() {
    let mut world = Simulation::new(1, History::default());
    world.shard.settings.compression.windows_max = 0;
    let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
    let terms = || SessionOptions { patterns: patterns(">"), deflate, ..SessionOptions::default() };
    for topic in ["c", "a.x"] {
        world.adopt(terms());
        world.settle();
        (0..3).for_each(|_| world.publish_on(topic, ModelKind::Value, 1));
        world.settle();
    }
    let early = world.clients.remove(0);
    early.pipe.borrow_mut().broken = true;
    world.shard.ready(early.id, true, world.now);
    // The session that is left has never had `c` in the stream.
    (0..3).for_each(|_| world.publish_on("c", ModelKind::Value, 1));
    world.settle();
    world.check();
    assert_eq!(seen(&world, 0, "c"), [3, 7, 8, 9]);
}

const TOPIC: &str = "a.topic.of.which.the.name.is.long";

fn deflating(harness: &mut Harness, pattern: &str) -> HarnessClient {
    let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
    let client = harness.adopt(SessionOptions { patterns: patterns(pattern), deflate, ..SessionOptions::default() });
    harness.settle();
    client
}

/// What the client receives of a frame of the topic.
fn received(harness: &mut Harness, client: &HarnessClient) -> Vec<u8> {
    client.pipe.borrow_mut().to_client.clear();
    harness.publish(TOPIC);
    harness.settle();
    client.pipe.borrow().to_client.clone()
}

/// Whether the client shares a window from the next frame on.
fn has_window(harness: &mut Harness, client: &HarnessClient) -> bool {
    received(harness, client);
    matches!(harness.shard.sessions[client.id].state(), SyncState::Boarded { .. })
}

#[test]
fn a_status_between_the_frames_of_a_window_is_not_compressed() {
    let mut harness = Harness::open();
    let clients = [deflating(&mut harness, ">"), deflating(&mut harness, ">")];
    assert_eq!(received(&mut harness, &clients[0])[0], 0xC1, "a deflated text");
    clients[0].pipe.borrow_mut().to_client.clear();
    let stale = TopicStatus::Stale { since_ms: 1, message: "x".repeat(100) };
    harness.publisher.publish_status(TOPIC, stale, harness.now).expect("a good topic");
    harness.settle();
    assert_eq!(clients[0].pipe.borrow().to_client[0], 0x81, "a plain text");
}

#[test]
fn a_window_that_is_closed_makes_room_for_another() {
    let mut harness = Harness::open();
    harness.shard.settings.compression.window_members_min = 4;
    let first = [(); 4].map(|()| deflating(&mut harness, ">"));
    assert!(has_window(&mut harness, &first[0]));
    let second = [(); 4].map(|()| deflating(&mut harness, TOPIC));
    assert!(!has_window(&mut harness, &second[0]), "there is one already");
    first[1..].iter().for_each(|client| harness.vanish(client));
    harness.settle();
    harness.pass_second();
    assert!(has_window(&mut harness, &second[0]), "the first had too few members");
}
