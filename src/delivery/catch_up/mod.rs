//! The one catch-up path: from a session's cursor to its lane's position.

pub(crate) mod by_offset;
pub(crate) mod path;
pub(crate) mod turns;
