//! Messages of a feed as a file: what arrives, and what becomes of it. `fanline check` runs the one beside a profile.
//!
//! Each line is a JSON object, and holds one step of one connection.
//!
//! | member | meaning |
//! |---|---|
//! | `items`, `sends` | fanline subscribes to these items, and sends these messages |
//! | `gets` | a message of the feed: an object or a list, or a string for a text that is not JSON |
//! | `class` | what it is; `unmatched` and `garbled` only if it says so |
//! | `topics` | the topics of its updates, in their order |
//! | `snapshots` | those of them that are snapshots |
//! | `reply` | the answer to a ping |
//! | `granted`, `refused` | the items of which it decides |

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::json::pointer_to;
use crate::profile::Profile;
use crate::profile::placeholders::Context;
use crate::profile::rule::MessageClass;
use crate::profile::rules::numbers::GapRemedy;
use crate::profile::rules::treatment::RuleSite;
use crate::profile::secrets::Secrets;
use crate::profile::section::ProfileError;
use crate::profile::step_file::{json_or_text, message_text, message_value, run_steps};
use crate::profile::subscribe::Subscribe;
use crate::protocol::encoding::Payload;
use crate::words::stamp::Stamp;

use crate::intake::assemble::Assembler;
use crate::intake::classify::drive::{self, Onlooker};
use crate::intake::classify::{Classified, Classifier, FeedFrame, FeedMessage};
use crate::intake::connection::subscriptions::{ItemOutcome, ItemSubscriptions};
use crate::intake::update::{Oddity, Release, Update, UpdateSink};

#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct MessageStep {
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sends: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gets: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    granted: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Vec<String>>,
}

/// A step, for whoever writes the first one.
pub(crate) const EXAMPLE: &str = r#"{"gets":{"s":"A"},"class":"data","topics":["A"]}"#;

/// A connection to a feed that a file stands for.
struct ToldFeed<'p> {
    subscribe: Option<Arc<Subscribe>>,
    classifier: Classifier,
    subscriptions: ItemSubscriptions,
    assembler: Assembler,
    requests: u64,
    profile: &'p Profile,
}

/// What becomes of one message.
#[derive(Default)]
struct ToldResult {
    classes: Vec<MessageClass>,
    topics: Vec<String>,
    snapshots: Vec<String>,
    reply: Option<String>,
    problem: Option<String>,
    granted: Vec<String>,
    refused: Vec<String>,
}

/// Finds what an assembler cannot use of an update.
struct OddityFinder<'a> {
    update: &'a Update<'a>,
    problem: &'a mut Option<String>,
}

/// Watches a message on its way.
struct MessageWatch<'a> {
    result: &'a mut ToldResult,
    assembler: &'a mut Assembler,
    subscriptions: &'a mut ItemSubscriptions,
}

impl Profile {
    /// Runs a file of messages; gives the number of its steps.
    pub fn check_messages(&self, text: &str, origin: &str) -> Result<usize, ProfileError> {
        let mut feed = ToldFeed::new(self, &[]);
        run_steps((text, origin), EXAMPLE, |step: &MessageStep| feed.take(step))
    }

    /// The lines of a file of these messages, in their order, and the number of messages in it. Those whose problem a
    /// check would report are left out.
    pub(crate) fn tell_messages(&self, items: &[String], mut messages: Vec<String>) -> (String, usize) {
        loop {
            let mut feed = ToldFeed::new(self, items);
            let opening = (!items.is_empty() && self.subscribe.is_some()).then(|| feed.opening(items));
            let mut lines: Vec<String> = opening.iter().map(json).collect();
            let misfit = messages.iter().position(|text| match feed.tell(text) {
                Some(step) => {
                    lines.push(json(&step));
                    false
                }
                None => true,
            });
            match misfit {
                // What it left behind in the connection's state must go as well.
                Some(index) => messages.remove(index),
                None => return (lines.join("\n") + "\n", messages.len()),
            };
        }
    }
}

impl<'p> ToldFeed<'p> {
    fn new(profile: &'p Profile, items: &[String]) -> ToldFeed<'p> {
        let subscribe = profile.subscribe.clone().map(Arc::new);
        let items: Vec<_> =
            subscribe.iter().flat_map(|how| items.iter().map(|item| Arc::new(how.item(item)))).collect();
        ToldFeed {
            classifier: Classifier::new(profile),
            subscriptions: ItemSubscriptions::new(subscribe.clone(), &items),
            assembler: Assembler::default(),
            requests: 0,
            subscribe,
            profile,
        }
    }

    fn take(&mut self, step: &MessageStep) -> Result<(), String> {
        match (&step.items, &step.gets) {
            (Some(items), None) if self.subscribe.is_some() => {
                *self = ToldFeed::new(self.profile, items);
                same("messages sent", &step.sends, &self.opening(items).sends)
            }
            (None, Some(message)) => {
                let result = self.receive(&message_text(message));
                // Nothing is sent, but what would be is no longer waiting.
                self.sent();
                compare(step, &result)
            }
            _ => Err("expected either `items`, and `[subscribe]` in the profile, or `gets`; found neither or both"
                .to_string()),
        }
    }

    /// The step that subscribes.
    fn opening(&mut self, items: &[String]) -> MessageStep {
        let sends = self.sent().iter().map(|text| json_or_text(text)).collect();
        MessageStep { items: Some(items.to_vec()), sends, ..MessageStep::default() }
    }

    /// The step of a message; none if it cannot be one.
    fn tell(&mut self, text: &str) -> Option<MessageStep> {
        let result = self.receive(text);
        self.sent();
        let [class] = result.classes[..] else { return None };
        if result.problem.is_some() && !class.is_misfit() {
            return None;
        }
        let some = |items: Vec<String>| (!items.is_empty()).then_some(items);
        Some(MessageStep {
            gets: Some(message_value(text)),
            class: Some(class.label().to_string()),
            topics: result.topics,
            snapshots: result.snapshots,
            reply: result.reply.as_deref().map(json_or_text),
            granted: some(result.granted),
            refused: some(result.refused),
            ..MessageStep::default()
        })
    }

    /// The messages that subscribe. Without the keys of the environment some are left out.
    fn sent(&mut self) -> Vec<String> {
        let secrets = Secrets::default();
        let mut sent = Vec::new();
        while self.subscriptions.has_something_to_say() {
            self.requests += 1;
            let context = Context::plain(&secrets, Stamp::default(), self.requests);
            sent.extend(self.subscriptions.next(context, Stamp::default(), &|_| None));
        }
        sent
    }

    fn receive(&mut self, text: &str) -> ToldResult {
        let mut result = ToldResult::default();
        let ToldFeed { classifier, subscriptions, assembler, .. } = self;
        let mut watch = MessageWatch { result: &mut result, assembler, subscriptions };
        drive::take(classifier, FeedFrame::Text(text), Stamp::default(), &mut watch);
        for outcome in self.subscriptions.outcomes() {
            match outcome {
                ItemOutcome::Confirmed(item) => result.granted.push(item.name.clone()),
                ItemOutcome::Refused { item, .. } | ItemOutcome::Unanswered(item) => {
                    result.refused.push(item.name.clone());
                }
                ItemOutcome::Unclaimed(_) => {}
            }
        }
        result.granted.sort_unstable();
        result.refused.sort_unstable();
        result
    }
}

impl Onlooker for MessageWatch<'_> {
    fn update(&mut self, update: &Update<'_>) {
        self.result.topics.push(update.topic.to_string());
        if update.snapshot {
            self.result.snapshots.push(update.topic.to_string());
        }
        self.subscriptions.updated(update.topic);
        let problem = &mut self.result.problem;
        self.assembler.take(update, Release::InOrder, &mut OddityFinder { update, problem });
    }

    fn classified(&mut self, classified: &Classified, message: &FeedMessage<'_>) {
        self.result.classes.push(classified.class);
        self.result.reply = self.result.reply.take().or_else(|| classified.reply.clone());
        if let Some(problem) = &classified.problem {
            self.result.problem = Some(problem.to_string());
        }
        if let FeedMessage::Text(text) = message {
            match classified.class {
                MessageClass::Ack => self.subscriptions.acknowledged(text),
                MessageClass::Nack => self.subscriptions.refused(text, text),
                _ => {}
            }
        }
    }
}

impl UpdateSink for OddityFinder<'_> {
    fn publish(&mut self, _: &str, _: Payload, _: Retention, _: Stamp) {}

    fn status(&mut self, _: &str, _: TopicStatus, _: Stamp) {}

    fn remedy(&mut self, _: &str, _: GapRemedy) {}

    fn oddity(&mut self, _: &str, oddity: Oddity, _: Stamp) {
        let Update { message, element, treatment, .. } = self.update;
        let problem = match oddity {
            Oddity::Malformed(misfit) => {
                let text = std::str::from_utf8(message).unwrap_or_default();
                let misfit = misfit.in_message(&pointer_to(text, element).unwrap_or_default());
                format!("{misfit}, or let its `when` leave such messages out")
            }
            Oddity::WrongChecksum => "expected the checksum of the folded book, found another; \
                 correct `book.checksum` or `book.depth` of the rule, or the message"
                .to_string(),
            Oddity::Old | Oddity::Restart | Oddity::NoSnapshot { .. } | Oddity::TooLarge => return,
        };
        let RuleSite { name, line } = &treatment.rule;
        *self.problem = Some(format!("`[on.{name}]`, line {line} of the profile: {problem}"));
    }
}

fn compare(step: &MessageStep, result: &ToldResult) -> Result<(), String> {
    if let Some(expected) = &step.class {
        let found: Vec<&str> = result.classes.iter().map(|class| class.label()).collect();
        if found != [expected.as_str()] {
            let why = result.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            return Err(format!("expected the class `{expected}`, found `{}`{why}", found.join("`, `")));
        }
    }
    let is_expected = step.class.is_some() && result.classes.iter().all(|class| class.is_misfit());
    if let Some(problem) = result.problem.as_ref().filter(|_| !is_expected) {
        return Err(format!("expected a message without a problem, found one: {problem}"));
    }
    same("topics", &step.topics, &result.topics)?;
    same("snapshots", &step.snapshots, &result.snapshots)?;
    let reply = result.reply.as_deref().map(json_or_text);
    if step.reply != reply {
        return Err(format!("expected the reply {}, found {}", json(&step.reply), json(&reply)));
    }
    let sorted = |items: &Vec<String>| {
        let mut items = items.clone();
        items.sort_unstable();
        items
    };
    let (granted, refused) = (step.granted.as_ref().map(sorted), step.refused.as_ref().map(sorted));
    granted.map_or(Ok(()), |expected| same("items granted", &expected, &result.granted))?;
    refused.map_or(Ok(()), |expected| same("items refused", &expected, &result.refused))
}

fn same<T: PartialEq + Serialize>(what: &str, expected: &[T], found: &[T]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("expected the {what} {}, found {}", json(&expected), json(&found)))
}

/// As it would stand in the file.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::profile::check;

    /// Profiles that were written without a recording of their venue.
    const TOLD: [&str; 16] = [
        "ascendex",
        "binance-coinm",
        "bitflyer",
        "bitget",
        "bitmex",
        "cryptocom",
        "dydx",
        "gateio",
        "hyperliquid",
        "independent-reserve",
        "kraken-futures",
        "kucoin",
        "phemex",
        "poloniex",
        "probit",
        "upbit",
    ];

    /// The file of messages beside each of them.
    #[test]
    fn profiles_treat_messages_as_the_files_beside_them_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile/built_in");
        let read = |file: String| std::fs::read_to_string(folder.join(&file)).unwrap_or_else(|_| panic!("{file}"));
        let mut problems = Vec::new();
        for name in TOLD {
            assert!(Profile::built_in(name).is_some(), "{name} is built in");
            let profile = check(&read(format!("{name}.toml")), name);
            let steps = profile.and_then(|profile| {
                let told = read(format!("{name}.messages.jsonl"));
                profile.check_messages(&told, &format!("{name}.messages.jsonl"))
            });
            problems.extend(steps.map(|steps| assert!(steps > 4, "{name}")).err().map(|error| error.to_string()));
        }
        assert_eq!(problems, [""; 0], "{}", problems.join("\n"));
    }

    #[test]
    fn a_step_that_does_not_hold_is_shown_with_its_line() {
        let profile = check(
            "profile = 1\nname = \"t\"\n[subscribe]\nsend = '+${item}'\nack = { per = \"item\", key = \"/ok\" }\n\
             [[on]]\nname = \"ack\"\nas = \"ack\"\nwhen = ['/ok exists']\n\
             [[on]]\nname = \"all\"\nas = \"data\"\ntopic = \"${/s}\"\n",
            "t",
        )
        .expect("a valid profile");
        for (line, part) in [
            (r#"{"gets":{"s":"A"},"class":"data","topics":["A"]}"#, ""),
            (r#"{"gets":{"s":"A"},"class":"ack","topics":["A"]}"#, "expected the class `ack`, found `data`"),
            (r#"{"gets":{"s":"A"},"class":"data"}"#, "expected the topics [], found [\"A\"]"),
            (r#"{"gets":{"s":1},"class":"data"}"#, "expected a topic at `/s`, found a number"),
            (r#"{"items":["A"],"sends":["+A"]}"#, ""),
            (r#"{"items":["A"],"sends":["-A"]}"#, r#"expected the messages sent ["-A"], found ["+A"]"#),
            (r#"{"gets":{"ok":"A"},"class":"ack","granted":["A"]}"#, "expected the items granted"),
            (r#"{"got":1}"#, "expected a step such as"),
            ("{}", "expected either `items`"),
        ] {
            let outcome = profile.check_messages(&format!("\n{line}"), "t.messages.jsonl");
            match part {
                "" => assert_eq!(outcome, Ok(1), "{line}"),
                part => {
                    let error = outcome.expect_err(line).to_string();
                    assert!(error.starts_with("t.messages.jsonl:2: step: ") && error.contains(part), "{error}");
                }
            }
        }
        let granted =
            "{\"items\":[\"A\"],\"sends\":[\"+A\"]}\n{\"gets\":{\"ok\":\"A\"},\"class\":\"ack\",\"granted\":[\"A\"]}";
        assert_eq!(profile.check_messages(granted, "t"), Ok(2));
    }

    #[test]
    fn a_message_that_cannot_be_folded_is_shown_with_its_rule_its_place_and_the_remedy() {
        let profile = check(
            "profile = 1\nname = \"t\"\n\n[on.book]\nwhen = ['/b exists']\ntopic = \"book\"\nmode = \"book\"\n\
             snapshot_when = ['/whole exists']\nbook = { sides = [\"./b/bids\", \"./b/asks\"], price = 0, size = 1 }\n\n\
             [on.rows]\ntopic = \"rows\"\neach = \"/r/*\"\nmode = \"merge\"\nsnapshot_when = ['/whole exists']\n\
             merge = { at = \"./data\", key = \"id\" }\n",
            "t",
        )
        .expect("a valid profile");
        let book = "`[on.book]`, line 4 of the profile: expected ";
        let rows = "`[on.rows]`, line 11 of the profile: expected ";
        for (message, rule, misfit, key) in [
            (r#"{"whole":1,"b":{"bids":[]}}"#, book, "a list of levels at `/b/asks`, found nothing", "book.sides"),
            (
                r#"{"whole":1,"b":{"bids":[],"asks":7}}"#,
                book,
                "a list of levels at `/b/asks`, found a number",
                "book.sides",
            ),
            (
                r#"{"whole":1,"b":{"bids":[["1","2"],["x","2"]],"asks":[]}}"#,
                book,
                "a number at `/b/bids/1/0`, found a string",
                "book.price",
            ),
            (r#"{"whole":1,"r":[{}]}"#, rows, "a value to merge at `/r/0/data`, found nothing", "merge.at"),
            (
                r#"{"whole":1,"r":[{"data":[]},{"data":[{"id":1},{"n":2}]}]}"#,
                rows,
                "a part of the row's key at `/r/1/data/1/id`, found nothing",
                "merge.key",
            ),
        ] {
            let error = profile.check_messages(&format!(r#"{{"gets":{message},"class":"data"}}"#), "t.messages.jsonl");
            let error = error.expect_err(message).to_string();
            let remedy = format!("; correct `{key}` of the rule, or let its `when` leave such messages out");
            assert!(error.ends_with(&format!("{rule}{misfit}{remedy}")), "{error}");
        }
    }
}
