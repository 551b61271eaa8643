//! The one table of settings: from it come the TOML keys, the variables, the flags, the defaults, the typed
//! [`Config`] and docs/CONFIGURATION.md.
//!
//! A new setting is one line here. Its TOML key is `section.key`, its variable `FANLINE_SECTION_KEY`, its flag
//! `--section-key`. Rooms take whole sections, whose `Default` is what is documented, so its use is `slow.replay_max`
//! everywhere.

use std::net::SocketAddr;
use std::time::Duration;

use crate::settings::kind::SettingKind;
use crate::settings::setting::{Preset, Setting, SettingsSection};
use crate::settings::values::Values;

/// Every setting, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    TABLE.iter().flat_map(|section| section.settings.iter())
}

pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// Value of `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub const NAMES: &'static [&'static str] = &["text", "json"];
}

/// Value of `upstream.demand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandMode {
    Off,
    On,
}

impl DemandMode {
    pub const NAMES: &'static [&'static str] = &["off", "on"];
}

/// How long something may last; none: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// Value of `raw.on_stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    Close,
    Keep,
}

impl OnStale {
    pub const NAMES: &'static [&'static str] = &["close", "keep"];

    /// Raw sessions are ended while the feed is stale, since they cannot be notified.
    pub fn closes(self) -> bool {
        self == OnStale::Close
    }
}

macro_rules! settings {
    (
        $top_about:literal { $($top:ident : $top_type:ty = $top_preset:expr, $top_kind:expr, $top_doc:literal;)* }
        $($(#[$attribute:meta])* $section:ident $Struct:ident $about:literal {
            $($field:ident : $type:ty = $preset:expr, $kind:expr, $doc:literal;)*
        })*
    ) => {
        /// The effective configuration: every setting, typed and checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = $top_doc] pub $top: $top_type,)*
            $(#[doc = $about] pub $section: $Struct,)*
        }

        $(
            #[doc = $about]
            $(#[$attribute])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Struct {
                $(#[doc = $doc] pub $field: $type,)*
            }

            impl $Struct {
                fn from_values(values: &Values) -> $Struct {
                    $Struct { $($field: values.take(concat!(stringify!($section), ".", stringify!($field))),)* }
                }
            }

            impl Default for $Struct {
                /// The documented defaults.
                fn default() -> $Struct {
                    $Struct::from_values(&Values::defaults())
                }
            }
        )*

        pub static TABLE: &[SettingsSection] = &[
            SettingsSection { name: "", about: $top_about, settings: &[
                $(Setting { name: stringify!($top), kind: $top_kind, preset: $top_preset, doc: $top_doc },)*
            ] },
            $(SettingsSection { name: stringify!($section), about: $about, settings: &[
                $(Setting {
                    name: concat!(stringify!($section), ".", stringify!($field)),
                    kind: $kind,
                    preset: $preset,
                    doc: $doc,
                },)*
            ] },)*
        ];

        impl Config {
            /// Puts values into their fields; the cross-checks are the caller's.
            pub fn from_values(values: &Values) -> Config {
                Config {
                    $($top: values.take(stringify!($top)),)*
                    $($section: $Struct::from_values(values),)*
                }
            }
        }

        impl Default for Config {
            /// The documented defaults.
            fn default() -> Config {
                Config::from_values(&Values::defaults())
            }
        }
    };
}

const fn duration(min: Duration, max: Duration) -> SettingKind {
    SettingKind::Duration { min, max }
}

const fn duration_or_none(min: Duration, max: Duration) -> SettingKind {
    SettingKind::DurationOrNone { min, max }
}

const fn bytes(min: u64, max: u64) -> SettingKind {
    SettingKind::Bytes { min, max }
}

const fn count(min: u64, max: u64) -> SettingKind {
    SettingKind::Count { min, max }
}

use Preset::{Is, Unset};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

settings! {
    "Where clients connect." {
        listen: SocketAddr = Is("127.0.0.1:8080"), SettingKind::Address,
            "Address of the HTTP and WebSocket server; `0.0.0.0:8080` accepts clients from other machines, port 0 takes a free port.";
    }
    upstream Upstream "The one feed, and how to stay connected to it." {
        url: Option<String> = Unset("wss://stream.binance.com:9443/stream"), SettingKind::FeedUrl,
            "The feed; without it, and without a file, the simulated market is served, and everywhere said to be one.";
        fallback_urls: Vec<String> = Is(""), SettingKind::List,
            "Further addresses of the same feed: a connection that fails is tried at the next one that is not known to have failed.";
        legs: usize = Is("1"), count(1, 4),
            "Whole copies of the feed that are received at a time; of each message the first copy is published. Leg 0 begins with the URL, leg 1 with the first of the further ones, and so on.";
        connections: usize = Is("1"), count(1, 256),
            "Connections over which the subscriptions of a leg are spread; more are opened where the profile knows that one cannot hold them all.";
        rotate_after: Option<Duration> = Unset("23h"), duration(MS, MONTH),
            "A connection is replaced by a new one after this time, before the old one is closed; without it the profile's, else never.";
        profile: Option<String> = Unset("generic"), SettingKind::Text,
            "Name of a built-in profile, or path of a profile file; without it chosen by the host name of the URL, else `generic`.";
        headers: Vec<String> = Is(""), SettingKind::List,
            "Further headers of the handshake with the feed, as `Name: value`, with `${env.NAME}` for what is secret; they go before the profile's. Without a `User-Agent` among them fanline says its own name.";
        subscribe: Vec<String> = Is(""), SettingKind::List,
            "What to ask the feed for, in the feed's own words; the profile knows how to ask.";
        topic: Option<String> = Unset("/data/s"), SettingKind::Pointer,
            "Where the topic stands in a message of a generic feed; without it guessed from the first messages, and the log says what was guessed.";
        connect_timeout: Option<Duration> = Unset("10s"), duration(MS, HOUR),
            "An attempt to connect (name, TCP, TLS, upgrade) is given up after this time, and the next one is made; without it the profile's, else 10s.";
        idle_timeout: Option<Timeout> = Unset("30s"), duration_or_none(MS, DAY),
            "A feed that sends nothing for this time is called silent, and is connected to anew after twice this time; `none` for a feed that may be quiet, whose answers to pings are enough; without it the profile's, else 30s.";
        ping_interval: Option<Duration> = Unset("15s"), duration(MS, HOUR),
            "Time between WebSocket pings to the feed; without it the profile's, else 15s.";
        pong_timeout: Option<Duration> = Unset("10s"), duration(MS, HOUR),
            "A feed that does not answer a ping for this time is left and connected to again; without it the profile's, else 10s.";
        backoff_min: Option<Duration> = Unset("250ms"), duration(MS, HOUR),
            "Upper bound of the random pause before the first attempt to connect again; it doubles with each attempt; without it the profile's, else 250ms.";
        backoff_max: Option<Duration> = Unset("30s"), duration(MS, HOUR),
            "Upper bound of the random pause before any attempt to connect again; without it the profile's, else 30s.";
        message_bytes_max: Option<usize> = Unset("16MiB"), bytes(KIB, GIB),
            "A larger message from the feed ends that connection, and the next one is made; without it the profile's, else 16MiB.";
        first_message_timeout: Duration = Is("30s"), duration(MS, DAY),
            "A subscription that the feed has granted, and on which nothing has come for this time, is told as silent: in the log, in the metrics and to clients that wait for it.";
        demand: DemandMode = Is("off"), SettingKind::Choice(DemandMode::NAMES),
            "Whether the feed is asked for the topics that clients subscribe to by name, and only while they do; the profile knows how to ask.";
        demand_topics: Vec<String> = Is(">"), SettingKind::List,
            "With `demand = on`: topics that the feed may be asked for, as patterns such as `ticker.*`; clients that subscribe to others by name are told `refused`.";
        linger: Duration = Is("30s"), duration(Duration::ZERO, DAY),
            "With `demand = on`: time for which a topic is still asked for after its last client has left.";
        send: Vec<String> = Is(""), SettingKind::List,
            "Topics that clients may send to by `send`, as patterns such as `chat.*`; it goes to the feed in the name of the server, as `[client] send` of the profile puts it; empty for none.";
        request: bool = Is("false"), SettingKind::Switch,
            "Whether clients may ask the feed by `request`, in the name of the server.";
    }
    #[derive(Copy)]
    simulate MarketSettings "The simulated market: served if no feed is given, and by `fanline simulate`." {
        seed: u64 = Is("1"), count(0, u64::MAX),
            "The same seed gives the same messages, all but their times.";
        rate: f64 = Is("200"), SettingKind::Number { min: 0.01, max: 10_000_000.0 },
            "Messages per second, over all symbols.";
        symbols: usize = Is("60"), count(1, 500_000),
            "Number of symbols.";
    }
    #[derive(Copy)]
    ring Ring "What clients can catch up with or resume from." {
        frames_max: usize = Is("65536"), count(2, 1 << 26),
            "Frames the ring holds, rounded up to a power of two; the newest frame overwrites the oldest.";
        bytes_max: usize = Is("64MiB"), bytes(64 * KIB, 1024 * GIB),
            "Payload bytes the ring holds; beyond them the oldest frames are dropped.";
    }
    history History "What clients that join get besides the current values." {
        keep: Vec<String> = Is(""), SettingKind::List,
            "Topics of which the last messages are kept instead of the newest alone, as `PATTERN=COUNT` with a count up to 1000, such as `chat.*=50`; the first match counts.";
    }
    #[derive(Copy)]
    topics Topics "Topics that come and go." {
        expire_after: Duration = Is("7d"), duration(Duration::ZERO, MONTH),
            "A topic of which nothing has come for this time is forgotten, once the ring holds nothing of it, and counts no more for `limits.topics_max`; 0 means never. Topics of snapshots and deltas stay.";
    }
    #[derive(Copy)]
    shards Shards "The threads that own the clients." {
        count: usize = Is("0"), count(0, 1024),
            "Number of shards; 0 means one per core.";
        spread_after: usize = Is("1024"), count(1, 10_000_000),
            "Clients that a shard is given before one that has none comes into use, unless those in use are busy more than half of the time; 1 spreads clients evenly from the first on.";
    }
    #[derive(Copy)]
    limits ServerLimits "Bounds of what the server takes on; at each bound it refuses and counts." {
        topics_max: usize = Is("100000"), count(1, 10_000_000),
            "Topics that have a current value; frames of further topics are refused. With `upstream.demand` also the topics that clients are subscribed to by name; further ones are refused with `too_many_topics`.";
        sessions_max: usize = Is("100000"), count(1, 10_000_000),
            "Clients connected at a time, or fewer if the system allows too few open files; further ones get HTTP 503 `too_many_sessions`.";
        sessions_per_address_max: usize = Is("0"), count(0, 10_000_000),
            "Clients connected at a time from one IP address; 0 means no limit.";
        patterns_max: usize = Is("1000"), count(1, 1_000_000),
            "Patterns of one session; further ones are refused with `too_many_patterns`.";
        wildcards_max: usize = Is("100"), count(0, 1_000_000),
            "Wildcards among the patterns of one session; further ones are refused with `too_many_wildcards`.";
        wildcards_total_max: usize = Is("50000"), count(0, 100_000_000),
            "Wildcards of all clients of a shard, those of clients with the same patterns counted once; further ones are refused with `too_many_wildcards_total`.";
        wanted_per_session_max: usize = Is("1000"), count(1, 1_000_000),
            "With `upstream.demand`: topics that one client may be subscribed to by name; further ones are refused with `too_many_topics`.";
        wanted_per_address_max: usize = Is("0"), count(0, 10_000_000),
            "With `upstream.demand`: topics that all clients of one IP address together may be subscribed to by name; further ones are refused with `too_many_topics`; 0 means no limit.";
        lanes_max: usize = Is("10000"), count(1, 10_000_000),
            "Different sets of patterns per shard; a further one is refused with `too_many_lanes`.";
        pattern_bytes_max: usize = Is("64KiB"), bytes(256, 16 * MIB),
            "Bytes of the patterns of one session together; further ones are refused with `too_many_pattern_bytes`.";
        lane_bytes_total_max: usize = Is("256MiB"), bytes(64 * KIB, 1024 * GIB),
            "Memory that the different sets of patterns of a shard may take together, with their places in the topics that they match; a further set is refused with `lanes_full`.";
        messages_per_second_max: u32 = Is("100"), count(1, 1_000_000),
            "Messages (commands, pings) read from one client in a second; what it sends beyond that waits in its socket.";
        inbound_bytes_per_second_max: u32 = Is("1MiB"), bytes(KIB, GIB),
            "Bytes of messages, inflated, read from one client in a second; what it sends beyond that waits in its socket.";
        client_requests_per_second_max: u32 = Is("5"), count(1, 1_000_000),
            "Commands `send` and `request` of one client in a second; further ones are refused with `too_fast`.";
        message_bytes_max: usize = Is("64KiB"), bytes(128, MIB),
            "A larger message from a client ends its session with close code 1009; one is read in one go, so the largest bound is what holds up nobody else.";
        message_timeout: Duration = Is("30s"), duration(MS, HOUR),
            "A client whose message has not ended this time after its first byte is closed with code 4411.";
        inbound_bytes_total_max: usize = Is("16MiB"), bytes(64 * KIB, 1024 * GIB),
            "Bytes of messages that have not ended or wait to be read, per shard; beyond it the clients that began theirs first are closed with code 1013.";
    }
    http Http "HTTP, up to the upgrade: places, times, answers, and which web pages may ask." {
        connections_max: usize = Is("10000"), count(1, 1_000_000),
            "Connections that are not upgraded; at the bound an idle one is closed for a new one, then one that has not sent a request; if all are being answered, new ones wait.";
        connections_per_address_max: usize = Is("2500"), count(0, 1_000_000),
            "Of them, connections from one IP address; at the bound an idle or silent one of the address is closed for a new one, else the new one gets HTTP 503; 0 means no limit.";
        pending_per_address_max: usize = Is("625"), count(0, 1_000_000),
            "Of them, connections from one IP address that have not sent the whole head of a request; a further one closes the oldest; 0 means no limit.";
        header_timeout: Duration = Is("3s"), duration(MS, HOUR),
            "A connection on which the head of a request is not complete after this time is closed.";
        keep_alive: Duration = Is("75s"), duration(MS, DAY),
            "A connection on which nothing was asked for this time after an answer is closed; keep it above the idle timeout of load balancers in front, which is often 60s.";
        write_timeout: Duration = Is("10s"), duration(MS, HOUR),
            "A client that takes no byte of an answer for this time is cut.";
        requests_per_second_max: u32 = Is("200"), count(1, 1_000_000),
            "Requests on one connection in a second; answers to further ones wait until it is over.";
        answer_bytes_max: usize = Is("32MiB"), bytes(MIB, 64 * GIB),
            "Bytes of different answers (`/v1/snapshot`, `/v1/topics`) that are held for their readers; beyond them those that are read for longer than 10s are cut (at once, if room for all topics is needed), and further requests get HTTP 503. One answer alone may be larger.";
        answer_bytes_per_address_max: usize = Is("16MiB"), bytes(0, 64 * GIB),
            "Of them, bytes of answers to clients of one IP address; further ones get HTTP 503; 0 means no limit of its own.";
        allowed_origins: Vec<String> = Is(""), SettingKind::List,
            "Web pages that may connect and read, as origins such as `https://app.example.com`, or `*` for any; pages of the same host always may. If empty, any may, but with `upstream.send` or `upstream.request` only those of the same host.";
        allowed_hosts: Vec<String> = Is(""), SettingKind::List,
            "Names by which the server may be asked (`Host`), such as `feed.example.com`; other requests get HTTP 421, but for `/healthz` and `/readyz`. If empty, any.";
    }
    admin Admin "A listener of its own for the operator." {
        listen: Option<SocketAddr> = Unset("127.0.0.1:9090"), SettingKind::Address,
            "Address that serves `/metrics`, `/healthz` and `/readyz`; `/metrics` is then no longer served where clients connect. Keep it on the loopback or a private network.";
    }
    #[derive(Copy)]
    heartbeat Heartbeat "Messages that tell a client that nothing is missing." {
        interval: Duration = Is("15s"), duration(MS, HOUR),
            "A client to which nothing was sent for this time gets a `heartbeat`.";
    }
    #[derive(Copy)]
    ping Ping "WebSocket pings to clients." {
        interval: Duration = Is("25s"), duration(MS, HOUR),
            "A client from which nothing was heard for this time gets a ping; keep it below the idle timeout of proxies in between.";
        timeout: Duration = Is("20s"), duration(MS, HOUR),
            "A client that does not answer a ping for this time is closed with code 4408.";
    }
    #[derive(Copy)]
    slow Slow "Clients that cannot keep up; nothing is ever queued for them." {
        replay_max: Duration = Is("2s"), duration(Duration::ZERO, HOUR),
            "A client that is behind by at most this time gets everything it missed, one further behind skips to the latest values.";
        write_deadline: Duration = Is("2m"), duration(MS, HOUR),
            "A client that accepts no byte for this time is closed with code 4409; until then it may come back, and costs next to nothing.";
        unsent_bytes_max: u32 = Is("128KiB"), bytes(KIB, 16 * MIB),
            "Unsent bytes the kernel may hold per client (TCP_NOTSENT_LOWAT); less means fresher data for slow clients.";
        unsent_bytes_total_max: usize = Is("32MiB"), bytes(MIB, 1024 * GIB),
            "Bytes that a shard holds for clients that have not taken them, each counted once however many share it; beyond half of it clients that catch up get single frames, which all share; beyond it the clients that hold the oldest are cut.";
    }
    #[derive(Copy)]
    raw Raw "Clients with `format=raw`, which get the feed's messages and no word besides." {
        on_stale: OnStale = Is("close"), SettingKind::Choice(OnStale::NAMES),
            "What becomes of them while the feed is stale: `close` ends them within a second with code 1013, and refuses new ones with 503 `feed_stale` until it is live; `keep` leaves them with old data.";
    }
    #[derive(Copy)]
    compression Compression "permessage-deflate (RFC 7692) to clients that offer it." {
        enabled: bool = Is("true"), SettingKind::Switch,
            "Whether the offer is taken.";
        level: u32 = Is("7"), count(1, 9),
            "Effort of deflate: 1 is fastest, 9 is smallest.";
        windows_max: usize = Is("64"), count(0, 4096),
            "Shared compression windows per shard, each of about 300 KiB; 0 for none; lanes beyond it compress each frame by itself.";
        window_members_min: usize = Is("4"), count(1, 1_000_000),
            "Sessions that must see the identical stream before it gets a shared window; it is closed below half of that.";
        window_cut_max: u32 = Is("1024"), count(1, 1_000_000),
            "Frames that sessions wait at most to join a shared window, which is then forgotten and begun anew; they wait less where that costs fewer bytes in all.";
    }
    #[derive(Copy)]
    drain Drain "How the server stops on SIGTERM: readiness first, then the goodbyes, then the end." {
        readiness_delay: Duration = Is("0s"), duration(Duration::ZERO, HOUR),
            "Time between `/readyz` turning 503 and the first goodbye: what the load balancer needs to notice.";
        reconnect_spread: Duration = Is("5s"), duration(Duration::ZERO, HOUR),
            "Clients are told to come back after a random time up to this one, so that they do not come all at once.";
        timeout: Duration = Is("10s"), duration(Duration::ZERO, HOUR),
            "Clients that have not gone after this time are cut.";
    }
    log Log "The log, on stderr." {
        level: String = Is("info"), SettingKind::LogFilter,
            "A level (trace, debug, info, warn, error, off), or directives such as `info,fanline=debug`.";
        format: LogFormat = Is("text"), SettingKind::Choice(LogFormat::NAMES),
            "Lines for people, or one JSON object per line.";
    }
}
