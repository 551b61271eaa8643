//! Answers of a venue to subscriptions: granted and refused items.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::json::{Each, decode_string, find};
use crate::profile::ack::{Ack, Per};
use crate::profile::item_key::ItemKey;
use crate::profile::subscribe::FeedItem;

use crate::intake::connection::subscriptions::{ItemSubscriptions, PendingSubscribe, SubscriptionState};

/// Characters of an answer that people are shown.
const SHOWN_CHARS: usize = 120;

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
                let granted = self.items_of(&ack.key, None, text);
                if granted.is_empty() {
                    self.unclaimed = Some(text.chars().take(SHOWN_CHARS).collect());
                }
                granted.iter().for_each(|item| self.confirm(item));
                self.forget_settled();
            }
            Per::List => self.acknowledged_list(ack, text),
            Per::Cumulative => {
                // Requests that it does not answer may still be refused.
                let answered = match ack.key.is_empty() {
                    true => self.requests.pop_front().filter(|request| !request.drops).map(|request| request.items),
                    false => Some(self.items_of(&ack.key, None, text)),
                };
                answered.iter().flatten().for_each(|item| self.confirm(item));
                if !ack.key.is_empty() {
                    self.forget_settled();
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
        let key = if ack.bad_key.is_empty() { &ack.key } else { &ack.bad_key };
        // A cumulative key is about what is granted.
        let named = if ack.per == Per::Cumulative && ack.bad_key.is_empty() { &ItemKey::default() } else { key };
        let items = self.items_of(named, among.as_deref(), text);
        if !items.is_empty() {
            items.iter().for_each(|item| self.refuse(item, why.clone()));
            return self.forget_settled();
        }
        // Without a number it is about the oldest request: a feed answers one after another.
        let counts = ack.per == Per::Request || ack.per == Per::Cumulative && ack.key.is_empty();
        if !counts {
            self.forget_settled();
        }
        let is_in_order = ack.id.is_none() && ack.per != Per::None;
        let only = || (is_in_order || self.requests.len() == 1).then_some(0);
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

    /// The items of an answer, as these pointers name them; of `among`, where the request is known.
    fn items_of(&self, key: &ItemKey, among: Option<&[Arc<FeedItem>]>, text: &str) -> Vec<Arc<FeedItem>> {
        let is_among =
            |item: &Arc<FeedItem>| among.is_none_or(|among| among.iter().any(|other| other.name == item.name));
        let item = |name: Vec<Value>| self.with_name(&name).into_iter().find(is_among);
        key.names(text).into_iter().filter_map(item).collect()
    }

    /// Items with this name: the venue's, an object as it was sent, or channel and parts of the symbol.
    fn with_name(&self, parts: &[Value]) -> Vec<Arc<FeedItem>> {
        let scalar = |part: &Value| match part {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(part.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        if let [Value::Object(named)] = parts {
            let is_named = |item: &&Arc<FeedItem>| is_part(&item.venue, named);
            return self.items().filter(is_named).cloned().collect();
        }
        let Some(texts) = parts.iter().map(scalar).collect::<Option<Vec<String>>>() else { return Vec::new() };
        match &texts[..] {
            [] => Vec::new(),
            [venue] => self.called(venue),
            [channel, symbol @ ..] => {
                let separator = self.subscribe.as_ref().map_or(".", |subscribe| subscribe.separator());
                let symbol = symbol.join(separator);
                let fits = |item: &&Arc<FeedItem>| item.channel == *channel && item.symbol == symbol;
                self.items().filter(fits).cloned().collect()
            }
        }
    }

    /// Items with this name at the venue; some venues give only the symbol.
    fn called(&self, venue: &str) -> Vec<Arc<FeedItem>> {
        let exact: Vec<Arc<FeedItem>> = self.items().filter(|item| item.venue == venue).cloned().collect();
        if exact.is_empty() { self.items().filter(|item| item.symbol == venue).cloned().collect() } else { exact }
    }

    /// Requests whose items are all answered need no further answer.
    pub(super) fn forget_settled(&mut self) {
        let mut requests = std::mem::take(&mut self.requests);
        requests.retain(|request| self.is_open(request));
        self.requests = requests;
    }
}

/// Whether the venue's name of an item is an object, all of whose members are among these.
fn is_part(venue: &str, named: &Map<String, Value>) -> bool {
    let object = serde_json::from_str::<Map<String, Value>>(venue).unwrap_or_default();
    !object.is_empty() && object.iter().all(|(name, value)| named.get(name) == Some(value))
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
