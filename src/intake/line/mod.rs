//! One connection to the upstream: opening it, what to say on it and when, how it ends.

pub mod allowance;
mod answers;
pub mod asking;
pub mod backoff;
pub mod connect;
pub mod dialogue;
pub mod link;
pub mod loss;
#[cfg(test)]
mod recordings;
