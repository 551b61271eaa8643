//! Stock clients that are on this machine, and how a test starts each on a running fanline.

use std::path::Path;
use std::process::Command;

use super::{project, tool};

/// How a test starts a client: by its URL, and the name of what it should offer.
pub type Launch = Box<dyn Fn(&str, &str) -> Command>;

/// A script of tests/stock in the Python that tests/setup has made, if it has the package.
pub fn python(script: &'static str, package: &str) -> Option<Launch> {
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"))?;
    let import = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    let found = import.is_ok_and(|output| output.status.success());
    found.then(|| -> Launch { Box::new(move |url, offer| command(&python, "tests/stock", script, [url, offer])) })
}

/// Node's `ws`.
pub fn node() -> Option<Launch> {
    let node = tool("node").filter(|_| has_package("tests/stock", "ws"))?;
    Some(Box::new(move |url, offer| command(&node, "tests/stock", "window_client.mjs", [url, offer])))
}

pub fn chromium() -> Option<Launch> {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| tool(name))?;
    let node = tool("node").filter(|_| has_package("tests/page", "playwright-core"))?;
    Some(Box::new(move |url, offer| {
        let mut command = command(&node, "tests/page", "window_client.mjs", [url, offer]);
        command.env("CHROMIUM", &chromium);
        command
    }))
}

pub fn firefox() -> Option<Launch> {
    let (firefox, node) = (tool("firefox-esr").or_else(|| tool("firefox"))?, tool("node")?);
    Some(Box::new(move |url, offer| {
        let mut command = command(&node, "tests/stock", "window_firefox.mjs", [url, offer]);
        command.env("FIREFOX", &firefox);
        command
    }))
}

fn has_package(folder: &str, package: &str) -> bool {
    project(folder).join("node_modules").join(package).is_dir()
}

fn command(program: &Path, folder: &str, script: &str, args: [&str; 2]) -> Command {
    let mut command = Command::new(program);
    command.arg(project(folder).join(script)).args(args);
    command
}
