//! `fanline doctor`: what on this machine will hurt a server with this configuration.
//!
//! It reads files of the kernel, resolves names, connects to ports and tries to listen. It changes nothing, and sends
//! nothing to the feed.

mod capacity;
mod machine;
mod reach;
mod storage;

use std::ffi::OsString;
use std::fmt;

use serde::Serialize;

use crate::check;
use crate::config::Effective;
use crate::doctor::machine::Machine;

/// How a fact stands to the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Fine,
    /// It depends on what doctor cannot see.
    Hint,
    /// It will hurt under load, or later.
    Warning,
    /// The server does not start, or has no feed.
    Fault,
}

/// One fact about the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub subject: String,
    pub severity: Severity,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Fact {
    fn fine(subject: impl Into<String>, found: impl Into<String>) -> Fact {
        Fact { subject: subject.into(), severity: Severity::Fine, found: found.into(), remedy: None }
    }

    fn new(
        severity: Severity,
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Fact {
        Fact { subject: subject.into(), severity, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// All that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    pub facts: Vec<Fact>,
}

/// Looks at this machine. With `pid`, limits and cgroup are those of that process, and its listeners are its own.
///
/// `environment` is the one a start would have.
pub fn examine(effective: &Effective, environment: &[(OsString, OsString)], pid: Option<u32>) -> Examination {
    let config = &effective.config;
    let machine = Machine::new(pid);
    let configuration = match check::rehearse(config, &effective.auth) {
        Ok(()) => Fact::fine("configuration", "a start accepts it"),
        Err(error) => Fact::new(Severity::Fault, "configuration", error.to_string(), "`fanline check` says the same"),
    };
    let mut facts = vec![configuration];
    if let Some(pid) = pid.filter(|_| !machine.has_process()) {
        let found = "no process has this number, or /proc does not show it";
        facts.push(Fact::new(
            Severity::Fault,
            format!("process {pid}"),
            found,
            "see `fanline` in `ps`, or leave --pid out",
        ));
    }
    facts.extend(capacity::facts(config, &effective.auth.tiers, &machine));
    if pid.is_none() {
        facts.extend(reach::listeners(config));
    }
    facts.extend(reach::proxies(config, environment));
    facts.extend(reach::names(config));
    facts.extend(storage::facts(config, &machine));
    Examination { facts }
}

impl Examination {
    pub fn count(&self, severity: Severity) -> usize {
        self.facts.iter().filter(|fact| fact.severity == severity).count()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Fine => "ok",
            Severity::Hint => "hint",
            Severity::Warning => "warning",
            Severity::Fault => "fault",
        })
    }
}

/// A line for each fact, and the remedy below it.
impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.facts.iter().map(|fact| fact.subject.chars().count()).max().unwrap_or(0);
        for Fact { subject, severity, found, remedy } in &self.facts {
            writeln!(f, "{severity:7}  {subject:width$}  {found}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:7}  {:width$}  -> {remedy}", "", "")?;
            }
        }
        let (faults, warnings) = (self.count(Severity::Fault), self.count(Severity::Warning));
        write!(f, "faults: {faults}, warnings: {warnings}")
    }
}

/// With a unit that leaves few digits.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_its_fact() {
        let facts = vec![
            Fact::fine("open files", "1024"),
            Fact::new(Severity::Warning, "accept queue", "128", "sysctl -w net.core.somaxconn=4096"),
        ];
        let shown = Examination { facts }.to_string();
        let expected = "\
ok       open files    1024
warning  accept queue  128
                       -> sysctl -w net.core.somaxconn=4096
faults: 0, warnings: 1";
        assert_eq!(shown, expected);
    }

    #[test]
    fn bytes_have_the_unit_that_leaves_few_digits() {
        for (count, expected) in [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB")] {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }
}
