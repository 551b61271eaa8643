//! `make hostile`: one attacker after the other against a server with honest clients, and the effect on these.
//!
//! `cargo bench --bench hostile -- [--program PATH] [--only NAME,…] [--honest N] [--rate N] [--seconds N]`. Prints a
//! table; takes about 5 minutes. The server is held to docs/operations/limits.md: the honest clients' 99th percentile
//! at most 3 times its quiet value, no wait of more than 250 ms, nothing lost, at most 64 MiB more memory. Two rows are
//! controls; where these fail too, the machine is too busy to judge. Exits with 1 if any other row fails.

#[path = "../support/background.rs"]
mod background;
#[path = "../support/machine.rs"]
mod machine;
mod stand;
mod table;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use stand::attack::{ATTACKS, Attack};
use stand::row::Row;
use stand::{LISTS, LIVE_TOPICS, Plan};

/// `nice` of the server, of the feed and of honest clients; only root is allowed it.
const PRIORITY: i32 = -10;
const HEADS: [&str; 11] = [
    "attack",
    "sent KiB",
    "p50, p99 ms quiet",
    "p50, p99 ms attacked",
    "ratio",
    "longest wait ms",
    "lost",
    "newcomer: join, snapshot ms",
    "CPU cores quiet, attacked",
    "memory MiB",
    "verdict",
];

#[derive(Parser)]
#[command(name = "hostile")]
struct Options {
    /// The fanline to attack, such as an older build.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_fanline"))]
    program: PathBuf,
    /// Only these attacks: names, separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Honest clients.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    honest: usize,
    /// Messages per second of the feed.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// How long each attack lasts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How long the quiet phase before it lasts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    quiet: u64,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (_, files) = fanline::open_files::raise_open_files_limit().expect("the hard limit of open files is allowed");
    let raised = rustix::process::setpriority_process(None, PRIORITY).is_ok();
    let plan = Plan {
        program: options.program,
        honest: options.honest,
        rate: options.rate,
        quiet: Duration::from_secs(options.quiet),
        attack: Duration::from_secs(options.seconds),
        after: Duration::from_secs(1),
        yields: background::yield_to_the_server,
    };
    let chosen: Vec<&Attack> = ATTACKS
        .iter()
        .filter(|attack| options.only.is_empty() || options.only.iter().any(|name| name == attack.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        eprintln!("expected the name of an attack for --only, found none; they are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    describe(&plan, files, raised);
    let begun = Instant::now();
    println!("{}", table::line(&HEADS.map(String::from)));
    println!("{}", table::line(&HEADS.map(|_| "---".into())));
    let held = chosen.iter().fold(true, |held, attack| {
        // One that cannot be measured does not keep the others from it.
        match stand::measure(attack, &plan) {
            Ok(row) => {
                println!("{}", table::line(&table::cells(&row)));
                held && (is_control(attack) || has_held(&row))
            }
            Err(error) => {
                println!("| {} | not measured: {error} |", attack.name);
                false
            }
        }
    });
    println!("\n{}", legend(&chosen));
    println!("took {:.0} s; load average after it {}", begun.elapsed().as_secs_f64(), machine::load());
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_control(attack: &Attack) -> bool {
    attack.sends.starts_with("(control)")
}

fn has_held(row: &Row) -> bool {
    row.faults().is_empty() && row.delays().is_empty()
}

fn describe(plan: &Plan, files: u64, raised: bool) {
    for (name, text) in machine::description() {
        println!("{name:<20} {text}");
    }
    let deliveries = plan.rate as usize * plan.honest / LISTS;
    println!(
        "{:<20} {}, a process for each attack; settings: the defaults, shards.spread_after = 1",
        "server",
        plan.program.display()
    );
    println!(
        "{:<20} {} clients on {LISTS} lists of {} topics; {} messages/s of 160 bytes, {deliveries} deliveries/s",
        "honest load",
        plan.honest,
        LIVE_TOPICS / LISTS,
        plan.rate,
    );
    println!(
        "{:<20} {} s quiet, {} s attack, {} s after; open files: {files}; {}\n",
        "phases",
        plan.quiet.as_secs(),
        plan.attack.as_secs(),
        plan.after.as_secs(),
        if raised {
            "server, feed and honest clients run before other processes, attackers in the time that they leave"
        } else {
            "attackers run in the time that all others leave"
        },
    );
}

/// What each attack sends, below the table.
fn legend(attacks: &[&Attack]) -> String {
    attacks.iter().fold(String::new(), |mut text, attack| {
        let topics = attack.still_topics + LIVE_TOPICS;
        let _ = writeln!(text, "{:<20} {topics:>6} topics; {}", attack.name, attack.sends);
        text
    })
}
