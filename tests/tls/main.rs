//! TLS of the server's own.

mod certificate;
mod clients;
mod hello;
mod sessions;
