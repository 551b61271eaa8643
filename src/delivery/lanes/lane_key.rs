//! What makes two streams identical: sessions with the same key are on one lane.

use std::time::Duration;

use crate::bus::frame::Frame;
use crate::delivery::chunk::Compression;
use crate::delivery::lanes::lane_patterns::{LanePatterns, PATTERN_WORK};
use crate::delivery::lanes::topic_filter::SharedFilter;
use crate::protocol::encoding::{Encoded, Encoder, Encoding, Format, Framing};
use shared_deflate::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use shared_deflate::negotiate::Agreement;
use shared_deflate::token::Stream;

/// How frames are compressed for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompressionMode {
    /// permessage-deflate was not agreed on.
    Plain,
    /// Each frame by itself: the client asked for `server_no_context_takeover`, or for a window too small to look back.
    Stateless { window_bits: u8 },
    /// With references to the frames before, as far back as the client's window reaches; with the lane's shared window,
    /// where it has one.
    Kept { window_bits: u8 },
    /// All that a session is sent is one stream: with references to what is shared, while it is sent nothing of its own.
    Gzip,
}

impl CompressionMode {
    pub fn of(agreement: Option<Agreement>) -> CompressionMode {
        match agreement {
            None => CompressionMode::Plain,
            Some(agreement) if !agreement.keeps_context(WINDOW_BITS_MIN) => {
                CompressionMode::Stateless { window_bits: agreement.window_bits() }
            }
            Some(agreement) => CompressionMode::Kept { window_bits: agreement.window_bits() },
        }
    }

    /// A shared window serves clients that can look back as far as any.
    pub fn takes_window(self) -> bool {
        matches!(self, CompressionMode::Kept { window_bits: WINDOW_BITS_MAX } | CompressionMode::Gzip)
    }

    /// Messages refer to those of their topics before them.
    pub fn refers_by_topic(self) -> bool {
        matches!(self, CompressionMode::Kept { .. })
    }

    /// What sessions in step have inflated so far: nothing.
    pub fn stream(self) -> Option<Stream> {
        match self {
            CompressionMode::Plain | CompressionMode::Stateless { .. } => None,
            CompressionMode::Kept { .. } | CompressionMode::Gzip => Some(Stream::default()),
        }
    }

    fn window_bits(self) -> Option<u8> {
        match self {
            CompressionMode::Plain | CompressionMode::Gzip => None,
            CompressionMode::Stateless { window_bits } | CompressionMode::Kept { window_bits } => Some(window_bits),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LaneKey {
    pub patterns: LanePatterns,
    pub format: Format,
    pub framing: Framing,
    pub compression: CompressionMode,
    /// None: every frame, as it arrives.
    pub every: Option<Duration>,
    /// What its wildcards are narrowed by; none without wildcards, and where all topics are allowed.
    pub filter: Option<SharedFilter>,
}

/// What a session has of its lane besides the patterns: its pace, and what its rights allow of the topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneTerms {
    pub every: Option<Duration>,
    /// None if all topics are allowed.
    pub filter: Option<SharedFilter>,
}

impl LaneKey {
    /// The key of a lane with these patterns instead.
    pub fn with(&self, patterns: LanePatterns, terms: &LaneTerms) -> LaneKey {
        let filter = if patterns.wildcards().is_empty() { None } else { terms.filter.clone() };
        LaneKey { patterns, every: terms.every, filter, ..*self }
    }

    /// Whether a session with these terms can have the lane.
    pub fn is_on(&self, terms: &LaneTerms) -> bool {
        self.every == terms.every && (self.patterns.wildcards().is_empty() || self.filter == terms.filter)
    }

    /// What opening a lane costs, in bytes of a message that are as costly to read.
    pub fn work(&self) -> usize {
        const LANE_WORK: usize = 512;
        LANE_WORK + PATTERN_WORK * self.patterns.totals().patterns
    }

    /// The encoding without compression.
    pub fn plain(&self) -> Encoding {
        Encoding { format: self.format, framing: self.framing, deflated: false }
    }

    /// The encoding of the text that sessions read in the end.
    pub fn text(&self) -> Encoding {
        Encoding { framing: self.framing.of_text(), ..self.plain() }
    }

    /// The encoding for a session that stands alone: plain or stateless, shared by everyone.
    pub fn encoded<'f>(&self, frame: &'f Frame, encoder: &mut Encoder) -> &'f Encoded {
        self.deflated(frame, encoder).unwrap_or_else(|| frame.encoded(self.plain(), encoder))
    }

    /// The frame compressed by itself; none without compression, or where it would refer further back than the client
    /// can see: references reach back as far as the message is long.
    pub fn deflated<'f>(&self, frame: &'f Frame, encoder: &mut Encoder) -> Option<&'f Encoded> {
        let window_bits = self.compression.window_bits()?;
        let deflated = frame.encoded(Encoding { deflated: true, ..self.plain() }, encoder);
        (window_bits == WINDOW_BITS_MAX || deflated.plain_bytes <= 1 << window_bits).then_some(deflated)
    }

    /// What `encoded` gives, for the metrics.
    pub fn stateless(&self) -> Compression {
        match self.compression {
            CompressionMode::Plain => Compression::Plain,
            CompressionMode::Stateless { .. } | CompressionMode::Kept { .. } | CompressionMode::Gzip => {
                Compression::Stateless
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::bus::frame::Topic;
    use crate::bus::retention::Retention;
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::ids::{Offset, TopicId};
    use crate::words::stamp::Stamp;

    #[test]
    fn no_frame_refers_further_back_than_the_client_can_see() {
        let mut encoder = Encoder::new(6);
        for (window_bits, payload_bytes, compressed) in
            [(9, 400, true), (9, 600, false), (8, 200, true), (8, 300, false), (14, 600, true), (15, 60_000, true)]
        {
            let key = LaneKey {
                patterns: LanePatterns::default(),
                format: Format::Raw,
                framing: Framing::WebSocket,
                compression: CompressionMode::Stateless { window_bits },
                every: None,
                filter: None,
            };
            let topic = Arc::new(Topic { id: TopicId(0), name: "t".into(), keep: None });
            let payload = Payload { bytes: Bytes::from("ab".repeat(payload_bytes / 2)), kind: PayloadKind::Text };
            let frame = Frame::new(Offset(1), topic, Stamp::default(), payload, Retention::NEWEST);
            let first = key.encoded(&frame, &mut encoder).bytes[0];
            assert_eq!(first & 0x40 != 0, compressed, "{payload_bytes} bytes, {window_bits} bits");
        }
    }
}
