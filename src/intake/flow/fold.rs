//! Folds the changes of a topic into its snapshot, so that a newcomer can be given one whole value.
//!
//! A whole value, an image, is the last snapshot's message with the folded parts in place of its own and with the newest
//! of the tokens that the profile carries on. All are bytes that came; nothing is formatted anew.
//!
//! What cannot be folded is never guessed at: the state is dropped, and the next snapshot begins a new one.

use crate::wire::json::Element;

use super::book::{Book, LevelForm, LevelScratch, Side};
use super::merge::Object;
use super::splice::{Fill, Holes, Place, Places, Sheet, Siblings, Spots, Template};

/// 16 MiB: three times the largest known snapshot, which has 5 MB.
const IMAGE_BYTES_MAX: usize = 16 << 20;

/// What of a message is folded, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldRule {
    pub(super) places: Places,
    pub(super) parts: Parts,
    /// Tokens whose newest form an image has.
    pub(super) carry: Vec<Place>,
    /// The rule's `each`, if whole messages are published.
    pub(super) siblings: Option<Siblings>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parts {
    Object(Place),
    Book(Box<BookParts>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct BookParts {
    /// Lists of one side each: bids, asks.
    pub sides: Option<([Place; 2], LevelForm)>,
    /// A list of both sides.
    pub changes: Option<(Place, LevelForm)>,
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
    spots: Spots,
    parts: Vec<Element>,
    levels: LevelScratch,
}

/// The folded value of one topic.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    template: Template,
    carried: Vec<Box<str>>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Object(Object),
    Book(Book),
}

impl FoldRule {
    /// Whether an object is folded, of which an image is small.
    pub fn is_object(&self) -> bool {
        matches!(self.parts, Parts::Object(_))
    }
}

impl Fold {
    /// Begins with a snapshot.
    pub fn begin(rule: &FoldRule, sheet: &Sheet<'_>, scratch: &mut FoldScratch) -> Result<Fold, Unfit> {
        let FoldScratch { spots, parts, levels } = scratch;
        rule.places.locate(sheet, spots);
        let mut holes = Holes::default();
        let state = match &rule.parts {
            Parts::Object(place) => {
                let spot = rule.places.get(sheet, spots, *place).ok_or(Unfit::Malformed)?;
                holes.add(spot.range, Fill::Object);
                State::Object(Object::begin(spot.token, parts)?)
            }
            Parts::Book(book) => State::Book(book.begin((&rule.places, spots), sheet, levels, &mut holes)?),
        };
        let mut carried = Vec::with_capacity(rule.carry.len());
        for (place, pointer) in rule.carry.iter().enumerate() {
            let spot = rule.places.get(sheet, spots, *pointer);
            carried.push(spot.as_ref().map_or("", |spot| spot.token).into());
            if let Some(spot) = spot {
                holes.add(spot.range, Fill::Carried(place));
            }
        }
        if let Some(siblings) = &rule.siblings {
            holes.add_siblings(siblings, sheet);
        }
        Fold { template: Template::cut(sheet.text, holes), carried, state }.if_not_too_large()
    }

    /// Folds a change in. After an error the state is of no use any more, which is why it is taken.
    pub fn change(mut self, rule: &FoldRule, sheet: &Sheet<'_>, scratch: &mut FoldScratch) -> Result<Fold, Unfit> {
        let FoldScratch { spots, parts, levels } = scratch;
        rule.places.locate(sheet, spots);
        match (&rule.parts, &mut self.state) {
            (Parts::Object(place), State::Object(object)) => {
                let spot = rule.places.get(sheet, spots, *place).ok_or(Unfit::Malformed)?;
                object.merge(spot.token, parts)?;
            }
            (Parts::Book(parts), State::Book(book)) => {
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
            (Fill::Object, State::Object(object)) => object.render(out),
            (Fill::Bids, State::Book(book)) => book.render(&[Side::Bid], out),
            (Fill::Asks, State::Book(book)) => book.render(&[Side::Ask], out),
            (Fill::Levels, State::Book(book)) => book.render(&[Side::Bid, Side::Ask], out),
            (Fill::Carried(place), _) => {
                out.extend_from_slice(self.carried.get(place).map_or(&[][..], |token| token.as_bytes()))
            }
            (Fill::Null, _) => out.extend_from_slice(b"null"),
            (Fill::Nothing | Fill::Object | Fill::Bids | Fill::Asks | Fill::Levels, _) => {}
        });
    }

    /// Memory that it takes, at least as much as an image has bytes.
    pub fn bytes(&self) -> usize {
        let state = match &self.state {
            State::Object(object) => object.bytes(),
            State::Book(book) => book.bytes(),
        };
        let carried: usize = self.carried.iter().map(|token| token.len()).sum();
        self.template.bytes() + carried + state
    }
}

impl BookParts {
    fn begin(
        &self,
        (places, spots): (&Places, &Spots),
        sheet: &Sheet<'_>,
        scratch: &mut LevelScratch,
        holes: &mut Holes,
    ) -> Result<Book, Unfit> {
        let mut book = Book::new(self.depth);
        let sides = self.sides.as_ref().and_then(|(pair, form)| {
            let [bids, asks] = pair.map(|place| places.get(sheet, spots, place));
            Some((bids?, asks?, form))
        });
        let changes = self.changes.as_ref().and_then(|(place, form)| Some((places.get(sheet, spots, *place)?, form)));
        match (sides, changes) {
            (Some((bids, asks, form)), _) => {
                book.load(form, bids.token, Some(Side::Bid), scratch)?;
                book.load(form, asks.token, Some(Side::Ask), scratch)?;
                holes.add(bids.range, Fill::Bids);
                holes.add(asks.range, Fill::Asks);
            }
            (None, Some((both, form))) => {
                book.load(form, both.token, None, scratch)?;
                holes.add(both.range, Fill::Levels);
            }
            (None, None) => return Err(Unfit::Malformed),
        }
        book.arrange()?;
        Ok(book)
    }

    /// A side that is not there has not changed, but one of them must be.
    fn change(
        &self,
        (places, spots): (&Places, &Spots),
        sheet: &Sheet<'_>,
        scratch: &mut LevelScratch,
        book: &mut Book,
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
