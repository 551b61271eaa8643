//! The reference of the profile language, as docs/PROFILE_REFERENCE.md has it.

use std::fmt::Write;

use crate::profile::keys::{ALL, Keys};

const INTRODUCTION: &str = "# Reference of profiles
Every section and key of a profile. How a profile is written, with examples: [PROFILES.md](PROFILES.md).

A key that is not listed here is refused. Durations are texts with a unit (`250ms`, `30s`, `5m`, `23h45m`) longer than 0.
Sizes are a number of bytes, or a text with `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB` or `GB`. Rates are `COUNT/PERIOD`:
`4/s`, `300/5m`, `480/1h`.
";

/// The text of docs/PROFILE_REFERENCE.md.
pub fn markdown() -> String {
    ALL.iter().fold(INTRODUCTION.to_string(), |text, keys| text + &section(keys))
}

fn section(keys: &Keys) -> String {
    let mut text =
        format!("\n## {}\n{}\n\n| key | value | default | meaning |\n|---|---|---|---|\n", keys.section, keys.about);
    for key in keys.known {
        writeln!(text, "| `{}` | {} | {} | {} |", key.name, key.value, key.default, key.doc)
            .expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `UPDATE=1 cargo test --lib profile::reference` writes the file anew.
    #[test]
    fn the_reference_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROFILE_REFERENCE.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, markdown()).expect("a writable checkout");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == markdown(), "run UPDATE=1 cargo test --lib profile::reference");
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
