//! Folding of a topic's deltas into its snapshot, so that a client that joins receives one whole value.
//!
//! A whole value, an image, is the last snapshot's message with the folded parts in place of its own and with the
//! newest of the tokens that the profile carries. All bytes are the feed's; nothing is reformatted.
//!
//! A delta that does not fit is never guessed at: the state is dropped, and the next snapshot begins a new one.

use std::borrow::Cow;

use crate::json::{Document, FoundElement, Match, Matches, PointerSet, PointerSite};
use crate::profile::rules::fold::{BookDepth, BookParts, FirstOf, FoldParts, FoldRule, RowPlace};

use crate::intake::assemble::book::{BookState, LevelScratch, Side};
use crate::intake::assemble::checksum::{self, ChecksumScratch};
use crate::intake::assemble::merge::MergedObject;
use crate::intake::assemble::rows::{RowTable, is_same};
use crate::intake::assemble::splice::{Splice, SpliceTemplate, Splices};
use crate::intake::misfit::{Misfit, in_words};

/// 16 MiB: three times the largest known snapshot, which has 5 MB.
const IMAGE_BYTES_MAX: usize = 16 << 20;

/// Why a message cannot be folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It does not match the profile. Boxed, since it is rare.
    Malformed(Box<Misfit>),
    /// It is larger than is kept.
    TooLarge,
    /// The book is not the one that the feed has computed its checksum of.
    WrongChecksum,
}

impl Unfit {
    /// This key of the rule expects something else at this place, where `found` is; none: there is nothing.
    pub(super) fn at(
        place: &str,
        key: &'static str,
        expected: impl Into<Cow<'static, str>>,
        found: Option<&str>,
    ) -> Unfit {
        let (place, expected, found) = (place.to_string(), expected.into(), in_words(found));
        Unfit::Malformed(Box::new(Misfit { key, expected, place, found }))
    }

    /// Nothing can be found in the message.
    pub(super) fn no_json() -> Unfit {
        let (place, expected, found) = (String::new(), "JSON".into(), "other text");
        Unfit::Malformed(Box::new(Misfit { key: "mode", expected, place, found }))
    }

    /// The same, where `place` leads to the value in which it was found.
    pub(super) fn below(self, place: &str) -> Unfit {
        match self {
            Unfit::Malformed(misfit) => Unfit::Malformed(Box::new(misfit.below(place))),
            other => other,
        }
    }
}

/// Reused buffers, so that folding allocates little.
#[derive(Clone, Debug, Default)]
pub(super) struct FoldScratch {
    matches: Matches,
    parts: Vec<FoundElement>,
    levels: LevelScratch,
    checksum: ChecksumScratch,
}

/// The folded value of one topic.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    template: SpliceTemplate,
    carried: Vec<Box<str>>,
    state: FoldState,
}

#[derive(Clone, Debug)]
enum FoldState {
    Object(MergedObject),
    Rows(RowTable),
    Book(BookState),
}

impl Fold {
    /// Begins with a snapshot.
    pub(super) fn begin(rule: &FoldRule, document: &Document<'_>, scratch: &mut FoldScratch) -> Result<Fold, Unfit> {
        let FoldScratch { matches, parts, levels, checksum } = scratch;
        rule.places.locate(document, matches);
        let mut splices = Splices::default();
        let state = match &rule.parts {
            FoldParts::Object(place) => {
                let (found, at) = merged(rule, *place, document, matches)?;
                splices.add(found.range, Splice::Object);
                FoldState::Object(MergedObject::begin(found.token, parts).map_err(|unfit| unfit.below(at))?)
            }
            FoldParts::Rows(rows) => {
                let (found, at) = merged(rule, rows.at, document, matches)?;
                splices.add(found.range, Splice::Rows);
                let mut state = RowTable::default();
                state.take(rows, found.token, false, parts).map_err(|unfit| unfit.below(at))?;
                FoldState::Rows(state)
            }
            FoldParts::Book(book) => {
                let state = begin_book(book, (&rule.places, matches), document, levels, &mut splices)?;
                checksum::check(book, (&rule.places, matches), document, &state, checksum)?;
                FoldState::Book(state)
            }
        };
        let mut carried = Vec::with_capacity(rule.carry.len());
        for (place, pointer) in rule.carry.iter().enumerate() {
            let found = rule.places.get(document, matches, *pointer);
            carried.push(found.as_ref().map_or("", |found| found.token).into());
            if let Some(found) = found {
                splices.add(found.range, Splice::Carried(place));
            }
        }
        if let Some(siblings) = &rule.siblings {
            splices.add_siblings(siblings, document);
        }
        Fold { template: SpliceTemplate::cut(document.text, splices), carried, state }.if_not_too_large()
    }

    /// Folds a delta in. An error makes the state useless, which is why it is consumed.
    pub(super) fn change(
        mut self,
        rule: &FoldRule,
        document: &Document<'_>,
        scratch: &mut FoldScratch,
    ) -> Result<Fold, Unfit> {
        let FoldScratch { matches, parts, levels, checksum } = scratch;
        rule.places.locate(document, matches);
        match (&rule.parts, &mut self.state) {
            (FoldParts::Object(place), FoldState::Object(object)) => {
                let (found, at) = merged(rule, *place, document, matches)?;
                object.merge(found.token, parts).map_err(|unfit| unfit.below(at))?;
            }
            (FoldParts::Rows(rows), FoldState::Rows(state)) => {
                let (found, at) = merged(rule, rows.at, document, matches)?;
                let gone = rows.removed.as_ref().is_some_and(|removed| match &removed.place {
                    RowPlace::Message(place) => {
                        let found = rule.places.get(document, matches, *place);
                        found.is_some_and(|found| is_same(found.token, &removed.value))
                    }
                    RowPlace::Member(_) => false,
                });
                state.take(rows, found.token, gone, parts).map_err(|unfit| unfit.below(at))?;
            }
            (FoldParts::Book(parts), FoldState::Book(book)) => {
                change_book(parts, (&rule.places, matches), document, levels, book)?;
                checksum::check(parts, (&rule.places, matches), document, book, checksum)?;
            }
            // Two rules share a topic.
            _ => {
                return Err(Unfit::at("", "mode", "the mode of the rule that found the snapshot", Some(document.text)));
            }
        }
        for (carried, place) in self.carried.iter_mut().zip(&rule.carry) {
            match rule.places.get(document, matches, *place) {
                Some(found) if **carried != *found.token => *carried = found.token.into(),
                _ => {}
            }
        }
        self.if_not_too_large()
    }

    fn if_not_too_large(self) -> Result<Fold, Unfit> {
        if self.bytes() > IMAGE_BYTES_MAX { Err(Unfit::TooLarge) } else { Ok(self) }
    }

    /// Appends the whole value.
    pub(super) fn render(&self, out: &mut Vec<u8>) {
        self.template.fill(out, |fill, out| match (fill, &self.state) {
            (Splice::Object, FoldState::Object(object)) => object.render(out),
            (Splice::Rows, FoldState::Rows(rows)) => rows.render(out),
            (Splice::Bids, FoldState::Book(book)) => book.render(&[Side::Bid], out),
            (Splice::Asks, FoldState::Book(book)) => book.render(&[Side::Ask], out),
            (Splice::Levels, FoldState::Book(book)) => book.render(&[Side::Bid, Side::Ask], out),
            (Splice::Carried(place), _) => {
                out.extend_from_slice(self.carried.get(place).map_or(&[][..], |token| token.as_bytes()))
            }
            (Splice::Null, _) => out.extend_from_slice(b"null"),
            (Splice::Nothing | Splice::Object | Splice::Rows | Splice::Bids | Splice::Asks | Splice::Levels, _) => {}
        });
    }

    /// Memory in use, at least the bytes of an image.
    pub(super) fn bytes(&self) -> usize {
        let state = match &self.state {
            FoldState::Object(object) => object.bytes(),
            FoldState::Rows(rows) => rows.bytes(),
            FoldState::Book(book) => book.bytes(),
        };
        let carried: usize = self.carried.iter().map(|token| token.len()).sum();
        self.template.bytes() + carried + state
    }
}

/// What is merged, and the pointer to it.
fn merged<'d, 'r>(
    rule: &'r FoldRule,
    place: PointerSite,
    document: &Document<'d>,
    matches: &Matches,
) -> Result<(Match<'d>, &'r str), Unfit> {
    let at = rule.places.text(place);
    let found = rule.places.get(document, matches, place);
    found.map(|found| (found, at)).ok_or_else(|| Unfit::at(at, "merge.at", "a value to merge", None))
}

fn begin_book(
    parts: &BookParts,
    (places, matches): (&PointerSet, &Matches),
    document: &Document<'_>,
    scratch: &mut LevelScratch,
    splices: &mut Splices,
) -> Result<BookState, Unfit> {
    let depth = match &parts.depth {
        None => None,
        Some(BookDepth::Fixed(depth)) => Some(*depth),
        Some(BookDepth::Named(place)) => {
            let found = place.get(places, document, matches).map(|found| found.token);
            let depth = found.and_then(number_at_end);
            let expected = "a number from 1, or a text that ends with one";
            Some(depth.ok_or_else(|| Unfit::at(place.text(places), "book.depth", expected, found))?)
        }
    };
    let mut book = BookState::new(depth);
    let find = |place: &FirstOf| place.get(places, document, matches);
    let sides = parts.sides.as_ref().and_then(|(pair, form)| Some((find(&pair[0])?, find(&pair[1])?, pair, form)));
    let changes = parts.changes.as_ref().and_then(|(place, form)| Some((find(place)?, place, form)));
    match (sides, changes) {
        (Some((bids, asks, [bids_at, asks_at], form)), _) => {
            let mut load = |list: &str, side, at: &FirstOf| {
                book.load(form, list, Some(side), scratch).map_err(|unfit| unfit.below(at.text(places)))
            };
            load(bids.token, Side::Bid, bids_at)?;
            load(asks.token, Side::Ask, asks_at)?;
            splices.add(bids.range, Splice::Bids);
            splices.add(asks.range, Splice::Asks);
        }
        (None, Some((both, at, form))) => {
            book.load(form, both.token, None, scratch).map_err(|unfit| unfit.below(at.text(places)))?;
            splices.add(both.range, Splice::Levels);
        }
        (None, None) => return Err(without_levels(parts, places, |place| find(place).is_none())),
    }
    book.arrange()?;
    Ok(book)
}

/// A message without levels, of which `lacks` says where they should be.
fn without_levels(parts: &BookParts, places: &PointerSet, lacks: impl Fn(&FirstOf) -> bool) -> Unfit {
    let sides = parts.sides.iter().flat_map(|(pair, _)| pair.iter().map(|place| (place, "book.sides")));
    let changes = parts.changes.iter().map(|(place, _)| (place, "book.changes"));
    let missing = sides.chain(changes).find(|(place, _)| lacks(place));
    let (at, key) = missing.map_or(("", "book"), |(place, key)| (place.text(places), key));
    Unfit::at(at, key, "a list of levels", None)
}

/// A missing side has not changed, but one side must be present.
fn change_book(
    parts: &BookParts,
    (places, matches): (&PointerSet, &Matches),
    document: &Document<'_>,
    scratch: &mut LevelScratch,
    book: &mut BookState,
) -> Result<(), Unfit> {
    let mut seen = false;
    if let Some((pair, form)) = &parts.sides {
        for (place, side) in pair.iter().zip([Side::Bid, Side::Ask]) {
            if let Some(found) = place.get(places, document, matches) {
                let changed = book.change(form, found.token, Some(side), scratch);
                changed.map_err(|unfit| unfit.below(place.text(places)))?;
                seen = true;
            }
        }
    }
    if let Some((place, form)) = &parts.changes
        && let Some(found) = place.get(places, document, matches)
    {
        let changed = book.change(form, found.token, None, scratch);
        changed.map_err(|unfit| unfit.below(place.text(places)))?;
        seen = true;
    }
    if seen { book.cut() } else { Err(without_levels(parts, places, |_| true)) }
}

/// The number with which a token ends, such as 10 for `"book-10"`; at least 1.
fn number_at_end(token: &str) -> Option<usize> {
    let text = token.trim_matches('"');
    let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    text[text.len() - digits..].parse().ok().filter(|number| *number > 0)
}
