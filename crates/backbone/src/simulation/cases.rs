//! Seeds, without faults in the decisions and with planted ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::planted::{PlantedFault, plant};
use crate::simulation::{ClusterSimulation, RunReport};

/// More with `SEEDS=10000`.
const SEEDS: u64 = 100;
/// A planted fault is noticed within so many.
const SEEDS_PLANTED: u64 = 1000;

type SeedResult = (u64, Result<RunReport, String>);

/// What is wrong with all nodes of a run.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Nothing,
    Decisions(PlantedFault),
    /// Their driver takes the time from the wall.
    Clock,
}

/// Runs seeds on all cores, until one fails if there is something wrong.
fn run(seeds: Range<u64>, wrong: Wrong) -> Vec<SeedResult> {
    let (next, has_failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let one = |seed| {
        let is_wall = matches!(wrong, Wrong::Clock);
        let run = std::panic::catch_unwind(|| ClusterSimulation::new(seed, is_wall).run());
        (seed, run.map_err(|panic| panic.downcast::<String>().map_or_else(|_| "?".to_owned(), |text| *text)))
    };
    let worker = || {
        plant(if let Wrong::Decisions(fault) = wrong { Some(fault) } else { None });
        let mut results = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_enough = has_failed.load(Ordering::Relaxed) && !matches!(wrong, Wrong::Nothing);
            if seed >= seeds.end || is_enough {
                return results;
            }
            let result: SeedResult = one(seed);
            has_failed.fetch_or(result.1.is_err(), Ordering::Relaxed);
            results.push(result);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it catches")).collect()
    })
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_offset_has_two_contents_whatever_the_log_the_nodes_and_the_network_do() {
    let first = from_env("SEED").unwrap_or(0);
    let results = run(first..first + from_env("SEEDS").unwrap_or(SEEDS), Wrong::Nothing);
    let failed: Vec<String> =
        results.iter().filter_map(|(seed, run)| Some(format!("seed {seed}: {}", run.as_ref().err()?))).collect();
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), results.len(), failed.join("\n"));

    let runs = || results.iter().filter_map(|(_, run)| run.as_ref().ok());
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for (label, count) in runs().flat_map(|run| &run.faults) {
        *faults.entry(label).or_default() += count;
    }
    let total = |of: fn(&RunReport) -> u64| runs().map(of).sum::<u64>();
    let (events, terms) = (total(|run| run.events), total(|run| run.terms));
    let (received, jumps) = (total(|run| run.received), total(|run| run.jumps));
    let (given, taken, dropped) = (total(|run| run.snapshots), total(|run| run.taken), total(|run| run.dropped));
    let agreed = runs().map(|run| run.agreed_after_ms).max().unwrap_or(0);
    println!(
        "{events} events, {terms} terms, {received} received, {jumps} jumps, {given} snapshots, {taken} taken, {dropped} \
         dropped, agreed after {agreed} ms, {faults:?}"
    );
    if results.len() >= 50 {
        assert_eq!(faults.len(), 13, "all faults happened: {faults:?}");
        assert!(terms > results.len() as u64 && jumps > 0 && received > terms);
        assert!(given > 0 && taken > 0 && dropped > 0);
    }
}

/// A fault is noticed by an invariant, within the seeds.
fn check_noticed(wrong: Wrong) {
    let results = run(0..SEEDS_PLANTED, wrong);
    let noticed: Vec<&String> = results.iter().filter_map(|(_, run)| run.as_ref().err()).collect();
    println!("{wrong:?}: noticed within {} seeds: {noticed:?}", results.len());
    assert!(!noticed.is_empty(), "{wrong:?} is not noticed within {SEEDS_PLANTED} seeds");
    let is_invariant = |text: &str| text.rsplit("failed: ").next().is_some_and(|text| text.starts_with('I'));
    assert!(noticed.iter().all(|text| is_invariant(text)), "{wrong:?}: {noticed:?}");
}

#[test]
fn a_second_append_in_flight_is_noticed() {
    check_noticed(Wrong::Decisions(PlantedFault::Pipelined));
}

#[test]
fn a_refusal_taken_for_a_commit_is_noticed() {
    check_noticed(Wrong::Decisions(PlantedFault::RefusalCommits));
}

#[test]
fn an_entry_shown_before_it_is_committed_is_noticed() {
    check_noticed(Wrong::Decisions(PlantedFault::ShownUncommitted));
}

#[test]
fn an_epoch_kept_without_a_witness_is_noticed() {
    check_noticed(Wrong::Decisions(PlantedFault::EpochKept));
}

#[test]
fn entries_believed_without_their_chain_are_noticed() {
    check_noticed(Wrong::Decisions(PlantedFault::NoChainCheck));
}

#[test]
fn a_clock_by_the_wall_is_noticed() {
    check_noticed(Wrong::Clock);
}
