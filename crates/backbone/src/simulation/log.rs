//! The simulation's log: what it has committed, and how it lies.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use feed_log::chain::Chain;
use feed_log::entry::header::{EntryHeader, EntryKind};
use feed_log::entry::item::LoggedItem;
use feed_log::entry::{Deflate, EntryBody, EntryPlace, LogEntry, PartCount};

use crate::log::{CallId, LogBounds, LogRange, LogReply, LogRequest, LogSequence, SharedLog, StoredBytes};
use crate::simulation::MS;

/// Entries that are read at once.
const READ_MAX: usize = 64;
/// A deletion is under way for so long, and takes along what is made meanwhile.
const DELETION: u64 = 200 * MS;
/// Older ones are dropped.
const RETAINED: usize = 200;

/// Calls of one node, on their way to the log.
#[derive(Default)]
pub struct LogCalls(pub Vec<(CallId, LogRequest)>);

impl SharedLog for LogCalls {
    fn append(&mut self, call: CallId, expected: LogSequence, entry: Bytes) {
        self.0.push((call, LogRequest::Append { expected, entry }));
    }

    fn tail(&mut self, call: CallId) {
        self.0.push((call, LogRequest::Tail));
    }

    fn read(&mut self, call: CallId, range: LogRange) {
        self.0.push((call, LogRequest::Read(range)));
    }

    fn create(&mut self, call: CallId) {
        self.0.push((call, LogRequest::Create));
    }
}

/// What a leader that is cut off still believes.
struct StaleView {
    first: u64,
    entries: Vec<Option<Bytes>>,
    has_proposed: bool,
}

/// Another content of one entry, for one reader.
struct Alteration {
    chain: Chain,
    bytes: Bytes,
}

pub struct SimLog {
    exists: bool,
    deleted_until: u64,
    /// Its files are gone: it takes nothing.
    is_hollow: bool,
    first: u64,
    entries: Vec<Option<Bytes>>,
    /// It answers again then.
    pub silent_until: u64,
    stale: HashMap<usize, StaleView>,
    altered: HashMap<usize, Alteration>,
    /// The chains of all entries ever committed: only these may be appended again after a later term.
    committed: HashSet<Chain>,
    newest_term: u64,
    pub losses: u64,
}

impl SimLog {
    pub fn new() -> SimLog {
        SimLog {
            exists: false,
            deleted_until: 0,
            is_hollow: false,
            first: 1,
            entries: Vec::new(),
            silent_until: 0,
            stale: HashMap::new(),
            altered: HashMap::new(),
            committed: HashSet::new(),
            newest_term: 0,
            losses: 0,
        }
    }

    pub fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub fn last_chain(&self) -> Option<Chain> {
        self.entries.last()?.as_ref().map(|bytes| Chain::after(bytes))
    }

    /// Whether the entry with this chain is among the last few.
    pub fn ends_with(&self, chain: Chain, count: usize) -> bool {
        let newest = self.entries.iter().rev().take(count).flatten();
        newest.map(|bytes| Chain::after(bytes)).any(|of| of == chain)
    }

    /// The reply for a node, if there is one, and what was committed by it.
    pub fn serve(&mut self, node: usize, request: LogRequest, now: u64) -> (Option<LogReply>, Option<StoredBytes>) {
        if let Some(view) = self.stale.get_mut(&node) {
            return (view.serve(request), None);
        }
        if now < self.silent_until {
            let reply = now.is_multiple_of(3).then_some(LogReply::Unavailable);
            return (reply, None);
        }
        let mut stored = None;
        let reply = match request {
            LogRequest::Create => {
                self.is_hollow |= !self.exists && now < self.deleted_until;
                self.exists = true;
                LogReply::Created
            }
            LogRequest::Tail if !self.exists => LogReply::Missing,
            _ if !self.exists => LogReply::Unavailable,
            LogRequest::Append { .. } if self.is_hollow => LogReply::Refused,
            LogRequest::Append { expected, .. } if expected.0 != self.last() => LogReply::Refused,
            LogRequest::Append { entry, .. } => {
                let sequence = LogSequence(self.last() + 1);
                self.commit(entry.clone());
                stored = Some(StoredBytes { sequence, bytes: entry });
                LogReply::Appended(sequence)
            }
            LogRequest::Tail => bounds(self.first, &self.entries),
            LogRequest::Read(range) => self.read(node, range),
        };
        (Some(reply), stored)
    }

    /// I5: entries of a term follow its term entry, and none follows the next one, but for those appended again.
    fn commit(&mut self, entry: Bytes) {
        let header = EntryHeader::decode(&entry).expect("nodes append entries");
        let is_first_time = self.committed.insert(Chain::after(&entry));
        if is_first_time {
            let is_in_order = match header.kind {
                EntryKind::Term => header.term > self.newest_term,
                _ => header.term == self.newest_term,
            };
            assert!(is_in_order, "I5: {header:?} was stored after term {}", self.newest_term);
            self.newest_term = header.term;
        }
        self.entries.push(Some(entry));
        if self.entries.len() > RETAINED {
            self.entries.remove(0);
            self.first += 1;
        }
    }

    /// From now on this node gets to see another content of the entry, if it has one.
    pub fn alter_for(&mut self, node: usize, stored: &StoredBytes) -> bool {
        let Some(bytes) = alter(&stored.bytes) else { return false };
        // The node may fill the log with it.
        self.committed.insert(Chain::after(&bytes));
        self.altered.insert(node, Alteration { chain: Chain::after(&stored.bytes), bytes });
        true
    }

    /// What this node gets to see of an entry.
    pub fn seen_by(&self, node: usize, stored: StoredBytes) -> StoredBytes {
        match self.altered.get(&node) {
            Some(altered) if altered.chain == Chain::after(&stored.bytes) => {
                StoredBytes { sequence: stored.sequence, bytes: altered.bytes.clone() }
            }
            _ => stored,
        }
    }

    pub fn alters_any(&self) -> bool {
        !self.altered.is_empty()
    }

    pub fn stop_altering(&mut self, node: usize) {
        self.altered.remove(&node);
    }

    fn read(&self, node: usize, range: LogRange) -> LogReply {
        match read(self.first, &self.entries, range) {
            LogReply::Entries { entries, read_to } => {
                let entries = entries.into_iter().map(|stored| self.seen_by(node, stored)).collect();
                LogReply::Entries { entries, read_to }
            }
            reply => reply,
        }
    }

    /// The store is an older one.
    pub fn lose_tail(&mut self, count: usize) {
        let left = self.entries.len().saturating_sub(count);
        self.entries.truncate(left);
        self.losses += 1;
    }

    /// Nobody is left who knows what was lost.
    pub fn forget_lost(&mut self) {
        let newest = self.entries.iter().rev().flatten().next();
        self.newest_term = newest.map_or(0, |bytes| EntryHeader::decode(bytes).expect("it was committed").term);
    }

    /// Somebody deletes it.
    pub fn vanish(&mut self, now: u64) {
        (self.exists, self.first, self.deleted_until) = (false, 1, now + DELETION);
        self.is_hollow = false;
        self.entries.clear();
        self.losses += 1;
    }

    /// An entry cannot be read any more.
    pub fn rot(&mut self, from_end: usize) -> bool {
        let Some(index) = self.entries.len().checked_sub(from_end + 1) else { return false };
        self.entries[index].take().is_some()
    }

    /// This node is connected to a leader that is cut off from now on.
    pub fn cut_leader(&mut self, node: usize) {
        let view = StaleView { first: self.first, entries: self.entries.clone(), has_proposed: false };
        self.stale.insert(node, view);
    }

    pub fn join_leader(&mut self, node: usize) {
        self.stale.remove(&node);
    }

    pub fn is_stale_for(&self, node: usize) -> bool {
        self.stale.contains_key(&node)
    }
}

impl StaleView {
    /// It takes one proposal that is never committed, refuses the next ones because of it, and reads what it has.
    fn serve(&mut self, request: LogRequest) -> Option<LogReply> {
        let last = self.first + self.entries.len() as u64 - 1;
        match request {
            LogRequest::Append { expected, .. } if expected.0 == last && !self.has_proposed => {
                self.has_proposed = true;
                None
            }
            LogRequest::Append { .. } => Some(LogReply::Refused),
            LogRequest::Tail => Some(bounds(self.first, &self.entries)),
            LogRequest::Read(range) => Some(read(self.first, &self.entries, range)),
            LogRequest::Create => None,
        }
    }
}

fn bounds(first: u64, entries: &[Option<Bytes>]) -> LogReply {
    let last = first + entries.len() as u64 - 1;
    LogReply::Bounds(LogBounds { first: LogSequence(first), last: LogSequence(last) })
}

fn read(first: u64, entries: &[Option<Bytes>], range: LogRange) -> LogReply {
    let to = range.to.0.min(range.from.0 + READ_MAX as u64 - 1);
    let stored = (range.from.0.max(first)..=to).filter_map(|sequence| {
        let bytes = entries.get((sequence - first) as usize)?.clone()?;
        Some(StoredBytes { sequence: LogSequence(sequence), bytes })
    });
    LogReply::Entries { entries: stored.collect(), read_to: LogSequence(to) }
}

/// The same entry with another content, as a proxy or a broken disk makes it; None of an entry without content.
fn alter(bytes: &Bytes) -> Option<Bytes> {
    let LogEntry { header, body, .. } = LogEntry::decode(bytes.clone()).ok()?;
    let EntryBody::Batch(mut items) = body else { return None };
    let frame = items.iter_mut().find_map(|item| match item {
        LoggedItem::Frame(frame) => Some(frame),
        _ => None,
    })?;
    frame.payload.bytes = Bytes::from_static(ALTERED);
    let place = EntryPlace {
        term: header.term,
        node: header.node,
        epoch: header.epoch,
        first: header.first,
        chain_before: header.chain_before,
        sent_ms: header.sent_ms,
    };
    place.encode(&EntryBody::Batch(items), Deflate::No, PartCount::default()).ok().map(|(bytes, _)| bytes)
}

const ALTERED: &[u8] = b"altered";

/// Contents by epoch and offset, as far as anybody was ever shown them.
#[derive(Default)]
pub struct ShownContents {
    contents: BTreeMap<(u64, u64), LoggedItem>,
}

impl ShownContents {
    /// The offset of the newest message of a topic up to an offset of an epoch.
    pub fn newest_of(&self, topic: &str, (epoch, until): (u64, u64)) -> Option<u64> {
        let is_of = |item: &LoggedItem| matches!(item, LoggedItem::Frame(frame) if frame.topic.as_str() == topic);
        self.contents.range((epoch, 0)..=(epoch, until)).rev().find(|(_, item)| is_of(item)).map(|((_, at), _)| *at)
    }

    /// I1: an offset of an epoch has one content, on all nodes and for ever. False of an altered one: whoever shows it
    /// must leave the epoch.
    pub fn show(&mut self, epoch: u64, offset: u64, item: &LoggedItem) -> bool {
        let is_altered = matches!(item, LoggedItem::Frame(frame) if frame.payload.bytes == ALTERED);
        if is_altered {
            return false;
        }
        let known = self.contents.entry((epoch, offset)).or_insert_with(|| item.clone());
        assert!(known == item, "I1: offset {offset} of epoch {epoch:x} was {known:?} and is {item:?}");
        true
    }
}
