//! Where an answer names items: pointers with `*` for every element, and `#` for the key of a member.
//!
//! Pointers that begin alike go through the answer together: `/channels/*/name` and `/channels/*/ids/*` give each name
//! with each of its own ids.

use serde_json::Value;

use crate::json::Pointer;
use crate::profile::section::{ProfileEntry, ProfileError};

/// Names that are taken from one answer; 16,000 is four times what a connection of any known venue carries.
const NAMES_MAX: usize = 16_384;

#[derive(Clone, Debug, Default)]
pub(crate) struct ItemKey(Vec<Vec<String>>);

impl ItemKey {
    pub(crate) fn read(entries: &[ProfileEntry<'_>]) -> Result<ItemKey, ProfileError> {
        let path = |entry: &ProfileEntry<'_>| {
            let text = entry.text()?;
            Pointer::parse(text).map_err(|error| entry.error(error))?;
            Ok(text.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
        };
        entries.iter().map(path).collect::<Result<_, _>>().map(ItemKey)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of each name, one for each pointer.
    pub(crate) fn names(&self, answer: &str) -> Vec<Vec<Value>> {
        let Ok(answer) = serde_json::from_str::<Value>(answer) else { return Vec::new() };
        let paths: Vec<&[String]> = self.0.iter().map(Vec::as_slice).collect();
        if paths.is_empty() { Vec::new() } else { combined(&answer, "", &paths) }
    }
}

/// What these paths find in a value, whose own key is `key`.
fn combined(value: &Value, key: &str, paths: &[&[String]]) -> Vec<Vec<Value>> {
    let first = paths.first().and_then(|path| path.first());
    match (first, paths) {
        (None, [_]) => vec![vec![value.clone()]],
        (Some(segment), [_]) if segment == "#" => vec![vec![key.into()]],
        (Some(segment), _) if segment != "#" && paths.iter().all(|path| path.first() == Some(segment)) => {
            let rest: Vec<&[String]> = paths.iter().map(|path| &path[1..]).collect();
            let found = children(value, segment).into_iter().flat_map(|(key, child)| combined(child, key, &rest));
            found.take(NAMES_MAX).collect()
        }
        // They part here.
        (_, [head, rest @ ..]) => {
            let (left, right) = (combined(value, key, &[head]), combined(value, key, rest));
            let pairs = left.iter().flat_map(|left| right.iter().map(|right| [&left[..], &right[..]].concat()));
            pairs.take(NAMES_MAX).collect()
        }
        (_, []) => Vec::new(),
    }
}

fn children<'a>(value: &'a Value, segment: &str) -> Vec<(&'a str, &'a Value)> {
    match (value, segment) {
        (Value::Array(list), "*") => list.iter().map(|child| ("", child)).collect(),
        (Value::Object(members), "*") => members.iter().map(|(key, child)| (key.as_str(), child)).collect(),
        (Value::Array(list), index) => {
            let from_end = index.strip_prefix('-').and_then(|index| list.len().checked_sub(index.parse().ok()?));
            let at = from_end.or_else(|| index.parse().ok());
            at.and_then(|at| list.get(at)).map(|child| ("", child)).into_iter().collect()
        }
        (Value::Object(members), name) => {
            members.get_key_value(name).map(|(key, child)| (key.as_str(), child)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_that_begin_alike_go_together() {
        let cumulative = r#"{"channels":[{"name":"ticker","ids":["A","B"]},{"name":"book","ids":["C"]}]}"#;
        let keyed = r#"{"events":[{"subscriptions":{"ticker":["A","B"],"book":["C"]}}]}"#;
        for (pointers, answer, expected) in [
            (&["/channels/*/name", "/channels/*/ids/*"][..], cumulative, "ticker.A ticker.B book.C"),
            (&["/events/*/subscriptions/*/#", "/events/*/subscriptions/*/*"], keyed, "book.C ticker.A ticker.B"),
            (&["/a/-1", "/b"], r#"{"a":["x","y"],"b":7}"#, "y.7"),
            (&["/c", "/s/*"], r#"{"c":"t","s":["A","B"]}"#, "t.A t.B"),
            (&["/c", "/missing"], r#"{"c":"t"}"#, ""),
            (&["/c"], "no JSON", ""),
        ] {
            let key =
                ItemKey(pointers.iter().map(|text| text.split('/').skip(1).map(String::from).collect()).collect());
            let text = |part: &Value| part.as_str().map_or_else(|| part.to_string(), String::from);
            let names: Vec<String> =
                key.names(answer).iter().map(|name| name.iter().map(text).collect::<Vec<_>>().join(".")).collect();
            assert_eq!(names.join(" "), expected, "{pointers:?}");
        }
    }

    #[test]
    fn an_answer_cannot_name_without_bound() {
        let list = vec!["1"; 2000].join(",");
        let key = ItemKey(["a", "b"].map(|name| vec![name.to_string(), "*".to_string()]).into());
        assert_eq!(key.names(&format!("{{\"a\":[{list}],\"b\":[{list}]}}")).len(), NAMES_MAX);
    }
}
