//! Checks the bus's shared memory with loom: the orders in which threads can run, and every value that a load may give.
//!
//! The modules under check are fanline's own files; `cfg(loom)` turns `bus::sync` to loom's side. What is not here is
//! not checked: arc-swap itself (`sync` lists what is assumed of it), the last-value cache (a map with locks), and the
//! shard's event loop, whose order of steps the checks repeat.
#![cfg(all(loom, test))]

mod bus;
mod words;
