//! One upstream message of one topic, with each of its encodings made at most once.

use std::sync::{Arc, OnceLock};

use crate::bus::ring::Numbered;
use crate::wire::encode::{Encoded, Encoder, Encoding, Payload};
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;

/// A topic's name and number; one per topic, shared by all its frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Box<str>,
    /// Messages that are kept for newcomers; at least 1.
    pub keep: usize,
}

/// Immutable but for its encodings, which are filled in by the first reader that needs one.
#[derive(Debug)]
pub struct Frame {
    pub offset: Offset,
    pub topic: Arc<Topic>,
    /// When the upstream message was received.
    pub received: Stamp,
    pub payload: Payload,
    /// By `Encoding as usize`. Written once by whichever shard is first (others wait for it), read by all.
    encodings: [OnceLock<Encoded>; Encoding::COUNT],
}

impl Frame {
    pub fn new(offset: Offset, topic: Arc<Topic>, received: Stamp, payload: Payload) -> Frame {
        Frame { offset, topic, received, payload, encodings: Default::default() }
    }

    /// The complete WireFrame in this encoding; made at most once, however many ask, also at the same moment.
    pub fn encoded(&self, encoding: Encoding, encoder: &mut Encoder) -> &Encoded {
        self.encodings[encoding as usize].get_or_init(|| {
            encoder.encode(encoding, &self.topic.name, self.offset, self.received.wall_ms, &self.payload)
        })
    }
}

impl Numbered for Frame {
    fn offset(&self) -> Offset {
        self.offset
    }
}
