//! The flags of the server, made from the table of settings, and the file that `--config` names.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::Flag;
use crate::settings::kind::SettingKind;
use crate::settings::setting::{Preset, Setting};
use crate::settings::table::{self, TABLE};

/// The flags made from the table of settings, and the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub file: Option<PathBuf>,
    pub flags: Vec<Flag>,
}

impl Settings {
    pub(super) fn add(&mut self, name: &str, setting: &'static str, words: impl IntoIterator<Item = String>) {
        let words: Vec<String> = words.into_iter().collect();
        if !words.is_empty() {
            self.flags.push(Flag { name: name.into(), setting, words });
        }
    }

    /// The URL, and these after it, are parents to follow and no feed.
    pub(super) fn make_parents(&mut self, further: Vec<String>) {
        let is_url = |flag: &Flag| flag.name == "URL";
        let first = self.flags.iter().filter(|flag| is_url(flag)).flat_map(|flag| flag.words.clone());
        let parents: Vec<String> = first.chain(further).collect();
        self.flags.retain(|flag| !is_url(flag));
        self.add("URL", "relay.parents", parents);
    }

    /// The same flags and file for another process, which listens on its own address.
    pub(super) fn arguments(&self) -> Vec<OsString> {
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

/// Common flags are in `-h`, first; the others are only in `--help`, under their section.
fn flag_of(setting: &'static Setting, heading: &str) -> Arg {
    let common = ["listen", "upstream.profile", "upstream.subscribe", "upstream.topic"].contains(&setting.name);
    let default = match setting.preset {
        Preset::Is(text) if !text.is_empty() => format!(" [default: {text}]"),
        _ => String::new(),
    };
    let help = format!("{}{default} [env: {}]", setting.doc, setting.variable());
    let action = if matches!(setting.kind, SettingKind::List | SettingKind::Listeners | SettingKind::Proxies) {
        ArgAction::Append
    } else {
        ArgAction::Set
    };
    let placeholder = if setting.name == "upstream.profile" { "NAME|FILE" } else { setting.kind.placeholder() };
    let arg = Arg::new(setting.name).long(setting.flag()).value_name(placeholder).action(action).help(help);
    if common { arg } else { arg.hide_short_help(true).help_heading(heading.to_owned()) }
}
