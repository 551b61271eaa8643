//! What a process holds: memory, open files, threads.

use std::fmt;
use std::fs;

use fanline::bench::cpu::usage;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub resident_bytes: u64,
    pub files: usize,
    pub threads: usize,
}

pub fn sample(pid: u32) -> Sample {
    let entries = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count);
    let resident_bytes = usage(pid).map_or(0, |usage| usage.resident_bytes);
    Sample { resident_bytes, files: entries("fd"), threads: entries("task") }
}

/// Of each figure by itself.
pub fn median(samples: &[Sample]) -> Sample {
    fn middle<T: Ord + Copy + Default>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
        let mut all: Vec<T> = samples.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }
    Sample {
        resident_bytes: middle(samples, |sample| sample.resident_bytes),
        files: middle(samples, |sample| sample.files),
        threads: middle(samples, |sample| sample.threads),
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.resident_bytes as f64 / f64::from(1 << 20);
        write!(f, "{mib:.1} MiB, {} files, {} threads", self.files, self.threads)
    }
}
