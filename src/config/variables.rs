//! Reading the environment: each `FANLINE_…` variable to its setting, or to the file that it names.
//!
//! A name that is nearly that of a setting was meant as one and is refused. Other names that begin with `FANLINE_` come
//! from other programs, such as Kubernetes for a Service named `fanline`: they are ignored, and their names are reported.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::config::error::{Problem, nearest};
use crate::config::read_word;
use crate::settings::kind::Mismatch;
use crate::settings::setting::{Setting, VARIABLE_CONFIG, VARIABLE_PREFIX, VARIABLES_BESIDE};
use crate::settings::table::{self, TABLE};
use crate::settings::values::{Origin, Values};
use crate::words::nearest::distance;

/// Suffix of a variable that names a file with the value (secrets of Docker and systemd).
const FILE_SUFFIX: &str = "_FILE";
/// A URL or a list of subscriptions is far smaller. An endless file must not fill the memory.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Changed letters that still count as a typing error.
const TYPO_MAX: usize = 2;

/// Reads the environment into `values` and its faults into `problems`; returns the names that were ignored.
pub(super) fn read(
    variables: &[(OsString, OsString)],
    values: &mut Values,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut ignored = Vec::new();
    for (name, word) in variables {
        let name = name.to_string_lossy();
        if !name.starts_with(VARIABLE_PREFIX) || VARIABLES_BESIDE.contains(&&*name) {
            continue;
        }
        let read = match named(&name) {
            Some((setting, false)) => read_value(setting, &name, word, values),
            Some((setting, true)) => open_file(setting, &name, word, variables).and_then(|text| {
                let origin = Origin::Variable(name.clone().into_owned());
                let value = read_word(setting, &text, &origin).map_err(|problem| without_value(problem, word))?;
                values.set(setting, value, origin);
                Ok(())
            }),
            None if is_injected(&name, word) || !is_meant(&name) => {
                ignored.push(name.into_owned());
                continue;
            }
            None => Err(unknown(&name)),
        };
        problems.extend(read.err());
    }
    ignored.sort_unstable();
    ignored
}

/// The path of the configuration file.
///
/// Errors: the variable is set but empty. Without a file the simulated market could be served instead of the feed.
pub(super) fn file(variables: &[(OsString, OsString)]) -> Result<Option<PathBuf>, Problem> {
    let path = variables.iter().find(|(name, _)| name == VARIABLE_CONFIG).map(|(_, path)| path);
    if path.is_some_and(|path| path.is_empty()) {
        return Err(Problem::Variable {
            name: VARIABLE_CONFIG.into(),
            expected: "the path of a configuration file",
            found: "an empty text".into(),
            remedy: "write a path, or remove the variable".into(),
        });
    }
    Ok(path.map(PathBuf::from))
}

/// The setting of a variable, and whether its value is in a file.
fn named(name: &str) -> Option<(&'static Setting, bool)> {
    let find = |name: &str| table::all().find(|setting| setting.variable() == name);
    let in_file = || find(name.strip_suffix(FILE_SUFFIX)?);
    find(name).map(|setting| (setting, false)).or_else(|| in_file().map(|setting| (setting, true)))
}

fn read_value(setting: &'static Setting, name: &str, word: &OsStr, values: &mut Values) -> Result<(), Problem> {
    let origin = Origin::Variable(name.into());
    let Some(word) = word.to_str() else {
        let found = format!("`{}`", word.to_string_lossy());
        let mismatch = Mismatch { expected: "UTF-8".into(), found, remedy: None };
        return Err(Problem::Value { origin, setting: setting.name, mismatch });
    };
    let value = read_word(setting, word, &origin)?;
    values.set(setting, value, origin);
    Ok(())
}

/// The text of the file that a variable names, without the final line break.
fn open_file(
    setting: &Setting,
    name: &str,
    path: &OsStr,
    variables: &[(OsString, OsString)],
) -> Result<String, Problem> {
    let wrong = |expected, found, remedy: &str| {
        Err(Problem::Variable { name: name.into(), expected, found, remedy: remedy.into() })
    };
    let plain = setting.variable();
    if variables.iter().any(|(other, _)| *other == *plain) {
        return wrong("the value or the file that holds it", "both".into(), &format!("remove this or {plain}"));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let shown = format!("`{}`", path.to_string_lossy());
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            wrong("a file of at most 64 KiB", format!("{shown}, which is larger"), "put only the value into the file")
        }
        Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            let found = format!("{shown}: {error}");
            wrong("the path of a readable file that holds the value", found, "check the path and its permissions")
        }
    }
}

/// The content of a file may be secret, so an error names its path instead.
fn without_value(problem: Problem, path: &OsStr) -> Problem {
    match problem {
        Problem::Value { origin, setting, mismatch } => {
            let found = format!("something else in `{}`", path.to_string_lossy());
            let remedy = Some("put only the value into the file".into());
            Problem::Value { origin, setting, mismatch: Mismatch { expected: mismatch.expected, found, remedy } }
        }
        other => other,
    }
}

/// Whether it is a variable that Kubernetes sets for a Service ("Discovering services" in its documentation): `…_SERVICE_HOST`,
/// `…_SERVICE_PORT`, `…_SERVICE_PORT_HTTP`, `…_PORT=tcp://…`, `…_PORT_8080_TCP`, `…_PORT_8080_TCP_ADDR`.
fn is_injected(name: &str, word: &OsStr) -> bool {
    let numbered = |behind: &str| {
        let protocol = behind.trim_start_matches(|c: char| c.is_ascii_digit());
        protocol.len() < behind.len() && ["_TCP", "_UDP", "_SCTP"].iter().any(|known| protocol.starts_with(known))
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && word.to_string_lossy().contains("://"))
        || name.split("_PORT_").skip(1).any(numbered)
}

/// Whether an unknown name was meant as a setting: a typing error, a wrong key of a valid section, or a key without its
/// section.
fn is_meant(name: &str) -> bool {
    let rest = &name[VARIABLE_PREFIX.len()..];
    let is_typo = || names().iter().any(|valid| distance(name, valid) <= TYPO_MAX);
    let in_section = || {
        TABLE.iter().filter(|section| !section.name.is_empty()).any(|section| {
            let behind = rest.strip_prefix(&*section.name.to_uppercase());
            behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('_'))
        })
    };
    is_typo() || in_section() || by_key(rest).is_some()
}

/// The setting with this key, whatever its section.
fn by_key(rest: &str) -> Option<&'static Setting> {
    table::all().find(|setting| setting.key().eq_ignore_ascii_case(rest))
}

fn names() -> Vec<String> {
    table::all().map(Setting::variable).chain(VARIABLES_BESIDE.map(str::to_owned)).collect()
}

fn unknown(name: &str) -> Problem {
    let rest = &name[VARIABLE_PREFIX.len()..];
    let section = TABLE.iter().find(|section| {
        let upper = section.name.to_uppercase();
        !upper.is_empty() && rest.strip_prefix(&*upper).is_some_and(|behind| behind.starts_with('_'))
    });
    let near = names().iter().any(|valid| distance(name, valid) <= (name.len() / 3).max(TYPO_MAX));
    let remedy = match (by_key(rest), section) {
        (Some(setting), _) => format!("did you mean `{}`?", setting.variable()),
        (None, Some(section)) if !near => {
            let siblings: Vec<String> = section.settings.iter().map(Setting::variable).collect();
            format!("valid here: {}", siblings.join(", "))
        }
        _ => nearest(name, names().iter().map(String::as_str)),
    };
    let origin = Origin::Variable(name.into());
    Problem::Unknown { origin, what: "a setting (`FANLINE_SECTION_KEY`)", found: name.into(), remedy }
}

/// One sentence about the variables that were ignored, if any.
pub fn ignored_sentence(ignored: &[String]) -> Option<String> {
    const SHOWN_MAX: usize = 10;
    if ignored.is_empty() {
        return None;
    }
    let shown = ignored.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = ignored.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("ignoring environment variables that are not settings of fanline: {shown}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_variables_are_ignored_and_misspelt_ones_refused() {
        for (name, word, ignored) in [
            ("FANLINE_SERVICE_HOST", "10.0.0.7", true),
            ("FANLINE_SERVICE_PORT", "8080", true),
            ("FANLINE_SERVICE_PORT_HTTP", "8080", true),
            ("FANLINE_PORT", "tcp://10.0.0.7:8080", true),
            ("FANLINE_PORT_8080_TCP", "tcp://10.0.0.7:8080", true),
            ("FANLINE_PORT_8080_TCP_PROTO", "tcp", true),
            ("FANLINE_PORT_8080_TCP_PORT", "8080", true),
            ("FANLINE_PORT_8080_TCP_ADDR", "10.0.0.7", true),
            // Services named `fanline-log` and `fanline-ring`.
            ("FANLINE_LOG_SERVICE_HOST", "10.0.0.7", true),
            ("FANLINE_RING_PORT", "udp://10.0.0.7:53", true),
            ("FANLINE_VERSION", "1.2.3", true),
            ("FANLINE_HOME", "/opt", true),
            ("FANLINE_PORT", "8080", true),
            ("FANLINE_LISTN", "", false),
            ("FANLINE_CONF", "x", false),
            ("FANLINE_UPSTREAM_COLOUR", "1", false),
            ("FANLINE_UPSTREAM", "1", false),
            ("FANLINE_UPSTREAM_PORT", "1", false),
            ("FANLINE_URL", "wss://a.example", false),
            ("FANLINE_REPLAY_MAX", "1s", false),
            ("FANLINE_LOGLEVEL", "info", false),
        ] {
            let variables = [(OsString::from(name), OsString::from(word))];
            let mut problems = Vec::new();
            let left_out = read(&variables, &mut Values::defaults(), &mut problems);
            assert_eq!((left_out.len(), problems.len()), if ignored { (1, 0) } else { (0, 1) }, "{name}={word}");
        }
    }

    #[test]
    fn the_remedy_names_the_variable_that_was_meant() {
        for (name, part) in [
            ("FANLINE_URL", "did you mean `FANLINE_UPSTREAM_URL`?"),
            ("FANLINE_SUBSCRIBE", "did you mean `FANLINE_UPSTREAM_SUBSCRIBE`?"),
            ("FANLINE_LISTN", "did you mean `FANLINE_LISTEN`?"),
            ("FANLINE_RING_COLOUR_OF_THE_RING", "valid here: FANLINE_RING_FRAMES_MAX, FANLINE_RING_BYTES_MAX"),
        ] {
            let problem = unknown(name).to_string();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
