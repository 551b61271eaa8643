//! Who a client is: tokens are verified by the keys of their issuers, and get the rights of a tier.
//!
//! [`TokenGatekeeper`](token_gatekeeper::TokenGatekeeper) is the [`Gatekeeper`](crate::access::gatekeeper::Gatekeeper) of
//! a server with `[auth]`. It verifies on a thread of its own, never on a shard. What a token may say is checked before its
//! signature; what is wrong with it is counted under one of a few fixed words, and never told to the client.

mod address_failures;
pub mod error;
pub mod keys;
pub mod meters;
mod places;
pub mod revocations;
pub mod tables;
mod tickets;
pub mod tiers;
pub mod token;
pub mod token_gatekeeper;
pub mod verifier;
