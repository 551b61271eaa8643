//! What one shard reports of itself.

use metrics::{Counter, Gauge, Histogram};

use crate::delivery::chunk::{Chunk, Compression};
use crate::protocol::encoding::{Encoder, Encoding, Format};
use crate::words::goodbye::Goodbye;
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// By `Format::index`, and in it by `Compression as usize`; forms are not compressed.
const SENT_LABELS: [&str; 9] = [
    "envelope",
    "envelope_deflate",
    "envelope_window",
    "envelope_tokens",
    "raw",
    "raw_deflate",
    "raw_window",
    "raw_tokens",
    "form",
];

/// Values of `Compression`.
const COMPRESSIONS: usize = 4;

/// What becomes of a client request.
const REQUEST_RESULTS: [&str; 9] =
    ["sent", "response", "forbidden", "too_fast", "busy", "not_sent", "timeout", "upstream_down", "unanswered"];

/// Why a command is refused; the last one stands for all that are not listed.
const REFUSALS: [&str; 22] = [
    "bad_json",
    "bad_request",
    "unknown_op",
    "unknown_policy",
    "bad_pattern",
    "bad_pace",
    "bad_cursor",
    "not_subscribed",
    "too_many_patterns",
    "too_many_wildcards",
    "too_many_wildcards_total",
    "too_many_pattern_bytes",
    "too_many_lanes",
    "lanes_full",
    "too_many_topics",
    "forbidden",
    "too_fast",
    "busy",
    "not_text",
    "unauthenticated",
    "too_many_sessions",
    "other",
];

pub struct ShardMeters {
    pub sessions: Gauge,
    pub adopted: Counter,
    pub behind: Gauge,
    pub busy: Gauge,
    pub lanes: Gauge,
    pub wildcards: Gauge,
    pub lane_bytes: Gauge,
    pub inbound_bytes: Gauge,
    pub unsent_bytes: Gauge,
    deliveries: Counter,
    pub windows: Gauge,
    pub boarded: Gauge,
    saved_stateless: Counter,
    saved_window: Counter,
    saved_tokens: Counter,
    pub publish_to_write: Histogram,
    pub commands_done: Counter,
    commands_refused: Counter,
    /// In the order of `REFUSALS`.
    refusals: [Counter; REFUSALS.len()],
    pub throttled: Counter,
    pub skips_slow: Counter,
    pub skips_expired: Counter,
    pub skips_epoch: Counter,
    pub skips_delayed: Counter,
    /// In the order of `REQUEST_RESULTS`.
    requests: [Counter; REQUEST_RESULTS.len()],
    pub skips_overrun: Counter,
    /// By format, and in it by compression.
    sent: [Counter; SENT_LABELS.len()],
    /// In the order of `Encoding::ALL`.
    made: [Counter; Encoding::COUNT],
    /// In the order of `Goodbye::ALL`.
    goodbyes: Vec<Counter>,
}

impl ShardMeters {
    pub fn new(meters: &Meters, shard: usize) -> ShardMeters {
        let shard = shard.to_string();
        let shard = [("shard", shard.as_str())];
        let skips = |reason| meters.counter(&names::SKIPS, &[("reason", reason)]);
        ShardMeters {
            sessions: meters.gauge(&names::SESSIONS, &shard),
            adopted: meters.counter(&names::SESSIONS_ADOPTED, &shard),
            busy: meters.gauge(&names::SHARD_BUSY, &shard),
            behind: meters.gauge(&names::SESSIONS_BEHIND, &shard),
            lanes: meters.gauge(&names::LANES, &shard),
            wildcards: meters.gauge(&names::WILDCARDS, &shard),
            lane_bytes: meters.gauge(&names::LANE_BYTES, &shard),
            inbound_bytes: meters.gauge(&names::INBOUND_BYTES, &shard),
            unsent_bytes: meters.gauge(&names::UNSENT_BYTES, &shard),
            deliveries: meters.counter(&names::DELIVERIES, &shard),
            windows: meters.gauge(&names::WINDOWS, &shard),
            boarded: meters.gauge(&names::WINDOW_SESSIONS, &shard),
            saved_stateless: meters.counter(&names::SAVED_BYTES, &[("scheme", "stateless")]),
            saved_window: meters.counter(&names::SAVED_BYTES, &[("scheme", "window")]),
            saved_tokens: meters.counter(&names::SAVED_BYTES, &[("scheme", "tokens")]),
            publish_to_write: meters.histogram(&names::PUBLISH_TO_WRITE, &[]),
            commands_done: meters.counter(&names::COMMANDS, &[("result", "done")]),
            throttled: meters.counter(&names::THROTTLED, &[]),
            commands_refused: meters.counter(&names::COMMANDS, &[("result", "refused")]),
            refusals: REFUSALS.map(|code| meters.counter(&names::COMMANDS_REFUSED, &[("code", code)])),
            skips_slow: skips("slow"),
            skips_expired: skips("expired"),
            skips_epoch: skips("epoch"),
            skips_delayed: skips("delayed"),
            requests: REQUEST_RESULTS.map(|result| meters.counter(&names::CLIENT_REQUESTS, &[("result", result)])),
            skips_overrun: skips("overrun"),
            sent: SENT_LABELS.map(|encoding| meters.counter(&names::SENT_BYTES, &[("encoding", encoding)])),
            made: Encoding::ALL.map(|encoding| meters.counter(&names::ENCODINGS, &[("encoding", encoding.label())])),
            goodbyes: Goodbye::ALL
                .map(|goodbye| meters.counter(&names::GOODBYES, &[("reason", goodbye.label())]))
                .to_vec(),
        }
    }

    pub fn sent(&self, format: Format, compression: Compression, bytes: usize) {
        self.sent[format.index() * COMPRESSIONS + compression as usize].increment(bytes as u64);
    }

    /// A chunk was handed to the sockets of this many sessions.
    pub fn delivered(&self, chunk: &Chunk, sessions: usize) {
        self.deliveries.increment(chunk.frames * sessions as u64);
        match chunk.compression {
            Compression::Plain => {}
            Compression::Stateless => self.saved_stateless.increment((chunk.saved_bytes * sessions) as u64),
            Compression::Window => self.saved_window.increment((chunk.saved_bytes * sessions) as u64),
            Compression::Tokens => self.saved_tokens.increment((chunk.saved_bytes * sessions) as u64),
        }
    }

    /// A command was refused.
    pub fn refused(&self, code: &str) {
        self.commands_refused.increment(1);
        let place = REFUSALS.iter().position(|other| *other == code);
        self.refusals[place.unwrap_or(REFUSALS.len() - 1)].increment(1);
    }

    /// A client request was refused or answered.
    pub fn requested(&self, result: &str) {
        let place = REQUEST_RESULTS.iter().position(|other| *other == result);
        self.requests[place.expect("REQUEST_RESULTS holds every result")].increment(1);
    }

    pub fn goodbye(&self, goodbye: Goodbye) {
        let place = Goodbye::ALL.iter().position(|other| *other == goodbye);
        self.goodbyes[place.expect("ALL holds every goodbye")].increment(1);
    }

    /// Reports the encodings that were made since the last call.
    pub fn made(&self, encoder: &mut Encoder) {
        for (counter, made) in self.made.iter().zip(encoder.take_made()) {
            counter.increment(made);
        }
    }
}
