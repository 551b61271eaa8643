//! What is measured of relays: by a server that has some, and by one that is one.

use metrics::{Counter, Gauge};

use crate::words::metrics::{self as names, Meters};

/// Why a relay is no longer connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayEnd {
    /// By itself, or its connection was lost.
    Closed,
    /// It did not take in time what it was sent.
    TooSlow,
    /// It has sent something that is no request.
    Malformed,
    /// It would follow itself.
    Loop,
    /// This server stops.
    Stopped,
}

impl RelayEnd {
    const ALL: [RelayEnd; 5] =
        [RelayEnd::Closed, RelayEnd::TooSlow, RelayEnd::Malformed, RelayEnd::Loop, RelayEnd::Stopped];

    pub fn label(self) -> &'static str {
        match self {
            RelayEnd::Closed => "closed",
            RelayEnd::TooSlow => "too_slow",
            RelayEnd::Malformed => "malformed",
            RelayEnd::Loop => "loop",
            RelayEnd::Stopped => "stopped",
        }
    }
}

/// Of a server that has relays.
#[derive(Clone)]
pub struct HostMeters {
    pub relays: Gauge,
    ended: Vec<Counter>,
}

/// Of a relay.
#[derive(Clone)]
pub struct ParentMeters {
    pub up: Gauge,
    pub depth: Gauge,
    pub changes: Counter,
}

impl HostMeters {
    pub fn new(meters: &Meters) -> HostMeters {
        let ended = |end: &RelayEnd| meters.counter(&names::RELAYS_ENDED, &[("reason", end.label())]);
        HostMeters { relays: meters.gauge(&names::RELAYS, &[]), ended: RelayEnd::ALL.iter().map(ended).collect() }
    }

    pub(super) fn ended(&self, end: RelayEnd) {
        self.ended[end as usize].increment(1);
    }
}

impl ParentMeters {
    pub fn new(meters: &Meters) -> ParentMeters {
        ParentMeters {
            up: meters.gauge(&names::RELAY_PARENT_UP, &[]),
            depth: meters.gauge(&names::RELAY_DEPTH, &[]),
            changes: meters.counter(&names::RELAY_PARENT_CHANGES, &[]),
        }
    }
}
