//! What newcomers are given of recorded books, checked by the venues' own checksums and by books that are kept in another
//! way.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{KRAKEN_BOOK, Line, Log, Rule, is, kraken_snapshot, kraken_topic, recorded, token};
use crate::intake::flow::Flow;

/// A book that a client keeps: price and size as they stand in the text, by the price.
#[derive(Clone, Debug, Default, PartialEq)]
struct ClientBook {
    sides: [BTreeMap<u128, (String, String)>; 2],
}

impl ClientBook {
    fn set(&mut self, side: usize, price: &str, size: &str) {
        let key = scaled(price);
        match scaled(size) {
            0 => self.sides[side].remove(&key),
            _ => self.sides[side].insert(key, (price.to_string(), size.to_string())),
        };
    }

    fn cut(&mut self, depth: usize) {
        while self.sides[0].len() > depth {
            self.sides[0].pop_first();
        }
        while self.sides[1].len() > depth {
            self.sides[1].pop_last();
        }
    }

    fn bids(&self) -> impl Iterator<Item = &(String, String)> {
        self.sides[0].values().rev()
    }

    fn asks(&self) -> impl Iterator<Item = &(String, String)> {
        self.sides[1].values()
    }
}

/// A decimal with at most 12 digits behind the point, as a whole number.
fn scaled(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<12}").parse().expect("a decimal")
}

fn crc(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

/// Applies messages to a book and says which checksum is told, and which it has.
trait Client {
    fn apply(book: &mut ClientBook, message: &str, depth: usize) -> (i64, i64);
}

struct Kraken;

#[derive(serde::Deserialize)]
struct KrakenLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    qty: &'a RawValue,
}

impl Client for Kraken {
    fn apply(book: &mut ClientBook, message: &str, depth: usize) -> (i64, i64) {
        if is(message, "/type", "\"snapshot\"") {
            *book = ClientBook::default();
        }
        for (side, pointer) in ["/data/0/bids", "/data/0/asks"].into_iter().enumerate() {
            let levels: Vec<KrakenLevel<'_>> =
                serde_json::from_str(token(message, pointer).expect(pointer)).expect("levels");
            for level in levels {
                book.set(side, level.price.get(), level.qty.get());
            }
        }
        book.cut(depth);
        let digits = |text: &str| text.replace('.', "").trim_start_matches('0').to_string();
        let text: String = book
            .asks()
            .take(10)
            .chain(book.bids().take(10))
            .map(|(price, size)| digits(price) + &digits(size))
            .collect();
        (token(message, "/data/0/checksum").expect("told").parse().expect("a number"), crc(&text).into())
    }
}

struct Okx;

impl Client for Okx {
    fn apply(book: &mut ClientBook, message: &str, _: usize) -> (i64, i64) {
        if is(message, "/action", "\"snapshot\"") {
            *book = ClientBook::default();
        }
        for (side, pointer) in ["/data/0/bids", "/data/0/asks"].into_iter().enumerate() {
            let levels: Vec<Vec<String>> =
                serde_json::from_str(token(message, pointer).expect(pointer)).expect("levels");
            for level in levels {
                book.set(side, &level[0], &level[1]);
            }
        }
        let (bids, asks): (Vec<_>, Vec<_>) = (book.bids().take(25).collect(), book.asks().take(25).collect());
        let both = (0..25).flat_map(|place| [bids.get(place), asks.get(place)]).flatten();
        let text: Vec<String> = both.map(|(price, size)| format!("{price}:{size}")).collect();
        let told: i64 = token(message, "/data/0/checksum").expect("told").parse().expect("a number");
        (told, i64::from(crc(&text.join(":")) as i32))
    }
}

/// Plays a recording; at many moments a newcomer comes, who from then on gets every message. Its checksums must hold to
/// the end.
fn newcomers_have_right_books<C: Client>(rule: &Rule, lines: &[&Line], depth: usize) -> Log {
    let (mut flow, mut log) = (Flow::default(), Log::default());
    let mut newcomers: Vec<(String, ClientBook)> = Vec::new();
    let mut checked = 0;
    for (place, line) in lines.iter().enumerate() {
        rule.apply(line, &mut flow, &mut log);
        let Some(topic) = (rule.topic)(&line.text, token(&line.text, "/data/0").unwrap_or_default()) else { continue };
        for (_, book) in newcomers.iter_mut().filter(|(of, _)| *of == topic) {
            let (told, own) = C::apply(book, &line.text, depth);
            assert_eq!(told, own, "line {place}: {}", line.text);
            checked += 1;
        }
        if place % (lines.len() / 50) == 0 {
            let mut book = ClientBook::default();
            for message in &log.kept[&topic] {
                let (told, own) = C::apply(&mut book, message, depth);
                assert_eq!(told, own, "a newcomer at line {place}: {message}");
            }
            newcomers.push((topic, book));
        }
    }
    assert!(newcomers.len() >= 50 && checked > lines.len(), "{} newcomers, {checked} checksums", newcomers.len());
    assert_eq!((log.gaps.len(), log.remedies.len()), (0, 0));
    log
}

#[test]
fn newcomers_of_kraken_have_the_book_that_the_checksums_tell() {
    let Some(lines) = recorded("kraken-v2") else { return };
    let lines: Vec<&Line> = lines.iter().filter(|line| is(&line.text, "/channel", "\"book\"")).collect();
    let (shallow, deep): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.connection == "btcusd_l2");
    let delta = "mode = \"delta\"\neach = \"/data/*\"";
    for (lines, depth) in [(shallow, 10), (deep, 25)] {
        let rule = Rule::new(delta, kraken_topic, kraken_snapshot).of_each("/data/*");
        let log = newcomers_have_right_books::<Kraken>(&rule, &lines, depth);
        assert_eq!((log.published, log.images), (lines.len() as u64, 0));
        let book = KRAKEN_BOOK.replace("depth = 25", &format!("depth = {depth}"));
        let rule = Rule::new(&book, kraken_topic, kraken_snapshot).of_each("/data/*");
        let log = newcomers_have_right_books::<Kraken>(&rule, &lines, depth);
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
fn newcomers_of_okx_have_the_book_that_the_checksums_tell() {
    let Some(lines) = recorded("okx-v5") else { return };
    let lines: Vec<&Line> = lines.iter().filter(|line| token(&line.text, "/action").is_some()).collect();
    let book = r#"
        mode = "book"
        snapshot_when = ['/action == "snapshot"']
        book = { sides = ["/data/0/bids", "/data/0/asks"], price = 0, size = 1, carry = ["/data/0/checksum", "/data/0/ts"] }
    "#;
    for (mode, images) in [("mode = \"delta\"", false), (book, true)] {
        let rule = Rule::new(mode, okx_topic, okx_snapshot);
        let log = newcomers_have_right_books::<Okx>(&rule, &lines, 400);
        assert_eq!(log.published, lines.len() as u64);
        assert_eq!(log.images > 0, images, "{} images", log.images);
    }
}

/// What clients of Coinbase make of the messages that a newcomer is given.
fn coinbase_book(messages: &[String]) -> ClientBook {
    let mut book = ClientBook::default();
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
fn newcomers_of_coinbase_have_the_book_of_snapshot_and_changes() {
    let Some(lines) = recorded("coinbase-exchange") else { return };
    let rule = Rule::new(
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
    let (mut flow, mut log) = (Flow::default(), Log::default());
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut compared = 0;
    for (place, line) in lines.iter().enumerate() {
        rule.apply(line, &mut flow, &mut log);
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
