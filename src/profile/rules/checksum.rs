//! Checksums of order books, as venues compute them: a CRC-32 over the best levels, written as a text.

use crate::profile::rules::fold::FirstOf;

#[derive(Clone, Debug, PartialEq)]
pub struct ChecksumRule {
    /// Where a message has it. One without it is not checked.
    pub at: FirstOf,
    /// Levels per side.
    pub levels: usize,
    pub order: ChecksumOrder,
    pub digits: ChecksumDigits,
    /// Between two numbers.
    pub join: String,
}

/// The order of the levels in the text; in each side the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumOrder {
    /// Bid, ask, bid, ask; then the rest of the longer side.
    Alternating,
    AsksFirst,
    BidsFirst,
}

/// How a number is written in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumDigits {
    /// As the feed has sent it.
    AsSent,
    /// Without its point, and without the zeros before it.
    Significant,
}
