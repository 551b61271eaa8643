//! CPU time and memory of a process, as the kernel counts them.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::words::process::ProcessStat;

/// Usage of one process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads, in the kernel's ticks (usually of 10 ms).
    pub cpu: Duration,
    /// Memory in RAM (VmRSS).
    pub resident_bytes: u64,
}

/// CPU time of this process.
pub fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Usage of another process; none without /proc, or if the process is gone.
pub fn usage(process: u32) -> Option<Usage> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let ticks = ProcessStat::parse(&read("stat")?)?.cpu_ticks;
    let cpu = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    Some(Usage { cpu, resident_bytes: resident_bytes(&read("status")?)? })
}

/// CPU time of everything on this machine, including the kernel's interrupts and what a hypervisor took.
pub fn machine_cpu() -> Option<Duration> {
    let ticks = busy_ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// User, nice, system, irq, softirq and steal of the line of all cores (proc_stat(5)).
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = fields.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    [0, 1, 2, 5, 6, 7].iter().map(|at| fields.get(*at)).sum()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_and_a_process_use_is_found_in_their_files() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 1 1"), Some(63));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    3 kB\n"), Some(3072));
    }
}
