//! The JavaScript client keeps its promises: its own tests, and the package as it would be published.
//!
//! The promises themselves are in clients/js/test and clients/js/checks. The conformance suite is elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use kit::{project, skip_without_tool, tool};

/// Runs one folder of tests; says what it printed if they fail.
fn run(node: &Path, folder: &str) {
    let output = Command::new(node)
        // Files that wait, not compute: its own default is one fewer than the cores.
        .args(["--test", "--test-concurrency=4", folder])
        .env("SERVER_BINARY", env!("CARGO_BIN_EXE_fanline"))
        .current_dir(project("clients/js"))
        .output()
        .expect("node was found a moment ago");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "clients/js/{folder}: {}\n{}", text[0], text[1]);
}

#[test]
fn the_client_reconnects_resumes_and_knows_what_is_current() {
    let Some(node) = tool("node") else { return skip_without_tool("client_js", "node 20.19 or later") };
    run(&node, "test/");
}

#[test]
fn the_package_is_small_typed_complete_and_runs_in_an_empty_folder() {
    let is_installed = project("clients/js/node_modules/.installed").is_file();
    let Some(node) = tool("node").filter(|_| is_installed) else {
        return skip_without_tool("client_js", "node 20.19 or later and `npm ci` in clients/js");
    };
    run(&node, "checks/");
}

/// The server embeds what is in `static/`: a file of the client without a link there would be missing from pages.
#[test]
fn the_server_serves_every_file_of_the_client() {
    let mut count = 0;
    for entry in fs::read_dir(project("clients/js/src")).expect("a folder") {
        let name = entry.expect("a file").file_name();
        // It imports React by name, which needs a bundler.
        if name == "react.js" {
            continue;
        }
        let link = project("static").join(&name);
        let target = fs::read_link(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
        assert_eq!(target, Path::new("../clients/js/src").join(&name));
        count += 1;
    }
    assert!(count > 10, "found {count}");
}
