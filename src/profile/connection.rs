//! The parts of a profile about one connection: its address, its opening, its keepalive, its reopening.

use std::time::Duration;

use crate::json::Pointer;

use crate::profile::headers;
use crate::profile::headers::Headers;
use crate::profile::keys::{BACKOFF, CONNECT, KEEPALIVE, LOGIN, OPEN, PING, RESUME, SEND};
use crate::profile::lifespan::Lifespan;
use crate::profile::optional;
use crate::profile::placeholders::{Placeholder, TemplateSite};
use crate::profile::rule::{MessageClass, Rules};
use crate::profile::rules::treatment::StaleAfter;
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, RateRule, did_you_mean, one_of};
use crate::profile::target::FeedUrl;
use crate::profile::template::Template;
use crate::words::topic::check_topic;

/// Time for an answer of the venue during the opening of a connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Address and opening of a connection; none: the settings decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connect {
    /// The feed's address, for use without a URL of the user's own.
    pub url: Option<Template<Placeholder>>,
    /// Further URLs: items and topics of each begin with its name and a point.
    pub branches: Vec<(String, Template<Placeholder>)>,
    pub headers: Headers,
    pub subprotocol: Option<String>,
    /// Longest message in bytes.
    pub message_bytes_max: Option<usize>,
    /// Whether the feed may compress its messages (RFC 7692).
    pub deflate: Option<bool>,
    pub open_timeout: Option<Duration>,
    /// Connections that the venue allows at a time.
    pub connections_max: Option<usize>,
    /// Items of one connection at most.
    pub items_max: Option<usize>,
    pub dial_rate: Option<RateRule>,
    pub rotate_after: Option<Duration>,
}

/// Messages before the subscriptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    pub frames: Vec<Template<Placeholder>>,
    pub login: Option<Login>,
}

#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub send: Template<Placeholder>,
    /// Name of the rule to wait for first.
    pub after: Option<String>,
    /// Name of the rule that recognises the answer.
    pub ok: Option<String>,
    pub timeout: Duration,
    /// How long it counts, by the answer; none: as long as the connection.
    pub life: Option<Lifespan>,
    /// Before it is over a new connection takes over; else the login is sent again on the open one.
    pub reconnects: bool,
}

/// Keepalive of a connection; none: the settings decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keepalive {
    /// `Some(None)` is the profile's `none`: silence is no reason for anything.
    pub idle_timeout: Option<Option<Duration>>,
    pub ws_ping: Option<Option<Duration>>,
    pub pong_timeout: Option<Duration>,
    pub ping: Option<Heartbeat>,
    pub stale_after: StaleAfter,
}

/// A heartbeat in the feed's own messages.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub every: Interval,
    pub send: Template<Placeholder>,
    /// Name of the rule that recognises the answer, and how long the answer may take.
    pub expect: Option<(String, Duration)>,
    /// Only if nothing has arrived for `every`.
    pub idle_only: bool,
}

/// Time between two heartbeats.
#[derive(Clone, Debug)]
pub(crate) enum Interval {
    Fixed(Duration),
    /// As an answer of the venue says: `${taken.NAME}ms`.
    Taken(Template<Placeholder>),
}

/// Bounds of what is sent on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sending {
    /// Of everything, pings included.
    pub rate: Option<RateRule>,
    /// Of subscriptions and logins besides.
    pub budget: Option<RateRule>,
    pub bytes_max: Option<usize>,
}

/// When to reconnect; none: the settings decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retry {
    pub min: Option<Duration>,
    pub max: Option<Duration>,
    pub reset_after: Option<Duration>,
    /// Close codes after which reconnecting never helps.
    pub fatal_codes: Vec<u16>,
}

/// How a feed continues after a reconnect.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    /// A whole number in data messages.
    pub cursor: Pointer,
    /// Subtracted from the newest cursor.
    pub rewind: i64,
}

pub(crate) fn read_connect(root: &ProfileSection<'_>) -> Result<Connect, ProfileError> {
    let Some(section) = root.get("connect").map(|entry| entry.section(CONNECT)).transpose()? else {
        return Ok(Connect::default());
    };
    let url = optional(section.get("url"), read_url)?;
    let branches = section.get("branches").map(|entry| entry.members()).transpose()?.unwrap_or_default();
    let branch = |(name, entry): (&str, ProfileEntry<'_>)| match name.contains('.') || check_topic(name).is_err() {
        true => Err(entry.error(format!("expected a name without a point, which topics begin with, found `{name}`"))),
        false => Ok((name.to_string(), read_url(&entry)?)),
    };
    let branches = branches.into_iter().map(branch).collect::<Result<Vec<_>, ProfileError>>()?;
    for (key, needed) in [("subscribe", true), ("snapshot", false)] {
        if !branches.is_empty() && root.get(key).is_some() != needed {
            let problem = match needed {
                true => "expected `[subscribe]` beside `branches`, found none; add it",
                false => "expected no `[snapshot]` beside `branches`, found one; make a profile of each branch",
            };
            return Err(section.error("branches", problem));
        }
    }
    let headers = section.get("headers").map(|entry| entry.members()).transpose()?.unwrap_or_default();
    let header = |(name, entry): (&str, ProfileEntry<'_>)| {
        let name = headers::read_name(name).map_err(|problem| entry.error(problem))?;
        let value = headers::read_value(entry.text()?).map_err(|problem| entry.error(problem))?;
        Ok((name, value))
    };
    let is_token = |c: char| c.is_ascii_graphic() && !"()<>@;:\\\"/[]?={}".contains(c);
    Ok(Connect {
        url,
        branches,
        headers: headers.into_iter().map(header).collect::<Result<_, ProfileError>>()?,
        subprotocol: optional(section.get("subprotocol"), |entry| {
            let name = entry.text()?;
            // Several are separated by commas (RFC 6455 section 11.3.4).
            if name.is_empty() || !name.chars().all(|c| is_token(c) || c == ' ') {
                return Err(
                    entry.error(format!("expected the name of a subprotocol such as `chat.v1`, found `{name}`"))
                );
            }
            Ok(name.to_string())
        })?,
        message_bytes_max: optional(section.get("max_message"), ProfileEntry::bytes)?,
        deflate: optional(section.get("deflate"), ProfileEntry::flag)?,
        open_timeout: optional(section.get("open_timeout"), ProfileEntry::duration)?,
        connections_max: optional(section.get("max_conns"), ProfileEntry::count)?,
        items_max: optional(section.get("topics_per_conn"), ProfileEntry::count)?,
        dial_rate: optional(section.get("dial_rate"), ProfileEntry::rate)?,
        rotate_after: optional(section.get("rotate_after"), ProfileEntry::duration)?,
    })
}

fn read_url(entry: &ProfileEntry<'_>) -> Result<Template<Placeholder>, ProfileError> {
    let url = entry.text()?;
    FeedUrl::check(url).map_err(|error| entry.error(error))?;
    Placeholder::template(url, TemplateSite::Url).map_err(|problem| entry.error(problem))
}

pub(crate) fn read_opening(root: &ProfileSection<'_>, rules: &Rules) -> Result<Opening, ProfileError> {
    let frames = root.get("open").map(|entry| entry.list()).transpose()?.unwrap_or_default();
    let frame = |entry: &ProfileEntry<'_>| {
        if entry.text().is_ok() {
            return template(entry, TemplateSite::Frame);
        }
        let section = entry.section(OPEN)?;
        template(&section.require("send", "send = '{\"event\":\"conf\"}'")?, TemplateSite::Frame)
    };
    let login = optional(root.get("login"), |entry| {
        let section = entry.section(LOGIN)?;
        Ok(Login {
            send: template(&section.require("send", "send = '{\"op\":\"login\"}'")?, TemplateSite::Frame)?,
            after: rule_named(
                section.get("after"),
                rules,
                &[MessageClass::Greeting, MessageClass::Info, MessageClass::AuthOk],
            )?,
            ok: rule_named(section.get("ok"), rules, &[MessageClass::AuthOk])?,
            timeout: optional(section.get("timeout"), ProfileEntry::duration)?.unwrap_or(ANSWER_TIMEOUT),
            life: read_login_life(&section)?,
            reconnects: optional(section.get("renew"), |entry| {
                entry.choice(&[("login", false), ("connection", true)])
            })?
            .unwrap_or(false),
        })
    })?;
    Ok(Opening { frames: frames.iter().map(frame).collect::<Result<_, _>>()?, login })
}

fn read_login_life(section: &ProfileSection<'_>) -> Result<Option<Lifespan>, ProfileError> {
    let life = Lifespan::read(section)?;
    let needs_answer = life.as_ref().is_some_and(|life| !matches!(life, Lifespan::Fixed(_)));
    if needs_answer && section.get("ok").is_none() {
        return Err(section.error("ok", "expected `ok` beside a life that the answer says, found none; name its rule"));
    }
    if life.is_none() && section.get("renew").is_some() {
        return Err(section.error("renew", "expected `life` or `expires` beside `renew`, found none; add one of them"));
    }
    Ok(life)
}

pub(crate) fn read_keepalive(root: &ProfileSection<'_>, rules: &Rules) -> Result<Keepalive, ProfileError> {
    let Some(section) = root.get("keepalive").map(|entry| entry.section(KEEPALIVE)).transpose()? else {
        return Ok(Keepalive::default());
    };
    let ping = optional(section.get("ping"), |entry| {
        let ping = entry.section(PING)?;
        let expect = rule_named(ping.get("expect"), rules, &[MessageClass::Pong])?;
        let timeout = optional(ping.get("timeout"), ProfileEntry::duration)?;
        if timeout.is_some() && expect.is_none() {
            return Err(
                ping.error("expect", "expected the name of the rule to wait for beside `timeout`, found nothing")
            );
        }
        Ok(Heartbeat {
            every: interval(&ping.require("every", "every = \"20s\"")?)?,
            send: template(&ping.require("send", "send = \"ping\"")?, TemplateSite::Frame)?,
            expect: expect.map(|name| (name, timeout.unwrap_or(ANSWER_TIMEOUT))),
            idle_only: optional(ping.get("idle_only"), ProfileEntry::flag)?.unwrap_or(false),
        })
    })?;
    let stale_after = optional(section.get("stale_after"), |entry| match entry.text()? {
        "auto" => Ok(StaleAfter::Auto),
        "none" => Ok(StaleAfter::Never),
        _ => entry.duration().map(StaleAfter::Fixed),
    })?;
    Ok(Keepalive {
        idle_timeout: optional(section.get("idle_timeout"), ProfileEntry::duration_or_none)?,
        ws_ping: optional(section.get("ws_ping"), ProfileEntry::duration_or_none)?,
        pong_timeout: optional(section.get("pong_timeout"), ProfileEntry::duration)?,
        ping,
        stale_after: stale_after.unwrap_or_default(),
    })
}

pub(crate) fn read_sending(root: &ProfileSection<'_>) -> Result<Sending, ProfileError> {
    let Some(section) = root.get("send").map(|entry| entry.section(SEND)).transpose()? else {
        return Ok(Sending::default());
    };
    Ok(Sending {
        rate: optional(section.get("rate"), ProfileEntry::rate)?,
        budget: optional(section.get("budget"), ProfileEntry::rate)?,
        bytes_max: optional(section.get("max_bytes"), ProfileEntry::bytes)?,
    })
}

pub(crate) fn read_retry(root: &ProfileSection<'_>) -> Result<Retry, ProfileError> {
    let Some(section) = root.get("backoff").map(|entry| entry.section(BACKOFF)).transpose()? else {
        return Ok(Retry::default());
    };
    let codes = section.get("fatal_codes").map(|entry| entry.list()).transpose()?.unwrap_or_default();
    let code = |entry: &ProfileEntry<'_>| {
        u16::try_from(entry.count()?).map_err(|_| entry.error("expected a close code from 1000 to 4999, found more"))
    };
    Ok(Retry {
        min: optional(section.get("min"), ProfileEntry::duration)?,
        max: optional(section.get("max"), ProfileEntry::duration)?,
        reset_after: optional(section.get("reset_after"), ProfileEntry::duration)?,
        fatal_codes: codes.iter().map(code).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn read_resume(root: &ProfileSection<'_>) -> Result<Option<Resume>, ProfileError> {
    optional(root.get("resume"), |entry| {
        let section = entry.section(RESUME)?;
        let cursor = section.require("cursor", "cursor = \"/time_us\"")?;
        let rewind = optional(section.get("rewind"), ProfileEntry::count)?.unwrap_or(0);
        Ok(Resume {
            cursor: Pointer::parse(cursor.text()?).map_err(|error| cursor.error(error))?,
            rewind: i64::try_from(rewind).unwrap_or(i64::MAX),
        })
    })
}

/// The name of a rule of one of these classes.
pub(crate) fn rule_named(
    entry: Option<ProfileEntry<'_>>,
    rules: &Rules,
    classes: &[MessageClass],
) -> Result<Option<String>, ProfileError> {
    optional(entry, |entry| {
        let name = entry.text()?;
        let fitting = rules.list.iter().filter(|rule| classes.contains(&rule.class));
        let names: Vec<&str> = fitting.map(|rule| &*rule.name).collect();
        if names.contains(&name) {
            return Ok(name.to_string());
        }
        let labels: Vec<&str> = classes.iter().map(|class| class.label()).collect();
        let hint = did_you_mean(name, &names);
        Err(entry.error(format!("expected the name of a rule whose `as` is {}, found `{name}`{hint}", one_of(&labels))))
    })
}

fn interval(entry: &ProfileEntry<'_>) -> Result<Interval, ProfileError> {
    match entry.text()?.contains("${") {
        true => template(entry, TemplateSite::Interval).map(Interval::Taken),
        false => entry.duration().map(Interval::Fixed),
    }
}

pub(crate) fn template(entry: &ProfileEntry<'_>, place: TemplateSite) -> Result<Template<Placeholder>, ProfileError> {
    Placeholder::template(entry.text()?, place).map_err(|problem| entry.error(problem))
}
