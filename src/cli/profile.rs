//! `fanline profile`: what to do with profiles besides checking them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::failure::CommandFailure;
use super::output::{print, progress};
use super::settings::Settings;
use crate::app::{AppError, DraftOutcome, draft_profile};
use crate::settings::table::Config;

const DRAFTS: &str = "\
Examples:
  fanline profile new wss://feed.example.com/ws --out example.toml
  fanline profile new wss://feed.example.com/ws --send '{\"op\":\"subscribe\",\"args\":[\"trades\"]}'";

#[derive(Debug, Subcommand)]
pub(super) enum ProfileCommand {
    /// Listen to a feed, and write a first draft of its profile.
    ///
    /// What the messages do not show is a comment in the draft. `fanline check` accepts it; it is yours to correct.
    #[command(after_help = DRAFTS)]
    New {
        /// The feed, ws:// or wss://.
        #[arg(value_name = "URL")]
        url: String,
        /// A message to send first, such as a subscription; repeat for more.
        #[arg(long, value_name = "TEXT")]
        send: Vec<String>,
        /// How long to listen.
        #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Write NAME.toml, and NAME.messages.jsonl beside it. Default: the profile alone, to stdout.
        #[arg(long, value_name = "NAME.toml")]
        out: Option<PathBuf>,
        /// Draft even if a built-in profile knows the URL, and replace files that are there.
        #[arg(long)]
        force: bool,
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl ProfileCommand {
    /// Those of the feed, on top of the configuration.
    pub(super) fn settings(&self) -> Settings {
        let ProfileCommand::New { url, send, config, .. } = self;
        let mut settings = Settings { file: config.clone(), flags: Vec::new() };
        settings.add("URL", "upstream.url", Some(url.clone()));
        settings.add("--profile", "upstream.profile", Some("generic".to_string()));
        settings.add("--send", "upstream.subscribe", send.clone());
        settings
    }

    pub(super) async fn perform(self, config: Config) -> Result<DraftOutcome, AppError> {
        let ProfileCommand::New { seconds, out, force, .. } = self;
        draft_profile(config, Duration::from_secs(seconds), out, force).await
    }
}

/// The draft to stdout, and what is to be said about it to stderr.
pub(super) fn show(outcome: DraftOutcome) -> Result<(), CommandFailure> {
    match outcome {
        DraftOutcome::Profile { text, line } => {
            progress(&line);
            print(text)
        }
        DraftOutcome::Line(line) => print(line),
    }
}
