//! The one table of settings: the source of TOML keys, variables, flags, defaults, the typed [`Config`] and
//! docs/CONFIGURATION.md.
//!
//! A new setting is one entry here. Its TOML key is `section.key`, its variable `FANLINE_SECTION_KEY`, its flag
//! `--section-key`; with the word `reloaded` a reload applies it (`app/reload.rs`). Rooms take whole sections, whose
//! `Default` is the documented one, so code reads `slow.replay_max` everywhere.

use std::time::Duration;

pub use crate::settings::choices::{DemandMode, LogFormat, OnAuditFull, OnStale, Timeout, TlsMinVersion};
use crate::settings::declaration::settings;
use crate::settings::kind::SettingKind;
use crate::settings::listener::ListenAddress;
use crate::settings::setting::{Preset, Setting, SettingsSection};
use crate::settings::trusted_proxies::{ProxyHeader, TrustedProxies};
use crate::settings::values::Values;

/// Every setting, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    TABLE.iter().flat_map(|section| section.settings.iter())
}

pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
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
        listen: Vec<ListenAddress> = Is("127.0.0.1:8080"), SettingKind::Listeners,
            "Addresses of the HTTP and WebSocket server, one or a list. `0.0.0.0:8080` accepts clients from other machines; port 0 takes a free port. `tls://0.0.0.0:8443` speaks TLS; `unix:PATH` is a unix socket, `unix:PATH?mode=660` one with these permissions. `tcp+proxy://`, `tls+proxy://` and `unix+proxy:` expect the PROXY protocol, version 1 or 2, from `proxy.trusted`.";
    }
    upstream UpstreamSettings "The feed, and how to stay connected to it." {
        url: Option<String> = Unset("wss://stream.binance.com:9443/stream"), SettingKind::FeedUrl, reloaded,
            "The feed. Without it, and without a configuration file, fanline serves the simulated market and marks its prices as invented.";
        fallback_urls: Vec<String> = Is(""), SettingKind::List, reloaded,
            "Further addresses of the same feed. When a connection fails, fanline tries the next address not known to have failed.";
        legs: usize = Is("1"), count(1, 4),
            "Whole copies of the feed received at a time; the first copy of each message is published. Leg 0 starts with the URL, leg 1 with the first fallback URL, and so on.";
        connections: usize = Is("1"), count(1, 256),
            "Connections over which the subscriptions of a leg are spread. More are opened where one cannot hold them all, according to the profile.";
        rotate_after: Option<Duration> = Unset("23h"), duration(MS, MONTH), reloaded,
            "Age at which a new connection takes over, before the old one is closed. Unset: the profile's value, else never.";
        profile: Option<String> = Unset("generic"), SettingKind::Text, reloaded,
            "Name of a built-in profile, or path of a profile file. Unset: chosen by the host name of the URL, else `generic`.";
        headers: Vec<String> = Is(""), SettingKind::List, reloaded,
            "Further headers of the handshake with the feed, as `Name: value`, with `${env.NAME}` for secrets. They override the profile's. Without a `User-Agent`, fanline sends its own.";
        subscribe: Vec<String> = Is(""), SettingKind::List, reloaded,
            "Items to subscribe to, by the feed's own names. The profile knows how to subscribe.";
        topic: Option<String> = Unset("/data/s"), SettingKind::Pointer, reloaded,
            "Where a message of a generic feed names its topic. Unset: guessed from the first messages, and logged.";
        connect_timeout: Option<Duration> = Unset("10s"), duration(MS, HOUR), reloaded,
            "Limit for one attempt to connect: name resolution, proxy, TCP, TLS, upgrade and redirects. The next attempt follows. Unset: the profile's `open_timeout`, else 10s.";
        proxy: Option<String> = Unset("http://user:password@proxy.example:3128"), SettingKind::Text, reloaded,
            "A proxy on the way to the feed, HTTP CONNECT (`http://`) or SOCKS5 (`socks5://`), with user and password if it wants them. It resolves the feed's name. Addresses of this machine, such as `localhost`, are dialed without it. Unset: none; `HTTPS_PROXY` and the like are not read.";
        client_certificate: Option<String> = Unset("/etc/fanline/feed.pem:/etc/fanline/feed.key"), SettingKind::Text, reloaded,
            "Certificate that fanline shows to a feed with `wss://`, as `CHAIN.pem:KEY.pem` or one file with both. The files are read before each connection; if they cannot be used, the former certificate stays in force.";
        redirects_max: usize = Is("0"), count(0, 10), reloaded,
            "Redirects of the handshake that fanline follows in one attempt. It never follows one from `wss://` to `ws://`, and with credentials (a login, a user, a client certificate) none to another host or port; headers do not go there either. 0: none.";
        idle_timeout: Option<Timeout> = Unset("30s"), duration_or_none(MS, DAY), reloaded,
            "Silence after which the feed is reported as silent; fanline reconnects after twice this time. `none` suits feeds that may be quiet: their answers to pings suffice. Unset: the profile's value, else 30s.";
        ping_interval: Option<Duration> = Unset("15s"), duration(MS, HOUR), reloaded,
            "Time between WebSocket pings to the feed. Unset: the profile's value, else 15s.";
        pong_timeout: Option<Duration> = Unset("10s"), duration(MS, HOUR), reloaded,
            "fanline reconnects when the feed has not answered a ping for this time. Unset: the profile's value, else 10s.";
        backoff_min: Option<Duration> = Unset("250ms"), duration(MS, HOUR), reloaded,
            "Upper bound of the random wait before the first attempt to reconnect. It doubles with each attempt. Unset: the profile's value, else 250ms.";
        backoff_max: Option<Duration> = Unset("30s"), duration(MS, HOUR), reloaded,
            "Upper bound of the random wait before any attempt to reconnect. Unset: the profile's value, else 30s.";
        message_bytes_max: Option<usize> = Unset("16MiB"), bytes(KIB, GIB), reloaded,
            "A larger message from the feed ends its connection, and fanline reconnects. Unset: the profile's `max_message`, else 16MiB.";
        deflate: Option<bool> = Unset("false"), SettingKind::Switch, reloaded,
            "Whether the feed is offered permessage-deflate, so that it may compress its messages: fewer bytes from the feed, more CPU here. Unset: the profile's `deflate`, else false.";
        first_message_timeout: Duration = Is("30s"), duration(MS, DAY), reloaded,
            "A granted subscription without a message for this time is reported as silent: in the log, in metrics, and to clients that wait for the topic.";
        demand: DemandMode = Is("off"), SettingKind::Choice(DemandMode::NAMES),
            "Whether fanline subscribes to the topics that clients name, and only while they do. The profile knows how to subscribe.";
        demand_topics: Vec<String> = Is(">"), SettingKind::List,
            "With `demand = on`: patterns of topics that the feed may be asked for, such as `ticker.*`. Clients that name others receive `refused`.";
        linger: Duration = Is("30s"), duration(Duration::ZERO, DAY), reloaded,
            "With `demand = on`: how long a topic stays subscribed after its last client has left.";
        send: Vec<String> = Is(""), SettingKind::List,
            "Patterns of topics that clients may `send` to, such as `chat.*`. Messages go to the feed in the server's name, as the profile's `[client] send` defines. Empty: none.";
        request: bool = Is("false"), SettingKind::Switch,
            "Whether clients may `request` answers from the feed, in the server's name.";
    }
    #[derive(Copy)]
    simulate MarketSettings "The simulated market, served if no feed is given, and by `fanline simulate`." {
        seed: u64 = Is("1"), count(0, u64::MAX),
            "The same seed produces the same messages, except for their times.";
        rate: f64 = Is("200"), SettingKind::Number { min: 0.01, max: 10_000_000.0 },
            "Messages per second, over all symbols.";
        symbols: usize = Is("60"), count(1, 500_000),
            "Number of symbols.";
    }
    #[derive(Copy)]
    ring RingSettings "What clients can catch up from or resume from." {
        frames_max: usize = Is("65536"), count(2, 1 << 26),
            "Frames in the ring, rounded up to a power of two. The newest frame overwrites the oldest.";
        bytes_max: usize = Is("64MiB"), bytes(64 * KIB, 1024 * GIB),
            "Payload bytes in the ring. Beyond them the oldest frames are dropped.";
    }
    delay Delay "Views of the feed for tiers that see it later (docs/DELAYED.md)." {
        bytes_max: usize = Is("256MiB"), bytes(MIB, 1024 * GIB),
            "Memory for the messages that wait for one delayed view, of which there are at most 4. Beyond it they wait on disk (`delay.spool_dir`); without a directory they are conflated by topic and second, and clients of the view receive `skipped`.";
        spool_dir: Option<String> = Unset("/var/cache/fanline/spool"), SettingKind::Text,
            "Directory, for this process alone, where messages wait for which `delay.bytes_max` has no room. Its files have no names, are readable by this process alone, and are gone with it. Unset: messages wait in memory alone.";
        spool_bytes_max: usize = Is("8GiB"), bytes(MIB, 1024 * GIB),
            "Bytes on disk for one delayed view. Beyond them messages are conflated as above.";
        shards: usize = Is("1"), count(1, 1024),
            "Shards of each delayed view.";
    }
    archive Archive "The log on disk, from which a restarted server goes on (docs/ARCHIVE.md)." {
        dir: Option<String> = Unset("/var/lib/fanline/archive"), SettingKind::Text,
            "Directory of the archive, for this process alone. A server that starts with it has the values, the newest messages and the cursors of the one before, and clients resume. Unset: a restarted server begins anew.";
        age_max: Duration = Is("24h"), duration(Duration::from_secs(1), Duration::from_secs(366 * 24 * 3600)),
            "Messages older than this are removed from the archive, a file at a time.";
        bytes_max: usize = Is("8GiB"), bytes(16 * MIB, 1024 * GIB),
            "Bytes of the archive. Beyond them the oldest messages are removed, a file at a time.";
        sync_interval: Duration = Is("1s"), duration(MS, HOUR),
            "How often what was written is made safe against a loss of power. A killed server loses nothing that was written.";
    }
    cluster Cluster "Several servers that share one feed, of which one holds it (docs/CLUSTER.md)." {
        urls: Vec<String> = Is(""), SettingKind::List,
            "Servers of NATS with JetStream, such as `nats://10.0.0.5:4222`; `tls://` for TLS. Empty: this server is alone.";
        name: String = Is("feed"), SettingKind::Text,
            "Name of the feed in the log, the same on all its servers: letters, digits, `-` and `_`.";
        node_name: Option<String> = Unset("node-1"), SettingKind::Text,
            "Name of this server in logs and in `fanline cluster status`. Unset: a random one.";
        credentials_file: Option<String> = Unset("/etc/fanline/nats.creds"), SettingKind::Text,
            "Credentials for NATS, as `nsc` writes them.";
        replicas: usize = Is("1"), count(1, 5),
            "Copies of the log, each on another server of NATS; for a log that is made. 3 survives the loss of one.";
        age_max: Duration = Is("10m"), duration(Duration::from_secs(10), DAY),
            "Messages older than this leave the log; for a log that is made. A server that joins where no other one is has the values of as far back.";
        bytes_max: usize = Is("1GiB"), bytes(16 * MIB, 1024 * GIB),
            "Bytes of the log; for a log that is made.";
        priority: usize = Is("0"), count(0, 1000),
            "Servers with a higher one take the feed over first.";
        trust_log: bool = Is("false"), SettingKind::Switch,
            "Go on with the epoch of the log though no server that has seen it lives. Safe where what NATS has acknowledged is never lost: 3 replicas and `sync_interval: always`.";
        release: Duration = Is("15s"), duration(Duration::from_secs(1), Duration::from_secs(60)),
            "The feed is given up when the log has confirmed nothing for this long.";
    }
    relay RelaySettings "Servers that follow another server instead of a feed, and those that are followed (docs/RELAY.md)." {
        parents: Vec<String> = Is(""), SettingKind::List,
            "Servers to follow, such as `wss://core.example.com`; `fanline relay URL …` sets it. One of them is followed, and another one when it is lost. All have the same feed: one is a relay of the other, or they are of one cluster, or relays of one server. Empty: this server has a feed of its own.";
        parent_key_file: Option<String> = Unset("/run/secrets/fanline-relay-key"), SettingKind::Text,
            "File with the key that the parents ask for: their `relay.key_file`.";
        shuffle: bool = Is("false"), SettingKind::Switch,
            "Begin with any of the parents instead of the first, so that many relays spread over them.";
        silence_max: Duration = Is("750ms"), duration(Duration::from_millis(300), Duration::from_secs(60)),
            "A parent that sends nothing for this long is left. Each sends something every 250ms.";
        serve: bool = Is("false"), SettingKind::Switch,
            "Whether relays may follow this server, at `/v1/log`. They receive all of the feed at once, whatever clients may see here.";
        key_file: Option<String> = Unset("/run/secrets/fanline-relay-key"), SettingKind::Text,
            "File with the key that relays must show, needed where clients show tokens (`[auth]`). Unset: whoever reaches this server may follow it.";
        children_max: usize = Is("64"), count(1, 10_000),
            "Relays at a time; a further one is refused.";
        log_bytes_max: usize = Is("64MiB"), bytes(MIB, 64 * GIB),
            "Bytes of the newest messages that are kept for relays. One that was away for longer, or is slower, goes on with the current values, and its clients receive `skipped`.";
    }
    history HistorySettings "What clients that join receive besides the current values." {
        keep: Vec<String> = Is(""), SettingKind::List,
            "Topics that keep their last messages instead of only the newest, as `PATTERN=COUNT` with a count up to 1000, such as `chat.*=50`. The first matching pattern counts.";
    }
    #[derive(Copy)]
    topics Topics "Topics that come and go." {
        expire_after: Duration = Is("7d"), duration(Duration::ZERO, MONTH),
            "A topic without a message for this time is forgotten, once the ring holds nothing of it, and no longer counts for `limits.topics_max`. 0: never. Of a topic of snapshots and deltas, clients first receive `gap`.";
    }
    #[derive(Copy)]
    shards Shards "The threads that own the clients." {
        count: usize = Is("0"), count(0, 1024),
            "Number of shards. 0: one per core.";
        spread_after: usize = Is("1024"), count(1, 10_000_000),
            "Clients on a shard before an empty shard comes into use, unless the shards in use are busy more than half of the time. 1 spreads clients evenly from the first on.";
        batch_delay: Duration = Is("0s"), duration(Duration::ZERO, Duration::from_millis(100)), reloaded,
            "How long a shard waits after it has sent before it sends again, so that messages which arrive meanwhile share a write. Whole milliseconds count. 0s: it does not wait.";
    }
    #[derive(Copy)]
    limits ServerLimits "Bounds on what clients may use; at each bound the server refuses and counts." {
        topics_max: usize = Is("100000"), count(1, 10_000_000),
            "Topics with a current value; frames of further topics are dropped. With `upstream.demand` also the topics that clients name; further ones are refused with `too_many_topics`.";
        sessions_max: usize = Is("100000"), count(1, 10_000_000), reloaded,
            "Connected clients, or fewer if the system allows too few open files. Further clients receive HTTP 503 `too_many_sessions`.";
        sessions_per_address_max: usize = Is("1000"), count(0, 10_000_000), reloaded,
            "Connected clients from one IPv4 address or IPv6 /64. Behind a proxy, set `proxy.trusted`: otherwise all clients have its address. 0: no limit.";
        patterns_max: usize = Is("1000"), count(1, 1_000_000), reloaded,
            "Patterns of one session. Further ones are refused with `too_many_patterns`.";
        wildcards_max: usize = Is("100"), count(0, 1_000_000), reloaded,
            "Wildcards among the patterns of one session. Further ones are refused with `too_many_wildcards`.";
        wildcards_total_max: usize = Is("50000"), count(0, 100_000_000), reloaded,
            "Wildcards of all clients of a shard; clients with the same patterns count once. Further ones are refused with `too_many_wildcards_total`.";
        wanted_per_session_max: usize = Is("1000"), count(1, 1_000_000),
            "With `upstream.demand`: topics that one client may name. Further ones are refused with `too_many_topics`.";
        wanted_per_address_max: usize = Is("10000"), count(0, 10_000_000),
            "With `upstream.demand`: topics that all clients of one IP address may name. Further ones are refused with `too_many_topics`. 0: no limit.";
        lanes_max: usize = Is("100000"), count(1, 10_000_000), reloaded,
            "Different sets of patterns per shard. A further one is refused with `too_many_lanes`.";
        pattern_bytes_max: usize = Is("64KiB"), bytes(256, 16 * MIB), reloaded,
            "Bytes of all patterns of one session. Further ones are refused with `too_many_pattern_bytes`.";
        lane_bytes_total_max: usize = Is("256MiB"), bytes(64 * KIB, 1024 * GIB), reloaded,
            "Memory for the different sets of patterns of a shard and their places in topics. A further set is refused with `lanes_full`.";
        messages_per_second_max: u32 = Is("100"), count(1, 1_000_000), reloaded,
            "Messages (commands, pings) read from one client per second. Further ones wait in its socket.";
        inbound_bytes_per_second_max: u32 = Is("1MiB"), bytes(KIB, GIB), reloaded,
            "Bytes of messages, inflated, read from one client per second. Further ones wait in its socket.";
        client_requests_per_second_max: u32 = Is("5"), count(1, 1_000_000), reloaded,
            "Commands `send` and `request` of one client per second. Further ones are refused with `too_fast`.";
        message_bytes_max: usize = Is("64KiB"), bytes(128, MIB), reloaded,
            "A larger message from a client ends its session with close code 1009. A message is read in one go, so this also bounds how long it holds up others.";
        message_timeout: Duration = Is("30s"), duration(MS, HOUR), reloaded,
            "A client whose message has not ended this long after its first byte is closed with code 4411.";
        inbound_bytes_total_max: usize = Is("16MiB"), bytes(64 * KIB, 1024 * GIB), reloaded,
            "Bytes, per shard, of messages that have not ended or wait to be read. Beyond it, the clients whose messages began first are closed with code 1013.";
    }
    http Http "HTTP before the upgrade: connections, timeouts, answers, and which web pages are allowed." {
        connections_max: usize = Is("10000"), count(1, 1_000_000), reloaded,
            "Connections before the upgrade. At the bound an idle one is closed for a new one, then one that has not sent a request; if all are being answered, new ones wait.";
        connections_per_address_max: usize = Is("2500"), count(0, 1_000_000), reloaded,
            "Of these, connections from one IP address. At the bound an idle or silent one of the address is closed for a new one; otherwise the new one receives HTTP 503. 0: no limit.";
        pending_per_address_max: usize = Is("625"), count(0, 1_000_000), reloaded,
            "Of these, connections from one IP address that have not sent a complete request head. A further one closes the oldest. 0: no limit.";
        header_timeout: Duration = Is("3s"), duration(MS, HOUR), reloaded,
            "Limit for a complete request head. The connection is closed beyond it.";
        keep_alive: Duration = Is("75s"), duration(MS, DAY), reloaded,
            "Idle time after an answer before the connection is closed. Keep it above the idle timeout of load balancers in front, often 60s.";
        write_timeout: Duration = Is("10s"), duration(MS, HOUR), reloaded,
            "A client that takes no byte of an answer for this time is disconnected.";
        requests_per_second_max: u32 = Is("200"), count(1, 1_000_000), reloaded,
            "Requests on one connection per second. Answers to further ones wait until the second is over.";
        answer_bytes_max: usize = Is("32MiB"), bytes(MIB, 64 * GIB),
            "Bytes of different answers (`/v1/snapshot`, `/v1/topics`) held for their readers. Beyond them, readers slower than 10s are disconnected (at once, if room for all topics is needed), and further requests receive HTTP 503. A single answer may be larger.";
        answer_bytes_per_address_max: usize = Is("16MiB"), bytes(0, 64 * GIB),
            "Of these, bytes of answers to clients of one IP address. Further requests receive HTTP 503. 0: no limit of its own.";
        allowed_origins: Vec<String> = Is(""), SettingKind::List, reloaded,
            "Origins of web pages that may connect and read, such as `https://app.example.com`, or `*` for any. Pages of the same host always may. Empty: any, but with `upstream.send` or `upstream.request` only pages of the same host.";
        allowed_hosts: Vec<String> = Is(""), SettingKind::List, reloaded,
            "Host names the server answers to (`Host`), such as `feed.example.com`. Other requests receive HTTP 421, except `/healthz` and `/readyz`. Empty: any.";
    }
    #[derive(Copy)]
    poll Poll "Requests of `/v1/poll`, which wait for something new." {
        waiting_max: usize = Is("5000"), count(0, 1_000_000),
            "Requests that wait, each of which has a connection of `http.connections_max`. Further ones receive HTTP 429 `too_many_polls`.";
        waiting_per_address_max: usize = Is("1250"), count(0, 1_000_000),
            "Of these, requests from one IPv4 address or IPv6 /64. 0: no limit.";
        gather: Duration = Is("200ms"), duration(Duration::from_millis(10), Duration::from_secs(10)),
            "How long what is new is gathered before it is answered, so that few answers serve many clients.";
    }
    proxy ProxySettings "Proxies in front of the server, and what is believed of what they say." {
        trusted: TrustedProxies = Is(""), SettingKind::Proxies,
            "Addresses and networks of the proxies, such as `10.0.0.7` or `10.0.0.0/8`; `unix` trusts whoever may write to the unix sockets of `listen`. Only they may name the address of a client. Empty: nobody.";
        header: ProxyHeader = Is("x-forwarded-for"), SettingKind::Choice(ProxyHeader::NAMES),
            "Header in which trusted proxies name the client's address. With `x-forwarded-for`, `X-Forwarded-Proto` names its scheme; `forwarded` is RFC 7239. `none`: neither is read.";
    }
    tls Tls "TLS for listeners of the form `tls://ADDRESS:PORT`." {
        certificates: Vec<String> = Is(""), SettingKind::List, reloaded,
            "Files in PEM, as `CHAIN:KEY`, or one file with both. Of several, a client gets the one for the name that it asks for (SNI), else the first. Changed files are read again; until all of them can be used, the former ones stay in force.";
        client_ca: Option<String> = Unset("/etc/fanline/clients.pem"), SettingKind::Text, reloaded,
            "File with the issuers of clients' certificates (mTLS). A client without such a certificate is refused in the handshake. Unset: clients need none.";
        ticket_key_file: Option<String> = Unset("/etc/fanline/tickets"), SettingKind::Text, reloaded,
            "File with keys of session tickets, 64 hexadecimal digits a line (`openssl rand -hex 32`): the first seals, up to three others still open. With the same file clients resume on any server of a fleet, and after a restart. Unset: keys of the process.";
        min_version: TlsMinVersion = Is("1.2"), SettingKind::Choice(TlsMinVersion::NAMES), reloaded,
            "The oldest version that clients may speak.";
        records_per_key: u64 = Is("8388608"), count(16, 1 << 23),
            "Records that one key encrypts. Then TLS 1.3 begins another key, and a session of TLS 1.2 is closed with code 1012 and reconnects.";
        handshake_threads: usize = Is("0"), count(0, 1024),
            "Threads for handshakes. 0: a quarter of the cores, at least one.";
        handshake_timeout: Duration = Is("10s"), duration(MS, HOUR),
            "Limit for a handshake, from the first byte of the client on, and including the time in which it waits for a thread.";
        handshakes_waiting_max: usize = Is("10000"), count(1, 10_000_000),
            "Handshakes that may wait for a thread. A further one is closed.";
        reload_interval: Duration = Is("10s"), duration(MS, DAY),
            "Time between two looks at whether a file of this section has changed. SIGHUP reads them at once.";
    }
    admin Admin "A listener for the operator." {
        listen: Option<ListenAddress> = Unset("127.0.0.1:9090"), SettingKind::Listener,
            "Address, or `unix:PATH`, that serves `/metrics`, `/healthz`, `/readyz` and `/admin/…`. The public address then no longer serves `/metrics`. Keep it on the loopback or a private network; other addresses than the loopback need `admin.key_file`.";
        key_file: Option<String> = Unset("/run/secrets/fanline-admin-key"), SettingKind::Text,
            "File with the key for `/admin/…`, at least 16 characters; calls show it as `Authorization: Bearer KEY`. Unset: calls from this machine need none.";
    }
    canary CanarySettings "A subscriber of the server's own, which sees what a client sees (docs/operations/canary.md)." {
        enabled: bool = Is("false"), SettingKind::Switch,
            "Whether the server connects to the first TCP address of `listen` like a client, measures how long messages take to arrive there, and tells when none do (`/healthz`, `fanline_canary_silence_seconds`). It counts nowhere as a client. It needs an address without the PROXY protocol, and without TLS if `tls.client_ca` is set.";
        topic: Option<String> = Unset("ticker.BTC-USD"), SettingKind::Text,
            "Topic or pattern that it subscribes to; needed with `upstream.demand = on`, where it keeps a topic subscribed. Unset: the topic with the most messages.";
    }
    audit Audit "A record of who was shown what, for audits of a licensed feed." {
        dir: Option<String> = Unset("/var/lib/fanline/audit"), SettingKind::Text,
            "Directory of the audit log, for this process alone: a file a day, a JSON object a line, each with the hash of the line before. Unset: nothing is recorded.";
        on_full: OnAuditFull = Is("drop"), SettingKind::Choice(OnAuditFull::NAMES),
            "What happens when the log cannot be written in time, for example because the disk is full. `refuse_sessions` admits nobody until it can (503 `audit_full`); `drop` serves on and records how many events are missing.";
    }
    #[derive(Copy)]
    journal Journal "Why sessions have ended, kept in memory for `fanline why`." {
        ends_max: usize = Is("20000"), count(0, 10_000_000), reloaded,
            "Ends that are kept: half of them sessions that have ended, half connections that were refused. On a full journal a network that has an eighth of it displaces its own oldest end, and others the oldest of all. 0: none.";
        bytes_max: usize = Is("16MiB"), bytes(0, 16 * GIB), reloaded,
            "Memory for them; an end takes up to about a kilobyte.";
    }
    auth AuthSettings "Who clients are. Tables below `[auth]` in the file name issuers and tiers: docs/AUTH.md." {
        required: bool = Is("false"), SettingKind::Switch, reloaded,
            "Refuses clients without a valid token, also if `[auth.anonymous]` names a tier.";
        deadline: Duration = Is("5s"), duration(MS, HOUR), reloaded,
            "Time for a client that must show a token to show one.";
        sources: Vec<String> = Is("message,subprotocol,header"), SettingKind::List, reloaded,
            "Where clients may show tokens: `message` (the command `auth`), `subprotocol`, `header` (`Authorization`), `cookie`, `ticket`.";
        cookie: String = Is("__Host-fanline"), SettingKind::Text, reloaded,
            "Name of the cookie that holds the token, with the source `cookie`.";
        unauthenticated_max: usize = Is("10000"), count(1, 10_000_000), reloaded,
            "Sessions that have shown no valid token yet, where one is required; they count among limits.sessions_max, too. Further upgrades are refused with 503.";
        leeway: Duration = Is("30s"), duration(Duration::ZERO, HOUR), reloaded,
            "How far the clocks of issuers may be off. It is no time after the end of a token.";
        expiry_grace: Duration = Is("25s"), duration(Duration::ZERO, HOUR), reloaded,
            "How long after the end of its token a session goes on, so that the client can show a new one. `0s` for licensed data.";
        life_max: Duration = Is("24h"), duration(Duration::from_secs(1), MONTH), reloaded,
            "Tokens that are valid for longer are refused.";
        token_bytes_max: usize = Is("8KiB"), bytes(256, 64 * KIB), reloaded,
            "Longer tokens are refused.";
        waiting_max: usize = Is("1024"), count(1, 1_000_000),
            "Tokens that wait to be verified. Further ones are refused as `busy`.";
        failures_per_address_max: u32 = Is("60"), count(0, 1_000_000),
            "Bad tokens of one address per minute. Further tokens of it are refused unread. 0: no limit.";
        grant_max: Option<String> = Unset("pro"), SettingKind::Text, reloaded,
            "Tier up to which the topics, the pace and the sessions that a token names count. Unset: the tier of the token itself.";
        jwks_stale_max: Duration = Is("24h"), duration(Duration::from_secs(1), MONTH),
            "How long the keys of an issuer stay in force while they cannot be fetched.";
        revocations_file: Option<String> = Unset("/var/lib/fanline/revocations.jsonl"), SettingKind::Text,
            "File of the revocations, so that they outlive a restart. Unset: they do not.";
    }
    #[derive(Copy)]
    heartbeat HeartbeatSettings "Messages that confirm to a client that nothing is missing." {
        interval: Duration = Is("15s"), duration(MS, HOUR), reloaded,
            "A client that was sent nothing for this time receives a `heartbeat`.";
    }
    #[derive(Copy)]
    ping Ping "WebSocket pings to clients." {
        interval: Duration = Is("25s"), duration(MS, HOUR), reloaded,
            "A client that was silent for this time receives a ping. Keep it below the idle timeout of proxies.";
        timeout: Duration = Is("20s"), duration(MS, HOUR), reloaded,
            "A client that does not answer a ping within this time is closed with code 4408.";
    }
    #[derive(Copy)]
    sse Sse "Streams of server-sent events (`/v1/sse`)." {
        age_max: Duration = Is("10m"), duration(Duration::from_secs(1), MONTH),
            "Age at which a stream ends, a fifth more or less, so that load balancers and proxies get rid of old connections. Clients resume without a loss.";
    }
    #[derive(Copy)]
    slow Slow "Clients that fall behind; nothing is ever queued for them." {
        replay_max: Duration = Is("2s"), duration(Duration::ZERO, HOUR), reloaded,
            "A client behind by at most this time receives everything it missed. One further behind skips to the latest values.";
        write_deadline: Duration = Is("2m"), duration(MS, HOUR), reloaded,
            "A client that accepts no byte for this time is closed with code 4409. Until then it may recover, and costs next to nothing.";
        unsent_bytes_max: u32 = Is("128KiB"), bytes(KIB, 16 * MIB), reloaded,
            "Unsent bytes the kernel may hold per client (TCP_NOTSENT_LOWAT). Less means fresher data for slow clients.";
        unsent_bytes_total_max: usize = Is("32MiB"), bytes(MIB, 1024 * GIB), reloaded,
            "Bytes, per shard, held for clients that have not taken them, each counted once however many clients share it. Beyond half of it, clients that catch up receive single frames, which all share. Beyond it, the clients that hold the oldest bytes are disconnected.";
    }
    #[derive(Copy)]
    raw Raw "Clients with `format=raw`, which receive the feed's messages and nothing else." {
        on_stale: OnStale = Is("close"), SettingKind::Choice(OnStale::NAMES), reloaded,
            "What happens to them while the feed is stale. `close` closes them within a second with code 1013, and refuses new ones with 503 `feed_stale` until it is live. `keep` leaves them with old data.";
    }
    #[derive(Copy)]
    compression CompressionSettings "permessage-deflate (RFC 7692) for clients that offer it." {
        enabled: bool = Is("true"), SettingKind::Switch, reloaded,
            "Whether fanline accepts the offer.";
        level: u32 = Is("7"), count(1, 9),
            "Effort of deflate: 1 is fastest, 9 is smallest.";
        windows_max: usize = Is("64"), count(0, 4096), reloaded,
            "Shared compression windows per shard, each about 300 KiB. Further lanes share one search for repetitions per message instead. 0: none.";
        window_members_min: usize = Is("4"), count(1, 1_000_000), reloaded,
            "Sessions that must see the identical stream before it gets a shared window. The window is closed below half of that.";
    }
    #[derive(Copy)]
    drain Drain "How the server stops on SIGTERM: readiness first, then goodbyes, then the end." {
        readiness_delay: Duration = Is("0s"), duration(Duration::ZERO, HOUR), reloaded,
            "Time between `/readyz` turning 503 and the first goodbye: what the load balancer needs to notice.";
        reconnect_spread: Duration = Is("5s"), duration(Duration::ZERO, HOUR), reloaded,
            "Clients reconnect after a random time up to this one, so that they do not return all at once.";
        timeout: Duration = Is("10s"), duration(Duration::ZERO, HOUR), reloaded,
            "Clients that have not left after this time are disconnected.";
        handover_timeout: Duration = Is("60s"), duration(MS, HOUR), reloaded,
            "Time for a new process to take over (SIGUSR2). One that is not ready by then is ended, and this one goes on.";
    }
    log Log "The log, on stderr." {
        level: String = Is("info"), SettingKind::LogFilter, reloaded,
            "A level (trace, debug, info, warn, error, off), or directives such as `info,fanline=debug`.";
        format: LogFormat = Is("text"), SettingKind::Choice(LogFormat::NAMES),
            "Lines for people, or one JSON object per line.";
    }
}
