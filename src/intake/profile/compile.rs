//! Reads the `[[on]]` rules of a profile.

use crate::intake::flow::Treatment;
use crate::wire::json::{Each, Pointer, Pointers};

use super::optional;
use super::rule::{Class, Field, Naming, Rule, Rules, Test};
use super::section::{Entry, Keys, ProfileError, Section, did_you_mean};
use super::template::Template;

const ON: Keys = Keys {
    known: &["name", "as", "when", "topic", "reply", "each", "emit"],
    later: &["mode", "tail", "snapshot_when", "seq", "wrap", "bind", "unbind", "book", "delta_limit"],
};

/// The topic that lets the first messages decide.
const GUESS: &str = "${guess}";

/// The rules of a profile, in their order.
pub(crate) fn read_rules(root: &Section<'_>) -> Result<Rules, ProfileError> {
    let entries = root.get("on").map(|entry| entry.list()).transpose()?.unwrap_or_default();
    let mut rules = Rules::default();
    for entry in &entries {
        let rule = read_rule(&entry.section(ON)?, &mut rules.pointers)?;
        rules.list.push(rule);
    }
    if rules.list.is_empty() {
        return Err(root.error("on", "expected at least one rule, found none; add `[[on]]`"));
    }
    Ok(rules)
}

/// The one rule that takes every message as data with this topic. The error is a problem to be told.
pub(crate) fn topic_rules(template: &str) -> Result<Rules, String> {
    let mut rules = Rules::default();
    let topic = Template::parse(template, |source| field(source, &mut rules.pointers, None))?;
    rules.list.push(Rule {
        name: "topic".to_string(),
        class: Class::Data,
        when: Vec::new(),
        topic: Some(Naming::Template(topic)),
        each: None,
        element: Pointers::default(),
        treatment: Treatment::default(),
        reply: None,
    });
    Ok(rules)
}

fn read_rule(section: &Section<'_>, pointers: &mut Pointers) -> Result<Rule, ProfileError> {
    let name = section.require("name", "name = \"trades\"")?.text()?.to_string();
    let as_entry = section.require("as", "as = \"data\"")?;
    let class = Class::parse(as_entry.text()?).map_err(|problem| as_entry.error(problem))?;
    for (key, owner) in [("topic", Class::Data), ("each", Class::Data), ("emit", Class::Data), ("reply", Class::Ping)] {
        if let Some(entry) = section.get(key).filter(|_| class != owner) {
            let (owner, found) = (owner.label(), class.label());
            return Err(entry.error(format!("expected `{key}` only in rules of class `{owner}`, found `{found}`")));
        }
    }
    let tests = section.get("when").map(|entry| entry.list()).transpose()?.unwrap_or_default();
    let test = |entry: &Entry<'_>| Test::parse(entry.text()?, pointers).map_err(|problem| entry.error(problem));
    let when = tests.iter().map(test).collect::<Result<Vec<_>, _>>()?;
    let each = optional(section.get("each"), |entry| Each::parse(entry.text()?).map_err(|error| entry.error(error)))?;
    let mut element = Pointers::default();
    let topic = match class {
        Class::Data => {
            let entry = section.require("topic", "topic = \"${/symbol}\"")?;
            Some(read_topic(&entry, pointers, each.is_some().then_some(&mut element))?)
        }
        _ => None,
    };
    let reply = match class {
        Class::Ping => {
            let entry = section.require("reply", "reply = '{\"pong\":${/ping}}'")?;
            Some(read_template(&entry, pointers, None)?)
        }
        _ => None,
    };
    let emit_element = read_emit(section, each.is_some())?;
    let treatment = Treatment { emit_element, ..Treatment::default() };
    Ok(Rule { name, class, when, topic, each, element, treatment, reply })
}

fn read_emit(section: &Section<'_>, has_each: bool) -> Result<bool, ProfileError> {
    let emit = optional(section.get("emit"), |entry| match entry.text()? {
        "element" if has_each => Ok(true),
        "element" => Err(entry.error("expected `each` beside `emit = \"element\"`, found none")),
        "message" => Ok(false),
        other => Err(entry.error(format!(
            "expected `element` or `message`, found `{other}`{}",
            did_you_mean(other, &["element", "message"])
        ))),
    })?;
    Ok(emit.unwrap_or(false))
}

fn read_topic(entry: &Entry<'_>, whole: &mut Pointers, element: Option<&mut Pointers>) -> Result<Naming, ProfileError> {
    if entry.text()? == GUESS {
        return match element {
            None => Ok(Naming::Guess),
            Some(_) => Err(entry.error(format!("expected a template beside `each`, found `{GUESS}`"))),
        };
    }
    read_template(entry, whole, element).map(Naming::Template)
}

fn read_template(
    entry: &Entry<'_>,
    whole: &mut Pointers,
    mut element: Option<&mut Pointers>,
) -> Result<Template<Field>, ProfileError> {
    Template::parse(entry.text()?, |source| field(source, whole, element.as_deref_mut()))
        .map_err(|problem| entry.error(problem))
}

/// Reads a placeholder's source; `element` is there if the rule has `each`.
fn field(source: &str, whole: &mut Pointers, element: Option<&mut Pointers>) -> Result<Field, String> {
    let pointer = |text: &str| Pointer::parse(text).map_err(|error| error.to_string());
    match (source, element) {
        ("#", Some(_)) => Ok(Field::Key),
        (relative, Some(element)) if relative.starts_with("./") => {
            Ok(Field::Element(element.add(&pointer(&relative[1..])?)))
        }
        (relative, None) if relative == "#" || relative.starts_with("./") => {
            Err(format!("expected `each` beside `${{{relative}}}`, found none; add for instance `each = \"/data/*\"`"))
        }
        (absolute, _) if absolute.starts_with('/') => Ok(Field::Whole(whole.add(&pointer(absolute)?))),
        (other, _) => {
            Err(format!("expected a pointer such as `${{/symbol}}`, found `${{{other}}}`; write `${{/{other}}}`"))
        }
    }
}
