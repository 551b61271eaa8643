//! What clients send is read in bounded parts.

use super::ANSWER_BYTES;
use crate::delivery::budget::MESSAGES_PER_TURN;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::wire::deflate::Deflater;
use crate::wire::frame::{CONTROL_BYTES_MAX, Opcode, put_header};
use crate::wire::negotiate::Agreement;

const PING: &[u8] = br#"{"op":"ping"}"#;

/// A client's WireFrame, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, Opcode::Text, false, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    [&out, &[0; 4][..], payload].concat()
}

fn send(stage: &mut Harness, puppet: &HarnessClient, bytes: &[u8]) {
    puppet.pipe.borrow_mut().to_server.extend(bytes);
    stage.shard.ready(puppet.id, true, stage.now);
}

fn deflating(stage: &mut Harness) -> HarnessClient {
    let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
    let puppet = stage.adopt(SessionOptions { deflate, ..SessionOptions::default() });
    stage.settle();
    puppet.hear();
    puppet
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
    let mut stage = Harness::open();
    let greedy = [deflating(&mut stage), deflating(&mut stage), deflating(&mut stage)];
    let other = stage.join();
    let burst = bloated().repeat(20);
    greedy.iter().for_each(|puppet| puppet.pipe.borrow_mut().to_server.extend(&burst));
    for puppet in &greedy {
        stage.shard.ready(puppet.id, true, stage.now);
    }
    let (mut heard, mut turns) = ([0; 3], 0);
    while heard.iter().sum::<usize>() < 60 {
        send(&mut stage, &other, &frame(0x81, PING));
        stage.turn();
        turns += 1;
        let now = [0, 1, 2].map(|at| greedy[at].hear().len());
        assert!(now.iter().sum::<usize>() <= 2 * (MESSAGES_PER_TURN / 65_000 + 1), "turn {turns}: {now:?}");
        heard = [0, 1, 2].map(|at| heard[at] + now[at]);
        let (least, most) = (heard.iter().min(), heard.iter().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 4), "one after the other: {heard:?}");
        assert!(turns < 100, "{heard:?}");
    }
    assert!(turns >= 6, "found {turns}");
    stage.settle();
    assert_eq!(other.hear().len(), turns, "the other one was answered all the time");
}

#[test]
fn as_many_messages_as_are_allowed_are_read_in_a_second_and_nothing_else_counts() {
    let mut stage = Harness::open();
    stage.shard.settings.messages_per_second_max = 100;
    let puppet = stage.join();
    for second in 0..3 {
        for n in 0..100 {
            // Some come in pieces: two frames, and the second of them byte by byte.
            if n % 10 == 0 {
                send(&mut stage, &puppet, &frame(0x01, &PING[..5]));
                let rest = frame(0x80, &PING[5..]);
                rest.chunks(1).for_each(|byte| send(&mut stage, &puppet, byte));
            } else {
                send(&mut stage, &puppet, &frame(0x81, PING));
            }
            stage.settle();
            assert_eq!(puppet.hear().len(), 1, "message {n} of second {second}");
        }
        assert!(!stage.shard.sessions[puppet.id].counted_throttled);
        stage.pass_second();
    }
    send(&mut stage, &puppet, &frame(0x81, PING).repeat(150));
    stage.settle();
    assert_eq!(puppet.hear().len(), 100, "in one piece, too");
    assert!(stage.shard.sessions[puppet.id].counted_throttled);
    stage.pass_second();
    stage.settle();
    assert_eq!(puppet.hear().len(), 50);
}

#[test]
fn bytes_of_messages_are_bounded_in_a_second_too() {
    let mut stage = Harness::open();
    stage.shard.settings.inbound_bytes_per_second_max = 200_000;
    let puppet = deflating(&mut stage);
    send(&mut stage, &puppet, &bloated().repeat(9));
    for heard in [4, 4, 1] {
        stage.settle();
        assert_eq!(puppet.hear().len(), heard, "65,000 bytes each");
        stage.pass_second();
    }
}

#[test]
fn a_client_that_pings_and_never_reads_is_held_in_bounded_memory() {
    let mut stage = Harness::open();
    let puppet = stage.join();
    puppet.pipe.borrow_mut().room = 1000;
    let pings = frame(0x89, &[7; CONTROL_BYTES_MAX]).repeat(100);
    for _ in 0..100 {
        send(&mut stage, &puppet, &pings);
        stage.pass_second();
        stage.settle();
    }
    let session = &stage.shard.sessions[puppet.id];
    let held = session.unsent().len() + session.transport().held_bytes();
    assert!(held <= ANSWER_BYTES + 2 * CONTROL_BYTES_MAX + 2 * stage.shard.read_buffer.len(), "{held}");
    assert!(stage.shard.sessions.unsent_bytes() + stage.shard.sessions.inbound_bytes() >= held, "all of it is counted");
    assert!(puppet.pipe.borrow().to_server.len() > 100 * pings.len() * 9 / 10, "the rest waits in its socket");
    puppet.pipe.borrow_mut().room = usize::MAX >> 1;
    stage.shard.ready(puppet.id, false, stage.now);
    stage.settle();
    assert_eq!(puppet.pipe.borrow().to_client.len(), 100 * 100 * (2 + CONTROL_BYTES_MAX));
    assert_eq!((stage.shard.sessions.unsent_bytes(), stage.shard.sessions.inbound_bytes()), (0, 0));
}
