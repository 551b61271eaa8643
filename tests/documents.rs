//! The documents say what is so: their profiles and configurations are valid, their links lead somewhere, their metrics exist.

mod kit;
#[path = "../examples/acme/venue.rs"]
mod venue;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use fanline::words::metrics;
use kit::program::{Program, run};
use kit::project;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "docs/BENCHMARKS.md",
    "docs/CAPACITY.md",
    "docs/CLIENT.md",
    "docs/CONFIGURATION.md",
    "docs/OPERATIONS.md",
    "docs/PROFILES.md",
    "docs/PROTOCOL.md",
];

fn read(name: &str) -> String {
    let path = project(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code blocks of a language, in their order.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let parts = document.split("\n```").step_by(2).skip(1).zip(document.split("\n```").skip(1).step_by(2));
    let found = parts.filter_map(|(_, block)| format!("```{block}\n").strip_prefix(&opening).map(String::from));
    found.collect()
}

/// A folder of its own for each test.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents").join(test);
    std::fs::create_dir_all(&folder).expect("a folder for files");
    folder
}

/// Writes the text to a file and gives what `fanline check` says about it.
fn check(file: &Path, text: &str) -> Result<String, String> {
    std::fs::write(file, text).expect("a writable folder");
    let (status, said, errors) = run(&["check", file.to_str().expect("UTF-8")], &[]);
    if status.success() { Ok(said) } else { Err(errors) }
}

#[test]
fn every_profile_in_the_documents_is_valid() {
    let profiles = blocks(&read("docs/PROFILES.md"), "toml");
    assert!(profiles.len() >= 3, "found {}", profiles.len());
    for profile in profiles {
        let said = check(&folder("profiles").join("acme.toml"), &profile).unwrap_or_else(|e| panic!("{e}\n{profile}"));
        assert!(said.contains("a valid profile, `acme`"), "{said}");
    }
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let mut count = 0;
    for document in ["README.md", "docs/OPERATIONS.md"] {
        for text in blocks(&read(document), "toml") {
            let said = check(&folder("configurations").join("fanline.toml"), &text);
            let said = said.unwrap_or_else(|error| panic!("{document}: {error}\n{text}"));
            assert!(said.contains("a valid configuration"), "{document}: {said}");
            count += 1;
        }
    }
    assert!(count >= 2, "found {count}");
}

/// The last profile of the tutorial, which its errors are about.
fn tutorial() -> String {
    let profiles = blocks(&read("docs/PROFILES.md"), "toml");
    let whole = profiles.into_iter().find(|profile| profile.contains("bind_via")).expect("the tutorial has it");
    assert!(whole.lines().count() < 30, "the tutorial promises less than 30 lines");
    whole
}

#[test]
fn the_tutorial_leads_to_the_topics_it_shows() {
    let document = read("docs/PROFILES.md");
    let profile = folder("tutorial").join("acme.toml");
    check(&profile, &tutorial()).expect("valid");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    std::thread::spawn(move || venue::serve(&listener));
    let command = document.lines().rfind(|line| line.starts_with("fanline probe ws://")).expect("the tutorial has it");
    let asked = command.split(' ').skip_while(|word| *word != "--subscribe");
    let arguments = ["probe", &url, "--profile", profile.to_str().expect("UTF-8")].into_iter().chain(asked);
    let (status, report, errors) = run(&arguments.collect::<Vec<_>>(), &[]);
    assert!(status.success(), "{errors}");
    let topics = |text: &str| -> Vec<String> {
        let rows = text.lines().skip_while(|line| !line.starts_with("topic ")).skip(1);
        rows.filter_map(|row| row.split(' ').next()).filter(|topic| !topic.is_empty()).map(String::from).collect()
    };
    let shown = blocks(&document, "text").into_iter().rfind(|text| text.contains("messages:")).expect("a report");
    let (mut expected, mut found) = (topics(&shown), topics(&report));
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{report}");
    assert_eq!(found.len(), 2);
    assert!(report.contains("no such market"), "the refusal is told: {report}");
}

#[test]
fn mistakes_are_told_as_the_document_says() {
    let document = read("docs/PROFILES.md");
    let right = tutorial();
    let rows: Vec<Vec<&str>> = document
        .lines()
        .skip_while(|line| !line.starts_with("| instead of |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 6, "{rows:?}");
    for row in rows {
        let [instead_of, written, error] = row[..] else { panic!("expected three cells, found {row:?}") };
        let code = |cell: &str| cell.trim_matches('`').replace("\\n", "\n");
        assert!(right.contains(&code(instead_of)), "{instead_of}");
        let wrong = right.replacen(&code(instead_of), &code(written), 1);
        let file = folder("mistakes").join("acme.toml");
        let told = check(&file, &wrong).expect_err(written);
        let told = told.replace(&format!("{}/", folder("mistakes").display()), "");
        assert_eq!(told.trim_end(), format!("error: {error}"), "{written}");
    }
}

#[test]
fn relative_links_lead_to_files() {
    for document in DOCUMENTS {
        let text = read(document);
        let home = project(document);
        let home = home.parent().expect("a file lies in a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.contains("://") || path.is_empty() {
                continue;
            }
            assert!(home.join(path).exists(), "{document} links to {target}");
        }
    }
}

/// Words in the text that name metrics, without the suffixes of a histogram.
fn metric_words(text: &str) -> BTreeSet<String> {
    let words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("fanline_"));
    words.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_string()).collect()
}

#[test]
fn the_operator_is_told_of_every_metric_and_of_none_that_is_not_there() {
    let told = metric_words(&read("docs/OPERATIONS.md"));
    let declared: BTreeSet<String> = metrics::ALL.iter().map(|metric| metric.name.to_string()).collect();
    assert_eq!(told, declared);
}

#[test]
fn alerts_and_the_operators_guide_select_series_that_exist() {
    let server = Program::serve(&[], &[]);
    let exposed = server.get("/metrics").body;
    for document in ["deploy/prometheus/alerts.yml", "docs/OPERATIONS.md"] {
        let text = read(document);
        let mut selected = 0;
        for (place, _) in text.match_indices("{") {
            let before = &text[..place];
            let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            let Some(selector) =
                text[place + 1..].split('}').next().filter(|_| before[start..].starts_with("fanline_"))
            else {
                continue;
            };
            let Some((label, value)) = selector.split_once('=') else { continue };
            let is_pattern = value.starts_with('~');
            let value = value.trim_start_matches('~').trim_matches('"');
            let family = exposed.lines().filter(|line| line.starts_with(&format!("{}{{", &before[start..])));
            let holds = |line: &str| match is_pattern {
                true => {
                    value.split('|').any(|part| line.contains(&format!("{label}=\"{}", part.trim_end_matches(".*"))))
                }
                false => line.contains(&format!("{label}=\"{value}\"")),
            };
            assert!(family.into_iter().any(holds), "{document}: {}{{{selector}}} selects nothing", &before[start..]);
            selected += 1;
        }
        assert!(selected >= 2, "{document}: found {selected} selectors");
    }
}
