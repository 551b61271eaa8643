//! Floor 1: fanline.v1, the protocol of clients (docs/PROTOCOL.md): commands, server messages, encodings of a frame.

pub mod command;
pub mod encoding;
pub mod encodings;
pub mod event_stream;
pub mod form;
pub mod secret_token;
pub mod server_message;
