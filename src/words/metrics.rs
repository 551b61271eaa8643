//! Names of all metrics, and the handle through which rooms get their meters.
//!
//! Every series is declared here once, with its labels and its help text. `/metrics` and docs/METRICS.md are made from
//! this table.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};

/// One declared series.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    pub labels: &'static [MetricLabel],
}

/// One label of a series.
#[derive(Debug)]
pub struct MetricLabel {
    pub name: &'static str,
    /// All values, if they are known beforehand; else empty.
    pub values: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// Series that belong together in the documentation.
#[derive(Debug)]
pub struct MetricSection {
    pub title: &'static str,
    pub metrics: &'static [&'static Metric],
}

macro_rules! declare {
    ($($title:literal {
        $($constant:ident = $kind:ident $name:literal [$($label:ident: [$($value:literal),*]),*] $help:literal;)*
    })*) => {
        $($(pub static $constant: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            help: $help,
            labels: &[$(MetricLabel { name: stringify!($label), values: &[$($value),*] }),*],
        };)*)*
        /// Every declared series.
        pub static ALL: &[&Metric] = &[$($(&$constant,)*)*];
        /// The same, in the order of the documentation.
        pub static SECTIONS: &[MetricSection] = &[$(MetricSection { title: $title, metrics: &[$(&$constant),*] }),*];
    };
}

declare! {
    "The feed" {
        UPSTREAM_UP = Gauge "fanline_upstream_up" []
            "1 while the feed is connected and delivers, else 0.";
        UPSTREAM_STATE = Gauge "fanline_upstream_state" [state: ["connecting", "idle", "live", "down", "silent", "cut_off"]]
            "1 for the state the feed is in, 0 for the others. `idle`: nothing is subscribed, so nothing can arrive.";
        UPSTREAM_SIMULATED = Gauge "fanline_upstream_simulated" []
            "1 if the prices are invented because the feed is the simulated market, else 0.";
        UPSTREAM_LAST_DATA = Gauge "fanline_upstream_last_data_timestamp_seconds" []
            "Unix time of the newest data from the feed.";
        UPSTREAM_CONNECTS = Counter "fanline_upstream_connects_total" []
            "Connections to the feed that were established.";
        UPSTREAM_RECONNECTS = Counter "fanline_upstream_reconnects_total"
            [reason: [
                "unreachable", "proxy", "connect_timeout", "tls", "request", "not_websocket", "closed", "cut",
                "broken_frames", "message_too_big", "silent", "pong_timeout", "heartbeat_timeout", "not_opened",
                "write_timeout", "gap", "asked", "address"
            ]]
            "Attempts to reconnect, by the reason for them.";
        UPSTREAM_CONNECTIONS = Gauge "fanline_upstream_connections" []
            "Open connections to the feed. Compare with upstream.legs x upstream.connections.";
        UPSTREAM_ROTATIONS = Counter "fanline_upstream_rotations_total" []
            "Connections that a successor replaced before they were closed.";
        RECEIPT_TO_PUBLISH = Histogram "fanline_receipt_to_publish_seconds" []
            "From the arrival of the oldest message of a turn, in which all that has arrived is taken, to the publication of the last.";
        VENUE_TO_RECEIPT = Histogram "fanline_venue_to_receipt_seconds" []
            "From the time that a message carries, by the venue's clock, to its arrival, by this machine's; of at most 100 messages a second. Empty where the profile names no time, and while the venue's clock is ahead.";
        VENUE_TIME_ODDITIES = Counter "fanline_venue_time_oddities_total" [oddity: ["ahead", "late", "unreadable"]]
            "Times of the venue that are not in fanline_venue_to_receipt_seconds. `ahead`: later than the arrival, so the clocks differ; `late`: more than a minute before it; `unreadable`: no time of the unit that the profile names.";
        UPSTREAM_MESSAGES = Counter "fanline_upstream_messages_total"
            [class: [
                "data", "ack", "nack", "heartbeat", "ping", "pong", "greeting", "auth_ok", "info", "ignore",
                "reconnect", "fatal", "stale", "live", "gap", "unmatched", "garbled"
            ]]
            "Messages from the feed, by the class the profile gave them.";
        UPSTREAM_BYTES = Counter "fanline_upstream_received_bytes_total" []
            "Payload bytes received from the feed.";
        UPSTREAM_ITEMS = Gauge "fanline_upstream_items" []
            "Items requested from the feed.";
        UPSTREAM_REFUSED = Counter "fanline_upstream_refused_total" []
            "Items that the feed refused or did not answer for. The log names them.";
        UPSTREAM_ITEMS_SILENT = Gauge "fanline_upstream_items_silent" []
            "Items that the feed granted but sent nothing for within upstream.first_message_timeout. The log names them.";
        UPSTREAM_GAPS = Counter "fanline_upstream_gaps_total" [scope: ["connection", "topic"]]
            "Gaps in the feed's own numbers, in a topic or on a connection.";
        UPSTREAM_RENEWALS = Counter "fanline_upstream_renewals_total" []
            "Topics requested again because messages of them were missing.";
        UPSTREAM_STALE = Counter "fanline_upstream_topics_stale_total" []
            "Times a topic was silent for longer than is usual for it.";
        UPSTREAM_UNFOLDED = Counter "fanline_upstream_unfolded_total" [reason: ["no_snapshot", "malformed", "too_large", "checksum"]]
            "Snapshots and deltas that could not be folded into a whole value. `no_snapshot` counts once in 10 s for each topic.";
        UPSTREAM_LEG_WINS = Counter "fanline_upstream_leg_wins_total" [leg: []]
            "Messages of which this leg delivered the first copy; counted only while several connections carry the same.";
        UPSTREAM_LEG_DUPLICATES = Counter "fanline_upstream_leg_duplicates_total" [leg: []]
            "Messages of this leg that another leg had delivered before.";
        UPSTREAM_LEG_LAG = Gauge "fanline_upstream_leg_lag_seconds" [leg: []]
            "How much later than the first copy this leg's copies arrive, as a moving mean.";
        WANTED_TOPICS = Gauge "fanline_wanted_topics" []
            "Topics that clients are subscribed to by name, while upstream.demand is on. Bound: limits.topics_max.";
    }
    "Publishing" {
        FRAMES = Counter "fanline_frames_total" []
            "Frames published.";
        FRAME_BYTES = Counter "fanline_frame_payload_bytes_total" []
            "Payload bytes of published frames.";
        FRAMES_REFUSED = Counter "fanline_frames_refused_total" [reason: ["bad_topic", "too_many_topics", "old"]]
            "Frames and topic statuses that were not published. `old`: the profile drops messages older than the newest.";
        TOPIC_STATUS = Counter "fanline_topic_status_total" [kind: ["gap", "stale", "live", "refused"]]
            "Topic statuses published. They have offsets, but count neither as frames nor as deliveries.";
        TOPICS = Gauge "fanline_topics" []
            "Known topics. Bound: limits.topics_max.";
        TOPICS_EXPIRED = Counter "fanline_topics_expired_total" []
            "Topics forgotten because they had no message for topics.expire_after.";
        HEAD_OFFSET = Gauge "fanline_head_offset" []
            "Offset of the newest frame or topic status.";
        RING_FRAMES = Gauge "fanline_ring_frames" []
            "Frames and topic statuses in the ring.";
        RING_BYTES = Gauge "fanline_ring_bytes" []
            "Payload bytes in the ring, whole values beside deltas included.";
    }
    "Delayed views" {
        VIEW_WAITING_FRAMES = Gauge "fanline_view_waiting_frames" [view: []]
            "Frames that wait until they are old enough for this view.";
        VIEW_WAITING_BYTES = Gauge "fanline_view_waiting_bytes" [view: []]
            "Memory of what waits for this view. Bound: delay.bytes_max; beyond it frames are conflated, or go to the disk (delay.spool_dir).";
        VIEW_SPOOL_BYTES = Gauge "fanline_view_spool_bytes" [view: []]
            "Bytes in the files of this view in delay.spool_dir. Bound: delay.spool_bytes_max; beyond it frames are conflated.";
        VIEW_SPOOL_FAILURES = Counter "fanline_view_spool_failures_total"
            [view: [], reason: ["full", "slow", "write", "read", "damaged"]]
            "Blocks of frames that the disk did not take or did not return. `full`, `slow`, `write`: they are conflated; `read`, `damaged`: frames are lost. `full`: delay.spool_bytes_max was reached.";
        VIEW_CONFLATED = Counter "fanline_view_conflated_total" [view: []]
            "Frames of which this view has at most what they left of their topic, because it could not hold all.";
        VIEW_LOST = Counter "fanline_view_lost_total" [view: []]
            "Frames that the disk did not return as they were written; clients of this view receive `gap` in their place.";
        VIEW_HEAD_OFFSET = Gauge "fanline_view_head_offset" [view: []]
            "Offset of the newest frame or topic status in this view.";
    }
    "Archive" {
        ARCHIVE_BYTES = Gauge "fanline_archive_bytes" []
            "Bytes in the files of archive.dir. Bound: archive.bytes_max, and one file more.";
        ARCHIVE_WAITING = Gauge "fanline_archive_waiting_frames" []
            "Frames that are not written to archive.dir yet. Bound: the ring.";
        ARCHIVE_LOST = Counter "fanline_archive_lost_total" []
            "Frames that are not in the archive, because the disk took them more slowly than the ring holds them.";
        ARCHIVE_FAILURES = Counter "fanline_archive_failures_total" [reason: ["write", "sync", "reserve", "remove"]]
            "What the disk of archive.dir refused. It is tried again. `reserve`: if the server is killed now, the next start begins another epoch.";
    }
    "Clients" {
        SESSIONS = Gauge "fanline_sessions" [shard: []]
            "Connected clients.";
        SESSIONS_ADOPTED = Counter "fanline_sessions_adopted_total" [shard: []]
            "Clients taken over from the edge.";
        SESSIONS_BEHIND = Gauge "fanline_sessions_behind" [shard: []]
            "Clients that are catching up.";
        SKIPS = Counter "fanline_skips_total" [reason: ["slow", "overrun", "expired", "epoch", "delayed"]]
            "Times a client received `skipped`, by its reason.";
        GOODBYES = Counter "fanline_goodbyes_total"
            [reason: [
                "client_closed", "connection_lost", "draining", "protocol_error", "invalid_payload",
                "message_too_big", "ping_timeout", "write_timeout", "too_slow", "message_timeout", "overloaded",
                "feed_stale", "unauthenticated", "kicked", "too_many_sessions", "replaced", "forbidden",
                "worn_out", "refused", "max_age", "feed_lost"
            ]]
            "Sessions ended, by reason.";
        COMMANDS = Counter "fanline_commands_total" [result: ["done", "refused"]]
            "Commands from clients.";
        COMMANDS_REFUSED = Counter "fanline_commands_refused_total"
            [code: [
                "bad_json", "bad_request", "unknown_op", "unknown_policy", "bad_pattern", "bad_pace",
                "bad_cursor", "not_subscribed", "too_many_patterns", "too_many_wildcards",
                "too_many_wildcards_total", "too_many_pattern_bytes", "too_many_lanes", "lanes_full",
                "too_many_topics", "forbidden", "too_fast", "busy", "not_text", "unauthenticated",
                "too_many_sessions", "other"
            ]]
            "Commands refused, by error code.";
        CLIENT_REQUESTS = Counter "fanline_client_requests_total"
            [result: [
                "sent", "response", "forbidden", "too_fast", "busy", "not_sent", "timeout", "upstream_down",
                "unanswered"
            ]]
            "Commands `send` and `request`, by how they were answered.";
        THROTTLED = Counter "fanline_throttled_total" []
            "Times reading from a client paused because it sent more than limits.messages_per_second_max or limits.inbound_bytes_per_second_max; at most once a second for each client.";
        INBOUND_BYTES = Gauge "fanline_inbound_bytes" [shard: []]
            "Bytes of messages from clients that have not ended or wait to be read. Bound: limits.inbound_bytes_total_max.";
        UNSENT_BYTES = Gauge "fanline_unsent_bytes" [shard: []]
            "Bytes held for clients that have not taken them, each counted once however many clients share it. Bound: slow.unsent_bytes_total_max.";
    }
    "Cluster" {
        CLUSTER_INGESTER = Gauge "fanline_cluster_ingester" []
            "1 while this server holds the feed for all, else 0.";
        CLUSTER_TERM = Gauge "fanline_cluster_term" []
            "Number of the term of the newest entry: how often the feed was taken over.";
        CLUSTER_LAG = Gauge "fanline_cluster_lag_seconds" []
            "From the sending of the newest entry to its being shown here, by the two servers' clocks; and how long ago that was, if it is more than a second.";
        CLUSTER_EPOCH = Gauge "fanline_cluster_epoch" []
            "The upper half of the epoch. Another number: clients began anew.";
        CLUSTER_HEALS = Counter "fanline_cluster_heals_total" []
            "Times when this server, holding the feed, gave the log again what it had lost.";
        CLUSTER_ENTRIES = Counter "fanline_cluster_entries_total" []
            "Entries of the log that were shown.";
        CLUSTER_JUMPS = Counter "fanline_cluster_jumps_total" []
            "Times when entries before could not be had, so clients receive `skipped`.";
        CLUSTER_SNAPSHOTS = Counter "fanline_cluster_snapshots_total" [result: ["taken", "dropped"]]
            "Snapshots of other servers that this one began with, or dropped because they do not fit the log.";
        CLUSTER_LOST = Counter "fanline_cluster_lost_frames_total" []
            "Frames of the feed that were overwritten because the log was away. Clients receive `gap`.";
    }
    "Relays" {
        RELAYS = Gauge "fanline_relays" []
            "Relays that follow this server. Bound: relay.children_max.";
        RELAYS_ENDED = Counter "fanline_relays_ended_total"
            [reason: ["closed", "too_slow", "malformed", "loop", "stopped"]]
            "Relays that follow this server no longer. `closed`: by themselves, or the connection was lost; `too_slow`: what would follow is not kept any more (relay.log_bytes_max), or nothing was taken for 10 s.";
        RELAY_PARENT_UP = Gauge "fanline_relay_parent_up" []
            "1 while this relay is connected to a parent, else 0; 0 on a server that is no relay.";
        RELAY_PARENT_CHANGES = Counter "fanline_relay_parent_changes_total" []
            "Times when this relay went from one parent to another.";
        RELAY_DEPTH = Gauge "fanline_relay_depth" []
            "Servers between this one and the feed: 0 where this server is no relay.";
    }
    "Identity" {
        AUTH_CREDENTIALS = Counter "fanline_auth_credentials_total"
            [result: [
                "accepted", "too_many_failures", "busy", "too_large", "malformed", "unknown_issuer", "algorithm",
                "keys_missing", "unknown_key", "signature", "claims", "audience", "expired", "not_yet_valid",
                "too_long_lived", "revoked", "unknown_tier", "other_subject", "too_many_sessions", "ticket"
            ]]
            "Tokens and tickets that clients showed, by the outcome. `busy`: auth.waiting_max was reached.";
        AUTH_WAITING = Gauge "fanline_auth_waiting" []
            "Tokens that wait to be verified, or for the keys of their issuer. Bound: auth.waiting_max.";
        AUTH_KEYS = Gauge "fanline_auth_keys" [issuer: []]
            "Keys of an issuer that are in force. 0: all its tokens are refused.";
        AUTH_FETCHES = Counter "fanline_auth_fetches_total" [issuer: [], result: ["fetched", "failed"]]
            "Fetches of an issuer's keys (JWKS).";
        AUTH_REVOCATIONS = Gauge "fanline_auth_revocations" []
            "Revocations that are kept, those that have ended since the last change included.";
    }
    "Delivery" {
        DELIVERIES = Counter "fanline_deliveries_total" [shard: []]
            "Frames handed to clients' sockets.";
        SENT_BYTES = Counter "fanline_sent_bytes_total"
            [encoding: [
                "envelope", "envelope_deflate", "envelope_window", "envelope_tokens",
                "raw", "raw_deflate", "raw_window", "raw_tokens", "form"
            ]]
            "Bytes accepted by clients' sockets. `_deflate`: each message alone; `_window`: in a shared window; `_tokens`: with references to the topic's messages before.";
        PUBLISH_TO_WRITE = Histogram "fanline_publish_to_write_seconds" []
            "From the arrival of the oldest frame of a chunk to the return of the last write of that chunk, per lane and round. Paced lanes are left out.";
        SHARD_BUSY = Gauge "fanline_shard_busy_ratio" [shard: []]
            "Fraction of the last second in which the shard's thread was busy. A further shard comes into use above 0.5, or beyond shards.spread_after clients.";
        LANES = Gauge "fanline_lanes" [shard: []]
            "Lanes. Bound: limits.lanes_max.";
        LANE_BYTES = Gauge "fanline_lane_bytes" [shard: []]
            "Approximate memory of the lanes' patterns and their places in topics. Bound: limits.lane_bytes_total_max.";
        WILDCARDS = Gauge "fanline_wildcards" [shard: []]
            "Wildcards of all lanes; clients with the same patterns share a lane. Bound: limits.wildcards_total_max.";
        ENCODINGS = Counter "fanline_encodings_total" [encoding: ["envelope", "envelope_deflate", "raw", "raw_deflate", "events", "lines", "events_gzip", "form"]]
            "Encodings of a frame that were made. Small compared with fanline_deliveries_total: they are shared.";
        SAVED_BYTES = Counter "fanline_saved_bytes_total" [scheme: ["stateless", "window", "tokens"]]
            "Bytes that compression saved.";
        WINDOWS = Gauge "fanline_windows" [shard: []]
            "Lanes with a shared compression window.";
        WINDOW_SESSIONS = Gauge "fanline_window_sessions" [shard: []]
            "Clients that use a shared compression window.";
    }
    "The canary" {
        CANARY_LATENCY = Histogram "fanline_canary_receipt_to_delivery_seconds" []
            "From the arrival of a message to its arrival at the canary, through a listener like a client; of at most 100 messages a second. Empty while canary.enabled is off.";
        CANARY_SILENCE = Gauge "fanline_canary_silence_seconds" []
            "How old the oldest message is that was published for the canary and has not arrived there; 0 while it has all, and while canary.enabled is off.";
        CANARY_RECONNECTS = Counter "fanline_canary_reconnects_total" []
            "Connections that the canary has lost, or could not make.";
    }
    "HTTP" {
        HTTP_REQUESTS = Counter "fanline_http_requests_total" [route: [], status: []]
            "HTTP requests answered.";
        REFUSALS = Counter "fanline_refusals_total"
            [reason: [
                "not_websocket", "bad_handshake", "draining", "bad_request", "bad_pattern", "too_many_patterns",
                "unknown_format", "unknown_policy", "bad_cursor", "bad_pace", "too_many_sessions",
                "too_many_sessions_per_address", "feed_stale", "origin", "host",
                "too_many_answers", "too_many_answers_per_address", "too_many_requests", "audit_full", "admin",
                "token_in_url", "too_many_unauthenticated", "too_many_polls",
                "unauthenticated", "relay_off", "relay_key", "relay_loop", "relay_too_deep", "too_many_relays"
            ]]
            "Requests refused: upgrades, pages and hosts that are not allowed, and answers without room.";
        HTTP_CONNECTIONS = Gauge "fanline_http_connections" [state: ["pending", "busy", "idle"]]
            "HTTP connections that are not upgraded. `pending`: the request is not complete.";
        TLS_HANDSHAKES = Counter "fanline_tls_handshakes_total"
            [result: ["done", "failed", "timeout", "overloaded"], resumed: ["false", "true"]]
            "TLS handshakes, by how they ended and whether a session was resumed.";
        TLS_HANDSHAKES_WAITING = Gauge "fanline_tls_handshakes_waiting" []
            "TLS handshakes that wait for a thread. Bound: tls.handshakes_waiting_max.";
        TLS_NOT_AFTER = Gauge "fanline_tls_certificate_not_after_timestamp_seconds" [name: []]
            "Unix time at which a certificate expires. `name`: its subject.";
        HTTP_DROPPED = Counter "fanline_http_dropped_total"
            [reason: [
                "header_timeout", "write_timeout", "answer_timeout", "address", "pressure", "refused", "proxy_header",
                "proxy_untrusted"
            ]]
            "HTTP connections closed early. `address`, `pressure`: made room for another connection, of its own address or of any; `refused`: all connections of its address were in use; `proxy_header`: without a valid header of the PROXY protocol; `proxy_untrusted`: at a listener of the PROXY protocol, from elsewhere than `proxy.trusted`.";
        HTTP_ANSWER_BYTES = Gauge "fanline_http_answer_bytes" []
            "Bytes of different answers held for HTTP clients. Bound: http.answer_bytes_max.";
        HTTP_POLLS_WAITING = Gauge "fanline_http_polls_waiting" []
            "Requests of `/v1/poll` that wait for something new. Bound: poll.waiting_max.";
    }
    "The audit log" {
        AUDIT_EVENTS = Counter "fanline_audit_events_total" []
            "Events written to the audit log.";
        AUDIT_DROPPED = Counter "fanline_audit_dropped_events_total" []
            "Events that are missing in the audit log because the queue or the disk was full. The log says how many, too.";
        AUDIT_OMITTED = Counter "fanline_audit_omitted_events_total" []
            "Events of clients without an identity that were left out because they were too many. The log says how many, too.";
        AUDIT_WAITING_BYTES = Gauge "fanline_audit_waiting_bytes" []
            "Approximate memory of events that wait to be written. Bound: 16 MiB; from half of it on, audit.on_full = refuse_sessions admits nobody.";
        AUDIT_FAILING = Gauge "fanline_audit_failing" []
            "1 while the audit log cannot be written, else 0.";
    }
    "The journal of ends" {
        JOURNAL_ENDS = Gauge "fanline_journal_ends" []
            "Ends that are kept for `fanline why`. Bounds: journal.ends_max, journal.bytes_max.";
        JOURNAL_DISPLACED = Counter "fanline_journal_displaced_ends_total" []
            "Ends that made room for later ones.";
    }
    "The process" {
        LIVENESS_AGE = Gauge "fanline_liveness_age_seconds" [part: []]
            "Time since the last sign of life of a part: `feed`, `shard-0` and so on. Each gives one at least every second; above 5, /healthz answers 503.";
        LOG_DROPPED = Counter "fanline_log_lines_dropped_total" []
            "Log lines dropped because they were not read in time or could not be written.";
        RELOADS = Counter "fanline_reloads_total" [result: ["applied", "refused"]]
            "Reloads of the configuration, by SIGHUP or by the operator's call. One that is refused changes nothing; the log names the place and the remedy.";
        RELOAD_REFUSED = Gauge "fanline_reload_refused" []
            "1 while the last reload of the configuration was refused, else 0: the file is not what is in force.";
        HANDOVERS = Counter "fanline_handovers_total" [result: ["done", "failed"]]
            "Hand-overs by SIGUSR2 or by the operator's call: `done` is 1 in a process that has taken over from another, `failed` counts those to a process that did not take over. They change nothing; the log says why.";
        CONFIGURATION_DIGEST = Gauge "fanline_configuration_digest" []
            "The first 48 bits of the digest of the configuration in force: the same number on servers with the same settings.";
        BUILD_INFO = Gauge "fanline_build_info" [version: []]
            "Always 1; the label is the version.";
    }
}

/// Hands out meters of a recorder. Cheap to clone. There is no global one, so several servers can live in one process.
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

    /// Meters that nobody reads, for tools and tests.
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
    let labels: Vec<_> = labels.iter().map(|(name, value)| metrics::Label::new(*name, value.to_string())).collect();
    Key::from_parts(metric.name, labels)
}
