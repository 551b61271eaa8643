//! Recorded books as clients that join receive them, checked by the venues' own checksums and by books kept in another
//! way.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::intake::assemble::Assembler;
use crate::intake::assemble::recordings::books::order_book::{Checksums, OrderBook};
use crate::intake::assemble::recordings::{
    AssemblerLog, HandRule, KRAKEN_BOOK, RecordingLine, is, kraken_snapshot, kraken_topic, recorded, token,
};

/// Clients in tests of the whole server keep the same books.
#[allow(unreachable_pub)]
#[path = "../../../../tests/kit/order_book.rs"]
mod order_book;

/// Applies messages to a book; returns the checksum that the message names, and that of the book.
type Apply = fn(&mut OrderBook, &str, usize) -> Checksums;

fn kraken(book: &mut OrderBook, message: &str, depth: usize) -> Checksums {
    if is(message, "/type", "\"snapshot\"") {
        *book = OrderBook::default();
    }
    order_book::kraken(book, message, depth)
}

fn okx(book: &mut OrderBook, message: &str, _: usize) -> Checksums {
    if is(message, "/action", "\"snapshot\"") {
        *book = OrderBook::default();
    }
    order_book::okx(book, message)
}

/// Plays a recording; at many moments a client joins, and receives every message from then on. Its checksums must hold
/// to the end.
fn clients_that_join_have_right_books(
    apply: Apply,
    rule: &HandRule,
    lines: &[&RecordingLine],
    depth: usize,
) -> AssemblerLog {
    let (mut assembler, mut log) = (Assembler::default(), AssemblerLog::default());
    let mut joined: Vec<(String, OrderBook)> = Vec::new();
    let mut checked = 0;
    for (place, line) in lines.iter().enumerate() {
        rule.apply(line, &mut assembler, &mut log);
        let Some(topic) = (rule.topic)(&line.text, token(&line.text, "/data/0").unwrap_or_default()) else { continue };
        for (_, book) in joined.iter_mut().filter(|(of, _)| *of == topic) {
            let (named, own) = apply(book, &line.text, depth);
            assert_eq!(named, own, "line {place}: {}", line.text);
            checked += 1;
        }
        if place % (lines.len() / 50) == 0 {
            let mut book = OrderBook::default();
            for message in &log.kept[&topic] {
                let (named, own) = apply(&mut book, message, depth);
                assert_eq!(named, own, "one that joins at line {place}: {message}");
            }
            joined.push((topic, book));
        }
    }
    assert!(joined.len() >= 50 && checked > lines.len(), "{} joined, {checked} checksums", joined.len());
    assert_eq!((log.gaps.len(), log.remedies.len()), (0, 0));
    log
}

#[test]
fn a_client_that_joins_kraken_has_the_book_of_its_checksums() {
    let Some(lines) = recorded("kraken-v2") else { return };
    let lines: Vec<&RecordingLine> = lines.iter().filter(|line| is(&line.text, "/channel", "\"book\"")).collect();
    let (shallow, deep): (Vec<&RecordingLine>, Vec<&RecordingLine>) =
        lines.iter().partition(|line| line.connection == "btcusd_l2");
    let delta = "mode = \"delta\"\neach = \"/data/*\"";
    for (lines, depth) in [(shallow, 10), (deep, 25)] {
        let rule = HandRule::new(delta, kraken_topic, kraken_snapshot).of_each("/data/*");
        let log = clients_that_join_have_right_books(kraken, &rule, &lines, depth);
        assert_eq!((log.published, log.images), (lines.len() as u64, 0));
        let book = KRAKEN_BOOK.replace("depth = 25", &format!("depth = {depth}"));
        let rule = HandRule::new(&book, kraken_topic, kraken_snapshot).of_each("/data/*");
        let log = clients_that_join_have_right_books(kraken, &rule, &lines, depth);
        eprintln!("depth {depth}: {} messages, {} images", log.published, log.images);
        assert_eq!(log.published, lines.len() as u64);
        assert!(log.images > 10 && log.images < log.published / 4, "{} images", log.images);
    }
}

fn okx_topic(message: &str, _: &str) -> Option<String> {
    token(message, "/arg/instId").filter(|_| is(message, "/arg/channel", "\"books\"")).map(str::to_string)
}

fn okx_snapshot(message: &str) -> bool {
    is(message, "/action", "\"snapshot\"")
}

#[test]
fn a_client_that_joins_okx_has_the_book_of_its_checksums() {
    let Some(lines) = recorded("okx-v5") else { return };
    let lines: Vec<&RecordingLine> = lines.iter().filter(|line| token(&line.text, "/action").is_some()).collect();
    let book = r#"
        mode = "book"
        snapshot_when = ['/action == "snapshot"']
        book = { sides = ["/data/0/bids", "/data/0/asks"], price = 0, size = 1, carry = ["/data/0/checksum", "/data/0/ts"] }
    "#;
    for (mode, images) in [("mode = \"delta\"", false), (book, true)] {
        let rule = HandRule::new(mode, okx_topic, okx_snapshot);
        let log = clients_that_join_have_right_books(okx, &rule, &lines, 400);
        assert_eq!(log.published, lines.len() as u64);
        assert_eq!(log.images > 0, images, "{} images", log.images);
    }
}

/// The book that a client of Coinbase builds from the messages it receives when it joins.
fn coinbase_book(messages: &[String]) -> OrderBook {
    let mut book = OrderBook::default();
    for message in messages {
        let message: Value = serde_json::from_str(message).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_string();
        for (side, name) in ["bids", "asks"].into_iter().enumerate() {
            for level in message[name].as_array().into_iter().flatten() {
                assert_eq!(level.as_array().map(Vec::len), Some(2), "a snapshot's levels have no side");
                book.set(side, &text(&level[0]), &text(&level[1]));
            }
        }
        for change in message["changes"].as_array().into_iter().flatten() {
            let side = usize::from(change[0] == "sell");
            book.set(side, &text(&change[1]), &text(&change[2]));
        }
    }
    book
}

#[test]
fn a_client_that_joins_coinbase_has_the_book_of_snapshot_and_changes() {
    let Some(lines) = recorded("coinbase-exchange") else { return };
    let rule = HandRule::new(
        r#"
        mode = "book"
        snapshot_when = ['/type == "snapshot"']
        book = { sides = ["./bids", "./asks"], changes = "./changes", side = 0, bid = "buy", ask = "sell", price = 1, size = 2 }
        "#,
        |message, _| {
            let book = ["\"snapshot\"", "\"l2update\""].iter().any(|name| is(message, "/type", name));
            token(message, "/product_id").filter(|_| book).map(str::to_string)
        },
        kraken_snapshot,
    );
    let (mut assembler, mut log) = (Assembler::default(), AssemblerLog::default());
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut compared = 0;
    for (place, line) in lines.iter().enumerate() {
        rule.apply(line, &mut assembler, &mut log);
        let Some(topic) = (rule.topic)(&line.text, "") else { continue };
        let messages = all.entry(topic.clone()).or_default();
        messages.push(line.text.clone());
        if place % 97 == 0 && log.kept[&topic].len() < messages.len() {
            assert_eq!(coinbase_book(&log.kept[&topic]), coinbase_book(messages), "line {place}");
            compared += 1;
        }
    }
    for (topic, messages) in &all {
        assert_eq!(coinbase_book(&log.kept[topic]), coinbase_book(messages), "{topic}");
    }
    eprintln!("{} messages, {} images, {compared} compared", log.published, log.images);
    assert!(compared > 30 && log.images > 10, "{compared} compared, {} images", log.images);
    assert_eq!((log.gaps.len(), log.remedies.len(), all.len()), (0, 0, 10));
}
