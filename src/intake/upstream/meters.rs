//! What the feed's connections report of themselves. All of it has a series from the start: an event that has not
//! happened yet is 0, not missing.

use metrics::{Counter, Gauge, Histogram};

use crate::words::metrics as names;
use crate::words::metrics::Meters;

pub(super) struct UpstreamMeters {
    pub connections: Gauge,
    pub items: Gauge,
    pub refused: Counter,
    pub renewals: Counter,
    pub rotations: Counter,
    pub receipt_to_publish: Histogram,
}

impl UpstreamMeters {
    pub(super) fn new(meters: &Meters) -> UpstreamMeters {
        UpstreamMeters {
            connections: meters.gauge(&names::UPSTREAM_CONNECTIONS, &[]),
            items: meters.gauge(&names::UPSTREAM_ITEMS, &[]),
            refused: meters.counter(&names::UPSTREAM_REFUSED, &[]),
            renewals: meters.counter(&names::UPSTREAM_RENEWALS, &[]),
            rotations: meters.counter(&names::UPSTREAM_ROTATIONS, &[]),
            receipt_to_publish: meters.histogram(&names::RECEIPT_TO_PUBLISH, &[]),
        }
    }
}
