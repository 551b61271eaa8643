//! Everything that can be set: by a TOML file, by `FANLINE_…` variables and by flags; the later ones win.
//!
//! `table` is the single source. What is unknown or out of bounds is refused with its place, never ignored.

pub mod document;
pub mod error;
mod file;
pub mod kind;
pub mod logs;
pub mod table;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

pub use crate::config::table::{
    Compression, Config, Demand, Drain, Heartbeat, Limits, Log, LogFormat, Ping, Ring, Shards, Simulate, Slow, Upstream,
};

use crate::config::error::{ConfigError, Problem, nearest};
use crate::config::kind::{Mismatch, Value};
use crate::config::table::{Setting, VARIABLE_CONFIG, VARIABLE_PREFIX, VARIABLES_BESIDE};
use crate::config::values::{Origin, Values};
use crate::edge::visitors::{check_host, check_origin};
use crate::words::topic::Pattern;

/// What a configuration is put together from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; if none, the variable `FANLINE_CONFIG` is asked.
    pub file: Option<PathBuf>,
    /// The whole environment; what does not start with `FANLINE_` is left alone.
    pub variables: Vec<(OsString, OsString)>,
    pub flags: Vec<Flag>,
}

/// One flag that was given.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As typed, with its dashes: what an error names.
    pub name: String,
    /// The setting it sets.
    pub setting: &'static str,
    /// More than one for a list.
    pub words: Vec<String>,
}

/// The configuration, and where each value comes from.
#[derive(Clone, Debug)]
pub struct Effective {
    pub config: Config,
    pub values: Values,
}

/// Puts the sources together: defaults < file < variables < flags.
///
/// Errors: every problem of every source at once.
pub fn load(sources: &Sources) -> Result<Effective, ConfigError> {
    let mut values = Values::defaults();
    let mut problems = Vec::new();
    let file = sources.file.clone().or_else(|| file_of(&sources.variables));
    if let Some(path) = file {
        file::read(&path, &mut values, &mut problems);
    }
    for (name, word) in &sources.variables {
        if let Err(problem) = read_variable(name, word, &mut values) {
            problems.push(problem);
        }
    }
    for flag in &sources.flags {
        if let Err(problem) = read_flag(flag, &mut values) {
            problems.push(problem);
        }
    }
    finish(values, problems)
}

/// Checks a configuration file by itself, without variables and flags; answers how many settings it sets.
pub fn check(path: &Path) -> Result<usize, ConfigError> {
    let mut values = Values::defaults();
    let mut problems = Vec::new();
    file::read(path, &mut values, &mut problems);
    let effective = finish(values, problems)?;
    let set = |setting: &&Setting| *effective.values.get(setting.name).1 != Origin::Default;
    Ok(table::all().filter(set).count())
}

impl Default for Config {
    /// The defaults of the table.
    fn default() -> Config {
        Config::from_values(&Values::defaults())
    }
}

fn finish(values: Values, mut problems: Vec<Problem>) -> Result<Effective, ConfigError> {
    let config = Config::from_values(&values);
    if problems.is_empty() {
        problems.extend(conflicts(&config, &values));
    }
    if problems.is_empty() { Ok(Effective { config, values }) } else { Err(ConfigError { problems }) }
}

fn file_of(variables: &[(OsString, OsString)]) -> Option<PathBuf> {
    let (_, path) = variables.iter().find(|(name, path)| name == VARIABLE_CONFIG && !path.is_empty())?;
    Some(path.into())
}

fn read_variable(name: &OsStr, word: &OsStr, values: &mut Values) -> Result<(), Problem> {
    let name = name.to_string_lossy();
    if !name.starts_with(VARIABLE_PREFIX) || VARIABLES_BESIDE.contains(&&*name) {
        return Ok(());
    }
    let origin = Origin::Variable(name.clone().into_owned());
    let Some(setting) = table::all().find(|setting| setting.variable() == name) else {
        let valid: Vec<String> =
            table::all().map(Setting::variable).chain(VARIABLES_BESIDE.map(str::to_owned)).collect();
        let remedy = nearest(&name, valid.iter().map(String::as_str));
        let what = "a setting (`FANLINE_SECTION_KEY`)";
        return Err(Problem::Unknown { origin, what, found: name.into_owned(), remedy });
    };
    let Some(word) = word.to_str() else {
        let found = format!("`{}`", word.to_string_lossy());
        let mismatch = Mismatch { expected: "UTF-8".into(), found, remedy: None };
        return Err(Problem::Value { origin, setting: setting.name, mismatch });
    };
    let value = read_word(setting, word, &origin)?;
    values.set(setting, value, origin);
    Ok(())
}

/// A list takes each word as one item; otherwise the last word wins.
fn read_flag(flag: &Flag, values: &mut Values) -> Result<(), Problem> {
    let origin = Origin::Flag(flag.name.clone());
    let setting = table::find(flag.setting).expect("flags are made from the table");
    let value = match (&setting.default(), flag.words.last()) {
        (Some(Value::List(_)), _) => Some(Value::List(flag.words.clone())),
        (_, Some(word)) => read_word(setting, word, &origin)?,
        (_, None) => return Ok(()),
    };
    values.set(setting, value, origin);
    Ok(())
}

fn read_word(setting: &'static Setting, word: &str, origin: &Origin) -> Result<Option<Value>, Problem> {
    if setting.is_optional() && word.trim().is_empty() {
        return Ok(None);
    }
    setting.kind.read_text(word).map(Some).map_err(|mismatch| Problem::Value {
        origin: origin.clone(),
        setting: setting.name,
        mismatch,
    })
}

/// What each setting allows and the settings together do not.
fn conflicts(config: &Config, values: &Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |setting: &'static str, other: &str, sentence: String| {
        let (_, origin) = values.get(setting);
        let origin = if *origin == Origin::Default { values.get(other).1 } else { origin };
        problems.push(Problem::Conflict { origin: origin.clone(), setting, sentence });
    };
    if let Err(error) = crate::bus::history::History::parse(&config.history.keep) {
        refuse("history.keep", "history.keep", error.to_string());
    }
    if let Some(error) = config.upstream.send.iter().find_map(|text| Pattern::parse(text).err()) {
        refuse("upstream.send", "upstream.send", error.to_string());
    }
    if let Some(error) = config.http.allowed_origins.iter().find_map(|text| check_origin(text).err()) {
        refuse("http.allowed_origins", "http.allowed_origins", error.to_string());
    }
    if let Some(error) = config.http.allowed_hosts.iter().find_map(|text| check_host(text).err()) {
        refuse("http.allowed_hosts", "http.allowed_hosts", error.to_string());
    }
    let Upstream { url, profile, subscribe, topic, backoff_min, backoff_max, .. } = &config.upstream;
    if backoff_min > backoff_max {
        let (min, max) = (Value::Duration(*backoff_min), Value::Duration(*backoff_max));
        let sentence = format!(
            "expected upstream.backoff_min to be at most upstream.backoff_max, found `{min}` and `{max}`; raise the maximum or lower the minimum"
        );
        refuse("upstream.backoff_min", "upstream.backoff_max", sentence);
    }
    if let (Some(profile), Some(topic)) = (profile, topic)
        && profile != "generic"
    {
        let sentence = format!(
            "expected topics from the profile `{profile}` or from the pointer `{topic}`, found both; leave one of them out"
        );
        refuse("upstream.topic", "upstream.profile", sentence);
    }
    if url.is_none() && profile.is_none() {
        let remedy = "the simulated market needs neither; give the URL, or leave this out";
        if !subscribe.is_empty() {
            let found = subscribe.join(",");
            let sentence = format!("expected a feed to subscribe at, found `{found}` without upstream.url; {remedy}");
            refuse("upstream.subscribe", "upstream.url", sentence);
        }
        if let Some(found) = topic {
            let sentence = format!("expected a feed to find topics in, found `{found}` without upstream.url; {remedy}");
            refuse("upstream.topic", "upstream.url", sentence);
        }
    }
    problems
}
