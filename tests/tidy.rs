//! House rules that the compiler cannot hold (`[lints]` in Cargo.toml has the others): rooms import only from floors
//! below, each type has a name of its own, old words stay away, files open with what they are and stay small.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms by floor, bottom first; rooms on one floor do not know each other (ARCHITECTURE.md).
const FLOORS: &[&[&str]] = &[
    &["words"],
    &["json"],
    &["protocol"],
    &["access"],
    &["profile"],
    &["settings"],
    &["audit"],
    &["bus"],
    &["intake", "delivery", "simulator", "identity", "cluster"],
    &["edge"],
    &["certificate", "config", "open_files", "check", "doctor", "health", "bench", "app", "cli", "main", "lib"],
];

/// Folders and files of a large room by floor, bottom first. Those on one floor do not know each other; `mod.rs` stands
/// above them all.
const ROOM_FLOORS: &[(&str, &[&[&str]])] = &[
    (
        "intake",
        &[
            &["misfit"],
            &["time", "update", "probe_counts", "feed_health", "item_status"],
            &["assemble", "arbitrate", "oddity_log"],
            &["classify", "cursor"],
            &["connection", "kept_messages", "message_log", "venue_age"],
            &["output", "message_file"],
            &["draft", "feed_report"],
            &["pipeline"],
            &["upstream"],
            &["probe"],
        ],
    ),
    (
        "delivery",
        &[
            &["budget", "bus_handles", "chunk", "demand", "session_id", "settings", "transport"],
            &["handoff", "meters"],
            &["lanes"],
            &["catch_up"],
            &["sessions"],
            &["shard"],
            &["shards"],
        ],
    ),
    (
        "edge",
        &[
            &["settings", "phase", "process", "admin_key"],
            &["exposition"],
            &["listen"],
            &["parts"],
            &["http"],
            &["entrance"],
            &["router"],
        ],
    ),
];

/// What is still to be taken apart: the first imports the second. A pair that is no fault any more must go.
const KNOTS: &[(&str, &str)] = &[];

/// Type names that each room may have of its own; `AtomicSlot` has a double under loom (`bus/signal/sync.rs`).
const ROOM_TYPES: &[&str] = &["Settings", "Error", "AtomicSlot"];

/// Words that gave way to the field's own (GLOSSARY.md): in no name, no comment and no text.
const OLD_WORDS: &[&str] = &[
    "story",
    "stories",
    "roster",
    "sorter",
    "merger",
    "newcomer",
    "newcomers",
    "desk",
    "habit",
    "dialogue",
    "doze",
    "rouse",
    "complaint",
    "saying",
    "sayings",
    "wishes",
    "outlet",
    "street",
    "doorman",
];

/// The same, in names alone: in a sentence they are good English.
const OLD_NAMES: &[&str] = &["seat", "seats", "bell", "bells", "note", "notes", "keeping", "press", "door"];

/// What a pure room must not know.
const IMPURE: &[&str] = &["tokio", "mio", "std::net", "Instant", "SystemTime"];

#[test]
fn rooms_import_only_from_floors_below() {
    let (faults, mut knots) = (faults_of_floors(), KNOTS.to_vec());
    let mut told = Vec::new();
    for fault in &faults {
        knots.retain(|knot| *knot != (&fault.room, &fault.imported));
        if !KNOTS.contains(&(&fault.room, &fault.imported)) {
            told.push(format!("{}: {} imports {}", fault.path, fault.room, fault.imported));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(knots.is_empty(), "these are no faults any more, remove them from KNOTS: {knots:?}");
}

struct FloorFault {
    path: String,
    /// `intake`, or `intake/classify`.
    room: String,
    imported: String,
}

fn faults_of_floors() -> Vec<FloorFault> {
    let mut faults = Vec::new();
    for source in sources() {
        let room = room_of(&source.path);
        let path = source.path.display().to_string();
        let floor = floor_of(FLOORS, &room).unwrap_or_else(|| panic!("{path} is in no room of this house"));
        for imported in source.imported_from("crate").into_iter().filter(|imported| *imported != room) {
            let is_below = floor_of(FLOORS, &imported).is_some_and(|below| below < floor);
            if !is_below && floor + 1 < FLOORS.len() {
                faults.push(FloorFault { path: path.clone(), room: room.clone(), imported });
            }
        }
        let Some((_, floors)) = ROOM_FLOORS.iter().find(|(name, _)| *name == room) else { continue };
        let inner = room_of(source.path.strip_prefix(&room).expect("a path in its room"));
        if inner == "mod" {
            continue;
        }
        let floor = floor_of(floors, &inner).unwrap_or_else(|| panic!("{path} is on no floor of `{room}`"));
        for imported in source.imported_from(&room).into_iter().filter(|imported| *imported != inner) {
            if floor_of(floors, &imported).is_none_or(|below| below >= floor) {
                faults.push(FloorFault { path: path.clone(), room: format!("{room}/{inner}"), imported });
            }
        }
    }
    faults
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().chain(&crate_sources()) {
        for (number, line) in (1..).zip(source.text.lines()) {
            if let Some(name) = defined_type(line).or_else(|| defined_section(source, line)) {
                places.entry(name.into()).or_default().push(format!("{}:{number}", source.path.display()));
            }
        }
    }
    let twice = places.iter().filter(|(name, places)| places.len() > 1 && !ROOM_TYPES.contains(&name.as_str()));
    let faults: Vec<String> = twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The type that a line defines; not an associated one, which stands indented in an `impl` or `trait`, as `type` does.
fn defined_type(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    let is_nested = trimmed.len() < line.len();
    let public = trimmed.strip_prefix("pub").map_or(trimmed, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or(rest, |(_, rest)| rest),
        None => rest,
    });
    let (keyword, rest) = public.trim_start().split_once(' ')?;
    let defines = match keyword {
        "struct" | "enum" | "union" | "trait" => true,
        "type" => !is_nested,
        _ => false,
    };
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (defines && name.starts_with(char::is_uppercase)).then_some(name)
}

/// The type of a section of the table of settings, which a macro makes: `    key Type "What it holds." {`.
fn defined_section<'a>(source: &Source, line: &'a str) -> Option<&'a str> {
    let (_, rest) =
        line.strip_prefix("    ").filter(|_| source.path.ends_with("settings/table.rs"))?.split_once(' ')?;
    let (name, _) = rest.split_once(" \"")?;
    (line.ends_with(" {") && name.starts_with(char::is_uppercase)).then_some(name)
}

#[test]
fn pure_rooms_and_crates_know_no_clock_or_socket() {
    let mut faults = Vec::new();
    let rooms = sources().into_iter();
    let rooms = rooms.filter(|source| ["words", "protocol", "json"].contains(&room_of(&source.path).as_str()));
    for source in rooms.chain(crate_sources()) {
        for (number, line) in source.production().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if IMPURE.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{number}: {line}", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_crates_do_not_know_the_server() {
    let mut faults = Vec::new();
    for source in crate_sources() {
        for (number, line) in (1..).zip(source.text.lines()).filter(|(_, line)| line.contains("fanline")) {
            faults.push(format!("{}:{number}: {line}", source.path.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    /// STYLE: a file you can hold in your head.
    const LINES_MAX: usize = 420;
    let mut faults = Vec::new();
    for source in sources().into_iter().chain(crate_sources()) {
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
    for source in sources().into_iter().chain(crate_sources()) {
        for (number, line) in source.production() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: `{word}`", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn old_words_stay_away() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in (1..).zip(source.text.lines()) {
            let words = words_of(line).into_iter().filter(|word| OLD_WORDS.contains(&word.as_str()));
            let names = words_of(&code_of(line)).into_iter().filter(|word| OLD_NAMES.contains(&word.as_str()));
            faults.extend(words.chain(names).map(|word| format!("{}:{number}: `{word}`", source.path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The line without comments and texts.
fn code_of(line: &str) -> String {
    let code = line.split("//").next().unwrap_or_default().replace("\\\"", "");
    code.split('"').step_by(2).collect::<Vec<_>>().join(" ")
}

/// The words of a line, those inside a name included: `seat_of`, `OpenSeat`.
fn words_of(line: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut was_lower = false;
    for c in line.chars() {
        if (c.is_uppercase() && was_lower) || !c.is_alphabetic() {
            spaced.push(' ');
        }
        was_lower = c.is_lowercase();
        spaced.extend(c.to_lowercase());
    }
    spaced.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

struct Source {
    /// Below the folder that was read.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The file's text before its unit tests.
    fn production_text(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Numbered lines before the file's unit tests.
    fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.production_text().lines())
    }

    /// What production code takes from below a path: of `crate` rooms, of a room its folders and files, in whatever
    /// form (`crate::room::…`, `crate::{…}`, `super::…`).
    fn imported_from(&self, parent: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let code: String = self.production().map(|(_, line)| line.split("//").next().unwrap_or_default()).collect();
        let prefix = if parent == "crate" { "crate::".to_owned() } else { format!("crate::{parent}::") };
        take_names(&code, &prefix, &mut found);
        // `super` of a file is the folder that it lies in, of a `mod.rs` the one above.
        let is_root = self.path.file_name().is_some_and(|name| name == "mod.rs");
        let depth = self.path.components().count() - usize::from(is_root);
        let supers = if parent == "crate" { depth } else { depth - 1 };
        if supers > 0 && (parent == "crate" || self.path.starts_with(parent)) {
            let prefix = "super::".repeat(supers);
            for (at, _) in code.match_indices(&prefix).filter(|(at, _)| !code[..*at].ends_with("super::")) {
                take_names(&code[at..], &prefix, &mut found);
            }
        }
        found.remove("super");
        found
    }
}

/// The first name of each path that follows the prefix; all first names, where a group in braces does.
fn take_names(code: &str, prefix: &str, found: &mut BTreeSet<String>) {
    let name =
        |text: &str| text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(name(rest));
            continue;
        };
        let mut depth = 0;
        let items = group.split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == ','
        });
        let end = group.find(';').unwrap_or(group.len());
        let taken = items.take_while(|item| item.as_ptr() as usize - group.as_ptr() as usize <= end);
        found.extend(taken.filter_map(name));
    }
    // A type, a function or a constant of the parent itself is no floor.
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
}

/// Every file below src, but for those that are compiled for tests alone.
fn sources() -> Vec<Source> {
    let sources = read_folder("src");
    assert!(sources.len() > 30, "the house is there");
    let mut test_modules: Vec<PathBuf> = Vec::new();
    for source in &sources {
        let folder = match source.path.file_name().and_then(|name| name.to_str()) {
            Some("mod.rs" | "lib.rs") => source.path.parent().expect("a file lies in a folder").to_path_buf(),
            _ => source.path.with_extension(""),
        };
        let modules = source.text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
            let (_, module) = rest.lines().next()?.split_once("mod ")?;
            module.strip_suffix(';')
        });
        test_modules.extend(modules.map(|module| folder.join(module)));
    }
    let is_test = |path: &Path| test_modules.iter().any(|module| path.with_extension("").starts_with(module));
    sources.into_iter().filter(|source| !is_test(&source.path)).collect()
}

/// Every source file of the crates beside the server.
fn crate_sources() -> Vec<Source> {
    let mut sources = read_folder("crates");
    sources.retain(|source| source.path.iter().nth(1).is_some_and(|folder| folder == "src"));
    assert!(sources.len() > 5, "the crates are there");
    sources
}

/// The Rust files below a folder of the project, but for what was built there; none if there is no such folder.
fn read_folder(name: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a readable file");
                let path = path.strip_prefix(&root).expect("below the folder").to_path_buf();
                sources.push(Source { path, text });
            }
        }
    }
    sources
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().expect("a path").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

fn floor_of(floors: &[&[&str]], room: &str) -> Option<usize> {
    floors.iter().position(|floor| floor.contains(&room))
}
