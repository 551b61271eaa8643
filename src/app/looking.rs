//! A look at a feed, and the files that are written from it: `fanline probe` and `fanline profile new`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::{AppError, feed_url, profile};
use crate::bus::clock::Clock;
use crate::config::effective::EffectiveUpstream;
use crate::intake::draft::{ProfileDraft, draft};
use crate::intake::kept_messages::{KeepBounds, KeptMessages};
use crate::intake::probe::probe as listen_to;
use crate::profile::Profile;
use crate::settings::table::Config;

/// Topics that `probe` shows with a sample; more would scroll off the screen.
const PROBE_SAMPLES: usize = 40;
/// A file that people read and keep with the profile: 64 kinds, and a snapshot of the largest books.
const RECORDED: KeepBounds = KeepBounds { of_a_kind: 4, messages: 256, bytes: 1 << 20 };

/// Enough to see each kind several times, and to see whether numbers follow.
const DRAFTED: KeepBounds = KeepBounds { of_a_kind: 4096, messages: 4096, bytes: 16 << 20 };

/// Where something is written, and whether it may replace what is there.
#[derive(Clone, Debug)]
pub struct NewFile {
    pub path: PathBuf,
    pub force: bool,
}

impl NewFile {
    /// # Errors
    /// There is one, and it may not be replaced.
    fn check(&self) -> Result<(), AppError> {
        match !self.force && self.path.exists() {
            true => Err(AppError::Exists { path: self.path.clone() }),
            false => Ok(()),
        }
    }

    fn write(&self, text: &str) -> Result<(), AppError> {
        self.check()?;
        let unwritable = |error| AppError::Unwritable { path: self.path.clone(), error };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).create_new(!self.force);
        let mut file = options.open(&self.path).map_err(unwritable)?;
        file.write_all(text.as_bytes()).map_err(unwritable)
    }

    fn shown(&self) -> std::path::Display<'_> {
        Path::display(&self.path)
    }
}

/// Listens to `config.upstream` for `duration`; returns the findings. A few messages of each kind are written to
/// `record`, as `fanline check` runs them.
pub async fn probe(config: Config, duration: Duration, record: Option<NewFile>) -> Result<String, AppError> {
    let profile = profile(&config)?;
    if let Some(file) = &record {
        if profile.guesses() {
            return Err(AppError::GuessedTopics { profile: profile.name });
        }
        file.check()?;
    }
    let (tested, items) = (profile.clone(), config.upstream.subscribe.clone());
    let url = feed_url(&config, &profile)?.unwrap_or_default();
    let mut settings = EffectiveUpstream::new(&config, profile, url).settings;
    // A topic without a message by then gets a line in the report.
    settings.first_message_timeout = settings.first_message_timeout.min(duration / 2);
    settings.kept = record.as_ref().map(|_| KeptMessages::new(RECORDED));
    let report = listen_to(settings, Clock::start(), duration, PROBE_SAMPLES).await?;
    let mut shown = report.to_string();
    if let Some(file) = record {
        let texts = report.kept.into_iter().filter_map(|message| message.content.ok()).collect();
        let (text, messages) = tested.tell_messages(&items, texts);
        file.write(&text)?;
        let path = file.shown();
        shown.push_str(&format!(
            "\nwrote {messages} messages to {path}, for `fanline check` of the profile beside it\n"
        ));
    }
    Ok(shown)
}

/// What came of the wish for a draft.
pub enum DraftOutcome {
    /// The draft itself, and a line about it.
    Profile { text: String, line: String },
    /// What was written, or why nothing was drafted.
    Line(String),
}

/// Listens to the feed at `config.upstream.url` for `duration`, and drafts a profile of it: in `out`, with its messages
/// beside it. Not if a built-in profile knows the URL, unless `force`.
pub async fn draft_profile(
    config: Config,
    duration: Duration,
    out: Option<PathBuf>,
    force: bool,
) -> Result<DraftOutcome, AppError> {
    let generic = Profile::choose("generic")?;
    let url = feed_url(&config, &generic)?.unwrap_or_default();
    let known = Profile::recognise(&url).name;
    if known != generic.name && !force {
        return Ok(DraftOutcome::Line(format!(
            "profile `{known}` is built in and knows this URL: try `fanline probe {}`, or draft one with --force",
            url.split(['?', '#']).next().unwrap_or_default()
        )));
    }
    let beside = out.as_ref().map(|path| path.with_extension("messages.jsonl"));
    let files: Vec<NewFile> = out.into_iter().chain(beside).map(|path| NewFile { path, force }).collect();
    files.iter().try_for_each(NewFile::check)?;
    let sent = config.upstream.subscribe.clone();
    let mut settings = EffectiveUpstream::new(&config, generic, url.clone()).settings;
    settings.kept = Some(KeptMessages::new(DRAFTED));
    let report = listen_to(settings, Clock::start(), duration, PROBE_SAMPLES).await?;
    let url = url::Url::parse(&url).expect("the feed was dialed");
    let ProfileDraft { text, messages: (steps, count), data, named, topics } =
        draft(&url, &sent, &report.kept, RECORDED)?;
    let line = format!("a draft from {data} messages of data, {named} of them with a topic; topics: {}", topics.len());
    let [profile, messages] = &files[..] else { return Ok(DraftOutcome::Profile { text, line }) };
    profile.write(&text)?;
    messages.write(&steps)?;
    let (profile, messages) = (profile.shown(), messages.shown());
    Ok(DraftOutcome::Line(format!("wrote {profile} and {count} messages to {messages}: {line}")))
}
