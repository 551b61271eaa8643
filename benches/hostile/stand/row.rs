//! What one attack has done, and whether the server has held.

use std::time::Duration;

use fanline::bench::client_pool::PoolTotals;

use super::GROWTH_BYTES_MAX;
use super::attack::Found;
use super::newcomers::Waits;

/// An attack may multiply the honest clients' 99th percentile by at most this.
const P99_RATIO_MAX: f64 = 3.0;
/// No client may ever wait longer.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// What was seen in one phase.
#[derive(Debug)]
pub struct Phase {
    /// From the moment a message was due at the feed until a client had it; in milliseconds.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub longest_ms: f64,
    /// Deliveries that honest clients have not received, even if `skipped` reported them.
    pub lost: u64,
    pub repeated: u64,
    /// Messages `skipped` to honest clients.
    pub skips: u64,
    /// Honest clients whose connection the server has ended.
    pub ended: u64,
    /// Cores that the server kept busy.
    pub cpu: f64,
    pub newcomers: Waits,
}

/// One attack, measured.
#[derive(Debug)]
pub struct Row {
    pub attack: &'static str,
    pub sent_bytes: u64,
    /// Connections of the attacker that were refused or cut.
    pub turned_away: u64,
    pub quiet: Phase,
    pub attacked: Phase,
    pub after: Option<Phase>,
    /// Most memory in RAM during and after the attack, less what it was before.
    pub growth_bytes: u64,
    /// The server ended without SIGTERM.
    pub ended: bool,
    pub found: Found,
    pub ends_server: bool,
}

impl Phase {
    /// `settled` is for how long clients were waited for after the last message.
    pub fn new(look: &PoolTotals, settled: Duration, newcomers: Waits, cpu: f64) -> Phase {
        let ages = &look.tally.ages;
        let ms = |ns: u64| ns as f64 / 1e6;
        // Clients that received neither their frames nor `skipped` still wait.
        let still = if look.lost > 0 && look.tally.skips == 0 { settled } else { Duration::ZERO };
        Phase {
            p50_ms: ms(ages.value_at_quantile(0.5)),
            p99_ms: ms(ages.value_at_quantile(0.99)),
            longest_ms: ms(ages.max().max(still.as_nanos() as u64)),
            lost: look.lost,
            repeated: look.repeated,
            skips: look.tally.skips,
            ended: look.ended,
            cpu,
            newcomers,
        }
    }
}

impl Row {
    pub fn p99_ratio(&self) -> f64 {
        self.attacked.p99_ms / self.quiet.p99_ms
    }

    /// What must hold on any machine, however busy: nothing lost, memory bounded, the server alive.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.found.faults.clone();
        if self.ended {
            faults.push("the server has ended".into());
        }
        if self.growth_bytes > GROWTH_BYTES_MAX {
            faults.push(format!("memory +{} MiB", self.growth_bytes >> 20));
        }
        if self.ends_server {
            return faults;
        }
        let phases = || [&self.quiet, &self.attacked].into_iter().chain(&self.after);
        for (name, count) in [
            ("lost", phases().map(|phase| phase.lost).sum::<u64>()),
            ("repeated", phases().map(|phase| phase.repeated).sum()),
            ("cut off", phases().map(|phase| phase.ended).max().unwrap_or(0)),
            ("newcomers refused", phases().map(|phase| phase.newcomers.refused).sum()),
        ] {
            if count > 0 {
                faults.push(format!("{count} {name}"));
            }
        }
        faults
    }

    /// What must hold, too, on a machine without other work.
    pub fn delays(&self) -> Vec<String> {
        if self.ends_server {
            return Vec::new();
        }
        let mut delays = self.found.delays.clone();
        if self.p99_ratio() > P99_RATIO_MAX {
            delays.push(format!("p99 x{:.1}", self.p99_ratio()));
        }
        let late = |ms: f64| ms > WAIT_MAX.as_secs_f64() * 1e3;
        let Waits { join_ms, snapshot_ms, .. } = self.attacked.newcomers;
        for (name, ms) in [("wait", self.attacked.longest_ms), ("join", join_ms), ("snapshot", snapshot_ms)] {
            if late(ms) {
                delays.push(format!("{name} {ms:.0} ms"));
            }
        }
        delays
    }
}
