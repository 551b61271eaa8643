//! What of delivery can be set; docs/CONFIGURATION.md has the names and defaults.

use std::time::Duration;

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
    /// Wildcards of all lanes of one shard at most; a `subscribe` beyond is refused.
    pub wildcards_total_max: usize,
    /// Bytes of the patterns of one session at most; a `subscribe` beyond is refused.
    pub pattern_bytes_max: usize,
    /// Memory of the lanes of one shard at most (`Lane::bytes`); a `subscribe` that needs a further one is refused.
    pub lane_bytes_total_max: usize,
    /// Lanes of one shard at most; a `subscribe` that needs one more is refused.
    pub lanes_max: usize,
    /// Inbound message at most, in bytes; the session that sends a larger one is ended.
    pub message_bytes_max: usize,
    /// Messages that are read from one client in a second; the rest waits in its socket.
    pub messages_per_second_max: u32,
    /// Bytes of messages, inflated, that are read from one client in a second; the rest waits in its socket.
    pub inbound_bytes_per_second_max: u32,
    /// A client whose message has not ended so long after its first byte is ended.
    pub message_timeout: Duration,
    /// Bytes of messages that are not read of all clients of a shard; beyond it those that began first are ended.
    pub inbound_bytes_total_max: usize,
    /// `send` and `request` of one client in a second; further ones are refused.
    pub client_requests_per_second_max: u32,
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
    /// Bytes that are held for clients that have not taken them, each chunk once; beyond it those that hold the oldest
    /// are ended.
    pub unsent_bytes_total_max: usize,
    /// Raw sessions are ended while the feed is stale, because they receive no message that says so.
    pub ends_raw_when_stale: bool,
    /// zlib level of permessage-deflate, 1 to 9.
    pub compression_level: u32,
    pub window: WindowSettings,
    /// The feed is the simulated market; `welcome` says so.
    pub simulated: bool,
}

/// When a lane gets a shared window, and how long one waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// Windows of one shard at most; 0 for none. Each costs about 300 KiB.
    pub windows_max: usize,
    /// Sessions in step that a lane must have to get a window; it loses the window below half of that.
    pub members_min: usize,
    /// Frames for which sessions wait to board at most.
    pub cut_frames_max: u32,
}

impl Settings {
    /// One shard with bounds that are never reached and deadlines that do not come: a test or benchmark of one of them
    /// sets that one.
    pub fn lenient() -> Settings {
        let long = Duration::from_secs(24 * 3600);
        Settings {
            shards: 1,
            spread_after: 1,
            patterns_max: 1000,
            wildcards_max: 100,
            wildcards_total_max: 100_000,
            lanes_max: 10_000,
            pattern_bytes_max: 1 << 16,
            lane_bytes_total_max: 1 << 30,
            message_bytes_max: 1 << 16,
            messages_per_second_max: 1_000_000,
            inbound_bytes_per_second_max: 1 << 30,
            message_timeout: long,
            inbound_bytes_total_max: 1 << 30,
            client_requests_per_second_max: 1000,
            heartbeat_interval: long,
            ping_interval: long,
            ping_timeout: long,
            replay_max: long,
            write_deadline: long,
            unsent_bytes_max: 1 << 20,
            unsent_bytes_total_max: 1 << 30,
            ends_raw_when_stale: true,
            compression_level: 7,
            window: WindowSettings { windows_max: 8, members_min: 4, cut_frames_max: 1024 },
            simulated: false,
        }
    }
}
