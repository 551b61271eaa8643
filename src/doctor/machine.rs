//! What the kernel says of this machine and of a process on it. What it does not say is none.

use std::fs;
use std::path::{Path, PathBuf};

/// Linux, seen through /proc, /sys and /run.
pub struct Machine {
    /// `/`, another folder in tests.
    root: PathBuf,
    /// `self`, or a process id.
    process: String,
}

impl Machine {
    pub fn new(pid: Option<u32>) -> Machine {
        Machine::at(Path::new("/"), pid)
    }

    pub fn at(root: &Path, pid: Option<u32>) -> Machine {
        Machine { root: root.into(), process: pid.map_or_else(|| "self".into(), |pid| pid.to_string()) }
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// Whether the process is there.
    pub fn has_process(&self) -> bool {
        self.exists(&format!("proc/{}", self.process))
    }

    /// The numbers of a kernel setting, such as `net.core.somaxconn`.
    pub fn sysctl(&self, name: &str) -> Option<Vec<u64>> {
        let text = self.text(&format!("proc/sys/{}", name.replace('.', "/")))?;
        text.split_whitespace().map(|number| number.parse().ok()).collect()
    }

    /// The hard limit of open files of the process: fanline raises its own limit to it. No limit is `u64::MAX`.
    pub fn open_files_max(&self) -> Option<u64> {
        let limits = self.text(&format!("proc/{}/limits", self.process))?;
        let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
        let hard = line.split_whitespace().nth(4)?;
        if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() }
    }

    /// The memory that the process may use, and what says so.
    pub fn memory_max(&self) -> Option<(u64, &'static str)> {
        let info = self.text("proc/meminfo")?;
        let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let total = total.split_whitespace().next()?.parse::<u64>().ok()? << 10;
        let limits = self.cgroup_folders().into_iter().filter_map(|folder| {
            let limit = self.text(&format!("{folder}/memory.max"));
            let limit = limit.or_else(|| self.text(&format!("{folder}/memory.limit_in_bytes")))?;
            limit.trim().parse::<u64>().ok()
        });
        let least = limits.min().filter(|limit| *limit < total);
        Some(least.map_or((total, "the machine"), |limit| (limit, "the cgroup")))
    }

    /// The cores that the cgroup of the process may use, if it has such a limit.
    pub fn cores_max(&self) -> Option<f64> {
        let quotas = self.cgroup_folders().into_iter().filter_map(|folder| {
            let text = self.text(&format!("{folder}/cpu.max"))?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        quotas.reduce(f64::min)
    }

    /// Those of the process and of all above it, of both versions.
    fn cgroup_folders(&self) -> Vec<String> {
        let Some(lines) = self.text(&format!("proc/{}/cgroup", self.process)) else { return Vec::new() };
        let mut folders = Vec::new();
        for line in lines.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let base = match controllers {
                "" => "sys/fs/cgroup",
                "memory" => "sys/fs/cgroup/memory",
                _ => continue,
            };
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            folders.extend(above.chain([path.trim_end_matches('/')]).map(|path| format!("{base}{path}")));
        }
        folders
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A machine of these files.
    pub fn machine(name: &str, files: &[(&str, &str)]) -> Machine {
        let root = std::env::temp_dir().join(format!("fanline-doctor-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
            fs::write(path, text).expect("a writable file");
        }
        Machine::at(&root, Some(7))
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let machine = machine(
            "cgroup",
            &[
                ("proc/meminfo", "MemTotal:        4194304 kB\nMemFree: 1 kB\n"),
                ("proc/7/cgroup", "0::/system.slice/fanline.service\n"),
                (
                    "proc/7/limits",
                    "Limit  Soft  Hard  Units\nMax open files            1024                 524288               files     \n",
                ),
                ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/system.slice/fanline.service/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/fanline.service/cpu.max", "150000 100000\n"),
                ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ],
        );
        assert_eq!(machine.memory_max(), Some((1 << 30, "the cgroup")));
        assert_eq!(machine.cores_max(), Some(1.5));
        assert_eq!(machine.open_files_max(), Some(524_288));
        assert_eq!(machine.sysctl("net.ipv4.ip_local_port_range"), Some(vec![32_768, 60_999]));
        assert_eq!(machine.sysctl("net.core.somaxconn"), None);
        fs::remove_dir_all(&machine.root).expect("its own folder");
    }

    #[test]
    fn a_machine_without_cgroups_has_its_memory() {
        let files = [
            ("proc/meminfo", "MemTotal: 1024 kB\n"),
            ("proc/7/cgroup", "4:memory:/docker/a\n1:name=systemd:/\n"),
            ("sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let machine = machine("plain", &files);
        assert_eq!(machine.memory_max(), Some((1 << 20, "the machine")));
        assert_eq!((machine.cores_max(), machine.open_files_max()), (None, None));
        fs::remove_dir_all(&machine.root).expect("its own folder");
    }
}
