//! One pass over a JSON text (RFC 8259), forward only; it ends at the first byte that is not JSON.

use wide::u8x16;

use crate::json::tree::{Goal, SearchNode};
use crate::json::{ELEMENTS_MAX, FROM_END_MAX, FoundElements, FoundTokens, LEVELS_MAX, Span};

/// A place in a text. Each method that reads a part of the text returns nothing if the part is not JSON.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Open arrays and objects around this place.
    levels: u32,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Scan<'a> {
        Scan { bytes: text.as_bytes(), at: 0, levels: 0 }
    }

    /// Reads the whole text and records what the tree searches for.
    pub(super) fn whole(&mut self, root: &SearchNode, found: &mut FoundTokens) -> Option<()> {
        self.space();
        self.visit(root, found)?;
        self.space();
        (self.at == self.bytes.len()).then_some(())
    }

    /// The number of elements or members of the value here, if it is an array or object.
    pub(super) fn count(&mut self) -> Option<usize> {
        self.space();
        let object = match self.peek()? {
            b'{' => true,
            b'[' => false,
            _ => return None,
        };
        let mut count = 0;
        let mut more = self.open()?;
        while more {
            if object {
                self.key()?;
            }
            self.skip()?;
            count += 1;
            more = self.more(object)?;
        }
        Some(count)
    }

    /// Passes over one value.
    fn visit(&mut self, node: &SearchNode, found: &mut FoundTokens) -> Option<()> {
        let first = self.at;
        for goal in &node.goals {
            if let Goal::Element(path) = goal {
                found.paths[*path].begin();
            }
        }
        match self.peek()? {
            b'{' if !node.is_leaf() => self.visit_object(node, found)?,
            b'[' if !node.is_leaf() => self.visit_array(node, found)?,
            _ => self.skip()?,
        }
        found.record(node, self.since(first));
        Some(())
    }

    fn visit_object(&mut self, node: &SearchNode, found: &mut FoundTokens) -> Option<()> {
        let mut more = self.open()?;
        while more {
            let (key, escaped) = self.key()?;
            let token = &self.bytes[key.start as usize..key.end as usize];
            let named = if escaped { node.named_by_escaped(token) } else { node.named(&token[1..token.len() - 1]) };
            match named.or(node.star.as_deref()) {
                Some(child) if child.starred.is_empty() => self.visit(child, found)?,
                Some(child) => self.visit_starred(child, key, found)?,
                None => self.skip()?,
            }
            more = self.more(true)?;
        }
        Some(())
    }

    /// Visits a member that a `*` stands for.
    fn visit_starred(&mut self, child: &SearchNode, key: Span, found: &mut FoundTokens) -> Option<()> {
        for path in &child.starred {
            found.paths[*path].keys.push(key);
        }
        self.visit(child, found)?;
        for path in &child.starred {
            found.paths[*path].keys.pop();
        }
        Some(())
    }

    fn visit_array(&mut self, node: &SearchNode, found: &mut FoundTokens) -> Option<()> {
        let mut last = [Span::NONE; FROM_END_MAX];
        let mut count = 0;
        let mut more = self.open()?;
        while more {
            let first = self.at;
            match node.at(count as i64) {
                Some(child) => self.visit(child, found)?,
                None => self.skip()?,
            }
            last[count % FROM_END_MAX] = self.since(first);
            count += 1;
            more = self.more(false)?;
        }
        for (back, child) in node.from_end.iter().filter(|(back, _)| *back <= count) {
            let span = last[(count - back) % FROM_END_MAX];
            if child.is_leaf() {
                found.record(child, span);
            } else {
                Scan { bytes: self.bytes, at: span.start as usize, levels: self.levels }.visit(child, found)?;
            }
        }
        Some(())
    }

    /// Passes over one value without findings.
    fn skip(&mut self) -> Option<()> {
        // One bit for each open level, 1 for an object; the lowest is the innermost.
        let mut nest: u128 = 0;
        let around = self.levels;
        loop {
            match self.peek()? {
                b'"' => _ = self.string()?,
                b'{' => {
                    if self.open()? {
                        nest = nest << 1 | 1;
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    if self.open()? {
                        nest <<= 1;
                        continue;
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => return None,
            }
            loop {
                if self.levels == around {
                    return Some(());
                }
                let object = nest & 1 == 1;
                if self.more(object)? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                nest >>= 1;
            }
        }
    }

    /// Enters the array or object here. False: it is empty, and passed.
    fn open(&mut self) -> Option<bool> {
        if self.levels == LEVELS_MAX {
            return None;
        }
        // In ASCII `]` and `}` are two after `[` and `{`.
        let close = self.peek()? + 2;
        self.at += 1;
        self.space();
        if self.peek()? == close {
            self.at += 1;
            return Some(false);
        }
        self.levels += 1;
        Some(true)
    }

    /// After an element or member: whether another one follows. Else the array or object is left.
    fn more(&mut self, object: bool) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        match (byte, object) {
            (b',', _) => {
                self.space();
                Some(true)
            }
            (b'}', true) | (b']', false) => {
                self.levels -= 1;
                Some(false)
            }
            _ => None,
        }
    }

    /// Passes over a key and its colon, and gives the key and whether it has escapes.
    fn key(&mut self) -> Option<(Span, bool)> {
        let first = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        let escaped = self.string()?;
        let key = self.since(first);
        self.space();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        self.space();
        Some((key, escaped))
    }

    /// Passes over a string; true if it has escapes.
    fn string(&mut self) -> Option<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at = plain_end(self.bytes, self.at);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(escaped);
                }
                b'\\' => {
                    self.escape()?;
                    escaped = true;
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let digits = match self.bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 0,
            b'u' => 4,
            _ => return None,
        };
        let hex = self.bytes.get(self.at + 2..self.at + 2 + digits)?;
        self.at += 2 + digits;
        hex.iter().all(u8::is_ascii_hexdigit).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.peek()? == b'-');
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek()?, b'+' | b'-'));
            self.digits()?;
        }
        Some(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let first = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > first).then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let here = self.bytes.get(self.at..self.at + word.len())?;
        self.at += word.len();
        (here == word).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// From `first` to here. Callers have checked that 32 bits suffice.
    fn since(&self, first: usize) -> Span {
        Span { start: first as u32, end: self.at as u32 }
    }
}

impl FoundTokens {
    /// Records the value at a node.
    fn record(&mut self, node: &SearchNode, span: Span) {
        for goal in &node.goals {
            match *goal {
                Goal::Slot(slot) => self.spans[slot].set_first(span),
                Goal::Element(path) => self.paths[path].end(span),
                Goal::Inside { path, slot } => self.paths[path].record(slot, span),
            }
        }
    }
}

impl FoundElements {
    fn begin(&mut self) {
        self.count += 1;
        if self.count <= ELEMENTS_MAX {
            self.elements.push((Span::NONE, self.keys.last().copied().unwrap_or(Span::NONE)));
            self.spans.resize(self.spans.len() + self.pointers, Span::NONE);
        }
    }

    fn end(&mut self, span: Span) {
        if self.count <= ELEMENTS_MAX
            && let Some((value, _)) = self.elements.last_mut()
        {
            *value = span;
        }
    }

    /// Elements of one path never lie in one another: the newest is the one around.
    fn record(&mut self, slot: usize, span: Span) {
        if self.count <= ELEMENTS_MAX {
            let first = self.spans.len() - self.pointers;
            self.spans[first + slot].set_first(span);
        }
    }
}

impl Span {
    /// Of members with the same name the first counts.
    fn set_first(&mut self, span: Span) {
        if self.is_none() {
            *self = span;
        }
    }
}

/// End of the plain part of a string: a quote, a backslash, a control character, or the end of the text.
fn plain_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    // Most strings of a feed end in the first sixteen bytes.
    while let Some(sixteen) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let ends = string_ends(*sixteen);
        if ends != 0 {
            return at + ends.trailing_zeros() as usize;
        }
        at += 16;
    }
    let Some(last) = bytes.last_chunk() else {
        let rest = bytes.get(at..).unwrap_or_default();
        return rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))
            .map_or(bytes.len(), |count| at + count);
    };
    // The last sixteen bytes without those before `at`; where the text ends, the string does.
    let before = 16 - (bytes.len() - at) as u32;
    let ends = string_ends(*last) >> before | 1 << (16 - before);
    at + ends.trailing_zeros() as usize
}

/// One bit for each byte that ends the plain part of a string.
fn string_ends(sixteen: [u8; 16]) -> u32 {
    const LAST_CONTROL: u8 = b' ' - 1;
    let bytes = u8x16::from(sixteen);
    let controls = bytes.min(u8x16::splat(LAST_CONTROL)).simd_eq(bytes);
    (bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | controls).to_bitmask()
}
