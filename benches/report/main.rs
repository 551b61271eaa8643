//! `make bench`: runs every benchmark and writes one report, target/bench/report.md, with a plot beside it.
//!
//! `cargo bench --bench report -- [--quick]`. Takes some 13 minutes after compiling, some 7 with `--quick`. It starts the
//! other benchmarks through cargo and the release build of fanline; nothing else should run meanwhile.

mod growth;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/plot.rs"]
mod plot;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let seconds = if quick { "2" } else { "5" };
    let folder = folder();
    let started = Instant::now();
    let mut report = String::from("# Benchmarks\n\n| | |\n|---|---|\n");
    for (name, text) in machine::description() {
        let _ = writeln!(report, "| {name} | {text} |");
    }

    report.push_str("\n## A server with 1000 clients\n");
    let runs: [&[&str]; 4] =
        [&["--bare"], &["--deflate"], &["--rate", "max", "--bare"], &["--rate", "max", "--deflate"]];
    for args in runs {
        let text = bench(&[args, &["--clients", "1000", "--seconds", seconds]].concat());
        let _ = write!(report, "\n`fanline bench {}`\n{}", args.join(" "), block(&text));
    }
    let idle = ["--rate", "0", "--clients", "5000", "--topics", "nothing", "--seconds", if quick { "5" } else { "20" }];
    let _ = write!(report, "\n`fanline bench {}`\n{}", idle.join(" "), block(&bench(&idle)));
    if !quick {
        let args = ["--capacity", "--seconds", "45"];
        let _ = write!(report, "\n`fanline bench {}`\n{}", args.join(" "), block(&bench(&args)));
    }
    report.push_str(
        "\n## How cost grows\n\n![cost of a delivery over rate, clients, topics, patterns and size](report.svg)\n",
    );
    let (tables, plots) = growth::growth(if quick { "1" } else { "2" });
    report.push_str(&tables);
    std::fs::write(folder.join("report.svg"), plot::svg(&plots)).expect("a writable target directory");

    for (name, title, args) in [
        ("rooms", "Single steps", &["--max-time", "0.3"][..]),
        ("sorting", "Sorting what a feed sends", &["5"]),
        ("fanout", "One shard against the bare loop", &["1000", seconds]),
        (
            "watchlists",
            "Lists of one's own",
            &["bytes", "cpu", "--runs", "1", "--seconds", if quick { "1" } else { "3" }],
        ),
        ("compression", "The shared window", &["1000", if quick { "1" } else { "3" }]),
    ] {
        eprintln!("{name} ({:.0} s since the start)", started.elapsed().as_secs_f64());
        let _ = write!(
            report,
            "\n## {title}\n\n`cargo bench --bench {name} -- {}`\n{}",
            args.join(" "),
            block(&other(name, args))
        );
    }
    let _ = writeln!(
        report,
        "\nThis took {:.0} s. Load average after it: {}.",
        started.elapsed().as_secs_f64(),
        machine::load()
    );
    let path = folder.join("report.md");
    std::fs::write(&path, report).expect("a writable target directory");
    println!("{}", path.display());
}

fn folder() -> PathBuf {
    // target/release/fanline lies two levels below target.
    let target = Path::new(env!("CARGO_BIN_EXE_fanline")).parent().and_then(Path::parent).expect("a target directory");
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}

/// What `fanline bench` prints.
fn bench(args: &[&str]) -> String {
    eprintln!("fanline bench {}", args.join(" "));
    output(Command::new(env!("CARGO_BIN_EXE_fanline")).arg("bench").args(args))
}

/// What another benchmark prints.
fn other(name: &str, args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    // What cargo has set for this benchmark would make build scripts of dependencies run again.
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&&*text) {
            command.env_remove(&variable);
        }
    }
    output(command.args(["bench", "--quiet", "--locked", "--bench", name, "--"]).args(args))
}

/// Stdout, or what went wrong.
fn output(command: &mut Command) -> String {
    match command.stderr(Stdio::piped()).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        Ok(output) => format!("FAILED: {}", String::from_utf8_lossy(&output.stderr).trim_end()),
        Err(error) => format!("FAILED: {error}"),
    }
}

fn block(text: &str) -> String {
    format!("```text\n{text}\n```\n")
}
