//! The number of clients a machine serves: doubles it until it is too much, then halves the interval, within a given time.
//!
//! Too much means: the 99th percentile of latency is above its bound, something was lost or skipped, or the feed could not
//! send all its messages. A busy CPU alone is not too much: rounds then grow and messages share them, which costs latency
//! first. The number of clients with CPU to spare is reported separately.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::BenchError;
use super::harness::{BenchHarness, Measurement};
use super::options::RateOption;
use super::plan::Plan;

const CLIENTS_FIRST: usize = 250;
const STEP: Duration = Duration::from_secs(2);
/// Time of a step with connecting, warm-up and pauses.
const STEP_WHOLE: Duration = Duration::from_secs(6);
/// Share of all cores in use, by any process, above which the CPU counts as busy.
const BUSY: f64 = 0.9;
/// Share of the requested rate that a feed must reach.
const RATE_REACHED: f64 = 0.95;
/// The search ends when the interval is this share of the number.
const PRECISION: f64 = 0.1;

/// The result of a search.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// The most clients served well; 0 if none.
    pub clients: usize,
    /// The most clients served well with CPU to spare.
    pub clients_with_cpu_to_spare: usize,
    /// Why not more, or why more were not tried.
    pub limit: String,
    pub cores: usize,
    /// In chronological order.
    pub steps: Vec<Measurement>,
}

impl Capacity {
    /// Searches up to `plan.clients`; also returns the step that counts.
    pub fn find(
        harness: &mut BenchHarness,
        plan: &Plan,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(Measurement, Capacity), BenchError> {
        let started = Instant::now();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut steps: Vec<Measurement> = Vec::new();
        let (mut good, mut bad) = (0, None);
        let mut limit = "the time for the search ran out".to_owned();
        let mut next = CLIENTS_FIRST.min(plan.clients);
        while steps.is_empty() || started.elapsed() + STEP_WHOLE < plan.span {
            let (clients, fault) = match attempt(harness, plan, next, progress) {
                Ok((step, fault)) => {
                    steps.push(step);
                    (next, fault)
                }
                // Clients that cannot connect are too many; if none can, that is an error.
                Err(error) if steps.is_empty() => return Err(error),
                Err(error) => (next, Some(error.to_string())),
            };
            match fault {
                None => good = clients,
                Some(fault) => {
                    progress(&format!("{clients} clients are too many: {fault}"));
                    (bad, limit) = (Some(clients), fault);
                }
            }
            next = match bad {
                None if good >= plan.clients => {
                    limit = format!("{good} clients were the most to try (--clients, or the limit of open files)");
                    break;
                }
                None => (good * 2).min(plan.clients),
                Some(bad) if ((bad - good) as f64) <= PRECISION * bad as f64 || bad <= 1 => break,
                Some(bad) => (good + bad) / 2,
            };
        }
        let served = |step: &&Measurement| step.clients <= good && fault(step, plan).is_none();
        let busy = |step: &Measurement| {
            step.server.map_or(0.0, |server| server.cores) + step.generator_cores + step.other_cores.unwrap_or(0.0)
        };
        let spare = steps.iter().filter(served).filter(|step| busy(step) < BUSY * cores as f64);
        let clients_with_cpu_to_spare = spare.map(|step| step.clients).max().unwrap_or(0);
        let best = steps.iter().filter(served).max_by_key(|step| step.clients).or(steps.first());
        let best = best.cloned().ok_or(BenchError::NotListening)?;
        Ok((best, Capacity { clients: good, clients_with_cpu_to_spare, limit, cores, steps }))
    }
}

/// One step with its fault, if any. A faulty step is repeated once, because the machine has other work.
fn attempt(
    harness: &mut BenchHarness,
    plan: &Plan,
    clients: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<(Measurement, Option<String>), BenchError> {
    harness.fill(clients, progress)?;
    harness.warm_up();
    let step = harness.measure(STEP, None, progress);
    match fault(&step, plan) {
        None => Ok((step, None)),
        Some(_) => {
            let step = harness.measure(STEP, None, progress);
            let fault = fault(&step, plan);
            Ok((step, fault))
        }
    }
}

/// Why a step was too much, if it was.
fn fault(step: &Measurement, plan: &Plan) -> Option<String> {
    let p99_ms = step.latency.map_or(f64::INFINITY, |latency| latency.p99_us / 1000.0);
    let max_ms = plan.latency_max.as_secs_f64() * 1000.0;
    let missing = step.lost.unwrap_or(0) + step.gaps;
    if step.ended > 0 {
        return Some(format!("the server ended the connection of {} of them", step.ended));
    }
    if step.skips > 0 || missing > 0 {
        return Some(format!("{missing} deliveries were lost, {} clients received skips", step.skips));
    }
    if step.deliveries == 0 {
        return Some("nothing was delivered".into());
    }
    if p99_ms > max_ms {
        return Some(format!("the 99th percentile of latency was {p99_ms:.0} ms, above {max_ms:.0} ms"));
    }
    if step.unheard > 0 {
        return Some(format!("the server lost its feed and missed {} messages", step.unheard));
    }
    match (plan.rate(), step.feed_messages) {
        (Some(RateOption::PerSecond(rate)), Some(sent))
            if ((sent + 1) as f64) < RATE_REACHED * rate * STEP.as_secs_f64() =>
        {
            Some(format!("the feed could send only {sent} messages, in {} s at {rate} per second", STEP.as_secs()))
        }
        _ => None,
    }
}
