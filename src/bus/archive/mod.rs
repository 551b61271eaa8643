//! The archive: the log on disk, from which a restarted server goes on.
//!
//! The recorder is a reader of the ring like any other, on a thread of its own: the publisher neither knows it nor waits
//! for it. What the disk takes too slowly is overwritten in the ring, and missing in the archive; a snapshot then
//! stands in its place. At a start, ring and latest values are restored from it (`restore`), and offsets go on where no
//! client can have seen one (`reservation`).

pub mod directory;
mod meters;
pub mod open;
pub mod recorder;
mod reservation;
mod restore;
pub mod sync;

#[cfg(test)]
mod tests;
