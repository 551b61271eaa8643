//! Delayed views: each is a log of its own, fed with the frames of the live log once they are old enough.
//!
//! Invariant: no frame enters a view before its delay is over, counted on the monotonic clock from the receipt of its
//! message. Whatever goes wrong, a frame comes late, or not at all and the readers are told.

mod block;
mod due;
pub mod line;
mod line_meters;
mod queue;
mod slice;
pub mod spool;
#[cfg(test)]
mod tests;
mod waiting;
