//! The page at `/` keeps its promises: driven in a real headless Chromium, one view of each also in Firefox.
//!
//! The promises themselves are in tests/page/*.test.mjs. This file finds node, the npm packages and the browsers, installs
//! the packages if it can, and says plainly what it skips.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page")
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn first_of(variable: &str, usual: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.into_iter().chain(usual.iter().map(PathBuf::from)).find(|path| path.exists())
}

fn chromium() -> Option<PathBuf> {
    first_of("CHROMIUM", &["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"])
}

/// The packages of the lock file, unless they are there already.
fn packages_are_installed() -> bool {
    let names = ["playwright-core", "axe-core"];
    names.iter().all(|name| folder().join("node_modules").join(name).join("package.json").exists())
        || works(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder()))
}

fn run(file: &str, environment: &[(&str, PathBuf)]) {
    let output = Command::new("node")
        .args(["--test", file])
        .envs(environment.iter().map(|(name, path)| (name, path)))
        .current_dir(folder())
        .output()
        .expect("node was found a moment ago");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{file}: {}\n{}", text[0], text[1]);
}

fn run_without_browser(file: &str) {
    if !works(Command::new("node").arg("--version")) {
        eprintln!("SKIPPED: tests/page/{file} needs node 20.19 or later; install Debian's `nodejs`");
        return;
    }
    run(file, &[]);
}

/// One at a time: two browsers beside each other only take longer, and the first installs the packages.
fn run_in_browser(file: &str) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: tests/page/{file} needs a browser; install Debian's `chromium` or set CHROMIUM");
        return;
    };
    if !works(Command::new("node").arg("--version")) || !packages_are_installed() {
        eprintln!("SKIPPED: tests/page/{file} needs node 20.19 or later and `npm ci` in tests/page");
        return;
    }
    let mut environment = vec![("SERVER_BINARY", PathBuf::from(env!("CARGO_BIN_EXE_fanline"))), ("CHROMIUM", chromium)];
    match first_of("FIREFOX", &["/usr/bin/firefox-esr", "/usr/bin/firefox"]) {
        Some(firefox) => environment.push(("FIREFOX", firefox)),
        None => eprintln!("SKIPPED: parts of tests/page/{file} need Debian's `firefox-esr`"),
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
    match target.join("venv/bin/python3") {
        python if python.exists() => environment.push(("PYTHON", python)),
        _ => eprintln!("SKIPPED: parts of tests/page/{file} need the package websockets; run tests/setup"),
    }
    run(file, &environment);
}

#[test]
fn the_models_of_the_page_read_the_messages_of_any_feed() {
    run_without_browser("models.test.mjs");
}

#[test]
fn the_page_refers_to_everything_relative_to_itself() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("static")];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.extend((!path.ends_with("vendor")).then_some(path));
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a text");
            looked_at += 1;
            for absolute in ["\"/static", "\"/v1", "\"/metrics", "\"/readyz", "'/static", "'/v1", "url(/", "url(\"/"] {
                assert!(!text.contains(absolute), "{}: `{absolute}` leads out of a proxy's path", path.display());
            }
        }
    }
    assert!(looked_at > 30, "found {looked_at}");
}

#[test]
fn a_person_sees_values_change_filters_them_and_sees_when_they_are_stale() {
    run_in_browser("page.test.mjs");
}

#[test]
fn each_view_shows_what_the_server_says_and_can_be_shared() {
    run_in_browser("views.test.mjs");
}

#[test]
fn everybody_can_read_the_page() {
    run_in_browser("access.test.mjs");
}

#[test]
fn a_token_is_asked_for_and_delayed_values_never_look_live() {
    run_in_browser("rights.test.mjs");
}
