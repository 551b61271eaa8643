//! The command line: from arguments to one call of `app`, and from its answer to an exit code.
//!
//! The flags of the server are made from the table of settings. Exit codes: 0 done, 1 it failed while running, 2 what
//! was asked for is wrong. Errors go to stderr, one per line, each after `error: `.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::{self, AppError, Replay};
use crate::bench::options::Options as BenchOptions;
use crate::bench::plan::Plan;
use crate::bench::{self, BenchError};
use crate::config::error::ConfigError;
use crate::config::kind::{Kind, Value};
use crate::config::logs::write_within;
use crate::config::table::{self, Preset, Setting, TABLE};
use crate::config::{self, Effective, Flag, Sources, document, logs};
use crate::venue::replay::Speed;

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
  fanline config --config fanline.toml                what is in force, and why?

Every setting can also stand in a TOML file (--config) or in a variable: --slow-replay-max is FANLINE_SLOW_REPLAY_MAX.";

/// Holds one connection to a market-data or chat feed and gives it to thousands of WebSocket clients.
#[derive(Debug, Parser)]
#[command(name = "fanline", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(override_usage = "fanline [URL] [OPTIONS]\n       fanline <COMMAND>")]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
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

/// The flags made from the table of settings, and the file.
#[derive(Clone, Debug, Default)]
struct Settings {
    file: Option<PathBuf>,
    flags: Vec<Flag>,
}

/// Runs the command that the arguments ask for; `variables` is the environment.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let outcome = CommandLine::try_parse_from(arguments)
        .map_err(Failure::Arguments)
        .and_then(|command_line| perform(command_line, variables.collect()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn perform(command_line: CommandLine, variables: Vec<(OsString, OsString)>) -> Result<(), Failure> {
    let load = |settings: Settings| -> Result<Effective, ConfigError> {
        config::load(&Sources { file: settings.file, variables: variables.clone(), flags: settings.flags })
    };
    match command_line.command {
        None => {
            refuse_misspelt_command(&command_line.settings)?;
            let config = load(command_line.settings)?.config;
            let log = logs::start(&config.log);
            Ok(app::serve(config, log.queue.clone())?)
        }
        Some(Command::Simulate { listen, seed, rate, symbols }) => {
            let mut settings = Settings::default();
            settings.add("--seed", "simulate.seed", seed);
            settings.add("--rate", "simulate.rate", rate);
            settings.add("--symbols", "simulate.symbols", symbols);
            let config = load(settings)?.config;
            let _log = logs::start(&config.log);
            block_on(app::simulate(listen, config))
        }
        Some(Command::Replay { capture, listen, speed, looped }) => {
            let _log = logs::start(&load(Settings::default())?.config.log);
            block_on(app::replay(Replay { capture, listen, speed, looped }))
        }
        Some(Command::Check { file }) => say(app::check(&file)?),
        Some(Command::Probe { url, profile, subscribe, topic, seconds, config }) => {
            let mut settings = Settings { file: config, flags: Vec::new() };
            settings.add("URL", "upstream.url", url);
            settings.add("--profile", "upstream.profile", profile);
            settings.add("--subscribe", "upstream.subscribe", subscribe);
            settings.add("--topic", "upstream.topic", topic);
            let config = load(settings)?.config;
            if config.upstream.url.is_none() && config.upstream.profile.is_none() {
                let sentence = "expected the URL of a feed, found none; try `fanline probe wss://HOST/PATH`";
                return Err(Failure::Usage(sentence.into()));
            }
            let _log = logs::start(&config.log);
            block_on(async { app::probe(config, Duration::from_secs(seconds)).await.map(say) })?
        }
        Some(Command::Bench { options, settings }) => {
            let arguments = settings.arguments();
            let plan = Plan::new(&options, &load(settings)?.config, arguments)?;
            let report = bench::run(&plan, &mut tell)?;
            if options.json { say(report.json()) } else { say(report) }
        }
        Some(Command::Config { markdown: true, .. }) => say(document::markdown()),
        Some(Command::Config { example: true, .. }) => say(document::example()),
        Some(Command::Config { settings, .. }) => say(document::effective(&load(settings)?.values)),
    }
}

/// Runs a command to its end on a new runtime.
fn block_on<T>(command: impl Future<Output = Result<T, AppError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let ended = runtime.block_on(command);
    // A name that is being resolved does not hold up the end.
    runtime.shutdown_background();
    Ok(ended?)
}

/// A lone word is taken for the URL; if it is nearly a command, it was meant as one.
fn refuse_misspelt_command(settings: &Settings) -> Result<(), Failure> {
    let Some(word) = settings.flags.iter().find(|flag| flag.name == "URL").and_then(|flag| flag.words.first()) else {
        return Ok(());
    };
    let commands = CommandLine::command();
    let near = commands.get_subcommands().find(|command| strsim::damerau_levenshtein(command.get_name(), word) <= 2);
    match near {
        Some(command) if command.get_name() == word => Err(Failure::Usage(format!(
            "expected the command first, found `{word}` behind flags; try `fanline {word} …`"
        ))),
        Some(command) => Err(Failure::Usage(format!(
            "expected a URL or a command, found `{word}`; did you mean `{}`?",
            command.get_name()
        ))),
        None => Ok(()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    match Kind::Address.read_text(text) {
        Ok(Value::Address(address)) => Ok(address),
        Ok(other) => unreachable!("an address was read as {other}"),
        Err(mismatch) => Err(mismatch.to_string()),
    }
}

/// Prints to stdout. A reader that has gone away (`| head`) is no error.
fn say(text: impl fmt::Display) -> Result<(), Failure> {
    let text = text.to_string();
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Says on stderr how far a command has come. The command goes on if nobody reads it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Why there is no success to report.
#[derive(Debug, thiserror::Error)]
enum Failure {
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
    #[error("expected to start threads: {0}; raise the limit of processes (ulimit -u)")]
    Runtime(io::Error),
    #[error("expected to write to stdout: {0}")]
    Output(io::Error),
}

impl Failure {
    fn report(&self) -> ExitCode {
        let usage = match self {
            Failure::Arguments(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                // Nobody is left to tell if stderr is closed too.
                let _ = if error.use_stderr() && !io::stderr().is_terminal() {
                    write_within(io::stderr(), error.render().to_string())
                } else {
                    error.print()
                };
                return ExitCode::from(code);
            }
            Failure::Usage(_) | Failure::Config(_) => true,
            Failure::App(error) => error.is_usage(),
            Failure::Bench(error) => error.is_usage(),
            Failure::Runtime(_) | Failure::Output(_) => false,
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

impl Settings {
    fn add(&mut self, name: &str, setting: &'static str, words: impl IntoIterator<Item = String>) {
        let words: Vec<String> = words.into_iter().collect();
        if !words.is_empty() {
            self.flags.push(Flag { name: name.into(), setting, words });
        }
    }

    /// The same flags and file for another process, which listens at an address of its own.
    fn arguments(&self) -> Vec<OsString> {
        let file = self.file.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]);
        let flags = self.flags.iter().filter(|flag| flag.setting != "listen").flat_map(|flag| {
            let named = flag.name.starts_with("--");
            let name = move || named.then(|| OsString::from(&flag.name));
            flag.words.iter().flat_map(move |word| name().into_iter().chain([word.into()]))
        });
        file.chain(flags).collect()
    }
}

impl Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let url = table::find("upstream.url").expect("the table has it");
        let command = command.arg(Arg::new("URL").value_name("URL").help(url.doc).conflicts_with(url.name)).arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Configuration file (TOML) [env: FANLINE_CONFIG]"),
        );
        TABLE.iter().fold(command, |command, section| {
            let heading = if section.name.is_empty() { "Options".to_owned() } else { section.name.to_owned() };
            command.args(section.settings.iter().map(|setting| flag_of(setting, &heading)))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Settings::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Settings, clap::Error> {
        let mut settings = Settings { file: matches.get_one("config").cloned(), flags: Vec::new() };
        settings.add("URL", "upstream.url", matches.get_one::<String>("URL").cloned());
        for setting in table::all() {
            let words = matches.get_many::<String>(setting.name).into_iter().flatten().cloned();
            settings.add(&format!("--{}", setting.flag()), setting.name, words);
        }
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Settings::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The common flags are in `-h` and come first; the others are only in `--help`, under their section.
fn flag_of(setting: &'static Setting, heading: &str) -> Arg {
    let common = ["listen", "upstream.profile", "upstream.subscribe", "upstream.topic"].contains(&setting.name);
    let default = match setting.preset {
        Preset::Is(text) if !text.is_empty() => format!(" [default: {text}]"),
        _ => String::new(),
    };
    let help = format!("{}{default} [env: {}]", setting.doc, setting.variable());
    let action = if matches!(setting.kind, Kind::List) { ArgAction::Append } else { ArgAction::Set };
    let placeholder = if setting.name == "upstream.profile" { "NAME|FILE" } else { setting.kind.placeholder() };
    let arg = Arg::new(setting.name).long(setting.flag()).value_name(placeholder).action(action).help(help);
    if common { arg } else { arg.hide_short_help(true).help_heading(heading.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }
}
