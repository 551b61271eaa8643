//! Folding of deltas into whole values: the parts of a message that are an object or the sides of a book.

use crate::json::{Document, Each, Match, Matches, PointerSet, PointerSite};
use crate::profile::rules::checksum::ChecksumRule;

/// The folded parts of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldRule {
    pub places: PointerSet,
    pub parts: FoldParts,
    /// Tokens that a whole value takes from the newest message.
    pub carry: Vec<PointerSite>,
    /// The rule's `each`, if whole messages are published.
    pub siblings: Option<Siblings>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FoldParts {
    Object(PointerSite),
    Rows(Box<RowParts>),
    Book(Box<BookParts>),
}

/// A list of objects that are known by a key.
#[derive(Clone, Debug, PartialEq)]
pub struct RowParts {
    /// A list of rows, or one row alone.
    pub at: PointerSite,
    /// The members whose values are the key.
    pub key: Vec<String>,
    pub removed: Option<RowRemoval>,
}

/// What says that the rows of a message are gone.
#[derive(Clone, Debug, PartialEq)]
pub struct RowRemoval {
    pub place: RowPlace,
    /// The value there, as JSON.
    pub value: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RowPlace {
    /// For all rows of the message.
    Message(PointerSite),
    /// A member of the row.
    Member(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct BookParts {
    /// Lists of one side each: bids, asks.
    pub sides: Option<([FirstOf; 2], LevelForm)>,
    /// A list of both sides.
    pub changes: Option<(FirstOf, LevelForm)>,
    /// Levels per side.
    pub depth: Option<BookDepth>,
    pub checksum: Option<ChecksumRule>,
}

/// Levels per side.
#[derive(Clone, Debug, PartialEq)]
pub enum BookDepth {
    Fixed(usize),
    /// The snapshot has a number there, or a text that ends with one.
    Named(FirstOf),
}

/// Several places: the first at which there is something counts.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstOf(pub Vec<PointerSite>);

impl FirstOf {
    pub fn get<'a>(&self, places: &PointerSet, document: &Document<'a>, matches: &Matches) -> Option<Match<'a>> {
        self.0.iter().find_map(|place| places.get(document, matches, *place))
    }

    /// The first of them.
    pub fn text<'a>(&self, places: &'a PointerSet) -> &'a str {
        self.0.first().map_or("", |place| places.text(*place))
    }
}

impl FoldRule {
    /// Whether an object is folded, whose whole value is small.
    pub fn is_object(&self) -> bool {
        matches!(self.parts, FoldParts::Object(_))
    }
}

/// Form of the levels of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelForm {
    /// Pointers of the places below; they start at the level.
    pub places: PointerSet,
    pub price: FirstOf,
    pub size: FirstOf,
    /// The field that is 0 in a removed level.
    pub gone: FirstOf,
    pub side: Option<SideMark>,
    /// The position that is left out of a kept level, because the snapshot's levels do not have it.
    pub dropped: Option<usize>,
    /// How a kept level is written; none: as received.
    pub written: Option<Vec<LevelPart>>,
}

/// A part of a level that is written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelPart {
    Text(String),
    Price,
    Size,
}

/// The mark of a level's side.
#[derive(Clone, Debug, PartialEq)]
pub enum SideMark {
    /// One of two words.
    Word { place: FirstOf, bid: String, ask: String },
    /// A number that is greater than 0 for bids and less for asks.
    Sign { place: FirstOf },
}

/// The rule's `each`, needed to build the message of one element.
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
