//! Replaced parts of a published text. Everything else stays byte for byte.

use std::ops::Range;

use crate::json::{Document, FoundElement};
use crate::profile::rules::fold::Siblings;

/// The content of a hole of a [`SpliceTemplate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Splice {
    Nothing,
    Null,
    /// The folded object.
    Object,
    /// The folded rows.
    Rows,
    Bids,
    Asks,
    /// Bids, then asks.
    Levels,
    /// A carried token, by its position in the profile's list.
    Carried(usize),
}

/// A text with holes.
#[derive(Clone, Debug, Default)]
pub(super) struct SpliceTemplate {
    parts: Vec<(Box<str>, Splice)>,
    end: Box<str>,
}

/// The holes to cut into a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Splices(Vec<(Range<usize>, Splice)>);

impl Splices {
    /// A hole that overlaps an earlier one is left out.
    pub(super) fn add(&mut self, range: Range<usize>, fill: Splice) {
        if self.0.iter().all(|(other, _)| range.end <= other.start || other.end <= range.start) {
            self.0.push((range, fill));
        }
    }

    /// Cuts out the siblings of the document's element that `each` finds, so that the text is about this element alone.
    pub(super) fn add_siblings(&mut self, each: &Siblings, document: &Document<'_>) {
        let mut elements = Vec::new();
        each.each.locate(document.text, &mut elements);
        if !each.ends_with_star {
            for element in elements.iter().filter(|element| element.range != document.element) {
                self.add(element.range.clone(), Splice::Null);
            }
            return;
        }
        // Elements with only a comma between them are in one list, and their commas are cut with them.
        let start = |element: &FoundElement| element.key.as_ref().map_or(element.range.start, |key| key.start);
        let adjoin = |left: &FoundElement, right: &FoundElement| {
            let between = document.text.get(left.range.end..start(right));
            between.is_some_and(|text| text.trim() == ",")
        };
        for list in elements.chunk_by(adjoin) {
            let (Some(first), Some(last)) = (list.first(), list.last()) else { continue };
            match list.iter().find(|element| element.range == document.element) {
                Some(own) => {
                    self.add(start(first)..start(own), Splice::Nothing);
                    self.add(own.range.end..last.range.end, Splice::Nothing);
                }
                None => self.add(start(first)..last.range.end, Splice::Nothing),
            }
        }
    }
}

impl SpliceTemplate {
    pub(super) fn cut(text: &str, Splices(mut holes): Splices) -> SpliceTemplate {
        holes.sort_by_key(|(range, _)| range.start);
        let mut at = 0;
        let mut parts = Vec::with_capacity(holes.len());
        for (range, fill) in holes {
            parts.push((text.get(at..range.start).unwrap_or_default().into(), fill));
            at = range.end;
        }
        SpliceTemplate { parts, end: text.get(at..).unwrap_or_default().into() }
    }

    /// Appends the text; `put` appends the content of a hole.
    pub(super) fn fill(&self, out: &mut Vec<u8>, mut put: impl FnMut(Splice, &mut Vec<u8>)) {
        for (before, fill) in &self.parts {
            out.extend_from_slice(before.as_bytes());
            put(*fill, out);
        }
        out.extend_from_slice(self.end.as_bytes());
    }

    /// Bytes without the contents of the holes.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|(before, _)| before.len()).sum::<usize>() + self.end.len()
    }
}
