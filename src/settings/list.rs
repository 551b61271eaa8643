//! A list in one text, as a variable holds it: `a,b`, `{"op":"subscribe","args":["a","b"]},ping`, or `["a", "b"]`.
//!
//! A comma inside braces, brackets or quotes belongs to its item, because a message of a feed can be an item.

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

const REMEDY: &str = "write `a,b`, or `[\"a\", \"b\"]` with each item in quotes";

/// The items; the error is the remedy.
pub fn read(text: &str) -> Result<Vec<String>, String> {
    if text.starts_with('[') {
        return from_json(text).or_else(|| from_toml(text)).ok_or_else(|| REMEDY.into());
    }
    let items = split(text).into_iter().map(str::trim).filter(|item| !item.is_empty());
    Ok(items.map(|item| serde_json::from_str(item).unwrap_or_else(|_| item.to_owned())).collect())
}

/// The shortest text that [`read`] reads as these items.
pub fn write(items: &[String]) -> String {
    let joined = items.join(",");
    if read(&joined).is_ok_and(|again| again == items) {
        return joined;
    }
    serde_json::to_string(items).expect("a list of texts is JSON")
}

/// Strings are items; anything else is an item as written, such as a message of the feed.
fn from_json(text: &str) -> Option<Vec<String>> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let item = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
    Some(items.into_iter().map(item).collect())
}

fn from_toml(text: &str) -> Option<Vec<String>> {
    let document = format!("list = {text}");
    let table = DeTable::parse(&document).ok()?;
    match table.get_ref().iter().next()?.1.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| item.get_ref().as_str().map(Into::into)).collect(),
        _ => None,
    }
}

/// Splits at commas outside of braces, brackets and quotes; where those do not match, at all commas.
fn split(text: &str) -> Vec<&str> {
    let mut commas = Vec::new();
    let mut open = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut begins = true; // nothing but white space since the last comma
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => quoted = false,
            // A quote inside a bare word is a letter like any other.
            b'"' if begins || !open.is_empty() => quoted = true,
            _ if quoted => {}
            b'{' | b'[' => open.push(byte),
            b'}' if open.pop() != Some(b'{') => return text.split(',').collect(),
            b']' if open.pop() != Some(b'[') => return text.split(',').collect(),
            b',' if open.is_empty() => commas.push(at),
            _ => {}
        }
        begins = !quoted && (byte == b',' || (begins && byte.is_ascii_whitespace()));
    }
    if quoted || !open.is_empty() {
        return text.split(',').collect();
    }
    let starts = std::iter::once(0).chain(commas.iter().map(|at| at + 1));
    let ends = commas.iter().copied().chain([text.len()]);
    starts.zip(ends).map(|(start, end)| &text[start..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_inside_of_json_belong_to_their_item() {
        for (text, items) in [
            ("a, b,", &["a", "b"][..]),
            ("", &[]),
            (r#"{"a":1,"b":2}"#, &[r#"{"a":1,"b":2}"#]),
            (r#"{"a":1,"b":"}, {"}, c"#, &[r#"{"a":1,"b":"}, {"}"#, "c"]),
            (
                r#"{"op":"sub","args":["x","y"]},{"op":"sub","args":["z"]}"#,
                &[r#"{"op":"sub","args":["x","y"]}"#, r#"{"op":"sub","args":["z"]}"#],
            ),
            (r#""a,b",c"#, &["a,b", "c"]),
            (r#"["a", "b,c"]"#, &["a", "b,c"]),
            ("['a', 'b,c',]", &["a", "b,c"]),
            (r#"[{"a":1, "b":2}, "c"]"#, &[r#"{"a":1, "b":2}"#, "c"]),
            ("[]", &[]),
            // Unpaired brackets and quotes are letters.
            (r#"a"b,c"#, &[r#"a"b"#, "c"]),
            ("a},b", &["a}", "b"]),
            ("{a,b", &["{a", "b"]),
            ("chat.*=50,b=2", &["chat.*=50", "b=2"]),
        ] {
            let found = read(text).unwrap_or_else(|remedy| panic!("{text}: {remedy}"));
            assert_eq!(found, items, "{text}");
            assert_eq!(read(&write(&found)), Ok(found), "{text} written and read again");
        }
        for text in ["[1, 2", "[a]", "[\"a\"] b"] {
            assert_eq!(read(text), Err(REMEDY.into()), "{text}");
        }
    }
}
