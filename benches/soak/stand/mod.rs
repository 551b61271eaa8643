//! Two servers that are not left alone: clients come and go, stall, hang up and change their lists; the feed fails in
//! every way; configurations are reloaded, half of them broken; one server is killed and started again.
//!
//! Witnesses among the clients hold the server to its protocol: each offset comes once, or its absence is told. When the
//! crowd has left, the server that was not killed must have as many open files and threads as before.

mod crowd;
mod faults;
mod measures;
mod witness;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use kit::eventually;
use kit::faulty_feed::FaultyFeed;
use kit::program::Program;
use tokio::runtime::Runtime;

use crowd::Crowd;
use faults::{Configuration, FaultSchedule, KilledServer, unexplained};
pub use measures::Sample;
use measures::sample;
use witness::Witness;

/// Between two looks.
const STEP: Duration = Duration::from_millis(100);

/// How long, and with how many.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub time: Duration,
    pub clients: usize,
    pub witnesses: usize,
    /// Between two faults of the feed, and between two reloads.
    pub fault_every: Duration,
    /// Between two kills.
    pub kill_every: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct SoakReport {
    /// Name and count of what was done to the servers.
    pub faults: Vec<(String, u64)>,
    /// Messages that witnesses checked, and how often they were told of missing ones.
    pub checked: u64,
    pub told: u64,
    /// What was missing, twice or out of order without a word.
    pub untold: Vec<String>,
    /// Warnings and errors in the log that none of the faults explains.
    pub unexplained: Vec<String>,
    /// Medians of each quarter, with the crowd.
    pub quarters: Vec<Sample>,
    /// Without the crowd, before and after.
    pub before: Sample,
    pub after: Sample,
}

impl SoakReport {
    /// What must not be, whatever the machine is busy with.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = [self.untold.clone(), self.unexplained.clone()].concat();
        if self.checked == 0 {
            violations.push("the witnesses have seen nothing".into());
        }
        violations.extend(self.faults.iter().filter(|(_, count)| *count == 0).map(|(name, _)| format!("no {name}")));
        for (what, before, after) in
            [("open files", self.before.files, self.after.files), ("threads", self.before.threads, self.after.threads)]
        {
            if after > before {
                violations.push(format!("{what}: {before} before the crowd, {after} after it"));
            }
        }
        violations
    }

    /// Memory of the last quarter by that of the first.
    pub fn growth(&self) -> f64 {
        match (self.quarters.first(), self.quarters.last()) {
            (Some(first), Some(last)) => last.resident_bytes as f64 / first.resident_bytes as f64,
            _ => f64::NAN,
        }
    }
}

/// Runs it all; `progress` gets a line each quarter.
pub fn run(plan: Plan, seed: u64, progress: impl Fn(&str)) -> SoakReport {
    fanline::open_files::raise_open_files_limit().expect("the hard limit of open files is allowed");
    let runtime = Runtime::new().expect("threads");
    let feed = runtime.block_on(FaultyFeed::open());
    let configuration = Configuration::write(&feed.ws());
    let server = configuration.serve();
    let mut killed = KilledServer::start(&feed.ws());
    eventually("the feed flows", || (server.get("/readyz").status == 200).then_some(()));
    // Threads that only a reload needs are there from here on.
    server.signal("HUP");
    eventually("a reload", || (reloads(&server) > 0.0).then_some(()));
    let before = settled(server.pid());

    let is_over = Arc::new(AtomicBool::new(false));
    let crowd = Crowd::come(&runtime, server.addr(), plan.clients, seed, &is_over);
    let addresses = [server.addr(), killed.address()];
    let witnesses: Vec<_> = (0..plan.witnesses)
        .map(|index| runtime.spawn(Witness::watch(addresses[index % addresses.len()], index, is_over.clone())))
        .collect();

    let begun = Instant::now();
    let mut schedule = FaultSchedule::new(plan, seed);
    let mut quarters = Vec::new();
    for quarter in 1..=4 {
        let mut samples = Vec::new();
        while begun.elapsed() < plan.time * quarter / 4 {
            thread::sleep(STEP);
            schedule.step(begun.elapsed(), &feed, (&server, &configuration), &mut killed);
            samples.push(sample(server.pid()));
        }
        let median = measures::median(&samples);
        progress(&format!("quarter {quarter}: {median}; {}", crowd.counts()));
        quarters.push(median);
    }

    schedule.calm(&feed);
    eventually("both servers are well", || {
        let are_well = server.get("/readyz").status == 200 && killed.is_ready();
        are_well.then_some(())
    });
    is_over.store(true, Relaxed);
    let mut report = SoakReport { before, quarters, ..SoakReport::default() };
    for witness in witnesses {
        let seen = runtime.block_on(witness).expect("a witness does not panic");
        report.checked += seen.checked;
        report.told += seen.told;
        report.untold.extend(seen.untold);
    }
    crowd.leave(&runtime);
    let sessions = || kit::http::sum(&server.get("/metrics").body, "fanline_sessions", "");
    eventually("all sessions have ended", || (sessions() == 0.0).then_some(()));
    eventually("connections are closed", || (sample(server.pid()).files <= before.files).then_some(()));
    report.after = settled(server.pid());
    report.faults = [schedule.counts(&feed), crowd.counts_by_name()].concat();
    report.unexplained = [unexplained(&server.log()), killed.unexplained()].concat();
    report
}

fn reloads(server: &Program) -> f64 {
    kit::http::sum(&server.get("/metrics").body, "fanline_reloads_total", "")
}

/// Once open files and threads have not changed for some looks.
fn settled(pid: u32) -> Sample {
    let mut last = sample(pid);
    let mut same = 0;
    eventually("open files and threads settle", || {
        let now = sample(pid);
        same = if (now.files, now.threads) == (last.files, last.threads) { same + 1 } else { 0 };
        last = now;
        (same >= 50).then_some(())
    });
    last
}
