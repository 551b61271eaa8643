//! What one shard reports of itself.

use metrics::{Counter, Gauge, Histogram};

use crate::wire::encode::{Encoder, Encoding, Format};
use crate::words::goodbye::Goodbye;
use crate::words::metrics::{self as names, Meters};

pub struct ShardMeters {
    pub sessions: Gauge,
    pub adopted: Counter,
    pub behind: Gauge,
    pub lanes: Gauge,
    pub deliveries: Counter,
    pub publish_to_write: Histogram,
    pub commands_done: Counter,
    pub commands_refused: Counter,
    pub skips_slow: Counter,
    pub skips_expired: Counter,
    pub skips_epoch: Counter,
    /// By `Encoding as usize`.
    sent: [Counter; Encoding::COUNT],
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
            behind: meters.gauge(&names::SESSIONS_BEHIND, &shard),
            lanes: meters.gauge(&names::LANES, &shard),
            deliveries: meters.counter(&names::DELIVERIES, &shard),
            publish_to_write: meters.histogram(&names::PUBLISH_TO_WRITE, &[]),
            commands_done: meters.counter(&names::COMMANDS, &[("result", "done")]),
            commands_refused: meters.counter(&names::COMMANDS, &[("result", "refused")]),
            skips_slow: skips("slow"),
            skips_expired: skips("expired"),
            skips_epoch: skips("epoch"),
            sent: Encoding::ALL.map(|encoding| meters.counter(&names::SENT_BYTES, &[("encoding", encoding.label())])),
            made: Encoding::ALL.map(|encoding| meters.counter(&names::ENCODINGS, &[("encoding", encoding.label())])),
            goodbyes: Goodbye::ALL
                .map(|goodbye| meters.counter(&names::GOODBYES, &[("reason", goodbye.label())]))
                .to_vec(),
        }
    }

    pub fn sent(&self, format: Format, deflate: bool, bytes: usize) {
        self.sent[Encoding::of(format, deflate) as usize].increment(bytes as u64);
    }

    pub fn goodbye(&self, goodbye: Goodbye) {
        let seat = Goodbye::ALL.iter().position(|other| *other == goodbye);
        self.goodbyes[seat.expect("ALL holds every goodbye")].increment(1);
    }

    /// Reports the encodings that were made since the last call.
    pub fn made(&self, encoder: &mut Encoder) {
        for (counter, made) in self.made.iter().zip(encoder.take_made()) {
            counter.increment(made);
        }
    }
}
