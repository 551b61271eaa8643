//! `make bench`: runs every benchmark and writes one report, target/bench/report.md, with a plot beside it.
//!
//! `cargo bench --bench report -- [--quick]`. Takes some 7 minutes after compiling, some 2 with `--quick`. It starts the
//! other benchmarks through cargo and the release build of fanline; nothing else should run meanwhile.

#[path = "support/machine.rs"]
mod machine;
#[path = "support/plot.rs"]
mod plot;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use plot::{Line, Plot};
use serde_json::Value;

/// Messages a second of the plotted runs.
const RATES: [u32; 5] = [50, 200, 1000, 4000, 16_000];

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
    let idle = ["--rate", "0", "--clients", "5000", "--topics", "nothing", "--seconds", if quick { "5" } else { "30" }];
    let _ = write!(report, "\n`fanline bench {}`\n{}", idle.join(" "), block(&bench(&idle)));
    if !quick {
        let text = bench(&["--capacity"]);
        let _ = write!(report, "\n`fanline bench --capacity`\n{}", block(&text));
    }
    report.push_str("\n## Over the rate\n\n1000 clients.\n\n");
    report.push_str(&rates(&folder, seconds));

    for (name, title, args) in [
        ("rooms", "Single steps", &["--max-time", "0.3"][..]),
        ("sorting", "Sorting what a feed sends", &["5"]),
        ("fanout", "One shard against the bare loop", &["1000", seconds]),
        ("compression", "The shared window", &["1000", if quick { "1" } else { "4" }]),
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

/// A table and a plot of what a delivery costs at different rates, alone and beside the bare loop.
fn rates(folder: &Path, seconds: &str) -> String {
    let mut table = String::from(
        "| msg/s asked | deliveries/s | CPU us per delivery | bare, 1 a send | bare, 64 a send | p50 ms | p99 ms | lost |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut lines = [const { Vec::new() }; 5];
    for rate in RATES {
        let text = bench(&["--bare", "--json", "--rate", &rate.to_string(), "--clients", "1000", "--seconds", seconds]);
        let Ok(report) = serde_json::from_str::<Value>(&text) else { continue };
        let _ = std::fs::write(folder.join(format!("rate-{rate}.json")), &text);
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let figures = [
            number("/result/server/cpu_us_per_delivery"),
            number("/bare/0/cpu_us_per_delivery"),
            number("/bare/2/cpu_us_per_delivery"),
            number("/result/latency/p50_us") / 1000.0,
            number("/result/latency/p99_us") / 1000.0,
        ];
        for (line, figure) in lines.iter_mut().zip(figures) {
            line.push((f64::from(rate), figure));
        }
        let [cpu, bare, coalesced, p50, p99] = figures;
        let _ = writeln!(
            table,
            "| {rate} | {:.0} | {cpu:.3} | {bare:.3} | {coalesced:.3} | {p50:.2} | {p99:.2} | {} |",
            number("/result/deliveries_per_second"),
            number("/result/lost")
        );
    }
    let [cpu, bare, coalesced, p50, p99] = lines;
    let line = |name: &str, points| Line { name: name.into(), points };
    let plots = [
        Plot {
            title: "CPU of a delivery, 1000 clients".into(),
            x: "messages a second".into(),
            y: "microseconds".into(),
            lines: vec![
                line("fanline", cpu),
                line("bare loop, 1 a send", bare),
                line("bare loop, 64 a send", coalesced),
            ],
        },
        Plot {
            title: "Feed to client, 1000 clients".into(),
            x: "messages a second".into(),
            y: "milliseconds".into(),
            lines: vec![line("p50", p50), line("p99", p99)],
        },
    ];
    std::fs::write(folder.join("report.svg"), plot::svg(&plots)).expect("a writable target directory");
    table.push_str("\n![CPU per delivery and latency over the rate](report.svg)\n");
    table
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
