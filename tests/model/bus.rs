//! The files under check, as they are.
#![allow(dead_code)]

// The checks are in here because the bus shows the ring and the board to nobody else.
#[path = "checks.rs"]
mod checks;

#[path = "../../src/bus/bell.rs"]
pub mod bell;
#[path = "../../src/bus/board.rs"]
pub mod board;
#[path = "../../src/bus/ring.rs"]
pub mod ring;
#[path = "../../src/bus/sync.rs"]
pub mod sync;
