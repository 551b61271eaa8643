//! The options of `fanline bench`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use crate::protocol::encoding::Format;
use crate::settings::kind::{SettingKind, SettingValue};

/// Messages per second of a feed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateOption {
    PerSecond(f64),
    /// As many as clients take.
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatName {
    Envelope,
    Raw,
}

/// The flags of `fanline bench` besides the server's.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Clients to connect; with --capacity the most to try [default: 1000; with --capacity as many as open files allow].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub clients: Option<u64>,
    /// Messages per second of the built-in feed, 0 for silence, or `max`: as fast as clients take them [default: simulate.rate].
    #[arg(long, value_name = "N|max", conflicts_with = "target")]
    pub rate: Option<RateOption>,
    /// Bytes of a message of the built-in feed, at least about 50. Default: the market's messages, about 170.
    #[arg(long, value_name = "N", conflicts_with = "target", value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub bytes: Option<u64>,
    /// How long to measure [default: 10]; with --capacity how long to search [default: 60].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,
    /// Patterns that every client subscribes to, separated by commas.
    #[arg(long, value_name = "PATTERNS", default_value = ">")]
    pub topics: String,
    /// Instead: for each client a list of its own, this many random topics of the simulate.symbols x 2 of the built-in feed.
    #[arg(long, value_name = "N", conflicts_with_all = ["topics", "target", "bare"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub topics_each: Option<u64>,
    /// With --topics-each: topics in turn, so that every topic has as many clients, and groups of clients the same list.
    #[arg(long, requires = "topics_each")]
    pub overlap: bool,
    /// With --topics-each: changes of lists per second; in each a client replaces one of its topics by another.
    #[arg(long, value_name = "N", requires = "topics_each", conflicts_with = "capacity")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub changes_per_second: Option<u64>,
    /// Clients offer permessage-deflate.
    #[arg(long)]
    pub deflate: bool,
    /// Format of the messages.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "envelope")]
    pub format: FormatName,
    /// Clients speak TLS with the server that is started; it shows tls.certificates, or a certificate made for this.
    #[arg(long, conflicts_with = "target")]
    pub tls: bool,
    /// A running fanline, ws://HOST:PORT or wss://HOST:PORT, instead of one started for this.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// With a target at wss://: issuers of its certificate (PEM) besides those that this machine trusts.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub ca: Option<PathBuf>,
    /// With a target at wss://: accept any certificate.
    #[arg(long, requires = "target", conflicts_with = "ca")]
    pub insecure: bool,
    /// Find the number of clients this machine can serve.
    #[arg(long)]
    pub capacity: bool,
    /// With --capacity: the highest acceptable 99th percentile of latency.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    pub latency_max: Duration,
    /// Compare with a bare loop that only sends the same bytes, 1, 16 and 64 messages at a time.
    #[arg(long, conflicts_with_all = ["target", "capacity"])]
    pub bare: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl FromStr for RateOption {
    type Err = String;

    fn from_str(text: &str) -> Result<RateOption, String> {
        if text == "max" {
            return Ok(RateOption::Max);
        }
        let wrong = || format!("expected `max`, 0, or a number from 0.01 to 10000000, found `{text}`");
        let rate: f64 = text.parse().map_err(|_| wrong())?;
        if rate == 0.0 || (0.01..=10_000_000.0).contains(&rate) {
            Ok(RateOption::PerSecond(rate))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for RateOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateOption::PerSecond(rate) => write!(f, "{rate}"),
            RateOption::Max => f.write_str("max"),
        }
    }
}

impl Serialize for RateOption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RateOption::PerSecond(rate) => serializer.serialize_f64(*rate),
            RateOption::Max => serializer.serialize_str("max"),
        }
    }
}

impl FormatName {
    /// The name in queries and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            FormatName::Envelope => "envelope",
            FormatName::Raw => "raw",
        }
    }

    pub fn format(self) -> Format {
        match self {
            FormatName::Envelope => Format::Envelope,
            FormatName::Raw => Format::Raw,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let kind = SettingKind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(60) };
    match kind.read_text(text) {
        Ok(SettingValue::Duration(duration)) => Ok(duration),
        Ok(other) => unreachable!("a duration was read as {other}"),
        Err(mismatch) => Err(mismatch.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_bounds_or_max() {
        assert_eq!("max".parse(), Ok(RateOption::Max));
        assert_eq!("200".parse(), Ok(RateOption::PerSecond(200.0)));
        assert_eq!("0".parse(), Ok(RateOption::PerSecond(0.0)));
        for wrong in ["0.001", "-1", "fast", "1e9", "nan", ""] {
            let error = wrong.parse::<RateOption>().expect_err("refused");
            assert!(error.contains(&format!("found `{wrong}`")), "{error}");
        }
    }
}
