//! A JSON text with one element marked in it, and pointers into both: `/a` into the whole text, `./a` into the element.

use std::ops::Range;
use std::sync::LazyLock;

use crate::json::{Each, FoundElement, FoundTokens, Pointer, Pointers, decode_string, pointer_part};

/// A JSON text, and an element of it.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    pub text: &'a str,
    /// Range of the element in the text.
    pub element: Range<usize>,
}

impl<'a> Document<'a> {
    /// A text that is itself the element.
    pub fn whole(text: &'a str) -> Document<'a> {
        Document { text, element: 0..text.len() }
    }

    fn element(&self) -> &'a str {
        self.text.get(self.element.clone()).unwrap_or_default()
    }
}

/// Range of `part` in `whole`; none if it is not a part of it.
fn range_in(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let first = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = first.checked_add(part.len())?;
    (end <= whole.len()).then_some(first..end)
}

/// Fills `parts` with the elements of an array or the members of an object; with nothing for other values.
pub fn list_parts<'p>(token: &str, parts: &'p mut Vec<FoundElement>) -> &'p [FoundElement] {
    static EVERY: LazyLock<Each> = LazyLock::new(|| Each::parse("/*").expect("a pointer that can be read"));
    parts.clear();
    EVERY.locate(token, parts);
    parts
}

/// The pointer to the value at this range of a JSON text; none if no value is there.
pub fn pointer_to(text: &str, range: &Range<usize>) -> Option<String> {
    let start = text.len() - text.trim_ascii_start().len();
    let (mut place, mut value) = (String::new(), start..text.trim_ascii_end().len());
    let mut parts = Vec::new();
    while value != *range {
        let inside = list_parts(text.get(value.clone())?, &mut parts);
        let begin = value.start;
        let whole = |part: &Range<usize>| begin + part.start..begin + part.end;
        let holds =
            |part: &FoundElement| whole(&part.range).start <= range.start && range.end <= whole(&part.range).end;
        let index = inside.iter().position(holds)?;
        let part = &inside[index];
        let key = part.key.as_ref().and_then(|key| decode_string(text.get(whole(key))?));
        place.push('/');
        place.push_str(&key.map_or(index.to_string(), |key| pointer_part(&key)));
        value = whole(&part.range);
    }
    Some(place)
}

/// Pointers into a document: `/a` into the whole text, `./a` into the element.
#[derive(Clone, Debug, Default)]
pub struct PointerSet {
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
pub struct PointerSite(usize);

/// Findings of the pointers of a [`PointerSet`]. Reused, so that a search allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    whole: FoundTokens,
    element: FoundTokens,
}

impl PartialEq for PointerSet {
    fn eq(&self, other: &PointerSet) -> bool {
        self.texts == other.texts
    }
}

impl PointerSet {
    /// The error is a problem, to be reported with its place.
    pub fn add(&mut self, text: &str) -> Result<PointerSite, String> {
        let pointer = |text: &str| Pointer::parse(text).map_err(|error| error.to_string());
        let slot = match text.strip_prefix('.') {
            Some("/") => return Err("expected `.` for the element itself, found `./`".to_string()),
            Some(inner) => PointerSlot::Element(self.element.add(&pointer(inner)?)),
            None => PointerSlot::Whole(self.whole.add(&pointer(text)?)),
        };
        self.texts.push(text.to_string());
        self.slots.push(slot);
        Ok(PointerSite(self.slots.len() - 1))
    }

    /// A pointer, as it was added.
    pub fn text(&self, PointerSite(place): PointerSite) -> &str {
        self.texts.get(place).map_or("", String::as_str)
    }

    /// A pointer that starts outside the element.
    pub fn reach_out(&self) -> Option<&str> {
        self.texts.iter().find(|text| text.starts_with('/')).map(String::as_str)
    }

    pub fn locate(&self, document: &Document<'_>, matches: &mut Matches) {
        // Even a scan for nothing would read the text.
        if self.slots.iter().any(|slot| matches!(slot, PointerSlot::Whole(_))) {
            self.whole.locate(document.text, &mut matches.whole);
        }
        if self.slots.iter().any(|slot| matches!(slot, PointerSlot::Element(_))) {
            self.element.locate(document.element(), &mut matches.element);
        }
    }

    /// The token at a place, and its range in the document's text.
    pub fn get<'a>(
        &self,
        document: &Document<'a>,
        matches: &Matches,
        PointerSite(place): PointerSite,
    ) -> Option<Match<'a>> {
        let token = match self.slots.get(place)? {
            PointerSlot::Whole(slot) => matches.whole.get(document.text, *slot)?,
            PointerSlot::Element(slot) => matches.element.get(document.element(), *slot)?,
        };
        Some(Match { token, range: range_in(document.text.as_bytes(), token.as_bytes())? })
    }
}

/// A token and its range.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    pub token: &'a str,
    pub range: Range<usize>,
}
