//! Streams of events on a shard: what they cost, and what they read.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bus::retention::Retention;
use crate::delivery::handoff::{SessionOptions, StreamKind, StreamOptions};
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::sessions::session::Session;
use crate::delivery::sessions::sync_state::SyncState;
use crate::delivery::simulation::client::FakeSocket;
use crate::delivery::transport::session_transport::SessionTransport;
use crate::delivery::transport::websocket::WebSocket;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::protocol::event_stream::GZIP_HEADER;
use crate::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;

fn options(stream: Option<(StreamKind, bool)>, deflate: bool) -> SessionOptions {
    let agreement = Agreement { server_no_context_takeover: false, server_max_window_bits: None };
    SessionOptions {
        patterns: vec![Pattern::parse(">").expect("a pattern")],
        deflate: deflate.then_some(agreement),
        stream: stream.map(|(kind, gzip)| StreamOptions { kind, gzip, head: Bytes::new() }),
        ..SessionOptions::default()
    }
}

/// Quotes as a venue sends them.
fn publish(harness: &mut Harness, rng: &mut StdRng) {
    let symbol = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT"][rng.random_range(0..5)];
    let price = f64::from(rng.random_range(1_000_000..9_999_999)) / 100.0;
    let (id, size) = (rng.random::<u32>(), f64::from(rng.random_range(1..99_999)) / 1000.0);
    let text = format!(
        r#"{{"u":{id},"s":"{symbol}","b":"{price:.2}","B":"{size:.3}","a":"{:.2}","A":"{size:.3}"}}"#,
        price + 0.01
    );
    let payload = Payload { bytes: Bytes::from(text), kind: PayloadKind::Json };
    harness.now.mono_ns += 1_000_000;
    harness.publisher.publish(symbol, payload, Retention::NEWEST, harness.now).expect("a good topic");
}

fn take(client: &HarnessClient) -> Vec<u8> {
    std::mem::take(&mut client.pipe.borrow_mut().to_client)
}

fn is_boarded(harness: &Harness, client: &HarnessClient) -> bool {
    matches!(harness.shard.sessions[client.id].state(), SyncState::Boarded { .. })
}

/// Bytes of a stream in gzip over those of a WebSocket client on board of the shared window, with so many frames in a round.
fn ratio(frames: usize) -> f64 {
    // A window each, of the one kind in its own shard.
    let mut bytes = [0, 0];
    for (place, stream) in [(0, Some((StreamKind::Events, true))), (1, None)] {
        let mut harness = Harness::open();
        let clients = [(); 2].map(|()| harness.adopt(options(stream, stream.is_none())));
        let mut rng = StdRng::seed_from_u64(8);
        for round in 0..400 {
            (0..frames).for_each(|_| publish(&mut harness, &mut rng));
            harness.settle();
            let received = clients.each_ref().map(take);
            if round >= 100 {
                assert!(is_boarded(&harness, &clients[0]), "{stream:?}");
                assert_eq!(received[0], received[1], "all on board share the bytes");
                bytes[place] += received[0].len();
            }
        }
    }
    bytes[0] as f64 / bytes[1] as f64
}

#[test]
fn in_gzip_a_stream_of_batches_takes_no_more_bytes_than_the_shared_window_of_websockets() {
    for (frames, max) in [(1, 1.35), (8, 1.05), (64, 1.05)] {
        let ratio = ratio(frames);
        println!("{frames} frames a round: gzip / window {ratio:.3}");
        assert!(ratio <= max, "{frames} frames a round: {ratio:.3}");
    }
}

#[test]
fn a_stream_takes_no_more_memory_than_a_websocket() {
    assert!(size_of::<SessionTransport>() <= size_of::<WebSocket>() + size_of::<usize>());
    println!("a session: {} bytes", size_of::<Session<FakeSocket>>());
}

/// Whoever leaves the window and comes back, for heartbeats, for falling behind, reads everything.
#[test]
fn all_streams_in_gzip_inflate_whatever_comes_between_the_frames() {
    let (mut harness, mut rng) = (Harness::open(), StdRng::seed_from_u64(9));
    let mut readers: Vec<(HarnessClient, Decompress, String, usize)> = Vec::new();
    let (mut boarded, mut published) = (0, 0);
    for round in 0..600 {
        if round % 60 == 0 {
            let client = harness.adopt(options(Some((StreamKind::Events, true)), false));
            readers.push((client, Decompress::new(false), String::new(), GZIP_HEADER.len()));
        }
        for _ in 0..rng.random_range(0..4) {
            publish(&mut harness, &mut rng);
            published += 1;
        }
        if rng.random_bool(0.02) {
            // One reads nothing for a while.
            let slow = rng.random_range(0..readers.len());
            readers[slow].0.pipe.borrow_mut().room = rng.random_range(0..200);
        }
        if rng.random_bool(0.02) {
            for (client, ..) in &readers {
                client.pipe.borrow_mut().room = 1 << 30;
                harness.shard.ready(client.id, false, harness.now);
            }
        }
        if rng.random_bool(0.01) {
            // A message to one of them alone.
            let alone = rng.random_range(0..readers.len());
            harness.shard.say_alone(readers[alone].0.id, harness.now);
        }
        harness.settle();
        for (client, inflater, text, header) in &mut readers {
            let bytes = take(client);
            let skipped = bytes.len().min(*header);
            *header -= skipped;
            let mut out = vec![0; 1 << 20];
            let before = inflater.total_out();
            inflater.decompress(&bytes[skipped..], &mut out, FlushDecompress::None).expect("one deflate stream");
            let written = (inflater.total_out() - before) as usize;
            text.push_str(std::str::from_utf8(&out[..written]).expect("ASCII"));
            boarded += usize::from(is_boarded(&harness, client));
        }
    }
    for (client, ..) in &readers {
        client.pipe.borrow_mut().room = 1 << 30;
        harness.shard.ready(client.id, false, harness.now);
    }
    harness.settle();
    for (client, inflater, text, _) in &mut readers {
        let mut out = vec![0; 1 << 22];
        let before = inflater.total_out();
        inflater.decompress(&take(client), &mut out, FlushDecompress::None).expect("one deflate stream");
        text.push_str(std::str::from_utf8(&out[..(inflater.total_out() - before) as usize]).expect("ASCII"));
        let mut last = 0;
        for event in text.split_terminator("\n\n").filter(|event| event.starts_with("id: ")) {
            let (id, data) = event.split_once("\ndata: ").expect("a frame");
            let frame: serde_json::Value = serde_json::from_str(data).expect("JSON");
            let offset = frame["offset"].as_u64().expect("an offset");
            assert!(id.ends_with(&format!(":{offset}")) && offset > last, "{id} after {last}: {data}");
            last = offset;
        }
        assert_eq!(last, published, "everything has been sent");
    }
    assert!(boarded > 500, "some were on board: {boarded}");
}
