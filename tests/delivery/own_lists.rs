//! Real clients with lists of their own decode what nobody else is sent: tens of thousands of messages each that refer to messages
//! before them, whatever happens to the clients and around them.

use flate2::{Compress, Compression, FlushCompress};
use kit::decoding::{Harness, Metrics, decoded_messages, join};
use kit::raw_client::Blind;
use kit::skip_without_tool;
use kit::stacks::{self, Launch};
use kit::strict_inflater::{StrictInflater, TAIL};

/// Messages at a pace, for each client.
const MESSAGES_PACED: u64 = 1_000;
/// Changes of the list, and newcomers around it; every fourth time the client leaves and resumes.
const ROUNDS_MIN: usize = 5;
/// So many would have to want the same for a shared window: nobody has one.
const NOBODY: usize = 1_000;

const OWN: &str = "/v1/ws?policy=lossless&topics=btcusdt@bookTicker,btcusdt@trade,ethusdt@bookTicker";
const OTHERS: [&str; 3] = ["btcusdt@*", "ethusdt@bookTicker", "btcusdt@bookTicker,ethusdt@trade"];

/// Lives through everything that a session with a list of its own can meet, then through the long way.
fn check_own_list(name: &str, (launch, offer): (&Launch, &str)) {
    let (mut harness, mut company) = Harness::set(NOBODY, (launch, offer), OWN, (OTHERS[0], 0));
    let extensions = &harness.puppet.extensions;
    assert!(extensions.starts_with("permessage-deflate"), "{name}: {extensions}");
    assert!(!extensions.contains("server_no_context_takeover"), "{name}: {extensions}");
    company.extend(OTHERS.iter().flat_map(|topics| other(&harness, topics)));
    harness.flow(2_000);

    // It falls behind and is skipped for, then once more and is replayed to.
    harness.command(&policy("conflate"));
    harness.flow(2_000);
    harness.stall();
    assert!(harness.ledger.skips > 0, "{name}: who conflates is skipped for");
    harness.command(&policy("lossless"));
    harness.flow(2_000);
    let skips = harness.ledger.skips;
    harness.stall();
    assert_eq!(harness.ledger.skips, skips, "{name}: who is lossless is replayed to");

    check_pace(name, &mut harness, &mut company);
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || harness.ledger.live < harness.metrics().stateless() + decoded_messages() {
        check_round(&mut harness, &mut company, rounds);
        if rounds % 4 == 0 {
            harness.resume((launch, offer));
        }
        rounds += 1;
    }
    assert!(harness.ledger.values > 0, "{name}: current values came with changes of the list");
    company.clear();
    let (received, metrics) = harness.finish(name);
    assert_eq!(metrics.sent("envelope_window"), 0.0, "{name}: nobody has a window");
    let (saved, sent) = (metrics.saved("tokens"), metrics.sent("envelope_tokens"));
    assert!(saved > sent && sent > 0.0, "{name}: {sent} bytes sent as tokens, {saved} saved");
    let by_tokens = received - metrics.stateless();
    eprintln!("{name}: {by_tokens} messages came by tokens, with {rounds} changes of the list");
    assert!(by_tokens >= decoded_messages(), "{name}: {by_tokens} messages by tokens of {received}");
}

/// One more session, on a list of its own.
fn other(harness: &Harness, topics: &str) -> Vec<Blind> {
    join(&harness.server, &format!("/v1/ws?topics={topics}"), 1)
}

fn policy(policy: &str) -> String {
    format!(r#"{{"op":"subscribe","topics":["btcusdt@trade"],"policy":"{policy}"}}"#)
}

/// The list changes both ways while others come and go.
fn check_round(harness: &mut Harness, company: &mut Vec<Blind>, round: usize) {
    const CHANGES: [&str; 4] = [
        r#"{"op":"subscribe","topics":["ethusdt@trade"]}"#,
        r#"{"op":"unsubscribe","topics":["btcusdt@trade"]}"#,
        r#"{"op":"subscribe","topics":["btcusdt@trade","ethusdt@depth@100ms"]}"#,
        r#"{"op":"unsubscribe","topics":["ethusdt@trade","ethusdt@depth@100ms"]}"#,
    ];
    harness.command(CHANGES[round % CHANGES.len()]);
    company.remove(0);
    company.extend(other(harness, OTHERS[round % OTHERS.len()]));
    harness.flow(decoded_messages() / 20);
}

/// The newest of each topic at a pace, as tokens, then every frame again.
fn check_pace(name: &str, harness: &mut Harness, company: &mut Vec<Blind>) {
    company.clear();
    harness.pace(10);
    let (before, live) = (harness.report(), harness.ledger.live);
    harness.flow(MESSAGES_PACED);
    let after = harness.report();
    let received = harness.ledger.live - live;
    // Nobody else is there.
    let tokens = |metrics: &Metrics| metrics.sent("envelope_tokens");
    assert!(tokens(&after) > tokens(&before), "{name}: nothing paced came by tokens");
    let stateless = after.stateless() - before.stateless();
    assert!(stateless < received, "{name}: of {received} paced messages {stateless} were compressed each alone");
    eprintln!("{name}: {received} messages at a pace, {stateless} compressed each alone");
    harness.pace(0);
    company.extend(OTHERS.iter().flat_map(|topics| other(harness, topics)));
}

fn check_with(name: &str, launch: Option<Launch>, tool: &str) {
    let Some(launch) = launch else { return skip_without_tool("own_lists", tool) };
    check_own_list(name, (&launch, "window"));
}

#[test]
fn python_websockets_decodes_a_list_of_its_own() {
    check_with("websockets", stacks::python("window_client.py", "websockets"), "`websockets` for Python");
}

#[test]
fn python_aiohttp_decodes_a_list_of_its_own() {
    check_with("aiohttp", stacks::python("window_aiohttp.py", "aiohttp"), "`aiohttp` for Python");
}

#[test]
fn node_ws_decodes_a_list_of_its_own() {
    check_with("ws", stacks::node(), "Node with its package `ws`");
}

#[test]
fn chromium_decodes_a_list_of_its_own() {
    check_with("chromium", stacks::chromium(), "Chromium, or Node with its package `playwright-core`");
}

#[test]
fn firefox_decodes_a_list_of_its_own() {
    check_with("firefox", stacks::firefox(), "Firefox, or Node");
}

#[test]
fn zlib_with_exactly_the_agreed_window_decodes_a_list_of_its_own() {
    let python = || stacks::python("window_client.py", "websockets");
    if python().is_none() {
        return skip_without_tool("own_lists", "`websockets` for Python");
    }
    let check = |bits: u32| {
        let launch = python().expect("it was there a moment ago");
        check_own_list(&format!("zlib, {bits} bits"), (&launch, &format!("strict{bits}")));
    };
    let is_long = decoded_messages() >= 100_000;
    // Each is waiting for most of its time.
    for side_by_side in [&[9, 15][..], &[12], if is_long { &[10, 14] } else { &[] }] {
        std::thread::scope(|scope| {
            for bits in side_by_side {
                scope.spawn(|| check(*bits));
            }
        });
    }
}

#[test]
fn a_reference_a_byte_too_far_is_an_error() {
    // Of 9 bits and a little more: a text, noise that does not shrink, the text again.
    let text = b"a text that occurs twice, and far apart";
    let noise = |bytes: usize| (0..bytes as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    for (apart, fits) in [(512, true), (513, false)] {
        let whole: Vec<u8> = text.iter().copied().chain(noise(apart - text.len())).chain(*text).collect();
        let mut packed = Vec::with_capacity(4096);
        let mut deflater = Compress::new(Compression::best(), false);
        deflater.compress_vec(&whole, &mut packed, FlushCompress::Sync).expect("room");
        let inflated = StrictInflater::new(9).try_inflate(&packed[..packed.len() - TAIL.len()]);
        assert_eq!(
            inflated.as_ref().is_ok_and(|inflated| *inflated == whole),
            fits,
            "{apart} bytes apart: {inflated:?}"
        );
    }
}
