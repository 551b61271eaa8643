//! Raw slices of a JSON text, found by pointer without building a tree.
//!
//! One pass checks that the text is one valid JSON value of at most 127 levels and finds every token that is searched
//! for. A token is a slice of the text, so that nothing is ever reformatted. In a text that is not JSON nothing is
//! found. Of members with the same name the first counts.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

pub use depth::is_too_deep;
pub use document::{Document, Match, Matches, PointerSet, PointerSite, list_parts, pointer_to};
pub use pointer_error::PointerError;
use scan::Scan;
use tree::SearchNode;

mod depth;
mod document;
mod pointer_error;
mod scan;
pub mod strict;
mod tree;

/// 16 segments: the deepest pointer in 26 recorded feeds has 4.
pub const SEGMENTS_MAX: usize = 16;
/// `/-16`: of the arrays in 26 recorded feeds whose end tells their kind the longest has 5 elements.
pub const FROM_END_MAX: usize = 16;
/// Wildcards in one path: the recorded feeds need 2.
pub const STARS_MAX: usize = 4;
/// Levels of arrays and objects in a text; the same as serde_json's, so that a payload can be read as a tree.
pub const LEVELS_MAX: u32 = 127;

/// Elements that one path finds in one text. The longest batch in 26 recorded feeds has about 2000; further ones are
/// counted, but not kept.
pub const ELEMENTS_MAX: usize = 65_536;

/// A place in a JSON text (RFC 6901). In an array, `-1` is the last element, `-2` the one before.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pointer {
    text: Box<str>,
    segments: Box<[PathSegment]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PathSegment {
    /// Unescaped name of a member.
    name: Box<str>,
    /// The same as an index into an array, if it is one.
    index: Option<i64>,
}

impl Pointer {
    /// Reads `/a/0/b`; the empty text points at the whole value.
    pub fn parse(text: &str) -> Result<Pointer, PointerError> {
        let Some(inner) = text.strip_prefix('/') else {
            let root = Pointer { text: text.into(), segments: Box::new([]) };
            return if text.is_empty() { Ok(root) } else { Err(PointerError::NoSlash { text: text.to_string() }) };
        };
        let segments = inner.split('/').map(|part| PathSegment::parse(part, text)).collect::<Result<Box<[_]>, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err(PointerError::TooDeep { segments: segments.len() });
        }
        Ok(Pointer { text: text.into(), segments })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A member's name as a part of a pointer (RFC 6901 section 3).
pub fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl PathSegment {
    fn parse(part: &str, whole: &str) -> Result<PathSegment, PointerError> {
        let name = part.replace("~1", "/").replace("~0", "~");
        if part.replace("~1", "").replace("~0", "").contains('~') {
            return Err(PointerError::BadEscape { text: whole.to_string() });
        }
        let digits = name.strip_prefix('-').unwrap_or(&name);
        // No leading zeros (RFC 6901 section 4): `/00` names a member only.
        let is_index = name == "0" || !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let index = if is_index { name.parse().ok() } else { None };
        if index.is_some_and(|index: i64| index < -(FROM_END_MAX as i64)) {
            return Err(PointerError::TooFarBack { text: whole.to_string() });
        }
        Ok(PathSegment { name: name.into(), index })
    }

    /// In a path with wildcards.
    fn is_star(&self) -> bool {
        &*self.name == "*"
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pointer({})", self.text)
    }
}

/// Whether the text is one valid JSON value of at most 127 levels.
pub fn is_json(text: &str) -> bool {
    Pointers::default().locate(text, &mut FoundTokens::default())
}

/// The raw token at `pointer`.
pub fn find<'a>(text: &'a str, pointer: &Pointer) -> Option<&'a str> {
    let mut pointers = Pointers::default();
    let slot = pointers.add(pointer);
    let mut found = FoundTokens::default();
    pointers.locate(text, &mut found);
    found.get(text, slot)
}

/// The text of a string token; none if the token is not a string.
pub fn decode_string(token: &str) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(token).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Type of a token's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Array,
    Bool,
    Null,
    Number,
    Object,
    String,
}

impl Type {
    pub const ALL: [Type; 6] = [Type::Array, Type::Bool, Type::Null, Type::Number, Type::Object, Type::String];

    /// Judged by the token's first byte.
    pub fn of(token: &str) -> Type {
        match token.as_bytes().first() {
            Some(b'{') => Type::Object,
            Some(b'[') => Type::Array,
            Some(b'"') => Type::String,
            Some(b't' | b'f') => Type::Bool,
            Some(b'n') => Type::Null,
            _ => Type::Number,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Type::Array => "array",
            Type::Bool => "bool",
            Type::Null => "null",
            Type::Number => "number",
            Type::Object => "object",
            Type::String => "string",
        }
    }

    /// The name with its article, for messages.
    pub fn a_name(self) -> &'static str {
        match self {
            Type::Array => "an array",
            Type::Bool => "a bool",
            Type::Null => "null",
            Type::Number => "a number",
            Type::Object => "an object",
            Type::String => "a string",
        }
    }
}

/// A range of a text, in bytes; `start` is after `end` in the one that stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const NONE: Span = Span { start: 1, end: 0 };

    fn of(self, text: &str) -> Option<&str> {
        text.get(self.start as usize..self.end as usize)
    }

    fn is_none(self) -> bool {
        self == Span::NONE
    }
}

/// Pointers and paths with wildcards, all searched for in one pass over the text.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    known: Vec<Pointer>,
    paths: Vec<Path>,
    root: SearchNode,
}

/// A path with wildcards, and the pointers that start at each of its elements.
#[derive(Clone, Debug)]
struct Path {
    each: Each,
    known: Vec<Pointer>,
}

/// Findings of the [`Pointers`] in one text. Reused, so that a search allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct FoundTokens {
    spans: Vec<Span>,
    paths: Vec<FoundElements>,
}

/// Findings of one path.
#[derive(Clone, Debug, Default)]
struct FoundElements {
    /// Value and key of each element.
    elements: Vec<(Span, Span)>,
    /// For each element one for each pointer of the path.
    spans: Vec<Span>,
    pointers: usize,
    /// Elements seen, those beyond `ELEMENTS_MAX` included.
    count: usize,
    /// Keys of the open members that a `*` stands for.
    keys: Vec<Span>,
}

impl FoundTokens {
    /// The raw token of the pointer with this slot; `text` is the one that was searched.
    pub fn get<'a>(&self, text: &'a str, slot: usize) -> Option<&'a str> {
        self.spans.get(slot)?.of(text)
    }

    /// Number of elements that the path found, and number of those that are kept.
    pub fn count(&self, path: usize) -> (usize, usize) {
        self.paths.get(path).map_or((0, 0), |found| (found.count, found.elements.len()))
    }

    /// The raw token of the path's element with this index.
    pub fn element<'a>(&self, text: &'a str, path: usize, index: usize) -> Option<&'a str> {
        self.paths.get(path)?.elements.get(index)?.0.of(text)
    }

    /// Range of the path's element with this index in the text; empty if there is none.
    pub fn element_range(&self, path: usize, index: usize) -> Range<usize> {
        let element = self.paths.get(path).and_then(|found| found.elements.get(index));
        element.map_or(0..0, |(value, _)| value.start as usize..value.end as usize)
    }

    /// The raw token of the key that the innermost `*` over an object stands for in this element.
    pub fn key<'a>(&self, text: &'a str, path: usize, index: usize) -> Option<&'a str> {
        self.paths.get(path)?.elements.get(index)?.1.of(text)
    }

    /// The raw token that the path's pointer with this slot found in the element.
    pub fn inside<'a>(&self, text: &'a str, path: usize, index: usize, slot: usize) -> Option<&'a str> {
        let found = self.paths.get(path)?;
        let slot = Some(slot).filter(|&slot| slot < found.pointers)?;
        found.spans.get(index * found.pointers + slot)?.of(text)
    }

    fn clear(&mut self, pointers: &Pointers) {
        self.spans.clear();
        self.spans.resize(pointers.known.len(), Span::NONE);
        self.paths.resize_with(pointers.paths.len(), FoundElements::default);
        for (found, path) in self.paths.iter_mut().zip(&pointers.paths) {
            found.elements.clear();
            found.spans.clear();
            found.pointers = path.known.len();
            found.keys.clear();
            found.count = 0;
        }
    }
}

impl Pointers {
    /// Adds a pointer and gives its slot; the same pointer gets the same slot.
    pub fn add(&mut self, pointer: &Pointer) -> usize {
        place(&mut self.known, pointer).unwrap_or_else(|slot| {
            self.root = tree::build(&self.known, &self.paths);
            slot
        })
    }

    /// Adds a path with wildcards and gives its number; the same path gets the same number.
    pub fn add_path(&mut self, each: &Each) -> usize {
        self.paths.iter().position(|path| path.each == *each).unwrap_or_else(|| {
            self.paths.push(Path { each: each.clone(), known: Vec::new() });
            self.root = tree::build(&self.known, &self.paths);
            self.paths.len() - 1
        })
    }

    /// Adds a pointer that starts at each element of the path, and gives its slot among those.
    pub fn add_inside(&mut self, path: usize, pointer: &Pointer) -> usize {
        place(&mut self.paths[path].known, pointer).unwrap_or_else(|slot| {
            self.root = tree::build(&self.known, &self.paths);
            slot
        })
    }

    pub fn pointer(&self, slot: usize) -> &Pointer {
        &self.known[slot]
    }

    /// The pointer with this slot among those that start at the path's elements.
    pub fn inside(&self, path: usize, slot: usize) -> &Pointer {
        &self.paths[path].known[slot]
    }

    /// Searches for everything in one pass over the text. False: the text is not JSON.
    pub fn locate(&self, text: &str, found: &mut FoundTokens) -> bool {
        found.clear(self);
        // Spans have 32 bits.
        let valid = u32::try_from(text.len()).is_ok() && Scan::new(text).whole(&self.root, found).is_some();
        if !valid {
            found.clear(self);
        }
        valid
    }
}

/// The slot of the pointer; as the error, if it was not there and is now.
fn place(known: &mut Vec<Pointer>, pointer: &Pointer) -> Result<usize, usize> {
    known.iter().position(|other| other == pointer).ok_or_else(|| {
        known.push(pointer.clone());
        known.len() - 1
    })
}

/// A pointer with wildcards: `*` stands for every element of an array and every member of an object.
#[derive(Clone, PartialEq, Eq)]
pub struct Each {
    pointer: Pointer,
}

/// One thing that an [`Each`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundElement {
    /// Range of the raw token in the text.
    pub range: Range<usize>,
    /// Range of the key token of the innermost `*` over an object, if there is one.
    pub key: Option<Range<usize>>,
}

impl Each {
    pub fn parse(text: &str) -> Result<Each, PointerError> {
        let pointer = Pointer::parse(text)?;
        let stars = pointer.segments.iter().filter(|segment| segment.is_star()).count();
        if stars > STARS_MAX {
            return Err(PointerError::TooManyStars { stars });
        }
        Ok(Each { pointer })
    }

    /// Appends the findings in the order of the text. For repeated searches use [`Pointers::add_path`].
    pub fn locate(&self, text: &str, elements: &mut Vec<FoundElement>) {
        let (mut pointers, mut found) = (Pointers::default(), FoundTokens::default());
        let path = pointers.add_path(self);
        pointers.locate(text, &mut found);
        let range = |span: Span| span.start as usize..span.end as usize;
        elements.extend(found.paths[path].elements.iter().map(|&(value, key)| FoundElement {
            range: range(value),
            key: Some(key).filter(|key| !key.is_none()).map(range),
        }));
    }
}

impl fmt::Debug for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Each({})", self.pointer)
    }
}

/// Number of elements of an array token or members of an object token; none for other tokens.
pub fn count(token: &str) -> Option<usize> {
    Scan::new(token).count()
}

/// Appends the text as a JSON string.
pub fn put_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let hex = |digit: u32| char::from_digit(digit, 16).unwrap_or('0');
                out.push_str("\\u00");
                out.extend([hex(c as u32 >> 4), hex(c as u32 & 15)]);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn found<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
        find(text, &Pointer::parse(pointer).expect(pointer))
    }

    #[test]
    fn tokens_are_found_exactly_as_they_stand() {
        let text = r#" { "a" : { "b" : [ 1 , 0.50930100 , {"c":"x\"y"} ] } , "n":null,"e/f":1,"g~h":2,"":3,"k\u0065y":true,"o":{} } "#;
        for (pointer, expected) in [
            ("", Some(text.trim())),
            ("/a/b/0", Some("1")),
            ("/a/b/1", Some("0.50930100")),
            ("/a/b/2/c", Some(r#""x\"y""#)),
            ("/a/b/-1", Some(r#"{"c":"x\"y"}"#)),
            ("/a/b/-3", Some("1")),
            ("/a/b/-1/c", Some(r#""x\"y""#)),
            ("/a/b/-4", None),
            ("/a/b/00", None),
            ("/a/b/-0", None),
            ("/a/b/3", None),
            ("/a/b", Some(r#"[ 1 , 0.50930100 , {"c":"x\"y"} ]"#)),
            ("/n", Some("null")),
            ("/n/x", None),
            ("/e~1f", Some("1")),
            ("/g~0h", Some("2")),
            ("/", Some("3")),
            ("/key", Some("true")),
            ("/o", Some("{}")),
            ("/o/x", None),
            ("/missing", None),
        ] {
            assert_eq!(found(text, pointer), expected, "{pointer}");
        }
        assert_eq!(found(r#"[1,"book",[]]"#, "/-2"), Some(r#""book""#));
        assert_eq!(found(r#"{"a":1,"a":2}"#, "/a"), Some("1"));
    }

    #[test]
    fn many_pointers_are_found_in_one_pass() {
        let mut pointers = Pointers::default();
        let slots: Vec<usize> = ["/a", "/a/x", "/b/-1", "/b/0", "/a", "/c"]
            .map(|text| pointers.add(&Pointer::parse(text).expect(text)))
            .to_vec();
        assert_eq!(slots, [0, 1, 2, 3, 0, 4]);
        let mut found = FoundTokens::default();
        for (text, expected) in [
            (r#"{"b":[7],"a":{"x":1}}"#, [Some(r#"{"x":1}"#), Some("1"), Some("7"), Some("7"), None]),
            (r#"{"a":5,"b":[7,8],"c":9}"#, [Some("5"), None, Some("8"), Some("7"), Some("9")]),
        ] {
            pointers.locate(text, &mut found);
            assert_eq!([0, 1, 2, 3, 4].map(|slot| found.get(text, slot)), expected, "{text}");
        }
    }

    #[test]
    fn wildcards_find_elements_and_members() {
        for (text, path, expected) in [
            (r#"{"data":[{"s":1},{"s":2}]}"#, "/data/*", vec![(r#"{"s":1}"#, None), (r#"{"s":2}"#, None)]),
            (r#"{"m":{"A":1,"B":2}}"#, "/m/*", vec![("1", Some(r#""A""#)), ("2", Some(r#""B""#))]),
            (r#"{"e":[{"t":[1,2]},{"t":[3]}]}"#, "/e/*/t/*", vec![("1", None), ("2", None), ("3", None)]),
            ("[1,2]", "/*", vec![("1", None), ("2", None)]),
            (r#"{"data":5}"#, "/data/*", vec![]),
        ] {
            let mut elements = Vec::new();
            Each::parse(path).expect(path).locate(text, &mut elements);
            let seen: Vec<_> =
                elements.iter().map(|e| (&text[e.range.clone()], e.key.clone().map(|key| &text[key]))).collect();
            assert_eq!(seen, expected, "{path}");
        }
    }

    #[test]
    fn names_and_wildcards_at_one_place_do_not_hide_each_other() {
        let mut pointers = Pointers::default();
        let parse = |text: &str| Pointer::parse(text).expect(text);
        let [all, data, nested] =
            ["/*", "/data/*", "/*/*/x"].map(|path| pointers.add_path(&Each::parse(path).expect(path)));
        let [name, last] = ["/data/0/s", "/data/-1/s"].map(|text| pointers.add(&parse(text)));
        let [in_all, in_data] =
            [(all, "/0/s"), (data, "/s")].map(|(path, text)| pointers.add_inside(path, &parse(text)));
        let mut found = FoundTokens::default();
        let text = r#"{"a":[{"s":1}],"data":[{"s":2},{"s":3,"x":4}]}"#;
        assert!(pointers.locate(text, &mut found));
        let elements = |path| (0..found.count(path).1).map(|n| found.element(text, path, n)).collect::<Vec<_>>();
        let inside =
            |path, slot| (0..found.count(path).1).map(|n| found.inside(text, path, n, slot)).collect::<Vec<_>>();
        let keys = |path| (0..found.count(path).1).map(|n| found.key(text, path, n)).collect::<Vec<_>>();
        assert_eq!((found.get(text, name), found.get(text, last)), (Some("2"), Some("3")));
        assert_eq!(elements(all), [Some(r#"[{"s":1}]"#), Some(r#"[{"s":2},{"s":3,"x":4}]"#)]);
        assert_eq!(keys(all), [Some(r#""a""#), Some(r#""data""#)]);
        assert_eq!(inside(all, in_all), [Some("1"), Some("2")]);
        assert_eq!(elements(data), [Some(r#"{"s":2}"#), Some(r#"{"s":3,"x":4}"#)]);
        assert_eq!(keys(data), [None, None], "the name `data` is no wildcard");
        assert_eq!(inside(data, in_data), [Some("2"), Some("3")]);
        assert_eq!((elements(nested), keys(nested)), (vec![Some("4")], vec![Some(r#""data""#)]));
        assert!(!pointers.locate("[1,2", &mut found));
        assert_eq!((found.count(all), found.get(text, name)), ((0, 0), None), "in half a text nothing is found");
    }

    #[test]
    fn json_is_what_serde_takes_for_json() {
        let seed = 11;
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let is_serde = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\"a\"",
            "\"a\":",
            "\\",
            "\\u00e9",
            ",",
            ":",
            "0",
            "-1.5e+3",
            "1.",
            "01",
            "true",
            "null",
            "nul",
            " ",
            "\n",
            "\u{1}",
            "é",
            "\"long enough for two words\"",
            "{\"b\":[1,{}]}",
        ];
        let mut valid = 0;
        for round in 0..100_000 {
            let text: String = (0..rng.random_range(0..8)).map(|_| pieces[rng.random_range(0..pieces.len())]).collect();
            assert_eq!(is_json(&text), is_serde(&text), "seed {seed} round {round}: {text}");
            valid += u32::from(is_json(&text));
        }
        assert!(valid > 1000, "{valid} of the texts were JSON");
        let whole = r#"{"a":[1,-0.5e-7,"x\u00e9\n","",{"b":null,"c":{}}],"é \\ \"":[true,false,[]]}"#;
        for at in 0..whole.len() {
            for byte in 0..128 {
                let mut bytes = whole.as_bytes().to_vec();
                bytes[at] = byte;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                assert_eq!(is_json(&text), is_serde(&text), "{text}");
            }
        }
        for levels in [126, 127, 128, 129] {
            for inside in ["", "{}", r#"{"a":[]}"#] {
                let text = "[".repeat(levels) + inside + &"]".repeat(levels);
                assert_eq!(
                    is_json(&text),
                    serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                    "{levels} {inside}"
                );
            }
        }
    }

    #[test]
    fn elements_and_members_are_counted() {
        for (token, expected) in [
            ("[]", Some(0)),
            ("[1,[2,3],\"]\"]", Some(3)),
            (r#"{"a":1,"b":{"c":2}}"#, Some(2)),
            ("{}", Some(0)),
            ("7", None),
            ("\"abc\"", None),
            ("[1", None),
        ] {
            assert_eq!(count(token), expected, "{token}");
        }
    }

    #[test]
    fn texts_are_written_as_serde_writes_them() {
        for text in ["", "a\"b\\c/", "\u{0}\u{1f}\n\r\t\u{7f}", "é€😀"] {
            let mut out = String::new();
            put_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).ok().as_deref(), Some(text), "{out}");
        }
    }

    #[test]
    fn wrong_pointers_are_refused_with_the_remedy() {
        assert!(Each::parse("/*/*/*/*/*").is_err_and(|error| error.to_string().contains("at most 4 `*`")));
        for (text, part) in [
            ("/a/-17", "at most 16, found `/a/-17`"),
            ("a/b", "write `/a/b`"),
            ("/a~b", "`~0`"),
            (&"/x".repeat(17), "found 17"),
        ] {
            let error = Pointer::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn string_tokens_are_decoded() {
        assert_eq!(decode_string(r#""a""#).as_deref(), Some("a"));
        assert_eq!(decode_string(r#""a\u00e9\n\"""#).as_deref(), Some("aé\n\""));
        for none in ["1", "\"", "", r#""\x""#] {
            assert_eq!(decode_string(none), None, "{none}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let seed = 7;
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let pointers: Vec<Pointer> =
            ["", "/a", "/a/0", "/-1", "/a/-1/a", "/0/0"].iter().map(|text| Pointer::parse(text).expect(text)).collect();
        let each = Each::parse("/*/a/*").expect("each");
        let letters = ['{', '}', '[', ']', '"', '\\', ',', ':', 'a', '0', '-', ' ', 'é', 'n', '~'];
        for round in 0..20_000 {
            let text: String =
                (0..rng.random_range(0..24)).map(|_| letters[rng.random_range(0..letters.len())]).collect();
            for pointer in &pointers {
                let token = find(&text, pointer);
                assert!(token.is_none_or(|token| text.contains(token)), "seed {seed} round {round}: {text}");
            }
            each.locate(&text, &mut Vec::new());
            decode_string(&text);
        }
        find(&"[".repeat(1_000_000), &pointers[3]);
    }

    #[test]
    fn what_is_found_is_what_a_tree_would_hold() {
        let text = r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"data":[{"asks":[["1.0","2"],[]],"n":-1e5}]}"#;
        let tree: serde_json::Value = serde_json::from_str(text).expect("valid");
        for pointer in ["/arg", "/arg/instId", "/data/0/asks/0/1", "/data/0/asks/1", "/data/0/n", "/x"] {
            let token = found(text, pointer).map(|token| serde_json::from_str(token).expect("valid"));
            assert_eq!(token.as_ref(), tree.pointer(pointer), "{pointer}");
        }
    }
}
