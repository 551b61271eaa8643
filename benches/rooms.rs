//! The cost of single steps of the rooms: publishing and reading the ring, the topic index, patterns, encodings,
//! decoding.
//!
//! `cargo bench --bench rooms`. Messages are the simulated market's. Nothing here touches a socket.

use std::sync::Arc;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use fanline::bus::frame::{Frame, Topic};
use fanline::bus::publisher::Publisher;
use fanline::bus::reader::Reader;
use fanline::bus::retention::Retention;
use fanline::bus::signal::doorbell::Doorbell;
use fanline::bus::{self, Limits};
use fanline::delivery::lanes::topic_index::{LaneId, TopicIndex};
use fanline::protocol::encoding::{Encoder, Encoding, Envelope, Payload, PayloadKind};
use fanline::settings::table::MarketSettings;
use fanline::simulator::market::Market;
use fanline::words::ids::{Epoch, Offset, TopicId};
use fanline::words::metrics::Meters;
use fanline::words::patterns::PatternSet;
use fanline::words::stamp::Stamp;
use fanline::words::topic::Pattern;
use shared_deflate::deflate::{Deflater, Inflater, WINDOW_BITS_MAX};
use shared_deflate::frame::{Decoder, Opcode, put_deflated, put_frame};
use shared_deflate::scan::FrameScanner;

const MESSAGES: usize = 256;

fn main() {
    divan::main();
}

/// The market's messages, and the topics they are about.
fn messages(count: usize) -> Vec<(String, Payload)> {
    let mut market = Market::new(MarketSettings::default()).expect("a market");
    let messages = (0..count).map(|_| {
        let text = market.next(1_767_225_600_000).text;
        let topic = text.split('"').nth(3).expect("a topic").to_owned();
        (topic, Payload { bytes: Bytes::from(text), kind: PayloadKind::Json })
    });
    messages.collect()
}

fn bytes(messages: &[(String, Payload)]) -> usize {
    messages.iter().map(|(_, payload)| payload.bytes.len()).sum()
}

/// A bus with a full ring of this many frames.
fn full_bus(frames: usize) -> (Publisher, Reader) {
    let limits = Limits { ring_frames_max: frames, ring_bytes_max: 1 << 30, topics_max: 1000 };
    let (mut publisher, reader) = bus::open(Epoch(1), limits, &Meters::unread());
    for (topic, payload) in messages(MESSAGES).iter().cycle().take(frames) {
        publisher.publish(topic, payload.clone(), Retention::NEWEST, Stamp::default()).expect("a good topic");
    }
    (publisher, reader)
}

/// Numbering, remembering, storing and ringing, by capacity of the ring and number of shards, which are awake.
#[divan::bench(args = [(1024, 1), (65_536, 1), (65_536, 8), (1_048_576, 8)])]
fn ring_publish(bencher: Bencher<'_, '_>, (capacity, shards): (usize, usize)) {
    let (mut publisher, reader) = full_bus(capacity);
    (0..shards).for_each(|_| reader.add_doorbell(Arc::new(Doorbell::new(|| {}))));
    let messages = messages(MESSAGES);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        for (topic, payload) in &messages {
            publisher.publish(topic, payload.clone(), Retention::NEWEST, Stamp::default()).expect("a good topic");
        }
    });
}

/// Every frame of the ring once, in order, as a shard reads it.
#[divan::bench(args = [1024, 65_536])]
fn ring_read(bencher: Bencher<'_, '_>, capacity: usize) {
    let (_publisher, reader) = full_bus(capacity);
    bencher.counter(ItemsCount::new(capacity)).bench_local(|| {
        let mut offset = reader.tail();
        while offset <= reader.head() {
            black_box(reader.frame(offset).hot());
            offset = offset.next();
        }
    });
}

fn frames(topics: u32) -> Vec<Arc<Frame>> {
    let payload = Payload { bytes: Bytes::from_static(b"{}"), kind: PayloadKind::Json };
    let frames = (0..topics).map(|id| {
        let topic = Arc::new(Topic { id: TopicId(id), name: format!("trade.SYMBOL-{id}").into(), keep: None });
        Arc::new(Frame::new(Offset(u64::from(id) + 1), topic, Stamp::default(), payload.clone(), Retention::NEWEST))
    });
    frames.collect()
}

/// A frame of a known topic, by number of topics.
#[divan::bench(args = [100, 10_000])]
fn index_note(bencher: Bencher<'_, '_>, topics: u32) {
    let (mut index, frames) = (TopicIndex::default(), frames(topics));
    index.add_lane(LaneId(0), &Arc::default(), (&[Pattern::parse(">").expect("a pattern")], None));
    bencher.counter(ItemsCount::new(frames.len())).bench_local(|| {
        for frame in &frames {
            black_box(index.take_frame(frame.clone()));
        }
    });
}

/// A new lane with one wildcard, by number of topics.
#[divan::bench(args = [100, 10_000])]
fn index_new_lane(bencher: Bencher<'_, '_>, topics: u32) {
    let mut index = TopicIndex::default();
    frames(topics).into_iter().for_each(|frame| {
        index.take_frame(frame);
    });
    let patterns = [Pattern::parse("trade.*7").expect("a pattern")];
    let wildcards: PatternSet = patterns.iter().collect();
    bencher.counter(ItemsCount::new(index.slots())).bench_local(|| {
        index.add_lane(LaneId(1), &Arc::default(), (&patterns, None));
        black_box(index.match_lane(LaneId(1), &wildcards, (0, usize::MAX)));
        index.remove_wildcards(LaneId(1), &patterns);
        index.leave(LaneId(1), usize::MAX);
    });
}

#[divan::bench(args = ["trade.BTC-USD", "trade.*", "*.BTC-USD", "trade.>", "*a*b*c*d*.*"])]
fn pattern_matches(bencher: Bencher<'_, '_>, pattern: &str) {
    let pattern = Pattern::parse(pattern).expect("a pattern");
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| black_box(&pattern).matches(black_box("trade.BTC-USD")));
}

/// One encoding of a frame, made once for all clients.
#[divan::bench(args = Encoding::ALL.map(Encoding::label))]
fn encode(bencher: Bencher<'_, '_>, label: &str) {
    let encoding = Encoding::ALL.into_iter().find(|encoding| encoding.label() == label).expect("a label");
    let (mut encoder, messages) = (Encoder::new(6), messages(MESSAGES));
    let counter = (ItemsCount::new(MESSAGES), BytesCount::new(bytes(&messages)));
    bencher.counter(counter.0).counter(counter.1).bench_local(|| {
        for (topic, payload) in &messages {
            let (offset, ts_ms) = (Offset(1_000_000), 1_767_225_600_000);
            black_box(encoder.encode(encoding, &Envelope { topic, offset, ts_ms, kind: None, payload }));
        }
    });
}

/// The messages between two cuts of a shared window, by zlib's level.
#[divan::bench(args = [1, 6, 7, 9])]
fn window_deflate(bencher: Bencher<'_, '_>, level: u32) {
    let (mut deflater, messages) = (Deflater::new(level, WINDOW_BITS_MAX), messages(MESSAGES));
    let mut out = Vec::new();
    let counter = (ItemsCount::new(MESSAGES), BytesCount::new(bytes(&messages)));
    bencher.counter(counter.0).counter(counter.1).bench_local(|| {
        out.clear();
        deflater.cut();
        for (_, payload) in &messages {
            put_deflated(&mut out, Opcode::Text, &payload.bytes, &mut deflater);
        }
        black_box(&out);
    });
}

/// A client's command: header, mask, UTF-8.
#[divan::bench]
fn decode_command(bencher: Bencher<'_, '_>) {
    let command = br#"{"op":"subscribe","id":1,"topics":["trade.*","quote.BTC-USD"]}"#;
    let masked = [&[0x81, 0x80 | command.len() as u8, 0, 0, 0, 0][..], command].concat();
    let (mut decoder, mut inflater) = (Decoder::new(65_536, true), Inflater::new());
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        decoder.push(&masked);
        black_box(decoder.next(&mut inflater).expect("a command"));
    });
}

/// The work of the load tool on a stream that it only counts.
#[divan::bench]
fn scan_stream(bencher: Bencher<'_, '_>) {
    let mut stream = Vec::new();
    messages(MESSAGES).iter().for_each(|(_, payload)| put_frame(&mut stream, Opcode::Text, &payload.bytes));
    let mut scanner = FrameScanner::default();
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        let mut count = 0;
        scanner.scan(black_box(&stream), |_, _| count += 1).expect("unmasked");
        count
    });
}
