//! One pass over a JSON text, moving forward only; on a text that is no JSON it ends somewhere, without harm.

use std::ops::Range;

use super::{Element, Node, Segment};

/// A place in a text, moving forward only.
pub(super) struct Scan<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Scan<'_> {
    /// Passes over one value and notes where the node's pointers lie.
    pub fn visit(&mut self, node: &Node, ranges: &mut [Option<Range<usize>>]) {
        self.skip_space();
        let first = self.at;
        match self.peek() {
            Some(b'{') if !node.children.is_empty() => self.visit_object(node, ranges),
            Some(b'[') if !node.children.is_empty() => self.visit_array(node, ranges),
            _ => self.skip_value(),
        }
        if let Some(slot) = node.slot
            && ranges[slot].is_none()
            && self.at > first
        {
            ranges[slot] = Some(first..self.at);
        }
    }

    fn visit_object(&mut self, node: &Node, ranges: &mut [Option<Range<usize>>]) {
        self.at += 1;
        while let Some(key) = self.next_key() {
            let child = node.children.iter().find(|(segment, _)| key_is(&self.bytes[key.clone()], &segment.name));
            match child {
                Some((_, child)) => self.visit(child, ranges),
                None => self.skip_value(),
            }
        }
    }

    fn visit_array(&mut self, node: &Node, ranges: &mut [Option<Range<usize>>]) {
        let from_end = node.children.iter().any(|(segment, _)| segment.index.is_some_and(|index| index < 0));
        let count = if from_end { Scan { bytes: self.bytes, at: self.at }.count_elements() } else { 0 };
        self.at += 1;
        let mut index = 0;
        while self.next_element() {
            let before = self.at;
            for (segment, child) in &node.children {
                if segment.index == Some(index) || segment.index == Some(index - count) && from_end {
                    self.at = before;
                    self.visit(child, ranges);
                }
            }
            if self.at == before {
                self.skip_value();
            }
            index += 1;
        }
    }

    fn count_elements(&mut self) -> i64 {
        self.at += 1;
        let mut count = 0;
        while self.next_element() {
            self.skip_value();
            count += 1;
        }
        count
    }

    /// The raw bytes of the next key, leaving the scan before its value; none at the end of the object.
    fn next_key(&mut self) -> Option<Range<usize>> {
        self.skip_separators();
        if self.peek() != Some(b'"') {
            self.at = (self.at + 1).min(self.bytes.len());
            return None;
        }
        let first = self.at;
        self.skip_string();
        let key = first..self.at;
        self.skip_space();
        if self.peek() == Some(b':') {
            self.at += 1;
        }
        self.skip_space();
        Some(key)
    }

    /// Whether another element of the array follows; the scan is then before it, else behind the array.
    fn next_element(&mut self) -> bool {
        self.skip_separators();
        match self.peek() {
            None => false,
            Some(b']' | b'}' | b':') => {
                self.at += 1;
                false
            }
            Some(_) => true,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_separators(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t' | b',')) {
            self.at += 1;
        }
    }

    fn skip_value(&mut self) {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') => self.skip_nest(),
            _ => {
                while !matches!(self.peek(), None | Some(b',' | b']' | b'}' | b':' | b' ' | b'\n' | b'\r' | b'\t')) {
                    self.at += 1;
                }
            }
        }
    }

    fn skip_nest(&mut self) {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at = (self.at + 1).min(self.bytes.len()),
                _ => {}
            }
        }
    }
}

impl Scan<'_> {
    /// Passes over one value and appends what lies at `path` in it; `key` belongs to the innermost `*` so far.
    pub fn collect(&mut self, path: &[Segment], key: Option<Range<usize>>, found: &mut Vec<Element>) {
        self.skip_space();
        let first = self.at;
        let Some((segment, rest)) = path.split_first() else {
            self.skip_value();
            if self.at > first {
                found.push(Element { range: first..self.at, key });
            }
            return;
        };
        let any = &*segment.name == "*";
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                while let Some(member) = self.next_key() {
                    if any {
                        self.collect(rest, Some(member), found);
                    } else if key_is(&self.bytes[member], &segment.name) {
                        self.collect(rest, key.clone(), found);
                    } else {
                        self.skip_value();
                    }
                }
            }
            Some(b'[') => {
                self.at += 1;
                let mut index = 0;
                while self.next_element() {
                    if any || segment.index == Some(index) {
                        self.collect(rest, if any { None } else { key.clone() }, found);
                    } else {
                        self.skip_value();
                    }
                    index += 1;
                }
            }
            _ => self.skip_value(),
        }
    }
}

/// Whether a key token (with its quotes) stands for `name`.
fn key_is(token: &[u8], name: &str) -> bool {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    if inner == name.as_bytes() {
        return true;
    }
    inner.contains(&b'\\') && serde_json::from_slice::<String>(token).is_ok_and(|decoded| decoded == name)
}
