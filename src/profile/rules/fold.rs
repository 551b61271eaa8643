//! How changes are folded into whole values: which parts of a message are an object or the sides of a book.

use crate::json::{Each, PointerSet, PointerSite};

/// What of a message is folded, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldRule {
    pub places: PointerSet,
    pub parts: FoldParts,
    /// Tokens whose newest form an image has.
    pub carry: Vec<PointerSite>,
    /// The rule's `each`, if whole messages are published.
    pub siblings: Option<Siblings>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FoldParts {
    Object(PointerSite),
    Book(Box<BookParts>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct BookParts {
    /// Lists of one side each: bids, asks.
    pub sides: Option<([PointerSite; 2], LevelForm)>,
    /// A list of both sides.
    pub changes: Option<(PointerSite, LevelForm)>,
    /// Levels per side.
    pub depth: Option<usize>,
}

impl FoldRule {
    /// Whether an object is folded, of which an image is small.
    pub fn is_object(&self) -> bool {
        matches!(self.parts, FoldParts::Object(_))
    }
}

/// How the levels of a list are written.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelForm {
    /// What the places below belong to; they start at the level.
    pub places: PointerSet,
    pub price: PointerSite,
    /// What is 0 in a level that goes.
    pub gone: PointerSite,
    pub side: Option<SideMark>,
    /// The position that is left out of a kept level, because the snapshot's levels do not have it.
    pub dropped: Option<usize>,
}

/// What says in a level which side it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideMark {
    /// One of two words.
    Word { place: PointerSite, bid: String, ask: String },
    /// A number that is greater than 0 for bids and less for asks.
    Sign { place: PointerSite },
}

/// How a rule takes a message apart; needed to put one element's message together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    pub each: Each,
    /// The elements lie in lists of their own.
    pub ends_with_star: bool,
}

impl Siblings {
    /// The error is a problem, to be reported with its place.
    pub fn parse(each: &str) -> Result<Siblings, String> {
        let parsed = Each::parse(each).map_err(|error| error.to_string())?;
        Ok(Siblings { each: parsed, ends_with_star: each.ends_with("/*") })
    }
}
