//! The names under which fanline reports on itself, and the handle through which rooms get their meters.
//!
//! Every series is declared here once, with its help text, so that `/metrics` and the documentation cannot differ.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

/// One declared series.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! declare {
    ($($constant:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(pub static $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*
        /// Every declared series, in the order of the documentation.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

declare! {
    BUILD_INFO = Gauge "fanline_build_info" "Always 1; the labels tell the version.";
    UPSTREAM_UP = Gauge "fanline_upstream_up" "1 while the feed is connected and delivering, else 0.";
    UPSTREAM_STATE = Gauge "fanline_upstream_state" "1 for the state the upstream is in, 0 for the others.";
    UPSTREAM_CONNECTS = Counter "fanline_upstream_connects_total" "Connections to the upstream that were established.";
    UPSTREAM_RECONNECTS = Counter "fanline_upstream_reconnects_total" "Attempts to connect again, by the reason that made them necessary.";
    UPSTREAM_MESSAGES = Counter "fanline_upstream_messages_total" "Messages received from the upstream, by the class the profile gave them.";
    UPSTREAM_BYTES = Counter "fanline_upstream_received_bytes_total" "Payload bytes received from the upstream.";
    UPSTREAM_CONNECTIONS = Gauge "fanline_upstream_connections" "Connections to the upstream that stand now.";
    UPSTREAM_ITEMS = Gauge "fanline_upstream_items" "Items that the upstream is asked for.";
    UPSTREAM_REFUSED = Counter "fanline_upstream_refused_total" "Items that the upstream refused or did not answer for.";
    UPSTREAM_ROTATIONS = Counter "fanline_upstream_rotations_total" "Connections that were replaced by a new one before they were closed.";
    UPSTREAM_GAPS = Counter "fanline_upstream_gaps_total" "Gaps in the upstream's numbers, by what they are counted over.";
    UPSTREAM_RENEWALS = Counter "fanline_upstream_renewals_total" "Topics that were asked for anew, because something was missing in them.";
    UPSTREAM_STALE = Counter "fanline_upstream_topics_stale_total" "Times a topic was quiet for longer than is its habit.";
    UPSTREAM_LEG_WINS = Counter "fanline_upstream_leg_wins_total" "Messages of which this leg brought the first copy; only while several connections carry the same.";
    UPSTREAM_LEG_DUPLICATES = Counter "fanline_upstream_leg_duplicates_total" "Messages of this leg that another one had brought before.";
    UPSTREAM_LEG_LAG = Gauge "fanline_upstream_leg_lag_seconds" "How much later than the first copy this leg's copies come, as a moving mean.";
    UPSTREAM_LAST_DATA = Gauge "fanline_upstream_last_data_timestamp_seconds" "Unix time of the last data from the upstream.";
    FRAMES = Counter "fanline_frames_total" "Frames published to the ring.";
    FRAME_BYTES = Counter "fanline_frame_payload_bytes_total" "Payload bytes of the frames published to the ring.";
    NOTES = Counter "fanline_notes_total" "Notes about a topic put between its frames, by kind.";
    FRAMES_REFUSED = Counter "fanline_frames_refused_total" "Frames and notes not published, by reason.";
    TOPICS = Gauge "fanline_topics" "Topics that are known.";
    HEAD_OFFSET = Gauge "fanline_head_offset" "Offset of the newest frame or note.";
    RING_FRAMES = Gauge "fanline_ring_frames" "Frames and notes the ring holds.";
    RING_BYTES = Gauge "fanline_ring_bytes" "Payload bytes the ring holds, whole values beside changes included.";
    SESSIONS = Gauge "fanline_sessions" "Sessions connected now, by shard.";
    SESSIONS_ADOPTED = Counter "fanline_sessions_adopted_total" "Sessions taken over from the edge, by shard.";
    SESSIONS_BEHIND = Gauge "fanline_sessions_behind" "Sessions that are not in step with their lane, by shard.";
    SHARD_BUSY = Gauge "fanline_shard_busy_ratio" "Part of the last second in which the shard's thread did not wait, by shard.";
    LANES = Gauge "fanline_lanes" "Lanes, by shard.";
    DELIVERIES = Counter "fanline_deliveries_total" "Frames handed to a session's socket, by shard; notes do not count.";
    SENT_BYTES = Counter "fanline_sent_bytes_total" "Bytes accepted by sessions' sockets, by encoding.";
    SAVED_BYTES = Counter "fanline_saved_bytes_total" "Bytes that sessions would have been sent more without compression, by scheme.";
    WINDOWS = Gauge "fanline_windows" "Lanes that have a shared compression window, by shard.";
    WINDOW_SESSIONS = Gauge "fanline_window_sessions" "Sessions that are on board of a shared window, by shard.";
    WINDOW_CUTS = Counter "fanline_window_cuts_total" "Cuts at which a shared window was forgotten and those who waited boarded.";
    ENCODINGS = Counter "fanline_encodings_total" "Encodings of a frame that were made, by encoding; shared by every recipient.";
    SKIPS = Counter "fanline_skips_total" "Times a session was told that it skipped frames, by reason.";
    GOODBYES = Counter "fanline_goodbyes_total" "Sessions ended, by reason.";
    COMMANDS = Counter "fanline_commands_total" "Commands received from clients, by result.";
    THROTTLED = Counter "fanline_throttled_total" "Times a client was read no further for a while, because it sent more than limits.messages_per_second_max.";
    REFUSALS = Counter "fanline_refusals_total" "Requests refused, by reason: upgrades, foreign pages and hosts, and answers for which there is no room.";
    HTTP_CONNECTIONS = Gauge "fanline_http_connections" "HTTP connections that are not upgraded, by state.";
    HTTP_DROPPED = Counter "fanline_http_dropped_total" "HTTP connections closed before their time, by reason.";
    HTTP_ANSWER_BYTES = Gauge "fanline_http_answer_bytes" "Bytes of different answers that are held for HTTP clients.";
    ASKS = Counter "fanline_asks_total" "Commands send and request of clients, by what became of them.";
    WANTED_TOPICS = Gauge "fanline_wanted_topics" "Exact topics that clients are subscribed to, while upstream.demand is on.";
    HTTP_REQUESTS = Counter "fanline_http_requests_total" "HTTP requests answered, by route and status.";
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
                Kind::Counter => recorder.describe_counter(name, None, metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(name, None, metric.help.into()),
                Kind::Histogram => recorder.describe_histogram(name, None, metric.help.into()),
            }
        }
        Meters { recorder }
    }

    /// Meters that nobody reads: for tools and tests that need none.
    pub fn unread() -> Meters {
        Meters::new(Arc::new(metrics::NoopRecorder))
    }

    pub fn counter(&self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Counter {
        assert_eq!(metric.kind, Kind::Counter, "{} is declared otherwise", metric.name);
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    pub fn gauge(&self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Gauge {
        assert_eq!(metric.kind, Kind::Gauge, "{} is declared otherwise", metric.name);
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    pub fn histogram(&self, metric: &'static Metric, labels: &[(&'static str, &str)]) -> Histogram {
        assert_eq!(metric.kind, Kind::Histogram, "{} is declared otherwise", metric.name);
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }
}

static METADATA: Metadata<'static> = Metadata::new("fanline", Level::INFO, None);

fn key(metric: &'static Metric, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, value.to_string())).collect();
    Key::from_parts(metric.name, labels)
}
