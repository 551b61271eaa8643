//! Problems of a configuration: all at once, each with its place and remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::settings::kind::Mismatch;
use crate::settings::values::Origin;
use crate::words::nearest::distance as edits;

/// All problems found; at least one. One line each.
#[derive(Debug)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> ConfigError {
        ConfigError { problems: vec![problem] }
    }
}

/// One problem. Only the operator can fix it; a retry does not help.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("expected a readable configuration file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("expected a configuration file of at most 4 MiB, found a larger one, `{}`; check the path", .path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "expected a configuration file that can be read again, found a pipe, a device or a folder, `{}`; restart to read it",
        .path.display()
    )]
    NotAgain { path: PathBuf },
    #[error("{}:{line}: expected TOML: {message}", .path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{origin}: expected {what}, found `{found}`; {remedy}")]
    Unknown { origin: Origin, what: &'static str, found: String, remedy: String },
    #[error("{origin}: {}{mismatch}", subject(.origin, .setting))]
    Value { origin: Origin, setting: &'static str, mismatch: Mismatch },
    #[error("{origin}: {}{sentence}", subject(.origin, .setting))]
    Conflict { origin: Origin, setting: &'static str, sentence: String },
    #[error("{}:{line}: {sentence}", .path.display())]
    Table { path: PathBuf, line: usize, sentence: String },
    #[error("{name}: expected {expected}, found {found}; {remedy}")]
    Variable { name: String, expected: &'static str, found: String, remedy: String },
    #[error(
        "{}: expected a feed, found none; write `url = \"wss://HOST/PATH\"` below `[upstream]`, set FANLINE_UPSTREAM_URL, \
         or write `[simulate]` for the simulated market, whose prices are invented",
        .path.display()
    )]
    NoFeed { path: PathBuf },
}

impl Problem {
    /// Its line in a file, counted from 1; 0 outside of files.
    pub fn line(&self) -> usize {
        match self {
            Problem::Syntax { line, .. } | Problem::Table { line, .. } => *line,
            Problem::Unknown { origin: Origin::File { line, .. }, .. }
            | Problem::Value { origin: Origin::File { line, .. }, .. }
            | Problem::Conflict { origin: Origin::File { line, .. }, .. } => *line,
            _ => 0,
        }
    }
}

/// Names the setting for a line of a file, which may hold several things; variables and flags name it themselves.
fn subject(origin: &Origin, setting: &str) -> String {
    match origin {
        Origin::Default | Origin::File { .. } => format!("{setting}: "),
        Origin::Variable(_) | Origin::Flag(_) => String::new(),
    }
}

/// The remedy for a wrong name: the nearest valid name, or all of its section if none is near.
///
/// A dotted name is near as a whole, or if `found` is its last part.
pub(super) fn nearest<'a>(found: &str, valid: impl Iterator<Item = &'a str> + Clone) -> String {
    let distance = |name: &str| {
        let last = name.rsplit_once('.').map_or(name, |(_, last)| last);
        let found_last = found.rsplit_once('.').map_or(found, |(_, last)| last);
        let whole = edits(found, name);
        if last == found_last { whole.min(1) } else { whole }
    };
    let reach = (found.chars().count() / 3).max(2);
    match valid.clone().map(|name| (distance(name), name)).min() {
        Some((distance, name)) if distance <= reach => format!("did you mean `{name}`?"),
        _ => {
            let section = found.split_once('.').map_or("", |(section, _)| section);
            let siblings = valid.filter(|name| name.split_once('.').is_some_and(|(other, _)| other == section));
            let siblings: Vec<&str> = siblings.collect();
            if siblings.is_empty() {
                "`fanline config --example` lists all settings".into()
            } else {
                format!("valid here: {}", siblings.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_the_nearest_name_or_all_of_the_section() {
        let valid = ["listen", "slow.replay_max", "slow.write_deadline", "log.level"];
        for (found, remedy) in [
            ("slow.reply_max", "did you mean `slow.replay_max`?"),
            ("replay_max", "did you mean `slow.replay_max`?"),
            ("lsiten", "did you mean `listen`?"),
            ("logs.level", "did you mean `log.level`?"),
            ("slow.colour", "valid here: slow.replay_max, slow.write_deadline"),
            ("colour", "`fanline config --example` lists all settings"),
        ] {
            assert_eq!(nearest(found, valid.into_iter()), remedy);
        }
    }
}
