//! The documents say what is so: names, numbers, links and generated pages are those of the program and the repository.
//!
//! Their snippets are run by tests/program/snippets.rs.

use std::collections::BTreeSet;
use std::path::Path;

use fanline::config::document as generated;
use fanline::settings::table::{self, TABLE};
use fanline::words::goodbye::Goodbye;
use fanline::words::metrics;
use kit::document::{all, anchors, first_cells, prose, quoted, read};
use kit::program::Program;
use kit::project;

/// It tells of names that are no more.
const HISTORY: &str = "CHANGELOG.md";

#[test]
fn links_lead_to_files_and_headings() {
    for document in all() {
        let text = read(&document);
        let home = project(&document);
        let home = home.parent().expect("a file lies in a folder");
        let text: String = prose(&text).into_iter().map(|(_, line)| format!("{line}\n")).collect();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { project(&document) } else { home.join(path) };
            assert!(file.exists(), "{document} links to {target}");
            let known = || anchors(&std::fs::read_to_string(&file).expect("a readable file"));
            assert!(anchor.is_empty() || known().iter().any(|it| it == anchor), "{document} links to {target}");
        }
    }
}

#[test]
fn prose_is_wrapped_at_100_characters() {
    let mut faults = Vec::new();
    for document in all() {
        for (number, line) in prose(&read(&document)) {
            if line.chars().count() > 100 && !line.starts_with('|') {
                faults.push(format!("{document}:{number}: {} characters", line.chars().count()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `UPDATE=1 cargo test --test documents` writes the file anew.
#[test]
fn the_metrics_are_documented_as_declared() {
    let text = generated::metrics_markdown();
    let path = project("docs/METRICS.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("a writable checkout");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/METRICS.md is not what is declared; run UPDATE=1 cargo test --test documents");
}

/// Words in the text that name metrics, without the suffixes of a histogram.
fn metric_words(text: &str) -> BTreeSet<String> {
    let words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("fanline_"));
    words.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_string()).collect()
}

#[test]
fn documents_name_only_existing_metrics() {
    for document in all().iter().filter(|document| *document != HISTORY) {
        for word in metric_words(&read(document)) {
            assert!(metrics::ALL.iter().any(|metric| metric.name == word), "{document} names {word}");
        }
    }
}

#[test]
fn documents_name_only_existing_settings() {
    let sections: BTreeSet<&str> = TABLE.iter().map(|section| section.name).collect();
    // Keys of a profile have sections of their own.
    let documents = all().into_iter().filter(|document| document != HISTORY && !document.contains("PROFILE"));
    let mut known = 0;
    for document in documents {
        for words in quoted(&read(&document)) {
            let name = words.split([' ', '=']).next().unwrap_or_default();
            let Some((section, key)) = name.split_once('.') else { continue };
            let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !sections.contains(section) || !is_name(key) || matches!(key, "rs" | "js") {
                continue;
            }
            assert!(table::find(name).is_some(), "{document} names the setting `{name}`");
            known += 1;
        }
    }
    assert!(known > 100, "found {known}");
}

/// The labels of one line of `/metrics`, without the buckets of histograms.
fn labels(line: &str) -> Vec<(&str, &str)> {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
    let labels = inside.split(',').filter_map(|label| label.split_once('='));
    labels.map(|(name, value)| (name, value.trim_matches('"'))).filter(|(name, _)| *name != "le").collect()
}

#[test]
fn metrics_have_a_series_and_the_labels_and_values_that_are_declared() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (secret, file) = (folder.join("documents-secret"), folder.join("documents.toml"));
    std::fs::write(&secret, "a secret of more than thirty-two bytes").expect("a writable folder");
    let text = format!(
        "[simulate]\n[[auth.issuer]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['HS256']\nsecret_file = '{}'\n\
         [auth.tier.all]\ntopics = ['>']\n[auth.tier.late]\ntopics = ['>']\ndelay = '1s'\n\
         [auth.anonymous]\ntier = 'all'\n",
        secret.display()
    );
    std::fs::write(&file, text).expect("a writable folder");
    let config = file.to_str().expect("a path in UTF-8");
    let certificate = kit::certificate::write("documents", &["localhost"]).pair();
    let archive = folder.join("documents-archive");
    let archive = archive.to_str().expect("a path in UTF-8");
    let settings = [("UPSTREAM_DEMAND", "on"), ("TLS_CERTIFICATES", &*certificate), ("ARCHIVE_DIR", archive)];
    let server = Program::serve_on("127.0.0.1:0,tls://127.0.0.1:0", &["--config", config], &settings);
    // A request is counted in the answer to a later one.
    let exposed = kit::eventually("a request is counted", || {
        let exposed = server.get("/metrics").body;
        exposed.contains("fanline_http_requests_total{").then_some(exposed)
    });
    let mut compared = 0;
    for metric in metrics::ALL {
        let lines = exposed.lines().filter(|line| {
            let family = line.split(['{', ' ']).next().unwrap_or_default();
            ["", "_bucket", "_sum", "_count"].iter().any(|end| family.strip_suffix(end) == Some(metric.name))
        });
        let series: Vec<_> = lines.map(labels).collect();
        assert!(!series.is_empty(), "{} is declared and documented, and has no series", metric.name);
        for label in metric.labels.iter().filter(|label| !label.values.is_empty()) {
            let found: BTreeSet<&str> =
                series.iter().flatten().filter(|(name, _)| *name == label.name).map(|(_, value)| *value).collect();
            assert_eq!(found, label.values.iter().copied().collect(), "{}, `{}`", metric.name, label.name);
            compared += 1;
        }
        for (name, _) in series.iter().flatten() {
            assert!(metric.labels.iter().any(|label| label.name == *name), "{} has `{name}`", metric.name);
        }
    }
    assert!(compared >= 15, "found {compared}");
}

#[test]
fn alerts_and_the_operators_guide_select_existing_series() {
    for document in ["deploy/prometheus/alerts.yml", "docs/operations/watch.md"] {
        let text = read(document);
        let mut selected = 0;
        for (place, _) in text.match_indices('{') {
            let before = &text[..place];
            let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            let Some(metric) = metrics::ALL.iter().find(|metric| metric.name == &before[start..]) else { continue };
            let selector = text[place + 1..].split('}').next().expect("the brace is closed");
            let (name, value) = selector.split_once('=').expect("a label and its value");
            let name = name.trim_end_matches('!');
            let label = metric.labels.iter().find(|label| label.name == name);
            let label = label.unwrap_or_else(|| panic!("{document}: {} has no label `{name}`", metric.name));
            if label.values.is_empty() {
                continue;
            }
            for value in value.trim_start_matches('~').trim_matches('"').split('|') {
                let begins = |known: &&&str| known.starts_with(value.trim_end_matches(".*"));
                assert!(label.values.iter().any(|known| begins(&known)), "{document}: {}: {value}", metric.name);
            }
            selected += 1;
        }
        assert!(selected >= 2, "{document}: found {selected} selectors");
    }
}

/// Every code of the program is in a table of the protocol. A cell may hold several.
#[test]
fn every_code_that_clients_receive_is_in_the_protocol() {
    let protocol = read("docs/PROTOCOL.md");
    let cells = first_cells(&protocol, "code").join(" ");
    let documented: BTreeSet<&str> = cells.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let answers = ["sent", "response", "other"];
    for metric in [&metrics::COMMANDS_REFUSED, &metrics::CLIENT_REQUESTS] {
        for code in metric.labels.iter().flat_map(|label| label.values).filter(|code| !answers.contains(code)) {
            assert!(documented.contains(code), "expected `{code}` among the error codes");
        }
    }
    let counted: BTreeSet<&str> =
        metrics::COMMANDS_REFUSED.labels.iter().flat_map(|label| label.values.iter().copied()).collect();
    let mut refusals = 0;
    sources("src", &mut |path, text| {
        for code in text.split("CommandRefusal::new(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')) {
            let code = &code[..code.find('"').expect("a string ends")];
            let counts = counted.contains(code) && documented.contains(code);
            assert!(counts, "{} refuses with `{code}`: expected it in the protocol and the metric", path.display());
            refusals += 1;
        }
    });
    assert!(refusals > 20, "found {refusals}");
    for code in Goodbye::ALL.iter().filter(|it| **it != Goodbye::ClientClosed).filter_map(|it| it.close_code()) {
        assert!(documented.contains(code.to_string().as_str()), "expected {code} among the close codes");
    }
}

/// The other direction, examples that the program writes, is in tests/program/snippets.rs.
#[test]
fn every_message_that_the_server_sends_is_in_the_protocol() {
    let source = std::fs::read_to_string(project("src/protocol/server_message.rs")).expect("a readable file");
    let (_, variants) = source.split_once("pub enum ServerMessage<'a> {\n").expect("the messages are one enum");
    let (variants, _) = variants.split_once("\n}\n").expect("it ends");
    let name = |line: &str| {
        let name = line.strip_prefix("    ")?.trim_end_matches([' ', '{', '}', ',']);
        name.starts_with(|first: char| first.is_ascii_uppercase()).then(|| name.to_owned())
    };
    let cells = first_cells(&read("docs/PROTOCOL.md"), "`op`");
    let mut documented: BTreeSet<&str> = cells.iter().map(|cell| cell.trim_matches('`')).collect();
    let names: Vec<String> = variants.lines().filter_map(name).collect();
    for name in &names {
        // As serde writes it: `rename_all = "snake_case"`.
        let words =
            name.char_indices().map(|(at, c)| if at > 0 && c.is_uppercase() { format!("_{c}") } else { c.into() });
        let op = words.collect::<String>().to_lowercase();
        assert!(documented.remove(&*op), "expected a row for `{op}` in docs/PROTOCOL.md, \"Other messages\"");
    }
    assert!(documented.is_empty(), "no such message is sent: {documented:?}");
    assert!(names.len() >= 14, "found {names:?}");
}

#[test]
fn the_glossary_has_every_word_of_the_names_of_metrics() {
    let cells = first_cells(&read("GLOSSARY.md"), "word").join(" ").to_lowercase();
    let known: BTreeSet<&str> = cells.split(|c: char| !c.is_alphanumeric()).collect();
    // A plural is known by its singular, and a participle by its verb.
    let stems = |word: &str| -> Vec<String> {
        let cut = |end: &str, instead: &str| word.strip_suffix(end).map(|stem| format!("{stem}{instead}"));
        let cuts = [cut("", ""), cut("s", ""), cut("es", ""), cut("ies", "y"), cut("als", "ed"), cut("ed", "")];
        cuts.into_iter().flatten().collect()
    };
    let mut missing = BTreeSet::new();
    for metric in metrics::ALL {
        for word in metric.name.split('_').skip(1).filter(|word| !["to", "http"].contains(word)) {
            if !stems(word).iter().any(|stem| known.contains(stem.as_str())) {
                missing.insert(word);
            }
        }
    }
    assert!(missing.is_empty(), "expected these words in GLOSSARY.md: {missing:?}");
}

/// The text of every Rust file below a folder.
fn sources(folder: &str, take: &mut impl FnMut(&Path, &str)) {
    let Ok(entries) = std::fs::read_dir(project(folder)) else { return };
    for path in entries.map(|entry| entry.expect("a readable entry").path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["target", "node_modules"].contains(&name) {
            sources(path.to_str().expect("UTF-8"), take);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            take(&path, &std::fs::read_to_string(&path).expect("a readable file"));
        }
    }
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let mut tests = String::new();
    for folder in ["src", "tests", "crates"] {
        sources(folder, &mut |_, text| tests.push_str(text));
    }
    let document = read("INVARIANTS.md");
    let rows = prose(&document).into_iter().filter(|(_, line)| line.starts_with("| ") && line.contains('`'));
    let mut found = 0;
    for (number, row) in rows {
        let held_by = row.split('|').nth(2).unwrap_or_default();
        for name in held_by.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '.'])) {
            let is_there = tests.contains(&format!("fn {name}(")) || name == "Publisher" || name == "Clone";
            assert!(is_there, "INVARIANTS.md:{number}: there is no test `{name}`");
            found += 1;
        }
    }
    assert!(found > 40, "found {found}");
}

/// Lines such as `12  intake/assemble/mod.rs  take  gaps, whole values`; `delivery/` for a path below `src`.
#[test]
fn every_station_of_the_map_is_a_function_of_its_file() {
    let map = read("ARCHITECTURE.md");
    for (way, stations_max) in
        [("**Stations of a message**", 14), ("**Stations of a subscribe**", 25), ("**Stations of a skip**", 8)]
    {
        let text = &map[map.find(way).unwrap_or_else(|| panic!("ARCHITECTURE.md has no {way}"))..];
        let table = text.split("```").nth(1).expect("a table");
        let mut files: Vec<&str> = Vec::new();
        let (mut stations, mut returns) = (0, Vec::new());
        for line in table.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit())) {
            let [_, file, function] = line.split_whitespace().take(3).collect::<Vec<_>>()[..] else {
                panic!("expected number, file and function, found `{line}`");
            };
            let source = std::fs::read_to_string(project("src").join(file))
                .unwrap_or_else(|error| panic!("{way} names src/{file}: {error}"));
            assert!(source.contains(&format!("fn {function}")), "{way}: src/{file} has no function `{function}`");
            if files.last() != Some(&file) && files.contains(&file) {
                returns.push(file);
            }
            files.push(file);
            stations += 1;
        }
        assert!((5..=stations_max).contains(&stations), "{way} has {stations} stations");
        let again = returns.iter().find(|file| returns.iter().filter(|other| other == file).count() > 1);
        assert_eq!(again, None, "{way} comes back to a file more than once");
    }
}

#[test]
fn every_file_that_the_map_names_exists() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "crates", "examples"] {
        sources(folder, &mut |path, _| files.push(path.to_str().expect("UTF-8").to_owned()));
    }
    let mut found = 0;
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "STYLE.md", "INVARIANTS.md", "SECURITY.md"] {
        let text = read(document);
        let paths =
            quoted(&text).into_iter().flat_map(|quote| quote.split([' ', ','])).filter(|it| it.ends_with(".rs"));
        for path in paths {
            let is_there = files.iter().any(|file| file.ends_with(&format!("/{path}")));
            assert!(is_there, "{document} names `{path}`");
            found += 1;
        }
        for folder in quoted(&text).into_iter().filter(|quote| quote.starts_with("src/") && quote.ends_with('/')) {
            assert!(project(folder).is_dir(), "{document} names `{folder}`");
        }
    }
    assert!(found > 20, "found {found}");
}
