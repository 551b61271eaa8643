//! Takes a message from the upstream and says what it is; data is handed on to be published.
//!
//! No sockets and no clock: a function of the message, the time it came with and the messages before it. While the
//! topic is still to be guessed, data messages wait (until 32 tell enough, at most 512, 4 MiB or a few seconds); they are published
//! then, in their order, with the time they came at.
//!
//! Payloads are copied out of the message once. A slice would be free, but it would keep the socket's whole read
//! buffer alive for as long as the last-value cache holds one small value from it.

mod fill;
mod guess;
mod naming;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod recordings;

use std::sync::Arc;

use crate::intake::flow::{Piece, Treatment};
use crate::wire::encode::PayloadKind;
use crate::wire::json::is_json;
use crate::words::stamp::Stamp;
use crate::words::topic::TopicError;

use self::fill::{Message, Scratch, answer, emit};
use self::guess::{FALLBACK_TOPIC, Guess, guess, is_control};
use crate::intake::profile::Profile;
use crate::intake::profile::compile;
use crate::intake::profile::rule::{Class, Field, Naming, Rules, Test};

/// Enough to see what most messages have in common; those about the connection do not count.
const GUESS_MESSAGES: usize = 32;
/// Messages that wait at most, those about the connection included.
const WAITING_MAX: usize = 512;
const GUESS_BYTES: usize = 4 << 20;
/// A guess is made this long after the first message, if there are at least `GUESS_MESSAGES_FEW`.
const GUESS_NS: u64 = 2_000_000_000;
const GUESS_MESSAGES_FEW: usize = 4;
/// On a slow feed a guess is made after this, however few messages there are.
const GUESS_SLOW_NS: u64 = 10_000_000_000;

/// Whether a WebSocket message came as text or as binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorted {
    pub class: Class,
    /// Name of the rule that decided.
    pub rule: Option<Arc<str>>,
    /// What to answer.
    pub reply: Option<String>,
    /// Why the class is `Unmatched` or `Garbled`, or which elements of a batch could not be named.
    pub problem: Option<Unnamed>,
}

/// Why a message or an element has no topic. Shown to people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    #[error("expected a topic at `{pointer}`, found {found}")]
    Wanting { pointer: String, found: &'static str },
    #[error("expected a usable topic from the rule's template: {0}")]
    Unusable(#[from] TopicError),
    #[error("expected a message that a rule knows, found another; add a rule, if need be with `as = \"ignore\"`")]
    NoRule,
    #[error("expected JSON, found other text")]
    NoJson,
    #[error("expected JSON in UTF-8, found other bytes")]
    NoText,
}

/// Where the sorter puts what it finds.
pub trait Sink {
    /// One thing of one topic, to be published.
    fn piece(&mut self, piece: &Piece<'_>);
    /// One message is sorted; called once for each, after its frames are published.
    fn note(&mut self, sorted: &Sorted, message: Incoming<'_>, received: Stamp);
}

/// The upstream's messages, sorted by a profile's rules. Lives as long as the upstream, across its connections.
pub struct Sorter {
    rules: Rules,
    rule_names: Vec<Arc<str>>,
    /// Messages that wait for the guess; empty once it is made, or if the profile needs none.
    waiting: Vec<(String, Stamp)>,
    waiting_bytes: usize,
    /// Those of the waiting messages that are not about the connection.
    telling: usize,
    guess: Option<Guess>,
    /// Binary messages that are no JSON are published on the fallback topic.
    takes_binary: bool,
    scratch: Scratch,
}

impl Sorter {
    pub fn new(profile: &Profile) -> Sorter {
        let rules = profile.rules.clone();
        Sorter {
            rule_names: rules.list.iter().map(|rule| rule.name.as_str().into()).collect(),
            rules,
            waiting: Vec::new(),
            waiting_bytes: 0,
            telling: 0,
            guess: None,
            takes_binary: profile.name == "generic",
            scratch: Scratch::default(),
        }
    }

    /// Sorts one message and publishes what it holds. None: the message waits for the guess.
    pub fn sort(&mut self, message: Incoming<'_>, received: Stamp, sink: &mut dyn Sink) -> Option<Sorted> {
        let (text, from_text) = match message {
            Incoming::Text(text) => (Some(text), true),
            Incoming::Binary(bytes) => (std::str::from_utf8(bytes).ok(), false),
        };
        let sorted = match text.map(|text| (text, is_json(text))) {
            Some((text, true)) => self.sort_text(text, true, received, sink)?,
            Some((text, false)) if from_text => self.sort_text(text, false, received, sink)?,
            _ => self.sort_binary(message, received, sink),
        };
        sink.note(&sorted, message, received);
        Some(sorted)
    }

    fn sort_binary(&mut self, message: Incoming<'_>, received: Stamp, sink: &mut dyn Sink) -> Sorted {
        match message {
            Incoming::Binary(bytes) if self.takes_binary => {
                sink.piece(&Piece {
                    treatment: &Treatment::default(),
                    topic: FALLBACK_TOPIC,
                    message: bytes,
                    kind: PayloadKind::Binary,
                    element: bytes,
                    numbers: None,
                    snapshot: false,
                    received,
                });
                Sorted::unruled(Class::Data, None)
            }
            _ => Sorted::unruled(Class::Garbled, Some(Unnamed::NoText)),
        }
    }

    fn sort_text(&mut self, text: &str, json: bool, received: Stamp, sink: &mut dyn Sink) -> Option<Sorted> {
        self.rules.pointers.locate(if json { text } else { "" }, &mut self.scratch.found);
        let held = self.rules.list.iter().position(|rule| {
            // Without JSON only a rule that looks at the text may speak.
            (json || rule.when.iter().any(Test::looks_at_text)) && rule.holds(text, &self.scratch.found)
        });
        let Some(place) = held else {
            let (class, problem) =
                if json { (Class::Unmatched, Unnamed::NoRule) } else { (Class::Garbled, Unnamed::NoJson) };
            return Some(Sorted::unruled(class, Some(problem)));
        };
        let rule = &self.rules.list[place];
        let name = self.rule_names[place].clone();
        let mut sorted = Sorted { class: rule.class, rule: Some(name), reply: None, problem: None };
        match (&rule.topic, &rule.reply) {
            (Some(Naming::Guess), _) => {
                self.wait(text, received, sink);
                return None;
            }
            (Some(Naming::Template(topic)), _) => {
                let kind = if json { PayloadKind::Json } else { PayloadKind::Text };
                let message = Message { text, kind, received };
                let whole = &self.rules.pointers;
                (sorted.class, sorted.problem) = emit(rule, topic, whole, &mut self.scratch, message, sink);
            }
            (None, Some(reply)) => sorted.reply = Some(answer(reply, text, &self.scratch.found)),
            (None, None) => {}
        }
        Some(sorted)
    }

    fn wait(&mut self, text: &str, received: Stamp, sink: &mut dyn Sink) {
        self.waiting.push((text.to_string(), received));
        self.waiting_bytes += text.len();
        self.telling += usize::from(!is_control(text));
        let enough = self.telling >= GUESS_MESSAGES;
        if enough || self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= GUESS_BYTES {
            self.settle(sink);
        }
    }

    /// When `tick` wants to be called, on the monotonic clock in nanoseconds; none if it has nothing to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        let (_, first) = self.waiting.first()?;
        Some(first.mono_ns + if self.telling >= GUESS_MESSAGES_FEW { GUESS_NS } else { GUESS_SLOW_NS })
    }

    /// Makes the guess if its time has come.
    pub fn tick(&mut self, now: Stamp, sink: &mut dyn Sink) {
        if self.deadline_ns().is_some_and(|deadline| deadline <= now.mono_ns) {
            self.settle(sink);
        }
    }

    /// Makes the guess from what there is, says it aloud, and publishes what waited. Without messages nothing happens.
    pub fn settle(&mut self, sink: &mut dyn Sink) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        let texts: Vec<&str> = waiting.iter().map(|(text, _)| text.as_str()).filter(|text| !is_control(text)).collect();
        let guess = guess(&texts);
        tracing::warn!("{guess}");
        self.adopt(&guess);
        self.guess = Some(guess);
        for (text, received) in &waiting {
            self.sort(Incoming::Text(text), *received, sink);
        }
    }

    /// The guess, once it was made.
    pub fn guess(&self) -> Option<&Guess> {
        self.guess.as_ref()
    }

    /// Puts the guessed topic into the rules that wait for it.
    fn adopt(&mut self, guess: &Guess) {
        let made = compile::topic_rules(&guess.template()).expect("the guess writes only pointers that can be read");
        let topic = made.list.first().and_then(|rule| rule.topic.clone());
        let Some(Naming::Template(template)) = topic else {
            unreachable!("topic_rules makes one rule with a template")
        };
        let template = template.map_sources(|field| match field {
            Field::Whole(slot) => Field::Whole(self.rules.pointers.add(made.pointers.pointer(*slot))),
            other => *other,
        });
        for rule in &mut self.rules.list {
            if matches!(rule.topic, Some(Naming::Guess)) {
                rule.topic = Some(Naming::Template(template.clone()));
            }
        }
    }
}

impl Sorted {
    fn unruled(class: Class, problem: Option<Unnamed>) -> Sorted {
        Sorted { class, rule: None, reply: None, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::profile::{Profile, check};

    /// Everything a sorter does, as lines.
    #[derive(Default)]
    struct Lines(Vec<String>);

    impl Sink for Lines {
        fn piece(&mut self, piece: &Piece<'_>) {
            let Piece { topic, kind, received, .. } = piece;
            let bytes = if piece.treatment.emit_element { piece.element } else { piece.message };
            self.0.push(format!("{topic} {} {kind:?} at {}", String::from_utf8_lossy(bytes), received.wall_ms));
        }

        fn note(&mut self, sorted: &Sorted, _: Incoming<'_>, _: Stamp) {
            let problem = sorted.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            self.0.push(format!("{}{problem}", sorted.class.label()));
        }
    }

    fn at(ms: u64) -> Stamp {
        Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
    }

    fn sorted(profile: &Profile, message: Incoming<'_>) -> Vec<String> {
        let mut lines = Lines::default();
        Sorter::new(profile).sort(message, at(7), &mut lines);
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
        assert_eq!(sorted(&simulated, Incoming::Binary(b"text")), garbled);
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
        let mut sorter = Sorter::new(&Profile::built_in("generic").expect("built in"));
        let mut lines = Lines::default();
        let text = |n: u64| format!(r#"{{"s":"A{n}"}}"#);
        assert_eq!(sorter.deadline_ns(), None);
        for n in 0..4 {
            assert_eq!(sorter.sort(Incoming::Text(&text(n)), at(n), &mut lines), None);
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
        assert!(sorter.sort(Incoming::Text(&text(9)), at(9), &mut lines).is_some(), "from now on nothing waits");
    }
}
