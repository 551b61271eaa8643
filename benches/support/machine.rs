//! Where and when something was measured.

use std::process::Command;
use std::time::SystemTime;

/// One line for each: machine, kernel, compiler, commit, time, load.
pub fn description() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let memory = line_of("/proc/meminfo", "MemTotal").unwrap_or_default();
    let dirty = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    let commit = said("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    vec![
        ("machine", format!("{cores} cores, {model}, {memory}")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("rustc", said("rustc", &["--version"]).unwrap_or_default()),
        ("commit", format!("{commit}{}", if dirty { ", with changes" } else { "" })),
        ("date", humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        ("load average before", load()),
    ]
}

/// Processes that wanted a core, over 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(", ")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn line_of(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
