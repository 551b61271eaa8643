//! The names under which fanline reports on itself, and the handle through which rooms get their meters.
//!
//! Every series is declared here once, with its help text, so that `/metrics` and the documentation cannot differ.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

/// One declared series.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! declare {
    ($($constant:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(pub static $constant: Metric = Metric { name: $name, kind: MetricKind::$kind, help: $help };)*
        /// Every declared series, in the order of the documentation.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

declare! {
    BUILD_INFO = Gauge "fanline_build_info" "Always 1; the labels tell the version.";
    UPSTREAM_UP = Gauge "fanline_upstream_up" "1 while the feed is connected and delivering, else 0.";
    UPSTREAM_STATE = Gauge "fanline_upstream_state" "1 for the state the upstream is in, 0 for the others.";
    UPSTREAM_SIMULATED = Gauge "fanline_upstream_simulated" "1 while the prices are invented: the feed is the simulated market; else 0.";
    UPSTREAM_CONNECTS = Counter "fanline_upstream_connects_total" "Connections to the upstream that were established.";
    UPSTREAM_RECONNECTS = Counter "fanline_upstream_reconnects_total" "Attempts to connect again, by the reason that made them necessary.";
    UPSTREAM_MESSAGES = Counter "fanline_upstream_messages_total" "Messages received from the upstream, by the class the profile gave them.";
    UPSTREAM_BYTES = Counter "fanline_upstream_received_bytes_total" "Payload bytes received from the upstream.";
    UPSTREAM_CONNECTIONS = Gauge "fanline_upstream_connections" "Open connections to the upstream.";
    UPSTREAM_ITEMS = Gauge "fanline_upstream_items" "Items requested from the upstream.";
    UPSTREAM_ITEMS_SILENT = Gauge "fanline_upstream_items_silent" "Items that the upstream was asked for and has not refused, and of which nothing has come within upstream.first_message_timeout.";
    UPSTREAM_REFUSED = Counter "fanline_upstream_refused_total" "Items that the upstream refused or did not answer for.";
    UPSTREAM_ROTATIONS = Counter "fanline_upstream_rotations_total" "Connections that were replaced by a new one before they were closed.";
    UPSTREAM_GAPS = Counter "fanline_upstream_gaps_total" "Gaps in the upstream's numbers, by what they are counted over.";
    UPSTREAM_RENEWALS = Counter "fanline_upstream_renewals_total" "Topics requested again because messages of them were missing.";
    UPSTREAM_STALE = Counter "fanline_upstream_topics_stale_total" "Times a topic was quiet for longer than is usual for it.";
    UPSTREAM_UNFOLDED = Counter "fanline_upstream_unfolded_total" "Snapshots and changes that could not be made into a whole value for clients that join, by reason; where there is no snapshot, once in 10 s for each topic.";
    UPSTREAM_LEG_WINS = Counter "fanline_upstream_leg_wins_total" "Messages of which this leg delivered the first copy; counted only while several connections carry the same.";
    UPSTREAM_LEG_DUPLICATES = Counter "fanline_upstream_leg_duplicates_total" "Messages of this leg that another leg had delivered before.";
    UPSTREAM_LEG_LAG = Gauge "fanline_upstream_leg_lag_seconds" "How much later than the first copy this leg's copies come, as a moving mean.";
    UPSTREAM_LAST_DATA = Gauge "fanline_upstream_last_data_timestamp_seconds" "Unix time of the last data from the upstream.";
    FRAMES = Counter "fanline_frames_total" "Frames published to the ring.";
    FRAME_BYTES = Counter "fanline_frame_payload_bytes_total" "Payload bytes of the frames published to the ring.";
    TOPIC_STATUS = Counter "fanline_topic_status_total" "Notes about a topic put between its frames, by kind.";
    FRAMES_REFUSED = Counter "fanline_frames_refused_total" "Frames and notes not published, by reason.";
    TOPICS = Gauge "fanline_topics" "Topics that are known.";
    TOPICS_EXPIRED = Counter "fanline_topics_expired_total" "Topics that were forgotten, because nothing came of them for topics.expire_after.";
    HEAD_OFFSET = Gauge "fanline_head_offset" "Offset of the newest frame or note.";
    RING_FRAMES = Gauge "fanline_ring_frames" "Frames and notes the ring holds.";
    RING_BYTES = Gauge "fanline_ring_bytes" "Payload bytes the ring holds, whole values beside changes included.";
    SESSIONS = Gauge "fanline_sessions" "Sessions connected now, by shard.";
    SESSIONS_ADOPTED = Counter "fanline_sessions_adopted_total" "Sessions taken over from the edge, by shard.";
    SESSIONS_BEHIND = Gauge "fanline_sessions_behind" "Sessions that are catching up, by shard.";
    SHARD_BUSY = Gauge "fanline_shard_busy_ratio" "Fraction of the last second in which the shard's thread was busy, by shard.";
    LANES = Gauge "fanline_lanes" "Lanes, by shard.";
    WILDCARDS = Gauge "fanline_wildcards" "Wildcards of all lanes, by shard.";
    LANE_BYTES = Gauge "fanline_lane_bytes" "Memory that the patterns of the lanes and their places in topics take, about, by shard.";
    INBOUND_BYTES = Gauge "fanline_inbound_bytes" "Bytes received from clients that are no whole message yet or wait to be read, by shard.";
    UNSENT_BYTES = Gauge "fanline_unsent_bytes" "Bytes held for clients that have not taken them, each counted once however many share it, by shard.";
    DELIVERIES = Counter "fanline_deliveries_total" "Frames handed to sessions' sockets, by shard; notes are not counted.";
    SENT_BYTES = Counter "fanline_sent_bytes_total" "Bytes accepted by sessions' sockets, by encoding.";
    SAVED_BYTES = Counter "fanline_saved_bytes_total" "Bytes saved by compression, by scheme.";
    WINDOWS = Gauge "fanline_windows" "Lanes that have a shared compression window, by shard.";
    WINDOW_SESSIONS = Gauge "fanline_window_sessions" "Sessions that use a shared compression window, by shard.";
    WINDOW_CUTS = Counter "fanline_window_cuts_total" "Resets of shared compression windows, at which waiting sessions join.";
    ENCODINGS = Counter "fanline_encodings_total" "Encodings of a frame that were made, by encoding; shared by every recipient.";
    SKIPS = Counter "fanline_skips_total" "Times a session was told that it skipped frames, by reason.";
    GOODBYES = Counter "fanline_goodbyes_total" "Sessions ended, by reason.";
    COMMANDS = Counter "fanline_commands_total" "Commands received from clients, by result.";
    COMMANDS_REFUSED = Counter "fanline_commands_refused_total" "Commands that were refused, by code.";
    THROTTLED = Counter "fanline_throttled_total" "Times reading from a client was paused because it sent more than limits.messages_per_second_max or limits.inbound_bytes_per_second_max.";
    REFUSALS = Counter "fanline_refusals_total" "Requests refused, by reason: upgrades, foreign pages and hosts, and answers for which there is no room.";
    HTTP_CONNECTIONS = Gauge "fanline_http_connections" "HTTP connections that are not upgraded, by state.";
    HTTP_DROPPED = Counter "fanline_http_dropped_total" "HTTP connections closed before their time, by reason.";
    HTTP_ANSWER_BYTES = Gauge "fanline_http_answer_bytes" "Bytes of different answers that are held for HTTP clients.";
    CLIENT_REQUESTS = Counter "fanline_client_requests_total" "Commands send and request of clients, by result.";
    WANTED_TOPICS = Gauge "fanline_wanted_topics" "Exact topics that clients are subscribed to, while upstream.demand is on.";
    HTTP_REQUESTS = Counter "fanline_http_requests_total" "HTTP requests answered, by route and status.";
    LIVENESS_AGE = Gauge "fanline_liveness_age_seconds" "Since the last sign of life of a part of the server, by part.";
    LOG_DROPPED = Counter "fanline_log_lines_dropped_total" "Lines of the log that were dropped, because they were not read in time or could not be written.";
    PUBLISH_TO_WRITE = Histogram "fanline_publish_to_write_seconds" "From the arrival of the oldest frame of a chunk to the return of the last write of that chunk, per lane and round; paced lanes are left out.";
}

/// Hands out meters of a recorder. Cheap to clone; there is no global one, so that several can live in one process.
#[derive(Clone)]
pub struct Meters {
    recorder: Arc<dyn Recorder + Send + Sync>,
}

impl Meters {
    /// Announces every declared series to `recorder` and keeps it.
    pub fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Meters {
        for metric in ALL {
            let name = metric.name.into();
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, None, metric.help.into()),
                MetricKind::Gauge => recorder.describe_gauge(name, None, metric.help.into()),
                MetricKind::Histogram => recorder.describe_histogram(name, None, metric.help.into()),
            }
        }
        Meters { recorder }
    }

    /// Meters that nobody reads: for tools and tests that need none.
    pub fn unread() -> Meters {
        Meters::new(Arc::new(metrics::NoopRecorder))
    }

    pub fn counter(&self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Counter {
        assert_eq!(metric.kind, MetricKind::Counter, "{} is declared otherwise", metric.name);
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    pub fn gauge(&self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Gauge {
        assert_eq!(metric.kind, MetricKind::Gauge, "{} is declared otherwise", metric.name);
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    pub fn histogram(&self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Histogram {
        assert_eq!(metric.kind, MetricKind::Histogram, "{} is declared otherwise", metric.name);
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }
}

static METADATA: Metadata<'static> = Metadata::new("fanline", Level::INFO, None);

fn key(metric: &'static Metric, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, value.to_string())).collect();
    Key::from_parts(metric.name, labels)
}
