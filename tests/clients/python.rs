//! The Python client: its tests pass in every Python that is there, its checks find nothing, and a wheel of it runs what
//! its documents print.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kit::document::{blocks, read};
use kit::program::Program;
use kit::{project, skip_without_tool};

const PACKAGE: &str = "clients/python";
/// Lines that a program prints before it is ended.
const LINES: usize = 3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp lies in the target directory").join("python")
}

/// The environments that tests/setup has made, oldest Python first.
fn environments() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| path.join(".installed").is_file()).collect();
    found.sort();
    found
}

fn skip() {
    skip_without_tool("client_python", "Python 3.10 to 3.13");
}

fn in_package(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(project(PACKAGE))
        .env("PYTHONPATH", "src")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}

fn succeeds(what: &str, output: &Output) {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}:\n{said}{errors}");
}

#[test]
fn the_tests_of_the_package_pass_in_every_python() {
    let environments = environments();
    if environments.is_empty() {
        return skip();
    }
    let server = Program::serve(&[], &[]);
    let url = format!("http://{}", server.addr());
    let running = environments.iter().map(|environment| {
        let mut command = in_package(&environment.join("bin/python"));
        command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).env("FANLINE_URL", &url);
        command.env("SERVER_BINARY", env!("CARGO_BIN_EXE_fanline"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pytest starts")
    });
    for (environment, child) in environments.iter().zip(running.collect::<Vec<_>>()) {
        succeeds(&environment.display().to_string(), &child.wait_with_output().expect("pytest ends"));
    }
}

#[test]
fn pyright_and_ruff_find_nothing() {
    let Some(first) = environments().into_iter().next() else { return skip() };
    let tool = |name: &str, args: &[&str]| {
        let mut command = in_package(&first.join("bin").join(name));
        succeeds(name, &command.args(args).output().expect("the tool starts"));
    };
    tool("ruff", &["check", "--no-cache", "."]);
    tool("ruff", &["format", "--no-cache", "--check", "."]);
    let python = first.join("bin/python");
    tool("pyright", &["--pythonpath", python.to_str().expect("a path in UTF-8")]);
}

/// An environment with nothing but the package, installed from its wheel.
fn installed(first: &Path) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("client_python");
    let _ = std::fs::remove_dir_all(&folder);
    let (wheels, environment) = (folder.join("wheels"), folder.join("environment"));
    let pip = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "--disable-pip-version-check", "--quiet"]).stdin(Stdio::null());
        command
    };
    let first = first.join("bin/python");
    let mut build = pip(&first);
    build.args(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"]).arg(&wheels).arg(project(PACKAGE));
    succeeds("the wheel", &build.output().expect("pip starts"));
    let made = Command::new(&first).args(["-m", "venv"]).arg(&environment).output();
    succeeds("the environment", &made.expect("Python starts"));
    let python = environment.join("bin/python");
    let mut install = pip(&python);
    install.args(["install", "--no-index", "--find-links"]).arg(&wheels).arg("--find-links");
    let output = install.arg(self::folder().join("wheels")).arg("fanline").output();
    succeeds("the installation", &output.expect("pip starts"));
    python
}

/// Ends a program once it has printed a few lines that begin as they should.
fn prints(what: &str, command: &mut Command, beginning: &str) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let found = lines.filter(|line| line.starts_with(beginning)).take(LINES).count();
    let _ = child.kill();
    let output = child.wait_with_output().expect("the program ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(found, LINES, "expected lines that begin with `{beginning}` from:\n{what}\n{errors}");
}

#[test]
fn a_wheel_in_an_empty_environment_runs_what_the_documents_print() {
    let Some(first) = environments().into_iter().next() else { return skip() };
    let python = installed(&first);
    let server = Program::serve(&[], &[]);
    let address = server.addr().to_string();
    let mut count = 0;
    for document in ["clients/python/README.md", "docs/client/python.md"] {
        for program in blocks(&read(document), "python") {
            let here = program.replace("127.0.0.1:8080", &address);
            prints(&program, Command::new(&python).args(["-u", "-c", &here]), "quote.");
            count += 1;
        }
    }
    assert_eq!(count, 5, "programs in the documents");
    let lines = blocks(&read("clients/python/README.md"), "sh").concat();
    for line in lines.lines().filter(|line| line.starts_with("python -m fanline")) {
        let here =
            line.replacen("python", python.to_str().expect("a path in UTF-8"), 1).replace("127.0.0.1:8080", &address);
        let output = Command::new("sh").args(["-c", &here]).stdin(Stdio::null()).output().expect("a shell");
        succeeds(line, &output);
        assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= LINES, "{line}");
    }
    let bot = project("clients/python/examples/price_alert.py");
    let mut command = Command::new(&python);
    command.arg("-u").arg(&bot).args([&format!("http://{address}"), "quote.AAPL", "bid", "0"]);
    prints("price_alert.py", &mut command, "quote.AAPL: ");
    let mut table = Command::new(&python);
    table.arg(project("clients/python/examples/table.py")).args([
        &format!("http://{address}"),
        "quote.*",
        "--rounds",
        "1",
    ]);
    succeeds("table.py", &table.output().expect("Python starts"));
}
