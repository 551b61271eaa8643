//! Stock clients work unchanged: Python's `websockets` and Node's `ws`, with and without permessage-deflate.
//!
//! Each decodes everything and hands it back, so that it can be compared with the tape byte for byte.
//!
//! Clients of venues, from their registries and unchanged but for the URL, see what they see at the venue itself. That is a
//! replay here: of messages written by the test, and of the recording where there is one.

mod binance;
mod ccxt;
mod coinbase;
mod others;
mod twitch;
mod venue_client;
mod venue_file;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kit::http::sum;
use kit::program::Program;
use kit::tape::{PROFILE, Tape};
use kit::{project, skip_without_tool, tool};
use serde::Deserialize;

/// Frames that a client reads in each of its three ways to subscribe.
const COUNT: usize = 400;

/// What a client prints.
#[derive(Deserialize)]
struct Report {
    query: Visit,
    command: Visit,
    raw: Visit,
}

/// What a client found on one connection.
#[derive(Deserialize)]
struct Visit {
    extensions: String,
    subprotocol: Option<String>,
    /// Offsets grew from each frame to the next.
    increasing: bool,
    /// Frames that had an offset and data.
    offsets: usize,
    texts: Vec<String>,
}

/// A server on the tape in a loop.
struct Harness {
    server: Program,
    _venue: Program,
    tape: Tape,
}

const PATTERNS: &str = "btcusdt@*,*@trade";

impl Harness {
    fn set() -> Harness {
        let tape = Tape::open();
        let venue = Program::replay(tape.path(), &["--speed", "4", "--loop"]);
        let server = Program::serve(&[&venue.ws("/stream"), "--profile", PROFILE], &[]);
        Harness { server, _venue: venue, tape }
    }

    /// Runs a client program, which must succeed.
    fn run(&self, program: PathBuf, script: &str, mode: &str) -> Report {
        let url = self.server.ws("/v1/ws");
        let count = COUNT.to_string();
        let script = project("tests/stock").join(script);
        let args: [&OsStr; 5] = [script.as_ref(), url.as_ref(), mode.as_ref(), PATTERNS.as_ref(), count.as_ref()];
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("the client starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{mode}: the client failed:\n{errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{mode}: {error}\n{errors}"))
    }

    fn check(&self, mode: &str, report: &Report) {
        for (way, visit) in [("query", &report.query), ("command", &report.command), ("raw", &report.raw)] {
            assert_eq!(visit.texts.len(), COUNT, "{mode}, {way}");
            assert_eq!(visit.subprotocol.as_deref(), Some("fanline.v1"), "{mode}, {way}");
            assert_eq!(visit.extensions.contains("permessage-deflate"), mode == "deflate", "{mode}, {way}");
            assert!(visit.increasing, "{mode}, {way}: offsets must grow");
            assert_eq!(visit.offsets, if way == "raw" { 0 } else { COUNT }, "{mode}, {way}");
        }
        for text in report.query.texts.iter().chain(&report.command.texts) {
            self.tape.locate(text);
        }
        for text in &report.raw.texts {
            self.tape.locate_raw(text);
        }
    }

    fn deflated_bytes(&self) -> f64 {
        sum(&self.server.get("/metrics").body, "fanline_sent_bytes_total", "_deflate\"")
    }
}

/// Runs one client in both modes on a server of its own, so that the bytes on the wire can be distinguished.
fn visit(program: PathBuf, script: &str) {
    let harness = Harness::set();
    harness.check("plain", &harness.run(program.clone(), script, "plain"));
    assert_eq!(harness.deflated_bytes(), 0.0, "nothing is compressed for a client that did not ask for it");
    harness.check("deflate", &harness.run(program, script, "deflate"));
    assert!(harness.deflated_bytes() > 0.0, "what was negotiated is used");
}

#[test]
fn python_websockets_decodes_everything_with_and_without_deflate() {
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"));
    let Some(python) = python else { return skip_without_tool("stock_clients", "`websockets` for Python") };
    visit(python, "client.py");
}

#[test]
fn node_ws_decodes_everything_with_and_without_deflate() {
    let node = tool("node").filter(|_| project("tests/stock/node_modules/ws").is_dir());
    let Some(node) = node else { return skip_without_tool("stock_clients", "Node with its package `ws`") };
    visit(node, "client.mjs");
}
