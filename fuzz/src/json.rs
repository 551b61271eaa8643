//! The pointer scanner: harmless on any text, and of one mind with serde_json on JSON.

use fanline::json::{Each, FoundTokens, Pointer, Pointers, find, is_json};
use serde_json::Value;

/// The input is a pointer, a line feed, and a text.
pub fn pointer(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Some((pointer_text, text)) = input.split_once('\n') else { return };
    let Ok(pointer) = Pointer::parse(pointer_text) else { return };
    let token = find(text, &pointer);
    if let Some(token) = token {
        assert!(text.as_bytes().as_ptr_range().contains(&token.as_ptr()), "a token is a part of the text");
    }
    check_many(text, &pointer, token);
    if let Ok(each) = Each::parse(pointer_text) {
        let mut elements = Vec::new();
        each.locate(text, &mut elements);
        assert!(elements.iter().all(|element| text.get(element.range.clone()).is_some()));
    }
    if is_json(text) {
        check_tree(text, pointer_text, token);
    }
}

/// Looking for several pointers at once finds each like looking for it alone.
fn check_many(text: &str, pointer: &Pointer, token: Option<&str>) {
    let mut pointers = Pointers::default();
    let [root, slot, first] = [Pointer::parse(""), Ok(pointer.clone()), Pointer::parse("/0")]
        .map(|pointer| pointers.add(&pointer.expect("a pointer")));
    let mut found = FoundTokens::default();
    pointers.locate(text, &mut found);
    if is_json(text) {
        assert_eq!(found.get(text, slot), token);
        assert_eq!(found.get(text, root), Some(text.trim_matches([' ', '\n', '\r', '\t'])));
        assert_eq!(found.get(text, first), find(text, pointers.pointer(first)));
    }
}

/// RFC 6901, where serde_json's tree can tell: no index from the end, no member twice.
fn check_tree(text: &str, pointer: &str, token: Option<&str>) {
    let from_end = pointer.split('/').any(|segment| segment.starts_with('-'));
    let Ok(tree) = serde_json::from_str::<Value>(text) else { return };
    if from_end || structural_colons(text) != structural_colons(&tree.to_string()) {
        return;
    }
    let token = token.map(|token| serde_json::from_str::<Value>(token).expect("a token of JSON is JSON"));
    assert_eq!(token.as_ref(), tree.pointer(pointer), "{pointer}");
}

/// Colons outside strings: the number of members; a tree keeps fewer if one comes twice.
fn structural_colons(text: &str) -> usize {
    let (mut colons, mut inside, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => colons += 1,
            _ => {}
        }
    }
    colons
}
