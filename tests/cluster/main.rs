//! Several servers, one feed.

mod epochs;
mod join;
mod relay;
mod replicas;
mod servers;
