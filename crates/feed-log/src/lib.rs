//! The log of one feed: entries that name their predecessor by hash, and segment files of them.
//!
//! [`entry`] has the form of an entry, [`chain`] the hash, [`segments`] the files. Nothing here knows a clock, a socket
//! or a thread.

pub mod chain;
pub mod entry;
pub mod segments;
