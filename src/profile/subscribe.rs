//! Subscriptions to items of a feed, and its answers.
//!
//! An item is what a user subscribes to; its name is that of its topic. The venue's name of it, its channel and its
//! symbol are made from that name.

use std::time::Duration;

use crate::profile::ack::{Ack, read_ack};
use crate::profile::connection::{rule_named, template};
use crate::profile::keys::{CHANNEL, SUBSCRIBE};
use crate::profile::optional;
use crate::profile::placeholders::{Context, Missing, Placeholder, TemplateSite};
use crate::profile::rule::{MessageClass, Rules};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, did_you_mean, one_of};
use crate::profile::template::{Aliases, Template};

/// 100 items: well below the limit of any recorded venue.
const BATCH: usize = 100;

/// How to subscribe to items.
#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    /// The venue's name of an item.
    item: Option<Template<Placeholder>>,
    split: String,
    symbol_first: bool,
    /// The venue's case of symbols in the names of topics.
    case: Option<Case>,
    /// An existing item, for messages to people.
    pub example: Option<String>,
    /// Names of the feed's branches.
    branches: Vec<String>,
    /// The venue's name of channels whose table does not say it.
    channel: Option<Template<Placeholder>>,
    channels: Vec<Channel>,
    /// One message holds items of one channel only.
    pub by_channel: bool,
    /// Items in one message at most.
    pub batch: usize,
    /// Bytes of one message at most.
    pub bytes_max: usize,
    /// None: the items are in the URL.
    send: ItemMessages,
    unsubscribe: ItemMessages,
    /// Name of the rule to wait for.
    pub after: Option<String>,
    /// Time in which the venue expects the first subscription: without items fanline does not connect.
    pub deadline: Option<Duration>,
    pub change: ItemChange,
    pub ack: Ack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

/// What is sent about a batch of items: one message, or several in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemMessages(pub Vec<Template<Placeholder>>);

impl ItemMessages {
    fn read(section: &ProfileSection<'_>, key: &str, site: TemplateSite) -> Result<ItemMessages, ProfileError> {
        let Some(entry) = section.get(key) else { return Ok(ItemMessages::default()) };
        let messages = match entry.text() {
            Ok(_) => ItemMessages(vec![template(&entry, site)?]),
            Err(_) => {
                let list = entry.list()?;
                ItemMessages(list.iter().map(|entry| template(entry, site)).collect::<Result<_, _>>()?)
            }
        };
        match (messages.is_one_by_one(), messages.uses(&[Placeholder::Items, Placeholder::Symbols])) {
            (true, true) => Err(entry.error("expected either `${items}` or `${item}`, found both")),
            _ => Ok(messages),
        }
    }

    /// The messages that unsubscribe: with `${un}` those that subscribe say it as well.
    fn read_unsubscribe(section: &ProfileSection<'_>, send: &ItemMessages) -> Result<ItemMessages, ProfileError> {
        match section.get("unsubscribe") {
            None if send.uses(&[Placeholder::Un]) => Ok(send.clone()),
            _ => ItemMessages::read(section, "unsubscribe", TemplateSite::Unsubscribe),
        }
    }

    fn uses(&self, placeholders: &[Placeholder]) -> bool {
        self.0.iter().flat_map(Template::sources).any(|placeholder| placeholders.contains(placeholder))
    }

    /// Whether a message is about one item.
    pub(crate) fn is_one_by_one(&self) -> bool {
        self.uses(&[Placeholder::Item, Placeholder::Symbol, Placeholder::BindKey])
    }
}

/// How the items of a connection may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemChange {
    Live,
    /// Only with a new connection.
    Reconnect,
    /// By a message with all items.
    ReplaceAll,
}

#[derive(Clone, Debug)]
struct Channel {
    name: String,
    /// The venue's name of it, if the table says it.
    venue: Option<String>,
    /// Members of a JSON object, without braces.
    params: Option<String>,
    /// These four in place of the section's, if there are any.
    item: Option<Template<Placeholder>>,
    batch: Option<usize>,
    send: ItemMessages,
    unsubscribe: ItemMessages,
}

impl Channel {
    /// Whether messages about its items hold no others.
    fn is_alone(&self) -> bool {
        self.batch.is_some() || !self.send.0.is_empty()
    }
}

/// An item of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedItem {
    /// The user's name of it, and that of its topic.
    pub name: String,
    /// The branch of the feed that has it; 0 is the feed's own URL.
    pub branch: usize,
    /// The venue's name of it.
    pub venue: String,
    /// The venue's name of it; empty if the item has none.
    pub channel: String,
    pub symbol: String,
    pub params: Option<String>,
    /// Number of the profile's channel, if the profile has it.
    pub known: Option<usize>,
}

impl Subscribe {
    /// The item of that name.
    pub(crate) fn item(&self, full: &str) -> FeedItem {
        let (branch, name) = self.branch_of(full);
        let (channel, symbol) = match name.split_once(&self.split) {
            Some((symbol, channel)) if self.symbol_first => (channel, symbol),
            Some((channel, symbol)) => (channel, symbol),
            None => ("", name),
        };
        let place = self.channels.iter().position(|known| known.name == channel);
        let known = place.map(|place| &self.channels[place]);
        let nothing = Default::default();
        let names = [name.to_string()];
        let symbols = [symbol.to_string()];
        let context =
            Context { items: &names, symbols: &symbols, channel, ..Context::plain(&nothing, Default::default(), 0) };
        let made = || self.channel.as_ref().and_then(|template| context.fill(template).ok());
        let channel = known.and_then(|known| known.venue.clone()).or_else(made).unwrap_or_else(|| channel.to_string());
        let context = Context { channel: &channel, ..context };
        let template = known.and_then(|known| known.item.as_ref()).or(self.item.as_ref());
        let venue = template.and_then(|template| context.fill(template).ok());
        FeedItem {
            venue: venue.unwrap_or_else(|| name.to_string()),
            channel,
            symbol: symbol.to_string(),
            params: known.and_then(|known| known.params.clone()),
            known: place,
            branch,
            name: full.to_string(),
        }
    }

    /// The branch of an item, and its name there.
    fn branch_of<'n>(&self, name: &'n str) -> (usize, &'n str) {
        let own = |branch: &String| name.strip_prefix(branch.as_str())?.strip_prefix('.');
        let found = self.branches.iter().enumerate().find_map(|(place, branch)| Some((place + 1, own(branch)?)));
        found.unwrap_or((0, name))
    }

    /// The name of the item's topic, if it is not `name`: the venue grants a symbol in any case, and sends it in its
    /// own. A name that begins with a sign is not a symbol.
    pub(crate) fn renamed(&self, full: &str) -> Option<String> {
        let (_, name) = self.branch_of(full);
        let (before, after) = match name.split_once(&self.split) {
            Some(parts) => parts,
            // A name of another kind, where symbols stand before the separator.
            None if self.symbol_first => return None,
            None => ("", name),
        };
        let symbol = if self.symbol_first { before } else { after };
        let is_symbol = symbol.starts_with(char::is_alphanumeric);
        let right = match self.case.filter(|_| is_symbol)? {
            Case::Lower => symbol.to_lowercase(),
            Case::Upper => symbol.to_uppercase(),
        };
        let right = match self.symbol_first {
            true => right + &name[before.len()..],
            false => name[..name.len() - after.len()].to_string() + &right,
        };
        (right != name).then(|| full[..full.len() - name.len()].to_string() + &right)
    }

    /// The message about these items, all of one channel if they are grouped by channel.
    pub(crate) fn message(
        &self,
        template: &Template<Placeholder>,
        items: &[&FeedItem],
        context: Context<'_>,
    ) -> Result<String, Missing> {
        let names: Vec<String> = items.iter().map(|item| item.venue.clone()).collect();
        let symbols: Vec<String> = items.iter().map(|item| item.symbol.clone()).collect();
        let first = items.first();
        let context = Context {
            items: &names,
            symbols: &symbols,
            channel: first.map_or("", |item| &item.channel),
            params: first.and_then(|item| item.params.as_deref()),
            ..context
        };
        context.fill(template)
    }

    /// The messages that subscribe to an item; none: it is in the URL.
    pub(crate) fn send_of(&self, item: &FeedItem) -> &ItemMessages {
        self.channel_of(item).map(|channel| &channel.send).filter(|own| !own.0.is_empty()).unwrap_or(&self.send)
    }

    /// The messages that unsubscribe from an item; none: there is no way.
    pub(crate) fn unsubscribe_of(&self, item: &FeedItem) -> &ItemMessages {
        let own = self.channel_of(item).map(|channel| &channel.unsubscribe).filter(|own| !own.0.is_empty());
        own.unwrap_or(&self.unsubscribe)
    }

    fn channel_of(&self, item: &FeedItem) -> Option<&Channel> {
        self.channels.get(item.known?)
    }

    /// Items in these messages, of which this is the first.
    pub(crate) fn batch_about(&self, item: &FeedItem, messages: &ItemMessages) -> usize {
        let own = self.channel_of(item).and_then(|channel| channel.batch);
        if messages.is_one_by_one() { 1 } else { own.unwrap_or(self.batch) }
    }

    /// Whether one message can be about both items.
    pub(crate) fn go_together(&self, one: &FeedItem, other: &FeedItem) -> bool {
        let is_alone = |item| self.channel_of(item).is_some_and(Channel::is_alone);
        let by_channel = self.by_channel || is_alone(one) || is_alone(other);
        !by_channel || (one.channel == other.channel && one.known == other.known && one.params == other.params)
    }

    /// Whether items are subscribed to by messages.
    pub(crate) fn sends(&self) -> bool {
        !self.send.0.is_empty()
    }

    /// Whether items can be unsubscribed from.
    pub(crate) fn unsubscribes(&self) -> bool {
        !self.unsubscribe.0.is_empty()
    }

    /// The separator of an item's parts.
    pub(crate) fn separator(&self) -> &str {
        &self.split
    }

    /// The templates that may name secrets.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template<Placeholder>> + Clone {
        let own = self.channels.iter().flat_map(|channel| channel.send.0.iter().chain(&channel.unsubscribe.0));
        self.send.0.iter().chain(&self.unsubscribe.0).chain(own)
    }
}

pub(crate) fn read_subscribe(
    root: &ProfileSection<'_>,
    (rules, aliases): (&Rules, &Aliases),
    (branches, bytes_max): (Vec<String>, Option<usize>),
) -> Result<Option<Subscribe>, ProfileError> {
    optional(root.get("subscribe"), |entry| {
        let section = entry.section(SUBSCRIBE)?;
        let send = ItemMessages::read(&section, "send", TemplateSite::Subscribe)?;
        let batch = read_batch(&section, &send)?;
        let by_channel = optional(section.get("group_by"), |entry| match entry.text()? {
            "channel" => Ok(true),
            other => Err(entry.error(format!("expected `channel`, found `{other}`"))),
        })?;
        let own_bytes_max = optional(section.get("max_bytes"), ProfileEntry::bytes)?;
        let channels = section.get("channels").map(|entry| entry.members()).transpose()?.unwrap_or_default();
        Ok(Subscribe {
            item: read_name(&section, "item", aliases)?,
            branches,
            channel: read_name(&section, "channel", aliases)?,
            split: optional(section.get("split"), |entry| entry.text().map(str::to_string))?
                .filter(|split| !split.is_empty())
                .unwrap_or_else(|| ".".to_string()),
            symbol_first: optional(section.get("symbol_first"), ProfileEntry::flag)?.unwrap_or(false),
            case: optional(section.get("case"), |entry| {
                entry.choice(&[("lower", Case::Lower), ("upper", Case::Upper)])
            })?,
            example: optional(section.get("example"), |entry| entry.text().map(str::to_string))?,
            channels: channels.into_iter().map(|known| read_channel(known, aliases)).collect::<Result<_, _>>()?,
            by_channel: by_channel.unwrap_or(false),
            batch: batch.unwrap_or(BATCH),
            bytes_max: own_bytes_max.into_iter().chain(bytes_max).min().unwrap_or(usize::MAX),
            unsubscribe: ItemMessages::read_unsubscribe(&section, &send)?,
            after: rule_named(
                section.get("after"),
                rules,
                &[MessageClass::Greeting, MessageClass::AuthOk, MessageClass::Info],
            )?,
            deadline: optional(section.get("deadline"), ProfileEntry::duration)?,
            change: read_change(&section, !send.0.is_empty())?,
            ack: read_ack(&section)?,
            send,
        })
    })
}

/// A template of the parts of an item.
fn read_name(
    section: &ProfileSection<'_>,
    key: &str,
    aliases: &Aliases,
) -> Result<Option<Template<Placeholder>>, ProfileError> {
    optional(section.get(key), |entry| {
        Placeholder::template_with(entry.text()?, TemplateSite::Item, aliases).map_err(|problem| entry.error(problem))
    })
}

fn read_batch(section: &ProfileSection<'_>, send: &ItemMessages) -> Result<Option<usize>, ProfileError> {
    let batch = optional(section.get("batch"), ProfileEntry::count)?;
    match send.is_one_by_one() && batch.is_some_and(|batch| batch > 1) {
        true => Err(section.error("batch", "expected 1 beside `${item}` in `send`, found more; use `${items|json}`")),
        false => Ok(batch),
    }
}

fn read_channel((name, entry): (&str, ProfileEntry<'_>), aliases: &Aliases) -> Result<Channel, ProfileError> {
    let section = entry.section(CHANNEL)?;
    let send = ItemMessages::read(&section, "send", TemplateSite::Subscribe)?;
    let params = optional(section.get("params"), |entry| {
        entry.members()?;
        let json = entry.json()?.to_string();
        Ok(json.trim_start_matches('{').strip_suffix('}').unwrap_or_default().to_string())
    })?;
    Ok(Channel {
        name: name.to_string(),
        venue: optional(section.get("name"), |entry| entry.text().map(str::to_string))?,
        params: params.filter(|params| !params.is_empty()),
        item: read_name(&section, "item", aliases)?,
        batch: read_batch(&section, &send)?,
        unsubscribe: ItemMessages::read_unsubscribe(&section, &send)?,
        send,
    })
}

fn read_change(section: &ProfileSection<'_>, sends: bool) -> Result<ItemChange, ProfileError> {
    let change = optional(section.get("change"), |entry| match entry.text()? {
        "live" if sends => Ok(ItemChange::Live),
        "live" => Err(entry.error("expected `send` beside `change = \"live\"`, found none; use `reconnect`")),
        "reconnect" => Ok(ItemChange::Reconnect),
        "replace_all" => Ok(ItemChange::ReplaceAll),
        other => {
            let known = ["live", "reconnect", "replace_all"];
            Err(entry.error(format!("expected {}, found `{other}`{}", one_of(&known), did_you_mean(other, &known))))
        }
    })?;
    Ok(change.unwrap_or(if sends { ItemChange::Live } else { ItemChange::Reconnect }))
}
