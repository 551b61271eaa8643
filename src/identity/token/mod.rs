//! A token (JWS compact form with JWT claims): its fixed structure, its claims, and why it is refused.

pub mod claims;
pub mod fault;
pub mod issue;
pub mod jws;
