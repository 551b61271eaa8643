//! The values in force, each with where it comes from: the last word of defaults < file < variables < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::kind::Value;
use crate::config::table::{self, Demand, LogFormat, Patience, Setting};

/// Where a value was set: what an error names, and what `fanline config` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// `line` counts from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    Variable(String),
    /// As typed, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// A value for every setting; none where it may be unset and is.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    held: BTreeMap<&'static str, (Option<Value>, Origin)>,
}

impl Values {
    pub fn defaults() -> Values {
        Values { held: table::all().map(|setting| (setting.name, (setting.default(), Origin::Default))).collect() }
    }

    pub fn set(&mut self, setting: &'static Setting, value: Option<Value>, origin: Origin) {
        self.held.insert(setting.name, (value, origin));
    }

    /// Panics if `name` is no setting: names come from the table.
    pub fn get(&self, name: &str) -> (Option<&Value>, &Origin) {
        let (value, origin) = self.held.get(name).expect("every setting of the table has a default");
        (value.as_ref(), origin)
    }

    /// Panics if the type does not fit the kind in the table; a test takes every setting.
    pub(super) fn take<T: Held>(&self, name: &str) -> T {
        let (value, _) = self.get(name);
        T::from_value(value).unwrap_or_else(|| panic!("the type of `{name}` does not fit its kind: {value:?}"))
    }
}

/// A Rust type that a field of the configuration can have.
pub(super) trait Held: Sized {
    /// None if the value is of another kind, or missing where it must not be.
    fn from_value(value: Option<&Value>) -> Option<Self>;
}

macro_rules! held {
    ($($type:ty: $pattern:pat => $value:expr;)*) => {
        $(impl Held for $type {
            fn from_value(value: Option<&Value>) -> Option<Self> {
                match value? {
                    $pattern => $value,
                    _ => None,
                }
            }
        })*
    };
}

held! {
    SocketAddr: Value::Address(address) => Some(*address);
    String: Value::Text(text) => Some(text.clone());
    Vec<String>: Value::List(items) => Some(items.clone());
    bool: Value::Switch(on) => Some(*on);
    Duration: Value::Duration(duration) => Some(*duration);
    f64: Value::Number(number) => Some(*number);
    u64: Value::Count(number) | Value::Bytes(number) => Some(*number);
    u32: Value::Count(number) | Value::Bytes(number) => u32::try_from(*number).ok();
    usize: Value::Count(number) | Value::Bytes(number) => usize::try_from(*number).ok();
    Demand: Value::Text(name) => match name.as_str() {
        "off" => Some(Demand::Off),
        "on" => Some(Demand::On),
        _ => None,
    };
    LogFormat: Value::Text(name) => match name.as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    };
}

impl Held for Patience {
    fn from_value(value: Option<&Value>) -> Option<Patience> {
        match value? {
            Value::Never => Some(Patience(None)),
            value => Duration::from_value(Some(value)).map(|duration| Patience(Some(duration))),
        }
    }
}

impl<T: Held> Held for Option<T> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            None => Some(None),
            some => T::from_value(some).map(Some),
        }
    }
}
