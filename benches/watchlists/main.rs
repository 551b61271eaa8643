//! Clients that each have a list of their own, point by point.
//!
//! `cargo bench --bench watchlists -- [PART…] [--runs N] [--seconds N] [--beside PROGRAM]`. Parts: `bytes`, `cpu`,
//! `memory`, `changes`, `identical`; all without one. Figures are medians of the runs (default 5), ratios are taken within
//! a run. A row is `fanline bench` with the options that it names, but for `bytes`, which publishes recorded feeds and the
//! simulated market to one shard. `--beside` measures another build in the same runs, and adds its figures as ratios: this
//! build's by the other's.

mod recordings;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

const PARTS: [&str; 5] = ["bytes", "cpu", "memory", "changes", "identical"];
/// 2000 clients, each with its own 20 of 1000 topics: a message is for 40 clients.
const LISTS: &str = "--clients 2000 --simulate-symbols 500 --topics-each 20";
/// 40,000, 200,000 and a million deliveries a second.
const RATES: [u32; 3] = [1000, 5000, 25_000];
/// What a connection may hold besides its list.
const CONNECTION_BYTES: f64 = 1024.0;
const MANY: usize = 10_000;
const FEW: usize = 10;

struct Options {
    parts: Vec<String>,
    runs: usize,
    seconds: String,
    beside: Option<PathBuf>,
}

/// The figures of one `fanline bench`, and how they are read.
struct Row {
    name: String,
    args: String,
}

/// A figure of a report: its heading, its place, and decimal places.
type Figure = (&'static str, fn(&Value) -> f64, usize);

const CPU: Figure = ("CPU us per delivery", |report| number(report, "/result/server/cpu_us_per_delivery"), 3);
const DELIVERIES: Figure = ("deliveries/s", |report| number(report, "/result/deliveries_per_second"), 0);
const P99: Figure = ("p99 ms", |report| number(report, "/result/latency/p99_us") / 1000.0, 1);
const WRONG: Figure = ("lost or wrong", lost_or_wrong, 0);

fn main() {
    let options = Options::read();
    for part in PARTS.into_iter().filter(|part| options.parts.iter().any(|chosen| chosen == part)) {
        println!("\n## {part}\n");
        match part {
            "bytes" => bytes(),
            "cpu" => cpu(&options),
            "memory" => memory(&options),
            "changes" => changes(&options),
            _ => identical(&options),
        }
    }
}

impl Options {
    fn read() -> Options {
        let mut options = Options { parts: Vec::new(), runs: 5, seconds: "5".into(), beside: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().unwrap_or_else(|| panic!("expected a value after `{argument}`, found none"));
            match &*argument {
                "--runs" => options.runs = value().parse().expect("a number of runs"),
                "--seconds" => options.seconds = value(),
                "--beside" => options.beside = Some(value().into()),
                // What cargo adds.
                "--bench" => {}
                part if PARTS.contains(&part) => options.parts.push(part.into()),
                other => panic!("expected one of {PARTS:?}, --runs, --seconds or --beside, found `{other}`"),
            }
        }
        if options.parts.is_empty() {
            options.parts = PARTS.map(String::from).into();
        }
        options
    }
}

/// How many times smaller than plain, by feed and length of the list, and by what was asked for.
fn bytes() {
    println!("| feed | topics | of | plain, bytes | deflated, bytes | times smaller | by the prototype's |");
    println!("|---|---|---|---|---|---|---|");
    for (feed, profile, expected) in recordings::FEEDS {
        let Some(updates) = recordings::updates(feed, profile) else {
            println!("| {feed} | SKIPPED: no recording in ../shared/feeds |");
            continue;
        };
        for (each, expected) in recordings::LISTS.into_iter().zip(expected) {
            let saving = recordings::measure(&updates, each);
            let ratio = saving.plain / saving.deflated;
            let fault = saving.fault.map_or(String::new(), |fault| format!(" FAULT: {fault}"));
            println!(
                "| {feed} | {each} | {} | {:.1} | {:.1} | {ratio:.2} | {:.2}{fault} |",
                saving.topics,
                saving.plain,
                saving.deflated,
                ratio / expected
            );
        }
    }
}

/// Lists of one's own and shared ones, plain and deflated, at a write per delivery and above.
fn cpu(options: &Options) {
    let rows: Vec<Row> = RATES
        .iter()
        .flat_map(|rate| {
            [
                ("own", "", ""),
                ("own", ", deflated", "--deflate"),
                ("shared", "", "--overlap"),
                ("shared", ", deflated", "--overlap --deflate"),
            ]
            .map(|(whose, deflated, flags)| Row {
                name: format!("{rate} msg/s, {whose}{deflated}"),
                args: format!("{LISTS} --rate {rate} {flags}"),
            })
        })
        .collect();
    let per_message =
        ("us per message", (|report| number(report, "/result/server/cpu_us_per_message")) as fn(&Value) -> f64, 1);
    let bytes = ("bytes", (|report| number(report, "/result/bytes_per_delivery")) as fn(&Value) -> f64, 1);
    let ratio = ("times smaller", (|report| number(report, "/result/ratio")) as fn(&Value) -> f64, 2);
    let reports = table(options, &rows, &[DELIVERIES, CPU, per_message, bytes, ratio, P99, WRONG]);
    println!(
        "\n| msg/s | deflated by plain, CPU per delivery: own | shared | own by shared: plain | deflated |\n|---|---|---|---|---|"
    );
    for (at, rate) in RATES.iter().enumerate() {
        let by = |one: usize, other: usize| {
            let pairs = reports[4 * at + one].iter().zip(&reports[4 * at + other]);
            median(pairs.map(|(one, other)| CPU.1(one) / CPU.1(other)))
        };
        println!("| {rate} | {:.2} | {:.2} | {:.2} | {:.2} |", by(1, 0), by(3, 2), by(0, 2), by(1, 3));
    }
}

/// 10,000 connections with lists of 100: growth while they connect in silence; and what a server holds more than one with
/// few clients once every topic has had messages, so that what a stream keeps of its topics is included.
fn memory(options: &Options) {
    const MARKET: &str = "--simulate-symbols 500 --topics-each 100";
    let row = |name: &str, clients: usize, args: &str| Row {
        name: name.into(),
        args: format!("{MARKET} --clients {clients} {args}"),
    };
    let rows = [
        row("silent", MANY, "--rate 0"),
        row("silent, deflated", MANY, "--rate 0 --deflate"),
        row("in use", MANY, "--rate 500"),
        row("in use, deflated", MANY, "--rate 500 --deflate"),
        row("in use, few clients", FEW, "--rate 500"),
        row("in use, few clients, deflated", FEW, "--rate 500 --deflate"),
    ];
    let each: Figure = ("bytes per connection", each_connection, 0);
    let all: Figure = ("resident, MiB", |report| resident(report) / f64::from(1 << 20), 1);
    let reports = table(options, &rows, &[each, all, WRONG]);
    println!("\n| {MANY} connections with 100 topics each | bytes per topic beyond 1 KiB per connection |\n|---|---|");
    let by_topic = |connection: f64| (connection - CONNECTION_BYTES) / 100.0;
    for (at, row) in rows.iter().enumerate().take(4) {
        let runs = reports[at].iter().enumerate().map(|(run, report)| match at {
            0 | 1 => by_topic(each_connection(report)),
            _ => by_topic((resident(report) - resident(&reports[at + 2][run])) / (MANY - FEW) as f64),
        });
        println!("| {} | {:.1} |", row.name, median(runs));
    }
}

/// One change of a list of 500 under 5000 messages a second, and 10,000 clients that change a topic a second.
fn changes(options: &Options) {
    let rows = [
        (
            "one of 500 topics, 5000 msg/s",
            "--clients 40 --simulate-symbols 500 --topics-each 500 --rate 5000 --changes-per-second 500",
        ),
        (
            "10,000 clients, a change a second each",
            "--clients 10000 --simulate-symbols 500 --topics-each 20 --rate 100 --changes-per-second 10000",
        ),
    ];
    let rows = rows.map(|(name, args)| Row { name: name.into(), args: args.into() });
    let cost: Figure = ("CPU us per change", |report| number(report, "/cpu_us_per_change"), 2);
    let cores: Figure = (
        "cores at the rate asked for",
        |report| number(report, "/cpu_us_per_change") * number(report, "/changes_per_second") / 1e6,
        3,
    );
    table(options, &rows, &[cost, ("changes/s", rate, 0), cores, P99, WRONG]);
}

/// Clients that receive the identical stream, which nothing may make slower.
fn identical(options: &Options) {
    let rows = ["--rate 100", "--rate 100 --deflate", "--rate max", "--rate max --deflate"]
        .map(|args| Row { name: args.into(), args: format!("--clients 1000 {args}") });
    let bytes: Figure = ("bytes", |report| number(report, "/result/bytes_per_delivery"), 1);
    table(options, &rows, &[DELIVERIES, CPU, bytes, P99]);
}

/// Measures each row in every run and prints medians; returns the reports of each row, by run.
fn table(options: &Options, rows: &[Row], figures: &[Figure]) -> Vec<Vec<Value>> {
    let ours = Path::new(env!("CARGO_BIN_EXE_fanline"));
    let mut reports = vec![Vec::new(); rows.len()];
    let mut others = reports.clone();
    for run in 1..=options.runs {
        for (at, row) in rows.iter().enumerate() {
            eprintln!("run {run} of {}: {}", options.runs, row.args);
            reports[at].push(bench(ours, row, &options.seconds));
            if let Some(beside) = &options.beside {
                others[at].push(bench(beside, row, &options.seconds));
            }
        }
    }
    let mut headings: Vec<String> = figures.iter().map(|(heading, ..)| (*heading).to_owned()).collect();
    if options.beside.is_some() {
        headings.extend(figures.iter().map(|(heading, ..)| format!("{heading}, by the other's")));
    }
    println!("| | {} |\n|---{}|", headings.join(" | "), "|---".repeat(headings.len()));
    for ((row, reports), others) in rows.iter().zip(&reports).zip(&others) {
        let mut cells: Vec<String> = figures
            .iter()
            .map(|(_, figure, digits)| format!("{:.digits$}", median(reports.iter().map(figure))))
            .collect();
        if options.beside.is_some() {
            let pairs = || reports.iter().zip(others);
            let by = |figure: fn(&Value) -> f64| median(pairs().map(|(ours, other)| figure(ours) / figure(other)));
            cells.extend(figures.iter().map(|(_, figure, _)| format!("{:.3}", by(*figure))));
        }
        println!("| {} | {} |", row.name, cells.join(" | "));
    }
    reports
}

/// The report of one run; null, with a line on stderr, if there is none.
fn bench(program: &Path, row: &Row, seconds: &str) -> Value {
    let args = ["bench", "--json", "--seconds", seconds].into_iter().chain(row.args.split_whitespace());
    let output = Command::new(program).args(args).stderr(Stdio::piped()).output().expect("a program that starts");
    if !output.status.success() {
        eprintln!("FAILED: {}: {}", row.args, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn lost_or_wrong(report: &Value) -> f64 {
    ["lost", "repeated", "gaps", "skips", "ended", "wrong"]
        .iter()
        .map(|name| number(report, &format!("/result/{name}")))
        .sum()
}

fn each_connection(report: &Value) -> f64 {
    number(report, "/result/server/bytes_per_connection")
}

fn resident(report: &Value) -> f64 {
    number(report, "/result/server/resident_bytes")
}

fn rate(report: &Value) -> f64 {
    number(report, "/result/changes") / number(report, "/result/seconds")
}

/// Of what was measured; NaN if nothing was.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}
