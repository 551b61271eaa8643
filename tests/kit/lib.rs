//! What integration tests share: the real binary as a child process, tools, the tape, feeds, clients.
//!
//! Nothing here sleeps for a fixed time: conditions are polled until they hold or a deadline has passed.

pub mod account;
pub mod book_tape;
pub mod bystander;
pub mod certificate;
pub mod client;
pub mod cluster_nodes;
pub mod decoding;
pub mod document;
pub mod edge;
pub mod event_client;
pub mod fake_feed;
pub mod faulty_feed;
pub mod http;
pub mod http_client;
pub mod intake;
pub mod ledger;
pub mod namespace;
pub mod nats;
pub mod order_book;
pub mod program;
pub mod raw_client;
pub mod real_proxy;
pub mod relay;
pub mod scripted_feed;
pub mod seen;
pub mod stacks;
pub mod stock_client;
#[path = "../../crates/shared-deflate/fuzz/src/strict_inflater.rs"]
pub mod strict_inflater;
pub mod subscriber;
pub mod tape;
pub mod tape_feed;
pub mod tiers;
pub mod tls_server;
pub mod token_venue;
pub mod tunnel;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything that should happen may take: generous, since two cores may be shared with every other test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls `probe` until it gives something, at most for `DEADLINE`; then panics and names what did not happen.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    const INTERVAL: Duration = Duration::from_millis(20);
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "expected within {DEADLINE:?}: {what}");
        thread::sleep(INTERVAL);
    }
}

/// Says that a test, or a part of it, does not run here. Written past the test harness, which would swallow it.
pub fn skip_loudly(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

/// Like `skip_loudly`, but with CI=true a missing tool is a failure.
pub fn skip_without_tool(test: &str, tool: &str) {
    skip_without(test, tool, "tests/setup installs it");
}

/// Like `skip_loudly`, but with CI=true it is a failure that `what` is missing.
pub fn skip_without(test: &str, what: &str, remedy: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: expected {what} with CI=true; {remedy}");
    skip_loudly(test, &format!("{what} is missing; {remedy}"));
}

/// An executable that tests/setup has put under the target directory, or one on the PATH.
pub fn tool(name: &str) -> Option<PathBuf> {
    let target = target();
    let own = ["tools/usr/bin", "tools/usr/sbin", "venv/bin", "deploy/bin"].map(|folder| target.join(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A file or folder of the project.
pub fn project(path: &str) -> PathBuf {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("the project has it in tests/kit").join(path)
}

/// The server that was built with the test that runs.
pub fn server_binary() -> PathBuf {
    built_in(2).join(format!("fanline{}", std::env::consts::EXE_SUFFIX))
}

/// Where tests write: CARGO_TARGET_TMPDIR, which Cargo tells to tests alone.
pub fn scratch() -> PathBuf {
    target().join("tmp")
}

/// Cargo's target directory.
fn target() -> PathBuf {
    built_in(3)
}

/// The folder so many levels above the test that runs, which is PROFILE/deps/TEST in the target directory.
fn built_in(levels: usize) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    test.ancestors().nth(levels).expect("it lies in the target directory").to_path_buf()
}
