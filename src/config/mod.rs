//! Loading the configuration: a TOML file, `FANLINE_…` variables and flags. Later sources win.
//!
//! `settings::table` is the single source. Unknown names and values out of bounds are refused with their place, never
//! ignored.

pub mod change;
pub mod document;
pub mod effective;
pub mod error;
mod file;
pub mod log_queue;
pub mod logs;
pub mod variables;

use std::ffi::OsString;
use std::path::PathBuf;

pub use crate::config::file::File;

use crate::config::effective::{BACKOFF_MAX, BACKOFF_MIN};
use crate::config::error::{ConfigError, Problem};
use crate::config::file::BesideSettings;
use crate::edge::http::origins::{check_host, check_origin};
use crate::identity::tables::AuthTables;
use crate::settings::kind::{SettingKind, SettingValue};
use crate::settings::listener::ListenAddress;
use crate::settings::setting::Setting;
use crate::settings::table::{self, Config, DemandMode, UpstreamSettings};
use crate::settings::values::{Origin, Values};
use crate::words::topic::Pattern;

/// The sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    /// `--config`; if none, the variable `FANLINE_CONFIG` counts.
    pub file: Option<PathBuf>,
    /// The whole environment; names without `FANLINE_` in front are ignored.
    pub variables: Vec<(OsString, OsString)>,
    pub flags: Vec<Flag>,
}

/// One given flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As typed, with its dashes; errors name it so.
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
    /// The tables below `[auth]`.
    pub auth: AuthTables,
    /// Variables `FANLINE_…` that are not settings.
    pub ignored: Vec<String>,
    file: Option<PathBuf>,
    /// The file has a section `[simulate]`.
    has_simulate: bool,
}

impl Effective {
    /// Settings that the file sets.
    pub fn in_file(&self) -> usize {
        table::all().filter(|setting| matches!(self.values.get(setting.name).1, Origin::File { .. })).count()
    }

    /// Refuses a file without a feed: invented prices would be served in its place.
    ///
    /// Errors: the file names no feed and has no section `[simulate]`, and neither have variables and flags.
    pub fn require_feed(&self) -> Result<(), ConfigError> {
        let UpstreamSettings { url, profile, .. } = &self.config.upstream;
        let is_set = |setting: &Setting| *self.values.get(setting.name).1 != Origin::Default;
        let simulates = || table::all().any(|setting| setting.name.starts_with("simulate.") && is_set(setting));
        match &self.file {
            Some(path)
                if url.is_none()
                    && profile.is_none()
                    && self.config.relay.parents.is_empty()
                    && !self.has_simulate
                    && !simulates() =>
            {
                Err(Problem::NoFeed { path: path.clone() }.into())
            }
            _ => Ok(()),
        }
    }
}

/// As `load`, for a server that runs: it cannot wait for a pipe, which may never be written to again.
///
/// Errors: as of `load`, or the file is none.
pub fn load_again(sources: &ConfigSources) -> Result<Effective, ConfigError> {
    match file_of(sources)? {
        Some(path) if path.metadata().is_ok_and(|metadata| !metadata.is_file()) => {
            Err(Problem::NotAgain { path }.into())
        }
        _ => load(sources),
    }
}

fn file_of(sources: &ConfigSources) -> Result<Option<PathBuf>, ConfigError> {
    match &sources.file {
        Some(path) => Ok(Some(path.clone())),
        None => Ok(variables::file(&sources.variables)?),
    }
}

/// Combines the sources: defaults < file < variables < flags.
///
/// Errors: every problem of every source at once.
pub fn load(sources: &ConfigSources) -> Result<Effective, ConfigError> {
    let Some(path) = file_of(sources)? else { return load_text(None, sources) };
    match file::open(&path) {
        Ok(text) => load_text(Some(&File { path: &path, text: &text }), sources),
        Err(unreadable) => {
            let others = load_text(None, sources).err().map_or_else(Vec::new, |error| error.problems);
            Err(ConfigError { problems: std::iter::once(unreadable).chain(others).collect() })
        }
    }
}

/// As [`load`], with a file that has been read, or with none.
pub fn load_text(file: Option<&File<'_>>, sources: &ConfigSources) -> Result<Effective, ConfigError> {
    let mut values = Values::defaults();
    let mut problems = Vec::new();
    let beside = file.map(|file| file::read(file, &mut values, &mut problems)).unwrap_or_default();
    let ignored = variables::read(&sources.variables, &mut values, &mut problems);
    for flag in &sources.flags {
        if let Err(problem) = read_flag(flag, &mut values) {
            problems.push(problem);
        }
    }
    let config = Config::from_values(&values);
    if problems.is_empty() {
        problems.extend(conflicts(&config, &values));
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let BesideSettings { has_simulate, auth } = beside;
    Ok(Effective { config, values, auth, file: file.map(|file| file.path.into()), has_simulate, ignored })
}

/// Reads the words of a flag. In a list each word is one item; otherwise the last word wins.
fn read_flag(flag: &Flag, values: &mut Values) -> Result<(), Problem> {
    let origin = Origin::Flag(flag.name.clone());
    let setting = table::find(flag.setting).expect("flags are made from the table");
    let value = match (&setting.default(), flag.words.last()) {
        (Some(SettingValue::List(_)), _) => Some(SettingValue::List(flag.words.clone())),
        (Some(SettingValue::Listeners(_) | SettingValue::Proxies(_)), Some(_)) => {
            read_word(setting, &flag.words.join(","), &origin)?
        }
        (_, Some(word)) => read_word(setting, word, &origin)?,
        (_, None) => return Ok(()),
    };
    values.set(setting, value, origin);
    Ok(())
}

/// Where the canary connects: the first address at which it can speak.
pub fn canary_listener(listen: &[ListenAddress], asks_for_certificates: bool) -> Option<&ListenAddress> {
    let can_speak = |listener: &&ListenAddress| {
        listener.socket_addr().is_some() && !listener.proxy && !(listener.tls && asks_for_certificates)
    };
    listen.iter().find(can_speak)
}

fn read_word(setting: &'static Setting, word: &str, origin: &Origin) -> Result<Option<SettingValue>, Problem> {
    // An empty URL in a variable does not ask for the simulated market.
    if setting.is_optional() && word.trim().is_empty() && !matches!(setting.kind, SettingKind::FeedUrl) {
        return Ok(None);
    }
    setting.kind.read_text(word).map(Some).map_err(|mismatch| Problem::Value {
        origin: origin.clone(),
        setting: setting.name,
        mismatch,
    })
}

/// Conflicts between settings that are valid one by one.
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
    for line in &config.upstream.headers {
        if let Err(problem) = crate::profile::headers::read_line(line) {
            refuse("upstream.headers", "upstream.headers", problem);
        }
    }
    if let Some(error) = config.http.allowed_origins.iter().find_map(|text| check_origin(text).err()) {
        refuse("http.allowed_origins", "http.allowed_origins", error.to_string());
    }
    if let Some(error) = config.http.allowed_hosts.iter().find_map(|text| check_host(text).err()) {
        refuse("http.allowed_hosts", "http.allowed_hosts", error.to_string());
    }
    let sources = ["message", "subprotocol", "header", "cookie", "ticket"];
    if let Some(found) = config.auth.sources.iter().find(|source| !sources.contains(&source.as_str())) {
        let found: String = found.chars().flat_map(char::escape_debug).take(64).collect();
        let sentence = format!("expected some of {}, found `{found}`; write one of these", sources.join(", "));
        refuse("auth.sources", "auth.sources", sentence);
    }
    if config.http.allowed_origins.iter().any(|origin| origin == "null")
        && (!config.upstream.send.is_empty() || config.upstream.request)
    {
        let sentence = "expected pages with an origin of their own where clients may `send` or `request`, found `null`, \
                        which any page can be; remove it, or upstream.send and upstream.request";
        refuse("http.allowed_origins", "http.allowed_origins", sentence.into());
    }
    for listener in &config.listen {
        if let Err(sentence) = check_listener(listener, config) {
            refuse("listen", "listen", sentence);
        }
    }
    if let Some(listener) = config.admin.listen.as_ref().filter(|listener| listener.tls || listener.proxy) {
        let sentence =
            format!("expected plain TCP or a unix socket for the operator, found `{listener}`; write `127.0.0.1:9090`");
        refuse("admin.listen", "admin.listen", sentence);
    }
    if let (Some(listener), None) = (&config.admin.listen, &config.admin.key_file)
        && listener.is_public()
    {
        let sentence = format!(
            "expected admin.key_file with an address that other machines may reach, found `{listener}` without; \
             name a file with a key, or listen on 127.0.0.1"
        );
        refuse("admin.listen", "admin.listen", sentence);
    }
    if let Some(sentence) = config.canary.topic.as_deref().and_then(|text| Pattern::parse(text).err()) {
        refuse("canary.topic", "canary.topic", sentence.to_string());
    }
    if config.canary.enabled && config.canary.topic.is_none() && config.upstream.demand == DemandMode::On {
        let sentence = "expected canary.topic with upstream.demand, where the canary keeps its topic subscribed, found \
                        none; name one that is always wanted";
        refuse("canary.enabled", "upstream.demand", sentence.to_owned());
    }
    if config.canary.enabled && canary_listener(&config.listen, config.tls.client_ca.is_some()).is_none() {
        let sentence = "expected a TCP address in listen for the canary, without the PROXY protocol, and without TLS \
                        beside tls.client_ca, found none; add `127.0.0.1:8081` to listen";
        refuse("canary.enabled", "listen", sentence.to_owned());
    }
    if !config.cluster.urls.is_empty() && config.archive.dir.is_some() {
        let sentence = "expected no archive.dir beside cluster.urls, found one: the cluster's log keeps what a restarted \
                        server needs; remove one of the two";
        refuse("archive.dir", "archive.dir", sentence.to_owned());
    }
    if !config.relay.parents.is_empty() {
        let upstream = &config.upstream;
        for (setting, is_set, what) in [
            ("upstream.url", upstream.url.is_some(), "its parents have the feed"),
            ("upstream.demand", upstream.demand == DemandMode::On, "it asks nobody for topics"),
            ("upstream.send", !upstream.send.is_empty(), "it passes nothing on to the feed"),
            ("upstream.request", upstream.request, "it passes nothing on to the feed"),
            ("cluster.urls", !config.cluster.urls.is_empty(), "it follows its parents"),
            ("archive.dir", config.archive.dir.is_some(), "its parents have what it needs after a restart"),
        ] {
            if is_set {
                let sentence =
                    format!("expected no {setting} on a relay (relay.parents), found it: {what}; remove one");
                refuse(setting, "relay.parents", sentence);
            }
        }
    }
    let is_nameable = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    if config.cluster.name.is_empty() || !config.cluster.name.chars().all(is_nameable) {
        let found = config.cluster.name.escape_debug();
        let sentence = format!("expected letters, digits, `-` and `_`, found `{found}`; choose another name");
        refuse("cluster.name", "cluster.name", sentence);
    }
    let UpstreamSettings { url, fallback_urls, profile, subscribe, topic, backoff_min, backoff_max, .. } =
        &config.upstream;
    let (min, max) = (backoff_min.unwrap_or(BACKOFF_MIN), backoff_max.unwrap_or(BACKOFF_MAX));
    if min > max && (backoff_min.is_some() || backoff_max.is_some()) {
        let (min, max) = (SettingValue::Duration(min), SettingValue::Duration(max));
        let sentence = format!(
            "expected upstream.backoff_min up to upstream.backoff_max, found `{min}` and `{max}`; raise the maximum or lower the minimum"
        );
        refuse("upstream.backoff_min", "upstream.backoff_max", sentence);
    }
    if let (Some(profile), Some(topic)) = (profile, topic)
        && profile != "generic"
    {
        let sentence = format!(
            "expected topics from the profile `{profile}` or from the pointer `{topic}`, found both; remove one of them"
        );
        refuse("upstream.topic", "upstream.profile", sentence);
    }
    if url.is_none() && profile.is_none() {
        let remedy = "the simulated market needs neither; give the URL, or leave this out";
        if !subscribe.is_empty() {
            let found = subscribe.join(",");
            let sentence = format!("expected a feed to subscribe to, found `{found}` without upstream.url; {remedy}");
            refuse("upstream.subscribe", "upstream.url", sentence);
        }
        if !fallback_urls.is_empty() {
            let found = fallback_urls.join(",");
            let sentence =
                format!("expected upstream.url before further addresses, found only `{found}`; give the URL");
            refuse("upstream.fallback_urls", "upstream.url", sentence);
        }
        if let Some(found) = topic {
            let sentence = format!("expected a feed to find topics in, found `{found}` without upstream.url; {remedy}");
            refuse("upstream.topic", "upstream.url", sentence);
        }
    }
    problems
}

/// What a listener needs of other settings.
fn check_listener(listener: &ListenAddress, config: &Config) -> Result<(), String> {
    let is_unix = listener.socket_addr().is_none();
    if listener.proxy && !config.proxy.trusted.has_any(is_unix) {
        let (whom, example) = if is_unix { ("unix sockets", "unix") } else { ("addresses", "10.0.0.0/8") };
        return Err(format!(
            "expected proxies to trust for `{listener}`, found no {whom} in proxy.trusted; \
             name them, such as `proxy.trusted = [\"{example}\"]`"
        ));
    }
    if listener.tls && config.tls.certificates.is_empty() {
        return Err(format!(
            "expected certificates for `{listener}`, found none in tls.certificates; \
             name them, as `tls.certificates = [\"CHAIN.pem:KEY.pem\"]`"
        ));
    }
    Ok(())
}
