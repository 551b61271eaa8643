//! A client's socket, as a shard needs it: non-blocking reads and writes, and an end.

use std::io::{self, Read, Write};

/// A socket may hold bytes that it has taken and not passed on, as TLS does. `flush` passes them on, or fails with
/// `WouldBlock` while it cannot.
pub trait Socket: Read + Write {
    /// Whether bytes that it has taken are not passed on. A session with such a socket is not in step.
    fn has_unsent(&self) -> bool;

    /// Bytes that it has received and not given away, because something is missing.
    fn pending_bytes(&self) -> usize {
        0
    }

    /// Forgets such bytes; nothing more is read for its meaning.
    fn forget_inbound(&mut self) {}

    /// It must be replaced by a new connection before long.
    fn is_worn_out(&self) -> bool {
        false
    }

    /// Signals to the peer that nothing more follows (TCP FIN).
    fn shutdown_write(&mut self) -> io::Result<()>;
}
