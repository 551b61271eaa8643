//! The tables of a profile's filter `map:NAME`: those that it writes, and the one of its channels.

use std::sync::Arc;

use crate::profile::keys::{CHANNEL, SUBSCRIBE};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection};
use crate::profile::template::{Alias, Aliases};

/// The table of the names that channels have, by what the feed calls them.
const CHANNELS: &str = "channels";

/// The `[alias.NAME]` tables.
pub(crate) fn read_aliases(root: &ProfileSection<'_>) -> Result<Aliases, ProfileError> {
    let mut aliases = read_alias_tables(root)?;
    let channels = read_channel_names(root)?;
    if !channels.is_empty() {
        aliases.entry(CHANNELS.to_string()).or_insert_with(|| Arc::new(channels));
    }
    Ok(aliases)
}

fn read_alias_tables(root: &ProfileSection<'_>) -> Result<Aliases, ProfileError> {
    let tables = root.get("alias").map(|entry| entry.members()).transpose()?.unwrap_or_default();
    let table = |(name, table): &(&str, ProfileEntry<'_>)| {
        let names = table.members()?;
        let names = names.iter().map(|(name, other)| Ok((name.to_string(), other.text()?.to_string())));
        Ok((name.to_string(), Arc::new(names.collect::<Result<_, _>>()?)))
    };
    tables.iter().map(table).collect()
}

/// The channels of `[subscribe.channels]`, by their `name`.
fn read_channel_names(root: &ProfileSection<'_>) -> Result<Alias, ProfileError> {
    let subscribe = root.get("subscribe").map(|entry| entry.section(SUBSCRIBE)).transpose()?;
    let channels = subscribe.and_then(|section| section.get("channels")).map(|entry| entry.members()).transpose()?;
    let mut names = Alias::new();
    for (channel, entry) in channels.unwrap_or_default() {
        if let Some(name) = entry.section(CHANNEL)?.get("name") {
            names.insert(name.text()?.to_string(), channel.to_string());
        }
    }
    Ok(names)
}
