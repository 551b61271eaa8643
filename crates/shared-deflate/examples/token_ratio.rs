//! Shared tokens against zlib: bytes and time of one feed, for recipients of all topics and of a few, in one run.
//!
//! ```sh
//! cargo run --release --example token_ratio [FILE [TOPICS]]
//! ```
//! Each line of the file is a topic, a tab and a text. Without a file the feed is made up: 120 topics of quotes.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
use shared_deflate::frame::{Opcode, put_deflated};
use shared_deflate::token::{Horizon, Mark, REFERENCES_MAX, Stream, Tokenizer, Tokens, put_tokens_frame};

const LEVEL: u32 = 7;
/// Lists that are tried where a recipient has some of the topics.
const LISTS: usize = 8;
/// The best time of so many passes counts, for each text by itself: other programs disturb.
const PASSES: usize = 5;
/// Recipients on whom the time of a delivery is measured.
const RECIPIENTS: usize = 50;

/// One text, its topic by number, and all encodings that do not depend on a recipient.
struct Published {
    topic: usize,
    text: Vec<u8>,
    stateless: Vec<u8>,
    /// With the newest reference, and with all.
    tokens: [Option<Tokens>; 2],
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let feed = match arguments.next() {
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => read(&text),
            Err(error) => return eprintln!("expected a file of topics and texts at {path}: {error}"),
        },
        None => made_up(),
    };
    let listed = arguments.next().and_then(|topics| topics.parse().ok()).unwrap_or(5);
    let topics = 1 + feed.iter().map(|(topic, _)| *topic).max().unwrap_or(0);
    let (published, mut times) = publish(&feed, topics);
    for _ in 1..PASSES {
        shorten(&mut times, publish(&feed, topics).1);
    }

    let raw: usize = published.iter().map(|published| published.text.len()).sum();
    let texts = published.len().max(1);
    println!("{texts} texts of {} bytes, {topics} topics; bytes with the header of a frame", raw / texts);
    let [stateless, one, all] = mean(&times);
    println!(
        "per text: stateless zlib {LEVEL} {stateless} ns, tokens {one} ns (1 reference), {all} ns ({REFERENCES_MAX})"
    );
    let held: usize = published.iter().filter_map(|p| p.tokens[1].as_ref()).map(Tokens::held_bytes).sum();
    println!("tokens held: {} bytes", held / texts);
    let mut times = deliveries(&published, topics);
    for _ in 1..PASSES {
        shorten(&mut times, deliveries(&published, topics));
    }
    let [delivery, copy] = mean(&times).map(|time| time / RECIPIENTS);
    println!("per delivery: tokens {delivery} ns, copy of a stateless frame {copy} ns");

    println!("{:>8} {:>10} {:>12} {:>12} {:>10}", "topics", "stateless", "1 reference", "4 references", "own zlib");
    for count in [topics, listed.min(topics)] {
        let mut sums = [0; 5];
        let mut noise = 12345u64;
        for _ in 0..if count == topics { 1 } else { LISTS } {
            let list = choose(topics, count, &mut noise);
            let received: Vec<&Published> = published.iter().filter(|published| list[published.topic]).collect();
            for (sum, bytes) in sums.iter_mut().zip(received_bytes(&received, topics)) {
                *sum += bytes;
            }
        }
        let ratio = |bytes: usize| sums[0] as f64 / bytes.max(1) as f64;
        let [stateless, one, all, own] = [1, 2, 3, 4].map(|at| ratio(sums[at]));
        println!("{count:>8} {stateless:>10.2} {one:>12.2} {all:>12.2} {own:>10.2}");
    }
}

fn read(text: &str) -> Vec<(usize, Vec<u8>)> {
    let mut topics = HashMap::new();
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    lines
        .map(|(topic, text)| {
            let next = topics.len();
            (*topics.entry(topic.to_owned()).or_insert(next), text.as_bytes().to_vec())
        })
        .collect()
}

/// Quotes whose values move a little from text to text.
fn made_up() -> Vec<(usize, Vec<u8>)> {
    let mut noise = 1;
    let mut prices: Vec<u64> = (0..120).map(|topic| 10_000 + 731 * topic).collect();
    (0..20_000)
        .map(|offset| {
            let topic = (next(&mut noise) % 120) as usize;
            prices[topic] += next(&mut noise) % 5;
            let (price, size, time) = (prices[topic], next(&mut noise) % 900, 1_700_000_000_000u64 + offset * 3);
            let text = format!(
                r#"{{"topic":"quote.S{topic}","offset":{offset},"ts":{time},"data":{{"bid":{}.{:02},"ask":{}.{:02},"size":{size},"venue":"XNAS"}}}}"#,
                price / 100,
                price % 100,
                (price + 1) / 100,
                (price + 1) % 100,
            );
            (topic, text.into_bytes())
        })
        .collect()
}

fn next(noise: &mut u64) -> u64 {
    *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *noise >> 33
}

fn choose(topics: usize, count: usize, noise: &mut u64) -> Vec<bool> {
    let mut list = vec![count >= topics; topics];
    while list.iter().filter(|chosen| **chosen).count() < count {
        list[next(noise) as usize % topics] = true;
    }
    list
}

fn shorten<const N: usize>(best: &mut [[Duration; N]], times: Vec<[Duration; N]>) {
    for (best, time) in best.as_flattened_mut().iter_mut().zip(times.as_flattened()) {
        *best = (*best).min(*time);
    }
}

/// Nanoseconds of each column.
fn mean<const N: usize>(times: &[[Duration; N]]) -> [usize; N] {
    let sum = |column: usize| times.iter().map(|times| times[column]).sum::<Duration>().as_nanos() as usize;
    std::array::from_fn(|column| sum(column) / times.len().max(1))
}

/// All encodings of all texts, and how long each took: stateless, one reference, all references.
fn publish(feed: &[(usize, Vec<u8>)], topics: usize) -> (Vec<Published>, Vec<[Duration; 3]>) {
    let mut times = Vec::with_capacity(feed.len());
    let (mut tokenizer, mut deflater) = (Tokenizer::new(), Deflater::new(LEVEL, WINDOW_BITS_MAX));
    let mut newest: Vec<Vec<Vec<u8>>> = vec![Vec::new(); topics];
    let published = feed
        .iter()
        .map(|(topic, text)| {
            let (topic, text) = (*topic, text.clone());
            let references: Vec<&[u8]> = newest[topic].iter().map(Vec::as_slice).collect();
            let started = Instant::now();
            let mut stateless = Vec::new();
            deflater.cut();
            put_deflated(&mut stateless, Opcode::Text, &text, &mut deflater);
            let mut time = [started.elapsed(), Duration::ZERO, Duration::ZERO];
            let mut at = 0;
            let tokens = [references.len().min(1), references.len()].map(|count| {
                let started = Instant::now();
                let tokens = tokenizer.tokens(&text, &references[..count]);
                at += 1;
                time[at] = started.elapsed();
                tokens
            });
            times.push(time);
            newest[topic].insert(0, text.clone());
            newest[topic].truncate(REFERENCES_MAX);
            Published { topic, text, stateless, tokens }
        })
        .collect();
    (published, times)
}

/// Bytes of one recipient: raw, stateless, tokens with one reference, with all, a zlib stream of its own.
fn received_bytes(received: &[&Published], topics: usize) -> [usize; 5] {
    let mut sums = [0; 5];
    let mut own = Deflater::new(LEVEL, WINDOW_BITS_MAX);
    let mut streams = [Stream::default(), Stream::default()];
    let mut marks = vec![[Mark::default(); 2]; topics];
    for published in received {
        sums[0] += published.text.len();
        sums[1] += published.stateless.len();
        for (kind, stream) in streams.iter_mut().enumerate() {
            let mark = &mut marks[published.topic][kind];
            sums[2 + kind] += put(stream, mark, published, kind, &mut Vec::new());
        }
        let mut frame = Vec::new();
        put_deflated(&mut frame, Opcode::Text, &published.text, &mut own);
        sums[4] += frame.len();
    }
    sums
}

/// Puts a text by the best tokens at hand, or stateless. Gives the number of bytes.
fn put(stream: &mut Stream, mark: &mut Mark, published: &Published, kind: usize, out: &mut Vec<u8>) -> usize {
    let before = out.len();
    let mut best_first = published.tokens[..=kind].iter().rev().flatten();
    let horizon = Horizon::new(WINDOW_BITS_MAX, 1, stream.position());
    let lookback = stream.pass(mark, published.text.len());
    if !best_first.any(|tokens| put_tokens_frame(out, Opcode::Text, tokens, &lookback, horizon)) {
        out.extend_from_slice(&published.stateless);
    }
    out.len() - before
}

/// How long the deliveries of each text took: by tokens with all references, and by a copy.
fn deliveries(published: &[Published], topics: usize) -> Vec<[Duration; 2]> {
    let mut streams = vec![Stream::default(); RECIPIENTS];
    let mut marks = vec![vec![Mark::default(); RECIPIENTS]; topics];
    let mut chunks = vec![Vec::new(); RECIPIENTS];
    let deliver = |published: &Published| {
        let started = Instant::now();
        for ((stream, mark), chunk) in streams.iter_mut().zip(&mut marks[published.topic]).zip(&mut chunks) {
            put(stream, mark, published, 1, chunk);
        }
        let tokens = started.elapsed();
        let started = Instant::now();
        for chunk in &mut chunks {
            chunk.extend_from_slice(&published.stateless);
        }
        let copy = started.elapsed();
        for chunk in &mut chunks {
            black_box(&*chunk);
            chunk.clear();
        }
        [tokens, copy]
    };
    published.iter().map(deliver).collect()
}
