//! Parts of a published text: where they lie, and how the text reads with others in their place. Everything else of the
//! text stays byte for byte.

use std::ops::Range;
use std::sync::LazyLock;

use crate::json::{Each, FoundElement, FoundTokens, Pointer, Pointers};
use crate::protocol::encoding::PayloadKind;

use crate::intake::assemble::Update;

/// The text that is published of a piece, and its element in it.
#[derive(Clone, Debug)]
pub(super) struct Document<'a> {
    pub text: &'a str,
    element: Range<usize>,
}

impl<'a> Document<'a> {
    /// None: it is no JSON, so that nothing can be found in it.
    pub fn of(piece: &Update<'a>) -> Option<Document<'a>> {
        let bytes = piece.published();
        let element = range_in(bytes, piece.element)?;
        let text = std::str::from_utf8(bytes).ok().filter(|_| piece.kind == PayloadKind::Json)?;
        text.get(element.clone()).map(|_| Document { text, element })
    }

    /// A text that is an element itself.
    pub fn whole(text: &'a str) -> Document<'a> {
        Document { text, element: 0..text.len() }
    }

    fn element(&self) -> &'a str {
        self.text.get(self.element.clone()).unwrap_or_default()
    }
}

/// Where `part` lies in `whole`; none if it is no part of it.
fn range_in(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let first = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = first.checked_add(part.len())?;
    (end <= whole.len()).then_some(first..end)
}

/// The elements of an array, or the members of an object; none of anything else. `parts` is filled anew.
pub(super) fn list_parts<'p>(token: &str, parts: &'p mut Vec<FoundElement>) -> &'p [FoundElement] {
    static EVERY: LazyLock<Each> = LazyLock::new(|| Each::parse("/*").expect("a pointer that can be read"));
    parts.clear();
    EVERY.locate(token, parts);
    parts
}

/// Pointers into a sheet: `/a` into the whole text, `./a` into the element.
#[derive(Clone, Debug, Default)]
pub(super) struct PointerSet {
    texts: Vec<String>,
    slots: Vec<PointerSlot>,
    whole: Pointers,
    element: Pointers,
}

#[derive(Clone, Copy, Debug)]
enum PointerSlot {
    Whole(usize),
    Element(usize),
}

/// One of the pointers of a [`PointerSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PointerSite(usize);

/// What the pointers of a [`PointerSet`] found. Kept and filled again, so that looking costs no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Matches {
    whole: FoundTokens,
    element: FoundTokens,
}

impl PartialEq for PointerSet {
    fn eq(&self, other: &PointerSet) -> bool {
        self.texts == other.texts
    }
}

impl PointerSet {
    /// The error is a problem to be told.
    pub fn add(&mut self, text: &str) -> Result<PointerSite, String> {
        let pointer = |text: &str| Pointer::parse(text).map_err(|error| error.to_string());
        let slot = match text.strip_prefix('.') {
            Some(inner) => PointerSlot::Element(self.element.add(&pointer(inner)?)),
            None => PointerSlot::Whole(self.whole.add(&pointer(text)?)),
        };
        self.texts.push(text.to_string());
        self.slots.push(slot);
        Ok(PointerSite(self.slots.len() - 1))
    }

    /// Whether one of the pointers starts outside of the element.
    pub fn reach_out(&self) -> Option<&str> {
        self.texts.iter().find(|text| text.starts_with('/')).map(String::as_str)
    }

    pub fn locate(&self, sheet: &Document<'_>, spots: &mut Matches) {
        // A scan for nothing would still pass over the text.
        if self.slots.iter().any(|slot| matches!(slot, PointerSlot::Whole(_))) {
            self.whole.locate(sheet.text, &mut spots.whole);
        }
        if self.slots.iter().any(|slot| matches!(slot, PointerSlot::Element(_))) {
            self.element.locate(sheet.element(), &mut spots.element);
        }
    }

    /// The token at a place, and where it lies in the sheet's text.
    pub fn get<'a>(&self, sheet: &Document<'a>, spots: &Matches, PointerSite(place): PointerSite) -> Option<Match<'a>> {
        let token = match self.slots.get(place)? {
            PointerSlot::Whole(slot) => spots.whole.get(sheet.text, *slot)?,
            PointerSlot::Element(slot) => spots.element.get(sheet.element(), *slot)?,
        };
        Some(Match { token, range: range_in(sheet.text.as_bytes(), token.as_bytes())? })
    }
}

/// A token, and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Match<'a> {
    pub token: &'a str,
    pub range: Range<usize>,
}

/// What comes into a hole of a [`SpliceTemplate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Splice {
    Nothing,
    Null,
    /// The folded object.
    Object,
    Bids,
    Asks,
    /// Bids, then asks.
    Levels,
    /// A token that is carried on, by its place in the profile's list.
    Carried(usize),
}

/// A text with holes.
#[derive(Clone, Debug, Default)]
pub(super) struct SpliceTemplate {
    parts: Vec<(Box<str>, Splice)>,
    end: Box<str>,
}

/// The holes of a text to be cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Splices(Vec<(Range<usize>, Splice)>);

impl Splices {
    /// A hole that meets one which is there already is left out.
    pub fn add(&mut self, range: Range<usize>, fill: Splice) {
        if self.0.iter().all(|(other, _)| range.end <= other.start || other.end <= range.start) {
            self.0.push((range, fill));
        }
    }

    /// Cuts out what `each` finds beside the sheet's element, so that the text is about this element alone.
    pub fn add_siblings(&mut self, each: &Siblings, sheet: &Document<'_>) {
        let mut elements = Vec::new();
        each.each.locate(sheet.text, &mut elements);
        if !each.ends_with_star {
            for element in elements.iter().filter(|element| element.range != sheet.element) {
                self.add(element.range.clone(), Splice::Null);
            }
            return;
        }
        // Elements with only a comma between them lie in one list, and their commas go with them.
        let start = |element: &FoundElement| element.key.as_ref().map_or(element.range.start, |key| key.start);
        let adjoin = |left: &FoundElement, right: &FoundElement| {
            let between = sheet.text.get(left.range.end..start(right));
            between.is_some_and(|text| text.trim() == ",")
        };
        for list in elements.chunk_by(adjoin) {
            let (Some(first), Some(last)) = (list.first(), list.last()) else { continue };
            match list.iter().find(|element| element.range == sheet.element) {
                Some(own) => {
                    self.add(start(first)..start(own), Splice::Nothing);
                    self.add(own.range.end..last.range.end, Splice::Nothing);
                }
                None => self.add(start(first)..last.range.end, Splice::Nothing),
            }
        }
    }
}

/// How a rule takes a message apart; needed to put one element's message together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Siblings {
    each: Each,
    ends_with_star: bool,
}

impl Siblings {
    /// The error is a problem to be told.
    pub fn parse(each: &str) -> Result<Siblings, String> {
        let parsed = Each::parse(each).map_err(|error| error.to_string())?;
        Ok(Siblings { each: parsed, ends_with_star: each.ends_with("/*") })
    }
}

impl SpliceTemplate {
    pub fn cut(text: &str, Splices(mut holes): Splices) -> SpliceTemplate {
        holes.sort_by_key(|(range, _)| range.start);
        let mut at = 0;
        let mut parts = Vec::with_capacity(holes.len());
        for (range, fill) in holes {
            parts.push((text.get(at..range.start).unwrap_or_default().into(), fill));
            at = range.end;
        }
        SpliceTemplate { parts, end: text.get(at..).unwrap_or_default().into() }
    }

    /// Appends the text; `put` appends what comes into a hole.
    pub fn fill(&self, out: &mut Vec<u8>, mut put: impl FnMut(Splice, &mut Vec<u8>)) {
        for (before, fill) in &self.parts {
            out.extend_from_slice(before.as_bytes());
            put(*fill, out);
        }
        out.extend_from_slice(self.end.as_bytes());
    }

    /// Bytes without what comes into the holes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|(before, _)| before.len()).sum::<usize>() + self.end.len()
    }
}
