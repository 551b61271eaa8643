//! `make bench-peers`: the same load on fanline, on other servers and on the bare loop.
//!
//! `cargo bench --bench peers -- [CLIENTS] [SECONDS] [RUNS] [SERVER…]`, after benches/peers/setup. Parts of servers'
//! names select those servers, beside the bare loop and fanline. One publisher sends the simulated market's messages;
//! every client receives every message, or, of servers that know topics, those of a list of its own. A round measures one server after the other; figures are medians of the rounds,
//! and are written to target/bench/peers.md. A server that is missing is skipped loudly.

#[path = "peers/bare.rs"]
mod bare;
#[path = "peers/broadcast.rs"]
mod broadcast;
#[path = "peers/figures.rs"]
mod figures;
#[path = "support/machine.rs"]
mod machine;
#[path = "peers/processes.rs"]
mod processes;
#[path = "peers/servers.rs"]
mod servers;
#[path = "peers/stand.rs"]
mod stand;

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use broadcast::Variant;
use fanline::open_files::raise_open_files_limit;
use figures::{FIGURES, Figure, OURS, Rounds, Row};
use servers::{Peer, SERVERS};
use stand::{Audience, Pace, Stand, Stretch};

/// One write per delivery.
const RATE: f64 = 100.0;
/// Few enough for servers that compress for each client.
const RATE_SLOW: f64 = 10.0;
/// Watch lists: clients with a list of their own, and messages per second. A message is for 40 of them.
const LISTS: Audience = Audience::Lists { each: 20, symbols: 500 };
const LISTS_CLIENTS: usize = 2000;
const LISTS_RATES: [f64; 2] = [1000.0, 5000.0];
const WARM_UP: Duration = Duration::from_secs(1);
/// 100 messages, so that servers with compression windows have opened them: fanline begins one after 64.
const WARM_UP_DEFLATED: Duration = Duration::from_secs(5);
const RATE_WARM_UP_DEFLATED: f64 = 20.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, name, port] = &arguments[..]
        && command == "serve"
    {
        return serve(name, port.parse().expect("a port"));
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let clients = numbers.next().unwrap_or(1000) as usize;
    let span = Duration::from_secs(numbers.next().unwrap_or(4));
    let runs = numbers.next().unwrap_or(1);
    let is_name = |argument: &&String| !argument.starts_with('-') && argument.parse::<u64>().is_err();
    let chosen: Vec<&String> = arguments.iter().filter(is_name).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()));
    raise_open_files_limit().expect("a limit of open files");
    let target = Path::new(env!("CARGO_BIN_EXE_fanline")).parent().and_then(Path::parent).expect("a target directory");

    let mut report = String::from("# The same load on other servers\n\n| | |\n|---|---|\n");
    for (name, text) in machine::description() {
        let _ = writeln!(report, "| {name} | {text} |");
    }
    let _ = writeln!(
        report,
        "\n{clients} clients, {} s per figure, medians of {runs} runs. CPU and memory of all processes of a server; \
         lost: of deliveries.",
        span.as_secs()
    );
    let mut rounds = Rounds::default();
    let started = Instant::now();
    for run in 1..=runs {
        rounds.begin();
        for (server, peer) in SERVERS.iter().enumerate() {
            if server > OURS && !is_chosen(peer.name) {
                continue;
            }
            eprintln!("{:.0} s, run {run} of {runs}: {}", started.elapsed().as_secs_f64(), peer.name);
            match measure(peer, target, clients, span) {
                Some(row) => rounds.note(server, row),
                None => eprintln!("SKIPPED: {}: it does not start, or gave up; see benches/peers/setup", peer.name),
            }
        }
    }
    report.push_str(&rounds.tables());
    let path = target.join("bench").join("peers.md");
    std::fs::create_dir_all(target.join("bench")).expect("a writable target directory");
    std::fs::write(&path, &report).expect("a writable target directory");
    eprint!("{report}");
    println!("{}", path.display());
}

fn serve(name: &str, port: u16) {
    match name {
        "bare" => bare::serve(port),
        "one-task" => broadcast::serve(port, Variant::OneTask),
        "two-tasks" => broadcast::serve(port, Variant::TwoTasks),
        _ => broadcast::serve(port, Variant::TwoTasksSmallBuffers),
    }
}

/// None if the server does not start. A load that it could not carry has no figures.
fn measure(peer: &Peer, target: &Path, clients: usize, span: Duration) -> Option<Row> {
    let mut row = [f64::NAN; FIGURES];
    plain(&mut row, Stand::open(peer, target, clients, Audience::All, false)?, span);
    if peer.deflates {
        deflated(&mut row, Stand::open(peer, target, clients, Audience::All, true)?, span);
    }
    if peer.subscribe.is_some() {
        lists(&mut row, Stand::open(peer, target, LISTS_CLIENTS, LISTS, false)?, span);
        if peer.deflates {
            lists_deflated(&mut row, Stand::open(peer, target, LISTS_CLIENTS, LISTS, true)?, span);
        }
    }
    Some(row)
}

fn plain(row: &mut Row, mut stand: Stand, span: Duration) -> Option<()> {
    row[Figure::Kib as usize] = stand.kib_per_connection();
    stand.stretch(WARM_UP, Pace::PerSecond(RATE))?;
    let even = stand.stretch(span, Pace::PerSecond(RATE))?;
    note(row, &even, [Figure::CpuUs, Figure::P99Ms, Figure::Lost, Figure::Bytes]);
    let fast = stand.stretch(span, Pace::Max)?;
    row[Figure::PerSecond as usize] = fast.deliveries / fast.seconds;
    row[Figure::SaturatedCpuUs as usize] = fast.cpu_us;
    row[Figure::SaturatedLost as usize] = fast.lost;
    Some(())
}

fn deflated(row: &mut Row, mut stand: Stand, span: Duration) -> Option<()> {
    stand.stretch(WARM_UP_DEFLATED, Pace::PerSecond(RATE_WARM_UP_DEFLATED))?;
    let slow = stand.stretch(span, Pace::PerSecond(RATE_SLOW))?;
    note(row, &slow, [Figure::SlowCpuUs, Figure::SlowP99Ms, Figure::SlowLost, Figure::SlowBytes]);
    let even = stand.stretch(span, Pace::PerSecond(RATE))?;
    note(row, &even, [Figure::DeflatedCpuUs, Figure::DeflatedP99Ms, Figure::DeflatedLost, Figure::DeflatedBytes]);
    row[Figure::DeflatedKib as usize] = stand.kib_per_connection();
    Some(())
}

fn lists(row: &mut Row, mut stand: Stand, span: Duration) -> Option<()> {
    let [slow, fast] = LISTS_RATES.map(Pace::PerSecond);
    stand.stretch(WARM_UP, slow)?;
    let even = stand.stretch(span, slow)?;
    note(row, &even, [Figure::ListsCpuUs, Figure::ListsP99Ms, Figure::ListsLost, Figure::ListsBytes]);
    let fast = stand.stretch(span, fast)?;
    row[Figure::ListsFastCpuUs as usize] = fast.cpu_us;
    row[Figure::ListsFastLost as usize] = fast.lost;
    row[Figure::ListsKib as usize] = stand.kib_per_connection();
    Some(())
}

fn lists_deflated(row: &mut Row, mut stand: Stand, span: Duration) -> Option<()> {
    let pace = Pace::PerSecond(LISTS_RATES[0]);
    stand.stretch(WARM_UP_DEFLATED, pace)?;
    let even = stand.stretch(span, pace)?;
    let figures =
        [Figure::ListsDeflatedCpuUs, Figure::ListsDeflatedP99Ms, Figure::ListsDeflatedLost, Figure::ListsDeflatedBytes];
    note(row, &even, figures);
    row[Figure::ListsDeflatedKib as usize] = stand.kib_per_connection();
    Some(())
}

/// CPU, p99, losses and bytes.
fn note(row: &mut Row, stretch: &Stretch, figures: [Figure; 4]) {
    let bytes = stretch.bytes / stretch.deliveries.max(1.0);
    for (figure, value) in figures.into_iter().zip([stretch.cpu_us, stretch.p99_ms, stretch.lost, bytes]) {
        row[figure as usize] = value;
    }
}
