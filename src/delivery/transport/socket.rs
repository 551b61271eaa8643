//! A client's socket, as a shard needs it: non-blocking reads and writes, and an end.

use std::io::{self, Read, Write};

/// A socket may hold bytes that it has taken and not passed on, as TLS does. `flush` passes them on, or fails with
/// `WouldBlock` while it cannot.
pub trait Socket: Read + Write {
    /// Whether bytes that it has taken are not passed on. A session with such a socket is not in step.
    fn has_unsent(&self) -> bool;

    /// Signals to the peer that nothing more follows (TCP FIN).
    fn shutdown_write(&mut self) -> io::Result<()>;
}
