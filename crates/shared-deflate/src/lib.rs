//! WebSocket frames, permessage-deflate, and compression that many clients share: one window, or one search for matches.
#![doc = include_str!("../README.md")]
#![deny(missing_docs, unreachable_pub)]

pub mod deflate;
pub mod frame;
pub mod negotiate;
pub mod scan;
pub mod token;
pub mod window;
