//! Real clients decode the shared window: tens of thousands of messages each, whatever happens to them and around them.
//!
//! Each stack is on a server of its own, with the tape poured as fast as the client reads. Every message it decodes is
//! compared with the tape; the server's metrics prove that what should happen to it did happen.

use kit::decoding::{Harness, decoded_messages, join};
use kit::raw_client::Blind;
use kit::skip_without_tool;
use kit::stacks::{self, Launch};

/// Messages that a client receives which asked for something that the shared window cannot give.
const MESSAGES_APART: u64 = 10_000;

const ONE: &str = "/v1/ws?policy=lossless&topics=btcusdt@*";
const BOTH: &str = "/v1/ws?policy=lossless&topics=btcusdt@*,ethusdt@*";

/// Lives through everything that a session on board can meet, then through the long way.
fn check_window(name: &str, launch: &Launch) {
    let (mut harness, mut company) = Harness::set(3, (launch, "window"), ONE, (ONE, 3));
    let extensions = &harness.puppet.extensions;
    assert!(extensions.starts_with("permessage-deflate"), "{name}: {extensions}");
    assert!(!extensions.contains("server_no_context_takeover"), "{name}: {extensions}");

    // It boards in the middle of the stream, falls behind, and boards again after the current values.
    harness.until_boarded(4);
    harness.command(r#"{"op":"subscribe","topics":["btcusdt@*"],"policy":"conflate"}"#);
    harness.until_boarded(4);
    harness.stall();
    assert!(harness.ledger.skips > 0, "{name}: frames are skipped with `conflate`");
    harness.command(r#"{"op":"subscribe","topics":["btcusdt@*"],"policy":"lossless"}"#);
    harness.until_boarded(4);

    // The window is closed when the others have left, and a new one is opened when others come.
    company.clear();
    harness.until_boarded(0);
    harness.flow(2_000);
    company.extend(join(&harness.server, ONE, 3));
    harness.until_boarded(4);

    // To another lane that has a window, back to this one, and there again.
    company.extend(join(&harness.server, BOTH, 3));
    harness.until_boarded(7);
    for _ in 0..2 {
        harness.command(r#"{"op":"subscribe","topics":["ethusdt@*"]}"#);
        harness.until_boarded(7);
        harness.command(r#"{"op":"unsubscribe","topics":["ethusdt@*"]}"#);
        harness.until_boarded(7);
    }
    harness.command(r#"{"op":"subscribe","topics":["ethusdt@*"]}"#);
    company.drain(..3);
    harness.until_boarded(4);

    // Behind once more; now it gets everything that it missed.
    let skips = harness.ledger.skips;
    harness.stall();
    assert_eq!(harness.ledger.skips, skips, "{name}: a lossless client is replayed to");
    harness.until_boarded(4);
    assert!(harness.ledger.values > 0, "{name}: current values came with changes of the subscription");

    check_long_way(name, harness, company);
}

/// With others coming and going, until enough has come through the window.
fn check_long_way(name: &str, mut harness: Harness, mut company: Vec<Blind>) {
    const ROUNDS_MAX: usize = 100;
    let (mut rounds, mut through_window) = (0, 0);
    while through_window < decoded_messages() {
        assert!(rounds < ROUNDS_MAX, "{name}: {through_window} messages through the window in {rounds} rounds");
        company.remove(0);
        company.extend(join(&harness.server, BOTH, 1));
        harness.until_boarded(4);
        let (before, live) = (harness.metrics(), harness.ledger.live);
        harness.flow(decoded_messages() / 20);
        let received = harness.ledger.live - live;
        harness.until_boarded(4);
        // All are on this lane: if nothing reached anyone otherwise, all of this came through the window.
        if harness.metrics().sent_apart() == before.sent_apart() {
            through_window += received;
        }
        rounds += 1;
    }
    drop(company);
    let (_, metrics) = harness.finish(name);
    eprintln!("{name}: {through_window} messages came through the window, with {rounds} newcomers");
    // A newcomer receives tokens until it boards.
    assert!(metrics.sent("envelope_tokens") > 0.0, "{name}: newcomers received no tokens");
    // The tape shrinks to less than a quarter; half is a bound that needs no measurement.
    let (saved, sent) = (metrics.saved("window"), metrics.sent("envelope_window"));
    assert!(saved > sent && sent > 0.0, "{name}: {sent} bytes sent through the window, {saved} saved");
}

/// A client that asked for `parameter` never boards, and still gets everything: each message alone if it keeps nothing,
/// else as tokens.
fn check_apart(name: &str, launch: &Launch, (offer, parameter, keeps): Apart) {
    let (mut harness, company) = Harness::set(1, (launch, offer), ONE, (ONE, 1));
    let extensions = &harness.puppet.extensions;
    assert!(extensions.contains(parameter), "{name}, {offer}: {extensions}");
    while harness.ledger.live < MESSAGES_APART {
        harness.flow(MESSAGES_APART / 5);
        harness.until_boarded(company.len());
    }
    harness.command(r#"{"op":"subscribe","topics":["ethusdt@*"]}"#);
    harness.flow(MESSAGES_APART / 5);
    harness.until_boarded(company.len());
    drop(company);
    let (received, metrics) = harness.finish(&format!("{name}, {offer}"));
    let (stateless, tokens) = (metrics.stateless(), metrics.sent("envelope_tokens"));
    if keeps {
        // In a window of 1 KiB, depth messages are too long to be referred to.
        assert!(stateless < received / 2, "{name}, {offer}: {received} frames, {stateless} compressed each alone");
        assert!(metrics.saved("tokens") > tokens && tokens > 0.0, "{name}, {offer}: {tokens} bytes sent as tokens");
    } else {
        assert!(stateless >= received, "{name}, {offer}: {received} frames, {stateless} compressed each alone");
    }
}

#[test]
fn python_websockets_decodes_the_shared_window() {
    check_with("websockets", stacks::python("window_client.py", "websockets"), "`websockets` for Python");
}

#[test]
fn python_aiohttp_decodes_the_shared_window() {
    check_with("aiohttp", stacks::python("window_aiohttp.py", "aiohttp"), "`aiohttp` for Python");
}

#[test]
fn node_ws_decodes_the_shared_window() {
    check_with("ws", stacks::node(), "Node with its package `ws`");
}

#[test]
fn chromium_decodes_the_shared_window() {
    check_with("chromium", stacks::chromium(), "Chromium, or Node with its package `playwright-core`");
}

#[test]
fn firefox_decodes_the_shared_window() {
    check_with("firefox", stacks::firefox(), "Firefox, or Node");
}

fn check_with(name: &str, launch: Option<Launch>, tool: &str) {
    match launch {
        Some(launch) => check_window(name, &launch),
        None => skip_without_tool("shared_window", tool),
    }
}

/// What a client offers, what must then be agreed on, and whether it keeps what it has inflated.
type Apart = (&'static str, &'static str, bool);

#[test]
fn a_client_with_no_context_or_a_small_window_never_boards_and_misses_nothing() {
    const NO_TAKEOVER: Apart = ("no_takeover", "server_no_context_takeover", false);
    const BITS_10: Apart = ("bits10", "server_max_window_bits=10", true);
    let (websockets, aiohttp) =
        (stacks::python("window_client.py", "websockets"), stacks::python("window_aiohttp.py", "aiohttp"));
    let clients: [(&str, Option<Launch>, &[Apart]); 3] = [
        ("websockets", websockets, &[NO_TAKEOVER, BITS_10]),
        ("aiohttp", aiohttp, &[BITS_10]),
        ("ws", stacks::node(), &[NO_TAKEOVER, BITS_10]),
    ];
    for (name, launch, offers) in clients {
        match launch {
            Some(launch) => offers.iter().for_each(|apart| check_apart(name, &launch, *apart)),
            None => skip_without_tool("shared_window", name),
        }
    }
}
