//! What clients want of the upstream: topics that are asked for while someone wants them, messages, requests.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::{AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind, RequestQueue};
use crate::intake::update_sink::ItemRefusal;
use crate::intake::upstream::assignment::ConnectionId;
use crate::json::{Pointer, find};
use crate::profile::Profile;
use crate::profile::placeholders::Context;
use crate::words::stamp::Stamp;

use crate::intake::upstream::Upstream;
use crate::intake::upstream::tick::in_ns;

/// Requests whose answers are awaited at most; further ones are refused as `busy`.
const REQUESTS_MAX: usize = 1024;

/// New wishes of clients that are heeded in a turn, and how often there is one: 2560 in a second. Whoever wishes for more
/// than that, or for other things all the time, holds up nobody for long.
const FRESH_MAX: usize = 256;
const HEED_NS: u64 = 100_000_000;
/// Topics of which nothing has ever come and that are still asked for although nobody wants them any more; further ones
/// are let go at once.
const UNKNOWN_LEFT_MAX: usize = 1024;

/// Moments of topics that are not wanted any more: so many are never looked through.
const LEAVING_MIN: usize = 1024;

pub(super) struct UpstreamDemand {
    pub interest: Option<Arc<Interest>>,
    pub asks: Option<RequestQueue>,
    linger: Duration,
    /// New wishes are not heeded before this; none if they are heeded at once.
    resting_until_ns: Option<u64>,
    /// Asked for whether someone wants them or not.
    pinned: HashSet<String>,
    /// Topics that nobody wants any more, and until when they are still asked for; oldest first.
    leaving: VecDeque<(u64, String)>,
    /// The same topics, with the moment that counts: one may have come back and left again.
    left: HashMap<String, u64>,
    requests: BTreeMap<(ConnectionId, u64), ForwardedRequest>,
}

/// A client's request on its way.
struct ForwardedRequest {
    answer: AnswerTo,
    /// The client's own number, as it wrote it.
    id: Option<String>,
    by_ns: u64,
}

impl UpstreamDemand {
    pub fn new(
        interest: Option<Arc<Interest>>,
        asks: Option<RequestQueue>,
        linger: Duration,
        pinned: &[String],
    ) -> UpstreamDemand {
        UpstreamDemand {
            interest,
            asks,
            linger,
            resting_until_ns: None,
            pinned: pinned.iter().cloned().collect(),
            leaving: VecDeque::new(),
            left: HashMap::new(),
            requests: BTreeMap::new(),
        }
    }

    pub fn is_pinned(&self, name: &str) -> bool {
        self.pinned.contains(name)
    }

    /// Whether the operator alone has asked for it.
    pub fn is_only_pinned(&self, name: &str) -> bool {
        self.is_pinned(name) && !self.interest.as_ref().is_some_and(|interest| interest.is_wanted(name))
    }

    /// Whether new wishes are heeded at once.
    pub fn listens(&self) -> bool {
        self.resting_until_ns.is_none()
    }

    /// The topic is asked for until then.
    fn leave(&mut self, topic: String, until_ns: u64) {
        // Topics that come and go leave moments behind that do not count any more.
        if self.leaving.len() > 2 * self.left.len() + LEAVING_MIN {
            let left = &self.left;
            self.leaving.retain(|(until_ns, topic)| left.get(topic) == Some(until_ns));
        }
        self.left.insert(topic.clone(), until_ns);
        self.leaving.push_back((until_ns, topic));
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        let leaving = self.leaving.front().map(|(at, _)| *at);
        let requests = self.requests.values().map(|request| request.by_ns).min();
        [leaving, requests, self.resting_until_ns].into_iter().flatten().min()
    }

    /// Returns when clients want something else than before.
    pub async fn changed(interest: &Option<Arc<Interest>>) {
        match interest {
            Some(interest) => interest.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the message answers a client's request; then it has been handed to the client.
    pub fn answers(&mut self, profile: &Profile, link: ConnectionId, text: &str) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let Some(pointer) = profile.client.request.as_ref().map(|request| &request.id) else { return false };
        let number = find(text, pointer).and_then(|token| token.trim_matches('"').parse().ok());
        let Some(request) = number.and_then(|number| self.requests.remove(&(link, number))) else {
            return false;
        };
        let text = with_id(text, pointer, request.id.as_deref());
        request.answer.give(RequestAnswer::Response(Bytes::from(text)));
        true
    }

    /// The next thing that a client says.
    pub async fn next(asks: &Option<RequestQueue>) -> ClientRequest {
        if let Some(asks) = asks
            && let Some(ask) = asks.next().await
        {
            return ask;
        }
        std::future::pending().await
    }
}

impl Upstream {
    /// Asks for what is wanted now, and lets go what is not, after a while.
    pub(super) fn heed_interest(&mut self, now: Stamp) {
        let Some(interest) = self.wishes.interest.clone() else { return };
        self.wishes.resting_until_ns = Some(now.mono_ns + HEED_NS);
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for change in interest.drain(FRESH_MAX) {
            let topic = change.topic.to_string();
            if change.wanted {
                self.wishes.left.remove(&topic);
                if self.roster.has(&topic) {
                    self.outlet.is_wanted_again(&topic);
                } else if let Some(right) = self.right_name(&topic) {
                    let message = format!("the upstream writes this name in another case: subscribe to `{right}`");
                    self.outlet.refuses((&topic, false), ItemRefusal::Own(message), now);
                } else {
                    wanted.push(topic);
                }
            } else if !self.roster.has(&topic) {
                self.outlet.forget(&topic);
            } else if !self.wishes.is_pinned(&topic) {
                if self.wishes.left.len() >= UNKNOWN_LEFT_MAX && !self.outlet.knows(&topic) {
                    unwanted.push(topic);
                    continue;
                }
                let until_ns = now.mono_ns + in_ns(self.wishes.linger);
                self.wishes.leave(topic, until_ns);
            }
        }
        if !wanted.is_empty() {
            self.want(&wanted, now);
        }
        self.let_go_of(&unwanted, now);
    }

    /// The name that this topic has, if it is known to have another one.
    fn right_name(&self, topic: &str) -> Option<String> {
        let right = self.script.subscribe.as_ref()?.renamed(topic)?;
        (!self.outlet.knows(topic)).then_some(right)
    }

    /// These are not asked for any more.
    fn let_go_of(&mut self, topics: &[String], now: Stamp) {
        if topics.is_empty() {
            return;
        }
        let orders = self.roster.remove(topics);
        self.obey(orders, now);
        for topic in topics {
            self.awaited.forget(topic);
            self.outlet.lapses(topic, now);
        }
    }

    /// Does what is due: topics that were not wanted for long enough, requests without an answer.
    pub(super) fn tick_wishes(&mut self, now: Stamp) {
        self.wishes.resting_until_ns.take_if(|until_ns| *until_ns <= now.mono_ns);
        let mut unwanted = Vec::new();
        while let Some((until_ns, topic)) = self.wishes.leaving.pop_front_if(|(until_ns, _)| *until_ns <= now.mono_ns) {
            // One that came back and left again has a later moment of its own.
            if self.wishes.left.get(&topic) == Some(&until_ns) {
                self.wishes.left.remove(&topic);
                unwanted.push(topic);
            }
        }
        self.let_go_of(&unwanted, now);
        let late: Vec<(ConnectionId, u64)> = {
            let requests = self.wishes.requests.iter();
            requests.filter(|(_, request)| request.by_ns <= now.mono_ns).map(|(key, _)| *key).collect()
        };
        for key in late {
            self.fail(key, RequestFailure::Timeout, "the upstream has not answered in time");
        }
    }

    /// Hands what a client says to a connection.
    pub(super) fn forward(&mut self, ask: ClientRequest, now: Stamp) {
        let ClientRequest { kind, answer } = ask;
        match kind {
            RequestKind::Send { topic, data } => {
                let result = self.send(&topic, &data, now);
                answer.give(result);
            }
            RequestKind::Request { data, timeout } => self.request(&data, timeout, answer, now),
        }
    }

    /// Over a connection that carries the topic, if one does.
    fn send(&mut self, topic: &str, data: &str, now: Stamp) -> RequestAnswer {
        let carriers = self.roster.links_of(topic);
        let open = self.members.iter_mut().filter(|member| member.is_open());
        let best = open.min_by_key(|member| !carriers.contains(&member.id));
        let Some(dialogue) = best.and_then(|member| member.dialogue.as_mut()) else {
            let message = "there is no connection to the upstream; try again later";
            return RequestAnswer::Failed(RequestFailure::UpstreamDown, message.to_string());
        };
        let text = match &self.profile.client.send {
            None => {
                let message = "this server does not know how to say that to the feed";
                return RequestAnswer::Failed(RequestFailure::NotSent, message.to_string());
            }
            Some(template) => {
                let item = self.script.subscribe.as_ref().map(|subscribe| subscribe.item(topic));
                let (venue, channel, symbol) = match &item {
                    Some(item) => (item.venue.clone(), &*item.channel, item.symbol.clone()),
                    None => (topic.to_string(), "", topic.to_string()),
                };
                let (items, symbols) = ([venue], [symbol]);
                let filling = Context {
                    items: &items,
                    symbols: &symbols,
                    channel,
                    data: Some(data),
                    ..Context::plain(&self.script.secrets, now, dialogue.number())
                };
                match filling.fill(template) {
                    Ok(text) => text,
                    Err(wanting) => {
                        tracing::warn!("upstream: what a client sends cannot be put: {wanting}");
                        let message = "this server does not know how to say that to the feed";
                        return RequestAnswer::Failed(RequestFailure::NotSent, message.to_string());
                    }
                }
            }
        };
        // To a feed of lines, a line more is a command more.
        if self.profile.rules.decode.is_of_lines() && text.trim_end_matches(['\r', '\n']).contains(['\r', '\n', '\0']) {
            let message = "expected `data` of one line, found a line break or NUL in it; send each line by itself";
            return RequestAnswer::Failed(RequestFailure::NotSent, message.to_string());
        }
        if dialogue.forward(text) {
            RequestAnswer::Sent
        } else {
            RequestAnswer::Failed(
                RequestFailure::Busy,
                "too much waits for the upstream already; try again later".into(),
            )
        }
    }

    fn request(&mut self, data: &str, timeout: Duration, answer: AnswerTo, now: Stamp) {
        let failed = |failure, message: &str| RequestAnswer::Failed(failure, message.to_string());
        let Some(how) = self.profile.client.request.clone() else {
            let name = &self.profile.name;
            let message = format!("profile `{name}` does not say how requests are numbered; add `[client] request`");
            return answer.give(RequestAnswer::Failed(RequestFailure::NotSent, message));
        };
        if let Some(pointer) = how.forbids(data) {
            let message = format!("expected a request that this server may pass on, found another one at `{pointer}`");
            return answer.give(RequestAnswer::Failed(RequestFailure::NotSent, message));
        }
        if self.wishes.requests.len() >= REQUESTS_MAX {
            return answer.give(failed(
                RequestFailure::Busy,
                "too many requests wait for the upstream already; try again later",
            ));
        }
        let open = self.members.iter_mut().find(|member| member.is_open());
        let Some((link, dialogue)) = open.and_then(|member| Some((member.id, member.dialogue.as_mut()?))) else {
            return answer
                .give(failed(RequestFailure::UpstreamDown, "there is no connection to the upstream; try again later"));
        };
        let number = dialogue.number();
        let id = find(data, &how.id).map(str::to_string);
        let text = numbered(data, &how.id, number);
        if !dialogue.forward(text) {
            return answer
                .give(failed(RequestFailure::Busy, "too much waits for the upstream already; try again later"));
        }
        let by_ns = now.mono_ns + in_ns(timeout.min(how.timeout));
        self.wishes.requests.insert((link, number), ForwardedRequest { answer, id, by_ns });
    }

    /// The connection is gone, and with it the answers that it owed.
    pub(super) fn fail_requests(&mut self, link: ConnectionId) {
        let lost: Vec<(ConnectionId, u64)> =
            self.wishes.requests.keys().filter(|(other, _)| *other == link).copied().collect();
        for key in lost {
            self.fail(key, RequestFailure::UpstreamDown, "the connection to the upstream was lost before it answered");
        }
    }

    fn fail(&mut self, key: (ConnectionId, u64), failure: RequestFailure, message: &str) {
        if let Some(request) = self.wishes.requests.remove(&key) {
            request.answer.give(RequestAnswer::Failed(failure, message.to_string()));
        }
    }
}

/// The request with our number: in quotes if the client's is, and added if it has none.
fn numbered(data: &str, pointer: &Pointer, number: u64) -> String {
    match find(data, pointer) {
        Some(token) if token.starts_with('"') => with_id(data, pointer, Some(&format!("\"{number}\""))),
        Some(_) => with_id(data, pointer, Some(&number.to_string())),
        None => {
            let name = pointer.as_str().trim_start_matches('/');
            let rest = data.trim_start().trim_start_matches('{');
            let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
            format!("{{\"{name}\":{number}{comma}{rest}")
        }
    }
}

/// The text with another token at the pointer.
fn with_id(text: &str, pointer: &Pointer, id: Option<&str>) -> String {
    let Some((id, token)) = id.zip(find(text, pointer)) else { return text.to_string() };
    let at = token.as_ptr() as usize - text.as_ptr() as usize;
    format!("{}{id}{}", &text[..at], &text[at + token.len()..])
}

/// The items that the operator asks for, under the names that their topics have.
pub(super) fn pinned(profile: &Profile, items: &[String]) -> Vec<String> {
    let right = |item: &String| {
        let right = profile.subscribe.as_ref().and_then(|subscribe| subscribe.renamed(item));
        if let Some(right) = &right {
            tracing::warn!(
                "upstream: `{item}` is asked for as `{right}`: this is how the feed writes the name of its topic"
            );
        }
        right.unwrap_or_else(|| item.clone())
    };
    items.iter().map(right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_our_number_and_its_answer_the_clients() {
        let id = Pointer::parse("/id").expect("a pointer");
        assert_eq!(numbered(r#"{"method":"x","id":7}"#, &id, 12), r#"{"method":"x","id":12}"#);
        assert_eq!(numbered(r#"{"id" : "a", "p":[{"id":1}]}"#, &id, 12), r#"{"id" : "12", "p":[{"id":1}]}"#);
        assert_eq!(numbered(r#"{"method":"x"}"#, &id, 12), r#"{"id":12,"method":"x"}"#);
        assert_eq!(numbered("{ }", &id, 12), r#"{"id":12 }"#);
        assert_eq!(with_id(r#"{"id":12,"result":0.10}"#, &id, Some("7")), r#"{"id":7,"result":0.10}"#);
        assert_eq!(with_id(r#"{"id":12}"#, &id, None), r#"{"id":12}"#);
    }
}
