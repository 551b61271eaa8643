//! Who numbers from now on, and what the log was then.

use bytes::{BufMut, BytesMut};

use crate::chain::Chain;
use crate::entry::error::EntryError;
use crate::entry::fields::{Fields, LoggedText, put_text};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub reason: TermReason,
    /// The term before; 0 if this is the first.
    pub previous: u64,
    /// The last offset before this term, and the chain there.
    pub base_offset: u64,
    pub base_chain: Chain,
    /// SHA-256 of the configuration.
    pub configuration: [u8; 32],
    pub node_name: LoggedText,
    /// The node gives the feed up: nothing of this term follows.
    pub resigns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermReason {
    /// The log is new.
    First,
    Takeover,
    Resigned,
    Forced,
    LogLost,
    Fork,
    /// The same node goes on after it has ended.
    Restart,
}

impl TermReason {
    const ALL: [TermReason; 7] = [
        TermReason::First,
        TermReason::Takeover,
        TermReason::Resigned,
        TermReason::Forced,
        TermReason::LogLost,
        TermReason::Fork,
        TermReason::Restart,
    ];
}

impl Term {
    pub(super) fn put(&self, out: &mut BytesMut) -> Result<(), EntryError> {
        out.put_u8(self.reason as u8);
        out.put_u64_le(self.previous);
        out.put_u64_le(self.base_offset);
        out.put_slice(&self.base_chain.0);
        out.put_slice(&self.configuration);
        put_text("name of a node", &self.node_name, out)?;
        out.put_u8(u8::from(self.resigns));
        Ok(())
    }

    pub(super) fn read(fields: &mut Fields) -> Result<Term, EntryError> {
        let found = fields.u8()?;
        let reason = TermReason::ALL.into_iter().find(|reason| *reason as u8 == found);
        let reason = reason.ok_or_else(|| fields.unknown("reason of a term", found))?;
        let (previous, base_offset) = (fields.u64()?, fields.u64()?);
        let (base_chain, configuration) = (Chain(fields.hash()?), fields.hash()?);
        let node_name = fields.text()?;
        let resigns = match fields.u8()? {
            0 => false,
            1 => true,
            found => return Err(fields.unknown("flag", found)),
        };
        Ok(Term { reason, previous, base_offset, base_chain, configuration, node_name, resigns })
    }
}
