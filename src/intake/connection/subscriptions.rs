//! Subscriptions of one connection: requested, granted and refused items.
//!
//! Items are sent in batches that respect the profile's count, channel and bytes. Data of an item counts as its
//! acknowledgement: data may arrive first, and some venues never acknowledge. A refused batch is halved and sent again
//! until the refused items stand alone, so that one bad item does not take the good ones with it.

mod requests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::profile::ack::Per;
use crate::profile::placeholders::Context;
use crate::profile::subscribe::{FeedItem, ItemChange, Subscribe};
use crate::words::stamp::Stamp;

use crate::intake::connection::subscriptions::requests::FurtherMessage;

/// The outcome of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemOutcome {
    Confirmed(Arc<FeedItem>),
    Refused {
        item: Arc<FeedItem>,
        why: String,
    },
    /// The beginning of an answer that names no item, while an item has none in time.
    Unclaimed(String),
    /// No answer in time. It counts as refused, unless its data show otherwise (`grant`).
    Unanswered(Arc<FeedItem>),
}

/// The items of one connection and their states.
#[derive(Debug)]
pub(crate) struct ItemSubscriptions {
    pub(super) subscribe: Option<Arc<Subscribe>>,
    pub(super) items: HashMap<String, (Arc<FeedItem>, SubscriptionState)>,
    /// Requested and not yet granted, refused or given up.
    unanswered: usize,
    /// No answer is late before this; nanoseconds of the monotonic clock.
    late_ns: u64,
    to_request: VecDeque<Arc<FeedItem>>,
    /// Messages of the batch that was just sent, of profiles that need several for it; before everything else.
    further: VecDeque<FurtherMessage>,
    /// Halves of a refused batch; before everything that is new.
    pub(super) again: VecDeque<Vec<Arc<FeedItem>>>,
    /// With their state when they were dropped: the venue may not know it yet.
    to_drop: VecDeque<(Arc<FeedItem>, SubscriptionState)>,
    pub(super) requests: VecDeque<PendingSubscribe>,
    outcomes: Vec<ItemOutcome>,
    /// The beginning of the newest answer that names no item.
    pub(super) unclaimed: Option<String>,
    /// With `change = "replace_all"`: the list of items is to be sent again.
    outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionState {
    Queued,
    Requested {
        by_ns: u64,
    },
    /// Refused together with others; it may have been granted all the same.
    Halved,
    /// Granted, or given up without an answer where none is expected.
    Settled,
    Refused,
}

impl SubscriptionState {
    fn is_unanswered(self) -> bool {
        matches!(self, SubscriptionState::Requested { .. } | SubscriptionState::Halved)
    }
}

#[derive(Debug)]
pub(super) struct PendingSubscribe {
    pub number: u64,
    pub items: Vec<Arc<FeedItem>>,
    /// It unsubscribed.
    pub drops: bool,
    /// A part of a refused batch.
    pub is_half: bool,
}

impl ItemSubscriptions {
    pub(crate) fn new(subscribe: Option<Arc<Subscribe>>, items: &[Arc<FeedItem>]) -> ItemSubscriptions {
        let mut subscriptions = ItemSubscriptions {
            subscribe,
            items: HashMap::new(),
            unanswered: 0,
            late_ns: u64::MAX,
            to_request: VecDeque::new(),
            further: VecDeque::new(),
            again: VecDeque::new(),
            to_drop: VecDeque::new(),
            requests: VecDeque::new(),
            outcomes: Vec::new(),
            unclaimed: None,
            outdated: false,
        };
        subscriptions.want(items);
        subscriptions
    }

    /// These are wanted as well.
    pub(crate) fn want(&mut self, items: &[Arc<FeedItem>]) {
        for item in items {
            if self.items.contains_key(&item.name) {
                continue;
            }
            let dropped = self.to_drop.iter().position(|(other, _)| other.name == item.name);
            if let Some((_, SubscriptionState::Settled)) = dropped.and_then(|at| self.to_drop.remove(at)) {
                // The venue still sends it.
                self.items.insert(item.name.clone(), (item.clone(), SubscriptionState::Settled));
                self.outcomes.push(ItemOutcome::Confirmed(item.clone()));
                continue;
            }
            self.items.insert(item.name.clone(), (item.clone(), SubscriptionState::Queued));
            self.to_request.push_back(item.clone());
            self.outdated = true;
        }
    }

    /// These are no longer wanted. A venue without a way to drop them keeps sending them.
    pub(crate) fn unwant(&mut self, items: &[Arc<FeedItem>]) {
        let can_tell = self.subscribe.as_ref().is_some_and(|how| how.unsubscribes() || how.change != ItemChange::Live);
        if !can_tell {
            return;
        }
        let mut queued = HashSet::new();
        for item in items {
            let Some((_, state)) = self.items.remove(&item.name) else { continue };
            self.outdated = true;
            self.unanswered -= usize::from(state.is_unanswered());
            match state {
                SubscriptionState::Queued => drop(queued.insert(&*item.name)),
                SubscriptionState::Halved => {}
                SubscriptionState::Requested { .. } | SubscriptionState::Settled | SubscriptionState::Refused => {
                    self.to_drop.push_back((item.clone(), state));
                }
            }
        }
        // The queue may be long: it is searched once, however many leave it.
        if !queued.is_empty() {
            self.to_request.retain(|other| !queued.contains(&*other.name));
        }
    }

    /// Requests an item once more, so that the venue sends a new snapshot of it.
    pub(crate) fn renew(&mut self, name: &str) {
        let Some((item, state)) = self.items.get(name) else { return };
        if *state == SubscriptionState::Settled {
            let item = item.clone();
            self.unwant(std::slice::from_ref(&item));
            // First dropped, then requested.
            self.items.insert(item.name.clone(), (item.clone(), SubscriptionState::Queued));
            self.to_request.push_back(item);
        }
    }

    pub(crate) fn has_something_to_say(&self) -> bool {
        let Some(subscribe) = &self.subscribe else { return false };
        match subscribe.change {
            ItemChange::ReplaceAll => self.outdated && !self.items.is_empty(),
            ItemChange::Live | ItemChange::Reconnect => {
                let drops = subscribe.unsubscribes() && !self.to_drop.is_empty();
                let news = drops || !self.again.is_empty() || !self.to_request.is_empty();
                subscribe.sends() && (!self.further.is_empty() || news && !self.is_held())
            }
        }
    }

    /// Whether nothing new is said until an answer comes: halves of a refused batch are requested one after another,
    /// where a refusal does not say which request it is about.
    fn is_held(&self) -> bool {
        let Some(ack) = self.subscribe.as_ref().map(|subscribe| &subscribe.ack) else { return false };
        let is_told = ack.per == Per::None || ack.id.is_some();
        let mut open = self.requests.iter().filter(|request| self.is_open(request)).peekable();
        !is_told && open.peek().is_some() && (!self.again.is_empty() || open.any(|request| request.is_half))
    }

    /// Whether an item of this request is neither granted nor refused.
    pub(super) fn is_open(&self, request: &PendingSubscribe) -> bool {
        !request.drops && request.items.iter().any(|item| self.is_requested(&item.name))
    }

    /// The next request. `bound` returns the venue's key of a subscription.
    pub(crate) fn next(
        &mut self,
        context: Context<'_>,
        now: Stamp,
        bound: &dyn Fn(&FeedItem) -> Option<String>,
    ) -> Option<String> {
        let subscribe = self.subscribe.clone()?;
        if !subscribe.sends() {
            return None;
        }
        if let Some(further) = self.further.pop_front() {
            return self.further_message(&subscribe, further, context, bound);
        }
        if subscribe.change == ItemChange::ReplaceAll {
            self.outdated = false;
            let all: Vec<Arc<FeedItem>> = self.items.values().map(|(item, _)| item.clone()).collect();
            self.to_request.clear();
            return self.request(&subscribe, (all, false), context, now);
        }
        if subscribe.unsubscribes()
            && let Some((item, _)) = self.to_drop.pop_front()
        {
            return self.drop_message(&subscribe, item, context, bound);
        }
        self.to_drop.clear();
        let batch = match self.again.pop_front() {
            // Some may have been answered by their data since.
            Some(batch) => (batch.into_iter().filter(|item| self.is_unanswered(&item.name)).collect(), true),
            None => (self.take_batch(&subscribe), false),
        };
        self.request(&subscribe, batch, context, now)
    }

    /// An update of this topic arrived.
    pub(crate) fn updated(&mut self, topic: &str) {
        if self.unanswered > 0
            && let Some((item, state)) = self.items.get(topic)
            && state.is_unanswered()
        {
            let item = item.clone();
            self.confirm(&item);
        }
    }

    /// An unanswered item is granted all the same: its data have arrived, even before the request.
    pub(crate) fn grant(&mut self, name: &str) {
        self.set_state(name, SubscriptionState::Settled);
    }

    /// Gives up items without an answer in time.
    pub(crate) fn tick(&mut self, now: Stamp) {
        if self.deadline_ns().is_none_or(|deadline| deadline > now.mono_ns) {
            return;
        }
        let expects = self.subscribe.as_ref().is_some_and(|subscribe| subscribe.ack.per != Per::None);
        let mut late = Vec::new();
        self.late_ns = u64::MAX;
        for (item, state) in self.items.values() {
            match state {
                SubscriptionState::Requested { by_ns } if *by_ns <= now.mono_ns => late.push(item.clone()),
                SubscriptionState::Requested { by_ns } => self.late_ns = self.late_ns.min(*by_ns),
                SubscriptionState::Queued
                | SubscriptionState::Halved
                | SubscriptionState::Settled
                | SubscriptionState::Refused => {}
            }
        }
        if expects && !late.is_empty() {
            self.outcomes.extend(self.unclaimed.take().map(ItemOutcome::Unclaimed));
        }
        for item in late {
            if expects {
                self.set_state(&item.name, SubscriptionState::Refused);
                self.outcomes.push(ItemOutcome::Unanswered(item));
            } else {
                self.confirm(&item);
            }
        }
        self.forget_settled();
    }

    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        Some(self.late_ns).filter(|late_ns| self.unanswered > 0 && *late_ns != u64::MAX)
    }

    /// Takes the outcomes since the last call.
    pub(crate) fn outcomes(&mut self) -> Vec<ItemOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Whether every request was answered or given up.
    pub(crate) fn is_settled(&self) -> bool {
        self.unanswered == 0 && !self.has_something_to_say()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Arc<FeedItem>> {
        self.items.values().map(|(item, _)| item)
    }

    pub(super) fn is_requested(&self, name: &str) -> bool {
        matches!(self.items.get(name), Some((_, SubscriptionState::Requested { .. })))
    }

    pub(super) fn set_state(&mut self, name: &str, state: SubscriptionState) {
        let Some((_, before)) = self.items.get_mut(name) else { return };
        let was_unanswered = std::mem::replace(before, state).is_unanswered();
        self.unanswered = self.unanswered + usize::from(state.is_unanswered()) - usize::from(was_unanswered);
    }

    fn is_unanswered(&self, name: &str) -> bool {
        self.items.get(name).is_some_and(|(_, state)| state.is_unanswered())
    }

    pub(super) fn confirm(&mut self, item: &Arc<FeedItem>) {
        if self.is_unanswered(&item.name) {
            self.set_state(&item.name, SubscriptionState::Settled);
            self.outcomes.push(ItemOutcome::Confirmed(item.clone()));
        }
    }

    pub(super) fn refuse(&mut self, item: &Arc<FeedItem>, why: String) {
        if self.items.contains_key(&item.name) {
            self.set_state(&item.name, SubscriptionState::Refused);
            self.outcomes.push(ItemOutcome::Refused { item: item.clone(), why });
        }
    }
}

#[cfg(test)]
mod tests;
