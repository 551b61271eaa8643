//! Reader of the message side of a profile: `[[on]]` and the keys beside it.

use crate::json::{Each, Pointer};
use crate::words::topic::check_topic;

use crate::profile::aliases::read_aliases;
use crate::profile::decode::{Decode, MessageFormat};
use crate::profile::keys::{BIND, CONNECTION_SEQ, ON, SEQ, TIME};
use crate::profile::mode::read_mode;
use crate::profile::optional;
use crate::profile::rule::{Bind, ConnectionSequenceRule, Field, MessageClass, Naming, NumberFields, Rule, Rules};
use crate::profile::rules::numbers::{Continuity, GapRemedy, SequenceRule};
use crate::profile::rules::treatment::{RuleSite, Treatment};
use crate::profile::rules::venue_time::{TimeUnit, VenueTime};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, did_you_mean, one_of};
use crate::profile::template::{Aliases, Template};
use crate::profile::test::Test;

/// Keys that only rules of one class have.
const OWNERS: [(MessageClass, &[&str]); 5] = [
    (
        MessageClass::Data,
        &[
            "each",
            "order",
            "emit",
            "wrap",
            "mode",
            "tail",
            "merge",
            "book",
            "delta_limit",
            "snapshot_when",
            "seq",
            "time",
            "continue",
        ],
    ),
    (MessageClass::Ping, &["reply"]),
    (MessageClass::Ack, &["bind", "unbind"]),
    (MessageClass::Stale, &["since"]),
    (MessageClass::Gap, &["missed", "until", "number"]),
];
/// Rules of these classes may be about a topic.
const OF_TOPICS: [MessageClass; 4] = [MessageClass::Data, MessageClass::Stale, MessageClass::Live, MessageClass::Gap];

/// The topic that makes the first messages decide.
const GUESS: &str = "${guess}";

/// The rules of a profile, in their order.
pub(crate) fn read_rules(root: &ProfileSection<'_>) -> Result<Rules, ProfileError> {
    let mut scope = Scope { aliases: read_aliases(root)?, ..Scope::default() };
    scope.rules.decode = optional(root.get("decode"), Decode::read)?.unwrap_or_default();
    let sections = root.get("on").map(|entry| entry.named(ON, "name = \"trades\"")).transpose()?.unwrap_or_default();
    for (_, section) in &sections {
        scope.rules.variables.extend(read_variables(section)?);
    }
    scope.rules.bind_via = optional(root.get("bind_via"), |entry| scope.template_at(entry, None))?;
    scope.rules.sequence = optional(root.get("seq"), |entry| read_connection_sequence(entry, &mut scope))?;
    scope.rules.unmatched = optional(root.get("unmatched"), read_unmatched)?;
    let topic = root.get("topic");
    optional(topic.clone(), ProfileEntry::text)?;
    for (name, section) in &sections {
        let rule = read_rule((*name, section), topic.as_ref(), &mut scope)?;
        scope.rules.list.push(rule);
    }
    if scope.rules.list.is_empty() {
        return Err(root.error("on", "expected at least one rule, found none; add for example `[on.trades]`"));
    }
    let names_none = |(section, rule): (&ProfileSection<'_>, &Rule)| {
        rule.class == MessageClass::Data && section.get("topic").is_none()
    };
    if let Some(topic) = topic
        && !sections.iter().map(|(_, section)| section).zip(&scope.rules.list).any(names_none)
    {
        return Err(topic.error("expected a rule of class `data` without a `topic` of its own, found none; remove it"));
    }
    Ok(scope.rules)
}

/// The one rule that takes every message as data with this topic. The error is a problem.
pub(crate) fn topic_rules(template: &str) -> Result<Rules, String> {
    let mut scope = Scope::default();
    let topic = Some(Naming::Template(scope.template(template, None)?));
    scope.rules.list.push(Rule { topic, ..Rule::new("topic", MessageClass::Data) });
    Ok(scope.rules)
}

/// Names topics by this template wherever the rules say that the first messages decide.
pub(crate) fn settle_guess(rules: &mut Rules, template: &str) -> Result<(), String> {
    let mut scope = Scope { rules: std::mem::take(rules), ..Scope::default() };
    let template = scope.template(template, None);
    *rules = scope.rules;
    let template = template?;
    for rule in rules.list.iter_mut().filter(|rule| matches!(rule.topic, Some(Naming::Guess))) {
        rule.topic = Some(Naming::Template(template.clone()));
    }
    Ok(())
}

fn read_variables(section: &ProfileSection<'_>) -> Result<Vec<String>, ProfileError> {
    let Some(bind) = section.get("bind").map(|entry| entry.section(BIND)).transpose()? else { return Ok(Vec::new()) };
    let set = bind.require("set", "set = { channel = \"/channel\" }")?.members()?;
    Ok(set.into_iter().map(|(name, _)| name.to_string()).collect())
}

fn read_unmatched(entry: &ProfileEntry<'_>) -> Result<String, ProfileError> {
    let text = entry.text()?;
    let topic = text.strip_prefix("topic:").ok_or_else(|| {
        entry.error(format!("expected `topic:` and the name of a topic, found `{text}`; write `topic:raw`"))
    })?;
    check_topic(topic).map(|()| topic.to_string()).map_err(|error| entry.error(error))
}

/// `topic` is that of rules that name none.
fn read_rule(
    (name, section): (&str, &ProfileSection<'_>),
    topic: Option<&ProfileEntry<'_>>,
    scope: &mut Scope,
) -> Result<Rule, ProfileError> {
    let class = optional(section.get("as"), |entry| {
        MessageClass::parse(entry.text()?).map_err(|problem| entry.error(problem))
    })?;
    let class = class.unwrap_or(MessageClass::Data);
    for (owner, keys) in OWNERS.iter().filter(|(owner, _)| *owner != class) {
        if let Some((key, entry)) = keys.iter().find_map(|key| Some((key, section.get(key)?))) {
            let (owner, found) = (owner.label(), class.label());
            return Err(entry.error(format!("expected `{key}` only in rules of class `{owner}`, found `{found}`")));
        }
    }
    if let Some(entry) = section.get("topic").filter(|_| !OF_TOPICS.contains(&class)) {
        let (owners, found) = (OF_TOPICS.map(MessageClass::label).join("`, `"), class.label());
        return Err(entry.error(format!("expected `topic` only in rules of class `{owners}`, found `{found}`")));
    }
    let when = read_when(section, scope)?;
    let mut rule = Rule { when, ..Rule::new(name, class) };
    match class {
        MessageClass::Data => read_data(section, topic, scope, &mut rule)?,
        MessageClass::Ping => {
            let entry = section.require("reply", "reply = '{\"pong\":${/ping}}'")?;
            // A missing value is null.
            rule.reply = Some(scope.template_at(&entry, None)?.or("null"));
        }
        MessageClass::Ack => {
            rule.bind = optional(section.get("bind"), |entry| read_bind(entry, scope))?;
            rule.unbind = optional(section.get("unbind"), |entry| scope.template_at(entry, None))?;
        }
        MessageClass::Stale | MessageClass::Live | MessageClass::Gap => read_state(section, scope, &mut rule)?,
        _ => {}
    }
    Ok(rule)
}

/// Reports of the feed about itself: the keys of `stale`, `live` and `gap`.
fn read_state(section: &ProfileSection<'_>, scope: &mut Scope, rule: &mut Rule) -> Result<(), ProfileError> {
    let topic = optional(section.get("topic"), |entry| scope.template_at(entry, None))?;
    let (since, missed, until) = (section.get("since"), section.get("missed"), section.get("until"));
    if let Some(until) = until.as_ref().filter(|_| topic.is_some() || missed.is_some()) {
        return Err(
            until.error("expected `until` without `topic` or `missed`, found it beside one; remove one of them")
        );
    }
    rule.data_number = optional(section.get("number"), |entry| match until {
        Some(_) => Pointer::parse(entry.text()?).map_err(|error| entry.error(error)),
        None => Err(entry.error("expected `until` beside `number`, found none; add for example `until = \"/to\"`")),
    })?;
    if until.is_some() && rule.data_number.is_none() {
        section.require("number", "number = \"/offset\"")?;
    }
    rule.number = optional(since.or(missed).or(until), |entry| {
        scope.field(entry.text()?, None).map_err(|problem| entry.error(problem))
    })?;
    rule.topic = topic.map(Naming::Template);
    Ok(())
}

fn read_data(
    section: &ProfileSection<'_>,
    topic: Option<&ProfileEntry<'_>>,
    scope: &mut Scope,
    rule: &mut Rule,
) -> Result<(), ProfileError> {
    rule.each = optional(section.get("each"), |entry| {
        if scope.rules.decode.format == MessageFormat::Irc {
            return Err(entry.error("expected no `each` beside `format = \"irc\"`, whose messages have no elements"));
        }
        let each = Each::parse(entry.text()?).map_err(|error| entry.error(error))?;
        Ok(scope.rules.pointers.add_path(&each))
    })?;
    rule.newest_first = optional(section.get("order"), |entry| match rule.each {
        Some(_) => entry.choice(&[("newest_last", false), ("newest_first", true)]),
        None => Err(entry.error("expected `each` beside `order`, found none; add for example `each = \"/data/*\"`")),
    })?
    .unwrap_or(false);
    let topic = section.get("topic").or(topic.cloned()).ok_or_else(|| {
        let remedy = if section.get("as").is_some() { "add it" } else { "add it, or `as` if the message is not data" };
        section.error("topic", format!("expected `topic = \"${{/symbol}}\"`, found nothing; {remedy}"))
    })?;
    rule.continues = optional(section.get("continue"), ProfileEntry::flag)?.unwrap_or_default();
    rule.topic = Some(match (topic.text()?, rule.each) {
        (GUESS, None) if rule.continues => {
            return Err(topic.error(format!("expected a template beside `continue`, found `{GUESS}`")));
        }
        (GUESS, None) => Naming::Guess,
        (GUESS, Some(_)) => {
            return Err(topic.error(format!("expected a template beside `each`, found `{GUESS}`")));
        }
        _ => Naming::Template(scope.template_at(&topic, rule.each)?),
    });
    rule.snapshot_when = read_tests(section.get("snapshot_when"), scope, rule.each)?;
    let sequence = optional(section.get("seq"), |entry| {
        let remedies = [
            ("mark", GapRemedy::Mark),
            ("resubscribe", GapRemedy::Resubscribe),
            ("reconnect", GapRemedy::Reconnect),
            ("ignore", GapRemedy::Ignore),
            ("drop_old", GapRemedy::DropOld),
        ];
        read_sequence(&entry.section(SEQ)?, &remedies, |source| scope.field(source, rule.each))
    })?;
    let (sequence, numbers) = sequence.unzip();
    rule.numbers = numbers.unwrap_or_default();
    rule.treatment = Treatment {
        rule: RuleSite { name: rule.name.as_str().into(), line: section.line() },
        mode: read_mode(section)?,
        sequence,
        emit_element: read_emit(section, rule.each.is_some())?,
        wrap: optional(section.get("wrap"), ProfileEntry::flag)?.unwrap_or_default(),
        time: optional(section.get("time"), |entry| read_time(entry, scope.rules.decode.format))?,
    };
    Ok(())
}

fn read_time(entry: &ProfileEntry<'_>, format: MessageFormat) -> Result<VenueTime, ProfileError> {
    if format == MessageFormat::Irc {
        return Err(entry.error("expected no `time` beside `format = \"irc\"`, whose messages are no JSON"));
    }
    let section = entry.section(TIME)?;
    let at = section.require("at", "at = \"/ts\"")?;
    let text = at.text()?;
    let (in_element, pointer) = text.strip_prefix('.').map_or((false, text), |inner| (true, inner));
    if !pointer.starts_with('/') {
        return Err(
            at.error(format!("expected `/pointer` or `./pointer`, found `{text}`; write for example `/{text}`"))
        );
    }
    let unit = section.require("unit", "unit = \"ms\"")?.choice(&TimeUnit::NAMES)?;
    Ok(VenueTime { at: Pointer::parse(pointer).map_err(|error| at.error(error))?, in_element, unit })
}

fn read_when(section: &ProfileSection<'_>, scope: &mut Scope) -> Result<Vec<Test>, ProfileError> {
    let entry = section.get("when");
    let tests = entry.as_ref().map(|entry| entry.list()).transpose()?.unwrap_or_default();
    for test in &tests {
        let text = test.text()?;
        if text.trim_start().starts_with("./") {
            return Err(test.error(format!(
                "expected a test of the whole message, found `{text}`; a rule is chosen once per message; \
                 write `/pointer`"
            )));
        }
    }
    read_tests(entry, scope, None)
}

fn read_tests(
    entry: Option<ProfileEntry<'_>>,
    scope: &mut Scope,
    each: Option<usize>,
) -> Result<Vec<Test>, ProfileError> {
    let tests = entry.map(|entry| entry.list()).transpose()?.unwrap_or_default();
    let test = |entry: &ProfileEntry<'_>| scope.test(entry.text()?, each).map_err(|problem| entry.error(problem));
    tests.iter().map(test).collect()
}

fn read_emit(section: &ProfileSection<'_>, has_each: bool) -> Result<bool, ProfileError> {
    let emit = optional(section.get("emit"), |entry| {
        let element = entry.choice(&[("element", true), ("message", false)])?;
        if element && !has_each {
            return Err(entry.error("expected `each` beside `emit = \"element\"`, found none"));
        }
        Ok(element)
    })?;
    Ok(emit.unwrap_or(false))
}

fn read_bind(entry: &ProfileEntry<'_>, scope: &mut Scope) -> Result<Bind, ProfileError> {
    let section = entry.section(BIND)?;
    let key = scope.template_at(&section.require("key", "key = \"${/chanId}\"")?, None)?;
    let mut set = Vec::new();
    for (name, entry) in section.require("set", "set = { channel = \"/channel\" }")?.members()? {
        let value = scope.field(entry.text()?, None).map_err(|problem| entry.error(problem))?;
        let number = scope.rules.variables.iter().position(|known| *known == name);
        set.extend(number.map(|number| (number, value)));
    }
    Ok(Bind { key, set })
}

fn read_connection_sequence(
    entry: &ProfileEntry<'_>,
    scope: &mut Scope,
) -> Result<ConnectionSequenceRule, ProfileError> {
    let section = entry.section(CONNECTION_SEQ)?;
    optional(section.get("scope"), |entry| entry.choice(&[("connection", ())]))?;
    let remedies = [("mark", GapRemedy::Mark), ("reconnect", GapRemedy::Reconnect), ("ignore", GapRemedy::Ignore)];
    let (rule, numbers) = read_sequence(&section, &remedies, |source| scope.field(source, None))?;
    Ok(ConnectionSequenceRule { rule, numbers })
}

fn read_sequence(
    section: &ProfileSection<'_>,
    remedies: &[(&str, GapRemedy)],
    mut field: impl FnMut(&str) -> Result<Field, String>,
) -> Result<(SequenceRule, NumberFields), ProfileError> {
    let rule = section.require("rule", "rule = \"inc\"")?;
    let follow = rule.choice(&[
        ("inc", Continuity::Inc),
        ("range", Continuity::Range),
        ("prev", Continuity::Prev),
        ("monotonic", Continuity::Monotonic),
    ])?;
    let rule = rule.text()?;
    let mut place = |entry: &ProfileEntry<'_>| {
        let mut one = |entry: &ProfileEntry<'_>| field(entry.text()?).map_err(|problem| entry.error(problem));
        let list = if entry.text().is_ok() { Vec::new() } else { entry.list()? };
        match &list[..] {
            [] => one(entry),
            [first, other] => one(first)?.or(one(other)?).ok_or_else(|| {
                entry.error("expected two pointers into the message, found another place; write for example `/u`")
            }),
            other => Err(entry.error(format!("expected a pointer, or two of them, found {}", other.len()))),
        }
    };
    let mut number =
        |key: &str, needed: bool| match (section.get(key), needed) {
            (Some(entry), true) => place(&entry).map(Some),
            (None, true) => section.require(key, &format!("{key} = \"/data/{key}\"")).map(|_| None),
            (Some(entry), false) => Err(entry
                .error(format!("expected no `{key}` beside `rule = \"{rule}\"`, which does not use it; remove it"))),
            (None, false) => Ok(None),
        };
    let numbers = NumberFields {
        first: number("first", follow == Continuity::Range)?,
        prev: number("prev", follow == Continuity::Prev)?,
        last: number("last", true)?,
    };
    let remedy = optional(section.get("gap"), |entry| entry.choice(remedies))?.unwrap_or(GapRemedy::Mark);
    Ok((SequenceRule { follow, remedy }, numbers))
}

/// The fields that templates and tests of a profile may use; those in use are added to the rules' pointers.
#[derive(Default)]
pub(crate) struct Scope {
    pub rules: Rules,
    pub aliases: Aliases,
    /// Names of what sessions of a dialect keep.
    pub kept: Vec<String>,
}

impl Scope {
    /// Reads a test; `each` is the path whose elements it may use.
    pub(crate) fn test(&mut self, text: &str, each: Option<usize>) -> Result<Test, String> {
        Test::parse(text, |source| self.field(source, each))
    }

    /// Reads a template; `each` is the path whose elements it may use.
    pub(crate) fn template(&mut self, text: &str, each: Option<usize>) -> Result<Template<Field>, String> {
        let aliases = self.aliases.clone();
        Template::parse_with(text, &aliases, |source| match source.strip_prefix("number:") {
            Some(place) => self.field(place, each)?.as_number().ok_or_else(|| {
                format!("expected a pointer after `number:`, found `{place}`; write for example `number:/id`")
            }),
            None => self.field(source, each),
        })
    }

    fn template_at(&mut self, entry: &ProfileEntry<'_>, each: Option<usize>) -> Result<Template<Field>, ProfileError> {
        self.template(entry.text()?, each).map_err(|problem| entry.error(problem))
    }

    pub(crate) fn field(&mut self, source: &str, each: Option<usize>) -> Result<Field, String> {
        let pointer = |text: &str| Pointer::parse(text).map_err(|error| error.to_string());
        if let Some(name) = source.strip_prefix('=') {
            return self.variable(name);
        }
        match (source, each) {
            ("text", _) => Ok(Field::Text),
            ("#", Some(_)) => Ok(Field::Key),
            (inside, Some(path)) if inside.starts_with("./") => {
                Ok(Field::Element(self.rules.pointers.add_inside(path, &pointer(&inside[1..])?)))
            }
            (inside, None) if inside == "#" || inside.starts_with("./") => {
                Err(format!("expected `each` beside `{inside}`, found none; add for example `each = \"/data/*\"`"))
            }
            (whole, _) if whole.starts_with('/') => Ok(Field::Whole(self.rules.pointers.add(&pointer(whole)?))),
            (other, _) => {
                Err(format!("expected `/pointer`, `=name` or `text`, found `{other}`; write for example `/{other}`"))
            }
        }
    }

    fn variable(&self, name: &str) -> Result<Field, String> {
        let known: Vec<&str> = self.rules.variables.iter().map(String::as_str).collect();
        known.iter().position(|variable| *variable == name).map(Field::Bound).ok_or_else(|| match known.is_empty() {
            true => format!(
                "expected a `bind` that sets `{name}`, found none; add `bind` to the rule of the acknowledgement"
            ),
            false => {
                format!("expected {} after `=`, found `{name}`{}", one_of(&known), did_you_mean(name, &known))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::profile::check;

    #[test]
    fn rules_by_name_are_tried_in_the_order_of_the_file() {
        let text = "profile = 1\nname = \"x\"\ntopic = \"${/s}\"\n[on]\nz = { as = \"ack\" }\na = { as = \"pong\" }\n\
                    [on.m]\nseq = { rule = \"inc\", last = \"/n\" }\n[on.b]\ntopic = \"b\"\n";
        let rules = check(text, "x").expect("a valid profile").rules.list;
        let found: Vec<(&str, &str)> = rules.iter().map(|rule| (&*rule.name, rule.class.label())).collect();
        assert_eq!(found, [("z", "ack"), ("a", "pong"), ("m", "data"), ("b", "data")]);
    }

    #[test]
    fn mistakes_are_reported_with_line_key_and_remedy() {
        const ACK: &str = "[[on]]\nname = \"ack\"\nas = \"ack\"\n";
        const GAP: &str = "[[on]]\nname = \"gap\"\nas = \"gap\"\n";
        const DATA: &str = "[[on]]\nname = \"d\"\nas = \"data\"\ntopic = \"x\"\n";
        const EACH: &str = "[[on]]\nname = \"d\"\nas = \"data\"\ntopic = \"x\"\neach = \"/*\"\n";
        let mut faults = Vec::new();
        for (before, text, expected) in [
            ("", "bind_via = 1", "3: bind_via: expected a text in quotes, found `1`"),
            (
                "",
                "bind_via = \"${chan}\"",
                "3: bind_via: expected `/pointer`, `=name` or `text`, found `chan`; write for example `/chan`",
            ),
            (
                "",
                "[decode]\nbinary = \"gzi\"",
                "4: decode.binary: expected one of `reject`, `utf8`, `gzip`, `zlib`, `zstd`, found `gzi`; did you mean `gzip`?",
            ),
            ("", "[decode]\nsplit = \"crlf\"", "4: decode.split: expected one of `none`, `lines`, found `crlf`"),
            ("", "[decode]\nformat = \"xml\"", "4: decode.format: expected one of `json`, `irc`, found `xml`"),
            (
                "",
                "[decode]\ncharset = \"x\"",
                "4: decode.charset: expected one of `binary`, `split`, `format`, found `charset`",
            ),
            (
                ACK,
                "topic = \"x\"",
                "6: on.1.topic: expected `topic` only in rules of class `data`, `stale`, `live`, `gap`, found `ack`",
            ),
            (GAP, "since = \"/t\"", "6: on.1.since: expected `since` only in rules of class `stale`, found `gap`"),
            (GAP, "until = \"/to\"", "3: on.1.number: expected `number = \"/offset\"`, found nothing; add it"),
            (
                GAP,
                "number = \"/n\"",
                "6: on.1.number: expected `until` beside `number`, found none; add for example `until = \"/to\"`",
            ),
            (
                GAP,
                "until = \"/to\"\nnumber = \"/n\"\nmissed = \"/m\"",
                "6: on.1.until: expected `until` without `topic` or `missed`, found it beside one; remove one of them",
            ),
            ("", "alias = 3", "3: alias: expected a table, found `3`"),
            ("", "[alias]\nx = \"y\"", "4: alias.x: expected a table, found `y`"),
            ("", "[alias.x]\ny = 1", "4: alias.x.y: expected a text in quotes, found `1`"),
            ("", "[seq]\nrule = \"inc\"", "3: seq.last: expected `last = \"/data/last\"`, found nothing; add it"),
            (
                "",
                "[seq]\nrule = \"inc\"\nlast = [\"/a\", \"/b\", \"/c\"]",
                "5: seq.last: expected a pointer, or two of them, found 3",
            ),
            (
                "",
                "[seq]\nrule = \"inc\"\nlast = [\"/a\", \"text\"]",
                "5: seq.last: expected two pointers into the message, found another place; write for example `/u`",
            ),
            ("", "on = 3", "3: on: expected a table of tables by name, found `3`"),
            ("", "[on]\nping = \"x\"", "4: on.ping: expected a table, found `x`"),
            (
                "",
                "[on.a]\nname = \"b\"\ntopic = \"x\"",
                "4: on.a.name: expected no `name` in `on.a`, found one; remove it",
            ),
            (
                "",
                "[on.a]\nwhen = []",
                "3: on.a.topic: expected `topic = \"${/symbol}\"`, found nothing; add it, or `as` if the message is not data",
            ),
            (
                "topic = \"x\"\n",
                "[on.a]\ntopic = \"y\"",
                "3: topic: expected a rule of class `data` without a `topic` of its own, found none; remove it",
            ),
            (
                "",
                "[on.a]\ntopic = \"${guess}\"\ncontinue = true",
                "4: on.a.topic: expected a template beside `continue`, found `${guess}`",
            ),
            (
                "",
                "[on.a]\ntopic = \"${number:=b}\"",
                "4: on.a.topic: expected a `bind` that sets `b`, found none; add `bind` to the rule of the acknowledgement",
            ),
            (
                "",
                "[on.a]\ntopic = \"${number:text}\"",
                "4: on.a.topic: expected a pointer after `number:`, found `text`; write for example `number:/id`",
            ),
            (
                "",
                "[on.a]\ntopic = \"${/a|or:${/b}|lower}\"",
                "4: on.a.topic: expected `or:` as the last filter, found another after `${/b}|lower`",
            ),
            ("", "[seq]\nscope = \"topic\"", "4: seq.scope: expected one of `connection`, found `topic`"),
            (
                "",
                "[seq]\nscope = \"connection\"\nrule = \"inc\"\nlast = \"/n\"\ngap = \"resubscribe\"",
                "7: seq.gap: expected one of `mark`, `reconnect`, `ignore`, found `resubscribe`",
            ),
            (
                "",
                "unmatched = \"raw\"",
                "3: unmatched: expected `topic:` and the name of a topic, found `raw`; write `topic:raw`",
            ),
            (
                "",
                "unmatched = \"topic:a b\"",
                "3: unmatched: expected no white space, control character or comma, found ' ' in `a b`",
            ),
            (DATA, "mode = \"replac\"", "7: on.1.mode: "),
            (DATA, "wrap = \"yes\"", "7: on.1.wrap: expected `true` or `false`, found `yes`"),
            (
                DATA,
                "bind = { key = \"x\", set = {} }",
                "7: on.1.bind: expected `bind` only in rules of class `ack`, found `data`",
            ),
            (ACK, "seq = {}", "6: on.1.seq: expected `seq` only in rules of class `data`, found `ack`"),
            (ACK, "reply = \"x\"", "6: on.1.reply: expected `reply` only in rules of class `ping`, found `ack`"),
            (
                ACK,
                "unbind = \"${id}\"",
                "6: on.1.unbind: expected `/pointer`, `=name` or `text`, found `id`; write for example `/id`",
            ),
            (ACK, "bind = { set = {} }", "6: on.1.bind.key: expected `key = \"${/chanId}\"`, found nothing; add it"),
            (
                ACK,
                "bind = { key = \"${/id}\" }",
                "6: on.1.bind.set: expected `set = { channel = \"/channel\" }`, found nothing; add it",
            ),
            (
                ACK,
                "bind = { key = \"${/id}\", set = { a = \"channel\" } }",
                "6: on.1.bind.set.a: expected `/pointer`, `=name` or `text`, found `channel`; write for example `/channel`",
            ),
            (
                DATA,
                "when = ['=channel exists']",
                "7: on.1.when.1: expected a `bind` that sets `channel`, found none; add `bind` to the rule of the acknowledgement",
            ),
            (
                EACH,
                "when = ['./x exists']",
                "8: on.1.when.1: expected a test of the whole message, found `./x exists`; a rule is chosen once per message; write `/pointer`",
            ),
            (
                DATA,
                "snapshot_when = ['./x exists']",
                "7: on.1.snapshot_when.1: expected `each` beside `./x`, found none; add for example `each = \"/data/*\"`",
            ),
            (DATA, "emit = \"element\"", "7: on.1.emit: expected `each` beside `emit = \"element\"`, found none"),
            (DATA, "seq = { last = \"/u\" }", "7: on.1.seq.rule: expected `rule = \"inc\"`, found nothing; add it"),
            (
                DATA,
                "seq = { rule = \"range\", last = \"/u\" }",
                "7: on.1.seq.first: expected `first = \"/data/first\"`, found nothing; add it",
            ),
            (
                DATA,
                "seq = { rule = \"inc\", prev = \"/p\", last = \"/u\" }",
                "7: on.1.seq.prev: expected no `prev` beside `rule = \"inc\"`, which does not use it; remove it",
            ),
            (
                DATA,
                "seq = { rule = \"inc\", last = \"u\" }",
                "7: on.1.seq.last: expected `/pointer`, `=name` or `text`, found `u`; write for example `/u`",
            ),
            (
                DATA,
                "seq = { rule = \"inc\", last = \"/u\", gap = \"drop\" }",
                "7: on.1.seq.gap: expected one of `mark`, `resubscribe`, `reconnect`, `ignore`, `drop_old`, found `drop`",
            ),
            (DATA, "time = { unit = \"ms\" }", "7: on.1.time.at: expected `at = \"/ts\"`, found nothing; add it"),
            (DATA, "time = { at = \"/E\" }", "7: on.1.time.unit: expected `unit = \"ms\"`, found nothing; add it"),
            (
                DATA,
                "time = { at = \"E\", unit = \"ms\" }",
                "7: on.1.time.at: expected `/pointer` or `./pointer`, found `E`; write for example `/E`",
            ),
            (
                DATA,
                "time = { at = \"/E\", unit = \"min\" }",
                "7: on.1.time.unit: expected one of `s`, `ms`, `us`, `ns`, `rfc3339`, found `min`; did you mean `ms`?",
            ),
            (
                "[decode]\nformat = \"irc\"\n",
                "[[on]]\nname = \"d\"\nas = \"data\"\ntopic = \"x\"\ntime = { at = \"/t\", unit = \"ms\" }",
                "9: on.1.time: expected no `time` beside `format = \"irc\"`, whose messages are no JSON",
            ),
            (ACK, "time = {}", "6: on.1.time: expected `time` only in rules of class `data`, found `ack`"),
            (
                "[decode]\nformat = \"irc\"\n",
                EACH,
                "9: on.1.each: expected no `each` beside `format = \"irc\"`, whose messages have no elements",
            ),
            (
                "[[on]]\nname = \"d\"\nas = \"data\"\n",
                "topic = \"${/s|map:coins}\"",
                "6: on.1.topic: expected a table after `map:`, found `coins`; add `[alias.coins]`",
            ),
            (
                "[[on]]\nname = \"d\"\nas = \"data\"\n",
                "topic = \"${/s|re:(}\"",
                "6: on.1.topic: expected a regular expression, found `(`: unclosed group",
            ),
            (
                "[[on]]\nname = \"d\"\n",
                "as = \"greting\"",
                "5: on.1.as: expected one of `data`, `ack`, `nack`, `heartbeat`, `ping`, `pong`, `greeting`, `auth_ok`, `info`, \
                 `ignore`, `reconnect`, `fatal`, `stale`, `live`, `gap`, found `greting`; did you mean `greeting`?",
            ),
        ] {
            let text = format!("profile = 1\nname = \"x\"\n{before}{text}\n");
            let error = check(&text, "x").expect_err(&text).to_string();
            let as_expected = match expected.ends_with(": ") {
                true => error.starts_with(&format!("x:{expected}")),
                false => error == format!("x:{expected}"),
            };
            if !as_expected {
                faults.push(format!("{text}found    {error}\nexpected x:{expected}\n"));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
