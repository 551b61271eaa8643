//! The keys of issuers: what they are, where they come from, and how new ones are fetched.

pub mod algorithm;
mod der;
pub(in crate::identity) mod fetch;
pub mod issuer_keys;
pub mod key;
pub mod key_set;
