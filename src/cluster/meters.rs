//! What is measured of a node of the cluster.

use feed_log::entry::LogEntry;
use metrics::{Counter, Gauge};

use crate::words::metrics::{self as names, Meters};

pub struct ClusterMeters {
    pub ingester: Gauge,
    pub term: Gauge,
    pub lag: Gauge,
    pub epoch: Gauge,
    pub heals: Counter,
    pub entries: Counter,
    pub jumps: Counter,
    pub lost: Counter,
    pub snapshots_taken: Counter,
    pub snapshots_dropped: Counter,
}

impl ClusterMeters {
    pub fn new(meters: &Meters) -> ClusterMeters {
        ClusterMeters {
            ingester: meters.gauge(&names::CLUSTER_INGESTER, &[]),
            term: meters.gauge(&names::CLUSTER_TERM, &[]),
            lag: meters.gauge(&names::CLUSTER_LAG, &[]),
            epoch: meters.gauge(&names::CLUSTER_EPOCH, &[]),
            heals: meters.counter(&names::CLUSTER_HEALS, &[]),
            entries: meters.counter(&names::CLUSTER_ENTRIES, &[]),
            jumps: meters.counter(&names::CLUSTER_JUMPS, &[]),
            snapshots_taken: meters.counter(&names::CLUSTER_SNAPSHOTS, &[("result", "taken")]),
            snapshots_dropped: meters.counter(&names::CLUSTER_SNAPSHOTS, &[("result", "dropped")]),
            lost: meters.counter(&names::CLUSTER_LOST, &[]),
        }
    }

    /// An entry was shown.
    pub fn applied(&self, entry: &LogEntry) {
        self.entries.increment(1);
        self.term.set(entry.header.term as f64);
        // A gauge holds 53 bits.
        self.epoch.set((entry.header.epoch >> 32) as f64);
    }
}
