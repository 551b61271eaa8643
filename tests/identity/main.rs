//! Identity: who a client is, what it may see, and what an operator learns and does about it.

mod admin;
mod audit;
mod audit_events;
mod keys;
mod program;
mod rights;
mod tiers;
mod tokens;
