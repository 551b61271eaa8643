//! Reader of `[downstream]`.

use std::sync::Arc;

use regex::Regex;

use crate::json::{Each, Pointer};
use crate::profile::compile::Scope;
use crate::profile::downstream::conversation::{Deed, ItemSource, ReplyPer, SaidRule};
use crate::profile::downstream::forms::{DialectForm, FormCase};
use crate::profile::downstream::paths::DialectPath;
use crate::profile::downstream::words::{Word, WordSite};
use crate::profile::downstream::{Dialect, DialectHeartbeat, ItemTopics};
use crate::profile::keys::{DOWNSTREAM, FORM, HEARTBEAT, ITEMS, PATH, SAID};
use crate::profile::optional;
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, did_you_mean, one_of};
use crate::profile::template::{Aliases, Template, regex};
use crate::protocol::form::{FORMS_MAX, FormId};
use crate::words::topic::Pattern;

const ITEMS_MAX: usize = 1024;
const STALE_CLOSE: std::time::Duration = std::time::Duration::from_secs(10);
/// Where the server's own protocol is spoken.
const OWN_PATH: &str = "/v1/ws";

pub(crate) fn read_dialect(root: &ProfileSection<'_>, aliases: &Aliases) -> Result<Option<Arc<Dialect>>, ProfileError> {
    optional(root.get("downstream"), |entry| {
        let section = entry.section(DOWNSTREAM)?;
        let mut scope = Scope { aliases: aliases.clone(), ..Scope::default() };
        let said = section.get("on").map(|entry| entry.named(SAID, "name = \"subscribe\"")).transpose()?;
        let said: Vec<ProfileSection<'_>> = said.unwrap_or_default().into_iter().map(|(_, section)| section).collect();
        scope.kept = names_kept(&said)?;
        let forms = read_forms(section.get("forms"), &mut scope)?;
        let paths = section.require("paths", "paths = { \"/ws\" = {} }")?.members()?;
        let path = |(text, entry): &(&str, ProfileEntry<'_>)| read_path(text, entry, &forms, &mut scope);
        let paths: Vec<DialectPath> = paths.iter().map(path).collect::<Result<_, _>>()?;
        let items = list(section.get("items"), |entry| read_items(entry, &mut scope))?;
        let open = list(section.get("open"), |entry| word_template(entry, WordSite::Unasked, &mut scope))?;
        let heartbeat = optional(section.get("heartbeat"), |entry| read_heartbeat(entry, &mut scope))?;
        let goodbyes = section.get("goodbye").map(|entry| entry.members()).transpose()?.unwrap_or_default();
        let goodbye = |(name, entry): &(&str, ProfileEntry<'_>)| {
            Ok((form_of(name, entry, &forms)?, word_template(entry, WordSite::Unasked, &mut scope)?))
        };
        let goodbyes = goodbyes.iter().map(goodbye).collect::<Result<_, ProfileError>>()?;
        let group = optional(section.get("group"), |entry| {
            word_template(entry, WordSite::Group, &mut scope).map(Template::quoting)
        })?;
        let rules = said.iter().map(|section| read_rule(section, &forms, group.is_some(), &mut scope));
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Arc::new(Dialect {
            paths,
            subprotocols: list(section.get("subprotocols"), |entry| entry.text().map(str::to_string))?,
            is_in_lines: optional(section.get("split"), |entry| entry.choice(&[("none", false), ("lines", true)]))?
                .unwrap_or_default(),
            items_max: optional(section.get("items_max"), ProfileEntry::count)?.unwrap_or(ITEMS_MAX),
            ws_ping: optional(section.get("ws_ping"), ProfileEntry::duration)?,
            stale_close: optional(section.get("stale_close"), ProfileEntry::duration_or_none)?
                .unwrap_or(Some(STALE_CLOSE)),
            forms,
            items,
            open,
            heartbeat,
            goodbyes,
            rules,
            group,
            pointers: scope.rules.pointers,
        }))
    })
}

/// Tables of one name are the cases of one form.
fn read_forms(entry: Option<ProfileEntry<'_>>, scope: &mut Scope) -> Result<Vec<DialectForm>, ProfileError> {
    let mut forms: Vec<DialectForm> = Vec::new();
    for entry in entry.iter().map(ProfileEntry::list).collect::<Result<Vec<_>, _>>()?.iter().flatten() {
        let section = entry.section(FORM)?;
        let name_entry = section.require("name", "name = \"raw\"")?;
        let name = name_entry.text()?;
        let case = FormCase {
            topics: optional(section.get("topics"), read_pattern)?,
            at: optional(section.get("at"), |entry| Pointer::parse(entry.text()?).map_err(|error| entry.error(error)))?,
            wrap: optional(section.get("wrap"), |entry| {
                word_template(entry, WordSite::Form, scope).map(|template| template.quoting().or("null"))
            })?,
        };
        match forms.iter().position(|form| form.name == name) {
            Some(place) => forms[place].cases.push(case),
            None if forms.len() == FORMS_MAX => {
                let problem = format!("expected at most {FORMS_MAX} forms, found more; use those that clients know");
                return Err(name_entry.error(problem));
            }
            None => forms.push(DialectForm { name: name.to_string(), cases: vec![case] }),
        }
    }
    if forms.is_empty() {
        forms.push(DialectForm { name: "received".to_string(), cases: Vec::new() });
    }
    Ok(forms)
}

fn read_path(
    text: &str,
    entry: &ProfileEntry<'_>,
    forms: &[DialectForm],
    scope: &mut Scope,
) -> Result<DialectPath, ProfileError> {
    let section = entry.section(PATH)?;
    let (known, is_open) = text.strip_suffix('*').map_or((text, false), |head| (head, true));
    if !known.starts_with('/') || known.contains(['*', '?', '#']) {
        return Err(entry.error(format!(
            "expected a path such as `/ws`, or `/ws/*` for all below it, found `{text}`; leave out the host and the query"
        )));
    }
    if known == OWN_PATH {
        return Err(
            entry.error(format!("expected another path than `{OWN_PATH}`, where fanline's own protocol is spoken"))
        );
    }
    let items = optional(section.get("items"), |entry| {
        let template = word_template(entry, WordSite::Path, scope)?;
        if !is_open && template.sources().any(|word| *word == Word::Path) {
            return Err(entry.error(
                "expected `*` at the end of the path beside `${path}`, found none; write for example `\"/ws/*\"`",
            ));
        }
        Ok(template)
    })?;
    for key in ["by", "unless"] {
        if let Some(entry) = section.get(key).filter(|_| items.is_none()) {
            return Err(entry.error(format!(
                "expected `items` beside `{key}`, found none; add for example `items = \"${{query.streams}}\"`"
            )));
        }
    }
    Ok(DialectPath {
        text: known.to_string(),
        is_open,
        items,
        by: optional(section.get("by"), separator)?,
        unless: optional(section.get("unless"), read_regex)?,
        form: optional(section.get("form"), |entry| form_named(entry, forms))?.unwrap_or_default(),
    })
}

fn read_items(entry: &ProfileEntry<'_>, scope: &mut Scope) -> Result<ItemTopics, ProfileError> {
    let section = entry.section(ITEMS)?;
    let like = read_regex(&section.require("like", "like = \"^!.+@arr$\"")?)?;
    let topics = section.require("topics", "topics = [\"${item}\"]")?;
    Ok(ItemTopics { like, topics: list(Some(topics), |entry| word_template(entry, WordSite::Topics, scope))? })
}

fn read_heartbeat(entry: &ProfileEntry<'_>, scope: &mut Scope) -> Result<DialectHeartbeat, ProfileError> {
    let section = entry.section(HEARTBEAT)?;
    let send = section.require("send", "send = '{\"type\":\"heartbeat\"}'")?;
    Ok(DialectHeartbeat {
        every: section.require("every", "every = \"1s\"")?.duration()?,
        send: word_template(&send, WordSite::Heartbeat, scope)?,
        topics: optional(section.get("topics"), |entry| {
            let pattern = read_pattern(entry)?;
            // The feed would be asked for a topic, which it does not have.
            (!pattern.is_exact()).then_some(pattern).ok_or_else(|| {
                entry.error("expected a pattern with a wildcard, found a topic; write for example `heartbeats.*`")
            })
        })?,
        when_idle: optional(section.get("when"), |entry| entry.choice(&[("always", false), ("idle", true)]))?
            .unwrap_or_default(),
    })
}

/// Names of all that rules keep.
fn names_kept(rules: &[ProfileSection<'_>]) -> Result<Vec<String>, ProfileError> {
    let mut names = Vec::new();
    for keep in rules.iter().filter_map(|section| section.get("keep")) {
        names.extend(keep.members()?.into_iter().map(|(name, _)| name.to_string()));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn read_rule(
    section: &ProfileSection<'_>,
    forms: &[DialectForm],
    has_groups: bool,
    scope: &mut Scope,
) -> Result<SaidRule, ProfileError> {
    let tests = section.get("when").map(|entry| entry.list()).transpose()?.unwrap_or_default();
    let test = |entry: &ProfileEntry<'_>| scope.test(entry.text()?, None).map_err(|problem| entry.error(problem));
    let when = tests.iter().map(test).collect::<Result<_, _>>()?;
    let form = optional(section.get("form"), |entry| form_named(entry, forms))?;
    let deed = section.require("do", "do = \"subscribe\"")?;
    let deed = deed.choice(&[
        ("subscribe", Deed::Subscribe),
        ("unsubscribe", Deed::Unsubscribe),
        ("list", Deed::List),
        ("set", Deed::Set(form.unwrap_or_default())),
        ("answer", Deed::Answer),
        ("ignore", Deed::Ignore),
        ("refuse", Deed::Refuse),
        ("close", Deed::Close),
    ])?;
    match (deed, section.get("form")) {
        (Deed::Set(_), None) => {
            section.require("form", "form = \"combined\"")?;
        }
        (Deed::Set(_), _) | (_, None) => {}
        (_, Some(entry)) => return Err(entry.error("expected `form` only beside `do = \"set\"`, found it elsewhere")),
    }
    if let Some(entry) = ["each", "split", "with", "item", "per", "listed"]
        .iter()
        .find_map(|key| section.get(key))
        .filter(|_| !deed.has_items())
    {
        return Err(entry.error("expected this key only in rules that subscribe or unsubscribe, found it elsewhere"));
    }
    if deed == Deed::Refuse {
        section.require("refuse", "refuse = '{\"error\":${reason|json}}'")?;
    }
    let per = optional(section.get("per"), |entry| {
        entry.choice(&[("request", ReplyPer::Request), ("item", ReplyPer::Item), ("list", ReplyPer::List)])
    })?;
    let per = per.unwrap_or(ReplyPer::Request);
    let (each, from) = read_source(section, scope)?;
    let with = optional(section.get("with"), |entry| add_path(entry, scope))?;
    let keep = section.get("keep").map(|entry| entry.members()).transpose()?.unwrap_or_default();
    let keep = keep.iter().map(|(name, entry)| {
        let template = word_template(entry, WordSite::Keep, scope)?;
        let place = scope.kept.iter().position(|known| known == name).expect("all names were read");
        Ok((place, template))
    });
    let keep = keep.collect::<Result<_, _>>()?;
    let reply = |key: &str, scope: &mut Scope| {
        optional(section.get(key), |entry| {
            let template = word_template(entry, WordSite::Reply { each }, scope)?;
            if !has_groups && template.sources().any(|word| *word == Word::Groups) {
                return Err(entry.error("expected `group` in `[downstream]` beside `${groups}`, found none; add it"));
            }
            if per == ReplyPer::Item && template.sources().any(Word::is_list) {
                return Err(entry
                    .error("expected `${item}` beside `per = \"item\"`, found a list of items; use `per = \"list\"`"));
            }
            // A missing value is null.
            Ok(template.quoting().or("null"))
        })
    };
    Ok(SaidRule {
        when,
        deed,
        item: match section.get("item") {
            Some(entry) => word_template(&entry, WordSite::Item { each }, scope)?,
            None => Word::template("${.}", WordSite::Item { each }, scope).expect("a template"),
        },
        from,
        with,
        per,
        listed: reply("listed", scope)?,
        reply: reply("reply", scope)?,
        refuse: reply("refuse", scope)?,
        keep,
    })
}

fn read_source(section: &ProfileSection<'_>, scope: &mut Scope) -> Result<(Option<usize>, ItemSource), ProfileError> {
    let (each, split, by) = (section.get("each"), section.get("split"), section.get("by"));
    if let (Some(by), None) = (&by, &split) {
        return Err(by.error("expected `split` beside `by`, found none; add for example `split = \"/params\"`"));
    }
    match (each, split) {
        (Some(_), Some(split)) => Err(split.error("expected either `each` or `split`, found both")),
        (Some(each), None) => {
            let path = add_path(&each, scope)?;
            Ok((Some(path), ItemSource::Each(path)))
        }
        (None, Some(split)) => {
            let field = scope.field(split.text()?, None).map_err(|problem| split.error(problem))?;
            let by = optional(by, separator)?.unwrap_or_else(|| ",".to_string());
            Ok((None, ItemSource::Split(field, by)))
        }
        (None, None) => Ok((None, ItemSource::Message)),
    }
}

fn add_path(entry: &ProfileEntry<'_>, scope: &mut Scope) -> Result<usize, ProfileError> {
    let path = Each::parse(entry.text()?).map_err(|error| entry.error(error))?;
    Ok(scope.rules.pointers.add_path(&path))
}

fn form_named(entry: &ProfileEntry<'_>, forms: &[DialectForm]) -> Result<FormId, ProfileError> {
    form_of(entry.text()?, entry, forms)
}

/// The form of this name; `entry` is where it stands.
fn form_of(text: &str, entry: &ProfileEntry<'_>, forms: &[DialectForm]) -> Result<FormId, ProfileError> {
    let names: Vec<&str> = forms.iter().map(|form| &*form.name).collect();
    let place = names.iter().position(|name| *name == text);
    place.map(|place| FormId(place as u8)).ok_or_else(|| {
        let hint = did_you_mean(text, &names);
        entry.error(format!("expected {}, found `{text}`{hint}; add `[[downstream.forms]]`", one_of(&names)))
    })
}

fn separator(entry: &ProfileEntry<'_>) -> Result<String, ProfileError> {
    match entry.text()? {
        "" => Err(entry.error("expected a text that separates items, found an empty one; write for example `/`")),
        text => Ok(text.to_string()),
    }
}

fn read_pattern(entry: &ProfileEntry<'_>) -> Result<Pattern, ProfileError> {
    Pattern::parse(entry.text()?).map_err(|error| entry.error(error))
}

fn read_regex(entry: &ProfileEntry<'_>) -> Result<Regex, ProfileError> {
    regex(entry.text()?).map_err(|problem| entry.error(problem))
}

fn word_template(entry: &ProfileEntry<'_>, site: WordSite, scope: &mut Scope) -> Result<Template<Word>, ProfileError> {
    Word::template(entry.text()?, site, scope).map_err(|problem| entry.error(problem))
}

/// Reads the entries of a list, if it is there.
fn list<T>(
    entry: Option<ProfileEntry<'_>>,
    read: impl FnMut(&ProfileEntry<'_>) -> Result<T, ProfileError>,
) -> Result<Vec<T>, ProfileError> {
    let entries = entry.map(|entry| entry.list()).transpose()?.unwrap_or_default();
    entries.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
