//! The attacks: what each is called, what it sends, and the server that it needs.

use super::field::Field;
use super::{commands, connections, http, patterns, readers};

/// One attacker, or one kind of misfortune.
pub struct Attack {
    pub name: &'static str,
    /// One line: what is sent.
    pub sends: &'static str,
    /// Topics that only have a value, beside those that move.
    pub still_topics: usize,
    /// Settings of the server that differ from the defaults.
    pub settings: &'static [&'static str],
    /// A profile of its own, instead of the simulated market's.
    pub profile: Option<&'static str>,
    /// It ends with SIGTERM: honest clients receive a goodbye, and only memory counts.
    pub ends_server: bool,
    /// Returns when its time is over, and leaves nothing behind.
    pub run: fn(&Field) -> Found,
}

/// Results of an attack beyond the figures that every attack has.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub note: String,
    /// What the server has not held.
    pub faults: Vec<String>,
    /// What a lack of CPU may explain.
    pub delays: Vec<String>,
}

impl Found {
    pub fn note(note: String) -> Found {
        Found { note, ..Found::default() }
    }

    pub fn standing(connections: usize) -> Found {
        Found::note(format!("{connections} stood at its end"))
    }
}

/// Topics are asked for one by one, and each is granted or refused.
const ASKED: &str = r#"
profile = 1
name    = "asked"

[subscribe]
send        = '{"open":${item|json},"ref":${req}}'
unsubscribe = '{"open":${item|json},"ref":${req}}'
ack         = { per = "request", id = "/ref", message = "/denied" }

[[on]]
name = "granted"
as   = "ack"
when = ['/granted exists']

[[on]]
name = "denied"
as   = "nack"
when = ['/denied exists']

[[on]]
name  = "data"
as    = "data"
when  = ['/topic exists']
topic = "${/topic}"
"#;

const BASE: Attack = Attack {
    name: "",
    sends: "",
    still_topics: 0,
    settings: &[],
    profile: None,
    ends_server: false,
    run: |_| Found::default(),
};

/// In the order of the table. The first two are no attacks: what the load itself and a busy machine do to the figures.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "nothing",
        sends: "(control) nothing",
        run: |field| {
            field.rest(field.span());
            Found::default()
        },
        ..BASE
    },
    Attack { name: "busy-machine", sends: "(control) two foreign threads that spin", run: connections::spin, ..BASE },
    Attack {
        name: "one-more-wildcard",
        sends: "1 session of 99 wildcards and 900 names adds and removes `>`",
        still_topics: 95_000,
        run: patterns::one_more_wildcard,
        ..BASE
    },
    Attack {
        name: "did-you-mean",
        sends: "2 clients, each 100 unknown commands of 64 KiB a second, deflated, at once",
        run: commands::did_you_mean,
        ..BASE
    },
    Attack {
        name: "snapshot-not-read",
        sends: "300 readers of /v1/snapshot and /v1/topics that do not read",
        still_topics: 40_000,
        run: http::snapshot_not_read,
        ..BASE
    },
    Attack {
        name: "snapshot-wildcards",
        sends: "8 connections ask for snapshots of 999 wildcards",
        still_topics: 40_000,
        run: http::snapshot_wildcards,
        ..BASE
    },
    Attack {
        name: "silent-connections",
        sends: "10,400 silent connections of one address, renewed",
        run: connections::silent,
        ..BASE
    },
    Attack {
        name: "metrics-pipelined",
        sends: "2 connections pipeline GET /metrics",
        run: http::metrics_pipelined,
        ..BASE
    },
    Attack {
        name: "junk-names",
        sends: "1 client subscribes to 12,000 names that the feed does not know (demand = on)",
        settings: &["--upstream-demand", "on", "--limits-topics-max", "8000"],
        profile: Some(ASKED),
        run: patterns::junk_names,
        ..BASE
    },
    Attack {
        name: "new-topics",
        sends: "300 clients of 99 wildcards each, and bursts of 2,000 new topics",
        run: patterns::new_topics,
        ..BASE
    },
    Attack {
        name: "drain-stalled",
        sends: "60 clients stalled in a frame of 8 MiB, then SIGTERM",
        ends_server: true,
        run: readers::drain_stalled,
        ..BASE
    },
    Attack {
        name: "dashboards",
        sends: "10 dashboards join `>` in a loop",
        still_topics: 95_000,
        run: readers::dashboards,
        ..BASE
    },
    Attack {
        name: "toggle-wildcards",
        sends: "1 session subscribes to 99 wildcards and leaves them in a loop",
        still_topics: 95_000,
        run: patterns::toggle_wildcards,
        ..BASE
    },
    Attack {
        name: "one-by-one",
        sends: "a client that sends commands one by one, each after the answer to the last",
        run: commands::one_by_one,
        ..BASE
    },
    Attack {
        name: "long-patterns",
        sends: "100 sessions of 900 patterns of 242 bytes",
        run: patterns::long_patterns,
        ..BASE
    },
    Attack {
        name: "half-messages",
        sends: "5,000 messages of 60 KiB that lack the last KiB, and a byte now and then",
        run: commands::half_messages,
        ..BASE
    },
    Attack { name: "stalled-readers", sends: "1,000 clients of `>` that do not read", run: readers::stalled, ..BASE },
    Attack {
        name: "connect-storm",
        sends: "500 clients a second that join and hang up",
        run: connections::storm,
        ..BASE
    },
    Attack { name: "ping-flood", sends: "10 clients that ping without a pause", run: commands::ping_flood, ..BASE },
    Attack {
        name: "deflate-bombs",
        sends: "8 clients: 1 MiB of zeroes in a frame of 1 KiB, or 60 KiB of them",
        run: commands::bombs,
        ..BASE
    },
    Attack { name: "slow-heads", sends: "2,000 request heads, a byte at a time", run: connections::slow_heads, ..BASE },
    Attack {
        name: "garbage",
        sends: "8 clients: text that is not UTF-8, reserved bits, noise",
        run: commands::garbage,
        ..BASE
    },
    Attack {
        name: "oversized",
        sends: "8 clients: frames of 64 KiB + 1, and of 2^40 bytes by their head",
        run: commands::oversized,
        ..BASE
    },
];
