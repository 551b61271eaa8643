//! Rules of class `data` as types: nothing here reads TOML or applies them.

pub mod checksum;
pub mod fold;
pub mod numbers;
pub mod treatment;
pub mod venue_time;
