//! Items without any message, and the reports to clients that wait for them.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::Gauge;

use crate::bus::demand::interest::{DemandStatus, Interest};
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

pub(super) struct ItemStatus {
    /// Clients' interest in topics; none if clients cannot subscribe at the feed.
    interest: Option<Arc<Interest>>,
    /// No more than subscribed items.
    items: HashMap<String, DemandStatus>,
    /// Items among them that were neither refused nor sent.
    silent: usize,
    silent_gauge: Gauge,
}

impl ItemStatus {
    pub(super) fn new(interest: Option<Arc<Interest>>, meters: &Meters) -> ItemStatus {
        let silent_gauge = meters.gauge(&names::UPSTREAM_ITEMS_SILENT, &[]);
        ItemStatus { interest, items: HashMap::new(), silent: 0, silent_gauge }
    }

    /// No message of an item that was subscribed at `asked`.
    pub(super) fn set_silent(&mut self, item: &str, asked: Stamp, now: Stamp) {
        let seconds = now.ms_since(asked) / 1000;
        let message = format!(
            "no message yet: subscribed {seconds} s ago, and the feed has not refused it; \
             it may be quiet, or be named differently"
        );
        self.set(item, DemandStatus::NothingYet { since_ms: asked.wall_ms, message });
    }

    pub(super) fn set_refused(&mut self, item: &str, message: String) {
        self.set(item, DemandStatus::Refused { message });
    }

    /// It brings data, and there is no room for a further topic. Clients that want it are told once, until there is.
    pub(super) fn set_without_room(&mut self, item: &str, max: usize) {
        if self.is_refused(item) || !self.interest.as_ref().is_some_and(|interest| interest.is_wanted(item)) {
            return;
        }
        let message = format!(
            "expected at most {max} topics with a value (limits.topics_max), found more, of which clients may want none \
             any more; they are forgotten after topics.expire_after, so try again later"
        );
        self.set_refused(item, message);
    }

    fn set(&mut self, item: &str, status: DemandStatus) {
        self.interest.iter().for_each(|interest| interest.set_status(item, status.clone()));
        self.forget(item);
        self.silent += usize::from(is_silence(&status));
        self.items.insert(item.to_string(), status);
        self.silent_gauge.set(self.silent as f64);
    }

    /// Whether the item was reported as silent, and has been since.
    pub(super) fn is_silent(&self, item: &str) -> bool {
        self.items.get(item).is_some_and(is_silence)
    }

    /// Whether the item was reported as refused, and nothing of it was published since.
    pub(super) fn is_refused(&self, item: &str) -> bool {
        self.items.get(item).is_some_and(|status| !is_silence(status))
    }

    /// A client wants the item again: the last report still holds.
    pub(super) fn repeat(&self, item: &str) {
        if let Some((interest, status)) = self.interest.as_ref().zip(self.items.get(item)) {
            interest.set_status(item, status.clone());
        }
    }

    /// The item is no longer subscribed.
    pub(super) fn forget(&mut self, item: &str) -> Option<DemandStatus> {
        let status = self.items.remove(item)?;
        self.silent -= usize::from(is_silence(&status));
        self.silent_gauge.set(self.silent as f64);
        Some(status)
    }

    /// The first update of a topic was published. Whether it was reported as silent before.
    pub(super) fn arrived(&mut self, topic: &str) -> bool {
        if let Some(interest) = &self.interest {
            interest.clear_status(topic);
        }
        self.forget(topic).is_some_and(|status| is_silence(&status))
    }
}

fn is_silence(status: &DemandStatus) -> bool {
    matches!(status, DemandStatus::NothingYet { .. })
}
