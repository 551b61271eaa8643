//! What many different clients ask for on a Binance recording, and what each of them must therefore get.

use std::collections::HashMap;

use serde_json::json;

use super::client::Client;
use super::program::Program;
use super::tape::{Recorded, Tape};

/// Patterns, and what they match, said a second time and without fanline's own matcher.
type Interest = (&'static [&'static str], fn(&str) -> bool);

const INTERESTS: [Interest; 12] = [
    (&[">"], |_| true),
    (&["*@trade"], |topic| topic.ends_with("@trade")),
    (&["btcusdt@*"], |topic| topic.starts_with("btcusdt@")),
    (&["ethusdt@bookTicker"], |topic| topic == "ethusdt@bookTicker"),
    (&["btcusdt@trade"], |topic| topic == "btcusdt@trade"),
    (&["*@depth@*"], |topic| topic.contains("@depth@")),
    (&["*"], |_| true),
    (&["btcusdt@trade", "*@trade", "ethusdt@*"], |topic| topic.ends_with("@trade") || topic.starts_with("ethusdt@")),
    (&["ethusdt@depth@100ms", "btcusdt@bookTicker"], |topic| {
        topic == "ethusdt@depth@100ms" || topic == "btcusdt@bookTicker"
    }),
    (&["*u*t@b*k*"], |topic| topic.ends_with("@bookTicker")),
    (&["btcusdt@*", "btcusdt@trade"], |topic| topic.starts_with("btcusdt@")),
    (&["nothing.like.this", "btcusdt.>"], |_| false),
];

/// What one client asks for, and how.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberPlan {
    interest: usize,
    raw: bool,
    lossless: bool,
    by_command: bool,
}

/// A client whose subscription is in force.
pub struct Subscriber {
    plan: SubscriberPlan,
    client: Client,
    /// `EPOCH` and newest offset as told by the welcome; none for a raw client.
    pub epoch: Option<String>,
    /// Frames after this offset are live, if the client knows it.
    pub live_after: Option<u64>,
}

impl SubscriberPlan {
    /// All combinations of interest, format, policy and way of asking, in turn. A raw client gets no answers and
    /// therefore asks in the query.
    pub fn nth(index: usize) -> SubscriberPlan {
        let round = index / INTERESTS.len();
        let raw = round % 3 == 2;
        SubscriberPlan {
            interest: index % INTERESTS.len(),
            raw,
            lossless: round % 2 == 1,
            by_command: !raw && round % 4 < 2,
        }
    }

    /// Everything, in envelopes, asked for by command.
    pub fn everything() -> SubscriberPlan {
        SubscriberPlan { interest: 0, raw: false, lossless: true, by_command: true }
    }

    pub fn is_raw(&self) -> bool {
        self.raw
    }

    pub fn wants(&self, frame: &Recorded) -> bool {
        INTERESTS[self.interest].1(&frame.topic)
    }

    /// Offsets that a client must get which is there from the start.
    pub fn offsets(&self, tape: &Tape) -> Vec<u64> {
        self.offsets_after(0, tape)
    }

    /// Offsets that a client must get which joins when `cut` is the newest: the latest of each topic, then the rest.
    pub fn offsets_joining_at(&self, cut: u64, tape: &Tape) -> Vec<u64> {
        let mut latest = HashMap::new();
        for (offset, frame) in tape.numbered().take_while(|(offset, _)| *offset <= cut) {
            if self.wants(frame) {
                latest.insert(&frame.topic, offset);
            }
        }
        let mut offsets: Vec<u64> = latest.into_values().collect();
        offsets.sort_unstable();
        offsets.extend(self.offsets_after(cut, tape));
        offsets
    }

    fn offsets_after(&self, cut: u64, tape: &Tape) -> Vec<u64> {
        let wanted = tape.numbered().filter(|(offset, frame)| *offset > cut && self.wants(frame));
        wanted.map(|(offset, _)| offset).collect()
    }

    /// Connects and waits until the subscription is in force.
    pub async fn subscribe(self, server: &Program) -> Subscriber {
        let client = Client::connect(&server.ws(&self.path(!self.by_command))).await;
        let mut subscriber = Subscriber { plan: self, client, epoch: None, live_after: None };
        if !self.raw {
            let welcome = subscriber.client.expect_op("welcome").await;
            subscriber.epoch = welcome["epoch"].as_str().map(String::from);
        }
        if self.by_command {
            let command = json!({"op": "subscribe", "id": 1, "topics": INTERESTS[self.interest].0});
            subscriber.client.command(command).await;
        }
        if !self.raw {
            subscriber.live_after = subscriber.client.expect_op("subscribed").await["offset"].as_u64();
        }
        subscriber
    }

    /// Connects again after `seen`, in the query.
    pub async fn resume(self, server: &Program, epoch: &str, seen: u64) -> Subscriber {
        let path = format!("{}&since={epoch}:{seen}", self.path(true));
        let mut client = Client::connect(&server.ws(&path)).await;
        client.expect_op("welcome").await;
        client.expect_op("subscribed").await;
        Subscriber { plan: self, client, epoch: Some(epoch.into()), live_after: None }
    }

    fn path(&self, with_topics: bool) -> String {
        let format = if self.raw { "raw" } else { "envelope" };
        let policy = if self.lossless { "lossless" } else { "conflate" };
        let topics = INTERESTS[self.interest].0.join(",").replace('>', "%3E");
        let topics = if with_topics { format!("&topics={topics}") } else { String::new() };
        format!("/v1/ws?format={format}&policy={policy}{topics}")
    }
}

impl Subscriber {
    /// Offset of the next frame, which must be a recorded one byte for byte.
    pub async fn next(&mut self, tape: &Tape) -> u64 {
        match self.plan.raw {
            true => tape.locate_raw(&self.client.text().await),
            false => tape.locate(&self.client.frame().await),
        }
    }

    /// Offsets of all frames up to and including `last`.
    pub async fn read_to(&mut self, last: u64, tape: &Tape) -> Vec<u64> {
        let mut offsets = Vec::new();
        while offsets.last() != Some(&last) {
            offsets.push(self.next(tape).await);
        }
        offsets
    }

    /// Makes sure that nothing more is on its way.
    pub async fn expect_silence(&mut self) {
        match self.plan.raw {
            true => self.client.expect_raw_silence().await,
            false => self.client.expect_silence().await,
        }
    }
}

/// Settings of a server whose clients are never skipped over: what is slow on a busy machine is replayed instead. Its
/// upstream is a gate that opens late, and a recording that ends.
pub const PATIENT: [(&str, &str); 5] = [
    ("SLOW_REPLAY_MAX", "10m"),
    ("SLOW_WRITE_DEADLINE", "10m"),
    ("UPSTREAM_BACKOFF_MIN", "50ms"),
    ("UPSTREAM_BACKOFF_MAX", "200ms"),
    ("UPSTREAM_IDLE_TIMEOUT", "10m"),
];
