//! Placeholders in everything fanline sends: addresses, logins, subscriptions, heartbeats, clients' messages.

use std::borrow::Cow;

use crate::words::stamp::Stamp;

use crate::profile::request::TakenValues;
use crate::profile::secrets::Secrets;
use crate::profile::section::{did_you_mean, one_of};
use crate::profile::template::{Aliases, SourceValue, Template};

/// One placeholder's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// The venue's names of the items of this batch.
    Items,
    /// The one item of this batch.
    Item,
    /// The symbols of this batch.
    Symbols,
    /// The one symbol of this batch.
    Symbol,
    /// The channel of this batch.
    Channel,
    /// The members of `params` of the channel, as JSON without braces.
    Params,
    /// The number of this request on its connection, from 1.
    Req,
    /// A random UUID (version 4).
    Uuid,
    NowS,
    NowMs,
    /// An environment variable.
    Env(String),
    /// The signature that the section `[sign.NAME]` defines.
    Sign(String),
    /// What a request before the connection has taken from its answer.
    Taken(String),
    /// `un` in the message that unsubscribes.
    Un,
    /// The venue's key of a subscription, learnt from its acknowledgement.
    BindKey,
    /// The cursor to continue from.
    Resume,
    /// A client's `data`, as JSON.
    Data,
    /// The answer to a request, as JSON.
    Answer,
}

/// Place of a template, which decides its placeholders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateSite {
    Url,
    Header,
    /// A request over HTTP before the connection.
    Request,
    /// A request for the snapshot of a topic.
    Snapshot,
    /// The message that is made of a snapshot.
    Wrap,
    /// How often a heartbeat is sent.
    Interval,
    /// Frames that are not about items: open, login, heartbeat.
    Frame,
    Item,
    Subscribe,
    Unsubscribe,
    Signed,
    Client,
}

impl TemplateSite {
    fn sources(self) -> &'static [&'static str] {
        match self {
            TemplateSite::Url => &["items", "resume", "env.NAME", "sign.NAME", "taken.NAME", "now.s", "now.ms", "uuid"],
            TemplateSite::Header | TemplateSite::Request => {
                &["env.NAME", "sign.NAME", "taken.NAME", "now.s", "now.ms", "uuid"]
            }
            TemplateSite::Snapshot => {
                &["item", "channel", "symbol", "env.NAME", "sign.NAME", "taken.NAME", "now.s", "now.ms", "uuid"]
            }
            TemplateSite::Wrap => &["item", "channel", "symbol", "answer"],
            TemplateSite::Interval => &["taken.NAME"],
            TemplateSite::Frame => &["req", "env.NAME", "sign.NAME", "taken.NAME", "now.s", "now.ms", "uuid"],
            TemplateSite::Item => &["item", "channel", "symbol"],
            TemplateSite::Subscribe => &[
                "items",
                "item",
                "symbols",
                "symbol",
                "channel",
                "params",
                "un",
                "req",
                "env.NAME",
                "sign.NAME",
                "taken.NAME",
                "now.s",
                "now.ms",
                "uuid",
            ],
            TemplateSite::Unsubscribe => &[
                "items",
                "item",
                "symbols",
                "symbol",
                "channel",
                "params",
                "un",
                "bind.key",
                "req",
                "env.NAME",
                "sign.NAME",
                "taken.NAME",
                "now.s",
                "now.ms",
                "uuid",
            ],
            TemplateSite::Signed => &["now.s", "now.ms", "env.NAME", "taken.NAME", "uuid"],
            TemplateSite::Client => {
                &["data", "item", "channel", "symbol", "req", "env.NAME", "now.s", "now.ms", "uuid"]
            }
        }
    }
}

impl Placeholder {
    /// Reads a placeholder's source at this place.
    pub(crate) fn parse(source: &str, place: TemplateSite) -> Result<Placeholder, String> {
        let known = place.sources();
        let family = source.split_once('.').map(|(family, name)| (format!("{family}.NAME"), name));
        let is_known = known.contains(&source)
            || family.as_ref().is_some_and(|(family, name)| known.contains(&&**family) && !name.is_empty());
        let placeholder = match (source, family.as_ref().map(|(family, name)| (&**family, *name))) {
            ("items", _) => Placeholder::Items,
            ("item", _) => Placeholder::Item,
            ("symbols", _) => Placeholder::Symbols,
            ("symbol", _) => Placeholder::Symbol,
            ("channel", _) => Placeholder::Channel,
            ("params", _) => Placeholder::Params,
            ("un", _) => Placeholder::Un,
            ("req", _) => Placeholder::Req,
            ("uuid", _) => Placeholder::Uuid,
            ("now.s", _) => Placeholder::NowS,
            ("now.ms", _) => Placeholder::NowMs,
            ("bind.key", _) => Placeholder::BindKey,
            ("resume", _) => Placeholder::Resume,
            ("data", _) => Placeholder::Data,
            ("answer", _) => Placeholder::Answer,
            (_, Some(("env.NAME", name))) => Placeholder::Env(name.to_string()),
            (_, Some(("taken.NAME", name))) => Placeholder::Taken(name.to_string()),
            (_, Some(("sign.NAME", name))) => Placeholder::Sign(name.to_string()),
            _ => return Err(unknown(source, known)),
        };
        if is_known { Ok(placeholder) } else { Err(unknown(source, known)) }
    }

    /// Reads a template at this place.
    pub(crate) fn template(text: &str, place: TemplateSite) -> Result<Template<Placeholder>, String> {
        Template::parse(text, |source| Placeholder::parse(source, place)).map(Template::quoting)
    }

    /// The same for a template that may use these tables.
    pub(crate) fn template_with(
        text: &str,
        place: TemplateSite,
        aliases: &Aliases,
    ) -> Result<Template<Placeholder>, String> {
        Template::parse_with(text, aliases, |source| Placeholder::parse(source, place)).map(Template::quoting)
    }
}

fn unknown(source: &str, known: &[&str]) -> String {
    format!("expected {} in `${{…}}`, found `{source}`{}", one_of(known), did_you_mean(source, known))
}

/// Values of the placeholders, as far as there are any.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub secrets: &'a Secrets,
    pub now: Stamp,
    pub req: u64,
    /// The venue's names.
    pub items: &'a [String],
    pub symbols: &'a [String],
    pub channel: &'a str,
    pub params: Option<&'a str>,
    /// The message unsubscribes.
    pub drops: bool,
    pub bind_key: Option<&'a str>,
    pub resume: Option<&'a str>,
    pub data: Option<&'a str>,
    pub taken: Option<&'a TakenValues>,
}

/// A placeholder without a value here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no value for `{0}`")]
pub struct Missing(pub String);

impl<'a> Context<'a> {
    /// About no items.
    pub(crate) fn plain(secrets: &'a Secrets, now: Stamp, req: u64) -> Context<'a> {
        Context {
            secrets,
            now,
            req,
            items: &[],
            symbols: &[],
            channel: "",
            params: None,
            drops: false,
            bind_key: None,
            resume: None,
            data: None,
            taken: None,
        }
    }

    /// The template with its placeholders filled in.
    pub(crate) fn fill(&self, template: &Template<Placeholder>) -> Result<String, Missing> {
        let mut out = String::new();
        template.render(&mut out, |placeholder| self.value(placeholder))?;
        Ok(out)
    }

    fn value<'v>(&self, placeholder: &Placeholder) -> Result<SourceValue<'v>, Missing>
    where
        'a: 'v,
    {
        let number = |number: u64| Ok(SourceValue::Text(Cow::Owned(number.to_string())));
        let given = |text: Option<&'a str>, name: &str| {
            text.map(|text| SourceValue::Text(Cow::Borrowed(text))).ok_or_else(|| Missing(name.to_string()))
        };
        match placeholder {
            Placeholder::Items => Ok(SourceValue::List(self.items)),
            Placeholder::Symbols => Ok(SourceValue::List(self.symbols)),
            Placeholder::Item => given(self.items.first().map(String::as_str), "item"),
            Placeholder::Symbol => given(self.symbols.first().map(String::as_str), "symbol"),
            // An item without a separator has no channel.
            Placeholder::Channel => given(Some(self.channel).filter(|channel| !channel.is_empty()), "channel"),
            Placeholder::Params => given(self.params, "params"),
            Placeholder::Un if self.drops => Ok(SourceValue::Text(Cow::Borrowed("un"))),
            Placeholder::Un => Ok(SourceValue::List(&[])),
            Placeholder::BindKey => given(self.bind_key, "bind.key"),
            Placeholder::Resume => given(self.resume, "resume"),
            Placeholder::Data => given(self.data, "data"),
            Placeholder::Answer => given(self.data, "answer"),
            Placeholder::Taken(name) => {
                let text = self.taken.and_then(|taken| taken.0.get(name));
                given(text.map(String::as_str), &format!("taken.{name}"))
            }
            Placeholder::Req => number(self.req),
            Placeholder::NowS => number(self.now.wall_ms / 1000),
            Placeholder::NowMs => number(self.now.wall_ms),
            Placeholder::Uuid => Ok(SourceValue::Text(Cow::Owned(uuid()))),
            Placeholder::Env(name) => given(self.secrets.variable(name), &format!("env.{name}")),
            Placeholder::Sign(name) => match self.secrets.sign(name, self) {
                Some(signature) => Ok(SourceValue::Text(Cow::Owned(signature?))),
                None => Err(Missing(format!("sign.{name}"))),
            },
        }
    }
}

/// A random UUID (RFC 9562 section 5.4).
fn uuid() -> String {
    let random: u128 = rand::random();
    let bits = random & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_known_only_where_it_has_a_meaning() {
        assert_eq!(Placeholder::parse("env.KEY", TemplateSite::Url), Ok(Placeholder::Env("KEY".to_string())));
        assert_eq!(Placeholder::parse("req", TemplateSite::Frame), Ok(Placeholder::Req));
        let problem = Placeholder::parse("items", TemplateSite::Header).expect_err("no items in a header");
        assert!(problem.starts_with("expected one of `env.NAME`") && problem.contains("found `items`"), "{problem}");
        assert!(Placeholder::parse("env.", TemplateSite::Url).is_err());
        assert!(
            Placeholder::parse("simbol", TemplateSite::Item).expect_err("a slip").ends_with("did you mean `symbol`?")
        );
    }

    #[test]
    fn a_uuid_is_of_version_4() {
        let text = uuid();
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{text}");
    }
}
