//! How a venue answers subscriptions, as a profile says it: what an answer is about, and where it says so.

use std::time::Duration;

use crate::json::{Each, Pointer};

use crate::profile::item_key::ItemKey;
use crate::profile::keys::ACK;
use crate::profile::optional;
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, one_of};

const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// How the venue answers.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub per: Per,
    /// Number of our request.
    pub id: Option<Pointer>,
    /// The item: one pointer for the venue's name, more for channel and parts of the symbol.
    pub key: ItemKey,
    /// The same in a refusal.
    pub bad_key: ItemKey,
    /// Lists of accepted and of refused items.
    pub ok: Option<Each>,
    pub bad: Vec<Each>,
    /// Reason of a refusal, for people.
    pub message: Option<Pointer>,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    /// One answer for each request.
    Request,
    /// One answer for each item.
    Item,
    /// An answer lists granted and refused items.
    List,
    /// An answer lists everything subscribed.
    Cumulative,
    /// No answer.
    None,
}

/// The table `ack` of a section; without it no answer is expected.
pub(crate) fn read_ack(section: &ProfileSection<'_>) -> Result<Ack, ProfileError> {
    let none = Ack {
        per: Per::None,
        id: None,
        key: ItemKey::default(),
        bad_key: ItemKey::default(),
        ok: None,
        bad: Vec::new(),
        message: None,
        timeout: ACK_TIMEOUT,
    };
    let Some(section) = section.get("ack").map(|entry| entry.section(ACK)).transpose()? else { return Ok(none) };
    let per = section.require("per", "per = \"request\"")?;
    let names = ["request", "item", "list", "cumulative", "none"];
    let per = match per.text()? {
        "request" => Per::Request,
        "item" => Per::Item,
        "list" => Per::List,
        "cumulative" => Per::Cumulative,
        "none" => Per::None,
        other => return Err(per.error(format!("expected {}, found `{other}`", one_of(&names)))),
    };
    let pointer = |entry: &ProfileEntry<'_>| Pointer::parse(entry.text()?).map_err(|error| entry.error(error));
    let one_or_more = |key: &str| match section.get(key) {
        None => Ok(Vec::new()),
        Some(entry) if entry.text().is_ok() => Ok(vec![entry]),
        Some(entry) => entry.list(),
    };
    let key = if section.get("item").is_some() { "item" } else { "key" };
    let list = |entry: &ProfileEntry<'_>| {
        let text = entry.text()?;
        let path = if text.contains('*') { text.to_string() } else { format!("{text}/*") };
        Each::parse(&path).map_err(|error| entry.error(error))
    };
    let ack = Ack {
        per,
        id: optional(section.get("id"), pointer)?,
        key: ItemKey::read(&one_or_more(key)?)?,
        bad_key: ItemKey::read(&one_or_more("bad_key")?)?,
        ok: optional(section.get("ok"), list)?,
        bad: one_or_more("bad")?.iter().map(list).collect::<Result<_, _>>()?,
        message: optional(section.get("message"), pointer)?,
        timeout: optional(section.get("timeout"), ProfileEntry::duration)?.unwrap_or(ACK_TIMEOUT),
    };
    let need = |key: &str, is_there: bool| match is_there {
        true => Ok(()),
        false => Err(section.error(key, format!("expected `{key}` beside this `per`, found nothing; add it"))),
    };
    match per {
        Per::Item => need("key", !ack.key.is_empty())?,
        Per::List => need("ok", ack.ok.is_some())?,
        Per::Request | Per::Cumulative | Per::None => {}
    }
    Ok(ack)
}
