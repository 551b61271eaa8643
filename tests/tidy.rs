//! House rules that the compiler cannot hold (`[lints]` in Cargo.toml has the others): rooms import only from floors
//! below, files open with what they are and stay small.

use std::path::{Path, PathBuf};

/// Rooms by floor, bottom first; rooms on one floor do not know each other (ARCHITECTURE.md).
const FLOORS: &[&[&str]] = &[
    &["words"],
    &["wire", "json"],
    &["protocol"],
    &["profile"],
    &["bus"],
    &["intake", "delivery", "simulator"],
    &["edge"],
    &["config", "open_files", "check", "health", "bench", "app", "cli", "main", "lib"],
];

/// What is still to be taken apart: the profile's types take some of what applies them.
const KNOTS: &[(&str, &str)] = &[("profile", "intake")];

/// What a pure room must not know.
const IMPURE: &[&str] = &["tokio", "mio", "std::net", "Instant", "SystemTime"];

#[test]
fn rooms_import_only_from_floors_below() {
    let mut faults = Vec::new();
    for source in sources() {
        let room = room_of(&source.path);
        let floor = floor_of(&room).unwrap_or_else(|| panic!("{} is in no room of this house", source.path.display()));
        for (number, line) in source.production() {
            let Some(other) = imported_room(line).filter(|other| *other != room) else { continue };
            let allowed = floor_of(other).is_some_and(|below| below < floor || floor + 1 == FLOORS.len())
                || KNOTS.contains(&(room.as_str(), other));
            if !allowed {
                faults.push(format!("{}:{number}: {room} imports {other}", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_wire_and_the_words_are_pure() {
    let mut faults = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| ["words", "wire", "protocol", "json"].contains(&room_of(&source.path).as_str()))
    {
        for (number, line) in source.production().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if IMPURE.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{number}: {line}", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    /// STYLE: a file you can hold in your head.
    const LINES_MAX: usize = 420;
    let mut faults = Vec::new();
    for source in sources() {
        let shown = source.path.display();
        if !source.text.starts_with("//! ") {
            faults.push(format!("{shown}: does not open with `//! ` and what it is"));
        }
        let lines = source.production().count();
        if lines > LINES_MAX {
            faults.push(format!("{shown}: {lines} lines without tests, more than {LINES_MAX}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["TODO", "FIXME", "XXX"];
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.production() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: `{word}`", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

struct Source {
    /// Below src.
    path: PathBuf,
    text: String,
}

impl Source {
    /// Numbered lines before the file's unit tests.
    fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        (1..).zip(self.text[..end].lines())
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a readable file");
                let path = path.strip_prefix(&root).expect("below src").to_path_buf();
                // A simulation is a test, though it has a file of its own.
                if !path.ends_with("simulation.rs") {
                    sources.push(Source { path, text });
                }
            }
        }
    }
    assert!(sources.len() > 30, "the house is there");
    sources
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().expect("a path").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

fn imported_room(line: &str) -> Option<&str> {
    let rest = &line[line.find("crate::")? + "crate::".len()..];
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|room| !room.is_empty())
}
