//! The items of one connection: which were asked for, granted, refused.
//!
//! Items are sent in batches that respect the profile's count, channel and bytes. Data of an item counts as its
//! acknowledgement: it may come before it, and some venues never send one. A refused batch is halved and asked for
//! again until the refused items stand alone, so that one bad item does not take the good ones with it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::profile::placeholders::{Context, Placeholder};
use crate::profile::subscribe::{FeedItem, ItemChange, Per, Subscribe};
use crate::profile::template::Template;
use crate::words::stamp::Stamp;

use crate::intake::time::ns;

/// Requests whose answers are awaited at most; the oldest are forgotten, and their items with time count as unanswered.
const REQUESTS_MAX: usize = 1024;
/// Items of other channels that are passed over to fill a message.
const LOOK_AHEAD_MAX: usize = 4096;

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    Confirmed(Arc<FeedItem>),
    Refused {
        item: Arc<FeedItem>,
        why: String,
    },
    /// Its time is over without an answer. It counts as refused, unless its data show otherwise (`grant`).
    Unanswered(Arc<FeedItem>),
}

/// What is being asked of one connection.
#[derive(Debug)]
pub struct ItemSubscriptions {
    pub(super) subscribe: Option<Arc<Subscribe>>,
    pub(super) items: HashMap<String, (Arc<FeedItem>, SubscriptionState)>,
    /// Asked for and not yet confirmed, refused or given up.
    unanswered: usize,
    /// No answer is late before this; nanoseconds of the monotonic clock.
    late_ns: u64,
    to_request: VecDeque<Arc<FeedItem>>,
    /// Halves of a refused batch; before everything else.
    pub(super) again: VecDeque<Vec<Arc<FeedItem>>>,
    /// With what they were when they were dropped: the venue may not know it yet.
    to_drop: VecDeque<(Arc<FeedItem>, SubscriptionState)>,
    pub(super) requests: VecDeque<PendingSubscribe>,
    outcomes: Vec<ItemOutcome>,
    /// With `change = "replace_all"`: the venue is to be sent anew what is wanted.
    outdated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionState {
    Queued,
    Asked {
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
        matches!(self, SubscriptionState::Asked { .. } | SubscriptionState::Halved)
    }
}

#[derive(Debug)]
pub(super) struct PendingSubscribe {
    pub number: u64,
    pub items: Vec<Arc<FeedItem>>,
    /// It took items off.
    pub drops: bool,
}

impl ItemSubscriptions {
    pub fn new(subscribe: Option<Arc<Subscribe>>, items: &[Arc<FeedItem>]) -> ItemSubscriptions {
        let mut subscriptions = ItemSubscriptions {
            subscribe,
            items: HashMap::new(),
            unanswered: 0,
            late_ns: u64::MAX,
            to_request: VecDeque::new(),
            again: VecDeque::new(),
            to_drop: VecDeque::new(),
            requests: VecDeque::new(),
            outcomes: Vec::new(),
            outdated: false,
        };
        subscriptions.want(items);
        subscriptions
    }

    /// These are wanted as well.
    pub fn want(&mut self, items: &[Arc<FeedItem>]) {
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

    /// These are not wanted any more. A venue that has no way to drop them goes on sending them.
    pub fn unwant(&mut self, items: &[Arc<FeedItem>]) {
        let can_tell =
            self.subscribe.as_ref().is_some_and(|how| how.unsubscribe.is_some() || how.change != ItemChange::Live);
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
                SubscriptionState::Asked { .. } | SubscriptionState::Settled | SubscriptionState::Refused => {
                    self.to_drop.push_back((item.clone(), state));
                }
            }
        }
        // The queue may be long: it is looked through once, however many leave it.
        if !queued.is_empty() {
            self.to_request.retain(|other| !queued.contains(&*other.name));
        }
    }

    /// Asks for an item once more, so that the venue sends a new snapshot of it.
    pub fn renew(&mut self, name: &str) {
        let Some((item, state)) = self.items.get(name) else { return };
        if *state == SubscriptionState::Settled {
            let item = item.clone();
            self.unwant(std::slice::from_ref(&item));
            // It is first dropped, and then asked for.
            self.items.insert(item.name.clone(), (item.clone(), SubscriptionState::Queued));
            self.to_request.push_back(item);
        }
    }

    pub fn has_something_to_say(&self) -> bool {
        let Some(subscribe) = &self.subscribe else { return false };
        match subscribe.change {
            ItemChange::ReplaceAll => self.outdated && !self.items.is_empty(),
            ItemChange::Live | ItemChange::Reconnect => {
                let drops = subscribe.unsubscribe.is_some() && !self.to_drop.is_empty();
                subscribe.send.is_some() && (drops || !self.again.is_empty() || !self.to_request.is_empty())
            }
        }
    }

    /// The next request. `bound` gives what the venue calls a subscription.
    pub fn next(
        &mut self,
        context: Context<'_>,
        now: Stamp,
        bound: &dyn Fn(&FeedItem) -> Option<String>,
    ) -> Option<String> {
        let subscribe = self.subscribe.clone()?;
        let send = subscribe.send.as_ref()?;
        if subscribe.change == ItemChange::ReplaceAll {
            self.outdated = false;
            let all: Vec<Arc<FeedItem>> = self.items.values().map(|(item, _)| item.clone()).collect();
            self.to_request.clear();
            return self.asked(&subscribe, send, all, context, now);
        }
        if let (Some(unsubscribe), Some((item, _))) = (&subscribe.unsubscribe, self.to_drop.pop_front()) {
            return self.drop_message(&subscribe, unsubscribe, item, context, bound);
        }
        self.to_drop.clear();
        let batch = match self.again.pop_front() {
            // Some may have answered by their data since.
            Some(batch) => batch.into_iter().filter(|item| self.is_unanswered(&item.name)).collect(),
            None => self.take_batch(&subscribe),
        };
        self.asked(&subscribe, send, batch, context, now)
    }

    /// The first items that are waiting, as many as one message may hold by number and channel.
    fn take_batch(&mut self, subscribe: &Subscribe) -> Vec<Arc<FeedItem>> {
        let Some(first) = self.to_request.pop_front() else { return Vec::new() };
        let mut batch = vec![first.clone()];
        let mut others = Vec::new();
        // Of a long queue only the beginning is looked at, or each message would cost as much as all of them.
        while batch.len() < subscribe.batch
            && others.len() < LOOK_AHEAD_MAX
            && let Some(item) = self.to_request.pop_front()
        {
            let fits = !subscribe.by_channel || (item.channel == first.channel && item.params == first.params);
            if fits { batch.push(item) } else { others.push(item) }
        }
        others.into_iter().rev().for_each(|item| self.to_request.push_front(item));
        batch
    }

    /// The request for as many of these items as fit into a message; the rest waits.
    fn asked(
        &mut self,
        subscribe: &Subscribe,
        send: &Template<Placeholder>,
        mut batch: Vec<Arc<FeedItem>>,
        context: Context<'_>,
        now: Stamp,
    ) -> Option<String> {
        let requests_all = subscribe.change == ItemChange::ReplaceAll;
        let is_due = |state: SubscriptionState| {
            requests_all || matches!(state, SubscriptionState::Queued | SubscriptionState::Halved)
        };
        batch.retain(|item| self.items.get(&item.name).is_some_and(|(_, state)| is_due(*state)));
        while !batch.is_empty() {
            let items: Vec<&FeedItem> = batch.iter().map(|item| &**item).collect();
            let message = match subscribe.message(send, &items, context) {
                Ok(message) => message,
                Err(missing) => {
                    for item in batch.drain(..) {
                        self.refuse(&item, missing.to_string());
                    }
                    return None;
                }
            };
            if message.len() <= subscribe.bytes_max {
                let by_ns = now.mono_ns + ns(subscribe.ack.timeout);
                for item in &batch {
                    self.set_state(&item.name, SubscriptionState::Asked { by_ns });
                }
                self.late_ns = self.late_ns.min(by_ns);
                self.expect(PendingSubscribe { number: context.req, items: batch, drops: false });
                return Some(message);
            }
            if let [item] = &batch[..] {
                let (item, bytes, max) = (item.clone(), message.len(), subscribe.bytes_max);
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

    fn drop_message(
        &mut self,
        subscribe: &Subscribe,
        unsubscribe: &Template<Placeholder>,
        first: Arc<FeedItem>,
        context: Context<'_>,
        bound: &dyn Fn(&FeedItem) -> Option<String>,
    ) -> Option<String> {
        let one_by_one = unsubscribe
            .sources()
            .any(|word| matches!(word, Placeholder::Item | Placeholder::Symbol | Placeholder::BindKey));
        let mut batch = vec![first];
        while !one_by_one && batch.len() < subscribe.batch {
            let same = |item: &Arc<FeedItem>| !subscribe.by_channel || item.channel == batch[0].channel;
            let Some(at) = self.to_drop.iter().position(|(item, _)| same(item)) else { break };
            batch.extend(self.to_drop.remove(at).map(|(item, _)| item));
        }
        let key = bound(&batch[0]);
        let context = Context { bind_key: key.as_deref(), ..context };
        loop {
            let items: Vec<&FeedItem> = batch.iter().map(|item| &**item).collect();
            let message = subscribe.message(unsubscribe, &items, context).ok()?;
            if message.len() <= subscribe.bytes_max || batch.len() == 1 {
                self.expect(PendingSubscribe { number: context.req, items: batch, drops: true });
                return Some(message);
            }
            let rest = batch.split_off(batch.len().div_ceil(2));
            rest.into_iter().rev().for_each(|item| self.to_drop.push_front((item, SubscriptionState::Settled)));
        }
    }

    fn expect(&mut self, request: PendingSubscribe) {
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// An update of this topic came.
    pub fn updated(&mut self, topic: &str) {
        if self.unanswered > 0
            && let Some((item, state)) = self.items.get(topic)
            && state.is_unanswered()
        {
            let item = item.clone();
            self.confirm(&item);
        }
    }

    /// An item that was not answered is granted all the same: its data have come, be it before it was asked for.
    pub fn grant(&mut self, name: &str) {
        self.set_state(name, SubscriptionState::Settled);
    }

    /// Gives up what was not answered in time.
    pub fn tick(&mut self, now: Stamp) {
        if self.deadline_ns().is_none_or(|deadline| deadline > now.mono_ns) {
            return;
        }
        let expects = self.subscribe.as_ref().is_some_and(|subscribe| subscribe.ack.per != Per::None);
        let mut late = Vec::new();
        self.late_ns = u64::MAX;
        for (item, state) in self.items.values() {
            match state {
                SubscriptionState::Asked { by_ns } if *by_ns <= now.mono_ns => late.push(item.clone()),
                SubscriptionState::Asked { by_ns } => self.late_ns = self.late_ns.min(*by_ns),
                SubscriptionState::Queued
                | SubscriptionState::Halved
                | SubscriptionState::Settled
                | SubscriptionState::Refused => {}
            }
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

    pub fn deadline_ns(&self) -> Option<u64> {
        Some(self.late_ns).filter(|late_ns| self.unanswered > 0 && *late_ns != u64::MAX)
    }

    /// What happened since this was last asked.
    pub fn outcomes(&mut self) -> Vec<ItemOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Everything that was asked for has been answered, or given up.
    pub fn is_settled(&self) -> bool {
        self.unanswered == 0 && !self.has_something_to_say()
    }

    pub fn items(&self) -> impl Iterator<Item = &Arc<FeedItem>> {
        self.items.values().map(|(item, _)| item)
    }

    pub(super) fn is_asked(&self, name: &str) -> bool {
        matches!(self.items.get(name), Some((_, SubscriptionState::Asked { .. })))
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
mod tests {
    use super::*;
    use crate::profile::check;
    use crate::profile::secrets::Secrets;

    struct Venue {
        subscriptions: ItemSubscriptions,
        req: u64,
        now: Stamp,
    }

    fn venue(subscribe: &str, items: &[&str]) -> Venue {
        let text = format!("profile = 1\nname = \"t\"\n[subscribe]\n{subscribe}\n[[on]]\nname = \"a\"\nas = \"ack\"\n");
        let profile = check(&text, "t").unwrap_or_else(|error| panic!("{error}"));
        let subscribe = Arc::new(profile.subscribe.expect("a section"));
        let items: Vec<Arc<FeedItem>> = items.iter().map(|name| Arc::new(subscribe.item(name))).collect();
        Venue { subscriptions: ItemSubscriptions::new(Some(subscribe), &items), req: 0, now: Stamp::default() }
    }

    impl Venue {
        fn receives(&mut self) -> Vec<String> {
            let secrets = Secrets::default();
            let mut received = Vec::new();
            while self.subscriptions.has_something_to_say() {
                self.req += 1;
                let context = Context::plain(&secrets, self.now, self.req);
                received.extend(self.subscriptions.next(context, self.now, &|item| Some(format!("#{}", item.name))));
            }
            received
        }

        fn item(&self, name: &str) -> Arc<FeedItem> {
            Arc::new(self.subscriptions.subscribe.as_ref().expect("a section").item(name))
        }

        fn outcomes(&mut self) -> Vec<String> {
            let say = |outcome| match outcome {
                ItemOutcome::Confirmed(item) => format!("+{}", item.name),
                ItemOutcome::Refused { item, why } => format!("-{}: {why}", item.name),
                ItemOutcome::Unanswered(item) => format!("-{}: no answer", item.name),
            };
            let mut outcomes: Vec<String> = self.subscriptions.outcomes().into_iter().map(say).collect();
            outcomes.sort();
            outcomes
        }
    }

    #[test]
    fn items_go_out_in_batches_of_one_channel() {
        let how = "group_by = \"channel\"\nbatch = 2\nsend = '${channel} ${symbols|join:+} ${params?{${params}}}'\n\
                   channels.book = { name = \"b\", params = { depth = 25 } }";
        let mut venue = venue(how, &["book.X", "trade.X", "book.Y", "book.Z"]);
        assert_eq!(venue.receives(), ["b X+Y {\"depth\":25}", "trade X ", "b Z {\"depth\":25}"]);
    }

    #[test]
    fn a_message_keeps_its_length_and_an_item_that_cannot_is_refused() {
        let mut venue = venue("send = '${items|join:,}'\nmax_bytes = 7", &["aaa", "bbb", "ccc", "much too long"]);
        assert_eq!(venue.receives(), ["aaa,bbb", "ccc"]);
        assert_eq!(
            venue.outcomes(),
            ["-much too long: expected a subscribe message of at most 7 bytes, found 13; shorten the item"]
        );
    }

    #[test]
    fn a_refused_batch_is_halved_until_the_bad_item_stands_alone() {
        let mut venue = venue(
            "send = '${items|join:,}'\nack = { per = \"request\", id = \"/id\", message = \"/msg\" }",
            &["a", "b", "c", "d"],
        );
        let bad = |batch: &str| batch.contains('c');
        for _ in 0..4 {
            let first = venue.req + 1;
            for (number, batch) in (first..).zip(venue.receives()) {
                match bad(&batch) {
                    true => venue.subscriptions.refused(&format!("{{\"id\":{number},\"msg\":\"no {batch}\"}}"), ""),
                    false => venue.subscriptions.acknowledged(&format!("{{\"id\":\"{number}\"}}")),
                }
            }
        }
        assert_eq!(venue.outcomes(), ["+a", "+b", "+d", "-c: no c"]);
        assert!(venue.subscriptions.is_settled());
    }

    #[test]
    fn an_item_of_a_refused_batch_that_flows_is_not_asked_for_again() {
        let mut venue = venue("send = '${items|json}'\nack = { per = \"request\", id = \"/id\" }", &["a", "b"]);
        venue.receives();
        venue.subscriptions.refused(r#"{"id":1}"#, "no b");
        assert!(!venue.subscriptions.is_settled());
        venue.subscriptions.updated("a");
        assert_eq!(venue.receives(), [r#"["b"]"#]);
        venue.subscriptions.refused(r#"{"id":2}"#, "no b");
        assert_eq!(venue.outcomes(), ["+a", "-b: no b"]);
        assert!(venue.subscriptions.is_settled());
    }

    #[test]
    fn an_item_of_a_refused_batch_that_is_not_wanted_any_more_is_forgotten() {
        let mut venue = venue(
            "send = '${items|json}'\nunsubscribe = '-${item}'\nack = { per = \"request\", id = \"/id\" }",
            &["a", "b"],
        );
        venue.receives();
        venue.subscriptions.refused(r#"{"id":1}"#, "");
        let b = venue.item("b");
        venue.subscriptions.unwant(&[b]);
        assert_eq!(venue.receives(), [r#"["a"]"#]);
        venue.subscriptions.acknowledged(r#"{"id":2}"#);
        assert_eq!((venue.outcomes(), venue.subscriptions.is_settled()), (vec!["+a".to_string()], true));
    }

    #[test]
    fn the_answer_to_a_drop_says_nothing_of_what_was_asked_for_since() {
        for ack in ["per = \"request\", id = \"/id\"", "per = \"item\", id = \"/id\", key = \"/item\""] {
            let how = format!("send = '+${{item}}'\nunsubscribe = '-${{item}}'\nack = {{ {ack} }}");
            let mut venue = venue(&how, &["a"]);
            venue.receives();
            venue.subscriptions.acknowledged(r#"{"id":1,"item":"a"}"#);
            venue.subscriptions.renew("a");
            assert_eq!(venue.receives(), ["-a", "+a"]);
            assert_eq!(venue.outcomes(), ["+a"]);
            venue.subscriptions.acknowledged(r#"{"id":2,"item":"a"}"#);
            assert_eq!(venue.outcomes(), [""; 0], "{ack}");
            venue.subscriptions.refused(r#"{"id":3,"item":"a"}"#, "delisted");
            assert_eq!(venue.outcomes(), ["-a: delisted"], "{ack}");
        }
    }

    #[test]
    fn answers_are_understood_in_every_form() {
        let mut each =
            venue("send = '${items|json}'\nack = { per = \"item\", key = [\"/r/c\", \"/r/s\"] }", &["t.X", "t.Y"]);
        each.receives();
        each.subscriptions.acknowledged(r#"{"r":{"c":"t","s":"Y"}}"#);
        each.subscriptions.refused(r#"{"r":{"c":"t","s":"X"}}"#, "shown");
        assert_eq!(each.outcomes(), ["+t.Y", "-t.X: shown"]);

        let mut list =
            venue("send = '${items|json}'\nack = { per = \"list\", id = \"/id\", ok = \"/result\" }", &["a", "b"]);
        list.receives();
        list.subscriptions.acknowledged(r#"{"id":1,"result":["a"]}"#);
        assert_eq!(list.outcomes(), ["+a", "-b: the upstream left it out of what it accepts"]);

        let mut partial = venue(
            "send = '${items|json}'\nack = { per = \"list\", ok = \"/success/*/s\", bad = [\"/fails/*/s\"] }",
            &["a", "b"],
        );
        partial.receives();
        partial.subscriptions.acknowledged(r#"{"success":[{"s":"a"}],"fails":[{"s":"b"}]}"#);
        assert_eq!(partial.outcomes(), ["+a", "-b: the upstream refuses it"]);

        let mut all = venue("send = '${items|json}'\nack = { per = \"cumulative\" }", &["a", "b"]);
        all.receives();
        all.subscriptions.acknowledged("{}");
        assert_eq!(all.outcomes(), ["+a", "+b"]);
    }

    #[test]
    fn data_is_an_answer_and_silence_is_told() {
        let mut venue =
            venue("send = '${items|json}'\nack = { per = \"request\", id = \"/id\", timeout = \"2s\" }", &["a", "b"]);
        venue.receives();
        venue.subscriptions.updated("a");
        assert_eq!(venue.subscriptions.deadline_ns(), Some(2_000_000_000));
        venue.subscriptions.tick(Stamp { wall_ms: 2000, mono_ns: 2_000_000_000 });
        assert_eq!(venue.outcomes(), ["+a", "-b: no answer"]);
        assert_eq!(venue.subscriptions.deadline_ns(), None);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_asked_for_or_is_dropped() {
        let mut venue = venue("send = '+${item}'\nunsubscribe = '-${bind.key}'", &["a", "b"]);
        let (a, b, c) = (venue.item("a"), venue.item("b"), venue.item("c"));
        venue.subscriptions.unwant(&[b]);
        assert_eq!(venue.receives(), ["+a"]);
        venue.subscriptions.unwant(std::slice::from_ref(&a));
        venue.subscriptions.want(&[c]);
        assert_eq!(venue.receives(), ["-#a", "+c"]);
        venue.subscriptions.want(&[a]);
        assert_eq!(venue.receives(), ["+a"]);
    }

    #[test]
    fn what_comes_back_before_it_was_dropped_needs_no_word() {
        let mut venue = venue("send = '+${item}'\nunsubscribe = '-${item}'", &["a"]);
        let a = [venue.item("a")];
        venue.receives();
        venue.subscriptions.updated("a");
        assert_eq!(venue.outcomes(), ["+a"]);
        venue.subscriptions.unwant(&a);
        venue.subscriptions.want(&a);
        assert_eq!((venue.receives(), venue.outcomes()), (vec![], vec!["+a".to_string()]));
        venue.subscriptions.renew("a");
        venue.subscriptions.want(&a);
        assert_eq!(venue.receives(), ["-a", "+a"], "a renewal goes on");
    }

    #[test]
    fn items_are_dropped_together_unless_the_message_names_one() {
        for (unsubscribe, expected) in [
            ("-${items|join:+} ${now.s}", vec!["-a+b 0"]),
            ("-${item}", vec!["-a", "-b"]),
            ("-${bind.key}", vec!["-#a", "-#b"]),
        ] {
            let how = format!("send = '+${{items|json}}'\nunsubscribe = '{unsubscribe}'");
            let mut venue = venue(&how, &["a", "b"]);
            let items = [venue.item("a"), venue.item("b")];
            venue.receives();
            venue.subscriptions.unwant(&items);
            assert_eq!(venue.receives(), expected, "{unsubscribe}");
        }
    }

    #[test]
    fn a_venue_that_cannot_be_told_so_goes_on_sending() {
        let mut venue = venue("send = '+${item}'", &["a"]);
        let a = [venue.item("a")];
        venue.receives();
        venue.subscriptions.unwant(&a);
        venue.subscriptions.want(&a);
        assert_eq!(venue.receives(), [""; 0]);
    }

    #[test]
    fn a_renewed_item_is_dropped_and_asked_for() {
        let mut venue = venue("send = '+${item}'\nunsubscribe = '-${item}'", &["a"]);
        venue.receives();
        venue.subscriptions.updated("a");
        venue.subscriptions.renew("a");
        venue.subscriptions.renew("a");
        assert_eq!(venue.receives(), ["-a", "+a"]);
    }

    #[test]
    fn a_venue_that_replaces_everything_is_told_everything() {
        let mut venue = venue("send = '${items|json}'\nchange = \"replace_all\"", &["a"]);
        assert_eq!(venue.receives(), [r#"["a"]"#]);
        let b = venue.item("b");
        venue.subscriptions.want(&[b]);
        let messages = venue.receives();
        assert!(messages == [r#"["a","b"]"#] || messages == [r#"["b","a"]"#], "{messages:?}");
    }
}
