//! The command line: arguments become one call of `app`, and its answer an exit code.
//!
//! The server's flags are made from the table of settings. Exit codes: 0 done, 1 failed while running, 2 wrong
//! arguments or settings. Errors go to stderr, one per line, each after `error: `.

mod admin;
mod admin_client;
mod admin_target;
mod answer_table;
mod audit;
mod cluster;
mod failure;
mod man_page;
mod output;
mod profile;
mod serving;
mod settings;
mod token;
mod why;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::admin::AdminOptions;
use self::audit::AuditCommand;
use self::cluster::ClusterOptions;
use self::failure::CommandFailure;
use self::output::{print, progress};
use self::profile::ProfileCommand;
use self::serving::{log_ignored_variables, refuse_misspelt_command, serve};
use self::settings::Settings;
use self::token::TokenOptions;
use self::why::WhyOptions;
use crate::app::{self, AppError, NewFile, ReplayOptions};
use crate::bench;
use crate::bench::options::Options as BenchOptions;
use crate::bench::plan::Plan;
use crate::certificate;
use crate::check::check;
use crate::config::error::ConfigError;
use crate::config::{self, ConfigSources, Effective, document, logs};
use crate::doctor::{self, Severity};
use crate::health;
use crate::settings::listener::ListenAddress;
use crate::simulator::replay::Speed;

const EXAMPLES: &str = "\
Examples:
  fanline                                             the simulated market on http://127.0.0.1:8080
  fanline wss://stream.binance.com:9443/stream --subscribe btcusdt@trade --subscribe ethusdt@trade
  fanline wss://feed.example.com/ws --topic /data/symbol --listen 0.0.0.0:8080
  fanline probe wss://feed.example.com/ws             what does this feed send?
  fanline relay wss://core.example.com                what that fanline serves, from nearer by
  fanline simulate --listen 127.0.0.1:9001            the simulated market as a feed of its own
  fanline replay capture.jsonl --speed max --loop     a recording as a feed
  fanline bench --capacity                            how many clients can this machine serve?
  fanline check fanline.toml                          is this file valid?
  fanline doctor --config fanline.toml                what on this machine will hurt?
  fanline health                                      does the server on this machine work?
  fanline config --config fanline.toml                the values in force, and where each comes from
  fanline token --secret-file secret.txt --sub alice  a token for development

Every flag can also be a TOML setting (--config) or a variable: --slow-replay-max is FANLINE_SLOW_REPLAY_MAX.";

const COMPLETIONS: &str = "\
Examples:
  fanline completions bash > /etc/bash_completion.d/fanline
  fanline completions zsh > /usr/share/zsh/site-functions/_fanline
  fanline completions fish > ~/.config/fish/completions/fanline.fish";

/// Takes one market-data or chat feed and serves it to thousands of WebSocket clients.
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
        /// The same seed produces the same messages, except for their times.
        #[arg(long, value_name = "N")]
        seed: Option<String>,
        /// Messages per second, over all symbols.
        #[arg(long, value_name = "N")]
        rate: Option<String>,
        /// Number of symbols.
        #[arg(long, value_name = "N")]
        symbols: Option<String>,
    },
    /// Serve a recording as a feed.
    Replay {
        /// The recording: JSON lines with `t_ns`, `dir` and `data` or `b64`.
        #[arg(value_name = "CAPTURE")]
        capture: PathBuf,
        /// Address to serve at; port 0 takes a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001", value_parser = address)]
        listen: SocketAddr,
        /// Multiple of the recorded pace, or `max`.
        #[arg(long, value_name = "N|max", default_value = "1")]
        speed: Speed,
        /// Start again at the end.
        #[arg(long = "loop")]
        looped: bool,
        /// Answer what a client says: a regular expression, and a text in which $1 is its first group. May be repeated.
        #[arg(long, num_args = 2, value_names = ["PATTERN", "TEXT"], action = ArgAction::Append)]
        answer: Vec<String>,
    },
    /// Check a configuration, a profile or a recording.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Ask a running server for its health: exit code 0 if it works, 1 if it does not.
    ///
    /// Without a URL, asks the server of this configuration on this machine. The path is `/healthz` unless the URL has one;
    /// `http://127.0.0.1:8080/readyz` also asks for current values.
    Health {
        /// The URL to ask, http:// only.
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// How long to wait for the answer.
        #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Look at this machine and a configuration, and say what will hurt: exit code 1 if the server would not work.
    ///
    /// Accepts the server's settings too. It changes nothing, and sends nothing to the feed.
    Doctor {
        /// A running server: its limits and its cgroup count, instead of those of this shell.
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Serve what another fanline serves, at the same offsets; from the next parent when one is lost.
    ///
    /// Accepts the server's settings too. The parents have `relay.serve`.
    #[command(override_usage = "fanline relay URL [URL…] [OPTIONS]")]
    Relay {
        #[command(flatten)]
        settings: Settings,
        /// Further parents, ws:// or wss://.
        #[arg(value_name = "URL")]
        parents: Vec<String>,
    },
    /// Connect to a feed, show its topics with rates and a sample, and stop.
    Probe {
        /// The feed, ws:// or wss://. Default: the configured one.
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// Name of a built-in profile, or path of a profile file.
        #[arg(long, value_name = "NAME|FILE")]
        profile: Option<String>,
        /// An item to subscribe to; repeat for more.
        #[arg(long, value_name = "ITEM")]
        subscribe: Vec<String>,
        /// Where a message names its topic.
        #[arg(long, value_name = "POINTER")]
        topic: Option<String>,
        /// How long to listen.
        #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Write a few messages of each kind, for `fanline check`: NAME.messages.jsonl beside the profile NAME.toml.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// Replace the file that is there.
        #[arg(long, requires = "record")]
        force: bool,
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Draft a profile of a feed.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Measure the cost of serving many clients on this machine, with this configuration and feed.
    ///
    /// Accepts the server's settings too. Without a feed it uses its own, and accounts for every message.
    Bench {
        #[command(flatten)]
        options: Box<BenchOptions>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Issue a token for development: HS256, signed with the secret of an issuer. The token alone is on stdout.
    Token {
        #[command(flatten)]
        options: TokenOptions,
    },
    /// Ask a running server who is connected; end sessions, revoke tokens, read the configuration anew.
    Admin(Box<AdminOptions>),
    /// Ask a running server why a session has ended, or a connection was refused.
    Why(Box<WhyOptions>),
    /// Ask a server of a cluster how the cluster stands.
    Cluster(Box<ClusterOptions>),
    /// Verify an audit log, and report usage from it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print a script that completes fanline's commands and flags in a shell.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write a certificate for development, signed by its own key, for a `tls://` listener.
    Certificate {
        /// Folder for `certificate.pem` and `key.pem`.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A further name or IP address of the server, besides those of this machine.
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// Replace files that are there.
        #[arg(long)]
        force: bool,
    },
    /// Print the manual page, for `fanline man > fanline.1`.
    Man,
    /// Print the configuration in force as TOML, with the origin of each value.
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
    let arguments: Vec<OsString> = arguments.collect();
    let outcome = CommandLine::try_parse_from(&arguments)
        .map_err(CommandFailure::Arguments)
        .and_then(|command_line| perform(command_line, &arguments, variables.collect()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn perform(
    command_line: CommandLine,
    arguments: &[OsString],
    variables: Vec<(OsString, OsString)>,
) -> Result<(), CommandFailure> {
    let load = |settings: Settings| -> Result<Effective, ConfigError> {
        config::load(&ConfigSources { file: settings.file, variables: variables.clone(), flags: settings.flags })
    };
    match command_line.command {
        None => {
            refuse_misspelt_command(&command_line.settings)?;
            serve(command_line.settings, arguments, &variables)
        }
        Some(CliCommand::Relay { mut settings, parents }) => {
            settings.make_parents(parents);
            serve(settings, arguments, &variables)
        }
        Some(CliCommand::Simulate { listen, seed, rate, symbols }) => {
            let mut settings = Settings::default();
            settings.add("--seed", "simulate.seed", seed);
            settings.add("--rate", "simulate.rate", rate);
            settings.add("--symbols", "simulate.symbols", symbols);
            let effective = load(settings)?;
            let _log = logs::start(&effective.config.log);
            log_ignored_variables(&effective);
            block_on(app::simulate(listen, effective.config))
        }
        Some(CliCommand::Replay { capture, listen, speed, looped, answer }) => {
            let effective = load(Settings::default())?;
            let _log = logs::start(&effective.config.log);
            log_ignored_variables(&effective);
            let answers = answer.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            block_on(app::replay(ReplayOptions { capture, listen, speed, looped, answers }))
        }
        Some(CliCommand::Check { file }) => {
            let checked = check(&file, variables.clone())?;
            if let Some(warning) = checked.warning {
                progress(&format!("warning: {warning}"));
            }
            print(checked.verdict)
        }
        Some(CliCommand::Certificate { out, name, force }) => print(certificate::write(&out, &name, force)?),
        Some(CliCommand::Health { url, seconds, config }) => {
            let url = match url {
                Some(url) => url,
                None => {
                    let config = load(Settings { file: config, flags: Vec::new() })?.config;
                    health::url_of(&config.listen, config.admin.listen.as_ref())?
                }
            };
            print(health::ask(&url, Duration::from_secs(seconds))?)
        }
        Some(CliCommand::Doctor { pid, json, settings }) => {
            let examination = doctor::examine(&load(settings)?, &variables, pid);
            if json {
                print(serde_json::to_string_pretty(&examination).expect("text and words"))?;
            } else {
                print(&examination)?;
            }
            match examination.count(Severity::Fault) {
                0 => Ok(()),
                faults => Err(CommandFailure::Unfit { faults }),
            }
        }
        Some(CliCommand::Probe { url, profile, subscribe, topic, seconds, record, force, config }) => {
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
            log_ignored_variables(&effective);
            let record = record.map(|path| NewFile { path, force });
            print(block_on(app::probe(effective.config, Duration::from_secs(seconds), record))?)
        }
        Some(CliCommand::Profile(command)) => {
            let effective = load(command.settings())?;
            let _log = logs::start(&effective.config.log);
            log_ignored_variables(&effective);
            profile::show(block_on(command.perform(effective.config))?)
        }
        Some(CliCommand::Bench { options, settings }) => {
            let arguments = settings.arguments();
            let plan = Plan::new(&options, &load(settings)?.config, arguments)?;
            let report = bench::run(&plan, &mut progress)?;
            if options.json { print(report.json()) } else { print(report) }
        }
        Some(CliCommand::Token { options }) => {
            let issued = options.issue().map_err(AppError::from)?;
            progress(&issued.hint);
            print(issued.token)
        }
        Some(CliCommand::Admin(options)) => {
            let config = load(Settings { file: options.target.config.clone(), flags: Vec::new() })?.config;
            print(admin::perform(&options, &config.admin)?)
        }
        Some(CliCommand::Why(options)) => {
            let config = load(Settings { file: options.target.config.clone(), flags: Vec::new() })?.config;
            print(why::perform(&options, &config.admin)?)
        }
        Some(CliCommand::Cluster(options)) => {
            let config = load(Settings { file: options.target.config.clone(), flags: Vec::new() })?.config;
            print(cluster::perform(&options, &config.admin)?)
        }
        Some(CliCommand::Audit(command)) => print(audit::perform(command)?),
        Some(CliCommand::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "fanline", &mut script);
            print(String::from_utf8_lossy(&script))
        }
        Some(CliCommand::Man) => {
            let page = man_page::render(CommandLine::command()).map_err(CommandFailure::Output)?;
            print(String::from_utf8_lossy(&page))
        }
        Some(CliCommand::Config { markdown: true, .. }) => print(document::markdown()),
        Some(CliCommand::Config { example: true, .. }) => print(document::example()),
        Some(CliCommand::Config { settings, .. }) => {
            let effective = load(settings)?;
            let decisions = app::decisions(&effective.config).unwrap_or_else(|error| {
                progress(&format!("warning: {error}"));
                Vec::new()
            });
            print(document::effective(&effective.values, &decisions))
        }
    }
}

/// Runs a command to its end on a new runtime.
fn block_on<T>(command: impl Future<Output = Result<T, AppError>>) -> Result<T, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandFailure::Runtime)?;
    let ended = runtime.block_on(command);
    // A name resolution in progress does not delay the end.
    runtime.shutdown_background();
    Ok(ended?)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let refuse = |remedy: &str| format!("expected an address IP:PORT, found `{text}`; {remedy}");
    let listener = ListenAddress::parse(text).map_err(|remedy| refuse(&remedy))?;
    let plain = listener.socket_addr().filter(|address| listener == ListenAddress::from(*address));
    plain.ok_or_else(|| refuse("a feed is served over plain TCP; leave out what precedes the address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_definition_of_the_command_line() {
        CommandLine::command().debug_assert();
    }
}
