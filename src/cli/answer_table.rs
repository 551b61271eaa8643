//! What a server has answered, as tables for a terminal.
//!
//! Names and patterns come from clients: control characters in them are escaped, so that they cannot steer the terminal.

use serde_json::Value;

pub(super) fn rows(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A value in a cell.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.chars().flat_map(escaped).collect(),
        other => other.to_string(),
    }
}

pub(super) fn texts(list: &Value) -> String {
    rows(list).iter().map(text).collect::<Vec<_>>().join(",")
}

/// Control characters, and those that change the direction of text, as `\u{…}`.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let steers =
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escape = steers.then(|| c.escape_unicode());
    let plain = (!steers).then_some(c);
    escape.into_iter().flatten().chain(plain)
}

pub(super) fn moment(ms: &Value) -> String {
    ms.as_u64().map_or_else(|| "-".into(), crate::audit::files::timestamp)
}

/// Columns as wide as their widest cell; the last one is not padded.
pub(super) fn table(cells: &[Vec<String>]) -> String {
    let columns = cells.first().map_or(0, Vec::len);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut table = String::new();
    for row in cells {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        table += padded.collect::<Vec<_>>().join("  ").trim_end();
        table.push('\n');
    }
    table
}
