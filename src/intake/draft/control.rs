//! Messages about the connection, and the rules that tell them from data.

use serde_json::{Map, Value};

use crate::intake::classify::guess::{CONTROL_MEMBERS, is_control};

/// Texts that are not JSON and get a rule; further ones are chat, or another format.
const TEXTS_MAX: usize = 4;
const TEXT_BYTES_MAX: usize = 64;

/// The rules so far: name, class, tests, and a reply.
#[derive(Default)]
pub(super) struct ControlRules(Vec<ControlRule>);

#[derive(PartialEq)]
struct ControlRule {
    name: String,
    class: &'static str,
    tests: Vec<String>,
    reply: Option<String>,
}

impl ControlRules {
    /// Whether the message is about the connection; it has a rule then.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let rule = match serde_json::from_str(text) {
            Ok(Value::Object(members)) => of_object(&members, text),
            Ok(Value::Array(_)) => return false,
            Ok(_) | Err(_) => self.of_text(text),
        };
        let Some(rule) = rule else { return false };
        if !self.0.iter().any(|known| known.tests == rule.tests) {
            self.0.push(rule);
        }
        true
    }

    fn of_text(&self, text: &str) -> Option<ControlRule> {
        let tests = vec![format!("text == {}", Value::from(text))];
        let is_known = self.0.iter().any(|rule| rule.tests == tests);
        let is_full = self.0.iter().filter(|rule| rule.tests[0].starts_with("text")).count() == TEXTS_MAX;
        if text.len() > TEXT_BYTES_MAX || text.contains('\'') || (is_full && !is_known) {
            return None;
        }
        let (name, class, reply) = match text {
            "ping" => ("ping", "ping", Some("pong")),
            "pong" => ("pong", "pong", None),
            _ => ("text", "info", None),
        };
        Some(ControlRule { name: name.to_string(), class, tests, reply: reply.map(str::to_string) })
    }

    /// Names of the rules; those of several with one name are numbered.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        self.0.iter().for_each(|rule| {
            let name = free(&rule.name, &names);
            names.push(name);
        });
        names
    }

    /// A line for each.
    pub(super) fn lines(&self) -> String {
        let line = |(name, rule): (String, &ControlRule)| {
            let tests: Vec<String> = rule.tests.iter().map(|test| format!("'{test}'")).collect();
            let reply = rule.reply.iter().map(|reply| format!(", reply = '{reply}'")).collect::<String>();
            format!("{name} = {{ as = \"{}\", when = [{}]{reply} }}\n", rule.class, tests.join(", "))
        };
        self.names().into_iter().zip(&self.0).map(line).collect()
    }
}

/// The name, or the name with a number that is not taken.
pub(super) fn free(name: &str, taken: &[String]) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let plain = if plain.is_empty() { "data".to_string() } else { plain };
    let numbered = (2..).map(|number| format!("{plain}_{number}"));
    std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name)).expect("numbers do not end")
}

fn of_object(members: &Map<String, Value>, text: &str) -> Option<ControlRule> {
    let rule = |name: &str, class, tests| Some(ControlRule { name: name.to_string(), class, tests, reply: None });
    if members.contains_key("ping") && members.len() <= 2 {
        let reply = Some("{\"pong\":${/ping}}".to_string());
        return Some(ControlRule { reply, ..rule("ping", "ping", vec!["/ping exists".to_string()])? });
    }
    let said = CONTROL_MEMBERS.iter().find_map(|name| {
        let word = members.get(*name)?.as_str().filter(|word| !word.contains('\''))?;
        let alone = Value::Object([((*name).to_string(), Value::from(word))].into_iter().collect()).to_string();
        (is_control(&alone) || word == "error").then_some((*name, word))
    });
    if let Some((member, word)) = said {
        let tests = vec![format!("/{member} == {}", Value::from(word))];
        let lower = word.to_ascii_lowercase();
        return match () {
            () if lower == "ping" => {
                let reply = Some(format!("{{\"{member}\":\"pong\"}}"));
                Some(ControlRule { reply, ..rule("ping", "ping", tests)? })
            }
            () if lower == "pong" => rule("pong", "pong", tests),
            () if lower.starts_with("heartbeat") => rule("heartbeat", "heartbeat", tests),
            () if lower == "error" => rule("refused", "nack", tests),
            () if lower.contains("subscri") || lower == "ack" => rule("subscribed", "ack", tests),
            () => rule(word, "info", tests),
        };
    }
    if members.contains_key("subbed") {
        return rule("subscribed", "ack", vec!["/subbed exists".to_string()]);
    }
    if !is_control(text) {
        return None;
    }
    match members.get("error").is_some_and(|error| !error.is_null()) {
        true => rule("refused", "nack", vec!["/id exists".to_string(), "/error is object".to_string()]),
        false => {
            let of = ["result", "success"].into_iter().find(|name| members.contains_key(*name))?;
            rule("answer", "ack", vec!["/id exists".to_string(), format!("/{of} exists"), "/params absent".to_string()])
        }
    }
}
