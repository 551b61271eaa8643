//! What a shard holds for clients that have not taken it, in bytes: each chunk counts once, however many share it.
//!
//! A chunk is identified by where it ends in memory: what is left of it ends there for every session, and nothing else
//! can while one of them holds it. Only what a socket did not take at once is counted, so that a delivery costs nothing.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::words::stamp::Stamp;

#[derive(Default)]
pub struct Unsent {
    /// By the end of the chunk.
    chunks: HashMap<usize, UnsentChunk>,
    bytes: usize,
}

struct UnsentChunk {
    sessions: u32,
    bytes: usize,
    since_ns: u64,
}

/// Where the bytes end in memory.
pub fn end_of(bytes: &Bytes) -> usize {
    bytes.as_ptr() as usize + bytes.len()
}

impl Unsent {
    /// One more session holds the chunk that ends there and has this size.
    pub fn hold(&mut self, end: usize, bytes: usize, now: Stamp) {
        let held = self.chunks.entry(end).or_insert(UnsentChunk { sessions: 0, bytes: 0, since_ns: now.mono_ns });
        held.sessions += 1;
        // One that joins late may have a smaller part of it.
        self.bytes += bytes.saturating_sub(held.bytes);
        held.bytes = held.bytes.max(bytes);
    }

    /// One session less holds it.
    pub fn release(&mut self, end: usize) {
        let held = self.chunks.get_mut(&end).expect("a chunk is released by a session that holds it");
        held.sessions -= 1;
        if held.sessions == 0 {
            self.bytes -= held.bytes;
            self.chunks.remove(&end);
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest chunks, without which at most `bytes_max` are held.
    pub fn oldest_beyond(&self, bytes_max: usize) -> HashSet<usize> {
        let mut by_age: Vec<(u64, usize, usize)> =
            self.chunks.iter().map(|(end, held)| (held.since_ns, *end, held.bytes)).collect();
        by_age.sort_unstable();
        let mut left = self.bytes;
        let spare = by_age.into_iter().take_while(|(_, _, bytes)| {
            let is_spare = left > bytes_max;
            left = left.saturating_sub(*bytes);
            is_spare
        });
        spare.map(|(_, end, _)| end).collect()
    }
}

#[cfg(test)]
mod tests;
