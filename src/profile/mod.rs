//! A profile: the declarative TOML description of a feed. How to connect, subscribe, keep alive, classify, name topics.
//!
//! The built-in ones lie in `built_in/` and are embedded (`built_in.rs`). A profile holds rules (`rule.rs`) and no
//! code. `keys/` lists every key; unknown keys are rejected.

pub mod client;
pub(crate) mod connection;
pub mod downstream;
pub(crate) mod headers;
pub(crate) mod hidden;
pub(crate) mod keys;
pub(crate) mod lifespan;
pub(crate) mod placeholders;
pub mod reference;
pub(crate) mod request;
pub(crate) mod rule;
pub mod rules;
pub(crate) mod secrets;
pub mod section;
pub(crate) mod snapshot;
pub(crate) mod step_file;
pub(crate) mod subscribe;
pub mod target;
pub(crate) mod template;

pub(crate) mod ack;
mod aliases;
mod built_in;
pub(crate) mod checksum;
pub(crate) mod compile;
pub(crate) mod decode;
pub(crate) mod item_key;
pub(crate) mod level;
pub(crate) mod mode;

mod test;

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use crate::json::Pointer;

use crate::profile::built_in::BUILT_IN;
use crate::profile::client::{ClientRules, NoSend};
use crate::profile::connection::{Connect, Keepalive, Opening, Resume, Retry, Sending};
use crate::profile::downstream::{Dialect, read_dialect};
use crate::profile::keys::ROOT;
use crate::profile::placeholders::Placeholder;
use crate::profile::request::VenueRequest;
use crate::profile::rule::{Naming, Rules};
use crate::profile::secrets::SignRule;
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, ProfileSource, did_you_mean, one_of};
use crate::profile::snapshot::SnapshotRule;
use crate::profile::subscribe::{ItemChange, Subscribe};
use crate::profile::template::Template;

const SIMULATED: &str = "simulated";

/// A checked profile.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    /// Host names of the feed, each optionally with the beginning of a path; subdomains count.
    pub hosts: Vec<String>,
    /// The text that it was read from.
    pub(crate) source: Arc<str>,
    pub(crate) connect: Connect,
    /// Made before each connection, in this order.
    pub(crate) requests: Vec<VenueRequest>,
    pub(crate) snapshot: Option<SnapshotRule>,
    pub(crate) opening: Opening,
    pub(crate) signs: Vec<SignRule>,
    pub(crate) keepalive: Keepalive,
    pub(crate) subscribe: Option<Subscribe>,
    pub(crate) sending: Sending,
    pub(crate) retry: Retry,
    pub(crate) resume: Option<Resume>,
    pub(crate) client: ClientRules,
    pub(crate) rules: Rules,
    /// What clients may speak besides fanline's own protocol.
    pub dialect: Option<Arc<Dialect>>,
    /// Neither chosen nor recognised by its host: the first message may reveal a better one.
    pub(crate) is_fallback: bool,
}

/// Checks a profile's text; `origin` is its file name, for the error.
pub fn check(text: &str, origin: &str) -> Result<Profile, ProfileError> {
    let source = ProfileSource { origin, text };
    let table = DeTable::parse(text).map_err(|error| {
        source.error(error.span().unwrap_or(0..0), "TOML", format!("expected valid TOML, found: {}", error.message()))
    })?;
    let root = ProfileSection::root(source, table.get_ref(), ROOT)?;
    let version = root.require("profile", "profile = 1")?;
    if version.count()? != 1 {
        return Err(version.error("expected `profile = 1`, found another version; use a fanline that supports it"));
    }
    let connect = connection::read_connect(&root)?;
    let branches: Vec<String> = connect.branches.iter().map(|(name, _)| name.clone()).collect();
    let sending = connection::read_sending(&root)?;
    let mut rules = compile::read_rules(&root)?;
    let aliases = aliases::read_aliases(&root)?;
    let requests = request::read_requests(&root)?;
    let taken: Vec<String> = request::taken(&requests).map(str::to_string).collect();
    let snapshot = snapshot::read_snapshot(&root, &mut rules, &taken)?;
    let profile = Profile {
        name: root.require("name", "name = \"my-feed\"")?.text()?.to_string(),
        hosts: read_texts(root.get("hosts"))?,
        source: text.into(),
        connect,
        requests,
        snapshot,
        opening: connection::read_opening(&root, &rules)?,
        signs: secrets::read_signs(root.get("sign"))?,
        keepalive: connection::read_keepalive(&root, &rules)?,
        subscribe: subscribe::read_subscribe(&root, (&rules, &aliases), (branches, sending.bytes_max))?,
        sending,
        retry: connection::read_retry(&root)?,
        resume: connection::read_resume(&root)?,
        client: client::read_client(&root)?,
        dialect: read_dialect(&root, &aliases)?,
        rules,
        is_fallback: false,
    };
    let signed = profile.signs.iter().flat_map(SignRule::templates);
    let branches = profile.connect.branches.iter().map(|(_, url)| url);
    for template in profile.templates().chain(&profile.connect.url).chain(branches).chain(signed) {
        request::check_taken(template, &taken).map_err(|problem| root.error("request", problem))?;
    }
    let signs: Vec<&str> = profile.signs.iter().map(SignRule::name).collect();
    let named = profile.templates().flat_map(|template| template.sources());
    for placeholder in named {
        if let Placeholder::Sign(name) = placeholder
            && !signs.contains(&&**name)
        {
            let hint = did_you_mean(name, &signs);
            return Err(root.error(
                "sign",
                format!("expected a section `[sign.{name}]` for `${{sign.{name}}}`, found none{hint}"),
            ));
        }
    }
    Ok(profile)
}

impl Profile {
    /// What its text says, whatever comments and the order of keys are.
    fn says(&self) -> Option<toml::Table> {
        self.source.parse().ok()
    }

    pub fn says_the_same_as(&self, other: &Profile) -> bool {
        self.source == other.source || self.says() == other.says()
    }

    /// Whether a running server can go over to the other one: what clients may speak was agreed on with them, and the
    /// room of connections and their branches are shared out.
    pub fn can_become(&self, other: &Profile) -> bool {
        let branches = |profile: &Profile| -> Vec<String> {
            profile.connect.branches.iter().map(|(name, _)| name.clone()).collect()
        };
        let part = |profile: &Profile| profile.says().and_then(|table| table.get("downstream").cloned());
        self.connect.items_max == other.connect.items_max
            && branches(self) == branches(other)
            && part(self) == part(other)
    }

    /// Topics are named by what the first messages have in common.
    pub(crate) fn guesses(&self) -> bool {
        self.rules.list.iter().any(|rule| matches!(rule.topic, Some(Naming::Guess)))
    }

    /// Items can leave a connection that stays open.
    pub(crate) fn can_drop(&self) -> bool {
        self.subscribe.as_ref().is_some_and(|how| how.change == ItemChange::Live && how.unsubscribes())
    }
}

/// Why a profile could not be chosen.
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

    /// A built-in profile by its name, or one from a file. A choice with `.` or `/` in it is a file.
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

    /// The built-in profile that knows the URL's host and path, the one with the longest entry; else `generic`.
    pub fn recognise(url: &str) -> Profile {
        let fitting = BUILT_IN.into_iter().filter_map(|(name, _)| {
            let profile = Profile::built_in(name)?;
            Some((profile.knows(url)?, profile))
        });
        let known = fitting.max_by_key(|(length, _)| *length).map(|(_, profile)| profile);
        known.unwrap_or_else(|| {
            let generic = Profile::built_in("generic").expect("there is a built-in profile `generic`");
            Profile { is_fallback: true, ..generic }
        })
    }

    /// The length of the longest entry of `hosts` that matches the URL's host and path.
    fn knows(&self, url: &str) -> Option<usize> {
        let url = url::Url::parse(url).ok()?;
        let (host, path) = (url.host_str()?.to_ascii_lowercase(), url.path());
        self.hosts.iter().filter(|known| knows(known, &host, path)).map(String::len).max()
    }

    /// The built-in profile that the URL belongs to, if it is another one: this one has hosts, and this is none of them.
    pub(crate) fn other_than(&self, url: &str) -> Option<String> {
        if self.hosts.is_empty() || self.knows(url).is_some() {
            return None;
        }
        let other = Profile::recognise(url);
        (!other.is_fallback && other.name != self.name).then_some(other.name)
    }

    /// The profile of another fanline, if this is the first message of one, and no profile was chosen.
    pub(crate) fn recognised_by(&self, first: &str) -> Option<Profile> {
        const WELCOME: &str = r#"{"op":"welcome","protocol":"fanline.v1","#;
        (self.is_fallback && first.starts_with(WELCOME)).then(|| Profile::built_in("fanline")).flatten()
    }

    /// That of the built-in market.
    pub fn simulated() -> Profile {
        Profile::built_in(SIMULATED).expect("there is a built-in profile `simulated`")
    }

    /// Whether the prices are invented, by the built-in market or by a `fanline simulate` elsewhere.
    pub fn is_simulated(&self) -> bool {
        self.name == SIMULATED
    }

    /// The feed's address, for use without a URL of the user's own.
    pub fn url(&self) -> Option<String> {
        self.connect.url.as_ref().map(|url| url.source().to_string())
    }

    /// Checks that the profile can send what clients may send; warns of requests that no list restricts.
    pub fn check_client_requests(&self, send: bool, request: bool) -> Result<(), NoSend> {
        if send && self.client.send.is_none() {
            return Err(NoSend { profile: self.name.clone() });
        }
        if request && self.client.request.as_ref().is_some_and(|request| request.allow.is_empty()) {
            tracing::warn!(
                profile = self.name,
                "clients may request anything from the feed in this server's name; limit them with \
                 `client.request.allow` in the profile"
            );
        }
        Ok(())
    }

    /// All templates that are sent on a connection or to open one.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template<Placeholder>> + Clone {
        let connect = self.connect.headers.iter().map(|(_, value)| value);
        let requests = self.requests.iter().flat_map(VenueRequest::templates);
        let snapshot = self.snapshot.iter().flat_map(|snapshot| snapshot.call.templates());
        let login = self.opening.login.iter().map(|login| &login.send);
        let ping = self.keepalive.ping.iter().map(|ping| &ping.send);
        let subscribe = self.subscribe.iter().flat_map(Subscribe::templates);
        let opening = self.opening.frames.iter().chain(login);
        connect
            .chain(requests)
            .chain(snapshot)
            .chain(opening)
            .chain(ping)
            .chain(subscribe)
            .chain(self.client.templates())
    }

    /// What topics of a branch begin with; 0 is the feed's own URL.
    pub(crate) fn prefix_of(&self, branch: usize) -> String {
        let branch = branch.checked_sub(1).and_then(|place| self.connect.branches.get(place));
        branch.map(|(name, _)| format!("{name}.")).unwrap_or_default()
    }

    /// Names of the values that requests take from their answers.
    pub(crate) fn taken(&self) -> impl Iterator<Item = &str> {
        request::taken(&self.requests)
    }

    /// The profile `generic` with the user's `--topic`: a pointer such as `/data/s`, or a template such as
    /// `${/type}.${/symbol}`.
    pub fn generic_with_topic(topic: &str) -> Result<Profile, ProfileError> {
        let wrong = |problem: String| ProfileSource { origin: "--topic", text: topic }.error(0..0, "topic", problem);
        let template = if topic.contains("${") {
            topic.to_string()
        } else {
            Pointer::parse(topic).map_err(|error| wrong(error.to_string()))?;
            format!("${{{topic}}}")
        };
        let mut profile = Profile::built_in("generic").expect("there is a built-in profile `generic`");
        profile.source = format!("topic = {}\n{}", toml::Value::from(topic), profile.source).into();
        profile.rules = compile::topic_rules(&template).map_err(wrong)?;
        Ok(profile)
    }
}

/// Whether an entry of `hosts` matches this host and path.
fn knows(known: &str, host: &str, path: &str) -> bool {
    let (known_host, known_path) = known.split_once('/').unwrap_or((known, ""));
    let in_domain = host.strip_suffix(known_host).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    in_domain && path.trim_start_matches('/').starts_with(known_path)
}

fn read_texts(entry: Option<ProfileEntry<'_>>) -> Result<Vec<String>, ProfileError> {
    let Some(entry) = entry else { return Ok(Vec::new()) };
    entry.list()?.iter().map(|item| item.text().map(str::to_string)).collect()
}

/// Reads an entry if it is there.
pub(crate) fn optional<'a, T>(
    entry: Option<ProfileEntry<'a>>,
    read: impl FnOnce(&ProfileEntry<'a>) -> Result<T, ProfileError>,
) -> Result<Option<T>, ProfileError> {
    entry.as_ref().map(read).transpose()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::profile::connection::Interval;

    const RULE: &str = "[[on]]\nname = \"all\"\nas = \"data\"\ntopic = \"${/s}\"\n";

    #[test]
    fn every_built_in_profile_is_valid_and_has_its_own_name() {
        for name in Profile::built_in_names() {
            assert_eq!(Profile::built_in(name).map(|profile| profile.name), Some(name.to_string()));
        }
    }

    #[test]
    fn a_url_of_another_venue_is_noticed() {
        let of = |name: &str, url: &str| Profile::built_in(name).expect(name).other_than(url);
        assert_eq!(of("kraken-v2", "wss://stream.binance.com/stream"), Some("binance".to_string()));
        for (name, url) in [
            ("binance", "wss://stream.binance.com/stream"),
            ("kraken-v2", "wss://ws.example.com"),
            ("kraken-v2", "ws://127.0.0.1:9001"),
            ("generic", "wss://stream.binance.com/stream"),
            ("kraken-v2", "${taken.endpoint}"),
        ] {
            assert_eq!(of(name, url), None, "{name} {url}");
        }
    }

    /// Those that users have described from the documentation, without what bots need.
    #[test]
    fn a_venue_needs_no_more_than_60_lines() {
        let venues = [
            "ascendex",
            "binance-coinm",
            "bitflyer",
            "bitget",
            "bitmex",
            "bybit-v5",
            "coinbase-advanced",
            "cryptocom",
            "dydx",
            "gateio",
            "hyperliquid",
            "independent-reserve",
            "kraken-futures",
            "kucoin",
            "phemex",
            "poloniex",
            "probit",
            "upbit",
        ];
        for venue in venues {
            let (_, text) = BUILT_IN.into_iter().find(|(name, _)| *name == venue).expect(venue);
            let lines = text.lines().take_while(|line| !line.starts_with("[downstream")).count();
            assert!(lines <= 60, "{venue}: {lines} lines");
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
    fn wrong_profiles_are_rejected_with_line_key_and_remedy() {
        for (text, place, part) in [
            ("profile = 1\nname = ", "my.toml:2: TOML", "expected valid TOML"),
            ("name = \"x\"", "profile", "expected `profile = 1`"),
            ("profile = 2", "my.toml:1: profile", "another version"),
            ("profile = 1\nname = \"x\"\n", "on:", "expected at least one rule"),
            ("profile = 1\nnam = \"x\"", "my.toml:2: nam", "did you mean `name`?"),
            ("profile = 1\n[connect]\nrotate=\"\"", "my.toml:3: connect.rotate", "reserved for a later"),
            (
                "profile = 1\n[connect]\nurl = \"ws://h\"\nmax_mesage = 3",
                "my.toml:4: connect.max_mesage",
                "`max_message`?",
            ),
            ("profile = 1\n[connect]\nurl = \"https://h/x\"", "my.toml:3: connect.url", "wss://h/x"),
            ("profile = 1\n[connect]\nmax_message = \"16 megabytes\"", "my.toml:3: connect.max_message", "`16MiB`"),
            ("profile = 1\n[connect]\nrotate_after = \"23\"", "my.toml:3: connect.rotate_after", "`30s`"),
            ("profile = 1\n[connect]\nurl = \"ws://h/${itms}\"", "my.toml:3: connect.url", "did you mean `items`?"),
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
        assert_eq!(profile.connect.message_bytes_max, Some(1 << 20));
        assert_eq!(profile.keepalive.idle_timeout, Some(None));
        assert_eq!(profile.keepalive.ws_ping, Some(Some(Duration::from_secs(5))));
        let ping = profile.keepalive.ping.expect("ping");
        assert!(matches!(ping.every, Interval::Fixed(every) if every == Duration::from_secs(20)));
        assert_eq!(ping.expect, Some(("pong".into(), Duration::from_secs(3))));
        assert_eq!(profile.sending.rate, Some(section::RateRule { count: 4, period: Duration::from_secs(1) }));
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

    /// The defaults that the documentation promises.
    #[test]
    fn an_empty_section_means_the_same_as_none() {
        let plain = format!("profile = 1\nname = \"x\"\n{RULE}");
        let meaning = |text: &str| {
            let read = check(text, "x.toml").unwrap_or_else(|error| panic!("{error}"));
            format!("{:?}", Profile { source: Arc::default(), ..read })
        };
        for section in ["[connect]", "[keepalive]", "[send]", "[backoff]", "[decode]", "[client]"] {
            assert_eq!(meaning(&format!("{plain}{section}\n")), meaning(&plain), "{section}");
        }
        let asking = format!("{plain}[subscribe]\nsend = '${{item}}'\n");
        assert_eq!(meaning(&format!("{asking}ack = {{ per = \"none\" }}\n")), meaning(&asking));
        let folded = plain.replace("topic =", "mode = \"delta\"\ntopic =");
        assert_eq!(meaning(&format!("{folded}delta_limit = {{}}\n")), meaning(&folded));
    }

    #[test]
    fn silences_are_reported_under_every_built_in_profile_as_documented() {
        use crate::profile::rules::treatment::StaleAfter;
        for name in Profile::built_in_names() {
            let text = BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("it is there").1;
            let profile = Profile::built_in(name).expect("it is there");
            // All have the default, `auto`, except `fanline`, which reports stale topics itself.
            let expected = if name == "fanline" { StaleAfter::Never } else { StaleAfter::Auto };
            assert_eq!(text.contains("stale_after"), expected == StaleAfter::Never, "{name}");
            assert_eq!(profile.keepalive.stale_after, expected, "{name}");
        }
        let topic = Profile::generic_with_topic("/s").expect("a pointer");
        assert_eq!(topic.keepalive.stale_after, StaleAfter::Auto);
    }

    #[test]
    fn a_name_in_another_case_is_known_where_the_feed_has_one() {
        for (name, item, right) in [
            ("twitch", "chat.xQc", Some("chat.xqc")),
            ("twitch", "chat.xqc", None),
            ("binance", "BTCUSDT@trade", Some("btcusdt@trade")),
            ("binance", "BTCUSDT@bookTicker", Some("btcusdt@bookTicker")),
            ("binance", "btcusdt@depth20@100ms", None),
            ("binance", "!miniTicker@arr", None),
            ("binance", "miniTicker.BTCUSDT", None),
            ("binance-usdm", "BTCUSDT@markPrice@1s", Some("btcusdt@markPrice@1s")),
            ("tradermade-v2", "eurusd", Some("EURUSD")),
            ("bitstamp", "live_trades_BTCUSD", Some("live_trades_btcusd")),
            ("kraken-v2", "ticker.BTC/USD", None),
        ] {
            let subscribe = Profile::built_in(name).and_then(|profile| profile.subscribe).expect("it can be asked");
            assert_eq!(subscribe.renamed(item).as_deref(), right, "{name}: {item}");
        }
    }

    #[test]
    fn built_in_profiles_with_subscriptions_have_an_example_of_an_item() {
        for name in Profile::built_in_names() {
            let Some(subscribe) = Profile::built_in(name).and_then(|profile| profile.subscribe) else { continue };
            let example = subscribe.example.clone();
            // These send without a subscription.
            assert!(["fanline", "generic", "jetstream"].contains(&name) || example.is_some(), "{name}");
            let example = example.unwrap_or_default();
            assert_eq!(subscribe.renamed(&example), None, "{name}: {example}");
        }
    }
}
