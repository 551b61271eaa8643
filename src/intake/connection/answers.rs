//! Answers of a venue to subscriptions: granted and refused items.

use std::sync::Arc;

use crate::json::{Each, Pointer, decode_string, find};
use crate::profile::subscribe::{Ack, FeedItem, Per};

use crate::intake::connection::subscriptions::{ItemSubscriptions, PendingSubscribe, SubscriptionState};

impl ItemSubscriptions {
    /// A message of class `ack`.
    pub(crate) fn acknowledged(&mut self, text: &str) {
        let Some(subscribe) = self.subscribe.clone() else { return };
        let ack = &subscribe.ack;
        match ack.per {
            Per::None => {}
            Per::Request => {
                let request = self.request_of(ack, text).or_else(|| self.first_without_id(ack));
                // A dropped item may have been subscribed again already; that has an answer of its own.
                for item in request.iter().filter(|request| !request.drops).flat_map(|request| &request.items) {
                    self.confirm(item);
                }
            }
            Per::Item => {
                if self.is_drop(self.position_of(ack, text)) {
                    return;
                }
                if let Some(item) = self.item_of(&ack.key, None, text) {
                    self.confirm(&item);
                    self.forget_settled();
                }
            }
            Per::List => self.acknowledged_list(ack, text),
            Per::Cumulative => {
                for request in std::mem::take(&mut self.requests) {
                    request.items.iter().for_each(|item| self.confirm(item));
                }
            }
        }
    }

    fn acknowledged_list(&mut self, ack: &Ack, text: &str) {
        let why = || why(ack, text);
        let request = self.request_of(ack, text);
        for bad in &ack.bad {
            for venue in named(bad, text) {
                let refused = self.called(&venue);
                refused.into_iter().for_each(|item| self.refuse(&item, why()));
            }
        }
        let accepted = ack.ok.as_ref().map(|ok| named(ok, text)).unwrap_or_default();
        for venue in &accepted {
            self.called(venue).iter().for_each(|item| self.confirm(item));
        }
        let Some(request) = request.filter(|request| !request.drops) else { return self.forget_settled() };
        for item in &request.items {
            if self.is_requested(&item.name) && !accepted.contains(&item.venue) {
                self.refuse(item, "the feed did not list it among accepted items".to_string());
            }
        }
    }

    /// A message of class `nack`; `shown` is its beginning, for people.
    pub(crate) fn refused(&mut self, text: &str, shown: &str) {
        let Some(subscribe) = self.subscribe.clone() else { return };
        let ack = &subscribe.ack;
        let why = if ack.message.is_some() { why(ack, text) } else { shown.to_string() };
        let by_id = self.position_of(ack, text);
        if self.is_drop(by_id) {
            return;
        }
        let among = by_id.map(|at| self.requests[at].items.clone());
        if let Some(item) =
            self.item_of(if ack.bad_key.is_empty() { &ack.key } else { &ack.bad_key }, among.as_deref(), text)
        {
            return self.refuse(&item, why);
        }
        let only = || (self.requests.len() == 1).then_some(0);
        let Some(request) = by_id.or_else(only).and_then(|at| self.requests.remove(at)) else { return };
        if request.drops {
            return;
        }
        let mut items = request.items;
        items.retain(|item| self.is_requested(&item.name));
        if items.len() < 2 {
            return items.iter().for_each(|item| self.refuse(item, why.clone()));
        }
        for item in &items {
            self.set_state(&item.name, SubscriptionState::Halved);
        }
        let rest = items.split_off(items.len() / 2);
        self.again.extend([items, rest]);
    }

    fn position_of(&self, ack: &Ack, text: &str) -> Option<usize> {
        let token = find(text, ack.id.as_ref()?)?;
        let number: u64 = token.trim_matches('"').parse().ok()?;
        self.requests.iter().position(|request| request.number == number)
    }

    /// Whether this request unsubscribed: its answer is not about later subscriptions.
    fn is_drop(&self, at: Option<usize>) -> bool {
        at.and_then(|at| self.requests.get(at)).is_some_and(|request| request.drops)
    }

    fn request_of(&mut self, ack: &Ack, text: &str) -> Option<PendingSubscribe> {
        let at = self.position_of(ack, text)?;
        self.requests.remove(at)
    }

    fn first_without_id(&mut self, ack: &Ack) -> Option<PendingSubscribe> {
        if ack.id.is_none() { self.requests.pop_front() } else { None }
    }

    /// The item of an answer, as these pointers name it; one of `among`, where the request is known.
    fn item_of(&self, key: &[Pointer], among: Option<&[Arc<FeedItem>]>, text: &str) -> Option<Arc<FeedItem>> {
        let value = |at: usize| find(text, key.get(at)?).and_then(plain);
        let first = value(0)?;
        let mut found = match value(1).filter(|_| key.len() > 1) {
            None if key.len() > 1 => return None,
            None => self.called(&first),
            Some(symbol) => {
                let fits = |item: &&Arc<FeedItem>| item.channel == first && item.symbol == symbol;
                self.items().find(fits).cloned().into_iter().collect()
            }
        };
        found.retain(|item| among.is_none_or(|among| among.iter().any(|other| other.name == item.name)));
        found.into_iter().next()
    }

    /// Items with this name at the venue; some venues give only the symbol.
    fn called(&self, venue: &str) -> Vec<Arc<FeedItem>> {
        let exact: Vec<Arc<FeedItem>> = self.items().filter(|item| item.venue == venue).cloned().collect();
        if exact.is_empty() { self.items().filter(|item| item.symbol == venue).cloned().collect() } else { exact }
    }

    /// Requests whose items are all answered need no further answer.
    pub(super) fn forget_settled(&mut self) {
        let items = &self.items;
        let open = |request: &PendingSubscribe| {
            !request.drops
                && request
                    .items
                    .iter()
                    .any(|item| matches!(items.get(&item.name), Some((_, SubscriptionState::Requested { .. }))))
        };
        self.requests.retain(open);
    }
}

fn why(ack: &Ack, text: &str) -> String {
    let said = ack.message.as_ref().and_then(|pointer| find(text, pointer)).and_then(plain);
    said.unwrap_or_else(|| "the feed refuses it".to_string())
}

/// The texts that a list holds.
fn named(list: &Each, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    list.locate(text, &mut found);
    found.into_iter().filter_map(|element| plain(text.get(element.range)?)).collect()
}

/// A string's text, or a number as it is written.
fn plain(token: &str) -> Option<String> {
    match decode_string(token) {
        Some(text) => Some(text.into_owned()),
        None if token.starts_with(['{', '[', 'n']) => None,
        None => Some(token.to_string()),
    }
}
