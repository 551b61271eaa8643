//! A profile: the declarative TOML description of a feed. How to connect, subscribe, keep alive, classify, name topics.
//!
//! The built-in ones lie in `profiles/` and are embedded (`built_in.rs`). A profile never names what it wants from a message by code,
//! only by rules (`rule.rs`); what it may contain is listed in [`check`]'s key tables below, and every key means
//! something: what is not understood is refused.

pub mod rule;
pub mod section;
pub mod subscribe;
pub mod template;

mod built_in;
pub(crate) mod compile;
pub(crate) mod decode;

mod test;

use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;

use crate::wire::json::Pointer;

use self::built_in::BUILT_IN;
use self::rule::{Class, Rules};
use self::section::{Entry, Keys, ProfileError, Section, Source, did_you_mean, one_of};
use self::subscribe::{Subscribe, Word};
use self::template::Template;

const ROOT: Keys = Keys {
    known: &[
        "profile",
        "name",
        "hosts",
        "connect",
        "keepalive",
        "subscribe",
        "send",
        "bind_via",
        "decode",
        "seq",
        "alias",
        "unmatched",
        "on",
    ],
    later: &["open", "login", "sign", "backoff", "resume"],
};
const CONNECT: Keys = Keys {
    known: &["url", "max_message"],
    later: &[
        "headers",
        "subprotocol",
        "deflate",
        "open_timeout",
        "max_conns",
        "topics_per_conn",
        "dial_rate",
        "rotate_after",
        "rotate",
        "http",
    ],
};
const KEEPALIVE: Keys = Keys { known: &["idle_timeout", "ws_ping", "pong_timeout", "ping"], later: &["stale_after"] };
const PING: Keys = Keys { known: &["every", "send", "expect", "timeout"], later: &["idle_only"] };
const SUBSCRIBE: Keys = Keys {
    known: &["item", "batch", "send", "max_bytes"],
    later: &["unsubscribe", "max_chars", "group_by", "after", "deadline", "channels", "change", "ack", "topics_from"],
};
const SEND: Keys = Keys { known: &["rate", "max_bytes"], later: &["budget"] };

/// A checked profile.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    /// Host names it is meant for; a subdomain of one counts as well.
    pub hosts: Vec<String>,
    /// Where the feed is, for use without a URL of the user's own.
    pub url: Option<String>,
    /// Longest message in bytes.
    pub(crate) message_bytes_max: Option<usize>,
    pub(crate) keepalive: Keepalive,
    pub(crate) subscribe: Option<Subscribe>,
    /// Least time between two messages sent.
    pub(crate) send_spacing: Duration,
    pub(crate) rules: Rules,
}

/// What the profile says about keeping a connection alive; none: the settings decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keepalive {
    /// `Some(None)` is the profile's `none`: silence is no reason for anything.
    pub idle_timeout: Option<Option<Duration>>,
    pub ws_ping: Option<Option<Duration>>,
    pub pong_timeout: Option<Duration>,
    pub ping: Option<Heartbeat>,
}

/// A heartbeat in the feed's own messages.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub every: Duration,
    pub send: Template<Word>,
    /// Name of the rule that knows the answer, and how long the answer may take.
    pub expect: Option<(String, Duration)>,
}

/// Checks a profile's text; `origin` is its file name, for the error.
pub fn check(text: &str, origin: &str) -> Result<Profile, ProfileError> {
    let source = Source { origin, text };
    let table = DeTable::parse(text).map_err(|error| {
        source.error(error.span().unwrap_or(0..0), "TOML", format!("expected valid TOML, found: {}", error.message()))
    })?;
    let root = Section::root(source, table.get_ref(), ROOT)?;
    let version = root.require("profile", "profile = 1")?;
    if version.count()? != 1 {
        return Err(version.error("expected `profile = 1`, found another version; use a fanline that knows it"));
    }
    let (url, message_bytes_max) = read_connect(&root)?;
    let send = root.get("send").map(|entry| entry.section(SEND)).transpose()?;
    let send_entry = |key| send.as_ref().and_then(|send| send.get(key));
    let send_bytes_max = optional(send_entry("max_bytes"), Entry::bytes)?;
    let send_spacing = optional(send_entry("rate"), Entry::spacing)?.unwrap_or_default();
    let rules = compile::read_rules(&root)?;
    Ok(Profile {
        name: root.require("name", "name = \"my-feed\"")?.text()?.to_string(),
        hosts: read_texts(root.get("hosts"))?,
        url,
        message_bytes_max,
        keepalive: read_keepalive(&root, &rules)?,
        subscribe: read_subscribe(&root, send_bytes_max)?,
        send_spacing,
        rules,
    })
}

/// Why there is no profile for what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    #[error("expected {} or a file, found `{choice}`{hint}", one_of(&Profile::built_in_names()))]
    Unknown { choice: String, hint: String },
    #[error("expected a readable profile, found `{path}`: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error(transparent)]
    Wrong(#[from] ProfileError),
}

impl Profile {
    pub fn built_in_names() -> [&'static str; BUILT_IN.len()] {
        BUILT_IN.map(|(name, _)| name)
    }

    pub fn built_in(name: &str) -> Option<Profile> {
        let (name, text) = BUILT_IN.into_iter().find(|(known, _)| *known == name)?;
        Some(check(text, name).expect("the built-in profiles are checked by a test"))
    }

    /// A built-in profile by its name, or one from a file. Something with `.` or `/` in it is a file.
    pub fn choose(choice: &str) -> Result<Profile, ChoiceError> {
        if let Some(profile) = Profile::built_in(choice) {
            return Ok(profile);
        }
        if !choice.contains(['.', '/']) && !Path::new(choice).exists() {
            let hint = did_you_mean(choice, &Profile::built_in_names());
            return Err(ChoiceError::Unknown { choice: choice.to_string(), hint });
        }
        let text = std::fs::read_to_string(choice)
            .map_err(|error| ChoiceError::Unreadable { path: choice.to_string(), error })?;
        Ok(check(&text, choice)?)
    }

    /// The built-in profile that knows the URL's host, else `generic`.
    pub fn recognise(url: &str) -> Profile {
        let host = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase));
        let known = host.and_then(|host| {
            Profile::built_in_names().into_iter().filter_map(Profile::built_in).find(|profile| profile.knows(&host))
        });
        known.unwrap_or_else(|| Profile::built_in("generic").expect("there is a built-in profile `generic`"))
    }

    fn knows(&self, host: &str) -> bool {
        let under =
            |known: &String| host.strip_suffix(&**known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.hosts.iter().any(under)
    }

    /// The profile `generic` with topics from where the user says (`--topic`): a pointer such as `/data/s`, or a
    /// template such as `${/type}.${/symbol}`.
    pub fn generic_with_topic(topic: &str) -> Result<Profile, ProfileError> {
        let wrong = |problem: String| Source { origin: "--topic", text: topic }.error(0..0, "topic", problem);
        let template = if topic.contains("${") {
            topic.to_string()
        } else {
            Pointer::parse(topic).map_err(|error| wrong(error.to_string()))?;
            format!("${{{topic}}}")
        };
        let mut profile = Profile::built_in("generic").expect("there is a built-in profile `generic`");
        profile.rules = compile::topic_rules(&template).map_err(wrong)?;
        Ok(profile)
    }
}

fn read_connect(root: &Section<'_>) -> Result<(Option<String>, Option<usize>), ProfileError> {
    let Some(connect) = root.get("connect").map(|entry| entry.section(CONNECT)).transpose()? else {
        return Ok((None, None));
    };
    let url = optional(connect.get("url"), |entry| match entry.text()? {
        template if template.contains("${") => {
            Err(entry.error("expected a plain URL, found a placeholder, which this version does not understand yet"))
        }
        url => crate::intake::line::connect::Target::parse(url)
            .map(|_| url.to_string())
            .map_err(|error| entry.error(error)),
    })?;
    Ok((url, optional(connect.get("max_message"), Entry::bytes)?))
}

fn read_keepalive(root: &Section<'_>, rules: &Rules) -> Result<Keepalive, ProfileError> {
    let Some(section) = root.get("keepalive").map(|entry| entry.section(KEEPALIVE)).transpose()? else {
        return Ok(Keepalive::default());
    };
    let ping = optional(section.get("ping"), |entry| {
        let ping = entry.section(PING)?;
        let send = ping.require("send", "send = \"ping\"")?;
        let expect = optional(ping.get("expect"), |entry| {
            let name = entry.text()?;
            let pongs = rules.list.iter().filter(|rule| rule.class == Class::Pong);
            let names: Vec<&str> = pongs.map(|rule| &*rule.name).collect();
            match names.contains(&name) {
                true => Ok(name.to_string()),
                false => Err(entry.error(format!(
                    "expected the name of a rule with `as = \"pong\"`, found `{name}`{}",
                    did_you_mean(name, &names)
                ))),
            }
        })?;
        let timeout = optional(ping.get("timeout"), Entry::duration)?;
        if timeout.is_some() && expect.is_none() {
            return Err(
                ping.error("expect", "expected the name of the rule to wait for beside `timeout`, found nothing")
            );
        }
        Ok(Heartbeat {
            every: ping.require("every", "every = \"20s\"")?.duration()?,
            send: template(&send, &[Word::Req])?,
            expect: expect.map(|name| (name, timeout.unwrap_or(Duration::from_secs(10)))),
        })
    })?;
    Ok(Keepalive {
        idle_timeout: optional(section.get("idle_timeout"), Entry::duration_or_none)?,
        ws_ping: optional(section.get("ws_ping"), Entry::duration_or_none)?,
        pong_timeout: optional(section.get("pong_timeout"), Entry::duration)?,
        ping,
    })
}

fn read_subscribe(root: &Section<'_>, send_bytes_max: Option<usize>) -> Result<Option<Subscribe>, ProfileError> {
    optional(root.get("subscribe"), |entry| {
        let section = entry.section(SUBSCRIBE)?;
        let send_entry = section.require("send", "send = '{\"subscribe\":${items|json}}'")?;
        let send = template(&send_entry, &[Word::Items, Word::Item, Word::Req])?;
        let one_by_one = send.sources().any(|word| *word == Word::Item);
        if one_by_one && send.sources().any(|word| *word == Word::Items) {
            return Err(send_entry.error("expected either `${items}` or `${item}`, found both"));
        }
        let batch = optional(section.get("batch"), Entry::count)?;
        if one_by_one && batch.is_some_and(|batch| batch > 1) {
            return Err(
                section.error("batch", "expected 1 beside `${item}` in `send`, found more; use `${items|json}`")
            );
        }
        let bytes_max = optional(section.get("max_bytes"), Entry::bytes)?;
        Ok(Subscribe {
            item: optional(section.get("item"), |entry| template(entry, &[Word::Item]))?,
            // 100 items: well below what any recorded venue refuses.
            batch: if one_by_one { 1 } else { batch.unwrap_or(100) },
            send,
            bytes_max: bytes_max.into_iter().chain(send_bytes_max).min().unwrap_or(usize::MAX),
        })
    })
}

fn template(entry: &Entry<'_>, possible: &[Word]) -> Result<Template<Word>, ProfileError> {
    Template::parse(entry.text()?, |source| Word::parse(source, possible)).map_err(|problem| entry.error(problem))
}

fn read_texts(entry: Option<Entry<'_>>) -> Result<Vec<String>, ProfileError> {
    let Some(entry) = entry else { return Ok(Vec::new()) };
    entry.list()?.iter().map(|item| item.text().map(str::to_string)).collect()
}

/// Reads an entry if it is there.
pub(crate) fn optional<'a, T>(
    entry: Option<Entry<'a>>,
    read: impl FnOnce(&Entry<'a>) -> Result<T, ProfileError>,
) -> Result<Option<T>, ProfileError> {
    entry.as_ref().map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "[[on]]\nname = \"all\"\nas = \"data\"\ntopic = \"${/s}\"\n";

    #[test]
    fn every_built_in_profile_is_right_and_named_as_it_is_called() {
        for name in Profile::built_in_names() {
            assert_eq!(Profile::built_in(name).map(|profile| profile.name), Some(name.to_string()));
        }
    }

    #[test]
    fn profiles_are_recognised_by_host() {
        for (url, name) in [
            ("wss://stream.binance.com:9443/stream", "binance"),
            ("wss://STREAM.binance.com/ws/btcusdt@trade", "binance"),
            ("wss://data-stream.binance.vision/ws", "binance"),
            ("wss://notstream.binance.com/ws", "generic"),
            ("wss://ws.example.com/v2", "generic"),
            ("no url", "generic"),
        ] {
            assert_eq!(Profile::recognise(url).name, name, "{url}");
        }
    }

    #[test]
    fn wrong_profiles_are_refused_with_line_key_and_remedy() {
        for (text, place, part) in [
            ("profile = 1\nname = ", "my.toml:2: TOML", "expected valid TOML"),
            ("name = \"x\"", "profile", "expected `profile = 1`"),
            ("profile = 2", "my.toml:1: profile", "another version"),
            ("profile = 1\nname = \"x\"\n", "on:", "expected at least one rule"),
            ("profile = 1\nnam = \"x\"", "my.toml:2: nam", "did you mean `name`?"),
            ("profile = 1\n[login]\nsend=\"\"", "my.toml:2: login", "does not yet"),
            (
                "profile = 1\n[connect]\nurl = \"ws://h\"\nmax_mesage = 3",
                "my.toml:4: connect.max_mesage",
                "`max_message`?",
            ),
            ("profile = 1\n[connect]\nurl = \"https://h/x\"", "my.toml:3: connect.url", "wss://h/x"),
            ("profile = 1\n[connect]\nmax_message = \"16MB\"", "my.toml:3: connect.max_message", "`16MiB`"),
            ("profile = 1\n[connect]\nrotate_after = \"23h\"", "my.toml:3: connect.rotate_after", "does not yet"),
            ("profile = 1\n[send]\nrate = \"4\"", "my.toml:3: send.rate", "`4/s`"),
            ("profile = 1\n[[on]]\nname=\"a\"\nas=\"dta\"", "my.toml:4: on.1.as", "did you mean `data`?"),
            ("profile = 1\n[[on]]\nname=\"a\"\nas=\"data\"", "on.1.topic", "expected `topic"),
            ("profile = 1\n[[on]]\nname=\"a\"\nas=\"ping\"", "on.1.reply", "expected `reply"),
            ("profile = 1\n[[on]]\nname=\"a\"\nas=\"info\"\nwhen=['/x ~~ 1']", "my.toml:5: on.1.when.1", "found `~~`"),
            ("profile = 1\n[[on]]\nname=\"a\"\nas=\"data\"\ntopic=\"${./s}\"", "my.toml:5: on.1.topic", "each"),
            (
                "profile = 1\n[[on]]\nname=\"a\"\nas=\"ack\"\ntopic=\"x\"",
                "my.toml:5: on.1.topic",
                "only in rules of class `data`",
            ),
        ] {
            let error = check(text, "my.toml").expect_err(text).to_string();
            assert!(error.starts_with("my.toml:"), "{error}");
            assert!(error.contains(place) && error.contains(part), "{text}\n{error}");
        }
        let keepalive = "[keepalive]\nidle_timeout = \"30\"\n";
        let error = check(&format!("profile = 1\nname = \"x\"\n{keepalive}{RULE}"), "my.toml").expect_err("no unit");
        assert_eq!(
            error.to_string(),
            "my.toml:4: keepalive.idle_timeout: expected a duration such as `30s` or `250ms`, found `30`"
        );
    }

    #[test]
    fn a_full_profile_is_read_as_written() {
        let text = format!(
            "profile = 1\nname = \"x\"\nhosts = [\"a.b\"]\n[connect]\nurl = \"wss://a.b/ws\"\nmax_message = \"1MiB\"\n\
             [keepalive]\nidle_timeout = \"none\"\nws_ping = \"5s\"\npong_timeout = \"2s\"\n\
             ping = {{ every = \"20s\", send = 'ping ${{req}}', expect = \"pong\", timeout = \"3s\" }}\n\
             [send]\nrate = \"4/s\"\nmax_bytes = 100\n[subscribe]\nbatch = 7\nsend = '${{items|json}}'\nmax_bytes = 200\n\
             [[on]]\nname = \"pong\"\nas = \"pong\"\nwhen = ['text ^= \"pong\"']\n{RULE}"
        );
        let profile = check(&text, "x.toml").expect("right");
        assert_eq!(profile.message_bytes_max, Some(1 << 20));
        assert_eq!(profile.keepalive.idle_timeout, Some(None));
        assert_eq!(profile.keepalive.ws_ping, Some(Some(Duration::from_secs(5))));
        let ping = profile.keepalive.ping.expect("ping");
        assert_eq!((ping.every, ping.expect), (Duration::from_secs(20), Some(("pong".into(), Duration::from_secs(3)))));
        assert_eq!(profile.send_spacing, Duration::from_millis(250));
        let subscribe = profile.subscribe.expect("subscribe");
        assert_eq!((subscribe.batch, subscribe.bytes_max), (7, 100));
    }

    #[test]
    fn a_choice_is_a_name_or_a_file() {
        assert_eq!(Profile::choose("binance").map(|profile| profile.name).ok().as_deref(), Some("binance"));
        let unknown = Profile::choose("binanse").expect_err("unknown").to_string();
        assert!(unknown.contains("did you mean `binance`?"), "{unknown}");
        let missing = Profile::choose("./no/such.toml").expect_err("missing").to_string();
        assert!(missing.contains("`./no/such.toml`"), "{missing}");
    }

    #[test]
    fn a_topic_of_the_users_own_is_a_pointer_or_a_template() {
        assert!(Profile::generic_with_topic("/data/s").is_ok());
        assert!(Profile::generic_with_topic("${/type}.${/s}").is_ok());
        let error = Profile::generic_with_topic("data/s").expect_err("no slash").to_string();
        assert!(error.contains("write `/data/s`"), "{error}");
    }
}
