//! What clients send is read in bounded parts.

use super::ANSWER_BYTES;
use crate::delivery::budget::MESSAGES_PER_TURN;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use shared_deflate::deflate::Deflater;
use shared_deflate::frame::{CONTROL_BYTES_MAX, Opcode, put_header};
use shared_deflate::negotiate::Agreement;

const PING: &[u8] = br#"{"op":"ping"}"#;

/// A client's WireFrame, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, Opcode::Text, false, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    [&out, &[0; 4][..], payload].concat()
}

fn send(harness: &mut Harness, client: &HarnessClient, bytes: &[u8]) {
    client.pipe.borrow_mut().to_server.extend(bytes);
    harness.shard.ready(client.id, true, harness.now);
}

fn deflating(harness: &mut Harness) -> HarnessClient {
    let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
    let client = harness.adopt(SessionOptions { deflate, ..SessionOptions::default() });
    harness.settle();
    client.received();
    client
}

/// A command of 64 KiB that is deflated to some 100 bytes.
fn bloated() -> Vec<u8> {
    let mut deflated = Vec::new();
    Deflater::new(9, 15).deflate(format!(r#"{{"op":"{}"}}"#, "s".repeat(65_000)).as_bytes(), &mut deflated);
    assert!(deflated.len() < 200);
    frame(0xC1, &deflated)
}

#[test]
fn clients_that_send_what_is_costly_to_read_share_a_bounded_part_of_each_turn() {
    let mut harness = Harness::open();
    let greedy = [deflating(&mut harness), deflating(&mut harness), deflating(&mut harness)];
    let other = harness.join();
    let burst = bloated().repeat(20);
    greedy.iter().for_each(|client| client.pipe.borrow_mut().to_server.extend(&burst));
    for client in &greedy {
        harness.shard.ready(client.id, true, harness.now);
    }
    let (mut heard, mut turns) = ([0; 3], 0);
    while heard.iter().sum::<usize>() < 60 {
        send(&mut harness, &other, &frame(0x81, PING));
        harness.turn();
        turns += 1;
        let now = [0, 1, 2].map(|at| greedy[at].received().len());
        assert!(now.iter().sum::<usize>() <= 2 * (MESSAGES_PER_TURN / 65_000 + 1), "turn {turns}: {now:?}");
        heard = [0, 1, 2].map(|at| heard[at] + now[at]);
        let (least, most) = (heard.iter().min(), heard.iter().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 4), "one after the other: {heard:?}");
        assert!(turns < 100, "{heard:?}");
    }
    assert!(turns >= 6, "found {turns}");
    harness.settle();
    assert_eq!(other.received().len(), turns, "the other one was answered all the time");
}

#[test]
fn as_many_messages_as_are_allowed_are_read_in_a_second_and_nothing_else_counts() {
    let mut harness = Harness::open();
    harness.shard.settings.limits.messages_per_second_max = 100;
    let client = harness.join();
    for second in 0..3 {
        for n in 0..100 {
            // Some arrive in pieces: two frames, and the second of them byte by byte.
            if n % 10 == 0 {
                send(&mut harness, &client, &frame(0x01, &PING[..5]));
                let rest = frame(0x80, &PING[5..]);
                rest.chunks(1).for_each(|byte| send(&mut harness, &client, byte));
            } else {
                send(&mut harness, &client, &frame(0x81, PING));
            }
            harness.settle();
            assert_eq!(client.received().len(), 1, "message {n} of second {second}");
        }
        assert!(!harness.shard.sessions[client.id].counted_throttled);
        harness.pass_second();
    }
    send(&mut harness, &client, &frame(0x81, PING).repeat(150));
    harness.settle();
    assert_eq!(client.received().len(), 100, "in one piece, too");
    assert!(harness.shard.sessions[client.id].counted_throttled);
    harness.pass_second();
    harness.settle();
    assert_eq!(client.received().len(), 50);
}

#[test]
fn bytes_of_messages_are_bounded_in_a_second_too() {
    let mut harness = Harness::open();
    harness.shard.settings.limits.inbound_bytes_per_second_max = 200_000;
    let client = deflating(&mut harness);
    send(&mut harness, &client, &bloated().repeat(9));
    for heard in [4, 4, 1] {
        harness.settle();
        assert_eq!(client.received().len(), heard, "65,000 bytes each");
        harness.pass_second();
    }
}

#[test]
fn a_client_that_pings_and_never_reads_is_held_in_bounded_memory() {
    let mut harness = Harness::open();
    let client = harness.join();
    client.pipe.borrow_mut().room = 1000;
    let pings = frame(0x89, &[7; CONTROL_BYTES_MAX]).repeat(100);
    for _ in 0..100 {
        send(&mut harness, &client, &pings);
        harness.pass_second();
        harness.settle();
    }
    let session = &harness.shard.sessions[client.id];
    let held = session.unsent().len() + session.transport().held_bytes();
    assert!(held <= ANSWER_BYTES + 2 * CONTROL_BYTES_MAX + 2 * harness.shard.read_buffer.len(), "{held}");
    assert!(
        harness.shard.sessions.unsent_bytes() + harness.shard.sessions.inbound_bytes() >= held,
        "all of it is counted"
    );
    assert!(client.pipe.borrow().to_server.len() > 100 * pings.len() * 9 / 10, "the rest waits in its socket");
    client.pipe.borrow_mut().room = usize::MAX >> 1;
    harness.shard.ready(client.id, false, harness.now);
    harness.settle();
    assert_eq!(client.pipe.borrow().to_client.len(), 100 * 100 * (2 + CONTROL_BYTES_MAX));
    assert_eq!((harness.shard.sessions.unsent_bytes(), harness.shard.sessions.inbound_bytes()), (0, 0));
}
