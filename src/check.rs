//! `fanline check`: checks a configuration, a profile or a recording as a start would, without connecting.
//!
//! The file is read once, so it may be a pipe. A configuration is checked together with the environment's variables, as
//! at a start.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use crate::app::gatekeeping::is_in_use;
use crate::app::{self, AppError};
use crate::bus::clock::Clock;
use crate::bus::{self, Limits};
use crate::config::effective::EffectiveUpstream;
use crate::config::{self, ConfigSources, File, variables};
use crate::edge::EdgeError;
use crate::edge::admin_key::AdminKey;
use crate::edge::settings::Settings as EdgeSettings;
use crate::identity::tables::AuthTables;
use crate::identity::token_gatekeeper;
use crate::intake::message_file::EXAMPLE;
use crate::intake::upstream::Upstream;
use crate::profile::downstream::Dialect;
use crate::profile::{Profile, check as check_profile};
use crate::settings::table::Config;
use crate::simulator::recording::Recording;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;

/// Stands for the URL of the simulated market, which is known only once it listens.
const SOME_URL: &str = "ws://127.0.0.1";

/// What a valid file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// One sentence.
    pub verdict: String,
    /// Something to know that is not an error.
    pub warning: Option<String>,
}

/// Checks the file, whichever of the three it is. `environment` is the one a start would have.
pub fn check(path: &Path, environment: Vec<(OsString, OsString)>) -> Result<Checked, AppError> {
    let bytes = std::fs::read(path).map_err(|error| AppError::Unreadable { path: path.into(), error })?;
    let shown = path.display();
    let nothing = |found| AppError::NothingToCheck { path: path.into(), found };
    let valid = |verdict: String| Ok(Checked { verdict: format!("{shown}: {verdict}"), warning: None });
    if is_recording(path, &bytes) {
        let recording = Recording::read(path, &*bytes)?;
        let seconds = recording.duration().as_secs_f64();
        return valid(format!("a valid recording, frames: {}, seconds: {seconds:.1}", recording.len()));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(nothing("an empty file"));
    }
    let text = String::from_utf8(bytes).map_err(|_| nothing("bytes that are not UTF-8"))?;
    if is_profile(&text) {
        let profile = check_profile(&text, &shown.to_string())?;
        let conversation = match &profile.dialect {
            Some(dialect) => check_conversation(dialect, path)?,
            None => String::new(),
        };
        let messages = check_messages(&profile, path)?;
        let warning = messages.is_none().then(|| without_messages(path));
        let messages = messages.unwrap_or_default();
        let checked = valid(format!("a valid profile, `{}`{messages}{conversation}", profile.name))?;
        return Ok(Checked { warning: warning.flatten(), ..checked });
    }
    let sources = ConfigSources { file: None, variables: environment, flags: Vec::new() };
    let effective = config::load_text(Some(&File { path, text: &text }), &sources)?;
    effective.require_feed()?;
    rehearse(&effective.config, &effective.auth)?;
    let checked = valid(format!("a valid configuration, settings: {}", effective.in_file()))?;
    Ok(Checked { warning: variables::ignored_sentence(&effective.ignored), ..checked })
}

/// Runs the conversation beside the profile, if there is one; gives what to add to the verdict.
fn check_conversation(dialect: &Dialect, profile: &Path) -> Result<String, AppError> {
    let Some((text, origin)) = beside(profile, "dialect.jsonl")? else { return Ok(String::new()) };
    let steps = dialect.check_conversation(&text, &origin)?;
    Ok(format!(", steps of its conversation: {steps}"))
}

/// The same with the feed's messages beside the profile; none if there are none.
fn check_messages(profile: &Profile, path: &Path) -> Result<Option<String>, AppError> {
    let Some((text, origin)) = beside(path, "messages.jsonl")? else { return Ok(None) };
    let steps = profile.check_messages(&text, &origin)?;
    Ok(Some(format!(", messages: {steps}")))
}

/// A profile is only as good as what it makes of messages. Nothing is beside a pipe.
fn without_messages(profile: &Path) -> Option<String> {
    let path = profile.with_extension("messages.jsonl");
    profile.is_file().then(|| {
        format!(
            "expected messages of the feed in `{}`, found no such file, so what the rules make of them was not \
             checked; `fanline probe --record` writes it from the feed, or write a line for each kind of message, such as \
             `{EXAMPLE}`",
            path.display()
        )
    })
}

/// A file beside the profile, with its name as shown, if there is one.
fn beside(profile: &Path, extension: &str) -> Result<Option<(String, String)>, AppError> {
    let path = profile.with_extension(extension);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((text, path.display().to_string()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AppError::Unreadable { path, error }),
    }
}

/// Does everything for which a start can reject this configuration, except listening and connecting.
pub(crate) fn rehearse(config: &Config, auth: &AuthTables) -> Result<(), AppError> {
    if is_in_use(&config.auth, auth) {
        token_gatekeeper::check(&config.auth, auth)?;
    }
    EdgeSettings::new(config).load_tls(&Meters::unread()).map_err(EdgeError::Tls)?;
    if let Some(path) = &config.admin.key_file {
        AdminKey::read("admin.key_file", path.as_ref())?;
    }
    app::clustering::check(&config.cluster)?;
    app::relaying::check(config, auth)?;
    app::demand::bounds(config)?;
    app::demand::request_rules(config)?;
    let profile = app::profile(config)?;
    profile.check_client_requests(!config.upstream.send.is_empty(), config.upstream.request)?;
    let url = app::feed_url(config, &profile)?.unwrap_or_else(|| SOME_URL.into());
    let meters = Meters::unread();
    let limits = Limits { ring_frames_max: 2, ring_bytes_max: 0, topics_max: 0 };
    let (publisher, _) = bus::open(Epoch(0), limits, &meters);
    Upstream::new(EffectiveUpstream::new(config, profile, url).settings, publisher, Clock::start(), &meters)?;
    Ok(())
}

/// A profile has `profile = 1` before its first section. Read line by line, so that the errors of a broken profile are
/// those of a profile.
fn is_profile(text: &str) -> bool {
    let top = text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
    let mut keys = top.filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
    keys.any(|key| key == "profile")
}

/// A recording is JSON lines; the other two cannot start with a brace.
fn is_recording(path: &Path, bytes: &[u8]) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl") || bytes.trim_ascii_start().starts_with(b"{")
}
