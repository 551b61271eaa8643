//! fanline holds one connection to a market-data or chat feed and gives it to thousands of clients.
//!
//! ARCHITECTURE.md is the map. A room may import only rooms on floors below its own.

pub mod bus;
pub mod delivery;
pub mod intake;
pub mod wire;
pub mod words;
