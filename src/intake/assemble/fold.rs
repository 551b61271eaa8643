//! Folds the changes of a topic into its snapshot, so that a newcomer can be given one whole value.
//!
//! A whole value, an image, is the last snapshot's message with the folded parts in place of its own and with the newest
//! of the tokens that the profile carries on. All are bytes that came; nothing is formatted anew.
//!
//! What cannot be folded is never guessed at: the state is dropped, and the next snapshot begins a new one.

use crate::json::FoundElement;

use crate::intake::assemble::book::{BookState, LevelForm, LevelScratch, Side};
use crate::intake::assemble::merge::MergedObject;
use crate::intake::assemble::splice::{
    Document, Matches, PointerSet, PointerSite, Siblings, Splice, SpliceTemplate, Splices,
};

/// 16 MiB: three times the largest known snapshot, which has 5 MB.
const IMAGE_BYTES_MAX: usize = 16 << 20;

/// What of a message is folded, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldRule {
    pub(super) places: PointerSet,
    pub(super) parts: FoldParts,
    /// Tokens whose newest form an image has.
    pub(super) carry: Vec<PointerSite>,
    /// The rule's `each`, if whole messages are published.
    pub(super) siblings: Option<Siblings>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum FoldParts {
    Object(PointerSite),
    Book(Box<BookParts>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct BookParts {
    /// Lists of one side each: bids, asks.
    pub sides: Option<([PointerSite; 2], LevelForm)>,
    /// A list of both sides.
    pub changes: Option<(PointerSite, LevelForm)>,
    /// Levels per side.
    pub depth: Option<usize>,
}

/// Why a message cannot be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is not what the profile says.
    Malformed,
    /// There is more of it than is kept.
    TooLarge,
}

/// Kept and filled again, so that folding costs little memory.
#[derive(Clone, Debug, Default)]
pub(super) struct FoldScratch {
    spots: Matches,
    parts: Vec<FoundElement>,
    levels: LevelScratch,
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
    Book(BookState),
}

impl FoldRule {
    /// Whether an object is folded, of which an image is small.
    pub fn is_object(&self) -> bool {
        matches!(self.parts, FoldParts::Object(_))
    }
}

impl Fold {
    /// Begins with a snapshot.
    pub fn begin(rule: &FoldRule, sheet: &Document<'_>, scratch: &mut FoldScratch) -> Result<Fold, Unfit> {
        let FoldScratch { spots, parts, levels } = scratch;
        rule.places.locate(sheet, spots);
        let mut holes = Splices::default();
        let state = match &rule.parts {
            FoldParts::Object(place) => {
                let spot = rule.places.get(sheet, spots, *place).ok_or(Unfit::Malformed)?;
                holes.add(spot.range, Splice::Object);
                FoldState::Object(MergedObject::begin(spot.token, parts)?)
            }
            FoldParts::Book(book) => FoldState::Book(book.begin((&rule.places, spots), sheet, levels, &mut holes)?),
        };
        let mut carried = Vec::with_capacity(rule.carry.len());
        for (place, pointer) in rule.carry.iter().enumerate() {
            let spot = rule.places.get(sheet, spots, *pointer);
            carried.push(spot.as_ref().map_or("", |spot| spot.token).into());
            if let Some(spot) = spot {
                holes.add(spot.range, Splice::Carried(place));
            }
        }
        if let Some(siblings) = &rule.siblings {
            holes.add_siblings(siblings, sheet);
        }
        Fold { template: SpliceTemplate::cut(sheet.text, holes), carried, state }.if_not_too_large()
    }

    /// Folds a change in. After an error the state is of no use any more, which is why it is taken.
    pub fn change(mut self, rule: &FoldRule, sheet: &Document<'_>, scratch: &mut FoldScratch) -> Result<Fold, Unfit> {
        let FoldScratch { spots, parts, levels } = scratch;
        rule.places.locate(sheet, spots);
        match (&rule.parts, &mut self.state) {
            (FoldParts::Object(place), FoldState::Object(object)) => {
                let spot = rule.places.get(sheet, spots, *place).ok_or(Unfit::Malformed)?;
                object.merge(spot.token, parts)?;
            }
            (FoldParts::Book(parts), FoldState::Book(book)) => {
                parts.change((&rule.places, spots), sheet, levels, book)?;
            }
            // Two rules that do not agree give to one topic.
            _ => return Err(Unfit::Malformed),
        }
        for (carried, place) in self.carried.iter_mut().zip(&rule.carry) {
            match rule.places.get(sheet, spots, *place) {
                Some(spot) if **carried != *spot.token => *carried = spot.token.into(),
                _ => {}
            }
        }
        self.if_not_too_large()
    }

    fn if_not_too_large(self) -> Result<Fold, Unfit> {
        if self.bytes() > IMAGE_BYTES_MAX { Err(Unfit::TooLarge) } else { Ok(self) }
    }

    /// Appends the whole value.
    pub fn render(&self, out: &mut Vec<u8>) {
        self.template.fill(out, |fill, out| match (fill, &self.state) {
            (Splice::Object, FoldState::Object(object)) => object.render(out),
            (Splice::Bids, FoldState::Book(book)) => book.render(&[Side::Bid], out),
            (Splice::Asks, FoldState::Book(book)) => book.render(&[Side::Ask], out),
            (Splice::Levels, FoldState::Book(book)) => book.render(&[Side::Bid, Side::Ask], out),
            (Splice::Carried(place), _) => {
                out.extend_from_slice(self.carried.get(place).map_or(&[][..], |token| token.as_bytes()))
            }
            (Splice::Null, _) => out.extend_from_slice(b"null"),
            (Splice::Nothing | Splice::Object | Splice::Bids | Splice::Asks | Splice::Levels, _) => {}
        });
    }

    /// Memory that it takes, at least as much as an image has bytes.
    pub fn bytes(&self) -> usize {
        let state = match &self.state {
            FoldState::Object(object) => object.bytes(),
            FoldState::Book(book) => book.bytes(),
        };
        let carried: usize = self.carried.iter().map(|token| token.len()).sum();
        self.template.bytes() + carried + state
    }
}

impl BookParts {
    fn begin(
        &self,
        (places, spots): (&PointerSet, &Matches),
        sheet: &Document<'_>,
        scratch: &mut LevelScratch,
        holes: &mut Splices,
    ) -> Result<BookState, Unfit> {
        let mut book = BookState::new(self.depth);
        let sides = self.sides.as_ref().and_then(|(pair, form)| {
            let [bids, asks] = pair.map(|place| places.get(sheet, spots, place));
            Some((bids?, asks?, form))
        });
        let changes = self.changes.as_ref().and_then(|(place, form)| Some((places.get(sheet, spots, *place)?, form)));
        match (sides, changes) {
            (Some((bids, asks, form)), _) => {
                book.load(form, bids.token, Some(Side::Bid), scratch)?;
                book.load(form, asks.token, Some(Side::Ask), scratch)?;
                holes.add(bids.range, Splice::Bids);
                holes.add(asks.range, Splice::Asks);
            }
            (None, Some((both, form))) => {
                book.load(form, both.token, None, scratch)?;
                holes.add(both.range, Splice::Levels);
            }
            (None, None) => return Err(Unfit::Malformed),
        }
        book.arrange()?;
        Ok(book)
    }

    /// A side that is not there has not changed, but one of them must be.
    fn change(
        &self,
        (places, spots): (&PointerSet, &Matches),
        sheet: &Document<'_>,
        scratch: &mut LevelScratch,
        book: &mut BookState,
    ) -> Result<(), Unfit> {
        let mut seen = false;
        if let Some((pair, form)) = &self.sides {
            for (place, side) in pair.iter().zip([Side::Bid, Side::Ask]) {
                if let Some(spot) = places.get(sheet, spots, *place) {
                    book.change(form, spot.token, Some(side), scratch)?;
                    seen = true;
                }
            }
        }
        if let Some((place, form)) = &self.changes
            && let Some(spot) = places.get(sheet, spots, *place)
        {
            book.change(form, spot.token, None, scratch)?;
            seen = true;
        }
        if seen { book.cut() } else { Err(Unfit::Malformed) }
    }
}
