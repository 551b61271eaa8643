//! A list of objects that are known by a key: rows of a table, orders and levels that have an id.
//!
//! A row of a known key is merged into the known one, member by member; another one is added at the end. A message, or a
//! member of the row, says that rows are gone.

use std::collections::{BTreeMap, HashMap};

use crate::json::{FoundElement, Type, decode_string, list_parts, pointer_part};
use crate::profile::rules::fold::{RowParts, RowPlace};

use crate::intake::assemble::fold::Unfit;
use crate::intake::assemble::merge::MergedObject;

/// As many as the levels of both sides of a book.
const ROWS_MAX: usize = 100_000;

#[derive(Clone, Debug, Default)]
pub(super) struct RowTable {
    /// In the order of their first arrival.
    rows: BTreeMap<u64, MergedObject>,
    /// The place of each key.
    places: HashMap<Box<str>, u64>,
    /// The place of the next new row.
    next: u64,
    bytes: usize,
}

impl RowTable {
    /// Takes the rows of a message, of which all are `gone` or none. After an error it holds only some of them.
    pub(super) fn take(
        &mut self,
        rule: &RowParts,
        token: &str,
        gone: bool,
        parts: &mut Vec<FoundElement>,
    ) -> Result<(), Unfit> {
        let mut rows = Vec::new();
        match Type::of(token) {
            Type::Array => rows.extend(list_parts(token, parts).iter().filter_map(|row| token.get(row.range.clone()))),
            Type::Object => return self.take_row(rule, token, gone, parts),
            Type::Bool | Type::Null | Type::Number | Type::String => {
                return Err(Unfit::at("", "merge.at", "a row, or a list of rows", Some(token)));
            }
        }
        rows.into_iter().enumerate().try_for_each(|(index, row)| {
            self.take_row(rule, row, gone, parts).map_err(|unfit| unfit.below(&format!("/{index}")))
        })
    }

    fn take_row(
        &mut self,
        rule: &RowParts,
        token: &str,
        gone: bool,
        parts: &mut Vec<FoundElement>,
    ) -> Result<(), Unfit> {
        let row = MergedObject::begin(token, parts)?;
        let value = |member: &String| {
            let place = || format!("/{}", pointer_part(member));
            row.value(member).ok_or_else(|| Unfit::at(&place(), "merge.key", "a part of the row's key", None))
        };
        let key = rule.key.iter().map(value).collect::<Result<Vec<&str>, Unfit>>()?.join(",");
        let says_gone = rule.removed.as_ref().is_some_and(|removed| match &removed.place {
            RowPlace::Member(member) => row.value(member).is_some_and(|value| is_same(value, &removed.value)),
            RowPlace::Message(_) => false,
        });
        if gone || says_gone {
            if let Some(place) = self.places.remove(&*key) {
                let row = self.rows.remove(&place);
                self.bytes -= row.map_or(0, |row| key.len() + row.bytes());
            }
            return Ok(());
        }
        let place = self.places.get(&*key).copied();
        match place.and_then(|place| self.rows.get_mut(&place)) {
            Some(known) => {
                let before = known.bytes();
                known.merge(token, parts)?;
                self.bytes = self.bytes + known.bytes() - before;
            }
            None if self.places.len() >= ROWS_MAX => return Err(Unfit::TooLarge),
            None => {
                self.bytes += key.len() + row.bytes();
                self.places.insert(key.into(), self.next);
                self.rows.insert(self.next, row);
                self.next += 1;
            }
        }
        Ok(())
    }

    pub(super) fn render(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (number, row) in self.rows.values().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            row.render(out);
        }
        out.push(b']');
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Whether a token is this value: the same text, or the same number, which may be written as a string.
pub(super) fn is_same(token: &str, value: &str) -> bool {
    let number = |token: &str| token.trim_matches('"').parse::<f64>().ok();
    let same_text = || decode_string(token).is_some_and(|text| decode_string(value).is_some_and(|it| it == text));
    token == value || number(token).is_some_and(|it| number(value) == Some(it)) || same_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::rules::fold::RowRemoval;

    fn rule(key: &[&str], removed: Option<RowRemoval>) -> RowParts {
        let at = crate::json::PointerSet::default().add("/data").expect("a pointer");
        RowParts { at, key: key.iter().map(|name| name.to_string()).collect(), removed }
    }

    fn folded(rule: &RowParts, messages: &[(&str, bool)]) -> Result<(String, usize), Unfit> {
        let (mut table, mut parts) = (RowTable::default(), Vec::new());
        for (rows, gone) in messages {
            table.take(rule, rows, *gone, &mut parts)?;
        }
        let mut out = Vec::new();
        table.render(&mut out);
        Ok((String::from_utf8(out).expect("text"), table.bytes()))
    }

    #[test]
    fn rows_are_added_merged_and_removed_by_their_key() {
        let by_id = rule(&["id"], None);
        let first = (r#"[{"id":7,"side":"Buy","size":5,"price":"99.50"},{"id":8,"side":"Sell","size":1}]"#, false);
        for (messages, expected) in [
            (vec![], r#"[{"id":7,"side":"Buy","size":5,"price":"99.50"},{"id":8,"side":"Sell","size":1}]"#),
            (
                vec![(r#"[{"id":7,"side":"Buy","size":9}]"#, false)],
                r#"[{"id":7,"side":"Buy","size":9,"price":"99.50"},{"id":8,"side":"Sell","size":1}]"#,
            ),
            (
                vec![(r#"[{"id":8,"side":"Sell"},{"id":9}]"#, true)],
                r#"[{"id":7,"side":"Buy","size":5,"price":"99.50"}]"#,
            ),
            (
                vec![(r#"[{"id":7}]"#, true), (r#"{"id":6,"size":2}"#, false), (r#"[]"#, false)],
                r#"[{"id":8,"side":"Sell","size":1},{"id":6,"size":2}]"#,
            ),
            (vec![(r#"[{"id":7},{"id":8}]"#, true)], "[]"),
        ] {
            let all: Vec<(&str, bool)> = std::iter::once(first).chain(messages).collect();
            assert_eq!(folded(&by_id, &all).expect("rows").0, expected);
        }
        let nothing = folded(&by_id, &[first, (r#"[{"id":7},{"id":8}]"#, true)]).expect("rows");
        assert_eq!(nothing.1, 0, "bytes of rows that are gone");
    }

    #[test]
    fn a_key_may_have_several_members_and_a_row_may_say_that_it_is_gone() {
        let removed = Some(RowRemoval { place: RowPlace::Member("qty".to_string()), value: "0".to_string() });
        let by_side = rule(&["side", "px"], removed);
        let rows = [
            (r#"[{"side":"b","px":1,"qty":5},{"side":"a","px":1,"qty":6}]"#, false),
            (r#"[{"side":"b","px":1,"qty":0.00}]"#, false),
        ];
        assert_eq!(folded(&by_side, &rows).expect("rows").0, r#"[{"side":"a","px":1,"qty":6}]"#);
    }

    #[test]
    fn rows_without_a_key_are_refused() {
        let by_id = rule(&["id"], None);
        for (rows, unfit) in [
            (r#"[{"id":1},{"size":1}]"#, Unfit::at("/1/id", "merge.key", "a part of the row's key", None)),
            (r#"{"size":1}"#, Unfit::at("/id", "merge.key", "a part of the row's key", None)),
            ("[1]", Unfit::at("/0", "merge.at", "an object", Some("1"))),
            ("7", Unfit::at("", "merge.at", "a row, or a list of rows", Some("7"))),
            (r#""x""#, Unfit::at("", "merge.at", "a row, or a list of rows", Some(r#""x""#))),
        ] {
            assert_eq!(folded(&by_id, &[(rows, false)]), Err(unfit), "{rows}");
        }
    }
}
