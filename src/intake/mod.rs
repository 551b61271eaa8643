//! The intake: from the feed to the publisher.
//!
//! ```text
//! upstream/     the task: its connections, what each of them subscribes to, what clients want
//!   connection/   one connection: its socket, and what is sent on it and when (`Protocol`)
//!   pipeline.rs   the way of a message, on one screen:
//!     classify/     what it is, and which updates of which topics it holds (`Classifier`), by the profile
//!     arbitrate/    several connections that carry the same: first copy wins, order restored (`Arbiter`)
//!     assemble/     gaps, whole values, cadence (`Assembler`)
//!     venue_age.rs  how old messages are on arrival, by the venue's own clock
//!     output.rs     updates to the publisher, and the state of their topics; feed_health.rs: live or stale
//! probe.rs      a look at a feed: `fanline probe`
//!   kept_messages.rs  some messages, as they arrived, for a look
//! draft/        a profile from the messages of a look: `fanline profile new`
//! message_file.rs   messages of a feed in a file, and what must become of them: `fanline check`
//! ```
//! `Protocol`, `Classifier`, `Arbiter`, `Assembler` and `Assignment` know no sockets and no clock. Nothing here knows
//! the readers of published frames.

pub mod arbitrate;
pub mod assemble;
pub mod classify;
pub mod probe;
pub mod update;
pub mod upstream;

pub(crate) mod connection;
mod cursor;
pub(crate) mod draft;
mod feed_health;
mod feed_report;
mod item_status;
pub(crate) mod kept_messages;
pub(crate) mod message_file;
mod message_log;
mod misfit;
mod oddity_log;
mod output;
mod pipeline;
mod probe_counts;
#[cfg(test)]
mod recorded;
mod time;
mod venue_age;
