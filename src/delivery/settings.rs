//! What of delivery can be set; docs/CONFIGURATION.md has the names and defaults.

use std::time::Duration;

use crate::delivery::window::WindowSettings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads that own sessions; at least 1.
    pub shards: usize,
    /// Sessions that a shard is given before one that has none comes into use; at least 1.
    pub spread_after: usize,
    /// Patterns of one session at most; a `subscribe` beyond is refused.
    pub patterns_max: usize,
    /// Wildcards among them at most; a `subscribe` beyond is refused.
    pub wildcards_max: usize,
    /// Lanes of one shard at most; a `subscribe` that needs one more is refused.
    pub lanes_max: usize,
    /// Inbound message at most, in bytes; the session that sends a larger one is ended.
    pub message_bytes_max: usize,
    /// Messages that are read from one client in a second; the rest waits in its socket.
    pub messages_per_second_max: u32,
    /// `send` and `request` of one client in a second; further ones are refused.
    pub asks_per_second_max: u32,
    /// A lane to which nothing was sent for so long gets a `heartbeat`.
    pub heartbeat_interval: Duration,
    /// A client that was not heard for so long is pinged.
    pub ping_interval: Duration,
    /// A client that does not answer a ping for so long is ended.
    pub ping_timeout: Duration,
    /// A session that is behind by less is replayed to; by more, it skips to the latest values.
    pub replay_max: Duration,
    /// A client that accepts no byte for so long is ended.
    pub write_deadline: Duration,
    /// Bytes that the kernel may hold unsent for one client (TCP_NOTSENT_LOWAT).
    pub unsent_bytes_max: u32,
    /// zlib level of permessage-deflate, 1 to 9.
    pub compression_level: u32,
    pub window: WindowSettings,
    /// The feed is the simulated market, and clients are told so.
    pub simulated: bool,
}
