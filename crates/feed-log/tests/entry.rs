//! Entries survive writing and reading, and no input makes the reader do worse than refuse it.

use bytes::Bytes;
use feed_log::chain::Chain;
use feed_log::entry::error::EntryError;
use feed_log::entry::header::{EntryHeader, HEADER_BYTES};
use feed_log::entry::item::{
    FrameRole, LoggedFrame, LoggedItem, LoggedPayload, LoggedState, LoggedStatus, PayloadForm, StatusForm,
};
use feed_log::entry::part::{EntryPart, PartAssembly};
use feed_log::entry::term::{Term, TermReason};
use feed_log::entry::{Deflate, EntryBody, EntryPlace, LogEntry, LoggedText, PartCount};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SEEDS: u64 = 200;

fn text(rng: &mut StdRng) -> LoggedText {
    LoggedText::from(["ticker.BTC-USD", "book.ETH", "тема", "", "a"][rng.random_range(0..5)])
}

fn blob(rng: &mut StdRng, max: usize) -> Bytes {
    (0..rng.random_range(0..=max)).map(|_| rng.random::<u8>()).collect()
}

fn payload(rng: &mut StdRng) -> LoggedPayload {
    let kind = [PayloadForm::Json, PayloadForm::Text, PayloadForm::Binary][rng.random_range(0..3)];
    LoggedPayload { kind, bytes: blob(rng, 40) }
}

fn item(rng: &mut StdRng) -> LoggedItem {
    match rng.random_range(0..8) {
        0 => {
            let kind = [StatusForm::Gap, StatusForm::Stale, StatusForm::Live, StatusForm::Refused];
            let (topic, kind) = (text(rng), kind[rng.random_range(0..4)]);
            LoggedItem::Status(LoggedStatus { topic, kind, received_ms: rng.random(), text: blob(rng, 30) })
        }
        1 => {
            let topics = (0..rng.random_range(0..4)).map(|_| text(rng)).collect();
            LoggedItem::Forgotten { received_ms: rng.random(), topics }
        }
        2 => {
            let (label, reason, message) = (text(rng), text(rng), text(rng));
            LoggedItem::State(LoggedState { label, reason, since_ms: rng.random(), message })
        }
        3 => LoggedItem::Cursor(blob(rng, 20)),
        _ => {
            let keep = rng.random();
            let role = [FrameRole::Value { keep }, FrameRole::Start, FrameRole::Change, FrameRole::Moment];
            LoggedItem::Frame(LoggedFrame {
                topic: text(rng),
                role: role[rng.random_range(0..4)],
                received_ms: rng.random(),
                venue_number: rng.random::<bool>().then(|| rng.random()),
                payload: payload(rng),
                whole: rng.random::<bool>().then(|| payload(rng)),
            })
        }
    }
}

fn body(rng: &mut StdRng) -> EntryBody {
    let count = rng.random_range(0..12);
    match rng.random_range(0..5) {
        0 => EntryBody::Term(Term {
            reason: [TermReason::First, TermReason::Fork, TermReason::Restart][rng.random_range(0..3)],
            previous: rng.random(),
            base_offset: rng.random(),
            base_chain: Chain(rng.random()),
            configuration: rng.random(),
            node_name: text(rng),
            resigns: rng.random(),
        }),
        1 => EntryBody::Part(EntryPart { index: 2, parts: 7, bytes: blob(rng, 60) }),
        2 => {
            let items = (0..count).map(|_| (rng.random(), item(rng))).collect();
            EntryBody::Retained { items, is_last: rng.random() }
        }
        _ => EntryBody::Batch((0..count).map(|_| item(rng)).collect()),
    }
}

fn place(rng: &mut StdRng) -> EntryPlace {
    EntryPlace {
        term: rng.random(),
        node: rng.random(),
        epoch: rng.random(),
        first: rng.random(),
        chain_before: Chain(rng.random()),
        sent_ms: rng.random(),
    }
}

fn entries() -> impl Iterator<Item = (u64, EntryPlace, EntryBody, Bytes, Chain)> {
    (0..SEEDS).map(|seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (place, body) = (place(&mut rng), body(&mut rng));
        let deflate = if rng.random() { Deflate::Yes } else { Deflate::No };
        let (bytes, chain) = place.encode(&body, deflate, PartCount(3)).expect("it fits");
        (seed, place, body, bytes, chain)
    })
}

#[test]
fn what_was_written_is_read() {
    for (seed, place, body, bytes, chain) in entries() {
        let entry = LogEntry::decode(bytes.clone()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((&entry.body, entry.chain), (&body, chain), "seed {seed}");
        let EntryHeader { term, node, epoch, first, chain_before, sent_ms, .. } = entry.header;
        assert_eq!(EntryPlace { term, node, epoch, first, chain_before, sent_ms }, place, "seed {seed}");
        assert_eq!(EntryHeader::decode(&bytes).expect("the same"), entry.header, "seed {seed}");
        let numbered = match &body {
            EntryBody::Batch(items) => items.iter().filter(|item| item.is_numbered()).count(),
            EntryBody::Part(_) => 3,
            EntryBody::Term(_) | EntryBody::Retained { .. } => 0,
        };
        assert_eq!(usize::from(entry.header.count), numbered, "seed {seed}");
    }
}

#[test]
fn payloads_are_slices_of_what_was_read() {
    let topic = LoggedText::from("t");
    let payload = LoggedPayload { kind: PayloadForm::Json, bytes: Bytes::from(vec![b'1'; 4096]) };
    let frame = LoggedFrame { topic, role: FrameRole::Start, received_ms: 1, venue_number: None, payload, whole: None };
    let place = place(&mut StdRng::seed_from_u64(1));
    let body = EntryBody::Batch(vec![LoggedItem::Frame(frame)]);
    let (bytes, _) = place.encode(&body, Deflate::No, PartCount::default()).expect("it fits");
    let EntryBody::Batch(items) = LogEntry::decode(bytes.clone()).expect("an entry").body else { panic!("a batch") };
    let LoggedItem::Frame(frame) = &items[0] else { panic!("a frame") };
    assert!(bytes.as_ptr_range().contains(&frame.payload.bytes.as_ptr()));
}

#[test]
fn a_cut_entry_is_refused() {
    let mut cuts = 0;
    for (seed, _, body, bytes, chain) in entries() {
        for length in 0..bytes.len() {
            let read = LogEntry::decode(bytes.slice(..length));
            if length < HEADER_BYTES {
                assert!(matches!(read, Err(EntryError::Truncated { .. })), "seed {seed}, {length} bytes: {read:?}");
            }
            // Where the cut falls between two items that have no number, or in a part, the hash tells.
            assert!(read.is_err() || Chain::after(&bytes[..length]) != chain, "seed {seed}, {length}");
            let is_batch = matches!(&body, EntryBody::Batch(items) if items.iter().all(LoggedItem::is_numbered));
            assert!(!is_batch || LogEntry::decode(bytes.slice(..length)).is_err(), "seed {seed}, {length} bytes");
            cuts += 1;
        }
    }
    assert!(cuts > 10_000, "{cuts} cuts");
}

#[test]
fn a_flipped_bit_is_refused_or_changes_the_chain() {
    let mut refused = 0;
    for (seed, _, _, bytes, chain) in entries() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match LogEntry::decode(flipped.into()) {
                Ok(entry) => assert_ne!(entry.chain, chain, "seed {seed}, bit {bit}"),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("expected"), "{error}");
                }
            }
        }
    }
    assert!(refused > 10_000, "{refused} refused");
}

#[test]
fn noise_is_refused() {
    let mut rng = StdRng::seed_from_u64(7);
    let (_, _, _, good, _) = entries().next().expect("one");
    for _ in 0..20_000 {
        let mut bytes = if rng.random() { good[..HEADER_BYTES].to_vec() } else { Vec::new() };
        bytes.extend(blob(&mut rng, 80));
        if let Ok(entry) = LogEntry::decode(bytes.clone().into()) {
            assert_eq!(entry.chain, Chain::after(&bytes));
        }
    }
}

#[test]
fn a_deflated_body_that_grows_without_bound_is_refused() {
    let place = place(&mut StdRng::seed_from_u64(1));
    let zeros = LoggedItem::Cursor(Bytes::from(vec![0; 15 << 20]));
    let body = EntryBody::Batch(vec![zeros.clone()]);
    let (bytes, _) = place.encode(&body, Deflate::Yes, PartCount::default()).expect("it fits");
    assert!(bytes.len() < 1 << 20 && LogEntry::decode(bytes).is_ok());
    let body = EntryBody::Batch(vec![zeros.clone(), zeros]);
    let error = place.encode(&body, Deflate::Yes, PartCount::default()).expect_err("more than may be inflated");
    assert!(matches!(error, EntryError::Deflated { .. }), "{error}");
}

#[test]
fn a_large_batch_is_put_together_of_its_parts_in_order() {
    let mut rng = StdRng::seed_from_u64(3);
    let items: Vec<LoggedItem> = (0..60).map(|_| item(&mut rng)).collect();
    let whole = EntryBody::Batch(items.clone()).encode().expect("it fits");
    let parts = EntryPart::cut(&whole, 100).expect("few enough");
    assert!(parts.len() > 5);
    let (mut assembly, mut place) = (PartAssembly::default(), place(&mut rng));
    let numbered = items.iter().filter(|item| item.is_numbered()).count() as u16;
    let mut read = None;
    for part in &parts {
        let is_last = usize::from(part.index) + 1 == parts.len();
        let count = PartCount(if is_last { numbered } else { 0 });
        let (bytes, chain) = place.encode(&EntryBody::Part(part.clone()), Deflate::No, count).expect("it fits");
        let entry = LogEntry::decode(bytes).expect("a part");
        assert_eq!(entry.header.chain_before, place.chain_before);
        place.chain_before = chain;
        let EntryBody::Part(part) = entry.body else { panic!("a part") };
        if let Some(bytes) = assembly.take(&part).expect("in order") {
            read = Some(EntryBody::decode_parts(&entry.header, bytes).expect("the batch"));
        }
    }
    assert_eq!(read, Some(items));
    assembly.take(&parts[0]).expect("the first");
    let error = assembly.take(&parts[2]).expect_err("the second is missing");
    assert!(matches!(error, EntryError::Part { expected: 1, found: 2, .. }), "{error}");
    assert!(assembly.take(&parts[0]).is_ok(), "it begins again");
}
