//! Connections that were closed early, counted by reason.

use metrics::Counter;

use crate::edge::listen::deadlines::Overdue;
use crate::words::metrics::{self as names, Meters};

/// Counters of connections that were closed early, by reason.
#[derive(Clone)]
pub(in crate::edge) struct Drops {
    pub header: Counter,
    pub write: Counter,
    pub answer: Counter,
    /// A header of the PROXY protocol that is none, or late.
    pub proxy: Counter,
    /// A peer that is not trusted to send one.
    pub stranger: Counter,
}

impl Drops {
    pub(crate) fn new(meters: &Meters) -> Drops {
        let counter = |reason| meters.counter(&names::HTTP_DROPPED, &[("reason", reason)]);
        Drops {
            header: counter(Overdue::Header.label()),
            write: counter(Overdue::Write.label()),
            answer: counter(Overdue::Answer.label()),
            proxy: counter("proxy_header"),
            stranger: counter("proxy_untrusted"),
        }
    }

    pub(crate) fn count(&self, overdue: Overdue) {
        match overdue {
            Overdue::Header => self.header.increment(1),
            Overdue::Write => self.write.increment(1),
            Overdue::Answer => self.answer.increment(1),
            Overdue::KeepAlive => {}
        }
    }
}
