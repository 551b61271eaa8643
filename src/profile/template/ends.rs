//! Where a placeholder ends, and a pattern in one.

/// The text before the closing brace, and the text after it.
pub(super) fn until_brace(text: &str) -> Option<(&str, &str)> {
    let (mut open, mut escaped) = (1, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// End of a filter `re:PATTERN`: a `|` outside groups and classes of the pattern.
pub(super) fn pattern_end(text: &str) -> Option<usize> {
    let (mut groups, mut class, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => class = true,
            b']' => class = false,
            b'(' if !class => groups += 1,
            b')' if !class => groups = groups.saturating_sub(1),
            b'|' if !class && groups == 0 => return Some(at),
            _ => {}
        }
    }
    None
}
