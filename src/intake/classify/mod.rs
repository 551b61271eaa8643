//! Takes a message from the upstream and says what it is; data is handed on to be published.
//!
//! No sockets and no clock: a function of the message, the time it came with and the messages before it on its
//! connection. A frame is unpacked and split first; each message in it is read once, and the first rule that holds
//! decides. Two kinds of messages wait: the first ones of a feed whose topics are still to be guessed (until 32 tell
//! enough, at most 512, 4 MiB or a few seconds), and those whose key no acknowledgement has bound yet (at most 64, 1 MiB
//! or 5 s). What waits is published in its order with the time it came at.
//!
//! Payloads are copied out of the message once. A slice would be free, but it would keep the socket's whole read
//! buffer alive for as long as the last-value cache holds one small value from it.

mod binding;
mod classified;
mod connection_sequence;
mod decode;
#[cfg(test)]
mod documented;
mod fill;
mod guess;
mod irc;
mod naming;
#[cfg(test)]
mod recordings;
mod waiting;

use std::sync::Arc;

use crate::intake::assemble::{Mode, Treatment, Update};
use crate::json::{FoundTokens, is_json, is_too_deep};
use crate::profile::Profile;
use crate::profile::compile::Scope;
use crate::profile::decode::MessageFormat;
use crate::profile::rule::{Bind, FieldValue, MessageClass, Naming, Rule, Rules, Variables, View};
use crate::protocol::encoding::PayloadKind;
use crate::words::stamp::Stamp;

use crate::intake::classify::binding::{BOUND_BYTES_MAX, Bindings, Unbound, UnboundQueue};
pub use crate::intake::classify::classified::{Classified, ConnectionGap, Unnamed, UpstreamStatus};
use crate::intake::classify::connection_sequence::ConnectionSequence;
use crate::intake::classify::fill::{Finding, answer, whole, write_key};
pub use crate::intake::classify::guess::Guess;
use crate::intake::classify::guess::{FALLBACK_TOPIC, guess};
use crate::intake::classify::waiting::{FirstMessages, Waiting};

/// Longest message that a compressed frame may hold if the profile names none: the default of the settings.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Whether a WebSocket message came as text or as binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// Where the sorter puts what it finds.
pub trait ClassifierSink {
    /// One thing of one topic, to be published.
    fn piece(&mut self, piece: &Update<'_>);
    /// One message is sorted; called once for each, after its frames are published. A frame may hold several, and what
    /// has waited is sorted during a later call.
    fn note(&mut self, sorted: &Classified, message: Incoming<'_>, received: Stamp);
}

/// The messages of one connection, sorted by a profile's rules.
pub struct Classifier {
    rules: Rules,
    rule_names: Vec<Arc<str>>,
    first: FirstMessages,
    guess: Option<Guess>,
    bindings: Bindings,
    unbound: UnboundQueue,
    order: Option<ConnectionSequence>,
    /// Binary messages that are no JSON are published on the fallback topic.
    takes_binary: bool,
    message_bytes_max: usize,
    scratch: Scratch,
}

/// Kept from message to message so that sorting allocates only what it publishes.
#[derive(Default)]
struct Scratch {
    found: FoundTokens,
    /// JSON form of an IRC message.
    irc: String,
    unpacked: Vec<u8>,
    names: TopicNames,
}

/// Texts that are written anew for each message.
#[derive(Default)]
struct TopicNames {
    key: String,
    topic: String,
}

/// What is to be done with a message.
enum MessageVerdict {
    WaitForKey,
    WaitForGuess,
    Done(Classified),
    /// An acknowledgement: the key that it binds and to what, the key that it sets free.
    Acked(Classified, Option<(String, Box<Variables>)>, Option<String>),
}

/// One message of a frame.
#[derive(Clone, Copy)]
struct FeedMessage<'a> {
    text: &'a str,
    received: Stamp,
    gap: Option<ConnectionGap>,
}

impl Classifier {
    pub fn new(profile: &Profile) -> Classifier {
        let rules = profile.rules.clone();
        Classifier {
            rule_names: rules.list.iter().map(|rule| rule.name.as_str().into()).collect(),
            order: rules.sequence.map(ConnectionSequence::new),
            rules,
            first: FirstMessages::default(),
            guess: None,
            bindings: Bindings::default(),
            unbound: UnboundQueue::default(),
            takes_binary: profile.name == "generic",
            message_bytes_max: profile.connect.message_bytes_max.unwrap_or(MESSAGE_BYTES_MAX),
            scratch: Scratch::default(),
        }
    }

    /// A new connection: nothing is bound on it, and its numbers begin anew. What waited for a key of the old one is
    /// counted as unmatched.
    pub fn reset(&mut self, sink: &mut dyn ClassifierSink) {
        while let Some(unbound) = self.unbound.pop() {
            give_up(unbound, sink);
        }
        self.bindings.clear();
        self.order.iter_mut().for_each(ConnectionSequence::reset);
    }

    /// Sorts one frame, publishes what it holds, and notes each of its messages that does not have to wait.
    pub fn sort(&mut self, frame: Incoming<'_>, received: Stamp, sink: &mut dyn ClassifierSink) {
        let bytes = match frame {
            Incoming::Text(text) => return self.sort_text(text, received, sink),
            Incoming::Binary(bytes) => bytes,
        };
        let mut unpacked = std::mem::take(&mut self.scratch.unpacked);
        match decode::unpack(self.rules.decode.binary, bytes, self.message_bytes_max, &mut unpacked) {
            Ok(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !self.takes_binary || is_json(text) => self.sort_text(text, received, sink),
                _ if self.takes_binary => {
                    let treatment = Treatment::default();
                    sink.piece(&whole(&treatment, FALLBACK_TOPIC, bytes, PayloadKind::Binary, received));
                    sink.note(&Classified::of(MessageClass::Data), Incoming::Binary(bytes), received);
                }
                _ => sink.note(&Classified::garbled(Unnamed::NoText), Incoming::Binary(bytes), received),
            },
            Err(problem) => sink.note(&Classified::garbled(problem), frame, received),
        }
        self.scratch.unpacked = unpacked;
    }

    fn sort_text(&mut self, text: &str, received: Stamp, sink: &mut dyn ClassifierSink) {
        if !self.rules.decode.lines {
            return self.sort_message(text, received, sink);
        }
        for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty())
        {
            self.sort_message(line, received, sink);
        }
    }

    fn sort_message(&mut self, text: &str, received: Stamp, sink: &mut dyn ClassifierSink) {
        let json = self.read(text);
        let gap = self.order.take().and_then(|mut order| {
            let gap = order.step(&self.view(text, json), received);
            self.order = Some(order);
            gap
        });
        let bound = self.decide(FeedMessage { text, received, gap }, json, sink);
        while bound && let Some(unbound) = self.unbound.bound(&self.bindings) {
            self.sort_waiting(&unbound.waiting, sink);
        }
    }

    /// Finds everything that the rules look at. False: the message has no JSON form.
    fn read(&mut self, text: &str) -> bool {
        let Scratch { found, irc, .. } = &mut self.scratch;
        match self.rules.decode.format {
            MessageFormat::Json => self.rules.pointers.locate(text, found),
            MessageFormat::Irc => irc::write(text, irc) && self.rules.pointers.locate(irc, found),
        }
    }

    /// Sorts a message that was read. True: a key was bound, so that others need not wait for it any longer.
    fn decide(&mut self, message: FeedMessage<'_>, json: bool, sink: &mut dyn ClassifierSink) -> bool {
        let mut names = std::mem::take(&mut self.scratch.names);
        let verdict = self.judge(message, json, &mut names, sink);
        let FeedMessage { text, received, gap } = message;
        let waiting = || Waiting { text: text.to_string(), received, gap };
        let mut bound = false;
        match verdict {
            MessageVerdict::WaitForKey => self.wait_for_key(&names.key, waiting(), sink),
            MessageVerdict::WaitForGuess => self.wait_for_guess(waiting(), sink),
            MessageVerdict::Done(sorted) => sink.note(&sorted, Incoming::Text(text), received),
            MessageVerdict::Acked(mut sorted, bind, unbind) => {
                unbind.iter().for_each(|key| self.bindings.remove(key));
                let set = bind.map(|(key, values)| self.bindings.set(&key, values));
                bound = set == Some(Ok(()));
                sorted.problem = sorted.problem.or(set.and_then(Result::err));
                sink.note(&sorted, Incoming::Text(text), received);
            }
        }
        self.scratch.names = names;
        bound
    }

    /// Finds the message's rule and publishes what it says.
    fn judge(
        &self,
        message: FeedMessage<'_>,
        json: bool,
        names: &mut TopicNames,
        sink: &mut dyn ClassifierSink,
    ) -> MessageVerdict {
        let view = self.view(message.text, json);
        let via = self.rules.bind_via.as_ref();
        let keyed = via.is_some_and(|via| write_key(via, &view, &mut names.key)) && names.key.len() <= BOUND_BYTES_MAX;
        let view = View { bound: self.bindings.get(&names.key).filter(|_| keyed), ..view };
        // Without JSON only a rule that looks at the text may speak.
        let holds = |rule: &Rule| (json || rule.looks_at_text()) && rule.holds(&view);
        let place = self.rules.list.iter().position(holds);
        // An acknowledgement may itself have a key that is not bound yet, so only data wait.
        let data = place.is_none_or(|place| self.rules.list[place].class == MessageClass::Data);
        if keyed && view.bound.is_none() && data {
            return MessageVerdict::WaitForKey;
        }
        let Some(place) = place else { return self.judge_unknown(message, json, sink) };
        let rule = &self.rules.list[place];
        let name = self.rule_names[place].clone();
        let mut sorted = Classified { rule: Some(name), gap: message.gap, ..Classified::of(rule.class) };
        match &rule.topic {
            _ if rule.class.is_state() => match self.read_state(rule, &view) {
                Ok(said) => sorted.said = Some(said),
                Err(problem) => (sorted.class, sorted.problem) = (MessageClass::Unmatched, Some(problem)),
            },
            Some(Naming::Guess) => return MessageVerdict::WaitForGuess,
            Some(Naming::Template(topic)) => {
                let kind = self.kind(json);
                let pointers = &self.rules.pointers;
                let finding = Finding { rule, topic, pointers, view, kind, received: message.received };
                (sorted.class, sorted.problem) = finding.emit(&mut names.topic, sink);
            }
            None => sorted.reply = rule.reply.as_ref().map(|reply| answer(reply, &view)),
        }
        let bind = rule.bind.as_ref().map(|bind| self.read_bind(bind, &view));
        if bind == Some(None) {
            sorted.problem = Some(Unnamed::NoKey);
        }
        let mut free = String::new();
        let unbind = rule.unbind.as_ref().is_some_and(|key| write_key(key, &view, &mut free)).then_some(free);
        match (bind.flatten(), unbind) {
            (None, None) => MessageVerdict::Done(sorted),
            (bind, unbind) => MessageVerdict::Acked(sorted, bind, unbind),
        }
    }

    /// No rule holds.
    fn judge_unknown(&self, message: FeedMessage<'_>, json: bool, sink: &mut dyn ClassifierSink) -> MessageVerdict {
        let (class, problem) = match (json, self.rules.decode.format) {
            (true, _) => (MessageClass::Unmatched, Unnamed::NoRule),
            (false, MessageFormat::Json) if is_too_deep(message.text) => (MessageClass::Garbled, Unnamed::TooDeep),
            (false, MessageFormat::Json) => (MessageClass::Garbled, Unnamed::NoJson),
            (false, MessageFormat::Irc) => (MessageClass::Garbled, Unnamed::NoIrc),
        };
        if let Some(topic) = &self.rules.unmatched {
            // Nobody knows what it is, so it is no value either.
            let treatment = Treatment { mode: Mode::Nothing, ..Treatment::default() };
            let bytes = message.text.as_bytes();
            let kind = self.kind(json);
            sink.piece(&whole(&treatment, topic, bytes, kind, message.received));
        }
        MessageVerdict::Done(Classified { gap: message.gap, problem: Some(problem), ..Classified::of(class) })
    }

    fn read_state(&self, rule: &Rule, view: &View<'_>) -> Result<UpstreamStatus, Unnamed> {
        let number =
            rule.number.and_then(|field| view.number(field).ok().flatten()).and_then(|number| number.try_into().ok());
        let mut said = UpstreamStatus { topic: None, number, data_number: rule.data_number.clone() };
        if let Some(Naming::Template(topic)) = &rule.topic {
            let (pointers, kind) = (&self.rules.pointers, PayloadKind::Json);
            let finding = Finding { rule, topic, pointers, view: *view, kind, received: Stamp::default() };
            let mut name = String::new();
            finding.write_name(view, &mut name)?;
            said.topic = Some(name);
        }
        Ok(said)
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

    /// What the payload is, which is the text as it came.
    fn kind(&self, json: bool) -> PayloadKind {
        if json && self.rules.decode.format == MessageFormat::Json { PayloadKind::Json } else { PayloadKind::Text }
    }

    fn sort_waiting(&mut self, waiting: &Waiting, sink: &mut dyn ClassifierSink) {
        let Waiting { text, received, gap } = waiting;
        let json = self.read(text);
        self.decide(FeedMessage { text, received: *received, gap: *gap }, json, sink);
    }

    fn wait_for_key(&mut self, key: &str, waiting: Waiting, sink: &mut dyn ClassifierSink) {
        self.unbound.push(Unbound { key: key.into(), waiting });
        while let Some(unbound) = self.unbound.overflow() {
            give_up(unbound, sink);
        }
    }

    fn wait_for_guess(&mut self, waiting: Waiting, sink: &mut dyn ClassifierSink) {
        self.first.push(waiting);
        if self.first.enough() {
            self.settle(sink);
        }
    }

    /// When `tick` wants to be called, on the monotonic clock in nanoseconds; none if it has nothing to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.first.deadline_ns().into_iter().chain(self.unbound.deadline_ns()).min()
    }

    /// Makes the guess if its time has come, and gives up what has waited for its key for too long.
    pub fn tick(&mut self, now: Stamp, sink: &mut dyn ClassifierSink) {
        while let Some(unbound) = self.unbound.overdue(now.mono_ns) {
            give_up(unbound, sink);
        }
        if self.first.deadline_ns().is_some_and(|deadline| deadline <= now.mono_ns) {
            self.settle(sink);
        }
    }

    /// Makes the guess from what there is, says it aloud, and publishes what waited. Without messages nothing happens.
    pub fn settle(&mut self, sink: &mut dyn ClassifierSink) {
        if self.first.is_empty() {
            return;
        }
        let guess = guess(&self.first.telling());
        tracing::warn!("{guess}");
        self.adopt_guess(&guess, sink);
    }

    /// Nothing has been guessed, and nothing waits for a guess.
    pub fn is_untouched(&self) -> bool {
        self.guess.is_none() && self.first.is_empty()
    }

    /// The guess, once it was made.
    pub fn guess(&self) -> Option<&Guess> {
        self.guess.as_ref()
    }

    /// TopicNames topics by a guess that another connection of the feed has made, and publishes what waited.
    pub fn adopt_guess(&mut self, guess: &Guess, sink: &mut dyn ClassifierSink) {
        let mut scope = Scope { rules: std::mem::take(&mut self.rules), ..Scope::default() };
        let template = scope.template(&guess.template(), None);
        let template = template.expect("the guess writes only pointers that can be read");
        for rule in scope.rules.list.iter_mut().filter(|rule| matches!(rule.topic, Some(Naming::Guess))) {
            rule.topic = Some(Naming::Template(template.clone()));
        }
        self.rules = scope.rules;
        self.guess = Some(guess.clone());
        for waiting in self.first.take() {
            self.sort_waiting(&waiting, sink);
        }
    }

    /// The key that is bound to these values on this connection, by the names of the profile's variables.
    pub fn bound_key(&self, wanted: &[(&str, &str)]) -> Option<&str> {
        let number = |name: &str| self.rules.variables.iter().position(|variable| variable == name);
        let wanted: Option<Vec<(usize, &str)>> =
            wanted.iter().map(|(name, value)| Some((number(name)?, *value))).collect();
        self.bindings.key(&wanted?)
    }
}

/// Counts a message whose key was not bound in time.
fn give_up(unbound: Unbound, sink: &mut dyn ClassifierSink) {
    let Unbound { key, waiting: Waiting { text, received, gap } } = unbound;
    let sorted = Classified { gap, problem: Some(Unnamed::Unbound { key }), ..Classified::of(MessageClass::Unmatched) };
    sink.note(&sorted, Incoming::Text(&text), received);
}

#[cfg(test)]
mod tests {
    use super::binding::BINDINGS_MAX;
    use super::waiting::{GUESS_NS, GUESS_SLOW_NS};
    use super::*;
    use crate::json::ELEMENTS_MAX;
    use crate::profile::{Profile, check};

    /// Everything a sorter does, as lines.
    #[derive(Default)]
    struct ClassifierLines(Vec<String>);

    impl ClassifierSink for ClassifierLines {
        fn piece(&mut self, piece: &Update<'_>) {
            let Update { topic, kind, received, .. } = piece;
            let bytes = if piece.treatment.emit_element { piece.element } else { piece.message };
            let mut line = format!("{topic} {} {kind:?} at {}", String::from_utf8_lossy(bytes), received.wall_ms);
            let numbers = piece.numbers.unwrap_or_default();
            for (name, number) in [("first", numbers.first), ("prev", numbers.prev), ("last", numbers.last)] {
                line += &number.map(|number| format!(" {name} {number}")).unwrap_or_default();
            }
            line += if piece.snapshot { " snapshot" } else { "" };
            self.0.push(line);
        }

        fn note(&mut self, sorted: &Classified, _: Incoming<'_>, _: Stamp) {
            let problem = sorted.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            let reply = sorted.reply.as_ref().map(|reply| format!(" answered with {reply}")).unwrap_or_default();
            let gap = sorted.gap.map(|gap| {
                let missed = gap.missed.map_or("some".to_string(), |missed| missed.to_string());
                format!(" after {missed} missing: {:?}", gap.remedy)
            });
            self.0.push(format!("{}{reply}{}{problem}", sorted.class.label(), gap.unwrap_or_default()));
        }
    }

    fn at(ms: u64) -> Stamp {
        Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
    }

    fn sorted(profile: &Profile, message: Incoming<'_>) -> Vec<String> {
        let mut lines = ClassifierLines::default();
        Classifier::new(profile).sort(message, at(7), &mut lines);
        lines.0
    }

    #[test]
    fn a_missing_topic_is_told_with_its_place() {
        let profile = Profile::generic_with_topic("/data/s").expect("right");
        for (text, expected) in [
            (r#"{"data":{"s":1}}"#, "unmatched: expected a topic at `/data/s`, found a number"),
            (r#"{"data":{"s":null}}"#, "unmatched: expected a topic at `/data/s`, found null"),
            (r#"{"data":{"s":""}}"#, "unmatched: expected a topic at `/data/s`, found an empty string"),
            (r#"{"data":3}"#, "unmatched: expected a topic at `/data/s`, found nothing"),
            ("{", "garbled: expected JSON, found other text"),
        ] {
            assert_eq!(sorted(&profile, Incoming::Text(text)), [expected], "{text}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let expected = "garbled: expected JSON of at most 127 levels, found more: \
                        a program that reads it as a tree may refuse it";
        assert_eq!(sorted(&profile, Incoming::Text(&deep)), [expected]);
        let brackets = format!(r#""{}" x"#, "[".repeat(200));
        assert_eq!(sorted(&profile, Incoming::Text(&brackets)), ["garbled: expected JSON, found other text"]);
        let long = format!(r#"{{"data":{{"s":"{}"}}}}"#, "x".repeat(300));
        assert!(sorted(&profile, Incoming::Text(&long))[0].contains("at most 256 bytes, found 300"));
        let usable = sorted(&profile, Incoming::Text(r#"{"data":{"s":"XBT USD"}}"#));
        assert_eq!(usable, [r#"XBT_USD {"data":{"s":"XBT USD"}} Json at 7"#, "data"]);
    }

    #[test]
    fn binary_messages_are_json_or_nothing_but_for_generic() {
        let simulated = Profile::built_in("simulated").expect("built in");
        let json = br#"{"topic":"a"}"#;
        assert_eq!(sorted(&simulated, Incoming::Binary(json)), [r#"a {"topic":"a"} Json at 7"#, "data"]);
        let garbled = ["garbled: expected JSON in UTF-8, found other bytes"];
        assert_eq!(sorted(&simulated, Incoming::Binary(&[0xFF])), garbled);
        assert_eq!(sorted(&simulated, Incoming::Binary(b"text")), ["garbled: expected JSON, found other text"]);
        let generic = Profile::built_in("generic").expect("built in");
        assert_eq!(sorted(&generic, Incoming::Binary(b"\x01")), ["feed \u{1} Binary at 7", "data"]);
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let text = r#"
            profile = 1
            name = "x"
            [[on]]
            name = "hello"
            as = "info"
            when = ['text ^= "hello"']
            [[on]]
            name = "prices"
            as = "data"
            when = ['/prices is object']
            each = "/prices/*"
            topic = "${/kind|upper}.${#}"
            emit = "element"
            [[on]]
            name = "batch"
            as = "data"
            when = ['/batch exists']
            each = "/batch/*"
            topic = "${./s}"
            [[on]]
            name = "rest"
            as = "ignore"
            when = ['/kind exists']
        "#;
        let profile = check(text, "x.toml").expect("right");
        for (text, expected) in [
            ("hello world", vec!["info"]),
            ("goodbye", vec!["garbled: expected JSON, found other text"]),
            (
                r#"{"kind":"mid","prices":{"A":1.50,"B":"2"}}"#,
                vec!["MID.A 1.50 Json at 7", r#"MID.B "2" Json at 7"#, "data"],
            ),
            (r#"{"prices":{"A":1}}"#, vec!["unmatched: expected a topic at `/kind`, found nothing"]),
            (r#"{"batch":[]}"#, vec!["data"]),
            (
                r#"{"batch":[{"s":"A"},{"s":9}]}"#,
                vec![r#"A {"batch":[{"s":"A"},{"s":9}]} Json at 7"#, "data: expected a topic at `./s`, found a number"],
            ),
            (r#"{"kind":1}"#, vec!["ignore"]),
            (
                "7",
                vec![
                    "unmatched: expected a message that a rule knows, found another; \
                     add a rule, if need be with `as = \"ignore\"`",
                ],
            ),
        ] {
            assert_eq!(sorted(&profile, Incoming::Text(text)), expected, "{text}");
        }
    }

    #[test]
    fn what_waits_for_the_guess_is_published_in_order_with_its_own_time() {
        let mut sorter = Classifier::new(&Profile::built_in("generic").expect("built in"));
        let mut lines = ClassifierLines::default();
        let text = |n: u64| format!(r#"{{"s":"A{n}"}}"#);
        assert_eq!(sorter.deadline_ns(), None);
        for n in 0..4 {
            sorter.sort(Incoming::Text(&text(n)), at(n), &mut lines);
            let wait = if n < 3 { GUESS_SLOW_NS } else { GUESS_NS };
            assert_eq!(sorter.deadline_ns(), Some(wait), "a guess from few messages waits longer");
        }
        sorter.tick(at(1999), &mut lines);
        assert_eq!(lines.0, [""; 0]);
        sorter.tick(at(2000), &mut lines);
        let expected: Vec<String> =
            (0..4).flat_map(|n| [format!("A{n} {} Json at {n}", text(n)), "data".to_string()]).collect();
        assert_eq!(lines.0, expected);
        assert_eq!(sorter.deadline_ns(), None);
        sorter.sort(Incoming::Text(&text(9)), at(9), &mut lines);
        assert_eq!(lines.0.last().map(String::as_str), Some("data"), "from now on nothing waits");
    }

    /// What a sorter of this profile does with these frames, each a second after the other.
    fn conversation(profile: &str, frames: &[&str]) -> Vec<String> {
        let text = format!("profile = 1\nname = \"x\"\n{profile}");
        let mut sorter = Classifier::new(&check(&text, "x.toml").expect("right"));
        let mut lines = ClassifierLines::default();
        for (second, frame) in (0u64..).zip(frames) {
            sorter.tick(at(second * 1000), &mut lines);
            sorter.sort(Incoming::Text(frame), at(second * 1000), &mut lines);
        }
        lines.0
    }

    const BOUND: &str = r#"
        bind_via = "${/0}"
        [[on]]
        name = "subscribed"
        as = "ack"
        when = ['/event == "subscribed"']
        bind = { key = "${/chanId}", set = { channel = "/channel", symbol = "/symbol" } }
        [[on]]
        name = "unsubscribed"
        as = "ack"
        when = ['/event == "unsubscribed"']
        unbind = "${/chanId}"
        [[on]]
        name = "beat"
        as = "heartbeat"
        when = ['/1 == "hb"']
        [[on]]
        name = "book"
        as = "data"
        when = ['=channel == "book"']
        topic = "book.${=symbol|strip:t}"
        [[on]]
        name = "other"
        as = "data"
        when = ['=channel exists']
        topic = "${=channel}.${=symbol|or:all}"
    "#;

    #[test]
    fn keys_stand_for_what_the_acknowledgement_said() {
        let book = r#"{"event":"subscribed","chanId":5,"channel":"book","symbol":"tBTCUSD"}"#;
        let lines = conversation(
            BOUND,
            &[
                book,
                "[5,[1,2]]",
                r#"{"event":"subscribed","chanId":6,"channel":"status"}"#,
                "[6,[3]]",
                r#"{"event":"unsubscribed","chanId":5}"#,
                r#"{"event":"subscribed","chanId":6,"channel":"ticker","symbol":"tETHUSD"}"#,
                "[6,[4]]",
                "{}",
            ],
        );
        let no_rule = format!("unmatched: {}", Unnamed::NoRule);
        assert_eq!(
            lines,
            [
                "ack",
                "book.BTCUSD [5,[1,2]] Json at 1000",
                "data",
                "ack",
                "status.all [6,[3]] Json at 3000",
                "data",
                "ack",
                "ack",
                "ticker.tETHUSD [6,[4]] Json at 6000",
                "data",
                &no_rule,
            ]
        );
    }

    #[test]
    fn data_wait_for_their_acknowledgement_in_order_but_not_for_ever() {
        let ack = r#"{"event":"subscribed","chanId":5,"channel":"book","symbol":"A"}"#;
        let lines = conversation(BOUND, &["[5,1]", "[6,2]", r#"[6,"hb"]"#, "[5,3]", ack, "[5,4]", "{}", "{}"]);
        let unbound =
            "unmatched: expected an acknowledgement that binds `6`, found none within 5 s or 64 waiting messages";
        let no_rule = format!("unmatched: {}", Unnamed::NoRule);
        assert_eq!(
            lines,
            [
                "heartbeat",
                "ack",
                "book.A [5,1] Json at 0",
                "data",
                "book.A [5,3] Json at 3000",
                "data",
                "book.A [5,4] Json at 5000",
                "data",
                unbound,
                &no_rule,
                &no_rule,
            ]
        );
        let many: Vec<String> = (0..70).map(|n| format!("[7,{n}]")).collect();
        let mut sorter =
            Classifier::new(&check(&format!("profile = 1\nname = \"x\"\n{BOUND}"), "x.toml").expect("right"));
        let mut lines = ClassifierLines::default();
        many.iter().for_each(|text| sorter.sort(Incoming::Text(text), at(0), &mut lines));
        assert_eq!(lines.0.len(), 6, "the oldest wait no longer");
        sorter.sort(Incoming::Text(&format!("[7,\"{}\"]", "x".repeat(2 << 20))), at(0), &mut lines);
        assert_eq!(lines.0.len(), 71, "nothing fits beside what is too long");
        sorter.sort(Incoming::Text("[7,1]"), at(0), &mut lines);
        sorter.reset(&mut lines);
        assert_eq!(lines.0.len(), 72, "every message is counted");
        assert_eq!(sorter.deadline_ns(), None);
    }

    #[test]
    fn a_new_connection_knows_no_keys_and_no_numbers() {
        let text = format!(
            "profile = 1\nname = \"x\"\nseq = {{ scope = \"connection\", rule = \"inc\", last = \"/-1\" }}\n{BOUND}"
        );
        let mut sorter = Classifier::new(&check(&text, "x.toml").expect("right"));
        let mut lines = ClassifierLines::default();
        let ack = r#"{"event":"subscribed","chanId":"5","channel":"book","symbol":"tA"}"#;
        for text in [ack, "[5,0,7]", "[5,0,8]"] {
            sorter.sort(Incoming::Text(text), at(0), &mut lines);
        }
        assert_eq!(sorter.bound_key(&[("symbol", "tA"), ("channel", "book")]), Some("5"));
        assert_eq!(sorter.bound_key(&[("symbol", "tB")]), None);
        assert_eq!(sorter.bound_key(&[("pair", "tA")]), None);
        sorter.reset(&mut lines);
        assert_eq!(sorter.bound_key(&[("symbol", "tA")]), None);
        sorter.sort(Incoming::Text(ack), at(0), &mut lines);
        sorter.sort(Incoming::Text("[5,0,1]"), at(0), &mut lines);
        sorter.sort(Incoming::Text("[5,0,4]"), at(0), &mut lines);
        assert_eq!(lines.0[lines.0.len() - 1], "data after 2 missing: Mark", "{:?}", lines.0);
        assert_eq!(lines.0.iter().filter(|line| line.contains("missing")).count(), 1);
    }

    #[test]
    fn the_numbers_of_a_connection_tell_what_is_missing() {
        let rule = "[[on]]\nname = \"all\"\nas = \"info\"\nwhen = ['text is object']\n";
        for (seq, frames, expected) in [
            (
                r#"rule = "inc", last = "/n", gap = "reconnect""#,
                vec![r#"{"n":1}"#, r#"{"n":"2"}"#, "{}", r#"{"n":2}"#, r#"{"n":5}"#, r#"{"n":6}"#, r#"{"n":0}"#],
                vec![
                    "info",
                    "info",
                    "info",
                    "info",
                    "info after 2 missing: Reconnect",
                    "info",
                    "info after some missing: Reconnect",
                ],
            ),
            (
                r#"rule = "range", first = "/U", last = "/u""#,
                vec![r#"{"U":1,"u":4}"#, r#"{"U":5,"u":5}"#, r#"{"U":8,"u":9}"#],
                vec!["info", "info", "info after some missing: Mark"],
            ),
            (
                r#"rule = "prev", prev = "/p", last = "/n""#,
                vec![r#"{"p":-1,"n":4}"#, r#"{"p":4,"n":9}"#, r#"{"p":10,"n":12}"#],
                vec!["info", "info", "info after some missing: Mark"],
            ),
            (r#"rule = "inc", last = "/n", gap = "ignore""#, vec![r#"{"n":1}"#, r#"{"n":9}"#], vec!["info", "info"]),
            (
                r#"rule = "monotonic", last = "/n""#,
                vec![r#"{"n":1}"#, r#"{"n":9}"#, r#"{"n":3}"#],
                vec!["info", "info", "info"],
            ),
        ] {
            let profile = format!("seq = {{ scope = \"connection\", {seq} }}\n{rule}");
            assert_eq!(conversation(&profile, &frames), expected, "{seq}");
        }
    }

    #[test]
    fn pieces_know_their_numbers_and_whether_they_are_snapshots() {
        let profile = r#"
            [[on]]
            name = "books"
            as = "data"
            when = ['/ch == "book"']
            each = "/data/*"
            topic = "${./s}"
            emit = "element"
            seq = { rule = "prev", prev = "./p", last = "./u" }
            snapshot_when = ['/type == "snapshot"', './full exists']
            [[on]]
            name = "depth"
            as = "data"
            when = ['/U exists']
            topic = "${/s}"
            seq = { rule = "range", first = "/U", last = "/d/u" }
            snapshot_when = ['/p == -1']
        "#;
        let lines = conversation(
            profile,
            &[
                r#"{"ch":"book","type":"snapshot","data":[{"s":"A","p":-1,"u":7,"full":1},{"s":"B","u":"9007199254740993"}]}"#,
                r#"{"s":"A","U":1,"d":{"u":"x"},"p":-1}"#,
                r#"{"s":"A","U":18446744073709551615,"d":{"u":1.5}}"#,
                r#"{"s":"A","U":8.0,"d":{"u":9223372036854775808}}"#,
                r#"{"s":"A","U":null,"d":{}}"#,
            ],
        );
        let unread = "data: expected a whole number below 2^64 where the rule's `seq` points to, found something else; \
                      the message is published as one without a number";
        assert_eq!(
            lines,
            [
                r#"A {"s":"A","p":-1,"u":7,"full":1} Json at 0 prev -1 last 7 snapshot"#,
                r#"B {"s":"B","u":"9007199254740993"} Json at 0 last 9007199254740993"#,
                "data",
                r#"A {"s":"A","U":1,"d":{"u":"x"},"p":-1} Json at 1000 first 1 snapshot"#,
                unread,
                r#"A {"s":"A","U":18446744073709551615,"d":{"u":1.5}} Json at 2000 first 18446744073709551615"#,
                unread,
                r#"A {"s":"A","U":8.0,"d":{"u":9223372036854775808}} Json at 3000 first 8 last 9223372036854775808"#,
                "data",
                r#"A {"s":"A","U":null,"d":{}} Json at 4000"#,
                "data",
            ]
        );
    }

    #[test]
    fn wildcards_go_through_arrays_and_maps() {
        let profile = r#"
            [[on]]
            name = "nested"
            as = "data"
            when = ['/events exists']
            each = "/events/*/tickers/*"
            topic = "${/channel}.${#|or:none}.${./p|or:none}"
            emit = "element"
            [[on]]
            name = "list"
            as = "data"
            each = "/*"
            topic = "${./ev}.${./sym}"
            emit = "element"
        "#;
        let lines = conversation(
            profile,
            &[
                r#"{"channel":"t","events":[{"tickers":[{"p":"A"},{"p":"B"}]},{"tickers":[]},{"tickers":{"K":{"p":"C"}}}]}"#,
                r#"{"channel":"t","events":{"X":{"tickers":[{"p":"A"}]},"Y":{"tickers":{"K":1}}}}"#,
                r#"[{"ev":"T","sym":"A"},{"ev":"Q","sym":"B"},7]"#,
            ],
        );
        let last = "data: expected a topic at `./ev`, found nothing";
        assert_eq!(
            lines,
            [
                r#"t.none.A {"p":"A"} Json at 0"#,
                r#"t.none.B {"p":"B"} Json at 0"#,
                r#"t.K.C {"p":"C"} Json at 0"#,
                "data",
                r#"t.X.A {"p":"A"} Json at 1000"#,
                "t.K.none 1 Json at 1000",
                "data",
                r#"T.A {"ev":"T","sym":"A"} Json at 2000"#,
                r#"Q.B {"ev":"Q","sym":"B"} Json at 2000"#,
                last,
            ]
        );
        let long = format!("[{}7]", "{},".repeat(ELEMENTS_MAX));
        let expected = "unmatched: expected a topic at `./ev`, found nothing";
        assert_eq!(conversation(profile, &[&long]), [expected], "elements beyond the limit cost nothing");
    }

    #[test]
    fn lines_of_a_frame_are_messages_and_irc_has_a_form_for_rules() {
        let profile = r##"
            [decode]
            split = "lines"
            format = "irc"
            [[on]]
            name = "ping"
            as = "ping"
            when = ['/command == "PING"']
            reply = "PONG :${/params/0|text}"
            [[on]]
            name = "hello"
            as = "greeting"
            when = ['/command == "001"']
            [[on]]
            name = "chat"
            as = "data"
            when = ['/command == "PRIVMSG"', 'text ~= "PRIVMSG"']
            topic = "chat.${/params/0}"
        "##;
        let chat = "@id=1 :n!u@h PRIVMSG #rust :hi";
        let lines = conversation(profile, &[&format!(":s 001 me :Hi\r\n{chat}\r\n\r\nPING :tmi \"x\"\n"), "@", ""]);
        assert_eq!(
            lines,
            [
                "greeting",
                "chat.#rust @id=1 :n!u@h PRIVMSG #rust :hi Text at 0",
                "data",
                "ping answered with PONG :tmi \"x\"",
                "garbled: expected an IRC message, found other text",
            ]
        );
    }

    #[test]
    fn compressed_frames_are_unpacked() {
        let profile = |binary: &str| {
            let text = format!(
                "profile = 1\nname = \"x\"\n[connect]\nmax_message = 1000\n[decode]\nbinary = \"{binary}\"\n\
                 [[on]]\nname = \"ping\"\nas = \"ping\"\nwhen = ['/ping exists']\nreply = '{{\"pong\":${{/ping}},\"x\":${{/x}}}}'\n"
            );
            check(&text, "x.toml").expect("right")
        };
        let gzip = |bytes: &[u8]| {
            use std::io::Write;
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect("memory");
            encoder.finish().expect("memory")
        };
        let ping = gzip(br#"{"ping":1618678073643123456789}"#);
        let answered = [r#"ping answered with {"pong":1618678073643123456789,"x":null}"#];
        assert_eq!(sorted(&profile("gzip"), Incoming::Binary(&ping)), answered);
        let bomb = gzip(&[b' '; 100_000]);
        let too_big = "garbled: expected at most 1000 bytes in a compressed message, found more; \
                       raise `connect.max_message` in the profile, or `upstream.message_bytes_max` if the profile has none";
        assert_eq!(sorted(&profile("gzip"), Incoming::Binary(&bomb)), [too_big]);
        let not =
            "garbled: expected zlib in a binary message, found other bytes; say what it holds with `decode.binary`";
        assert_eq!(sorted(&profile("zlib"), Incoming::Binary(&ping)), [not]);
        let rejected = "garbled: expected text messages, found a binary one; say what it holds with `decode.binary`";
        assert_eq!(sorted(&profile("reject"), Incoming::Binary(&ping)), [rejected]);
    }

    #[test]
    fn names_go_through_tables_and_what_is_unknown_may_be_published() {
        let profile = r#"
            unmatched = "topic:raw.x"
            [alias.coins]
            "e62d" = "BTC/USD"
            [[on]]
            name = "prices"
            as = "data"
            when = ['/id exists']
            topic = "${/id|map:coins}${/venue?.${/venue|lower}}"
        "#;
        let no_rule = format!("unmatched: {}", Unnamed::NoRule);
        assert_eq!(
            conversation(profile, &[r#"{"id":"e62d"}"#, r#"{"id":"x","venue":"B"}"#, "[1]", "Hello"]),
            [
                r#"BTC/USD {"id":"e62d"} Json at 0"#,
                "data",
                r#"x.b {"id":"x","venue":"B"} Json at 1000"#,
                "data",
                "raw.x [1] Json at 2000",
                &no_rule,
                "raw.x Hello Text at 3000",
                "garbled: expected JSON, found other text",
            ]
        );
    }

    #[test]
    fn another_connection_names_topics_by_the_same_guess() {
        let generic = Profile::built_in("generic").expect("built in");
        let (mut one, mut other, mut lines) =
            (Classifier::new(&generic), Classifier::new(&generic), ClassifierLines::default());
        for n in 0..4 {
            one.sort(Incoming::Text(&format!(r#"{{"s":"A{n}","x":{n}}}"#)), at(0), &mut lines);
        }
        one.settle(&mut lines);
        let guess = one.guess().expect("made").clone();
        let mut lines = ClassifierLines::default();
        other.sort(Incoming::Text(r#"{"s":"B","x":0}"#), at(0), &mut lines);
        other.adopt_guess(&guess, &mut lines);
        other.sort(Incoming::Text(r#"{"s":"C","x":0}"#), at(1), &mut lines);
        assert_eq!(lines.0, [r#"B {"s":"B","x":0} Json at 0"#, "data", r#"C {"s":"C","x":0} Json at 1"#, "data"]);
    }

    #[test]
    fn what_cannot_be_bound_is_told() {
        let long = format!(r#"{{"event":"subscribed","chanId":1,"channel":"{}"}}"#, "x".repeat(300));
        assert_eq!(
            conversation(BOUND, &[r#"{"event":"subscribed","chanId":null}"#, &long]),
            [
                "ack: expected a key to bind, found none",
                "ack: expected a key and values of at most 256 bytes to bind, found 300",
            ]
        );
        let acks: Vec<String> =
            (0..=BINDINGS_MAX).map(|n| format!(r#"{{"event":"subscribed","chanId":{n}}}"#)).collect();
        let acks: Vec<&str> = acks.iter().map(String::as_str).collect();
        let last = "ack: expected at most 4096 bound keys on a connection, found more; unsubscribe from some";
        assert_eq!(conversation(BOUND, &acks).iter().filter(|line| *line != "ack").collect::<Vec<_>>(), [last]);
    }
}
