//! The program: how it starts, what it is told, how it is watched, and how it ends.

mod alive;
mod bad_input;
mod bad_start;
mod bench_command;
mod canary;
mod configuration;
mod ends;
mod graceful_stop;
mod metrics;
mod snippets;
