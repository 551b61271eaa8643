//! `make soak`: hours in minutes. Clients, feed faults, reloads and kills for as long as asked, and what is left of them.
//!
//! `cargo bench --bench soak -- [--minutes N] [--clients N] [--seed N]`. Prints memory, open files and threads by quarter,
//! and what was done. Exits with 1 if a message was missing without a word, a line of the log is unexplained, files or
//! threads were left behind, or memory of the last quarter is more than 5 % above the first.

mod stand;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use stand::Plan;

/// Of the last quarter by the first.
const GROWTH_MAX: f64 = 1.05;

#[derive(Parser)]
#[command(name = "soak")]
struct Options {
    /// How long the crowd is there.
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    minutes: f64,
    /// Clients at a time.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    clients: usize,
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let time = Duration::from_secs_f64(60.0 * options.minutes);
    let plan = Plan {
        time,
        clients: options.clients,
        witnesses: 10,
        fault_every: Duration::from_secs(3),
        kill_every: Duration::from_secs(20),
    };
    println!("{} minutes, {} clients, seed {}", options.minutes, options.clients, options.seed);
    let report = stand::run(plan, options.seed, |line| println!("{line}"));
    println!("before the crowd: {}", report.before);
    println!("after it:         {}", report.after);
    report.faults.iter().for_each(|(name, count)| println!("{count:>10} {name}"));
    println!("{:>10} messages checked, {} times told of missing ones", report.checked, report.told);
    let mut violations = report.violations();
    let growth = report.growth();
    println!("memory, last quarter by first: {growth:.3}");
    if growth > GROWTH_MAX {
        violations.push(format!("memory grew by a factor of {growth:.3}, more than {GROWTH_MAX}"));
    }
    violations.iter().for_each(|violation| println!("VIOLATED {violation}"));
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
