//! Reading the TOML file: each key to its setting, each problem to its line.

use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::error::{Problem, nearest};
use crate::identity::tables::{self, AuthTables, TABLE_KEYS};
use crate::settings::table::{self as settings_table, TABLE};
use crate::settings::values::{Origin, Values};

/// A configuration file that was read once, so that it may be a pipe.
#[derive(Clone, Debug)]
pub struct File<'a> {
    /// Its origin, as errors name it.
    pub path: &'a Path,
    pub text: &'a str,
}

/// Far more than all settings and thousands of tiers take; an endless file must not fill the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Opens and reads `path`.
pub(super) fn open(path: &Path) -> Result<String, Problem> {
    let broken = |error: io::Error| Problem::Unreadable { path: path.into(), error };
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    if read.map_err(broken)? as u64 > FILE_BYTES_MAX {
        return Err(Problem::TooLarge { path: path.into() });
    }
    Ok(text)
}

/// What a file says besides settings.
#[derive(Debug, Default)]
pub(super) struct BesideSettings {
    /// It has a section `[simulate]`, which asks for the simulated market.
    pub has_simulate: bool,
    pub auth: AuthTables,
}

/// Reads a file into `values`, and its faults by line into `problems`, which must be empty.
pub(super) fn read(file: &File<'_>, values: &mut Values, problems: &mut Vec<Problem>) -> BesideSettings {
    let File { path, text } = *file;
    let (root, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let message = error.message().replace('\n', ", ");
        problems.push(Problem::Syntax { path: path.into(), line, message });
        return BesideSettings::default();
    }
    let mut reading = FileReader { path, text, values, problems };
    for (key, value) in root.get_ref().iter() {
        match value.get_ref() {
            DeValue::Table(section) if settings_table::find(key.get_ref()).is_none() => reading.section(key, section),
            _ => reading.setting(key.get_ref(), key, value),
        }
    }
    let auth = root.get_ref().get("auth").and_then(|auth| auth.get_ref().as_table());
    let auth = auth.map_or_else(|| Ok(AuthTables::default()), tables::read).unwrap_or_else(|wrong| {
        problems.extend(wrong.into_iter().map(|problem| Problem::Table {
            path: path.into(),
            line: line_of(text, problem.at),
            sentence: problem.sentence,
        }));
        AuthTables::default()
    });
    // The table is in order of names; people read in order of lines.
    problems.sort_by_key(Problem::line);
    BesideSettings { has_simulate: root.get_ref().iter().any(|(key, _)| key.get_ref() == "simulate"), auth }
}

/// One pass over a file.
struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    values: &'a mut Values,
    problems: &'a mut Vec<Problem>,
}

impl FileReader<'_> {
    fn section<'t, K: AsRef<str>>(&mut self, name: &Spanned<K>, section: &DeTable<'t>) {
        let section_name = name.get_ref().as_ref();
        if !TABLE.iter().any(|known| known.name == section_name) {
            let remedy = nearest(section_name, TABLE.iter().map(|known| known.name).filter(|known| !known.is_empty()));
            return self.unknown(name, "a section", section_name.to_owned(), remedy);
        }
        let is_table = |key: &str| section_name == "auth" && TABLE_KEYS.contains(&key);
        for (key, value) in section.iter().filter(|(key, _)| !is_table(key.get_ref())) {
            self.setting(&format!("{section_name}.{}", key.get_ref()), key, value);
        }
    }

    fn setting<K>(&mut self, name: &str, key: &Spanned<K>, value: &Spanned<DeValue<'_>>) {
        let Some(setting) = settings_table::find(name) else {
            if TABLE.iter().any(|known| known.name == name) {
                let remedy = format!("write `[{name}]` on a line of its own, and its settings below");
                return self.unknown(key, "a section", name.to_owned(), remedy);
            }
            let remedy = nearest(name, settings_table::all().map(|known| known.name));
            return self.unknown(key, "a setting", name.to_owned(), remedy);
        };
        let origin = self.origin(key);
        let unset = setting.is_optional() && value.get_ref().as_str().is_some_and(str::is_empty);
        let read = if unset { Ok(None) } else { setting.kind.read_toml(value.get_ref()).map(Some) };
        match read {
            Ok(value) => self.values.set(setting, value, origin),
            Err(mismatch) => self.problems.push(Problem::Value { origin, setting: setting.name, mismatch }),
        }
    }

    fn unknown<K>(&mut self, key: &Spanned<K>, what: &'static str, found: String, remedy: String) {
        let origin = self.origin(key);
        self.problems.push(Problem::Unknown { origin, what, found, remedy });
    }

    fn origin<K>(&self, key: &Spanned<K>) -> Origin {
        Origin::File { path: self.path.into(), line: line_of(self.text, key.span().start) }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}
