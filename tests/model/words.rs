//! The words that the bus is made with.
#![allow(dead_code)]

#[path = "../../src/words/ids.rs"]
pub mod ids;
