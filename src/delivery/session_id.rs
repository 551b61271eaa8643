//! The number of a session in its shard.

/// Position in the shard's table; used again after the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub usize);
