//! One connection to the upstream: opening it, what to say on it and when, how it ends.

mod answers;
pub mod backoff;
#[cfg(test)]
mod dead;
pub mod dial;
pub mod loss;
pub mod protocol;
pub mod protocol_config;
mod race;
pub mod rate_limit;
#[cfg(test)]
mod recordings;
pub mod resolve;
pub mod retry_after;
pub mod subscriptions;
pub mod transport;
