//! The command line: from arguments to one call of `app`, and from its answer to an exit code.
//!
//! The flags of the server are made from the table of settings. Exit codes: 0 done, 1 it failed while running, 2 what
//! was asked for is wrong. Errors go to stderr, one per line, each after `error: `.

mod settings;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::settings::Settings;
use crate::app::{self, AppError, ReplayOptions};
use crate::bench::options::Options as BenchOptions;
use crate::bench::plan::Plan;
use crate::bench::{self, BenchError};
use crate::check::check;
use crate::config::error::ConfigError;
use crate::config::logs::write_within;
use crate::config::{self, ConfigSources, Effective, document, logs, variables};
use crate::health::{self, HealthError};
use crate::settings::kind::{SettingKind, SettingValue};
use crate::simulator::replay::Speed;
use crate::words::nearest::distance;

const EXAMPLES: &str = "\
Examples:
  fanline                                             the simulated market on http://127.0.0.1:8080
  fanline wss://stream.binance.com:9443/stream --subscribe btcusdt@trade --subscribe ethusdt@trade
  fanline wss://feed.example.com/ws --topic /data/symbol --listen 0.0.0.0:8080
  fanline probe wss://feed.example.com/ws             what does this feed send?
  fanline simulate --listen 127.0.0.1:9001            the simulated market as a feed of its own
  fanline replay capture.jsonl --speed max --loop     a recording as a feed
  fanline bench --capacity                            how many clients can this machine serve?
  fanline check fanline.toml                          is this file right?
  fanline health                                      is the server on this machine well?
  fanline config --config fanline.toml                what is in force, and why?

Every setting can also stand in a TOML file (--config) or in a variable: --slow-replay-max is FANLINE_SLOW_REPLAY_MAX.";

const COMPLETIONS: &str = "\
Examples:
  fanline completions bash > /etc/bash_completion.d/fanline
  fanline completions zsh > /usr/share/zsh/site-functions/_fanline
  fanline completions fish > ~/.config/fish/completions/fanline.fish";

/// Holds one connection to a market-data or chat feed and gives it to thousands of WebSocket clients.
#[derive(Debug, Parser)]
#[command(name = "fanline", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(override_usage = "fanline [URL] [OPTIONS]\n       fanline <COMMAND>")]
struct CommandLine {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Serve the simulated market as a WebSocket feed of its own.
    Simulate {
        /// Address to serve at; port 0 takes a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001", value_parser = address)]
        listen: SocketAddr,
        /// The same seed gives the same messages, all but their times.
        #[arg(long, value_name = "N")]
        seed: Option<String>,
        /// Messages per second, over all symbols.
        #[arg(long, value_name = "N")]
        rate: Option<String>,
        /// Number of symbols.
        #[arg(long, value_name = "N")]
        symbols: Option<String>,
    },
    /// Serve a recording as if it were the venue.
    Replay {
        /// The recording: JSON lines with `t_ns`, `dir` and `data` or `b64`.
        #[arg(value_name = "CAPTURE")]
        capture: PathBuf,
        /// Address to serve at; port 0 takes a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001", value_parser = address)]
        listen: SocketAddr,
        /// Times the recorded pace, or `max`.
        #[arg(long, value_name = "N|max", default_value = "1")]
        speed: Speed,
        /// Start over at the end.
        #[arg(long = "loop")]
        looped: bool,
    },
    /// Check a configuration, a profile or a recording.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Ask a running server how it is: exit code 0 if it is well, 1 if it is not.
    ///
    /// Without a URL it is the server of this configuration on this machine. The path is `/healthz` unless the URL has one;
    /// `http://127.0.0.1:8080/readyz` asks for current values, too.
    Health {
        /// What to ask, http:// only.
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// How long to wait for the answer.
        #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Connect to a feed, show the topics found, their rates and a sample, and stop.
    Probe {
        /// The feed, ws:// or wss://; if none, the configured one.
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// Name of a built-in profile, or path of a profile file.
        #[arg(long, value_name = "NAME|FILE")]
        profile: Option<String>,
        /// What to ask the feed for; repeat for more.
        #[arg(long, value_name = "ITEM")]
        subscribe: Vec<String>,
        /// Where the topic stands in a message.
        #[arg(long, value_name = "POINTER")]
        topic: Option<String>,
        /// How long to listen.
        #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Measure what serving many clients costs on this machine, with this configuration and feed.
    ///
    /// Takes the server's settings too. Without a feed it brings one along, and accounts for every message of it.
    Bench {
        #[command(flatten)]
        options: Box<BenchOptions>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Print what a shell needs to complete fanline's commands and flags.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page, for `fanline man > fanline.1`.
    Man,
    /// Print the configuration in force as TOML, with where each value comes from.
    Config {
        #[command(flatten)]
        settings: Settings,
        /// Print docs/CONFIGURATION.md instead.
        #[arg(long, hide = true)]
        markdown: bool,
        /// Print a file with every setting at its default instead.
        #[arg(long)]
        example: bool,
    },
}

/// Runs the command that the arguments ask for; `variables` is the environment.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let outcome = CommandLine::try_parse_from(arguments)
        .map_err(CommandFailure::Arguments)
        .and_then(|command_line| perform(command_line, variables.collect()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn perform(command_line: CommandLine, variables: Vec<(OsString, OsString)>) -> Result<(), CommandFailure> {
    let load = |settings: Settings| -> Result<Effective, ConfigError> {
        config::load(&ConfigSources { file: settings.file, variables: variables.clone(), flags: settings.flags })
    };
    match command_line.command {
        None => {
            refuse_misspelt_command(&command_line.settings)?;
            let effective = load(command_line.settings)?;
            effective.require_feed()?;
            let log = logs::start(&effective.config.log);
            tell_ignored(&effective);
            Ok(app::serve(effective.config, log.queue.clone())?)
        }
        Some(CliCommand::Simulate { listen, seed, rate, symbols }) => {
            let mut settings = Settings::default();
            settings.add("--seed", "simulate.seed", seed);
            settings.add("--rate", "simulate.rate", rate);
            settings.add("--symbols", "simulate.symbols", symbols);
            let effective = load(settings)?;
            let _log = logs::start(&effective.config.log);
            tell_ignored(&effective);
            block_on(app::simulate(listen, effective.config))
        }
        Some(CliCommand::Replay { capture, listen, speed, looped }) => {
            let effective = load(Settings::default())?;
            let _log = logs::start(&effective.config.log);
            tell_ignored(&effective);
            block_on(app::replay(ReplayOptions { capture, listen, speed, looped }))
        }
        Some(CliCommand::Check { file }) => {
            let checked = check(&file, variables.clone())?;
            if let Some(warning) = checked.warning {
                // A closed stderr is no reason to keep back the verdict.
                let _ = writeln!(io::stderr(), "warning: {warning}");
            }
            say(checked.told)
        }
        Some(CliCommand::Health { url, seconds, config }) => {
            let url = match url {
                Some(url) => url,
                None => health::url_of(load(Settings { file: config, flags: Vec::new() })?.config.listen),
            };
            say(health::ask(&url, Duration::from_secs(seconds))?)
        }
        Some(CliCommand::Probe { url, profile, subscribe, topic, seconds, config }) => {
            let mut settings = Settings { file: config, flags: Vec::new() };
            settings.add("URL", "upstream.url", url);
            settings.add("--profile", "upstream.profile", profile);
            settings.add("--subscribe", "upstream.subscribe", subscribe);
            settings.add("--topic", "upstream.topic", topic);
            let effective = load(settings)?;
            let config = &effective.config;
            if config.upstream.url.is_none() && config.upstream.profile.is_none() {
                let sentence = "expected the URL of a feed, found none; try `fanline probe wss://HOST/PATH`";
                return Err(CommandFailure::Usage(sentence.into()));
            }
            let _log = logs::start(&config.log);
            tell_ignored(&effective);
            block_on(async { app::probe(effective.config, Duration::from_secs(seconds)).await.map(say) })?
        }
        Some(CliCommand::Bench { options, settings }) => {
            let arguments = settings.arguments();
            let plan = Plan::new(&options, &load(settings)?.config, arguments)?;
            let report = bench::run(&plan, &mut tell)?;
            if options.json { say(report.json()) } else { say(report) }
        }
        Some(CliCommand::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "fanline", &mut script);
            say(String::from_utf8_lossy(&script))
        }
        Some(CliCommand::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(CommandLine::command()).render(&mut page).map_err(CommandFailure::Output)?;
            say(String::from_utf8_lossy(&page))
        }
        Some(CliCommand::Config { markdown: true, .. }) => say(document::markdown()),
        Some(CliCommand::Config { example: true, .. }) => say(document::example()),
        Some(CliCommand::Config { settings, .. }) => {
            let effective = load(settings)?;
            let decisions = app::decisions(&effective.config).unwrap_or_else(|error| {
                tell(&format!("warning: {error}"));
                Vec::new()
            });
            say(document::effective(&effective.values, &decisions))
        }
    }
}

/// Variables that may have been meant for fanline are worth a line.
fn tell_ignored(effective: &Effective) {
    if let Some(sentence) = variables::told(&effective.ignored) {
        tracing::warn!("{sentence}");
    }
}

/// Runs a command to its end on a new runtime.
fn block_on<T>(command: impl Future<Output = Result<T, AppError>>) -> Result<T, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandFailure::Runtime)?;
    let ended = runtime.block_on(command);
    // A name that is being resolved does not hold up the end.
    runtime.shutdown_background();
    Ok(ended?)
}

/// A lone word is taken for the URL; if it is nearly a command, it was meant as one.
fn refuse_misspelt_command(settings: &Settings) -> Result<(), CommandFailure> {
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

fn address(text: &str) -> Result<SocketAddr, String> {
    match SettingKind::Address.read_text(text) {
        Ok(SettingValue::Address(address)) => Ok(address),
        Ok(other) => unreachable!("an address was read as {other}"),
        Err(mismatch) => Err(mismatch.to_string()),
    }
}

/// Prints to stdout. A reader that has gone away (`| head`) is no error.
fn say(text: impl fmt::Display) -> Result<(), CommandFailure> {
    let text = text.to_string();
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandFailure::Output(error)),
        _ => Ok(()),
    }
}

/// Says on stderr how far a command has come. The command goes on if nobody reads it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Why there is no success to report.
#[derive(Debug, thiserror::Error)]
enum CommandFailure {
    /// Also the wish for help or the version, which is none.
    #[error(transparent)]
    Arguments(clap::Error),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("expected to start threads: {0}; raise the limit of processes (ulimit -u)")]
    Runtime(io::Error),
    #[error("expected to write to stdout: {0}")]
    Output(io::Error),
}

impl CommandFailure {
    fn report(&self) -> ExitCode {
        let usage = match self {
            CommandFailure::Arguments(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                // Nobody is left to tell if stderr is closed too.
                let _ = if error.use_stderr() && !io::stderr().is_terminal() {
                    write_within(io::stderr(), error.render().to_string())
                } else {
                    error.print()
                };
                return ExitCode::from(code);
            }
            CommandFailure::Usage(_) | CommandFailure::Config(_) => true,
            CommandFailure::App(error) => error.is_usage(),
            CommandFailure::Bench(error) => error.is_usage(),
            CommandFailure::Health(error) => error.is_usage(),
            CommandFailure::Runtime(_) | CommandFailure::Output(_) => false,
        };
        let mut report = String::new();
        let mut cause: Option<&dyn Error> = Some(self);
        let mut told = String::new();
        while let Some(error) = cause {
            let text = error.to_string();
            // A cause that its parent has already spelt out is not told twice.
            if !told.contains(&text) {
                report.extend(text.lines().map(|line| format!("error: {line}\n")));
            }
            told = text;
            cause = error.source();
        }
        // Nobody is left to tell if stderr is closed, too, and a reader that reads nothing does not hold up the end.
        let _ = write_within(io::stderr(), report);
        ExitCode::from(if usage { 2 } else { 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }
}
