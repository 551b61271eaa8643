//! Snapshots over HTTP, for topics whose feed sends changes alone.

use crate::profile::keys::SNAPSHOT;
use crate::profile::placeholders::{Placeholder, TemplateSite};
use crate::profile::request::{Call, read_call};
use crate::profile::rule::{Rule, Rules};
use crate::profile::rules::treatment::{Mode, Treatment};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, RateRule, did_you_mean, one_of};
use crate::profile::template::Template;
use crate::profile::{connection, optional};

/// How snapshots are obtained.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotRule {
    pub call: Call,
    /// The message that the rules see, made of the answer.
    pub message: Template<Placeholder>,
    pub rate: Option<RateRule>,
}

/// Reads the section `[snapshot]`, and marks the rule whose topics wait for snapshots.
pub(crate) fn read_snapshot(
    root: &ProfileSection<'_>,
    rules: &mut Rules,
    taken: &[String],
) -> Result<Option<SnapshotRule>, ProfileError> {
    let Some(section) = root.get("snapshot").map(|entry| entry.section(SNAPSHOT)).transpose()? else {
        return Ok(None);
    };
    let entry = section.require("rule", "rule = \"depth\"")?;
    let name = entry.text()?;
    let waits = |rule: &&mut Rule| {
        let Treatment { mode, sequence, .. } = &rule.treatment;
        rule.each.is_none() && matches!(mode, Mode::Changes(_)) && sequence.is_some()
    };
    let mut fitting: Vec<&mut Rule> = rules.list.iter_mut().filter(waits).collect();
    let names: Vec<String> = fitting.iter().map(|rule| rule.name.to_string()).collect();
    match fitting.iter_mut().find(|rule| &*rule.name == name).map(|rule| &mut rule.treatment.mode) {
        Some(Mode::Changes(changes)) => changes.waits = true,
        _ => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let known = if names.is_empty() { "a rule".to_string() } else { one_of(&names) };
            return Err(entry.error(format!(
                "expected {known} of mode `delta`, `merge` or `book`, with `seq` and without `each`, found `{name}`{}",
                did_you_mean(name, &names)
            )));
        }
    }
    let wrap = section.require("wrap", "wrap = '{\"stream\":${item|json},\"snapshot\":${answer}}'")?;
    Ok(Some(SnapshotRule {
        call: read_call(&section, &format!("snapshot of {name}"), taken, TemplateSite::Snapshot)?,
        message: connection::template(&wrap, TemplateSite::Wrap)?,
        rate: optional(section.get("rate"), ProfileEntry::rate)?,
    }))
}
