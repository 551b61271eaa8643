//! WebSocket frames, permessage-deflate, and one compression window that many clients share.
#![doc = include_str!("../README.md")]
#![deny(missing_docs, unreachable_pub)]

pub mod deflate;
pub mod frame;
pub mod negotiate;
pub mod scan;
pub mod token;
pub mod window;
