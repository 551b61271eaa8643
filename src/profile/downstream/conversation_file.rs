//! A conversation in a dialect, as a file: what a client says, and what it must hear. `fanline check` runs the one beside a
//! profile.
//!
//! Each line is a JSON object, and holds one step. The first step has `path`.
//!
//! | member | meaning |
//! |---|---|
//! | `path` | a client connects to this path and query |
//! | `says` | the client's message: an object or a list, or a string for a text that is not JSON |
//! | `forbids` | with `path` or `says`: items that the server does not grant |
//! | `topic`, `payload` | a message of the feed: an object or a list, or a string for a text that is not JSON |
//! | `hears` | what the client is sent then, in order: a string for the exact text, or anything else for equal JSON |
//! | `dismissed` | `true`: the server ends the session, and the client may come back |
//! | `ends` | the sentence of the end of the session |
//! | `items`, `topics` | what is in force then: items, and patterns over topics |

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::profile::downstream::Dialect;
use crate::profile::downstream::conversation::{Deed, SaidOutcome};
use crate::profile::downstream::kept::KeptValues;
use crate::profile::downstream::session_items::SessionItems;
use crate::profile::section::ProfileError;
use crate::profile::step_file::{message_text, run_steps};
use crate::protocol::encoding::{Envelope, Payload, PayloadKind};
use crate::protocol::form::{FormId, Forms};
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConversationStep {
    path: Option<String>,
    says: Option<Box<RawValue>>,
    #[serde(default)]
    forbids: Vec<String>,
    topic: Option<String>,
    payload: Option<Box<RawValue>>,
    #[serde(default)]
    dismissed: bool,
    #[serde(default)]
    hears: Vec<Value>,
    ends: Option<String>,
    items: Option<Vec<String>>,
    topics: Option<Vec<String>>,
}

/// The client of a conversation.
#[derive(Default)]
struct SpokenSession {
    form: FormId,
    items: SessionItems,
    kept: KeptValues,
}

/// What a step brings about.
#[derive(Default)]
struct StepResult {
    heard: Vec<String>,
    ends: Option<String>,
}

impl Dialect {
    /// Runs a conversation; gives the number of its steps.
    pub fn check_conversation(&self, text: &str, origin: &str) -> Result<usize, ProfileError> {
        let mut session: Option<SpokenSession> = None;
        run_steps((text, origin), r#"{"path":"/ws"}"#, |step: &ConversationStep| {
            let result = self.take(step, &mut session)?;
            self.compare(step, &result, session.as_ref())
        })
    }

    fn take(&self, step: &ConversationStep, session: &mut Option<SpokenSession>) -> Result<StepResult, String> {
        let forbids = |item: &str| step.forbids.iter().any(|other| other == item).then(|| "forbidden".to_string());
        match (&step.path, &step.says, &step.topic, &step.payload) {
            (None, None, None, None) if step.dismissed => {
                let session = session.take().ok_or("expected a step with `path` first, found none")?;
                let heard = self.goodbye(session.form, Stamp::default()).into_iter().collect();
                Ok(StepResult { heard, ends: None })
            }
            (Some(url), None, None, None) => {
                let (path, query) = url.split_once('?').map_or((&**url, None), |(path, query)| (path, Some(query)));
                let terms = self.terms_of(path, query);
                let terms = terms.ok_or_else(|| format!("expected a path of `downstream.paths`, found `{path}`"))??;
                if let Some(item) = terms.items.iter().find(|item| forbids(item).is_some()) {
                    return Ok(StepResult { ends: Some(format!("forbidden: {item}")), ..StepResult::default() });
                }
                *session = Some(SpokenSession {
                    form: terms.form,
                    items: SessionItems::new(terms.items),
                    kept: KeptValues::default(),
                });
                Ok(StepResult { heard: self.greeting(Stamp::default()), ends: None })
            }
            (None, Some(says), None, None) => {
                let session = session.as_mut().ok_or("expected a step with `path` first, found none")?;
                Ok(self.say_all(&message_text(says), session, forbids))
            }
            (None, None, Some(topic), Some(payload)) => {
                let session = session.as_ref().ok_or("expected a step with `path` first, found none")?;
                let patterns = session.items.names().iter().flat_map(|item| self.topics_of(item));
                let mut heard = Vec::new();
                if patterns.into_iter().any(|pattern| pattern.matches(topic)) {
                    let mut out = Vec::new();
                    let payload = Payload { bytes: message_text(payload).into_bytes().into(), kind: PayloadKind::Json };
                    let envelope = Envelope { topic, offset: Offset(1), ts_ms: 0, kind: None, payload: &payload };
                    self.put(session.form, &envelope, &mut out);
                    heard.push(String::from_utf8_lossy(&out).into_owned());
                }
                Ok(StepResult { heard, ends: None })
            }
            _ => {
                Err("expected either `path`, `says`, `dismissed`, or `topic` and `payload`, found another combination"
                    .to_string())
            }
        }
    }

    fn say_all(&self, text: &str, session: &mut SpokenSession, forbids: impl Fn(&str) -> Option<String>) -> StepResult {
        let mut result = StepResult::default();
        let messages = match self.messages(text) {
            Ok(messages) => messages,
            Err(unspeakable) => return StepResult { ends: Some(unspeakable.0), ..result },
        };
        for message in messages {
            let said = self.say(message, session, &forbids);
            result.heard.extend(said.heard);
            result.ends = said.ends;
            if result.ends.is_some() {
                break;
            }
        }
        result
    }

    fn say(&self, text: &str, session: &mut SpokenSession, forbids: impl Fn(&str) -> Option<String>) -> StepResult {
        let Some(request) = self.hear(text) else { return StepResult::default() };
        session.kept.keep(&request);
        let change = session.items.change(&request, self.items_max, forbids);
        match request.deed() {
            Deed::Subscribe => session.items.add(change.names),
            Deed::Unsubscribe => session.items.remove(&change.names),
            Deed::Set(form) => session.form = form,
            Deed::Close => {
                return StepResult { ends: Some("closed by the client".to_string()), ..StepResult::default() };
            }
            Deed::List | Deed::Answer | Deed::Ignore | Deed::Refuse => {}
        }
        let (all, now) = (session.items.names(), Stamp::default());
        match request.replies(&SaidOutcome { refused: &change.refused, all, kept: &session.kept, now }) {
            Ok(heard) => StepResult { heard, ends: None },
            Err(unspeakable) => StepResult { ends: Some(unspeakable.0), ..StepResult::default() },
        }
    }

    fn compare(
        &self,
        step: &ConversationStep,
        result: &StepResult,
        session: Option<&SpokenSession>,
    ) -> Result<(), String> {
        let is_heard = |expected: &Value, heard: &String| match expected {
            Value::String(text) => text == heard,
            other => serde_json::from_str::<Value>(heard).is_ok_and(|heard| heard == *other),
        };
        let all = step.hears.len() == result.heard.len()
            && step.hears.iter().zip(&result.heard).all(|(expected, heard)| is_heard(expected, heard));
        if !all {
            let expected: Vec<String> = step.hears.iter().map(Value::to_string).collect();
            return Err(format!("expected the client to hear {expected:?}, found {:?}", result.heard));
        }
        if step.ends != result.ends {
            return Err(format!("expected the end `{:?}`, found `{:?}`", step.ends, result.ends));
        }
        let items = session.map_or(&[][..], |session| session.items.names());
        same("items", step.items.as_ref(), items.to_vec())?;
        let patterns = items.iter().flat_map(|item| self.topics_of(item)).map(|pattern| pattern.to_string());
        same("topics", step.topics.as_ref(), patterns.collect())
    }
}

fn same(what: &str, expected: Option<&Vec<String>>, mut found: Vec<String>) -> Result<(), String> {
    let Some(mut expected) = expected.cloned() else { return Ok(()) };
    for list in [&mut expected, &mut found] {
        list.sort_unstable();
        list.dedup();
    }
    if expected == found { Ok(()) } else { Err(format!("expected the {what} {expected:?} in force, found {found:?}")) }
}
