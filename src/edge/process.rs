//! Resources of this process, named as in Prometheus' client libraries ("Process metrics"), read at each scrape.
//!
//! From /proc (proc_pid_stat(5)); without it the series are left out. They are written here and not by the recorder,
//! because its counters are whole numbers, and seconds of CPU are not.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::words::process::ProcessStat;

/// Constant properties of this process.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Process {
    /// Unix time of the start, in seconds. Computed once: a second result would differ a little, and look like a restart.
    start_seconds: Option<f64>,
}

impl Process {
    pub(super) fn this() -> Process {
        let ticks = stat().map(|stat| stat.start_ticks);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        // Not `btime` of /proc/stat, which a hardened service does not see.
        let boot = clock_gettime(ClockId::Boottime);
        let up = boot.tv_sec as f64 + boot.tv_nsec as f64 / 1e9;
        let since_boot = |ticks| ticks as f64 / clock_ticks_per_second() as f64;
        Process { start_seconds: ticks.map(|ticks| ((now - up + since_boot(ticks)) * 100.0).round() / 100.0) }
    }

    /// Appends the series to an exposition in the Prometheus text format.
    pub(super) fn put(self, text: &mut String) {
        if let Some(stat) = stat() {
            let cpu = stat.cpu_ticks as f64 / clock_ticks_per_second() as f64;
            put_one(text, "process_cpu_seconds_total", "counter", ("User and system CPU time, in seconds.", cpu));
            let resident = stat.resident_pages as f64 * page_size() as f64;
            put_one(text, "process_resident_memory_bytes", "gauge", ("Memory in RAM, in bytes.", resident));
            let virtual_bytes = stat.virtual_bytes as f64;
            put_one(text, "process_virtual_memory_bytes", "gauge", ("Address space in use, in bytes.", virtual_bytes));
            put_one(text, "process_threads", "gauge", ("Threads of the process.", stat.threads as f64));
        }
        if let Some(start) = self.start_seconds {
            put_one(text, "process_start_time_seconds", "gauge", ("Unix time of the start, in seconds.", start));
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            put_one(text, "process_open_fds", "gauge", ("Open files and sockets.", files.count() as f64));
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            put_one(text, "process_max_fds", "gauge", ("Files and sockets that may be open.", max as f64));
        }
    }
}

fn stat() -> Option<ProcessStat> {
    ProcessStat::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

fn put_one(text: &mut String, name: &str, kind: &str, (help, value): (&str, f64)) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").expect("a String takes everything");
}
