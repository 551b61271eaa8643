//! Seeds.

use std::collections::BTreeMap;

use crate::simulation::{ClusterSimulation, RunReport};

/// More with `SEEDS=10000`.
const SEEDS: u64 = 150;

fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

/// Runs seeds on all cores; gives the report of each, or what it panicked with.
fn run(seeds: std::ops::Range<u64>) -> Vec<(u64, Result<RunReport, String>)> {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let one = |seed| {
        let run = std::panic::catch_unwind(|| ClusterSimulation::new(seed).run());
        (seed, run.map_err(|panic| panic.downcast::<String>().map_or_else(|_| "?".to_owned(), |text| *text)))
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        let worker = || {
            let mut reports = Vec::new();
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if seed >= seeds.end {
                    return reports;
                }
                reports.push(one(seed));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it catches")).collect()
    })
}

#[test]
fn no_offset_has_two_contents_whatever_the_log_the_nodes_and_the_network_do() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let reports = run(first..first + seeds());
    let failed: Vec<String> =
        reports.iter().filter_map(|(seed, run)| Some(format!("seed {seed}: {}", run.as_ref().err()?))).collect();
    let runs = || reports.iter().filter_map(|(_, run)| run.as_ref().ok());
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for (label, count) in runs().flat_map(|run| &run.faults) {
        *faults.entry(label).or_default() += count;
    }
    let total = |of: fn(&RunReport) -> u64| runs().map(of).sum::<u64>();
    println!(
        "{} events, {} terms, {} received, {} jumps, agreed after at most {} ms, {faults:?}",
        total(|run| run.events),
        total(|run| run.terms),
        total(|run| run.received),
        total(|run| run.jumps),
        runs().map(|run| run.agreed_after_ms).max().unwrap_or(0)
    );
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), reports.len(), failed.join("\n"));
}
