//! The protocol of one connection: what is sent and when (login, subscriptions, replies, pings, heartbeats), and when
//! to give the connection up.
//!
//! No sockets and no clock: the caller reports arrivals and the time, and performs the actions that `next` returns.
//! Silence is measured by messages; WebSocket pings and pongs show only that the connection works. Everything sent
//! keeps the profile's rate, pings included; answers to WebSocket pings are not ours to delay.

mod login;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::profile::placeholders::{Context, Placeholder};
use crate::profile::request::TakenValues;
use crate::profile::rule::MessageClass;
use crate::profile::subscribe::FeedItem;
use crate::profile::template::Template;
use crate::words::stamp::Stamp;

use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol_config::ProtocolConfig;
use crate::intake::connection::rate_limit::RateLimit;
use crate::intake::connection::subscriptions::{ItemOutcome, ItemSubscriptions};
use crate::intake::time::ns;

/// With more unsent replies than this the oldest is dropped: a venue that pings that often needs no answer to each.
const REPLIES_MAX: usize = 16;
/// Unsent messages of clients at most; further ones are refused.
const FORWARDS_MAX: usize = 256;

/// Time for a venue's greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// An action for the owner of the socket.
#[derive(Debug)]
pub(crate) enum ProtocolAction {
    Send(String),
    /// A WebSocket ping.
    Ping,
    /// Report that the feed has been silent since then. The connection is kept for now.
    ReportSilence {
        since: Stamp,
    },
    /// Open a new connection that takes over from this one.
    Replace,
    /// Give the connection up.
    End(Loss),
}

/// Progress of a connection's opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpeningState {
    /// The login waits for its rule.
    BeforeLogin,
    /// The login is sent, its answer awaited.
    LoggingIn,
    /// The subscriptions wait for their rule.
    BeforeSubscribing,
    Open,
}

#[derive(Debug)]
pub(crate) struct Protocol {
    config: Arc<ProtocolConfig>,
    /// What the requests before the connection have given.
    taken: Arc<TakenValues>,
    pub subscriptions: ItemSubscriptions,
    stage: OpeningState,
    stage_by_ns: u64,
    /// When the login is renewed, and until when the answer is awaited.
    login_at_ns: Option<u64>,
    login_by_ns: Option<u64>,
    /// Names of rules that held during the opening; at most as many as the profile has.
    seen: Vec<Arc<str>>,
    opening: VecDeque<String>,
    replies: VecDeque<String>,
    forwards: VecDeque<String>,
    /// Number of the last request.
    req: u64,
    rate: Option<RateLimit>,
    budget: Option<RateLimit>,
    last_message: Stamp,
    silence_reported: bool,
    ping_at_ns: Option<u64>,
    pong_by_ns: Option<u64>,
    beat_every: Duration,
    beat_at_ns: Option<u64>,
    answer_by_ns: Option<u64>,
}

impl Protocol {
    /// A connection opened at `now`, and the items to subscribe to on it.
    pub(crate) fn open(
        (config, taken): (Arc<ProtocolConfig>, Arc<TakenValues>),
        items: &[Arc<FeedItem>],
        now: Stamp,
    ) -> Protocol {
        let after = |wait: Duration| now.mono_ns + ns(wait);
        // What an answer says was read before the connection was dialed.
        let beat_every = config.heartbeat_interval(&taken).ok().flatten();
        let mut protocol = Protocol {
            subscriptions: ItemSubscriptions::new(config.subscribe.clone(), items),
            stage: OpeningState::BeforeLogin,
            stage_by_ns: u64::MAX,
            login_at_ns: None,
            login_by_ns: None,
            seen: Vec::new(),
            opening: VecDeque::new(),
            replies: VecDeque::new(),
            forwards: VecDeque::new(),
            req: 0,
            rate: config.allowances.0.clone(),
            budget: config.allowances.1.clone(),
            last_message: now,
            silence_reported: false,
            ping_at_ns: config.timing.ws_ping.map(after),
            pong_by_ns: None,
            beat_every: beat_every.unwrap_or_default(),
            beat_at_ns: beat_every.map(after),
            answer_by_ns: None,
            taken,
            config: config.clone(),
        };
        for frame in &config.open {
            protocol.say_first(frame, now);
        }
        protocol.enter(OpeningState::BeforeLogin, now);
        protocol.advance(now);
        protocol
    }

    fn say_first(&mut self, template: &Template<Placeholder>, now: Stamp) {
        self.req += 1;
        // A missing value was found before anything connected.
        if let Ok(text) = context(&self.config, &self.taken, now, self.req).fill(template) {
            self.opening.push_back(text);
        }
    }

    fn enter(&mut self, stage: OpeningState, now: Stamp) {
        self.stage = stage;
        let timeout = match (stage, &self.config.login) {
            (OpeningState::LoggingIn, Some(login)) => login.timeout,
            _ => GREETING_TIMEOUT,
        };
        self.stage_by_ns = if stage == OpeningState::Open { u64::MAX } else { now.mono_ns + ns(timeout) };
    }

    /// Advances the opening as far as the rules seen allow.
    fn advance(&mut self, now: Stamp) {
        let config = self.config.clone();
        let seen = |rule: &Option<String>, seen: &[Arc<str>]| {
            rule.as_ref().is_none_or(|rule| seen.iter().any(|name| **name == **rule))
        };
        if self.stage == OpeningState::BeforeLogin {
            match &config.login {
                None => self.enter(OpeningState::BeforeSubscribing, now),
                Some(login) if seen(&login.after, &self.seen) => {
                    self.say_first(&login.send, now);
                    self.login_sent(login, now);
                    self.enter(OpeningState::LoggingIn, now);
                }
                Some(_) => {}
            }
        }
        if self.stage == OpeningState::LoggingIn
            && config.login.as_ref().is_none_or(|login| seen(&login.ok, &self.seen))
        {
            self.enter(OpeningState::BeforeSubscribing, now);
        }
        let after = config.subscribe.as_ref().and_then(|subscribe| subscribe.after.clone());
        if self.stage == OpeningState::BeforeSubscribing && seen(&after, &self.seen) {
            self.enter(OpeningState::Open, now);
            self.seen = Vec::new();
        }
    }

    /// A message arrived.
    pub(crate) fn received(&mut self, now: Stamp) {
        self.last_message = now;
        self.silence_reported = false;
        self.pong_by_ns = None;
    }

    /// Bytes arrived that are not yet a message: a WebSocket ping or pong, a part of a long message.
    pub(crate) fn alive(&mut self) {
        self.pong_by_ns = None;
    }

    /// A message was classified, by this rule and with this text; `shown` is its beginning, for people.
    pub(crate) fn learned(&mut self, (class, rule): (MessageClass, &Arc<str>), text: &str, shown: &str, now: Stamp) {
        match class {
            MessageClass::Ack => self.subscriptions.acknowledged(text),
            MessageClass::Nack => self.subscriptions.refused(text, shown),
            MessageClass::Pong => self.answered(rule),
            MessageClass::AuthOk => self.logged_in(rule, text, now),
            _ => {}
        }
        if self.stage != OpeningState::Open && !self.seen.contains(rule) {
            self.seen.push(rule.clone());
            self.advance(now);
        }
    }

    /// A message of class `pong` arrived, by this rule.
    fn answered(&mut self, rule: &str) {
        let expected = self.config.heartbeat.as_ref().and_then(|heartbeat| heartbeat.expect.as_ref());
        if expected.is_some_and(|(name, _)| name == rule) {
            self.answer_by_ns = None;
        }
    }

    /// Queues the answer to a ping; it goes before everything else.
    pub(crate) fn reply(&mut self, reply: String) {
        if self.replies.len() == REPLIES_MAX {
            self.replies.pop_front();
        }
        self.replies.push_back(reply);
    }

    /// Queues a client's message; false if too many wait, or the connection is not open yet.
    pub(crate) fn forward(&mut self, text: String) -> bool {
        let has_room = self.stage == OpeningState::Open && self.forwards.len() < FORWARDS_MAX;
        if has_room {
            self.forwards.push_back(text);
        }
        has_room
    }

    /// A number for a request that the caller makes itself.
    pub(crate) fn number(&mut self) -> u64 {
        self.req += 1;
        self.req
    }

    /// Takes the outcomes of items since the last call.
    pub(crate) fn outcomes(&mut self) -> Vec<ItemOutcome> {
        self.subscriptions.outcomes()
    }

    /// Whether greeting and login are done.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == OpeningState::Open
    }

    /// Whether every wanted item was requested and answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.stage == OpeningState::Open && self.subscriptions.is_settled()
    }

    /// The next action; none until a message arrives or `deadline_ns` is reached. `bound` returns the venue's key of a
    /// subscription.
    pub(crate) fn next(&mut self, now: Stamp, bound: &dyn Fn(&FeedItem) -> Option<String>) -> Option<ProtocolAction> {
        let due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now.mono_ns);
        self.subscriptions.tick(now);
        if due(self.pong_by_ns) {
            return Some(ProtocolAction::End(Loss::PongMissing { after: self.config.timing.pong_timeout }));
        }
        if due(self.answer_by_ns) {
            return Some(ProtocolAction::End(Loss::AnswerMissing { after: self.answer_timeout().unwrap_or_default() }));
        }
        if self.stage_by_ns <= now.mono_ns {
            return Some(ProtocolAction::End(Loss::NotOpened { waiting_for: self.waiting_for() }));
        }
        if due(self.login_by_ns) {
            self.login_by_ns = None;
            return Some(ProtocolAction::Replace);
        }
        if let Some(action) = self.log_in_again(now) {
            return Some(action);
        }
        if due(self.silence_ns()) {
            if self.silence_reported {
                return Some(ProtocolAction::End(Loss::Silent {
                    after: Duration::from_nanos(now.ns_since(self.last_message)),
                }));
            }
            self.silence_reported = true;
            return Some(ProtocolAction::ReportSilence { since: self.last_message });
        }
        if ready_ns(&self.rate) > now.mono_ns {
            return None;
        }
        let step = self.next_sending(now, bound)?;
        self.rate.iter_mut().for_each(|rate| rate.take(now.mono_ns));
        Some(step)
    }

    fn next_sending(&mut self, now: Stamp, bound: &dyn Fn(&FeedItem) -> Option<String>) -> Option<ProtocolAction> {
        if let Some(text) = self.replies.pop_front() {
            return Some(ProtocolAction::Send(text));
        }
        let has_budget = ready_ns(&self.budget) <= now.mono_ns;
        if has_budget && let Some(text) = self.opening.pop_front() {
            self.budget.iter_mut().for_each(|budget| budget.take(now.mono_ns));
            return Some(ProtocolAction::Send(text));
        }
        if self.ping_at_ns.is_some_and(|at| at <= now.mono_ns) {
            self.ping_at_ns = self.config.timing.ws_ping.map(|interval| now.mono_ns + ns(interval));
            self.pong_by_ns.get_or_insert(now.mono_ns + ns(self.config.timing.pong_timeout));
            return Some(ProtocolAction::Ping);
        }
        if let Some(text) = self.beat(now) {
            return Some(ProtocolAction::Send(text));
        }
        if let Some(text) = self.forwards.pop_front() {
            return Some(ProtocolAction::Send(text));
        }
        // Some batches turn out to be empty: their items are no longer wanted.
        while self.stage == OpeningState::Open && has_budget && self.subscriptions.has_something_to_say() {
            self.req += 1;
            let (config, taken) = (self.config.clone(), self.taken.clone());
            let context = context(&config, &taken, now, self.req);
            if let Some(text) = self.subscriptions.next(context, now, bound) {
                self.budget.iter_mut().for_each(|budget| budget.take(now.mono_ns));
                return Some(ProtocolAction::Send(text));
            }
        }
        None
    }

    /// The heartbeat, if it is due.
    fn beat(&mut self, now: Stamp) -> Option<String> {
        let config = self.config.clone();
        let heartbeat = config.heartbeat.as_ref()?;
        self.beat_at_ns.filter(|at| *at <= now.mono_ns)?;
        let quiet_until_ns = self.last_message.mono_ns + ns(self.beat_every);
        if heartbeat.idle_only && quiet_until_ns > now.mono_ns {
            self.beat_at_ns = Some(quiet_until_ns);
            return None;
        }
        self.beat_at_ns = Some(now.mono_ns + ns(self.beat_every));
        self.req += 1;
        let text = context(&config, &self.taken, now, self.req).fill(&heartbeat.send).ok()?;
        if let Some(timeout) = self.answer_timeout() {
            self.answer_by_ns.get_or_insert(now.mono_ns + ns(timeout));
        }
        Some(text)
    }

    /// When `next` may have an action although nothing has arrived; none if never.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        let has_items = self.stage == OpeningState::Open && self.subscriptions.has_something_to_say();
        let with_budget = (has_items || !self.opening.is_empty()).then(|| ready_ns(&self.budget));
        let at_once = (!self.replies.is_empty() || !self.forwards.is_empty()).then_some(0);
        let sending = [at_once, with_budget, self.ping_at_ns, self.beat_at_ns];
        let rate_ns = ready_ns(&self.rate);
        let sending = sending.into_iter().flatten().map(|at| at.max(rate_ns));
        let stage = Some(self.stage_by_ns).filter(|by| *by != u64::MAX);
        let other = [self.pong_by_ns, self.answer_by_ns, self.silence_ns(), stage, self.subscriptions.deadline_ns()];
        let login = [self.login_at_ns.filter(|_| self.stage == OpeningState::Open), self.login_by_ns];
        other.into_iter().chain(login).flatten().chain(sending).min()
    }

    /// When silence is reported or, once reported, ends the connection.
    fn silence_ns(&self) -> Option<u64> {
        let timeouts = if self.silence_reported { 2 } else { 1 };
        self.config
            .timing
            .idle_timeout
            .map(|timeout| self.last_message.mono_ns.saturating_add(ns(timeout).saturating_mul(timeouts)))
    }

    fn answer_timeout(&self) -> Option<Duration> {
        let expect = self.config.heartbeat.as_ref()?.expect.as_ref();
        expect.map(|(_, timeout)| *timeout)
    }

    /// The rule that the opening waits for, for people.
    fn waiting_for(&self) -> String {
        let login = self.config.login.as_ref();
        let rule = match self.stage {
            OpeningState::BeforeLogin => login.and_then(|login| login.after.clone()),
            OpeningState::LoggingIn => login.and_then(|login| login.ok.clone()),
            OpeningState::BeforeSubscribing | OpeningState::Open => {
                self.config.subscribe.as_ref().and_then(|subscribe| subscribe.after.clone())
            }
        };
        rule.unwrap_or_default()
    }
}

fn context<'a>(config: &'a ProtocolConfig, taken: &'a TakenValues, now: Stamp, req: u64) -> Context<'a> {
    Context { taken: Some(taken), ..Context::plain(&config.secrets, now, req) }
}

fn ready_ns(allowance: &Option<RateLimit>) -> u64 {
    allowance.as_ref().map_or(0, RateLimit::ready_ns)
}

#[cfg(test)]
mod tests;
