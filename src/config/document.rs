//! The settings on paper: docs/CONFIGURATION.md, the example file, and the effective configuration.

use std::fmt::Write;

use crate::config::effective::{Decision, Winner};
use crate::settings::kind::{SettingKind, SettingValue};
use crate::settings::setting::{Preset, Setting, SettingsSection, VARIABLES_BESIDE};
use crate::settings::table::TABLE;
use crate::settings::values::Values;

const INTRODUCTION: &str = "\
# Configuration

Every setting can be given in a TOML file, by an environment variable and by a flag. A later one wins:

```
defaults  <  file (--config FILE or FANLINE_CONFIG)  <  variables (FANLINE_…)  <  flags
```

| | `slow.replay_max` as an example |
|---|---|
| file | `[slow]`, below it `replay_max = \"10s\"` |
| variable | `FANLINE_SLOW_REPLAY_MAX=10s` |
| flag | `--slow-replay-max 10s` |

No file is read unless it is named. `fanline config` prints the values in force and where each comes from (with secrets
that a URL may hold, but without the values of headers). `fanline check FILE` refuses what a start with this file and these variables would refuse; the file may be
a pipe. Unknown keys, sections and flags are refused, with the nearest valid name, and so are values out of bounds. A variable whose
name is nearly that of a setting is refused too; other variables that begin with `FANLINE_`, such as those that Kubernetes sets for
a Service named `fanline`, are ignored with one line in the log.

A file that names no feed is refused, unless it has a section `[simulate]`: nobody shall get invented prices by a slip. For the same
reason `FANLINE_UPSTREAM_URL` and `FANLINE_CONFIG` may not be empty.

* Durations are a number and a unit: `250ms`, `15s`, `2m`, `1h`.
* Sizes are bytes (`65536`) or have a unit: `64KiB`, `16MiB`, `1GiB` (powers of 1024), `KB`, `MB`, `GB` (powers of 1000).
* Lists are separated by commas in a variable; the flag is repeated, one item each; in TOML they are lists of strings. A comma
  inside braces, brackets or quotes belongs to its item: `FANLINE_UPSTREAM_SUBSCRIBE='{\"a\":1,\"b\":2}'` is one. A variable that
  begins with `[` is read as a list of TOML or JSON: `[\"a\", \"b,c\"]`; what is no string in it is an item as it is written.
* Any variable may name a file that holds the value, by `_FILE` after its name: `FANLINE_UPSTREAM_URL_FILE=/run/secrets/feed`. So a
  secret stands neither in the environment nor in the configuration.
* For some settings of the feed a profile has a key too, such as `keepalive.pong_timeout` for `upstream.pong_timeout`. What you
  set counts; without that the profile's key does, and without either the default that the setting's meaning names. The log
  warns of a key that does not count because of a setting, and `fanline config` shows what counts, and why.
* What is `unset` by default is unset again by an empty text; a URL only in a file.
";

/// The text of docs/CONFIGURATION.md.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in TABLE {
        let heading = if section.name.is_empty() { "Top level" } else { section.name };
        put(&mut text, format_args!("\n## {heading}\n{}\n\n", section.about));
        put(&mut text, format_args!("| setting | value | default | meaning |\n|---|---|---|---|\n"));
        for setting in section.settings {
            let default = shown_default(setting);
            put(&mut text, format_args!("| `{}` | {} | {default} | {} |\n", setting.name, setting.kind, setting.doc));
        }
    }
    text.push_str("\n## Names\n| setting | variable | flag |\n|---|---|---|\n");
    for setting in TABLE.iter().flat_map(|section| section.settings) {
        let positional = if setting.name == "upstream.url" { ", or the URL without a flag" } else { "" };
        let (variable, flag) = (setting.variable(), setting.flag());
        put(&mut text, format_args!("| `{}` | `{variable}` | `--{flag}`{positional} |\n", setting.name));
    }
    let beside = VARIABLES_BESIDE.map(|name| format!("`{name}`")).join(" and ");
    put(&mut text, format_args!("\nBeside them there are {beside} (where the tests find recordings).\n"));
    text
}

/// A file with every setting, commented out, at its default.
pub fn example() -> String {
    let mut text = "# fanline: every setting at its default. Remove the `#` before what you change.\n\
                    # What they mean in full: docs/CONFIGURATION.md. Check this file: fanline check FILE\n"
        .to_owned();
    for section in TABLE {
        put_heading(&mut text, section);
        for setting in section.settings {
            let (value, hint) = match setting.preset {
                Preset::Is(_) => (setting.default(), ""),
                Preset::Unset(example) => (setting.kind.read_text(example).ok(), " Unset; for example:"),
            };
            let value = value.map(|value| value.to_toml()).unwrap_or_default();
            put_comment(&mut text, &format!("{} Expects {}.{hint}", setting.doc, setting.kind));
            put(&mut text, format_args!("#{} = {value}\n", setting.key()));
        }
    }
    text
}

/// The values in force as a TOML file, with their origins as comments; where the profile has a word, with what counts.
pub fn effective(values: &Values, decisions: &[Decision]) -> String {
    let mut text = String::new();
    for section in TABLE {
        if !section.name.is_empty() {
            put(&mut text, format_args!("\n[{}]\n", section.name));
        }
        for setting in section.settings {
            let (value, origin) = values.get(setting.name);
            let decision = decisions.iter().find(|decision| decision.setting == setting.name);
            let (value, origin) = match decision {
                None => (value, origin.to_string()),
                Some(Decision { winner: Winner::Setting { instead_of: None }, .. }) => (value, origin.to_string()),
                Some(Decision { winner: Winner::Setting { instead_of: Some((key, other)) }, .. }) => {
                    (value, format!("{origin}, instead of the profile's {key} = {other}"))
                }
                Some(Decision { value, winner, .. }) => (value.as_ref(), winner.to_string()),
            };
            let value = match value {
                Some(SettingValue::List(lines)) if setting.is_secret() => {
                    SettingValue::List(lines.iter().map(|line| masked(line)).collect()).to_toml()
                }
                Some(value) => value.to_toml(),
                None if decision.is_some() && matches!(setting.kind, SettingKind::DurationOrNone { .. }) => {
                    SettingValue::Never.to_toml()
                }
                None => "\"\"".to_owned(),
            };
            let line = format!("{} = {value}", setting.key());
            put(&mut text, format_args!("{line:<40} # {origin}\n"));
        }
    }
    text
}

/// A header without its value, unless that is in the environment.
fn masked(header: &str) -> String {
    match header.split_once(':') {
        Some((_, value)) if value.trim().starts_with("${") && value.trim().ends_with('}') => header.to_owned(),
        Some((name, _)) => format!("{name}: ***"),
        None => "***".to_owned(),
    }
}

fn put_heading(text: &mut String, section: &SettingsSection) {
    text.push('\n');
    if !section.name.is_empty() {
        // Without its `#` this one is the wish for simulated prices.
        let hidden = if section.name == "simulate" { "#" } else { "" };
        put(text, format_args!("{hidden}[{}]\n", section.name));
    }
    put_comment(text, section.about);
    text.push('\n');
}

/// A comment of lines of at most 110 characters, the width that most editors show.
fn put_comment(text: &mut String, comment: &str) {
    let mut column = 110;
    for word in comment.split(' ') {
        let width = word.chars().count() + 1;
        if column + width > 110 {
            let separator = if text.ends_with('\n') { "#" } else { "\n#" };
            text.push_str(separator);
            column = 1;
        }
        put(text, format_args!(" {word}"));
        column += width;
    }
    text.push('\n');
}

fn shown_default(setting: &Setting) -> String {
    match setting.preset {
        Preset::Is("") => "empty".into(),
        Preset::Is(text) => format!("`{text}`"),
        Preset::Unset(_) => "unset".into(),
    }
}

fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a String takes everything");
}
