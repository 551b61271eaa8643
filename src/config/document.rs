//! Settings and metrics on paper: docs/CONFIGURATION.md, docs/METRICS.md, the example file, and the effective
//! configuration.

use std::fmt::Write;

use crate::config::effective::{Decision, Winner};
use crate::settings::kind::{SettingKind, SettingValue};
use crate::settings::setting::{Preset, Setting, SettingsSection, VARIABLES_BESIDE};
use crate::settings::table::TABLE;
use crate::settings::values::Values;
use crate::words::metrics::{Metric, MetricLabel, SECTIONS};

const INTRODUCTION: &str = "\
# Configuration

Every setting can be given in a TOML file, by an environment variable and by a flag. Later sources
win:

```
defaults  <  file (--config FILE or FANLINE_CONFIG)  <  variables (FANLINE_…)  <  flags
```

| | `slow.replay_max` as an example |
|---|---|
| file | `[slow]`, below it `replay_max = \"10s\"` |
| variable | `FANLINE_SLOW_REPLAY_MAX=10s` |
| flag | `--slow-replay-max 10s` |

| command | what it does |
|---|---|
| `fanline config` | prints the values in force, and where each comes from; URLs with any secrets in them, headers without their values |
| `fanline config --example` | prints a file with every setting at its default |
| `fanline check FILE` | rejects what a start with this file and these variables would reject; FILE may be a pipe |

fanline reads a file only if it is named. It rejects unknown keys, sections and flags, with the
nearest valid name, and values out of range. It also rejects a variable whose name is nearly that of
a setting. Other variables that begin with `FANLINE_`, such as those Kubernetes sets for a Service
named `fanline`, are ignored with a line in the log.

A file that names no feed is rejected unless it has a section `[simulate]`, so that a mistake never
serves invented prices. For the same reason `FANLINE_UPSTREAM_URL` and `FANLINE_CONFIG` may not be
empty.

* Durations are a number and a unit: `250ms`, `15s`, `2m`, `1h`.
* Sizes are bytes (`65536`) or have a unit: `64KiB`, `16MiB`, `1GiB` (powers of 1024), `KB`, `MB`,
  `GB` (powers of 1000).
* Lists are lists of strings in TOML, separated by commas in a variable, and repeated as a flag. A
  comma inside braces, brackets or quotes belongs to its item:
  `FANLINE_UPSTREAM_SUBSCRIBE='{\"a\":1,\"b\":2}'` is one item. A variable that begins with `[` is read
  as a list of TOML or JSON: `[\"a\", \"b,c\"]`. Members that are not strings become items as they are
  written.
* Any variable can name a file that holds the value, with `_FILE` after its name:
  `FANLINE_UPSTREAM_URL_FILE=/run/secrets/feed`. The secret is then neither in the environment nor
  in the configuration.
* An empty text unsets a setting whose default is `unset`; a URL only in a file.
* Some settings of the feed are also keys of profiles, such as `keepalive.pong_timeout` for
  `upstream.pong_timeout`. Your setting overrides the profile's key, and the key overrides the
  default named in the table. The log warns of each key that a setting overrides, and
  `fanline config` shows the value in force and its origin.
* A running server takes over what is marked `reload` on SIGHUP or by `fanline admin reload`
  ([operations/change.md](operations/change.md)). The others need a restart.
";

const METRICS_INTRODUCTION: &str = "\
# Metrics

`/metrics` serves these series in the Prometheus text format 0.0.4.
[operations/watch.md](operations/watch.md) explains what to watch, and which alerts use them.

Labels with a fixed set of values list them; their series exist from the start. Series with a label
`shard` have one series per shard.
";

const METRICS_OF_PROCESS: &str = "
## Standard process metrics

Named as in Prometheus' own client libraries:

| metric | type | labels | meaning |
|---|---|---|---|
| `process_cpu_seconds_total` | counter | | CPU time of the process |
| `process_resident_memory_bytes` | gauge | | resident memory |
| `process_virtual_memory_bytes` | gauge | | virtual memory |
| `process_threads` | gauge | | threads |
| `process_open_fds` | gauge | | open files |
| `process_max_fds` | gauge | | limit of open files |
| `process_start_time_seconds` | gauge | | start of the process, Unix time |
";

/// The text of docs/CONFIGURATION.md.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in TABLE {
        let heading = if section.name.is_empty() { "Top level" } else { section.name };
        put(&mut text, format_args!("\n## {heading}\n{}\n\n", section.about));
        put(&mut text, format_args!("| setting | value | default | applied by | meaning |\n|---|---|---|---|---|\n"));
        for setting in section.settings {
            let default = shown_default(setting);
            let applied = if setting.is_reloaded { "reload" } else { "restart" };
            put(
                &mut text,
                format_args!("| `{}` | {} | {default} | {applied} | {} |\n", setting.name, setting.kind, setting.doc),
            );
        }
    }
    text.push_str("\n## Names\n| setting | variable | flag |\n|---|---|---|\n");
    for setting in TABLE.iter().flat_map(|section| section.settings) {
        let positional = if setting.name == "upstream.url" { ", or the URL without a flag" } else { "" };
        let (variable, flag) = (setting.variable(), setting.flag());
        put(&mut text, format_args!("| `{}` | `{variable}` | `--{flag}`{positional} |\n", setting.name));
    }
    let beside = VARIABLES_BESIDE.map(|name| format!("`{name}`")).join(" and ");
    put(&mut text, format_args!("\nTwo variables are not settings: {beside} (where tests find recordings).\n"));
    text
}

/// The text of docs/METRICS.md.
pub fn metrics_markdown() -> String {
    let mut text = METRICS_INTRODUCTION.to_owned();
    for section in SECTIONS {
        put(
            &mut text,
            format_args!("\n## {}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", section.title),
        );
        for Metric { name, kind, help, labels } in section.metrics {
            let labels: Vec<String> = labels.iter().map(shown_label).collect();
            let kind = format!("{kind:?}").to_lowercase();
            put(&mut text, format_args!("| `{name}` | {kind} | {} | {help} |\n", labels.join("; ")));
        }
    }
    text.push_str(METRICS_OF_PROCESS);
    text
}

fn shown_label(label: &MetricLabel) -> String {
    let values: Vec<String> = label.values.iter().map(|value| format!("`{value}`")).collect();
    let colon = if values.is_empty() { "" } else { ": " };
    format!("`{}`{colon}{}", label.name, values.join(", "))
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

/// The values in force as a TOML file, with their origins as comments, decisions between setting and profile included.
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
                Some(Decision { winner: Winner::Setting { overrides: None }, .. }) => (value, origin.to_string()),
                Some(Decision { winner: Winner::Setting { overrides: Some((key, other)) }, .. }) => {
                    (value, format!("{origin}, overrides the profile's {key} = {other}"))
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

/// A header without its value, unless the value is in the environment.
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
        // Without its `#` this heading asks for simulated prices.
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
