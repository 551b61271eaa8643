//! The clients for JavaScript and Python behave as clients/conformance says, on every transport, however the server misbehaves.
//!
//! A program of its own, because its cases have deadlines: no other test runs beside it.
//!
//! The promises themselves are the cases in clients/conformance/cases. `make conformance` runs them in browsers too.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use kit::{project, skip_without_tool, tool};
use serde::Deserialize;

const TRANSPORTS: [&str; 5] = ["websocket", "sse", "longpoll", "poll", "ladder"];
/// So many cases pass on each transport at least; the ladder, which changes between them, has a few of its own.
const PASSED_MIN: [usize; 5] = [80, 80, 80, 80, 20];

#[derive(Deserialize)]
struct Report {
    results: Vec<Run>,
}

/// One case on one transport.
#[derive(Deserialize)]
struct Run {
    name: String,
    transport: String,
    outcome: String,
    reason: Option<String>,
}

/// Runs every case; gives why some were skipped.
fn conform(client: &str, variable: &str, program: &std::path::Path) -> BTreeSet<String> {
    let node = tool("node").expect("the caller has looked");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{client}.json"));
    let output = Command::new(node)
        .arg(project("clients/conformance/run.mjs"))
        .args(["--client", client, "--json"])
        .arg(&file)
        .env(variable, program)
        .stdin(Stdio::null())
        .output()
        .expect("the suite starts");
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{client} does not conform:\n{}{}", said[0], said[1]);
    let text = std::fs::read_to_string(&file).expect("the suite writes its results");
    let report: Report = serde_json::from_str(&text).expect("results as JSON");
    for (transport, least) in TRANSPORTS.iter().zip(PASSED_MIN) {
        let passed = report.results.iter().filter(|run| run.transport == *transport && run.outcome == "passed");
        let names: BTreeSet<_> = passed.map(|run| run.name.as_str()).collect();
        assert!(names.len() >= least, "{client} on {transport}: {} cases passed, expected {least}", names.len());
    }
    report.results.into_iter().filter(|run| run.outcome == "skipped").filter_map(|run| run.reason).collect()
}

fn lacks(features: &[&str]) -> BTreeSet<String> {
    features.iter().map(|feature| format!("the client has no `{feature}`")).collect()
}

#[test]
fn the_javascript_client_conforms_in_node_on_every_transport() {
    let Some(node) = tool("node") else { return skip_without_tool("clients_conform", "Node") };
    assert_eq!(conform("js", "NODE", &node), lacks(&["shared"]), "Node has no tabs");
}

#[test]
fn the_python_client_conforms_on_every_transport() {
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python") && tool("node").is_some());
    let Some(python) = python else { return skip_without_tool("clients_conform", "Node, or `websockets` for Python") };
    let of_browsers = lacks(&["freeze", "hidden", "network", "shared"]);
    assert_eq!(conform("python", "PYTHON", &python), of_browsers, "Python has no pages");
}
