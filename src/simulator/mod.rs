//! Simulated feeds, for the intake to connect to like to a real one.
//!
//! [`market_server::Simulator`] invents a market, [`replay::ReplayServer`] serves a recording. Both are plain WebSocket
//! servers (RFC 6455, no extensions) that know nothing of fanline: their messages reach clients only through the intake.

pub mod dice;
mod listener;
pub mod market;
pub mod market_server;
pub mod recording;
pub mod replay;
mod symbols;

use std::io;
use std::net::SocketAddr;

/// Why a simulated feed could not start. A retry without a change does not help.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    #[error(
        "expected to listen on `{addr}`, found the address in use; stop the other program, or choose another port \
         with --listen (port 0 takes any free one)"
    )]
    AddressInUse { addr: SocketAddr },
    #[error("expected to listen on `{addr}`: {source}; choose an address of this machine with --listen")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("expected a rate above 0 and at most {max} messages per second, found `{found}`")]
    Rate { found: f64, max: f64 },
    #[error("expected 1 to {max} symbols, found `{found}`")]
    Symbols { found: usize, max: usize },
    #[error("expected a speed above 0 (1 is as recorded), found `{found}`; write `max` for no pauses at all")]
    Speed { found: f64 },
    #[error("expected a regular expression and an answer after --answer, found `{found}`: {reason}")]
    Answer { found: String, reason: String },
}
