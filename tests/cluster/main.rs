//! Several servers, one feed.

mod cut_off;
mod epochs;
mod join;
mod large;
mod relay;
mod replicas;
mod servers;
