//! What clients have begun to send is bounded.

use crate::delivery::harness::{Harness, HarnessClient};

const SECOND_NS: u64 = 1_000_000_000;

fn send(harness: &mut Harness, client: &HarnessClient, bytes: &[u8]) {
    client.pipe.borrow_mut().to_server.extend(bytes);
    harness.shard.ready(client.id, true, harness.now);
}

/// The code of the close frame that is the last thing the client got.
fn close_code(client: &HarnessClient) -> Option<u16> {
    let pipe = client.pipe.borrow();
    let at = pipe.to_client.iter().rposition(|byte| *byte == 0x88)?;
    let code = pipe.to_client.get(at + 2..at + 4)?;
    Some(u16::from_be_bytes([code[0], code[1]]))
}

fn harness() -> Harness {
    let mut harness = Harness::open();
    harness.shard.settings.message_timeout = std::time::Duration::from_secs(30);
    harness
}

#[test]
fn a_message_that_does_not_end_in_time_ends_its_session_however_its_bytes_trickle() {
    let half = [&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b' '; 50]].concat();
    let header: &[u8] = &[0x81];
    let fragment: &[u8] = &[0x01, 0x81, 0, 0, 0, 0, b' '];
    let empty_fragment: &[u8] = &[0x00, 0x80, 0, 0, 0, 0];
    let ping: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
    for (what, first, then) in [
        ("silence", &half[..], &[][..]),
        ("a byte now and then", &half, b" "),
        ("half a header", header, &[]),
        ("a fragment and nothing", fragment, &[]),
        ("empty fragments", fragment, empty_fragment),
        ("pings inside a fragmented message", fragment, ping),
    ] {
        let mut harness = harness();
        let client = harness.join();
        send(&mut harness, &client, first);
        for second in 0..35 {
            harness.pass_second();
            harness.settle();
            if second % 5 == 0 && close_code(&client).is_none() {
                send(&mut harness, &client, then);
            }
            assert!(second > 28 || close_code(&client).is_none(), "{what}: after {second} s");
        }
        assert_eq!(close_code(&client), Some(4411), "{what}");
        assert_eq!(harness.shard.sessions.inbound_bytes(), 0);
    }
}

#[test]
fn whole_messages_have_time_whatever_they_wait_for() {
    let mut harness = harness();
    harness.shard.settings.messages_per_second_max = 1;
    let ping = [&[0x81, 0x80 | 13, 0, 0, 0, 0][..], br#"{"op":"ping"}"#].concat();
    let (throttled, blocked, slow) = (harness.join(), harness.join(), harness.join());
    send(&mut harness, &throttled, &ping.repeat(100));
    blocked.pipe.borrow_mut().room = 0;
    send(&mut harness, &blocked, &ping.repeat(3));
    for second in 0..90 {
        harness.pass_second();
        harness.settle();
        // Each message of the third one takes 18 seconds, and each has its own time.
        send(&mut harness, &slow, &ping[second % ping.len()..][..1]);
    }
    assert_eq!([&throttled, &blocked, &slow].map(close_code), [None; 3]);
    assert!(throttled.received().len() > 80 && slow.received().len() == 4);
    blocked.pipe.borrow_mut().room = 1000;
    harness.shard.ready(blocked.id, false, harness.now);
    for _ in 0..5 {
        harness.settle();
        harness.pass_second();
    }
    assert_eq!(blocked.received().len(), 3);
}

#[test]
fn beyond_the_bytes_of_all_those_that_began_first_are_ended() {
    const BYTES: usize = 10_000;
    let mut harness = harness();
    harness.shard.settings.inbound_bytes_total_max = 40 * BYTES;
    let half = [&[0x81, 0x80 | 126, 0xFF, 0xFF, 0, 0, 0, 0][..], &vec![b' '; BYTES]].concat();
    let clients: Vec<HarnessClient> = (0..100).map(|_| harness.join()).collect();
    for client in &clients {
        harness.now.mono_ns += SECOND_NS / 100;
        send(&mut harness, client, &half);
        harness.turn();
        assert!(harness.shard.sessions.inbound_bytes() <= 40 * BYTES, "{}", harness.shard.sessions.inbound_bytes());
    }
    harness.settle();
    let codes: Vec<Option<u16>> = clients.iter().map(close_code).collect();
    let ended = codes.iter().position(Option::is_none).expect("the newest stay");
    assert!((60..70).contains(&ended), "the oldest: {ended}");
    assert!(codes[..ended].iter().all(|code| *code == Some(1013)));
    assert!(codes[ended..].iter().all(Option::is_none));
    for client in &clients[ended..] {
        harness.vanish(client);
    }
    assert_eq!(harness.shard.sessions.inbound_bytes(), 0);
}
