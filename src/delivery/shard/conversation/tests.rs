//! Sessions that speak a dialect: what they are sent, and how they end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::simulation::client::split_frame;
use crate::profile::Profile;
use crate::protocol::command::Policy;
use crate::protocol::encoding::{Payload, PayloadKind};

const TRADES: &str = "btcusdt@trade";
const TICKER: &str = "btcusdt@bookTicker";
const DEPTH: &str = "btcusdt@depth";
const BOOK: &str = "btcusdt@book";

struct Venue {
    harness: Harness,
    dialect: Arc<Dialect>,
    published: usize,
}

impl Venue {
    fn open() -> Venue {
        Venue::of("binance")
    }

    fn of(profile: &str) -> Venue {
        let mut venue = Venue::not_yet_live(profile);
        venue.harness.publisher.announce(FeedState::Live);
        venue
    }

    fn not_yet_live(profile: &str) -> Venue {
        let dialect = Profile::built_in(profile).and_then(|profile| profile.dialect).expect("a dialect");
        Venue { harness: Harness::speaking(100, Some(dialect.clone())), dialect, published: 0 }
    }

    /// A client that connects to this path and query.
    fn connect(&mut self, path: &str) -> HarnessClient {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let terms = self.dialect.terms_of(path, query).expect("a path of the dialect").expect("good items");
        let patterns = terms.items.iter().flat_map(|item| self.dialect.topics_of(item)).collect();
        let (format, policy) = (Format::Form(terms.form), Policy::Disconnect);
        let client = self.harness.adopt(SessionOptions {
            format,
            policy,
            patterns,
            items: terms.items,
            ..SessionOptions::default()
        });
        self.harness.settle();
        client
    }

    /// Publishes a message of a stream; gives what stands for it in the raw form.
    fn publish(&mut self, stream: &str) -> String {
        self.published += 1;
        let data = format!(r#"{{"n":{}}}"#, self.published);
        let text = format!(r#"{{"stream":"{stream}","data":{data}}}"#);
        let payload = Payload { bytes: Bytes::from(text), kind: PayloadKind::Json };
        let retention = match stream {
            TRADES => Retention::Value { keep: 50 },
            DEPTH => Retention::Transient,
            _ => Retention::NEWEST,
        };
        self.harness.publisher.publish(stream, payload, retention, self.harness.now).expect("a good topic");
        self.harness.settle();
        data
    }

    /// Publishes a message of an order book, whole or a change.
    fn publish_book(&mut self, retention: Retention) -> String {
        self.published += 1;
        let data = format!(r#"{{"n":{}}}"#, self.published);
        let payload = Payload { bytes: Bytes::from(data.clone()), kind: PayloadKind::Json };
        self.harness.publisher.publish(BOOK, payload, retention, self.harness.now).expect("a good topic");
        self.harness.settle();
        data
    }

    fn gap(&mut self, stream: &str) {
        let gap = TopicStatus::Gap { reason: GapReason::Sequence, missed: None };
        self.harness.publisher.publish_status(stream, gap, self.harness.now).expect("a good topic");
        self.harness.settle();
    }

    fn lose(&mut self) {
        let stale = FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 0, message: String::new() };
        self.harness.publisher.announce(stale);
        self.harness.settle();
    }

    fn recover(&mut self) {
        self.harness.publisher.announce(FeedState::Live);
        self.harness.settle();
    }

    /// What the client hears when it says this.
    fn hears(&mut self, client: &HarnessClient, says: &str) -> Vec<String> {
        self.harness.send(client, says);
        self.harness.settle();
        heard(client)
    }
}

/// The messages that have arrived; a close frame is its code.
fn heard(client: &HarnessClient) -> Vec<String> {
    let bytes = std::mem::take(&mut client.pipe.borrow_mut().to_client);
    let (mut messages, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((first, payload, tail)) = split_frame(rest) {
        rest = tail;
        match first {
            0x81 => messages.push(String::from_utf8(payload.to_vec()).expect("text")),
            0x88 => {
                let is_invited = messages.pop_if(|text| text.contains("serverShutdown")).is_some();
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                messages.push(if is_invited { format!("shutdown {code}") } else { code.to_string() });
            }
            _ => {}
        }
    }
    messages
}

#[test]
fn a_client_hears_the_venues_words_and_messages_and_nothing_else() {
    let mut venue = Venue::open();
    venue.publish(TRADES);
    let ticker = venue.publish(TICKER);
    let client = venue.connect("/ws/7");
    assert_eq!(heard(&client), [""; 0]);
    // The value of the topic at once; events begin with the next.
    let says = format!(r#"{{"method":"SUBSCRIBE","params":["{TRADES}","{TICKER}"],"id":"a"}}"#);
    assert_eq!(venue.hears(&client, &says), [r#"{"result":null,"id":"a"}"#, &ticker]);
    let trade = venue.publish(TRADES);
    venue.publish("ethusdt@trade");
    assert_eq!(heard(&client), [trade]);
    let list = format!(r#"{{"result":["{TICKER}","{TRADES}"],"id":2}}"#);
    assert_eq!(venue.hears(&client, r#"{"method":"LIST_SUBSCRIPTIONS","id":2}"#), [list]);
    let says = format!(r#"{{"method":"UNSUBSCRIBE","params":["{TRADES}"],"id":3}}"#);
    assert_eq!(venue.hears(&client, &says), [r#"{"result":null,"id":3}"#]);
    venue.publish(TRADES);
    let says = r#"{"method":"SUBSCRIBE","params":[">"],"id":4}"#;
    let refusal = r#"{"error":{"code":2,"msg":"expected a topic without wildcards, found `>`"},"id":4}"#;
    assert_eq!(venue.hears(&client, says), [refusal]);
    venue.harness.pass_second();
    assert_eq!(heard(&client), [""; 0], "neither heartbeats nor the state of the feed");
}

#[test]
fn heartbeats_come_to_those_that_have_asked_for_them_and_are_numbered() {
    let mut venue = Venue::of("coinbase-advanced");
    let (asks, does_not) = (venue.connect("/"), venue.connect("/"));
    let says = r#"{"type":"subscribe","product_ids":[],"channel":"heartbeats"}"#;
    assert_eq!(venue.hears(&asks, says).len(), 1);
    assert!(venue.harness.interest.wanted().is_empty(), "the feed is not asked for it");
    let mut numbers = Vec::new();
    for _ in 0..3 {
        venue.harness.pass_second();
        for text in heard(&asks) {
            let number = text.split_once("\"heartbeat_counter\":").expect("a heartbeat").1;
            numbers.push(number.trim_end_matches(['}', ']']).parse::<u64>().expect("a number"));
        }
    }
    assert!(numbers.len() >= 2 && numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
    assert_eq!(heard(&does_not), [""; 0]);
}

#[test]
fn a_message_is_several_in_a_dialect_of_lines_and_too_many_end_the_session() {
    let mut venue = Venue::of("twitch");
    let client = venue.connect("/");
    let answers = venue.hears(&client, "NICK Tester\r\nJOIN #tea,#coffee\r\nPING\r\n");
    assert!(answers[0].starts_with(":tmi.twitch.tv 001 tester "), "{answers:?}");
    assert!(answers[1].starts_with(":tester!tester@tester.tmi.twitch.tv JOIN #tea\r\n"), "{answers:?}");
    assert!(answers[2].starts_with(":tester!tester@tester.tmi.twitch.tv JOIN #coffee\r\n"), "{answers:?}");
    assert_eq!(answers[3..], ["PONG\r\n"]);
    let mut wanted = venue.harness.interest.wanted();
    wanted.sort_unstable();
    assert_eq!(wanted.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["chat.coffee", "chat.tea"]);
    // As many items as in all lines of a message a session may not have.
    let line = |from: usize| {
        let names: Vec<String> = (from..from + 600).map(|name| format!("#r{name}")).collect();
        format!("JOIN {}", names.join(","))
    };
    let answers = venue.hears(&client, &format!("{}\r\n{}", line(0), line(600)));
    assert_eq!(answers.last().map(String::as_str), Some("1008"), "{} answers", answers.len());
}

#[test]
fn a_url_asks_for_streams_and_their_form_and_a_message_changes_it() {
    let mut venue = Venue::open();
    let (raw, combined) =
        (venue.connect(&format!("/ws/{TRADES}")), venue.connect(&format!("/stream?streams={TRADES}")));
    let trade = venue.publish(TRADES);
    assert_eq!(heard(&raw), [&*trade]);
    let wrapped = |trade: &str| format!(r#"{{"stream":"{TRADES}","data":{trade}}}"#);
    assert_eq!(heard(&combined), [wrapped(&trade)]);
    let says = r#"{"method":"SET_PROPERTY","params":["combined",true],"id":1}"#;
    assert_eq!(venue.hears(&raw, says), [r#"{"result":null,"id":1}"#]);
    let trade = venue.publish(TRADES);
    assert_eq!((heard(&raw), heard(&combined)), (vec![wrapped(&trade)], vec![wrapped(&trade)]));
}

#[test]
fn a_stream_of_all_symbols_is_asked_for_by_its_name_and_its_topics_are_sent() {
    let mut venue = Venue::open();
    let client = venue.connect("/ws/!miniTicker@arr");
    assert!(venue.harness.interest.wanted().iter().any(|topic| &**topic == "!miniTicker@arr"));
    let payload = Payload { bytes: Bytes::from_static(br#"{"s":"BTCUSDT"}"#), kind: PayloadKind::Json };
    let now = venue.harness.now;
    venue.harness.publisher.publish("miniTicker.BTCUSDT", payload, Retention::NEWEST, now).expect("a good topic");
    venue.harness.settle();
    assert_eq!(heard(&client), [r#"[{"s":"BTCUSDT"}]"#]);
}

#[test]
fn whoever_lacks_events_that_no_word_tells_of_ends() {
    let mut venue = Venue::open();
    for stream in [TRADES, TICKER, DEPTH] {
        venue.publish(stream);
    }
    let [trades, ticker, depth] = [TRADES, TICKER, DEPTH].map(|stream| venue.connect(&format!("/ws/{stream}")));
    heard(&ticker);
    venue.gap(DEPTH);
    venue.gap(TICKER);
    assert_eq!((heard(&trades), heard(&ticker), heard(&depth)), (vec![], vec![], vec!["shutdown 1012".to_string()]));
    let depth = venue.connect(&format!("/ws/{DEPTH}"));
    venue.publish(DEPTH);
    assert_eq!(heard(&depth).len(), 1, "a gap before it joined is none of its own");
    venue.lose();
    venue.recover();
    assert_eq!((heard(&trades), heard(&depth)), (vec!["shutdown 1012".to_string()], vec!["shutdown 1012".to_string()]));
    let value = venue.publish(TICKER);
    assert_eq!(heard(&ticker), [value], "the newest value is enough");
}

#[test]
fn a_client_that_waits_for_the_feed_to_come_has_lost_nothing() {
    let mut venue = Venue::not_yet_live("binance");
    let client = venue.connect(&format!("/ws/{TRADES}"));
    // It could not be reached at first. Its first message comes a moment before it counts as live.
    venue.lose();
    let trade = venue.publish(TRADES);
    venue.recover();
    assert_eq!(heard(&client), [trade]);
    venue.lose();
    venue.recover();
    assert_eq!(heard(&client), ["shutdown 1012"], "a feed that was there is lost");
}

#[test]
fn a_loss_that_is_over_before_a_shard_has_looked_is_one() {
    let mut venue = Venue::open();
    let client = venue.connect(&format!("/ws/{TRADES}"));
    let trade = venue.publish(TRADES);
    let stale = FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 0, message: String::new() };
    venue.harness.publisher.announce(stale);
    venue.recover();
    assert_eq!(heard(&client), [&*trade, "shutdown 1012"]);
}

#[test]
fn a_book_begins_with_a_whole_one_and_with_none_while_changes_are_missing() {
    let mut venue = Venue::open();
    let whole = venue.publish_book(Retention::Snapshot);
    let change = venue.publish_book(Retention::Delta { whole: None });
    let client = venue.connect(&format!("/ws/{BOOK}"));
    assert_eq!(heard(&client), [whole, change]);
    venue.gap(BOOK);
    assert_eq!(heard(&client), ["shutdown 1012"]);
    let early = venue.connect(&format!("/ws/{BOOK}"));
    assert_eq!(heard(&early).last().map(String::as_str), Some("shutdown 1012"));
    let whole = venue.publish_book(Retention::Snapshot);
    let client = venue.connect(&format!("/ws/{BOOK}"));
    assert_eq!(heard(&client), [whole]);
}

#[test]
fn a_client_that_may_come_back_hears_it_in_the_venues_words_before_the_end() {
    let mut venue = Venue::open();
    let paths = [format!("/ws/{TRADES}"), format!("/stream?streams={TRADES}")];
    let sessions = [Goodbye::Draining, Goodbye::Kicked, Goodbye::Refused, Goodbye::Replaced];
    for goodbye in sessions {
        let clients = paths.clone().map(|path| venue.connect(&path));
        for client in &clients {
            let now = venue.harness.now;
            venue.harness.shard.dismiss_for(client.id, goodbye, 0, now);
        }
        venue.harness.settle();
        let code = goodbye.close_code().expect("a code");
        let event = r#"{"e":"serverShutdown","E":1}"#;
        let raw = format!(r#"{{"e":"serverShutdown","E":1,"event":{event}}}"#);
        let combined = format!(r#"{{"stream":"!serverShutdown","data":{event},"event":{event}}}"#);
        for (client, words) in clients.iter().zip([raw, combined]) {
            let sent = client.pipe.borrow().to_client.clone();
            let said = sent.windows(words.len()).any(|part| part == words.as_bytes());
            assert_eq!(said, goodbye.invites_back(), "{goodbye:?}");
            let end = if said { format!("shutdown {code}") } else { code.to_string() };
            assert_eq!(heard(client), [end], "{goodbye:?}");
        }
    }
}

#[test]
fn a_slow_client_has_the_newest_value_or_ends() {
    let mut venue = Venue::open();
    venue.harness.shard.settings.slow.replay_max = Duration::ZERO;
    for stream in [TRADES, TICKER] {
        let client = venue.connect(&format!("/ws/{stream}"));
        client.pipe.borrow_mut().room = 0;
        let published: Vec<String> = (0..4).map(|_| venue.publish(stream)).collect();
        venue.harness.now.mono_ns += 1_000_000_000;
        client.pipe.borrow_mut().room = 1 << 20;
        venue.harness.shard.ready(client.id, false, venue.harness.now);
        venue.harness.settle();
        let then = if stream == TRADES { "shutdown 4410" } else { &published[3] };
        assert_eq!(heard(&client), [&published[0], then]);
    }
}

#[test]
fn a_gap_is_not_passed_over_by_a_client_that_is_behind() {
    let mut venue = Venue::open();
    let client = venue.connect(&format!("/ws/{DEPTH}"));
    client.pipe.borrow_mut().room = 0;
    let change = venue.publish(DEPTH);
    venue.gap(DEPTH);
    venue.publish(DEPTH);
    client.pipe.borrow_mut().room = 1 << 20;
    venue.harness.shard.ready(client.id, false, venue.harness.now);
    venue.harness.settle();
    let heard = heard(&client);
    assert_eq!((heard.first(), heard.last().map(String::as_str)), (Some(&change), Some("shutdown 1012")));
}

#[test]
fn a_feed_that_stays_away_ends_every_session() {
    let mut venue = Venue::open();
    let value = venue.publish(TICKER);
    let client = venue.connect(&format!("/ws/{TICKER}"));
    assert_eq!(heard(&client), [value]);
    venue.lose();
    for _ in 0..9 {
        venue.harness.pass_second();
    }
    assert_eq!(heard(&client), [""; 0]);
    venue.harness.pass_second();
    venue.harness.pass_second();
    venue.harness.settle();
    assert_eq!(heard(&client), ["shutdown 1012"]);
}
