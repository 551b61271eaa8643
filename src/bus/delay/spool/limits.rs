//! How a queue divides its memory where it has a spool.
//!
//! The parts add up to the whole: half for frames that never see the disk, an eighth for blocks on their way to it, an
//! eighth for those on their way back, and a sixteenth each for the block that is being filled and for the worker's
//! buffer. The last eighth is for the topics of blocks that are on disk, and for frames that are conflated.

/// Of a large memory: one write takes a few milliseconds, and a block of few topics costs some bytes in memory.
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// A larger frame waits in memory: the lengths in a record have 32 bits.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Bytes of memory, for one queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::bus::delay) struct SpoolLimits {
    /// A block is stored once it has so many.
    pub block_bytes: usize,
    /// A larger frame is not stored.
    pub frame_bytes_max: usize,
    /// Frames that wait in memory alone.
    pub direct_bytes_max: usize,
    /// Blocks on their way to the disk.
    pub storing_bytes_max: usize,
    /// Blocks that were read and are not published yet.
    pub loaded_bytes_max: usize,
}

impl SpoolLimits {
    /// For one of several queues that share this memory.
    pub fn share(bytes_max: usize, queues: usize) -> SpoolLimits {
        let share = bytes_max / queues.max(1);
        SpoolLimits {
            block_bytes: (share / 32).min(BLOCK_BYTES_MAX),
            frame_bytes_max: (share / 32).min(FRAME_BYTES_MAX),
            direct_bytes_max: share / 2,
            storing_bytes_max: share / 8,
            loaded_bytes_max: share / 8,
        }
    }

    /// What of a line's memory new frames may fill: the rest is for blocks that are read, which nothing may hold up.
    pub fn room(bytes_max: usize) -> usize {
        bytes_max - bytes_max / 4
    }
}
