//! Floor 1: bytes to meaning and back.
//!
//! Pure: no tokio, no clock, no sockets. Everything here is a function of the bytes it is given.

pub use shared_deflate::{deflate, frame, negotiate, scan};
