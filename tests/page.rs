//! The page shows values as they change and never an old one as current: driven in a real headless Chromium.
//!
//! The promises themselves are in tests/page/*.test.mjs. This file finds node, the npm package and the browser, installs
//! the package if it can, and says plainly what it skips.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page")
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    named.into_iter().chain(usual).find(|path| path.exists())
}

/// playwright-core from the lock file, unless it is there already.
fn playwright_is_installed() -> bool {
    folder().join("node_modules/playwright-core/package.json").exists()
        || works(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder()))
}

fn run(file: &str, environment: &[(&str, &Path)]) {
    let output = Command::new("node")
        .args(["--test", file])
        .envs(environment.iter().copied())
        .current_dir(folder())
        .output()
        .expect("node was found a moment ago");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{file}: {}\n{}", text[0], text[1]);
}

#[test]
fn the_client_module_reconnects_resumes_and_knows_what_is_current() {
    if !works(Command::new("node").arg("--version")) {
        eprintln!("SKIPPED: tests/page/unit.test.mjs needs node 20.19 or later; install Debian's `nodejs`");
        return;
    }
    run("unit.test.mjs", &[]);
}

#[test]
fn the_page_refers_to_everything_relative_to_itself() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
    let files = std::fs::read_dir(page).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut looked_at = 0;
    for file in files.filter(|file| file.is_file()) {
        let text = std::fs::read_to_string(&file).expect("a text");
        looked_at += 1;
        for absolute in ["\"/static", "\"/v1", "\"/metrics", "\"/readyz", "'/static", "'/v1", "url(/", "url(\"/"] {
            assert!(!text.contains(absolute), "{}: `{absolute}` leads out of a proxy's path", file.display());
        }
    }
    assert!(looked_at > 10, "found {looked_at}");
}

#[test]
fn a_person_sees_values_change_filters_them_and_sees_when_they_are_stale() {
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: tests/page/page.test.mjs needs a browser; install Debian's `chromium` or set CHROMIUM");
        return;
    };
    if !works(Command::new("node").arg("--version")) || !playwright_is_installed() {
        eprintln!("SKIPPED: tests/page/page.test.mjs needs node 20.19 or later and `npm ci` in tests/page");
        return;
    }
    let fanline = Path::new(env!("CARGO_BIN_EXE_fanline"));
    run("page.test.mjs", &[("SERVER_BINARY", fanline), ("CHROMIUM", &chromium)]);
}
