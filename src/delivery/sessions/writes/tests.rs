//! What sockets do not take, or do not pass on, keeps a session out of step.

use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::Harness;
use crate::delivery::sessions::sync_state::SyncState;
use crate::words::topic::Pattern;

#[test]
fn a_session_whose_socket_holds_bytes_back_is_out_of_step_until_they_are_passed_on() {
    let mut harness = Harness::open();
    let patterns = vec![Pattern::parse("a").expect("a pattern")];
    let client = harness.adopt(SessionOptions { patterns, ..SessionOptions::default() });
    harness.settle();
    client.received();
    client.pipe.borrow_mut().holds_back = true;
    for _ in 0..3 {
        harness.publish("a");
        harness.settle();
    }
    assert_eq!(client.received().len(), 1, "nothing is added to what is held back");
    assert!(matches!(harness.shard.sessions[client.id].state(), SyncState::Behind(_)));
    assert!(!harness.shard.sessions[client.id].takes_commands());
    assert_eq!(harness.shard.sessions.unsent_bytes(), 0, "the bytes are the socket's");
    client.pipe.borrow_mut().holds_back = false;
    harness.shard.ready(client.id, false, harness.now);
    harness.settle();
    let offsets: Vec<u64> = client.received().iter().filter_map(|message| message["offset"].as_u64()).collect();
    assert_eq!(offsets, [2, 3]);
    assert!(matches!(harness.shard.sessions[client.id].state(), SyncState::InStep { .. }));
}
