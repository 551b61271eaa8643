//! Reading `[auth.tier.NAME]` and `[auth.anonymous]`.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::access::rights::{CommandRule, ContentTest, GrantedCommands, GrantedPattern};
use crate::identity::tables::values::{TomlValue, scalar, shown};
use crate::identity::tables::{TablesReader, TierTable};
use crate::identity::tiers::OverSessions;

const TIERS_MAX: usize = 256;
/// Licensed data are delayed by 15 minutes, or until the next day.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest pace of the protocol.
const PACE_MAX: Duration = Duration::from_secs(60);

impl TablesReader {
    pub(super) fn tiers(&mut self, value: &TomlValue<'_>) {
        let Some(tiers) = self.table(value, "auth.tier", "[auth.tier.NAME]") else { return };
        if tiers.len() > TIERS_MAX {
            let found = tiers.len();
            self.problem(
                value.span(),
                &format!("auth.tier: expected at most {TIERS_MAX} tiers, found {found}; remove some"),
            );
        }
        for (key, tier) in tiers.iter() {
            let name: &str = key.get_ref();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
                let sentence =
                    "auth.tier: expected a name of 1 to 64 letters, digits, `-` and `_`, found another one; rename it";
                self.problem(key.span(), sentence);
            }
            let place = format!("auth.tier.{}", shown(name));
            let Some(keys) = self.table(tier, &place, "[auth.tier.NAME]") else { continue };
            self.refuse_unknown(
                keys,
                &place,
                &["topics", "delay", "every", "sessions", "over_sessions", "send", "request"],
            );
            let delay = keys.get("delay").and_then(|delay| self.duration(delay, &format!("{place}.delay"), DELAY_MAX));
            let Some(topics) = self.required(keys, &key.span(), &place, "topics", "`topics = [\">\"]` for all topics")
            else {
                continue;
            };
            let topics = self.topics(topics, &format!("{place}.topics"), delay.unwrap_or_default());
            let table = TierTable {
                name: name.into(),
                topics: topics.into(),
                pace_min: keys.get("every").and_then(|every| self.duration(every, &format!("{place}.every"), PACE_MAX)),
                sessions_max: keys.get("sessions").and_then(|count| self.count(count, &format!("{place}.sessions"))),
                over_sessions: self.over_sessions(keys, &place),
                send: self.commands(keys, &place, "send"),
                request: self.commands(keys, &place, "request"),
            };
            self.tables.tiers.push((key.span().start, table));
        }
    }

    /// Each a pattern, or a pattern with a delay of its own.
    fn topics(&mut self, value: &TomlValue<'_>, place: &str, delay: Duration) -> Vec<GrantedPattern> {
        let mut topics = Vec::new();
        let Some(items) = value.get_ref().as_array().filter(|items| !items.is_empty()) else {
            self.problem(
                value.span(),
                &format!("{place}: expected a list of patterns, found none; write `[\">\"]` for all topics"),
            );
            return topics;
        };
        for item in items.iter() {
            let (pattern, delay) = match item.get_ref().as_table() {
                None => (Some(item), delay),
                Some(keys) => {
                    self.refuse_unknown(keys, place, &["pattern", "delay"]);
                    let own = keys.get("delay").and_then(|delay| self.duration(delay, place, DELAY_MAX));
                    (
                        self.required(keys, &item.span(), place, "pattern", "`{ pattern = \"a.>\", delay = \"15m\" }`"),
                        own.unwrap_or(delay),
                    )
                }
            };
            if let Some(pattern) = pattern.and_then(|pattern| self.pattern(pattern, place)) {
                topics.push(GrantedPattern { pattern, delay });
            }
        }
        topics
    }

    fn over_sessions(&mut self, keys: &DeTable<'_>, place: &str) -> OverSessions {
        let Some(value) = keys.get("over_sessions") else { return OverSessions::default() };
        match value.get_ref().as_str() {
            Some("refuse") => OverSessions::Refuse,
            Some("replace_oldest") => OverSessions::ReplaceOldest,
            _ => {
                let sentence = "expected `refuse` or `replace_oldest`, found another value; write one of them";
                self.problem(value.span(), &format!("{place}.over_sessions: {sentence}"));
                OverSessions::default()
            }
        }
    }

    /// `true`, `false`, or rules on topic and content.
    fn commands(&mut self, keys: &DeTable<'_>, place: &str, name: &str) -> GrantedCommands {
        let Some(value) = keys.get(name) else { return GrantedCommands::None };
        let place = format!("{place}.{name}");
        let rules = match value.get_ref() {
            DeValue::Boolean(true) => return GrantedCommands::All,
            DeValue::Boolean(false) => return GrantedCommands::None,
            DeValue::Array(rules) => rules,
            _ => {
                let sentence =
                    format!("{place}: expected true, false or a list of rules, found another value; write one of them");
                self.problem(value.span(), &sentence);
                return GrantedCommands::None;
            }
        };
        let mut read = Vec::new();
        for rule in rules.iter() {
            let Some(keys) = self.table(rule, &place, "{ where = { \"/kind\" = \"text\" } }") else { continue };
            let known: &[&str] = if name == "send" { &["topic", "where"] } else { &["where"] };
            self.refuse_unknown(keys, &place, known);
            let topics = keys.get("topic").and_then(|topic| self.pattern(topic, &place));
            let tests =
                keys.get("where").and_then(|tests| self.table(tests, &place, "where = { \"/kind\" = \"text\" }"));
            let mut content = Vec::new();
            for (pointer, values) in tests.into_iter().flat_map(DeTable::iter) {
                let values = match values.get_ref() {
                    DeValue::Array(values) => values.iter().map(|value| scalar(value.get_ref())).collect(),
                    one => scalar(one).map(|one| Box::from([one])),
                };
                match (values, pointer.get_ref().starts_with('/')) {
                    (Some(values), true) => content.push(ContentTest { pointer: (&**pointer.get_ref()).into(), values }),
                    _ => self.problem(pointer.span(), &format!("{place}: expected JSON pointers with texts, integers or booleans, found something else; write `where = {{ \"/kind\" = [\"text\"] }}`")),
                }
            }
            if topics.is_none() && content.is_empty() {
                self.problem(rule.span(), &format!("{place}: expected a rule with `topic` or `where`, found neither; write `{name} = true` to allow everything"));
            }
            read.push(CommandRule { topics, content: content.into() });
        }
        GrantedCommands::Rules(read.into())
    }

    pub(super) fn anonymous(&mut self, value: &TomlValue<'_>) {
        let Some(keys) = self.table(value, "auth.anonymous", "[auth.anonymous]") else { return };
        self.refuse_unknown(keys, "auth.anonymous", &["tier"]);
        let tier = self.required(keys, &value.span(), "auth.anonymous", "tier", "`tier = \"free\"`");
        self.tables.anonymous = tier.and_then(|tier| self.text(tier, "auth.anonymous.tier"));
    }
}
