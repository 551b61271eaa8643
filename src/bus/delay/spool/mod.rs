//! The spool of a delay line: blocks of waiting frames on disk, where memory has no room for them.
//!
//! A queue hands over blocks and gets them back before they are due. One thread for each queue (`worker`) writes and
//! reads; the line never waits for it, and conflates the blocks that it does not take. Files have no names once they
//! are open (`directory`), so nothing outlives the process, and nothing of an earlier one is ever read.

pub mod directory;
pub(super) mod failure;
pub(super) mod limits;
pub(super) mod record;
pub mod segment;
pub mod worker;
