//! The values in force where a setting and a key of the profile mean the same: one rule, applied once, before connecting.
//!
//! The operator's setting overrides the profile's key, which states a rule of the venue. The key overrides the default.
//! `fanline config` shows the outcome.

use std::fmt;
use std::time::Duration;

use crate::intake::upstream::{FeedChanges, Settings as UpstreamSettings};
use crate::profile::Profile;
use crate::settings::kind::SettingValue;
use crate::settings::table::{Config, Timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30);
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// One setting that profiles also have a key for, with the value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub setting: &'static str,
    /// None: unset, which means never.
    pub value: Option<SettingValue>,
    pub winner: Winner,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Winner {
    /// The operator's setting, which overrides the profile's key and value, if there is one.
    Setting {
        overrides: Option<(&'static str, SettingValue)>,
    },
    Profile {
        key: &'static str,
    },
    Default,
}

/// Settings for the intake, and how each was decided.
#[derive(Debug)]
pub struct EffectiveUpstream {
    pub settings: UpstreamSettings,
    pub decisions: Vec<Decision>,
}

impl EffectiveUpstream {
    pub fn new(config: &Config, mut profile: Profile, url: String) -> EffectiveUpstream {
        let (upstream, mut decisions) = (&config.upstream, Decisions::default());
        let (connect, keepalive, retry) = (&mut profile.connect, &mut profile.keepalive, &mut profile.retry);
        let connect_timeout = decisions.decide(
            ("upstream.connect_timeout", "connect.open_timeout"),
            (upstream.connect_timeout, &mut connect.open_timeout),
            CONNECT_TIMEOUT,
        );
        let message_bytes_max = decisions.decide(
            ("upstream.message_bytes_max", "connect.max_message"),
            (upstream.message_bytes_max, &mut connect.message_bytes_max),
            MESSAGE_BYTES_MAX,
        );
        let deflate =
            decisions.decide(("upstream.deflate", "connect.deflate"), (upstream.deflate, &mut connect.deflate), false);
        let mut rotation = connect.rotate_after.map(Some);
        let rotate_after = decisions.decide(
            ("upstream.rotate_after", "connect.rotate_after"),
            (upstream.rotate_after.map(Some), &mut rotation),
            None,
        );
        connect.rotate_after = rotation.flatten();
        let idle_timeout = decisions.decide(
            ("upstream.idle_timeout", "keepalive.idle_timeout"),
            (upstream.idle_timeout.map(|Timeout(timeout)| timeout), &mut keepalive.idle_timeout),
            Some(IDLE_TIMEOUT),
        );
        let ping_interval = decisions.decide(
            ("upstream.ping_interval", "keepalive.ws_ping"),
            (upstream.ping_interval.map(Some), &mut keepalive.ws_ping),
            Some(PING_INTERVAL),
        );
        let pong_timeout = decisions.decide(
            ("upstream.pong_timeout", "keepalive.pong_timeout"),
            (upstream.pong_timeout, &mut keepalive.pong_timeout),
            PONG_TIMEOUT,
        );
        let backoff_min = decisions.decide(
            ("upstream.backoff_min", "backoff.min"),
            (upstream.backoff_min, &mut retry.min),
            BACKOFF_MIN,
        );
        let backoff_max = decisions.decide(
            ("upstream.backoff_max", "backoff.max"),
            (upstream.backoff_max, &mut retry.max),
            BACKOFF_MAX,
        );
        // A minimum that is set raises a maximum that is not.
        retry.max = retry.max.map(|max| max.max(backoff_min));
        let settings = UpstreamSettings {
            urls: std::iter::once(url).chain(upstream.fallback_urls.iter().cloned()).collect(),
            profile,
            headers: upstream.headers.clone(),
            items: upstream.subscribe.clone(),
            legs: upstream.legs,
            connections: upstream.connections,
            connect_timeout,
            proxy: upstream.proxy.clone(),
            client_certificate: upstream.client_certificate.clone(),
            redirects_max: upstream.redirects_max,
            idle_timeout: Some(idle_timeout.unwrap_or(Duration::ZERO)),
            ping_interval: ping_interval.unwrap_or(Duration::ZERO),
            pong_timeout,
            backoff_min,
            backoff_max: backoff_max.max(backoff_min),
            rotate_after,
            message_bytes_max,
            deflate,
            interest: None,
            linger: upstream.linger,
            requests: None,
            first_message_timeout: upstream.first_message_timeout,
            expire_after: Some(config.topics.expire_after).filter(|after| !after.is_zero()),
            changes: FeedChanges::default(),
            kept: None,
        };
        EffectiveUpstream { settings, decisions: decisions.0 }
    }

    /// One sentence for each key of the profile that a different setting overrides.
    pub fn overridden(&self) -> impl Iterator<Item = String> {
        self.decisions.iter().filter_map(|Decision { setting, value, winner }| match (value, winner) {
            (Some(value), Winner::Setting { overrides: Some((key, other)) }) if value != other => Some(format!(
                "{setting} = `{value}` overrides `{key}` = `{other}` of profile `{}`",
                self.settings.profile.name
            )),
            _ => None,
        })
    }
}

impl fmt::Display for Winner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Winner::Setting { overrides: Some((key, value)) } => {
                write!(f, "set, overrides the profile's {key} = {value}")
            }
            Winner::Setting { overrides: None } => f.write_str("set"),
            Winner::Profile { key } => write!(f, "the profile's {key}"),
            Winner::Default => f.write_str("default"),
        }
    }
}

#[derive(Default)]
struct Decisions(Vec<Decision>);

impl Decisions {
    /// The value in force. A key that a setting overrides is removed from the profile.
    fn decide<T: Clone + Shown>(
        &mut self,
        (setting, key): (&'static str, &'static str),
        (set, in_profile): (Option<T>, &mut Option<T>),
        default: T,
    ) -> T {
        let (value, winner) = match (set, &*in_profile) {
            (Some(value), _) => {
                let other = in_profile.take().map(|other| other.shown().unwrap_or(SettingValue::Never));
                (value, Winner::Setting { overrides: other.map(|other| (key, other)) })
            }
            (None, Some(value)) => (value.clone(), Winner::Profile { key }),
            (None, None) => (default, Winner::Default),
        };
        self.0.push(Decision { setting, value: value.shown(), winner });
        value
    }
}

/// A value that a decision can be about.
trait Shown {
    fn shown(&self) -> Option<SettingValue>;
}

impl Shown for Duration {
    fn shown(&self) -> Option<SettingValue> {
        Some(SettingValue::Duration(*self))
    }
}

impl Shown for Option<Duration> {
    fn shown(&self) -> Option<SettingValue> {
        self.map(SettingValue::Duration)
    }
}

impl Shown for bool {
    fn shown(&self) -> Option<SettingValue> {
        Some(SettingValue::Switch(*self))
    }
}

impl Shown for usize {
    fn shown(&self) -> Option<SettingValue> {
        Some(SettingValue::Bytes(*self as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::keys;
    use crate::settings::setting::Preset;
    use crate::settings::table;

    const PROFILE: &str = "profile = 1\nname = \"venue\"\n[keepalive]\npong_timeout = \"5s\"\nws_ping = \"none\"\n[[on]]\nname = \"data\"\nas = \"data\"\ntopic = \"${/s}\"\n";

    fn effective(set: impl FnOnce(&mut Config)) -> EffectiveUpstream {
        let mut config = Config::default();
        set(&mut config);
        let profile = crate::profile::check(PROFILE, "venue.toml").unwrap_or_else(|error| panic!("{error}"));
        EffectiveUpstream::new(&config, profile, "ws://127.0.0.1".into())
    }

    #[test]
    fn the_keys_that_are_named_are_keys_of_profiles() {
        const EVERY_KEY: &str = "profile = 1\nname = \"venue\"\n[connect]\nopen_timeout = \"5s\"\nmax_message = \"1MiB\"\ndeflate = true\n\
            rotate_after = \"1h\"\n[keepalive]\nidle_timeout = \"20s\"\nws_ping = \"5s\"\npong_timeout = \"5s\"\n\
            [backoff]\nmin = \"1s\"\nmax = \"9s\"\n[[on]]\nname = \"data\"\nas = \"data\"\ntopic = \"${/s}\"\n";
        let profile = crate::profile::check(EVERY_KEY, "venue.toml").unwrap_or_else(|error| panic!("{error}"));
        let known: Vec<String> = keys::ALL
            .iter()
            .flat_map(|keys| keys.known.iter().map(|key| format!("{}.{}", keys.section, key.name)))
            .collect();
        for decision in EffectiveUpstream::new(&Config::default(), profile, "ws://127.0.0.1".into()).decisions {
            let Winner::Profile { key } = decision.winner else {
                panic!("{} is not decided by the profile: {:?}", decision.setting, decision.winner);
            };
            assert!(known.iter().any(|name| name == key), "there is no key `{key}`");
        }
    }

    #[test]
    fn settings_override_the_profile_and_the_profile_overrides_defaults() {
        let plain = effective(|_| {});
        assert_eq!(plain.settings.pong_timeout, Duration::from_secs(5));
        assert_eq!(plain.settings.ping_interval, Duration::ZERO, "the profile has none");
        assert_eq!(plain.settings.connect_timeout, CONNECT_TIMEOUT);
        assert_eq!(plain.overridden().count(), 0);

        let set = effective(|config| config.upstream.pong_timeout = Some(Duration::from_secs(7)));
        assert_eq!(
            (set.settings.pong_timeout, set.settings.profile.keepalive.pong_timeout),
            (Duration::from_secs(7), None)
        );
        let sentences: Vec<String> = set.overridden().collect();
        assert_eq!(
            sentences,
            ["upstream.pong_timeout = `7s` overrides `keepalive.pong_timeout` = `5s` of profile `venue`"]
        );
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let profile = crate::profile::Profile::choose("generic").unwrap_or_else(|error| panic!("{error}"));
        let effective = EffectiveUpstream::new(&Config::default(), profile, "ws://127.0.0.1".into());
        for Decision { setting: name, value, winner } in effective.decisions {
            let setting = table::find(name).unwrap_or_else(|| panic!("{name} is not a setting"));
            let Preset::Unset(example) = setting.preset else { panic!("{name} must be unset by default") };
            assert_eq!(winner, Winner::Default, "{name}");
            if let Some(value) = value {
                assert_eq!(setting.kind.read_text(example), Ok(value), "{name}");
                assert!(setting.doc.contains(&format!("else {example}")), "{name}: {}", setting.doc);
            }
        }
    }
}
