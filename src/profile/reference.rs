//! The key tables of docs/PROFILE_REFERENCE.md, generated from the table that the reader of profiles uses.
//!
//! A table stands between `<!-- keys: SECTION -->` and `<!-- end of keys -->`; the text around it is written by hand.

use std::fmt::Write;

use crate::profile::keys::{ALL, Keys};

const BEGIN: &str = "<!-- keys: ";
const END: &str = "<!-- end of keys -->";
/// The table of all reserved keys, which belongs to no section.
const RESERVED: &str = "reserved";

/// The document with each of its tables generated again. The error names a table that is missing, unknown or not ended.
pub fn with_tables(document: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut missing: Vec<&str> = ALL.iter().map(|keys| keys.section).chain([RESERVED]).collect();
    let mut rest = document;
    while let Some((before, marked)) = rest.split_once(BEGIN) {
        let (section, inside) = marked.split_once(" -->").ok_or_else(|| format!("`{BEGIN}` without ` -->`"))?;
        let (_, after) = inside.split_once(END).ok_or_else(|| format!("`{section}` without `{END}`"))?;
        let index = missing.iter().position(|name| *name == section);
        missing.swap_remove(index.ok_or_else(|| format!("`{section}` is no section, or has two tables"))?);
        let table = ALL.iter().find(|keys| keys.section == section).map_or_else(reserved_table, |keys| table(keys));
        write!(text, "{before}{BEGIN}{section} -->\n{table}{END}").expect("a String takes all");
        rest = after;
    }
    if missing.is_empty() { Ok(text + rest) } else { Err(format!("no table of {}", missing.join(", "))) }
}

fn table(keys: &Keys) -> String {
    let mut text = "| key | value | default | meaning |\n|---|---|---|---|\n".to_string();
    for key in keys.known {
        let cells = [key.value, key.default, key.doc].join(" | ");
        writeln!(text, "| `{}` | {cells} |", key.name).expect("a String takes all");
    }
    text
}

fn reserved_table() -> String {
    let mut text = "| section | keys |\n|---|---|\n".to_string();
    for keys in ALL.iter().filter(|keys| !keys.later.is_empty()) {
        writeln!(text, "| `{}` | `{}` |", keys.section, keys.later.join("`, `")).expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `UPDATE=1 cargo test --lib profile::reference` rewrites the tables.
    #[test]
    fn the_reference_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROFILE_REFERENCE.md");
        let found = std::fs::read_to_string(&path).expect("a readable file");
        let expected = with_tables(&found).expect("each section has one table");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &expected).expect("a writable checkout");
        } else {
            assert!(found == expected, "run UPDATE=1 cargo test --lib profile::reference");
        }
    }

    #[test]
    fn a_section_without_its_table_is_an_error() {
        let document = |sections: &[&str]| {
            sections.iter().map(|section| format!("{BEGIN}{section} -->\nOUTDATED\n{END}\nprose\n")).collect::<String>()
        };
        let mut sections: Vec<&str> = ALL.iter().map(|keys| keys.section).chain([RESERVED]).collect();
        let text = with_tables(&document(&sections)).expect("complete");
        assert!(!text.contains("OUTDATED") && text.matches("prose").count() == sections.len());
        assert_eq!(with_tables(&text).as_deref(), Ok(&*text), "current tables stay as they are");
        let twice = [&sections[..], &["login"]].concat();
        assert_eq!(with_tables(&document(&twice)), Err("`login` is no section, or has two tables".to_string()));
        sections.retain(|section| *section != "login");
        assert_eq!(with_tables(&document(&sections)), Err("no table of login".to_string()));
        assert!(with_tables(&format!("{BEGIN}login -->")).is_err_and(|error| error.contains("without")));
    }

    #[test]
    fn no_key_is_declared_twice() {
        for keys in ALL {
            let mut names = keys.names();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), keys.known.len(), "{}", keys.section);
        }
    }
}
