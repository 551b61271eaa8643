//! All keys of the profile language, as docs/PROFILE_KEYS.md has it.

use std::fmt::Write;

use crate::profile::keys::{ALL, Keys};

const INTRODUCTION: &str = "# Keys of profiles

One line for each section and key of a profile, made from the table that the reader itself uses.
[PROFILE_REFERENCE.md](PROFILE_REFERENCE.md) explains them.
";

/// The text of docs/PROFILE_KEYS.md.
pub fn markdown() -> String {
    ALL.iter().fold(INTRODUCTION.to_string(), |text, keys| text + &section(keys))
}

fn section(keys: &Keys) -> String {
    let (section, about) = (keys.section, wrapped(keys.about));
    let mut text = format!("\n## {section}\n{about}\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in keys.known {
        writeln!(text, "| `{}` | {} | {} | {} |", key.name, key.value, key.default, key.doc)
            .expect("a String takes all");
    }
    text
}

/// Prose of documents has lines of at most 100 characters.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        let fits = width + 1 + length <= 100;
        lines.push_str(match (width, fits) {
            (0, _) => "",
            (_, true) => " ",
            (_, false) => "\n",
        });
        width = if width > 0 && fits { width + 1 + length } else { length };
        lines.push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    /// `UPDATE=1 cargo test --lib profile::reference` writes the file anew.
    #[test]
    fn the_reference_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROFILE_KEYS.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, markdown()).expect("a writable checkout");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == markdown(), "run UPDATE=1 cargo test --lib profile::reference");
    }

    #[test]
    fn every_key_is_explained() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROFILE_REFERENCE.md");
        let reference = std::fs::read_to_string(path).expect("a readable file");
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words: HashSet<&str> = reference.split(|c| !is_letter(c)).collect();
        for keys in ALL {
            for key in keys.known {
                assert!(words.contains(key.name), "docs/PROFILE_REFERENCE.md: `{}` of {}", key.name, keys.section);
            }
        }
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
