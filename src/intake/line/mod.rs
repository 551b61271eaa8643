//! One connection to the upstream: opening it, what to say on it and when, how it ends.

pub mod allowance;
mod answers;
pub mod asking;
pub mod backoff;
pub mod connect;
#[cfg(test)]
mod dead;
pub mod dialogue;
pub mod link;
pub mod loss;
mod race;
#[cfg(test)]
mod recordings;
pub mod resolve;
pub mod retry_after;
pub mod script;
pub mod target;
