//! Messages after the guess: whether it names them, and what would name the others.

use std::sync::Arc;

use crate::intake::classify::classified::{Classified, Unnamed};
use crate::intake::classify::guess::{guess, is_control};

/// Enough for a share in percent.
const MESSAGES: usize = 100;
/// Percent of the messages that the guess may leave without a topic.
const UNNAMED_MAX: usize = 5;
/// As many as the guess itself begins with, and bytes of these.
const SAMPLES_MAX: usize = 32;
const SAMPLE_BYTES_MAX: usize = 256 << 10;

/// Messages since the last look at their share.
#[derive(Default)]
pub(super) struct SecondLook {
    messages: usize,
    /// Messages among them without a topic. Those about the connection do not count.
    unnamed: usize,
    /// The first of these.
    samples: Vec<String>,
    sample_bytes: usize,
    /// The test that holds for the first of them.
    test: String,
    /// What is said of a message without a topic, because there were too many.
    doubt: Option<Arc<str>>,
}

impl SecondLook {
    /// Counts a message; of one without a topic it says more if there are many.
    pub(super) fn judge(&mut self, mut classified: Classified, text: &str) -> Classified {
        let Some(Unnamed::NoTopic { pointer, found }) = &classified.problem else {
            self.count();
            return classified;
        };
        if is_control(text) {
            return classified;
        }
        self.unnamed += 1;
        if self.unnamed == 1 {
            self.test = test(pointer, found);
        }
        if self.samples.len() < SAMPLES_MAX && self.sample_bytes + text.len() <= SAMPLE_BYTES_MAX {
            self.sample_bytes += text.len();
            self.samples.push(text.to_string());
        }
        self.count();
        if let Some(doubt) = &self.doubt {
            let (pointer, doubt) = (pointer.clone(), doubt.clone());
            classified.problem = Some(Unnamed::BadGuess { pointer, found, doubt });
        }
        classified
    }

    fn count(&mut self) {
        self.messages += 1;
        if self.messages < MESSAGES {
            return;
        }
        let is_bad = self.unnamed * 100 > self.messages * UNNAMED_MAX;
        *self = SecondLook { doubt: is_bad.then(|| self.in_words().into()), ..SecondLook::default() };
    }

    /// For the end of a sentence: the share, and the rule that would take such messages.
    fn in_words(&self) -> String {
        let SecondLook { messages, unnamed, samples, test, .. } = self;
        let again = guess(&samples.iter().map(String::as_str).collect::<Vec<_>>());
        let key = match again.pointers.is_empty() {
            true => "as = \"ignore\"".to_string(),
            false => format!("topic = \"{}\"", again.template()),
        };
        format!(
            "like {unnamed} of {messages} messages; copy `generic`, and before its own rule add one with \
             `when = ['{test}']` and `{key}`"
        )
    }
}

/// The test of a rule for messages that have this at the pointer.
fn test(pointer: &str, found: &str) -> String {
    match found.rsplit(' ').next() {
        None | Some("nothing") => format!("{pointer} absent"),
        Some("string") => format!("{pointer} == \"\""),
        Some(kind) => format!("{pointer} is {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::rule::MessageClass;

    const NAMED: &str = r#"{"s":"A"}"#;

    /// What is said of the last message, which has no topic, after these.
    fn said(before: &[(usize, &str)]) -> String {
        let mut look = SecondLook::default();
        let mut take = |text: &str| {
            let problem = (text != NAMED).then(|| Unnamed::NoTopic { pointer: "/s".to_string(), found: "nothing" });
            let class = if problem.is_some() { MessageClass::Unmatched } else { MessageClass::Data };
            look.judge(Classified { problem, ..Classified::of(class) }, text)
        };
        for (count, text) in before {
            (0..*count).for_each(|_| drop(take(text)));
        }
        take(r#"{"x":1}"#).problem.expect("no topic").to_string()
    }

    #[test]
    fn many_messages_without_a_topic_put_the_guess_in_doubt() {
        let plain = "expected a topic at `/s`, found nothing";
        let pair = r#"{"pair":"EUR"}"#;
        for (before, expected) in [
            (vec![(95, NAMED), (4, pair)], ""),
            (vec![(95, NAMED), (5, pair)], ""),
            (
                vec![(94, NAMED), (6, pair)],
                ", like 6 of 100 messages; copy `generic`, and before its own rule add one with `when = ['/s absent']` and `topic = \"${/pair}\"`",
            ),
            (
                vec![(90, NAMED), (10, r#"{"n":1}"#)],
                ", like 10 of 100 messages; copy `generic`, and before its own rule add one with `when = ['/s absent']` and `as = \"ignore\"`",
            ),
            // Nobody misses a topic of these.
            (vec![(94, NAMED), (60, r#"{"type":"heartbeat"}"#), (6, NAMED)], ""),
            // It is over.
            (vec![(90, NAMED), (10, pair), (100, NAMED)], ""),
        ] {
            assert_eq!(said(&before), format!("{plain}{expected}"), "{before:?}");
        }
    }
}
