//! Checksums of order books, as a rule describes them.

use crate::json::PointerSet;

use crate::profile::keys::CHECKSUM;
use crate::profile::mode::first_of;
use crate::profile::optional;
use crate::profile::rules::checksum::{ChecksumDigits, ChecksumOrder, ChecksumRule};
use crate::profile::section::{ProfileEntry, ProfileError};

const ORDERS: [(&str, ChecksumOrder); 3] = [
    ("alternating", ChecksumOrder::Alternating),
    ("asks_first", ChecksumOrder::AsksFirst),
    ("bids_first", ChecksumOrder::BidsFirst),
];
const DIGITS: [(&str, ChecksumDigits); 2] =
    [("as_sent", ChecksumDigits::AsSent), ("significant", ChecksumDigits::Significant)];

pub(crate) fn read_checksum(entry: &ProfileEntry<'_>, places: &mut PointerSet) -> Result<ChecksumRule, ProfileError> {
    let section = entry.section(CHECKSUM)?;
    Ok(ChecksumRule {
        at: first_of(&section.require("at", "at = \"./checksum\"")?, places)?,
        levels: section.require("levels", "levels = 25")?.count()?,
        order: section.require("order", "order = \"alternating\"")?.choice(&ORDERS)?,
        digits: optional(section.get("digits"), |entry| entry.choice(&DIGITS))?.unwrap_or(ChecksumDigits::AsSent),
        join: optional(section.get("join"), |entry| entry.text().map(str::to_string))?.unwrap_or_default(),
    })
}
