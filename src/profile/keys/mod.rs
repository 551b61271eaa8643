//! Every key that a profile may have, declared once: the reader refuses all others, and the tables of
//! docs/PROFILE_REFERENCE.md are generated from these.

mod connections;
mod downstream;
mod messages;
mod requests;
mod subscriptions;

pub(crate) use crate::profile::keys::connections::{
    BACKOFF, CLIENT, CONNECT, KEEPALIVE, LOGIN, OPEN, PING, REQUEST, RESUME, ROOT, SEND, SIGN, SIGN_KEY,
};
pub(crate) use crate::profile::keys::downstream::{DOWNSTREAM, FORM, HEARTBEAT, ITEMS, PATH, SAID};
pub(crate) use crate::profile::keys::messages::{
    BIND, BOOK, CHECKSUM, CONNECTION_SEQ, DECODE, DELTA_LIMIT, MERGE, ON, SEQ, TIME,
};
pub(crate) use crate::profile::keys::requests::{RENEWAL, SNAPSHOT, VENUE_REQUEST};
pub(crate) use crate::profile::keys::subscriptions::{ACK, CHANNEL, SUBSCRIBE};

/// One key of a section; `value`, `default` and `doc` are cells of the reference, in Markdown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub value: &'static str,
    pub default: &'static str,
    pub doc: &'static str,
}

/// The keys of one section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// Path of the section, which also names its table in the reference.
    pub section: &'static str,
    pub known: &'static [Key],
    /// Reserved for a later version: rejected, but not as unknown.
    pub later: &'static [&'static str],
}

impl Keys {
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.known.iter().map(|key| key.name).collect()
    }
}

const fn key(name: &'static str, value: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, value, default, doc }
}

/// All sections that have keys of their own.
pub(crate) const ALL: &[&Keys] = &[
    &ROOT,
    &CONNECT,
    &VENUE_REQUEST,
    &RENEWAL,
    &SNAPSHOT,
    &OPEN,
    &LOGIN,
    &SIGN,
    &SIGN_KEY,
    &KEEPALIVE,
    &PING,
    &SUBSCRIBE,
    &CHANNEL,
    &ACK,
    &SEND,
    &BACKOFF,
    &RESUME,
    &CLIENT,
    &REQUEST,
    &DECODE,
    &CONNECTION_SEQ,
    &ON,
    &BIND,
    &SEQ,
    &TIME,
    &MERGE,
    &BOOK,
    &CHECKSUM,
    &DELTA_LIMIT,
    &DOWNSTREAM,
    &PATH,
    &FORM,
    &ITEMS,
    &HEARTBEAT,
    &SAID,
];

#[cfg(test)]
mod tests;
