//! A lane: the sessions of one shard that see the identical stream.
//!
//! Sessions that are in step with the lane cost one `send` per chunk. The others stand at a cursor of their own and
//! are brought back by catch-up (`walk`).

use std::sync::Arc;
use std::time::Duration;

use crate::bus::demand::interest::Claim;
use crate::bus::frame::Frame;
use crate::delivery::catch_up::path::Compression;
use crate::delivery::lanes::topic_index::LaneTopics;
use crate::delivery::lanes::window::Window;
use crate::protocol::encoding::{Encoded, Encoder, Encoding, Format};
use crate::wire::deflate::WINDOW_BITS_MAX;
use crate::wire::negotiate::Agreement;
use crate::words::ids::{Offset, TopicId};
use crate::words::patterns::PatternSet;
use crate::words::topic::Pattern;

/// Position of a session in its shard's table; reused after the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub usize);

/// How frames are compressed for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompressionMode {
    /// permessage-deflate was not agreed on.
    Plain,
    /// Each frame by itself: the client asked for `server_no_context_takeover` or has a small window.
    Stateless { window_bits: u8 },
    /// With the lane's shared window, where it has one; else each frame by itself.
    Window,
}

impl CompressionMode {
    pub fn of(agreement: Option<Agreement>) -> CompressionMode {
        match agreement {
            None => CompressionMode::Plain,
            Some(agreement) if !agreement.keeps_context(WINDOW_BITS_MAX) => {
                CompressionMode::Stateless { window_bits: agreement.window_bits() }
            }
            Some(_) => CompressionMode::Window,
        }
    }

    fn window_bits(self) -> Option<u8> {
        match self {
            CompressionMode::Plain => None,
            CompressionMode::Stateless { window_bits } => Some(window_bits),
            CompressionMode::Window => Some(WINDOW_BITS_MAX),
        }
    }
}

/// What makes two streams identical.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// Sorted, without repeats.
    pub patterns: Arc<[Pattern]>,
    pub format: Format,
    pub scheme: CompressionMode,
    /// None: every frame, as it comes.
    pub every: Option<Duration>,
}

impl LaneKey {
    /// About the memory that a lane with these patterns takes: they stand in the key and in the index, and each has its
    /// places in tables (measured: docs/operations/memory.md).
    pub fn bytes(&self) -> usize {
        const LANE_BYTES: usize = 512;
        const PATTERN_BYTES: usize = 160;
        let patterns = self.patterns.iter().map(|pattern| 2 * pattern.as_str().len() + PATTERN_BYTES);
        LANE_BYTES + patterns.sum::<usize>()
    }

    /// The frame as a session gets it that stands alone: plain or stateless, shared by everyone.
    pub fn encoded<'f>(&self, frame: &'f Frame, encoder: &mut Encoder) -> &'f Encoded {
        let plain = Encoding::of(self.format, false);
        let Some(window_bits) = self.scheme.window_bits() else { return frame.encoded(plain, encoder) };
        let deflated = frame.encoded(Encoding::of(self.format, true), encoder);
        // References reach back as far as the message is long; beyond the client's window it goes out plain.
        if window_bits < WINDOW_BITS_MAX && deflated.plain_bytes > 1 << window_bits {
            return frame.encoded(plain, encoder);
        }
        deflated
    }

    /// What `encoded` gives, for the metrics.
    pub fn form(&self) -> Compression {
        match self.scheme {
            CompressionMode::Plain => Compression::Plain,
            CompressionMode::Stateless { .. } | CompressionMode::Window => Compression::Stateless,
        }
    }
}

pub struct Lane {
    pub key: LaneKey,
    /// Topics that match.
    pub topics: LaneTopics,
    /// None once its wildcards were matched against all topics (`lanes`).
    pub unmatched: Option<Unmatched>,
    /// Its exact topics are wanted from the upstream, where the upstream is asked for topics.
    pub claim: Option<Claim>,
    /// Sessions on the lane, in step or not.
    pub members: u32,
    /// Sessions on other lanes that walk, and were on this one before: its topics are what they know.
    pub holders: u32,
    /// Sessions that have been sent everything up to the lane's position, and are not on board of its window; each
    /// knows its seat.
    pub in_step: Vec<SessionId>,
    /// Only with `CompressionMode::Window`, and only while it pays.
    pub window: Option<Window>,
    /// This round's frames, as indices into the shard's round. Empty between rounds and on a paced lane.
    pub fresh: Vec<u32>,
    /// When something was last sent to all in step.
    pub spoke_ns: u64,
    /// Only on a paced lane.
    pub pace: Option<LanePace>,
}

/// What is left to do before a lane is on all its topics.
pub struct Unmatched {
    pub wildcards: PatternSet,
    /// The first slot of the index that they were not matched against yet.
    pub from: usize,
}

/// State of a paced lane.
pub struct LanePace {
    pub every_ns: u64,
    /// Everything up to here has been sent. On other lanes that is the shard's cursor.
    pub position: Offset,
    /// The next moment at which something may be sent.
    pub due_ns: u64,
    /// Topics that changed since `position`, each once.
    pub dirty: Vec<TopicId>,
    /// Sessions that are ahead of `position`, because they joined since; each knows its seat.
    pub ahead: Vec<SessionId>,
}

impl LanePace {
    /// There is nothing to send, and nobody who waits for it.
    pub fn is_idle(&self) -> bool {
        self.dirty.is_empty() && self.ahead.is_empty()
    }
}

impl Lane {
    pub fn new(key: LaneKey, claim: Option<Claim>, topics: LaneTopics, (position, now_ns): (Offset, u64)) -> Lane {
        let pace = key.every.map(|every| {
            let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
            LanePace { every_ns, position, due_ns: now_ns + every_ns, dirty: Vec::new(), ahead: Vec::new() }
        });
        let mut wildcards = key.patterns.iter().filter(|pattern| !pattern.is_exact()).peekable();
        let unmatched = wildcards.peek().is_some();
        let unmatched = unmatched.then(|| Unmatched { wildcards: wildcards.collect(), from: 0 });
        Lane {
            unmatched,
            key,
            topics,
            claim,
            members: 0,
            holders: 0,
            in_step: Vec::new(),
            window: None,
            fresh: Vec::new(),
            spoke_ns: now_ns,
            pace,
        }
    }

    /// Sessions that a chunk goes to: those in step, on board or not.
    pub fn audience(&self) -> usize {
        self.in_step.len() + self.window.as_ref().map_or(0, |window| window.members().len())
    }

    pub fn everyone_in_step(&self) -> impl Iterator<Item = SessionId> {
        let boarded = self.window.iter().flat_map(|window| window.members());
        self.in_step.iter().chain(boarded).copied()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::frame::Topic;
    use crate::bus::retention::Retention;
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::stamp::Stamp;

    #[test]
    fn no_frame_refers_further_back_than_the_client_can_see() {
        let mut encoder = Encoder::new(6);
        for (window_bits, payload_bytes, compressed) in
            [(9, 400, true), (9, 600, false), (8, 200, true), (8, 300, false), (14, 600, true), (15, 60_000, true)]
        {
            let key = LaneKey {
                patterns: Arc::new([]),
                format: Format::Raw,
                scheme: CompressionMode::Stateless { window_bits },
                every: None,
            };
            let topic = Arc::new(Topic { id: TopicId(0), name: "t".into(), keep: None });
            let payload = Payload { bytes: Bytes::from("ab".repeat(payload_bytes / 2)), kind: PayloadKind::Text };
            let frame = Frame::new(Offset(1), topic, Stamp::default(), payload, Retention::NEWEST);
            let first = key.encoded(&frame, &mut encoder).bytes[0];
            assert_eq!(first & 0x40 != 0, compressed, "{payload_bytes} bytes, {window_bits} bits");
        }
    }
}
