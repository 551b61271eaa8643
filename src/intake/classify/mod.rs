//! The classifier: what a message of the feed is, and which updates of which topics it holds.
//!
//! No sockets and no clock: a function of the message, its time of arrival and the messages before it on its
//! connection. Each message is read once, and the first rule that holds decides. Two kinds of messages wait: the first
//! ones of a feed whose topics are still to be guessed (until they show enough, at most 512, 4 MiB or a few seconds), and
//! those whose key no acknowledgement has bound yet (at most 64, 1 MiB or 5 s). They are released in their order, with
//! their times of arrival.

pub(crate) mod drive;

mod binding;
pub(crate) mod change_hint;
mod classified;
mod connection_sequence;
mod decode;
#[cfg(test)]
mod documented;
mod fill;
mod found;
pub(crate) mod guess;
mod irc;
pub(crate) mod looks;
mod naming;
#[cfg(test)]
mod recordings;
mod second_look;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::json::{FoundTokens, is_too_deep};
use crate::profile::Profile;
use crate::profile::compile::settle_guess;
use crate::profile::decode::MessageFormat;
use crate::profile::rule::{Bind, FieldValue, MessageClass, Naming, Rule, Rules, Variables, View};
use crate::profile::rules::treatment::{Mode, Treatment};
use crate::protocol::encoding::PayloadKind;
use crate::words::stamp::Stamp;

use crate::intake::classify::binding::{BOUND_BYTES_MAX, Bindings, Unbound, UnboundQueue};
pub use crate::intake::classify::classified::{Classified, ConnectionGap, Unnamed, UpstreamStatus, WaitedMessage};
use crate::intake::classify::connection_sequence::ConnectionSequence;
pub use crate::intake::classify::decode::{FeedFrame, FeedMessage, FrameDecoder};
use crate::intake::classify::fill::{RuleMatch, answer, write_key};
use crate::intake::classify::found::Finding;
pub use crate::intake::classify::found::FoundUpdates;
use crate::intake::classify::guess::FALLBACK_TOPIC;
pub use crate::intake::classify::guess::Guess;
use crate::intake::classify::second_look::SecondLook;
use crate::intake::classify::waiting::{FirstMessages, Waiting};

/// The messages of one connection, classified by a profile's rules.
pub struct Classifier {
    /// What topics begin with, on a branch of the feed.
    prefix: String,
    decoder: FrameDecoder,
    rules: Rules,
    rule_names: Vec<Arc<str>>,
    /// Treatments of the rules, of binary messages, of messages that no rule matches.
    treatments: Vec<Treatment>,
    first: FirstMessages,
    guess: Option<Guess>,
    second_look: SecondLook,
    bindings: Bindings,
    unbound: UnboundQueue,
    /// A key was bound: some messages may be ready.
    newly_bound: bool,
    /// Messages whose wait is over, in their order.
    released: VecDeque<Waiting>,
    /// Messages whose key was not bound in time.
    given_up: VecDeque<Unbound>,
    sequence: Option<ConnectionSequence>,
    scratch: Scratch,
}

/// Kept from message to message so that classifying allocates little.
#[derive(Default)]
struct Scratch {
    found: FoundTokens,
    /// JSON form of an IRC message.
    irc: String,
}

/// The effects of a message.
enum MessageVerdict {
    WaitForKey,
    WaitForGuess,
    Done(Classified),
    /// Boxed, since few messages are one and all verdicts are moved.
    Acked(Box<Acknowledgement>),
}

struct Acknowledgement {
    classified: Classified,
    /// Key and values.
    binds: Option<(String, Box<Variables>)>,
    /// Key.
    unbinds: Option<String>,
}

/// A text message that was read.
#[derive(Clone, Copy)]
struct TextMessage<'a> {
    text: &'a str,
    /// Whether it has a JSON form.
    json: bool,
    received: Stamp,
    gap: Option<ConnectionGap>,
}

impl Classifier {
    /// For the messages of a branch of the feed; 0 is the feed's own URL.
    pub(crate) fn of_branch(profile: &Profile, branch: usize) -> Classifier {
        let rules = profile.rules.clone();
        let unknown = Treatment { mode: Mode::Nothing, ..Treatment::default() };
        let treatments = rules.list.iter().map(|rule| rule.treatment.clone());
        Classifier {
            prefix: profile.prefix_of(branch),
            decoder: FrameDecoder::new(profile),
            rule_names: rules.list.iter().map(|rule| rule.name.as_str().into()).collect(),
            treatments: treatments.chain([Treatment::default(), unknown]).collect(),
            sequence: rules.sequence.map(ConnectionSequence::new),
            rules,
            first: FirstMessages::default(),
            guess: None,
            second_look: SecondLook::default(),
            bindings: Bindings::default(),
            unbound: UnboundQueue::default(),
            newly_bound: false,
            released: VecDeque::new(),
            given_up: VecDeque::new(),
            scratch: Scratch::default(),
        }
    }

    pub fn decoder(&self) -> FrameDecoder {
        self.decoder
    }

    /// A new connection: nothing is bound on it, and its numbers restart. Messages that waited for a key of the old one
    /// are given up.
    pub fn reset(&mut self) {
        self.given_up.extend(std::iter::from_fn(|| self.unbound.pop()));
        self.bindings.clear();
        self.sequence.iter_mut().for_each(ConnectionSequence::reset);
    }

    /// Classifies a message, and fills `found` with its updates. None: it has to wait. Afterwards the wait of others
    /// may be over: `next_waited` returns them.
    pub fn classify(
        &mut self,
        message: &FeedMessage<'_>,
        received: Stamp,
        found: &mut FoundUpdates,
    ) -> Option<Classified> {
        found.clear();
        match message {
            FeedMessage::Text(text) => {
                let json = self.read(text);
                let gap = self.sequence.take().and_then(|mut sequence| {
                    let gap = sequence.step(&self.view(text, json), received);
                    self.sequence = Some(sequence);
                    gap
                });
                let message = TextMessage { text, json, received, gap };
                let verdict = self.judge(message, found);
                self.conclude(message, verdict, found)
            }
            FeedMessage::Binary(bytes) => {
                self.add_whole((Unruled::Binary, FALLBACK_TOPIC), bytes.len(), PayloadKind::Binary, found);
                Some(Classified::of(MessageClass::Data))
            }
            FeedMessage::Undecodable(_, problem) => Some(Classified::garbled(problem.clone())),
        }
    }

    /// The next message whose wait is over; `found` has its updates.
    pub fn next_waited(&mut self, found: &mut FoundUpdates) -> Option<WaitedMessage> {
        if let Some(Unbound { key, waiting: Waiting { text, received, gap } }) = self.given_up.pop_front() {
            found.clear();
            let problem = Some(Unnamed::Unbound { key });
            let classified = Classified { gap, problem, ..Classified::of(MessageClass::Unmatched) };
            return Some(WaitedMessage { text, received, classified });
        }
        while let Some(Waiting { text, received, gap }) = self.released.pop_front().or_else(|| self.bound()) {
            found.clear();
            let json = self.read(&text);
            let message = TextMessage { text: &text, json, received, gap };
            let verdict = self.judge(message, found);
            if let Some(classified) = self.conclude(message, verdict, found) {
                return Some(WaitedMessage { text, received, classified });
            }
        }
        None
    }

    /// The oldest message whose key is bound.
    fn bound(&mut self) -> Option<Waiting> {
        let bound = if self.newly_bound { self.unbound.bound(&self.bindings) } else { None };
        self.newly_bound = bound.is_some();
        bound.map(|unbound| unbound.waiting)
    }

    /// Treatment of the updates that a rule finds.
    pub(super) fn treatment(&self, index: usize) -> &Treatment {
        &self.treatments[index]
    }

    /// A message that is published as a whole without a rule.
    fn add_whole(&self, (unruled, topic): (Unruled, &str), bytes: usize, kind: PayloadKind, found: &mut FoundUpdates) {
        found.topic.clear();
        found.topic.push_str(&self.prefix);
        found.topic.push_str(topic);
        let treatment = self.rules.list.len() + unruled as usize;
        found.add(Finding { treatment, element: 0..bytes, kind, numbers: None, snapshot: false });
    }

    /// Finds everything that the rules use. False: the message has no JSON form.
    fn read(&mut self, text: &str) -> bool {
        let Scratch { found, irc, .. } = &mut self.scratch;
        match self.rules.decode.format {
            MessageFormat::Json => self.rules.pointers.locate(text, found),
            MessageFormat::Irc => irc::write(text, irc) && self.rules.pointers.locate(irc, found),
        }
    }

    /// Finds the message's rule and its updates.
    fn judge(&self, message: TextMessage<'_>, found: &mut FoundUpdates) -> MessageVerdict {
        let TextMessage { text, json, gap, .. } = message;
        let view = self.view(text, json);
        let via = self.rules.bind_via.as_ref();
        let keyed = via.is_some_and(|via| write_key(via, &view, &mut found.key)) && found.key.len() <= BOUND_BYTES_MAX;
        let view = View { bound: self.bindings.get(&found.key).filter(|_| keyed), ..view };
        // Without JSON only a rule with a test on the text may hold.
        let holds = |rule: &Rule| (json || rule.looks_at_text()) && rule.holds(&view);
        let index = self.rules.list.iter().position(holds);
        // An acknowledgement may itself have an unbound key, so only data wait.
        let data = index.is_none_or(|index| self.rules.list[index].class == MessageClass::Data);
        if keyed && view.bound.is_none() && data {
            return MessageVerdict::WaitForKey;
        }
        let Some(index) = index else { return self.judge_unknown(message, found) };
        let rule = &self.rules.list[index];
        let mut classified = Classified { gap, ..Classified::of(rule.class) };
        match &rule.topic {
            _ if rule.class.is_state() => match self.read_status((rule, index), &view) {
                Ok(status) => classified.status = Some(status.into()),
                Err(problem) => (classified.class, classified.problem) = (MessageClass::Unmatched, Some(problem)),
            },
            Some(Naming::Guess) => return MessageVerdict::WaitForGuess,
            Some(Naming::Template(topic)) => {
                let (kind, pointers) = (self.kind(json), &self.rules.pointers);
                let matched = RuleMatch { rule, index, prefix: &self.prefix, topic, pointers, view, kind };
                (classified.class, classified.problem) = matched.collect_all(&self.rules.list, found);
            }
            None => classified.reply = rule.reply.as_ref().map(|reply| answer(reply, &view)),
        }
        let bind = rule.bind.as_ref().map(|bind| self.read_bind(bind, &view));
        if bind == Some(None) {
            classified.problem = Some(Unnamed::NoKey);
        }
        if classified.class != MessageClass::Data || classified.problem.is_some() {
            classified.rule = Some(self.rule_names[index].clone());
        }
        let mut free = String::new();
        let unbind = rule.unbind.as_ref().is_some_and(|key| write_key(key, &view, &mut free)).then_some(free);
        match (bind.flatten(), unbind) {
            (None, None) => MessageVerdict::Done(classified),
            (binds, unbinds) => MessageVerdict::Acked(Acknowledgement { classified, binds, unbinds }.into()),
        }
    }

    /// Applies a message's effects on those that wait; it may have to wait itself.
    fn conclude(
        &mut self,
        message: TextMessage<'_>,
        verdict: MessageVerdict,
        found: &FoundUpdates,
    ) -> Option<Classified> {
        let TextMessage { text, received, gap, .. } = message;
        let waiting = || Waiting { text: text.to_string(), received, gap };
        match verdict {
            MessageVerdict::Done(classified) if self.guess.is_some() => Some(self.second_look.judge(classified, text)),
            MessageVerdict::Done(classified) => Some(classified),
            MessageVerdict::WaitForKey => {
                self.unbound.push(Unbound { key: found.key.as_str().into(), waiting: waiting() });
                self.given_up.extend(std::iter::from_fn(|| self.unbound.overflow()));
                None
            }
            MessageVerdict::WaitForGuess => {
                if let Some(guess) = self.first.push(waiting()) {
                    self.settle_as(&guess);
                }
                None
            }
            MessageVerdict::Acked(acknowledgement) => {
                let Acknowledgement { mut classified, binds, unbinds } = *acknowledgement;
                unbinds.iter().for_each(|key| self.bindings.remove(key));
                let set = binds.map(|(key, values)| self.bindings.set(&key, values));
                self.newly_bound |= set == Some(Ok(()));
                classified.problem = classified.problem.or(set.and_then(Result::err));
                Some(classified)
            }
        }
    }

    /// No rule holds.
    fn judge_unknown(&self, message: TextMessage<'_>, found: &mut FoundUpdates) -> MessageVerdict {
        let TextMessage { text, json, gap, .. } = message;
        let (class, problem) = match (json, self.rules.decode.format) {
            (true, _) => (MessageClass::Unmatched, Unnamed::NoRule),
            (false, MessageFormat::Json) if is_too_deep(text) => (MessageClass::Garbled, Unnamed::TooDeep),
            (false, MessageFormat::Json) => (MessageClass::Garbled, Unnamed::NoJson { hint: looks::of_text(text) }),
            (false, MessageFormat::Irc) => (MessageClass::Garbled, Unnamed::NoIrc),
        };
        if let Some(topic) = &self.rules.unmatched {
            self.add_whole((Unruled::Unknown, topic), text.len(), self.kind(json), found);
        }
        MessageVerdict::Done(Classified { gap, problem: Some(problem), ..Classified::of(class) })
    }

    fn read_status(&self, (rule, index): (&Rule, usize), view: &View<'_>) -> Result<UpstreamStatus, Unnamed> {
        let number =
            rule.number.and_then(|field| view.number(field).ok().flatten()).and_then(|number| number.try_into().ok());
        let mut status = UpstreamStatus { topic: None, number, data_number: rule.data_number.clone() };
        if let Some(Naming::Template(topic)) = &rule.topic {
            let (pointers, kind) = (&self.rules.pointers, PayloadKind::Json);
            let matched = RuleMatch { rule, index, prefix: &self.prefix, topic, pointers, view: *view, kind };
            let mut name = String::new();
            matched.write_name(view, &mut name)?;
            status.topic = Some(name);
        }
        Ok(status)
    }

    fn read_bind(&self, bind: &Bind, view: &View<'_>) -> Option<(String, Box<Variables>)> {
        let mut key = String::new();
        let mut values: Box<Variables> = vec![None; self.rules.variables.len()].into();
        for (number, field) in &bind.set {
            values[*number] = view.look(*field).and_then(FieldValue::scalar).map(|value| value.into_owned().into());
        }
        write_key(&bind.key, view, &mut key).then_some((key, values))
    }

    fn view<'a>(&'a self, text: &'a str, json: bool) -> View<'a> {
        let form = match self.rules.decode.format {
            MessageFormat::Json => text,
            MessageFormat::Irc => &self.scratch.irc,
        };
        View { text, json: if json { form } else { "" }, found: &self.scratch.found, bound: None, element: None }
    }

    /// Kind of the payload, which is the text as received.
    fn kind(&self, json: bool) -> PayloadKind {
        if json && self.rules.decode.format == MessageFormat::Json { PayloadKind::Json } else { PayloadKind::Text }
    }

    /// When `tick` is due, on the monotonic clock in nanoseconds; none if it has nothing to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.first.deadline_ns().into_iter().chain(self.unbound.deadline_ns()).min()
    }

    /// Makes the guess if it is due, and gives up messages that have waited too long for their key. `next_waited`
    /// returns the released messages.
    pub fn tick(&mut self, now: Stamp) {
        self.given_up.extend(std::iter::from_fn(|| self.unbound.overdue(now.mono_ns)));
        if self.first.deadline_ns().is_some_and(|deadline| deadline <= now.mono_ns) {
            self.settle();
        }
    }

    /// Makes the guess from the messages at hand, logs it, and releases what waited. Without messages nothing happens.
    pub fn settle(&mut self) {
        if !self.first.is_empty() {
            self.settle_as(&self.first.guess());
        }
    }

    fn settle_as(&mut self, guess: &Guess) {
        tracing::warn!("{guess}");
        if let Some(changes) = &guess.changes {
            tracing::warn!("{changes}");
        }
        self.adopt_guess(guess);
    }

    /// Whether nothing has been guessed, and nothing waits for a guess.
    pub fn is_untouched(&self) -> bool {
        self.guess.is_none() && self.first.is_empty()
    }

    /// The guess, once it was made.
    pub fn guess(&self) -> Option<&Guess> {
        self.guess.as_ref()
    }

    /// Names topics by the guess of another connection, and releases what waited.
    pub fn adopt_guess(&mut self, guess: &Guess) {
        let settled = settle_guess(&mut self.rules, &guess.template());
        settled.expect("the guess writes only pointers that can be read");
        self.guess = Some(guess.clone());
        self.released.extend(self.first.take());
    }

    /// The key that is bound to these values on this connection, by the names of the profile's variables.
    pub fn bound_key(&self, wanted: &[(&str, &str)]) -> Option<&str> {
        let number = |name: &str| self.rules.variables.iter().position(|variable| variable == name);
        let wanted: Option<Vec<(usize, &str)>> =
            wanted.iter().map(|(name, value)| Some((number(name)?, *value))).collect();
        self.bindings.key(&wanted?)
    }
}

/// Messages published without a rule: positions of their treatments behind those of the rules.
#[derive(Clone, Copy)]
enum Unruled {
    Binary,
    Unknown,
}

#[cfg(test)]
mod tests;
