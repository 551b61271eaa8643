//! A lane: the sessions of one shard that see the identical stream.
//!
//! Sessions that are in step with the lane cost one `send` per chunk. The others stand at a cursor of their own and
//! are brought back by catch-up (`walk`).

use std::sync::Arc;
use std::time::Duration;

use crate::wire::encode::{Encoding, Format};
use crate::words::ids::{Offset, TopicId};
use crate::words::topic::Pattern;

/// Position of a session in its shard's table; reused after the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub usize);

/// What makes two streams identical.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// Sorted, without repeats.
    pub patterns: Arc<[Pattern]>,
    pub format: Format,
    pub deflate: bool,
    /// None: every frame, as it comes.
    pub every: Option<Duration>,
}

impl LaneKey {
    pub fn encoding(&self) -> Encoding {
        Encoding::of(self.format, self.deflate)
    }
}

pub struct Lane {
    pub key: LaneKey,
    /// Topics that match, in the order in which they were found.
    pub topics: Vec<TopicId>,
    /// Sessions on the lane, in step or not.
    pub members: u32,
    /// Sessions that have been sent everything up to the lane's position; each knows its seat.
    pub in_step: Vec<SessionId>,
    /// This round's frames, as indices into the shard's round. Empty between rounds and on a paced lane.
    pub fresh: Vec<u32>,
    /// When something was last sent to all in step.
    pub spoke_ns: u64,
    /// Only on a paced lane.
    pub pace: Option<Pace>,
}

/// State of a paced lane.
pub struct Pace {
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

impl Lane {
    pub fn new(key: LaneKey, topics: Vec<TopicId>, position: Offset, now_ns: u64) -> Lane {
        let pace = key.every.map(|every| {
            let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
            Pace { every_ns, position, due_ns: now_ns + every_ns, dirty: Vec::new(), ahead: Vec::new() }
        });
        Lane { key, topics, members: 0, in_step: Vec::new(), fresh: Vec::new(), spoke_ns: now_ns, pace }
    }
}
