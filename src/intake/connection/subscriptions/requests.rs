//! Messages about items: batches that respect the profile's count, channel and bytes.

use std::sync::Arc;

use crate::profile::placeholders::{Context, Missing};
use crate::profile::subscribe::{FeedItem, ItemChange, ItemMessages, Subscribe};
use crate::words::stamp::Stamp;

use crate::intake::connection::subscriptions::{ItemSubscriptions, PendingSubscribe, SubscriptionState};
use crate::intake::time::ns;

/// Items of other channels that are skipped to fill a message.
const LOOK_AHEAD_MAX: usize = 4096;
/// Requests that wait for an answer at most; the oldest are forgotten, and their items count as unanswered in time.
const REQUESTS_MAX: usize = 1024;

/// A message after the first about a batch.
#[derive(Debug)]
pub(super) struct FurtherMessage {
    /// Its number among those of the batch.
    place: usize,
    items: Vec<Arc<FeedItem>>,
    drops: bool,
}

impl ItemSubscriptions {
    /// A message after the first about a batch. What has become of the items meanwhile makes no difference.
    pub(super) fn further_message(
        &mut self,
        subscribe: &Subscribe,
        FurtherMessage { place, items, drops }: FurtherMessage,
        context: Context<'_>,
        bound: &dyn Fn(&FeedItem) -> Option<String>,
    ) -> Option<String> {
        let first = items.first()?;
        let messages = if drops { subscribe.unsubscribe_of(first) } else { subscribe.send_of(first) };
        let key = if drops { bound(first) } else { None };
        let context = Context { bind_key: key.as_deref(), drops, ..context };
        let about: Vec<&FeedItem> = items.iter().map(|item| &**item).collect();
        let message = subscribe.message(messages.0.get(place)?, &about, context).ok()?;
        self.expect(PendingSubscribe { number: context.req, items, drops, is_half: false });
        Some(message)
    }

    /// The first of the messages about a batch, and the length of the longest; the others follow.
    pub(super) fn first_message(
        subscribe: &Subscribe,
        messages: &ItemMessages,
        batch: &[Arc<FeedItem>],
        context: Context<'_>,
    ) -> Result<(String, usize), Missing> {
        let about: Vec<&FeedItem> = batch.iter().map(|item| &**item).collect();
        let all = messages.0.iter().map(|template| subscribe.message(template, &about, context));
        let all = all.collect::<Result<Vec<String>, Missing>>()?;
        let longest = all.iter().map(String::len).max().unwrap_or_default();
        Ok((all.into_iter().next().unwrap_or_default(), longest))
    }

    pub(super) fn follow(&mut self, messages: &ItemMessages, items: &[Arc<FeedItem>], drops: bool) {
        let further = (1..messages.0.len()).map(|place| FurtherMessage { place, items: items.to_vec(), drops });
        self.further.extend(further);
    }

    /// The first waiting items, as many as one message may hold by number and channel.
    pub(super) fn take_batch(&mut self, subscribe: &Subscribe) -> Vec<Arc<FeedItem>> {
        let Some(first) = self.to_request.pop_front() else { return Vec::new() };
        let mut batch = vec![first.clone()];
        let mut others = Vec::new();
        // Only the beginning of a long queue is searched, or each message would cost as much as all of them.
        while batch.len() < subscribe.batch_about(&first, subscribe.send_of(&first))
            && others.len() < LOOK_AHEAD_MAX
            && let Some(item) = self.to_request.pop_front()
        {
            if subscribe.go_together(&first, &item) { batch.push(item) } else { others.push(item) }
        }
        others.into_iter().rev().for_each(|item| self.to_request.push_front(item));
        batch
    }

    /// The request for as many of these items as fit into a message; the rest waits.
    pub(super) fn request(
        &mut self,
        subscribe: &Subscribe,
        (mut batch, is_half): (Vec<Arc<FeedItem>>, bool),
        context: Context<'_>,
        now: Stamp,
    ) -> Option<String> {
        let requests_all = subscribe.change == ItemChange::ReplaceAll;
        let is_due = |state: SubscriptionState| {
            requests_all || matches!(state, SubscriptionState::Queued | SubscriptionState::Halved)
        };
        batch.retain(|item| self.items.get(&item.name).is_some_and(|(_, state)| is_due(*state)));
        while let Some(first) = batch.first() {
            let messages = subscribe.send_of(first);
            let (message, bytes) = match ItemSubscriptions::first_message(subscribe, messages, &batch, context) {
                Ok(message) => message,
                Err(missing) => {
                    for item in batch.drain(..) {
                        self.refuse(&item, missing.to_string());
                    }
                    return None;
                }
            };
            if bytes <= subscribe.bytes_max {
                let by_ns = now.mono_ns + ns(subscribe.ack.timeout);
                for item in &batch {
                    self.set_state(&item.name, SubscriptionState::Requested { by_ns });
                }
                self.late_ns = self.late_ns.min(by_ns);
                self.follow(messages, &batch, false);
                self.expect(PendingSubscribe { number: context.req, items: batch, drops: false, is_half });
                return Some(message);
            }
            if let [item] = &batch[..] {
                let (item, max) = (item.clone(), subscribe.bytes_max);
                self.refuse(
                    &item,
                    format!("expected a subscribe message of at most {max} bytes, found {bytes}; shorten the item"),
                );
                return None;
            }
            let rest = batch.split_off(batch.len().div_ceil(2));
            rest.into_iter().rev().for_each(|item| self.to_request.push_front(item));
        }
        None
    }

    pub(super) fn drop_message(
        &mut self,
        subscribe: &Subscribe,
        first: Arc<FeedItem>,
        context: Context<'_>,
        bound: &dyn Fn(&FeedItem) -> Option<String>,
    ) -> Option<String> {
        let messages = subscribe.unsubscribe_of(&first);
        let mut batch = vec![first.clone()];
        while batch.len() < subscribe.batch_about(&first, messages) {
            let same = |item: &Arc<FeedItem>| subscribe.go_together(&first, item);
            let Some(at) = self.to_drop.iter().position(|(item, _)| same(item)) else { break };
            batch.extend(self.to_drop.remove(at).map(|(item, _)| item));
        }
        let key = bound(&batch[0]);
        let context = Context { bind_key: key.as_deref(), drops: true, ..context };
        loop {
            let (message, bytes) = ItemSubscriptions::first_message(subscribe, messages, &batch, context).ok()?;
            if bytes <= subscribe.bytes_max || batch.len() == 1 {
                self.follow(messages, &batch, true);
                self.expect(PendingSubscribe { number: context.req, items: batch, drops: true, is_half: false });
                return Some(message);
            }
            let rest = batch.split_off(batch.len().div_ceil(2));
            rest.into_iter().rev().for_each(|item| self.to_drop.push_front((item, SubscriptionState::Settled)));
        }
    }

    pub(super) fn expect(&mut self, request: PendingSubscribe) {
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}
