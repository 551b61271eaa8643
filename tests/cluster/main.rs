//! Several servers, one feed.

mod join;
mod relay;
mod replicas;
mod servers;
