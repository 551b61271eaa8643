//! A book of Kraken, version 2, that never was: one seed, one subscription of ten levels, the venue's own checksums.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::order_book::{OrderBook, kraken};

const SEED: u64 = 7;
pub const DEPTH: usize = 10;
const CHANGES: usize = 3000;
const PER_SECOND: u64 = 100;
/// Levels of a side that the venue has, most of which nobody sees; prices are in tenths.
const LEVELS: u64 = 30;
const MIDDLE: u64 = 618_370;

/// Sizes by price: of bids and of asks.
type Sides = [BTreeMap<u64, String>; 2];

/// Writes the capture, as `fanline replay` reads it.
pub fn capture() -> PathBuf {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut venue: Sides = Default::default();
    for place in 0..LEVELS {
        venue[0].insert(MIDDLE - place, size(&mut rng));
        venue[1].insert(MIDDLE + 1 + place, size(&mut rng));
    }
    let mut client = OrderBook::default();
    let mut shown = best(&venue);
    let mut lines = String::new();
    let mut say = |n: usize, kind: &str, changes: &Sides, client: &mut OrderBook| {
        // The checksum is that of the book with the message applied, whatever the message itself says of it.
        let own = kraken(client, &message(kind, changes, 0), DEPTH).1;
        let line =
            json!({"t_ns": n as u64 * 1_000_000_000 / PER_SECOND, "dir": "in", "data": message(kind, changes, own)});
        writeln!(lines, "{line}").expect("room in memory");
    };
    say(0, "snapshot", &shown, &mut client);
    for n in 1..=CHANGES {
        for _ in 0..rng.random_range(1..4) {
            change(&mut venue, &mut rng);
        }
        let now = best(&venue);
        let mut changes: Sides = Default::default();
        for side in [0, 1] {
            let news = now[side].iter().filter(|(price, size)| shown[side].get(price) != Some(size));
            changes[side].extend(news.map(|(price, size)| (*price, size.clone())));
            // What only was pushed out of sight is not told.
            let gone = shown[side].keys().filter(|price| !venue[side].contains_key(price));
            changes[side].extend(gone.map(|price| (*price, "0.00000000".to_string())));
        }
        say(n, "update", &changes, &mut client);
        shown = now;
    }
    let file = super::scratch().join("book.jsonl");
    std::fs::write(&file, lines).expect("a folder to write to");
    file
}

fn size(rng: &mut SmallRng) -> String {
    format!("{}.{:08}", rng.random_range(0..3), rng.random_range(1..100_000_000))
}

/// Changes, adds or removes a level, mostly near the best.
fn change(venue: &mut Sides, rng: &mut SmallRng) {
    let side = rng.random_range(0..2);
    let away = rng.random_range(0..LEVELS).min(rng.random_range(0..LEVELS));
    let price = if side == 0 { MIDDLE - away } else { MIDDLE + 1 + away };
    // So many stay that ten are always there.
    if rng.random_bool(0.4) && venue[side].len() > LEVELS as usize / 2 {
        venue[side].remove(&price);
    } else {
        venue[side].insert(price, size(rng));
    }
}

/// What a subscription of ten levels is shown.
fn best(venue: &Sides) -> Sides {
    let levels = |levels: &mut dyn Iterator<Item = (&u64, &String)>| {
        levels.take(DEPTH).map(|(price, size)| (*price, size.clone())).collect()
    };
    [levels(&mut venue[0].iter().rev()), levels(&mut venue[1].iter())]
}

fn message(kind: &str, [bids, asks]: &Sides, checksum: i64) -> String {
    let level = |(price, size): (&u64, &String)| format!(r#"{{"price":{}.{},"qty":{size}}}"#, price / 10, price % 10);
    let bids: Vec<String> = bids.iter().rev().map(level).collect();
    let asks: Vec<String> = asks.iter().map(level).collect();
    format!(
        r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],"checksum":{checksum}}}]}}"#,
        bids.join(","),
        asks.join(",")
    )
}
