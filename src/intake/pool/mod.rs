//! Several connections to one upstream: which of them carries what, and how they become one stream.
//!
//! No sockets and no clock.
