//! Items of which nothing has ever come, and what the clients that wait for them are sent about that.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::Gauge;

use crate::bus::demand::interest::{DemandStatus, Interest};
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

pub(super) struct ItemStatus {
    /// Where clients wait for topics; none if they cannot ask the feed for any.
    interest: Option<Arc<Interest>>,
    /// No more than items asked for.
    items: HashMap<String, DemandStatus>,
    /// Those among them that were neither refused nor sent.
    silent: usize,
    silent_gauge: Gauge,
}

impl ItemStatus {
    pub fn new(interest: Option<Arc<Interest>>, meters: &Meters) -> ItemStatus {
        let silent_gauge = meters.gauge(&names::UPSTREAM_ITEMS_SILENT, &[]);
        ItemStatus { interest, items: HashMap::new(), silent: 0, silent_gauge }
    }

    /// Nothing has come of an item that was asked for then.
    pub fn set_silent(&mut self, item: &str, asked: Stamp, now: Stamp) {
        let seconds = now.ms_since(asked) / 1000;
        let message = format!(
            "no message yet: subscribed {seconds} s ago, and the feed has not refused it; \
             it may be quiet, or be named differently"
        );
        self.set(item, DemandStatus::NothingYet { since_ms: asked.wall_ms, message });
    }

    pub fn set_refused(&mut self, item: &str, message: String) {
        self.set(item, DemandStatus::Refused { message });
    }

    fn set(&mut self, item: &str, status: DemandStatus) {
        self.interest.iter().for_each(|interest| interest.set_status(item, status.clone()));
        self.forget(item);
        self.silent += usize::from(is_silence(&status));
        self.items.insert(item.to_string(), status);
        self.silent_gauge.set(self.silent as f64);
    }

    /// Whether the item was reported as silent, and nothing has come since.
    pub fn is_silent(&self, item: &str) -> bool {
        self.items.get(item).is_some_and(is_silence)
    }

    /// A client wants the item again: what was said of it still holds.
    pub fn repeat(&self, item: &str) {
        if let Some((interest, status)) = self.interest.as_ref().zip(self.items.get(item)) {
            interest.set_status(item, status.clone());
        }
    }

    /// The item is not asked for any more.
    pub fn forget(&mut self, item: &str) -> Option<DemandStatus> {
        let status = self.items.remove(item)?;
        self.silent -= usize::from(is_silence(&status));
        self.silent_gauge.set(self.silent as f64);
        Some(status)
    }

    /// The first update of a topic was published. Whether it was reported as silent before.
    pub fn arrived(&mut self, topic: &str) -> bool {
        if let Some(interest) = &self.interest {
            interest.clear_status(topic);
        }
        self.forget(topic).is_some_and(|status| is_silence(&status))
    }
}

fn is_silence(status: &DemandStatus) -> bool {
    matches!(status, DemandStatus::NothingYet { .. })
}
