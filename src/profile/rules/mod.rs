//! What a rule of class `data` says, as types: nothing here reads TOML, and nothing applies it.

pub mod fold;
pub mod numbers;
pub mod treatment;
