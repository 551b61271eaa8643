//! Entries of an ingester: each continues a position.

use std::time::Duration;

use bytes::Bytes;
use feed_log::entry::error::EntryError;
use feed_log::entry::header::EntryHeader;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::part::EntryPart;
use feed_log::entry::term::{Term, TermReason};
use feed_log::entry::{BATCH_BYTES_MAX, Deflate, EntryBody, EntryPlace, LogEntry, LoggedText, PartCount};

use crate::hello::new_epoch;
use crate::position::LogPosition;

#[derive(Clone, Debug)]
pub struct IngesterSettings {
    /// Of the process; random.
    pub node: u64,
    pub name: LoggedText,
    /// SHA-256 of the configuration.
    pub configuration: [u8; 32],
    /// The feed is given up when no append was committed for this long.
    pub release: Duration,
    /// Bodies of batches that are larger than this are deflated.
    pub deflate_over_bytes: usize,
}

impl IngesterSettings {
    /// Of a process that takes part in no election.
    pub fn unnamed(node: u64, deflate_over_bytes: usize) -> IngesterSettings {
        let (name, configuration, release) = (LoggedText::from(""), [0; 32], Duration::ZERO);
        IngesterSettings { node, name, configuration, release, deflate_over_bytes }
    }
}

/// Built, and not committed.
#[derive(Debug)]
pub struct PendingEntry {
    pub entry: LogEntry,
    pub bytes: Bytes,
}

#[derive(Debug)]
pub struct EntryBuilder {
    settings: IngesterSettings,
}

impl EntryBuilder {
    pub fn new(settings: IngesterSettings) -> EntryBuilder {
        EntryBuilder { settings }
    }

    pub fn node(&self) -> u64 {
        self.settings.node
    }

    /// A batch as one body, or as parts if it is too large for an entry.
    ///
    /// # Errors
    /// Something in it is too long.
    pub fn bodies(items: Vec<LoggedItem>) -> Result<Vec<(EntryBody, PartCount)>, EntryError> {
        if items.iter().map(LoggedItem::bytes).sum::<usize>() <= BATCH_BYTES_MAX {
            return Ok(vec![(EntryBody::Batch(items), PartCount::default())]);
        }
        let numbered = items.iter().filter(|item| item.is_numbered()).count();
        let too_long = |_| EntryError::TooLong { what: "batch", bytes: numbered };
        let count = PartCount(u16::try_from(numbered).map_err(too_long)?);
        let parts = EntryPart::cut(&EntryBody::Batch(items).encode()?, BATCH_BYTES_MAX)?;
        let last = parts.len() - 1;
        let count_of = |index| if index == last { count } else { PartCount::default() };
        let bodies = parts.into_iter().enumerate();
        Ok(bodies.map(|(index, part)| (EntryBody::Part(part), count_of(index))).collect())
    }

    pub fn term(
        &self,
        term: u64,
        reason: TermReason,
        is_new_epoch: bool,
        position: &LogPosition,
        sent_ms: u64,
    ) -> PendingEntry {
        let body = EntryBody::Term(Term {
            reason,
            previous: position.term,
            base_offset: position.next_offset - 1,
            base_chain: position.chain,
            configuration: self.settings.configuration,
            node_name: self.settings.name.clone(),
            resigns: reason == TermReason::Resigned,
        });
        let epoch = if is_new_epoch { new_epoch(self.settings.node, term, position.epoch) } else { position.epoch };
        let position = LogPosition { epoch, ..*position };
        self.entry(term, body, PartCount::default(), &position, sent_ms).expect("the name of a node is short")
    }

    /// # Errors
    /// Something in it is too long.
    pub fn entry(
        &self,
        term: u64,
        body: EntryBody,
        count: PartCount,
        position: &LogPosition,
        sent_ms: u64,
    ) -> Result<PendingEntry, EntryError> {
        let IngesterSettings { node, deflate_over_bytes, .. } = self.settings;
        let LogPosition { epoch, next_offset: first, chain: chain_before, .. } = *position;
        let place = EntryPlace { term, node, epoch, first, chain_before, sent_ms };
        let size = match &body {
            EntryBody::Batch(items) => items.iter().map(LoggedItem::bytes).sum(),
            _ => 0,
        };
        let deflate = if size > deflate_over_bytes { Deflate::Yes } else { Deflate::No };
        let (bytes, chain) = place.encode(&body, deflate, count)?;
        let header = EntryHeader::decode(&bytes)?;
        Ok(PendingEntry { entry: LogEntry { header, body, chain }, bytes })
    }
}
