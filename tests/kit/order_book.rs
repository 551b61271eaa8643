//! A book as a client keeps it, from the decimal texts that a venue sends, and the checksums that venues make of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Price and size as they stand in the text, by the price.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrderBook {
    sides: [BTreeMap<u128, (String, String)>; 2],
}

/// A checksum as the venue tells it, and that of the book.
pub type Checksums = (i64, i64);

impl OrderBook {
    /// Side 0 are the bids.
    pub fn set(&mut self, side: usize, price: &str, size: &str) {
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

#[derive(Deserialize)]
struct Message<T> {
    data: [T; 1],
}

#[derive(Deserialize)]
struct KrakenBook<'a> {
    #[serde(borrow)]
    bids: Vec<KrakenLevel<'a>>,
    asks: Vec<KrakenLevel<'a>>,
    checksum: i64,
}

#[derive(Deserialize)]
struct KrakenLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    qty: &'a RawValue,
}

/// Applies a message of Kraken, version 2, to a book of so many levels a side.
pub fn kraken(book: &mut OrderBook, message: &str, depth: usize) -> Checksums {
    let Message { data: [changes] } = serde_json::from_str::<Message<KrakenBook<'_>>>(message).expect("a book");
    for (side, levels) in [changes.bids, changes.asks].iter().enumerate() {
        levels.iter().for_each(|level| book.set(side, level.price.get(), level.qty.get()));
    }
    book.cut(depth);
    let digits = |text: &str| text.replace('.', "").trim_start_matches('0').to_string();
    let best = book.asks().take(10).chain(book.bids().take(10));
    let text: String = best.map(|(price, size)| digits(price) + &digits(size)).collect();
    (changes.checksum, crc(&text).into())
}

#[derive(Deserialize)]
struct OkxBook {
    bids: Vec<Vec<String>>,
    asks: Vec<Vec<String>>,
    checksum: i64,
}

/// Applies a message of OKX, version 5.
pub fn okx(book: &mut OrderBook, message: &str) -> Checksums {
    let Message { data: [changes] } = serde_json::from_str::<Message<OkxBook>>(message).expect("a book");
    for (side, levels) in [changes.bids, changes.asks].iter().enumerate() {
        levels.iter().for_each(|level| book.set(side, &level[0], &level[1]));
    }
    let (bids, asks): (Vec<_>, Vec<_>) = (book.bids().take(25).collect(), book.asks().take(25).collect());
    let both = (0..25).flat_map(|place| [bids.get(place), asks.get(place)]).flatten();
    let text: Vec<String> = both.map(|(price, size)| format!("{price}:{size}")).collect();
    (changes.checksum, i64::from(crc(&text.join(":")).cast_signed()))
}
