//! One setting: its names, kind, default and meaning.

use crate::settings::kind::{SettingKind, SettingValue};

pub const VARIABLE_PREFIX: &str = "FANLINE_";

/// Path of the configuration file; the same as `--config`.
pub const VARIABLE_CONFIG: &str = "FANLINE_CONFIG";

/// Variables that are not settings: the path of the file, and where tests find recordings.
pub const VARIABLES_BESIDE: [&str; 2] = [VARIABLE_CONFIG, "FANLINE_SHARED"];

/// One thing that can be set.
#[derive(Debug)]
pub struct Setting {
    /// Dotted: `slow.replay_max`; without a dot for settings above the first section.
    pub name: &'static str,
    pub kind: SettingKind,
    pub preset: Preset,
    /// A reload applies it. Others need a restart.
    pub is_reloaded: bool,
    /// What it is, and what happens at the bound.
    pub doc: &'static str,
}

/// What a setting holds unless somebody sets it.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    Is(&'static str),
    /// Nothing, which an empty text also means; with an example of a value.
    Unset(&'static str),
}

/// Settings that belong together: one section of the file, one struct of [`Config`](crate::settings::table::Config).
#[derive(Debug)]
pub struct SettingsSection {
    /// Empty for the settings above the first section.
    pub name: &'static str,
    pub about: &'static str,
    pub settings: &'static [Setting],
}

impl Setting {
    /// Name of the environment variable.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_uppercase().replace('.', "_"))
    }

    /// Name of the flag, without the dashes in front.
    pub fn flag(&self) -> String {
        match self.name {
            "upstream.profile" | "upstream.subscribe" | "upstream.topic" => self.key().to_owned(),
            name => name.replace(['.', '_'], "-"),
        }
    }

    /// The name inside its section.
    pub fn key(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, key)| key)
    }

    /// Whether a value may hold a secret, so that it is not printed.
    pub fn is_secret(&self) -> bool {
        self.name == "upstream.headers"
    }

    pub fn is_optional(&self) -> bool {
        matches!(self.preset, Preset::Unset(_))
    }

    /// The value unless somebody sets it.
    pub fn default(&self) -> Option<SettingValue> {
        match self.preset {
            Preset::Is(text) => Some(self.kind.read_text(text).expect("a test reads every default")),
            Preset::Unset(_) => None,
        }
    }
}
