//! Figures of a process from `/proc/PID/stat` on Linux (proc_pid_stat(5)).

/// Some of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// User and system time of all threads.
    pub cpu_ticks: u64,
    pub threads: u64,
    /// Since the machine was started.
    pub start_ticks: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
}

impl ProcessStat {
    /// Fields 14, 15, 20, 22, 23 and 24; the name before them may hold anything, brackets too.
    pub fn parse(stat: &str) -> Option<ProcessStat> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(ProcessStat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b) (c) R 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20 0 5 0 900 4096 3 18446744073709551615 1";
        let expected =
            ProcessStat { cpu_ticks: 42, threads: 5, start_ticks: 900, virtual_bytes: 4096, resident_pages: 3 };
        assert_eq!(ProcessStat::parse(stat), Some(expected));
        assert_eq!(ProcessStat::parse("7 (a) R 1 2"), None);
    }
}
