//! fanline holds one connection to a market-data or chat feed and gives it to thousands of clients.
//!
//! ARCHITECTURE.md is the map. A room may import only rooms on floors below its own.

pub mod app;
pub mod bench;
pub mod bus;
pub mod check;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod edge;
pub mod health;
pub mod intake;
pub mod json;
pub mod open_files;
pub mod profile;
pub mod protocol;
pub mod settings;
pub mod simulator;
pub mod wire;
pub mod words;
