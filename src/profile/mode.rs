//! Retention of a topic for clients that join, as a rule defines it: `mode`, `tail`, `merge`, `book`, `delta_limit`.

use crate::json::{PointerSet, PointerSite, is_json};

use crate::profile::checksum::read_checksum;
use crate::profile::keys::{BOOK, DELTA_LIMIT, MERGE};
use crate::profile::level::ReadLevel;
use crate::profile::optional;
use crate::profile::rules::fold::{
    BookDepth, BookParts, FirstOf, FoldParts, FoldRule, RowParts, RowPlace, RowRemoval, Siblings,
};
use crate::profile::rules::treatment::{Changes, DeltaLimit, DeltaOverflow, Mode, TAIL_MAX};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, did_you_mean, one_of};

/// Messages that `mode = "tail"` keeps without `tail`.
const TAIL: usize = 50;

const NAMES: [&str; 6] = ["replace", "tail", "none", "delta", "merge", "book"];

/// Reads the mode of a rule of class `data`. Uses the keys `mode`, `tail`, `merge`, `book` and `delta_limit`, and looks
/// at `each`, `emit` and `snapshot_when`.
pub(crate) fn read_mode(section: &ProfileSection<'_>) -> Result<Mode, ProfileError> {
    let name = match section.get("mode") {
        None => "replace",
        Some(entry) => match entry.text()? {
            name if NAMES.contains(&name) => name,
            other => {
                let hint = did_you_mean(other, &NAMES);
                return Err(entry.error(format!("expected {}, found `{other}`{hint}", one_of(&NAMES))));
            }
        },
    };
    for (key, modes) in [
        ("tail", &["tail"][..]),
        ("merge", &["merge"]),
        ("book", &["book"]),
        ("delta_limit", &["delta", "merge", "book"]),
    ] {
        if let Some(entry) = section.get(key).filter(|_| !modes.contains(&name)) {
            let quoted = modes.iter().map(|mode| format!("`mode = \"{mode}\"`")).collect::<Vec<_>>().join(" or ");
            return Err(entry.error(format!("expected `{key}` beside {quoted}, found it beside `{name}`; remove it")));
        }
    }
    let fold = match name {
        "tail" => return read_tail(section).map(Mode::Tail),
        "none" => return Ok(Mode::Nothing),
        "merge" => Some(read_merge(section)?),
        "book" => Some(read_book(section)?),
        "delta" => None,
        _ => return Ok(Mode::Replace),
    };
    if fold.is_some() && section.get("snapshot_when").is_none() {
        let problem = format!(
            "expected `snapshot_when` beside `mode = \"{name}\"`, found none; \
             say which messages are snapshots, such as `snapshot_when = ['/type == \"snapshot\"']`"
        );
        return Err(section.error("snapshot_when", problem));
    }
    Ok(Mode::Changes(Box::new(Changes { limit: read_limit(section)?, fold, waits: false })))
}

fn read_tail(section: &ProfileSection<'_>) -> Result<usize, ProfileError> {
    let tail = optional(section.get("tail"), |entry| match entry.count()? {
        keep if keep <= TAIL_MAX => Ok(keep),
        keep => Err(entry.error(format!("expected at most {TAIL_MAX} messages, found {keep}"))),
    })?;
    Ok(tail.unwrap_or(TAIL))
}

fn read_limit(section: &ProfileSection<'_>) -> Result<DeltaLimit, ProfileError> {
    let mut limit = DeltaLimit::default();
    let Some(section) = section.get("delta_limit").map(|entry| entry.section(DELTA_LIMIT)).transpose()? else {
        return Ok(limit);
    };
    if let Some(count) = optional(section.get("count"), ProfileEntry::count)? {
        limit.count = count as u64;
    }
    if let Some(bytes) = optional(section.get("bytes"), ProfileEntry::bytes)? {
        limit.bytes = bytes;
    }
    let over = |entry: &ProfileEntry<'_>| match entry.text()? {
        "resubscribe" => Ok(DeltaOverflow::Resubscribe),
        "mark" => Ok(DeltaOverflow::Mark),
        other => Err(entry.error(format!("expected `resubscribe` or `mark`, found `{other}`"))),
    };
    if let Some(over) = optional(section.get("over"), over)? {
        limit.over = over;
    }
    Ok(limit)
}

fn read_merge(rule: &ProfileSection<'_>) -> Result<FoldRule, ProfileError> {
    let example = "merge = { at = \"./data\" }";
    let section = rule.require("merge", example)?.section(MERGE)?;
    let mut places = PointerSet::default();
    let at = place(&section.require("at", "at = \"./data\"")?, &mut places)?;
    let key = optional(section.get("key"), |entry| match entry.text() {
        Ok(member) => Ok(vec![member.to_string()]),
        Err(_) => match &entry.list()?[..] {
            [] => Err(entry.error("expected a member or several, found none; write for example `id`")),
            members => members.iter().map(|member| member.text().map(str::to_string)).collect(),
        },
    })?;
    let removed = optional(section.get("remove"), |entry| match &key {
        Some(_) => read_row_removal(entry, &mut places),
        None => Err(entry.error("expected `key` beside `remove`, found none; add for example `key = \"id\"`")),
    })?;
    let carry = read_carry(&section, &mut places)?;
    let parts = match key {
        Some(key) => FoldParts::Rows(Box::new(RowParts { at, key, removed })),
        None => FoldParts::Object(at),
    };
    finish(rule, "merge", FoldRule { places, parts, carry, siblings: None })
}

/// `/action == "delete"` of a message, `size == 0` of a row.
fn read_row_removal(entry: &ProfileEntry<'_>, places: &mut PointerSet) -> Result<RowRemoval, ProfileError> {
    let text = entry.text()?;
    let sides = text.split_once("==").map(|(place, value)| (place.trim(), value.trim()));
    let sides = sides.filter(|(place, value)| !place.is_empty() && is_json(value));
    let Some((place, value)) = sides else {
        return Err(entry.error(format!(
            "expected a place, `==` and a JSON value, found `{text}`; write for example `/action == \"delete\"`, or \
             `size == 0` of the row"
        )));
    };
    let place = match place.starts_with(['/', '.']) {
        true => RowPlace::Message(places.add(place).map_err(|problem| entry.error(problem))?),
        false => RowPlace::Member(place.to_string()),
    };
    Ok(RowRemoval { place, value: value.to_string() })
}

fn read_book(rule: &ProfileSection<'_>) -> Result<FoldRule, ProfileError> {
    let example = "book = { sides = [\"./bids\", \"./asks\"], price = 0, size = 1 }";
    let section = rule.require("book", example)?.section(BOOK)?;
    let mut places = PointerSet::default();
    let pair = optional(section.get("sides"), |entry| match &entry.list()?[..] {
        [bids, asks] => Ok([first_of(bids, &mut places)?, first_of(asks, &mut places)?]),
        other => Err(entry.error(format!("expected two pointers, to bids and to asks, found {}", other.len()))),
    })?;
    let changes = optional(section.get("changes"), |entry| first_of(entry, &mut places))?;
    if pair.is_none() && changes.is_none() {
        return Err(section.error("sides", "expected `sides = [\"./bids\", \"./asks\"]` or `changes`, found neither"));
    }
    let mark = ["side", "bid", "ask", "sign"].iter().find_map(|key| section.get(key));
    if let Some(entry) = mark.filter(|_| changes.is_none()) {
        return Err(entry.error("expected `changes` beside it, a list of both sides' levels, found none"));
    }
    let level = ReadLevel::read(&section)?;
    let dropped = level.side.filter(|_| pair.is_some());
    let parts = BookParts {
        sides: pair.map(|pair| (pair, level.form(dropped, false))),
        changes: changes.map(|place| (place, level.form(dropped, true))),
        depth: optional(section.get("depth"), |entry| match entry.text() {
            Ok(_) => first_of(entry, &mut places).map(BookDepth::Named),
            Err(_) => entry.count().map(BookDepth::Fixed),
        })?,
        checksum: optional(section.get("checksum"), |entry| read_checksum(entry, &mut places))?,
    };
    let carry = read_carry(&section, &mut places)?;
    finish(rule, "book", FoldRule { places, parts: FoldParts::Book(Box::new(parts)), carry, siblings: None })
}

/// Adds the rule's `each` and `emit`, and checks that whole values can be made.
fn finish(rule: &ProfileSection<'_>, key: &str, mut fold: FoldRule) -> Result<FoldRule, ProfileError> {
    let each = rule.get("each");
    let element = optional(rule.get("emit"), ProfileEntry::text)? == Some("element");
    if let Some(outside) = fold.places.reach_out().filter(|_| element) {
        return Err(rule.error(
            key,
            format!(
                "expected pointers into the element beside `emit = \"element\"`, found `{outside}`; write `.{outside}`"
            ),
        ));
    }
    if !element {
        fold.siblings = optional(each, |entry| Siblings::parse(entry.text()?).map_err(|problem| entry.error(problem)))?;
    }
    Ok(fold)
}

fn place(entry: &ProfileEntry<'_>, places: &mut PointerSet) -> Result<PointerSite, ProfileError> {
    places.add(entry.text()?).map_err(|problem| entry.error(problem))
}

/// One pointer, or a list of them of which the first that finds something counts.
pub(crate) fn first_of(entry: &ProfileEntry<'_>, places: &mut PointerSet) -> Result<FirstOf, ProfileError> {
    let several = if entry.text().is_ok() { Vec::new() } else { entry.list()? };
    let entries = if several.is_empty() { std::slice::from_ref(entry) } else { &several[..] };
    entries.iter().map(|entry| place(entry, places)).collect::<Result<_, _>>().map(FirstOf)
}

fn read_carry(section: &ProfileSection<'_>, places: &mut PointerSet) -> Result<Vec<PointerSite>, ProfileError> {
    let list = optional(section.get("carry"), ProfileEntry::list)?.unwrap_or_default();
    list.iter().map(|entry| place(entry, places)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::profile::keys::ON;
    use crate::profile::section::ProfileSource;

    /// Reads the mode of a rule that consists of these lines.
    pub(crate) fn read(text: &str) -> Result<Mode, String> {
        let source = ProfileSource { origin: "x.toml", text };
        let table = DeTable::parse(text).expect("TOML");
        let section = ProfileSection::root(source, table.get_ref(), ON).expect("known keys");
        read_mode(&section).map_err(|error| error.to_string())
    }

    const BOOK: &str = "snapshot_when = ['/s exists']\nmode = \"book\"\n";

    #[test]
    fn modes_are_read() {
        for (text, expected) in [
            ("", Mode::Replace),
            ("mode = \"replace\"", Mode::Replace),
            ("mode = \"tail\"\ntail = 50", Mode::Tail(50)),
            ("mode = \"tail\"", Mode::Tail(50)),
            ("mode = \"none\"", Mode::Nothing),
            (
                "mode = \"delta\"",
                Mode::Changes(Box::new(Changes { limit: DeltaLimit::default(), fold: None, waits: false })),
            ),
            (
                "mode = \"delta\"\ndelta_limit = { count = 7, bytes = \"1KiB\", over = \"mark\" }",
                Mode::Changes(Box::new(Changes {
                    limit: DeltaLimit { count: 7, bytes: 1024, over: DeltaOverflow::Mark },
                    fold: None,
                    waits: false,
                })),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for book in [
            "sides = [\"./bids\", \"./asks\"], price = 0, size = 1",
            "sides = [\"./b\", \"./a\"], price = \"price\", size = \"qty\", remove = \"qty == 0\", depth = 5, carry = [\"/ts\"]",
            "sides = [\"./b\", \"./a\"], price = 0, size = 2, count = 1, remove = \"count == 0\"",
            "changes = \"./c\", side = 0, bid = \"buy\", ask = \"sell\", price = 1, size = 2",
            "changes = \"/1\", sign = 2, price = 0, size = 2, remove = \"1 == 0\"",
            "sides = [[\"./bs\", \"./b\"], \"./a\"], price = [\"price\", 0], size = [\"size\", 1], level = '[${price},${size}]', depth = \"/-2\"",
            "sides = [\"./b\", \"./a\"], price = 0, size = 1, checksum = { at = [\"/1/c\", \"/2/c\"], levels = 10, order = \"asks_first\", digits = \"significant\", join = \":\" }",
        ] {
            let text = format!("{BOOK}book = {{ {book} }}");
            let mode = read(&text);
            assert!(matches!(&mode, Ok(Mode::Changes(changes)) if changes.fold.is_some()), "{text}: {mode:?}");
            assert_eq!(mode, read(&text));
        }
    }

    #[test]
    fn mistakes_are_reported_with_line_key_and_remedy() {
        for (text, place, part) in [
            ("mode = \"delt\"", "x.toml:1: mode", "did you mean `delta`?"),
            ("mode = \"tail\"\ntail = 0", "x.toml:2: tail", "at least 1"),
            ("mode = \"tail\"\ntail = 1001", "x.toml:2: tail", "at most 1000"),
            ("tail = 5", "x.toml:1: tail", "expected `tail` beside `mode = \"tail\"`, found it beside `replace`"),
            ("mode = \"none\"\ndelta_limit = { count = 1 }", "x.toml:2: delta_limit", "`mode = \"delta\"` or"),
            ("mode = \"delta\"\ndelta_limit = { over = \"drop\" }", "x.toml:2: delta_limit.over", "`mark`"),
            ("mode = \"delta\"\ndelta_limit = { cuont = 1 }", "x.toml:2: delta_limit.cuont", "`count`?"),
            ("mode = \"merge\"", "merge", "expected `merge = {"),
            ("mode = \"merge\"\nmerge = { carry = [] }", "merge.at", "expected `at = "),
            ("mode = \"merge\"\nmerge = { at = \"data\" }", "x.toml:2: merge.at", "write `/data`"),
            ("mode = \"merge\"\nmerge = { at = \"./\" }", "x.toml:2: merge.at", "expected `.` for the element itself"),
            (
                "mode = \"merge\"\nmerge = { at = \"./data\", remove = '/a == 1' }",
                "x.toml:2: merge.remove",
                "expected `key` beside `remove`, found none",
            ),
            (
                "mode = \"merge\"\nmerge = { at = \"./data\", key = \"id\", remove = '/a' }",
                "x.toml:2: merge.remove",
                "write for example `/action == \"delete\"`",
            ),
            (
                "mode = \"merge\"\nmerge = { at = \"./data\", key = [7] }",
                "x.toml:2: merge.key.1",
                "expected a text in quotes, found `7`",
            ),
            ("mode = \"merge\"\nmerge = { at = \"./data\" }", "snapshot_when", "say which messages are snapshots"),
            ("mode = \"book\"", "book", "expected `book = {"),
            (
                "mode = \"book\"\nemit = \"element\"\nbook = { sides = [\"/b\", \"/a\"], price = 0, size = 1 }",
                "book",
                "found `/b`; write `./b`",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(place) && error.contains(part), "{error}");
        }
        for (book, place, part) in [
            ("price = 0, size = 1", "book.sides", "found neither"),
            ("sides = [\"./b\"], price = 0, size = 1", "book.sides", "found 1"),
            ("sides = [\"./b\", \"./a\"], size = 1", "book.price", "expected `price = 0`"),
            ("sides = [\"./b\", \"./a\"], price = -1, size = 1", "book.price", "a position such as `0`"),
            ("sides = [\"./b\", \"./a\"], price = 0", "book.size", "expected `size = 1`"),
            ("sides = [\"./b\", \"./a\"], price = 0, size = 1, remove = \"size < 1\"", "book.remove", "`size == 0`"),
            ("sides = [\"./b\", \"./a\"], price = 0, size = 1, remove = \"count == 0\"", "book.remove", "`count = 1`"),
            ("sides = [\"./b\", \"./a\"], price = 0, size = 1, side = 2", "book.side", "expected `changes`"),
            ("changes = \"./c\", price = 1, size = 2", "book.side", "found both or neither"),
            ("changes = \"./c\", side = 0, bid = \"b\", price = 1, size = 2", "book.ask", "expected `ask = "),
            ("sides = [\"./b\", \"./a\"], price = 0, size = 1, depth = \"x\"", "book.depth", "write `/x`"),
            ("sides = [\"./b\", \"./a\"], price = 0, size = 1, level = '[${prise},1]'", "book.level", "found `prise`"),
            (
                "sides = [\"./b\", \"./a\"], price = 0, size = 1, level = '[${price}]'",
                "book.level",
                "`[${price},${size}]`",
            ),
            (
                "sides = [\"./b\", \"./a\"], price = 0, size = 1, checksum = { at = \"/c\", order = \"x\" }",
                "book.checksum.levels",
                "`levels = 25`",
            ),
            (
                "sides = [\"./b\", \"./a\"], price = 0, size = 1, checksum = { at = \"/c\", levels = 9, order = \"x\" }",
                "book.checksum.order",
                "`alternating`",
            ),
            ("sides = [\"./b\", \"./a\"], price = 0, size = 1, deph = 2", "book.deph", "did you mean `depth`?"),
        ] {
            let error = read(&format!("{BOOK}book = {{ {book} }}")).expect_err(book);
            assert!(error.contains(&format!("x.toml:3: {place}")) && error.contains(part), "{error}");
        }
    }
}
