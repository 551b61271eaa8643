//! The values in force, each with its origin: the last of defaults < file < variables < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::settings::kind::SettingValue;
use crate::settings::listener::ListenAddress;
use crate::settings::setting::Setting;
use crate::settings::table::{self, DemandMode, LogFormat, OnAuditFull, OnStale, ProxyHeader, Timeout};
use crate::settings::trusted_proxies::TrustedProxies;

/// Where a value was set, as errors and `fanline config` show it.
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

/// A value for every setting; none for those that are unset.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    held: BTreeMap<&'static str, (Option<SettingValue>, Origin)>,
}

impl Values {
    pub fn defaults() -> Values {
        Values { held: table::all().map(|setting| (setting.name, (setting.default(), Origin::Default))).collect() }
    }

    pub fn set(&mut self, setting: &'static Setting, value: Option<SettingValue>, origin: Origin) {
        self.held.insert(setting.name, (value, origin));
    }

    /// Panics if `name` is not a setting: names come from the table.
    pub fn get(&self, name: &str) -> (Option<&SettingValue>, &Origin) {
        let (value, origin) = self.held.get(name).expect("every setting of the table has a default");
        (value.as_ref(), origin)
    }

    /// Panics if the type does not fit the kind in the table; a test takes every setting.
    pub fn take<T: FieldType>(&self, name: &str) -> T {
        let (value, _) = self.get(name);
        T::from_value(value).unwrap_or_else(|| panic!("the type of `{name}` does not fit its kind: {value:?}"))
    }
}

/// A Rust type that a field of the configuration can have.
pub trait FieldType: Sized {
    /// None if the value is of another kind, or missing where it must not be.
    fn from_value(value: Option<&SettingValue>) -> Option<Self>;
}

macro_rules! held {
    ($($type:ty: $pattern:pat => $value:expr;)*) => {
        $(impl FieldType for $type {
            fn from_value(value: Option<&SettingValue>) -> Option<Self> {
                match value? {
                    $pattern => $value,
                    _ => None,
                }
            }
        })*
    };
}

held! {
    ListenAddress: SettingValue::Listener(listener) => Some(listener.clone());
    TrustedProxies: SettingValue::Proxies(trusted) => Some(trusted.clone());
    Vec<ListenAddress>: SettingValue::Listeners(listeners) => Some(listeners.clone());
    String: SettingValue::Text(text) => Some(text.clone());
    Vec<String>: SettingValue::List(items) => Some(items.clone());
    bool: SettingValue::Switch(on) => Some(*on);
    Duration: SettingValue::Duration(duration) => Some(*duration);
    f64: SettingValue::Number(number) => Some(*number);
    u64: SettingValue::Count(number) | SettingValue::Bytes(number) => Some(*number);
    u32: SettingValue::Count(number) | SettingValue::Bytes(number) => u32::try_from(*number).ok();
    usize: SettingValue::Count(number) | SettingValue::Bytes(number) => usize::try_from(*number).ok();
    DemandMode: SettingValue::Text(name) => match name.as_str() {
        "off" => Some(DemandMode::Off),
        "on" => Some(DemandMode::On),
        _ => None,
    };
    OnStale: SettingValue::Text(name) => match name.as_str() {
        "close" => Some(OnStale::Close),
        "keep" => Some(OnStale::Keep),
        _ => None,
    };
    ProxyHeader: SettingValue::Text(name) => match name.as_str() {
        "x-forwarded-for" => Some(ProxyHeader::XForwardedFor),
        "forwarded" => Some(ProxyHeader::Forwarded),
        "none" => Some(ProxyHeader::None),
        _ => None,
    };
    OnAuditFull: SettingValue::Text(name) => match name.as_str() {
        "refuse_sessions" => Some(OnAuditFull::RefuseSessions),
        "drop" => Some(OnAuditFull::Drop),
        _ => None,
    };
    LogFormat: SettingValue::Text(name) => match name.as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    };
}

impl FieldType for Timeout {
    fn from_value(value: Option<&SettingValue>) -> Option<Timeout> {
        match value? {
            SettingValue::Never => Some(Timeout(None)),
            value => Duration::from_value(Some(value)).map(|duration| Timeout(Some(duration))),
        }
    }
}

impl<T: FieldType> FieldType for Option<T> {
    fn from_value(value: Option<&SettingValue>) -> Option<Self> {
        match value {
            None => Some(None),
            some => T::from_value(some).map(Some),
        }
    }
}
