//! Kinds of settings: reading a value from text or TOML, with an error that names what was expected.
//!
//! Pure: the origin of a text is not known here, so the file, variables and flags obey the same rules.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;
use url::Url;

use crate::profile::target::without_secrets;
use crate::settings::listener::ListenAddress;
use crate::settings::trusted_proxies::TrustedProxies;
use crate::settings::{filter, list, listener};
use crate::words::size::{UNITS, read_size};

/// The type of a setting, with its bounds (both ends included).
#[derive(Clone, Copy, Debug)]
pub enum SettingKind {
    /// One place to listen at.
    Listener,
    /// Several, as a list or as one text.
    Listeners,
    /// Addresses and networks of proxies.
    Proxies,
    Text,
    /// `ws://` or `wss://`, with a host.
    FeedUrl,
    /// JSON pointer of RFC 6901: starts with `/`.
    Pointer,
    List,
    Switch,
    Choice(&'static [&'static str]),
    /// Directives of tracing's `EnvFilter`.
    LogFilter,
    Duration {
        min: Duration,
        max: Duration,
    },
    /// A duration, or `none` for never.
    DurationOrNone {
        min: Duration,
        max: Duration,
    },
    Bytes {
        min: u64,
        max: u64,
    },
    Count {
        min: u64,
        max: u64,
    },
    Number {
        min: f64,
        max: f64,
    },
}

/// A value that its kind has accepted. `Count` and `Bytes` are both integers.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    Listener(ListenAddress),
    Listeners(Vec<ListenAddress>),
    Proxies(TrustedProxies),
    Text(String),
    List(Vec<String>),
    Switch(bool),
    Duration(Duration),
    /// In place of a duration: never.
    Never,
    Bytes(u64),
    Count(u64),
    Number(f64),
}

/// Why a text is not a value of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}{}", .remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub struct Mismatch {
    pub expected: String,
    pub found: String,
    pub remedy: Option<String>,
}

impl SettingKind {
    /// Reads the text of a variable or flag. Lists are separated by commas, or written as in TOML or JSON.
    pub fn read_text(&self, text: &str) -> Result<SettingValue, Mismatch> {
        let text = text.trim();
        let found = if matches!(self, SettingKind::FeedUrl) { without_secrets(text) } else { text.to_string() };
        match *self {
            SettingKind::Listener => ListenAddress::parse(text).map(SettingValue::Listener).map_err(Some),
            SettingKind::Listeners => listener::read_all(text).map(SettingValue::Listeners).map_err(Some),
            SettingKind::Proxies => TrustedProxies::read(text).map(SettingValue::Proxies).map_err(Some),
            SettingKind::Text => Ok(SettingValue::Text(text.into())),
            SettingKind::FeedUrl => check_feed_url(text).map(|()| SettingValue::Text(text.into())),
            SettingKind::Pointer => check_pointer(text).map(|()| SettingValue::Text(text.into())),
            SettingKind::List => list::read(text).map(SettingValue::List).map_err(Some),
            SettingKind::Switch => text.parse().map(SettingValue::Switch).map_err(|_| None),
            SettingKind::Choice(names) => {
                if names.contains(&text) {
                    Ok(SettingValue::Text(text.into()))
                } else {
                    Err(None)
                }
            }
            SettingKind::LogFilter => {
                filter::check_filter(text).map(|()| SettingValue::Text(text.into())).map_err(Some)
            }
            SettingKind::DurationOrNone { .. } if text == "none" => Ok(SettingValue::Never),
            SettingKind::Duration { min, max } | SettingKind::DurationOrNone { min, max } => read_duration(text)
                .and_then(
                    |value| if (min..=max).contains(&value) { Ok(SettingValue::Duration(value)) } else { Err(None) },
                ),
            SettingKind::Bytes { min, max } => read_size(text)
                .ok_or(Some("write bytes as a plain number, or `64KiB`, `16MiB`, `1GiB`".into()))
                .and_then(
                    |value| if (min..=max).contains(&value) { Ok(SettingValue::Bytes(value)) } else { Err(None) },
                ),
            SettingKind::Count { min, max } => {
                text.parse().ok().filter(|value| (min..=max).contains(value)).map(SettingValue::Count).ok_or(None)
            }
            SettingKind::Number { min, max } => {
                text.parse().ok().filter(|value| (min..=max).contains(value)).map(SettingValue::Number).ok_or(None)
            }
        }
        .map_err(|remedy| self.mismatch(format!("`{found}`"), remedy))
    }

    /// Reads a TOML value. The TOML type must fit: `"5"` is not an integer.
    pub fn read_toml(&self, value: &DeValue<'_>) -> Result<SettingValue, Mismatch> {
        let found = || format!("{} `{}`", named_type(value), shown(value));
        match (self, value) {
            (SettingKind::List | SettingKind::Listeners | SettingKind::Proxies, DeValue::Array(items)) => {
                let items = items.iter().map(|item| item.get_ref().as_str().map(Into::into));
                let items: Vec<String> = items
                    .collect::<Option<_>>()
                    .ok_or_else(|| self.mismatch(found(), Some("put each item in quotes".into())))?;
                match self {
                    SettingKind::List => Ok(SettingValue::List(items)),
                    _ => self.read_text(&serde_json::to_string(&items).expect("a list of texts is JSON")),
                }
            }
            (SettingKind::List | SettingKind::Proxies, _) => {
                Err(self.mismatch(found(), Some("write `[\"first\", \"second\"]`".into())))
            }
            (SettingKind::Switch | SettingKind::Count { .. } | SettingKind::Number { .. }, DeValue::String(text)) => {
                let remedy = self.read_text(text).is_ok().then(|| "remove the quotes".into());
                Err(self.mismatch(found(), remedy))
            }
            (SettingKind::Switch, DeValue::Boolean(_))
            | (SettingKind::Number { .. }, DeValue::Float(_))
            | (
                SettingKind::Count { .. } | SettingKind::Number { .. } | SettingKind::Bytes { .. },
                DeValue::Integer(_),
            )
            | (_, DeValue::String(_)) => self.read_text(&shown(value)),
            (SettingKind::Duration { .. } | SettingKind::DurationOrNone { .. }, DeValue::Integer(_)) => {
                Err(self.mismatch(found(), Some(format!("write a unit and quotes, such as `\"{}s\"`", shown(value)))))
            }
            (SettingKind::Bytes { .. }, _) => Err(self.mismatch(found(), None)),
            (SettingKind::Switch | SettingKind::Count { .. } | SettingKind::Number { .. }, _) => {
                Err(self.mismatch(found(), None))
            }
            _ => Err(self.mismatch(found(), Some("write it in quotes".into()))),
        }
    }

    /// Name for the placeholder of a flag.
    pub fn placeholder(&self) -> &'static str {
        match self {
            SettingKind::Listener | SettingKind::Listeners => "ADDR",
            SettingKind::Proxies => "NETWORK",
            SettingKind::Text => "TEXT",
            SettingKind::FeedUrl => "URL",
            SettingKind::Pointer => "POINTER",
            SettingKind::List => "ITEM",
            SettingKind::Switch => "true|false",
            SettingKind::Choice(_) => "NAME",
            SettingKind::LogFilter => "FILTER",
            SettingKind::Duration { .. } | SettingKind::DurationOrNone { .. } => "DURATION",
            SettingKind::Bytes { .. } => "BYTES",
            SettingKind::Count { .. } | SettingKind::Number { .. } => "N",
        }
    }

    fn mismatch(&self, found: String, remedy: Option<String>) -> Mismatch {
        Mismatch { expected: self.to_string(), found, remedy }
    }
}

/// The expected kind with its bounds: `a duration from 0s to 1h`.
impl fmt::Display for SettingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SettingKind::Listener => f.write_str("an address IP:PORT"),
            SettingKind::Listeners => f.write_str("addresses IP:PORT"),
            SettingKind::Proxies => f.write_str("a list of addresses and networks"),
            SettingKind::Text => f.write_str("a text"),
            SettingKind::FeedUrl => f.write_str("a URL ws:// or wss://"),
            SettingKind::Pointer => f.write_str("a JSON pointer"),
            SettingKind::List => f.write_str("a list of texts"),
            SettingKind::Switch => f.write_str("true or false"),
            SettingKind::Choice(names) => write!(f, "one of {}", names.join(", ")),
            SettingKind::LogFilter => f.write_str("a log filter"),
            SettingKind::Duration { min, max } => {
                write!(f, "a duration from {} to {}", SettingValue::Duration(min), SettingValue::Duration(max))
            }
            SettingKind::DurationOrNone { min, max } => {
                write!(f, "a duration from {} to {}, or none", SettingValue::Duration(min), SettingValue::Duration(max))
            }
            SettingKind::Bytes { min, max } => {
                write!(f, "a size from {} to {}", SettingValue::Bytes(min), SettingValue::Bytes(max))
            }
            SettingKind::Count { min, max: u64::MAX } => write!(f, "an integer from {min}"),
            SettingKind::Count { min, max } => write!(f, "an integer from {min} to {max}"),
            SettingKind::Number { min, max } => write!(f, "a number from {min} to {max}"),
        }
    }
}

/// As a person writes it, without quotes; [`SettingKind::read_text`] reads it back.
impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingValue::Listener(listener) => listener.fmt(f),
            SettingValue::Listeners(listeners) => listener::write_all(listeners).fmt(f),
            SettingValue::Proxies(trusted) => list::write(&trusted.items()).fmt(f),
            SettingValue::Text(text) => text.fmt(f),
            SettingValue::List(items) => list::write(items).fmt(f),
            SettingValue::Switch(on) => on.fmt(f),
            SettingValue::Never => f.write_str("none"),
            SettingValue::Duration(duration) => humantime::format_duration(*duration).fmt(f),
            SettingValue::Bytes(bytes) => {
                let unit = UNITS[..3].iter().find(|(_, size)| *bytes > 0 && bytes % size == 0);
                match unit {
                    Some((name, size)) => write!(f, "{}{name}", bytes / size),
                    None => bytes.fmt(f),
                }
            }
            SettingValue::Count(count) => count.fmt(f),
            SettingValue::Number(number) => number.fmt(f),
        }
    }
}

impl SettingValue {
    /// As written in a TOML file.
    pub fn to_toml(&self) -> String {
        match self {
            SettingValue::Switch(_) | SettingValue::Count(_) | SettingValue::Number(_) => self.to_string(),
            SettingValue::Bytes(bytes) if self.to_string() == bytes.to_string() => self.to_string(),
            SettingValue::List(items) => array(items),
            SettingValue::Listeners(listeners) if listeners.len() > 1 => array(&texts(listeners)),
            SettingValue::Proxies(trusted) => array(&trusted.items()),
            _ => toml::Value::String(self.to_string()).to_string(),
        }
    }
}

fn array(items: &[String]) -> String {
    toml::Value::Array(items.iter().map(|item| toml::Value::String(item.clone())).collect()).to_string()
}

type ValueRemedy = Option<String>;

fn texts(listeners: &[ListenAddress]) -> Vec<String> {
    listeners.iter().map(ListenAddress::to_string).collect()
}

fn check_feed_url(text: &str) -> Result<(), ValueRemedy> {
    if Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host()) {
        return Ok(());
    }
    if text.is_empty() {
        return Err(Some("write the feed's URL, or remove this; without a feed the simulated market is served".into()));
    }
    let text = without_secrets(text);
    Err(Some(match text.split_once("://") {
        Some(("http", rest)) => format!("a feed is a WebSocket: try `ws://{rest}`"),
        Some(("https", rest)) => format!("a feed is a WebSocket: try `wss://{rest}`"),
        Some(_) => "write it as `wss://HOST/PATH`".into(),
        None => format!("write it as `wss://{text}`, or `ws://{text}` if it is not encrypted"),
    }))
}

fn check_pointer(text: &str) -> Result<(), ValueRemedy> {
    if text.starts_with('/') {
        return Ok(());
    }
    let path = text.trim_start_matches(['$', '.']).replace('.', "/");
    Err(Some(format!("a pointer starts with `/`: try `/{path}`")))
}

fn read_duration(text: &str) -> Result<Duration, ValueRemedy> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| {
        let number: Option<u32> = text.parse().ok();
        Some(match number {
            Some(number) => format!("write a unit, such as `{number}s` or `{number}ms`"),
            None => "write a number and a unit, such as `250ms`, `15s` or `2m`".into(),
        })
    })
}

/// A TOML value as text, without quotes around strings, at most 64 characters for numbers and strings alike.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => integer.as_str().to_owned(),
        },
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let keys: Vec<&str> = table.iter().map(|(key, _)| key.get_ref().as_ref()).collect();
            format!("{{ {} }}", keys.join(", "))
        }
    }
}

fn named_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "the string",
        DeValue::Integer(_) => "the integer",
        DeValue::Float(_) => "the float",
        DeValue::Boolean(_) => "the boolean",
        DeValue::Datetime(_) => "the date",
        DeValue::Array(_) => "the list",
        DeValue::Table(_) => "the section",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: SettingKind = SettingKind::Duration { min: Duration::ZERO, max: Duration::from_secs(3600) };
    const PATIENCE: SettingKind =
        SettingKind::DurationOrNone { min: Duration::from_millis(1), max: Duration::from_secs(3600) };
    const SIZE: SettingKind = SettingKind::Bytes { min: 1024, max: 1 << 30 };
    const COUNT: SettingKind = SettingKind::Count { min: 1, max: 9 };

    #[test]
    fn what_is_written_is_read_back() {
        for (kind, text) in [
            (SettingKind::Listener, "[::]:0"),
            (SettingKind::Listeners, "127.0.0.1:8080"),
            (SettingKind::Listeners, "[::]:8080"),
            (SettingKind::Listeners, "127.0.0.1:8080,tls://[::]:8443,unix:/run/fanline.sock?mode=660"),
            (SettingKind::Proxies, "10.0.0.7,10.1.0.0/16,2001:db8::/32,unix"),
            (SettingKind::FeedUrl, "wss://stream.example.com:9443/ws?token=a"),
            (SettingKind::Pointer, "/data/s"),
            (SettingKind::List, "a,b"),
            (SettingKind::Switch, "false"),
            (SettingKind::Choice(&["text", "json"]), "json"),
            (SettingKind::LogFilter, "info,fanline=debug"),
            (SECONDS, "250ms"),
            (SECONDS, "1m 30s"),
            (SECONDS, "0s"),
            (PATIENCE, "none"),
            (PATIENCE, "250ms"),
            (SIZE, "64KiB"),
            (SIZE, "1025"),
            (COUNT, "9"),
            (SettingKind::Number { min: 0.1, max: 10.0 }, "0.5"),
        ] {
            let value = kind.read_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn an_unreadable_value_is_named_with_a_remedy() {
        for (kind, text, expected) in [
            (SECONDS, "2", "expected a duration from 0s to 1h, found `2`; write a unit, such as `2s` or `2ms`"),
            (
                SECONDS,
                "none",
                "expected a duration from 0s to 1h, found `none`; write a number and a unit, such as `250ms`, `15s` or `2m`",
            ),
            (PATIENCE, "2h", "expected a duration from 1ms to 1h, or none, found `2h`"),
            (SECONDS, "2h", "expected a duration from 0s to 1h, found `2h`"),
            (SIZE, "10", "expected a size from 1KiB to 1GiB, found `10`"),
            (
                SIZE,
                "64kib",
                "expected a size from 1KiB to 1GiB, found `64kib`; write bytes as a plain number, or `64KiB`, `16MiB`, `1GiB`",
            ),
            (COUNT, "10", "expected an integer from 1 to 9, found `10`"),
            (COUNT, "-1", "expected an integer from 1 to 9, found `-1`"),
            (SettingKind::Number { min: 0.1, max: 2.0 }, "NaN", "expected a number from 0.1 to 2, found `NaN`"),
            (SettingKind::Switch, "yes", "expected true or false, found `yes`"),
            (SettingKind::Choice(&["text", "json"]), "xml", "expected one of text, json, found `xml`"),
            (
                SettingKind::Pointer,
                "data.s",
                "expected a JSON pointer, found `data.s`; a pointer starts with `/`: try `/data/s`",
            ),
            (
                SettingKind::FeedUrl,
                "https://a.example/ws",
                "expected a URL ws:// or wss://, found `https://a.example/ws`; a feed is a WebSocket: try `wss://a.example/ws`",
            ),
            (
                SettingKind::FeedUrl,
                "https://me:word@a.example/ws?token=sk",
                "expected a URL ws:// or wss://, found `https://a.example/ws`; a feed is a WebSocket: try `wss://a.example/ws`",
            ),
            (
                SettingKind::FeedUrl,
                "localhost:9001",
                "expected a URL ws:// or wss://, found `localhost:9001`; \
                 write it as `wss://localhost:9001`, or `ws://localhost:9001` if it is not encrypted",
            ),
        ] {
            let error = kind.read_text(text).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn an_address_needs_a_port() {
        assert_eq!(SettingKind::Listeners.read_text("localhost:80").expect("localhost").to_string(), "127.0.0.1:80");
        for bad in ["8080", ":8080", "127.0.0.1", "localhost:", "example.com:80", "127.0.0.1:99999"] {
            let error = SettingKind::Listeners.read_text(bad).expect_err(bad);
            assert!(error.to_string().contains("`127.0.0.1:8080`"), "{error}");
        }
    }
}
