//! How the cost of a delivery grows: with clients, topics, patterns, size of a message and rate, one series each.

use std::fmt::Write;

use serde_json::Value;

use crate::bench;
use crate::plot::{Line, Plot};

/// Runs of `fanline bench` that differ in one number.
struct Series {
    title: &'static str,
    /// What the number is.
    x: &'static str,
    /// The numbers, and what else a run with each is started with.
    points: Vec<(u32, String)>,
    /// Compared with the bare loop.
    bare: bool,
}

/// What one run gave; NAN where it does not know.
struct Figures {
    deliveries: f64,
    cpu_us: f64,
    bare_us: f64,
    bare_coalesced_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    kib: f64,
    lost: f64,
}

/// A table of each series, and a plot of each.
pub fn growth(seconds: &str) -> (String, Vec<Plot>) {
    let (mut tables, mut plots) = (String::new(), Vec::new());
    for series in all() {
        let runs: Vec<(u32, Figures)> = series.points.iter().map(|(x, args)| (*x, series.run(args, seconds))).collect();
        let _ = write!(tables, "\n### {}\n\n{}", series.title, series.table(&runs));
        plots.push(series.plot(&runs));
    }
    (tables, plots)
}

fn all() -> [Series; 5] {
    [
        Series {
            title: "Rate: 1000 clients on everything",
            x: "messages a second",
            points: [10, 50, 200, 1000, 4000, 16_000]
                .map(|rate| (rate, format!("--clients 1000 --rate {rate}")))
                .into(),
            bare: true,
        },
        Series {
            title: "Clients: all on everything, 20 messages a second",
            x: "clients",
            points: [100, 300, 1000, 3000, 10_000, 18_000]
                .map(|clients| (clients, format!("--clients {clients} --rate 20")))
                .into(),
            bare: false,
        },
        Series {
            title: "Topics: 1000 clients, each on an equal share of them, 20,000 deliveries a second",
            x: "topics",
            points: [10, 100, 1000, 10_000, 100_000]
                .map(|topics: u32| {
                    let (each, audience) = ((topics / 1000).max(1), (1000 / topics).max(1));
                    let (symbols, rate) = (topics / 2, 20_000 / audience);
                    let share = format!("--simulate-symbols {symbols} --topics-each {each} --overlap");
                    (topics, format!("--clients 1000 {share} --rate {rate}"))
                })
                .into(),
            bare: false,
        },
        Series {
            title: "Lists: 1000 clients, each with a list of its own of 1000 topics, 20,000 deliveries a second",
            x: "topics of a client",
            points: [1, 10, 100, 1000]
                .map(|each: u32| {
                    let rate = 20_000 / each;
                    (each, format!("--clients 1000 --simulate-symbols 500 --topics-each {each} --rate {rate}"))
                })
                .into(),
            bare: false,
        },
        Series {
            title: "Size: 1000 clients on everything, 10 messages a second",
            x: "bytes of a message",
            points: [50, 160, 1024, 4096, 16_384, 65_536]
                .map(|bytes| (bytes, format!("--clients 1000 --rate 10 --bytes {bytes}")))
                .into(),
            bare: true,
        },
    ]
}

impl Series {
    fn run(&self, args: &str, seconds: &str) -> Figures {
        let args: Vec<&str> = ["--json", "--seconds", seconds]
            .into_iter()
            .chain(self.bare.then_some("--bare"))
            .chain(args.split_whitespace())
            .collect();
        let report: Value = serde_json::from_str(&bench(&args)).unwrap_or_default();
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
        Figures {
            deliveries: number("/result/deliveries_per_second"),
            cpu_us: number("/result/server/cpu_us_per_delivery"),
            bare_us: number("/bare/0/cpu_us_per_delivery"),
            bare_coalesced_us: number("/bare/2/cpu_us_per_delivery"),
            p50_ms: number("/result/latency/p50_us") / 1000.0,
            p99_ms: number("/result/latency/p99_us") / 1000.0,
            kib: number("/result/server/bytes_per_connection") / 1024.0,
            lost: number("/result/lost"),
        }
    }

    fn table(&self, runs: &[(u32, Figures)]) -> String {
        let (head, rule) = if self.bare { (" bare, 1 a send | bare, 64 a send |", "---|---|") } else { ("", "") };
        let mut table = format!(
            "| {} | deliveries/s | CPU us per delivery |{head} p50 ms | p99 ms | KiB per connection | lost |\n\
             |---|---|---|{rule}---|---|---|---|\n",
            self.x
        );
        for (x, run) in runs {
            let bare =
                if self.bare { format!(" {:.3} | {:.3} |", run.bare_us, run.bare_coalesced_us) } else { String::new() };
            let _ = writeln!(
                table,
                "| {x} | {:.0} | {:.3} |{bare} {:.2} | {:.2} | {:.2} | {} |",
                run.deliveries, run.cpu_us, run.p50_ms, run.p99_ms, run.kib, run.lost
            );
        }
        table
    }

    fn plot(&self, runs: &[(u32, Figures)]) -> Plot {
        let line = |name: &str, figure: fn(&Figures) -> f64| Line {
            name: name.into(),
            points: runs.iter().map(|(x, run)| (f64::from(*x), figure(run))).collect(),
        };
        let mut lines = vec![line("CPU, us per delivery", |run| run.cpu_us), line("p99, ms", |run| run.p99_ms)];
        if self.bare {
            lines.push(line("bare loop, 1 a send, us", |run| run.bare_us));
            lines.push(line("bare loop, 64 a send, us", |run| run.bare_coalesced_us));
        } else {
            lines.push(line("KiB per connection", |run| run.kib));
        }
        Plot { title: self.title.into(), x: self.x.into(), lines }
    }
}
