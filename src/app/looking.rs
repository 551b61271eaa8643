//! A look at a feed, and the files that are written from it: `fanline probe`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::{AppError, feed_url, profile};
use crate::bus::clock::Clock;
use crate::config::effective::EffectiveUpstream;
use crate::intake::kept_messages::{KeepBounds, KeptMessages};
use crate::intake::probe::probe as listen_to;
use crate::settings::table::Config;

/// Topics that `probe` shows with a sample; more would scroll off the screen.
const PROBE_SAMPLES: usize = 40;
/// A file that people read and keep with the profile: 64 kinds, and a snapshot of the largest books.
const RECORDED: KeepBounds = KeepBounds { of_a_kind: 4, messages: 256, bytes: 1 << 20 };

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
    let url = feed_url(&config, &profile)?.unwrap_or_default();
    let mut settings = EffectiveUpstream::new(&config, profile, url).settings;
    // A topic without a message by then gets a line in the report.
    settings.first_message_timeout = settings.first_message_timeout.min(duration / 2);
    settings.kept = record.as_ref().map(|_| KeptMessages::new(RECORDED));
    let report = listen_to(settings, Clock::start(), duration, PROBE_SAMPLES).await?;
    let mut shown = report.to_string();
    if let (Some(file), Some(record)) = (record, report.record) {
        file.write(&record.text)?;
        let (messages, path) = (record.messages, file.shown());
        shown.push_str(&format!(
            "\nwrote {messages} messages to {path}, for `fanline check` of the profile beside it\n"
        ));
    }
    Ok(shown)
}
