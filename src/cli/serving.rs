//! The command that serves: with a feed, or with parents to follow.

use std::ffi::OsString;

use clap::CommandFactory;

use super::CommandLine;
use super::failure::CommandFailure;
use super::settings::Settings;
use crate::app;
use crate::config::{self, ConfigSources, Effective, logs, variables};
use crate::words::nearest::distance;

pub(super) fn serve(
    settings: Settings,
    arguments: &[OsString],
    variables: &[(OsString, OsString)],
) -> Result<(), CommandFailure> {
    let Settings { file, flags } = settings;
    let sources = ConfigSources { file, variables: variables.to_vec(), flags };
    let effective = config::load(&sources)?;
    effective.require_feed()?;
    let log = logs::start(&effective.config.log);
    log_ignored_variables(&effective);
    Ok(app::serve(effective, sources, arguments, &log)?)
}

/// Logs the variables that were ignored, because they may have been meant for fanline.
pub(super) fn log_ignored_variables(effective: &Effective) {
    if let Some(sentence) = variables::ignored_sentence(&effective.ignored) {
        tracing::warn!("{sentence}");
    }
}

/// A lone word is the URL. One that is nearly the name of a command was meant as that command.
pub(super) fn refuse_misspelt_command(settings: &Settings) -> Result<(), CommandFailure> {
    let Some(word) = settings.flags.iter().find(|flag| flag.name == "URL").and_then(|flag| flag.words.first()) else {
        return Ok(());
    };
    let commands = CommandLine::command();
    let near = commands.get_subcommands().find(|command| distance(word, command.get_name()) <= 2);
    match near {
        Some(command) if command.get_name() == word => Err(CommandFailure::Usage(format!(
            "expected the command first, found `{word}` after flags; try `fanline {word} …`"
        ))),
        Some(command) => Err(CommandFailure::Usage(format!(
            "expected a URL or a command, found `{word}`; did you mean `{}`?",
            command.get_name()
        ))),
        None => Ok(()),
    }
}
