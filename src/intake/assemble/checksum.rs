//! Checksums of folded books: whether a book is the one that the feed has.
//!
//! Each message that has a checksum is checked once it is folded in. A wrong one shows that something is missing, also
//! where messages have no numbers.

use flate2::Crc;

use crate::json::{Document, Matches, PointerSet, decode_string};
use crate::profile::rules::checksum::{ChecksumDigits, ChecksumOrder, ChecksumRule};
use crate::profile::rules::fold::{BookParts, LevelForm};
use crate::profile::rules::numbers::{Number, read_number};

use crate::intake::assemble::book::{BookState, Level, Side};
use crate::intake::assemble::fold::Unfit;

/// Reused buffers, so that a check allocates little.
#[derive(Clone, Debug, Default)]
pub(super) struct ChecksumScratch {
    matches: Matches,
    text: String,
}

/// Compares the book with the checksum in the message. Without a rule, or without a checksum, there is nothing to do.
pub(super) fn check(
    parts: &BookParts,
    (places, matches): (&PointerSet, &Matches),
    document: &Document<'_>,
    book: &BookState,
    scratch: &mut ChecksumScratch,
) -> Result<(), Unfit> {
    let Some(rule) = &parts.checksum else { return Ok(()) };
    let Some(found) = rule.at.get(places, document, matches) else { return Ok(()) };
    let form = parts.sides.as_ref().map(|(_, form)| form).or(parts.changes.as_ref().map(|(_, form)| form));
    let (Some(named), Some(form)) = (read_number(found.token.trim_matches('"')).and_then(bits), form) else {
        let expected = "a whole number of 32 bits";
        return Err(Unfit::at(rule.at.text(places), "book.checksum.at", expected, Some(found.token)));
    };
    // With some venues 0 stands for none.
    if named == 0 || sum(rule, form, book, scratch)? == named { Ok(()) } else { Err(Unfit::WrongChecksum) }
}

/// The 32 bits of a checksum, which some venues write as a signed number.
fn bits(number: Number) -> Option<u32> {
    u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
}

fn sum(rule: &ChecksumRule, form: &LevelForm, book: &BookState, scratch: &mut ChecksumScratch) -> Result<u32, Unfit> {
    let ChecksumScratch { matches, text } = scratch;
    text.clear();
    let mut put = |level: &Level| {
        let document = Document::whole(level.text());
        form.places.locate(&document, matches);
        for place in [&form.price, &form.size] {
            let found = place.get(&form.places, &document, matches);
            let token = found.ok_or_else(|| Unfit::at("", "book", "levels of one form", None))?.token;
            if !text.is_empty() {
                text.push_str(&rule.join);
            }
            put_number(rule.digits, token, text);
        }
        Ok(())
    };
    let (mut bids, mut asks) = (book.best(Side::Bid).take(rule.levels), book.best(Side::Ask).take(rule.levels));
    match rule.order {
        ChecksumOrder::BidsFirst => bids.chain(asks).try_for_each(&mut put)?,
        ChecksumOrder::AsksFirst => asks.chain(bids).try_for_each(&mut put)?,
        ChecksumOrder::Alternating => loop {
            let pair = [bids.next(), asks.next()];
            if pair.iter().all(Option::is_none) {
                break;
            }
            pair.into_iter().flatten().try_for_each(&mut put)?;
        },
    }
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    Ok(crc.sum())
}

fn put_number(digits: ChecksumDigits, token: &str, text: &mut String) {
    let number = decode_string(token).unwrap_or(token.into());
    match digits {
        ChecksumDigits::AsSent => text.push_str(&number),
        ChecksumDigits::Significant => {
            text.extend(number.trim_start_matches(['0', '.']).split('.'));
        }
    }
}
