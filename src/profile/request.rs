//! Requests over HTTP before a connection: what is asked, what is taken from the answer, and how it is renewed.

use std::collections::BTreeMap;
use std::fmt;

use tokio_tungstenite::tungstenite::http::Method;

use crate::json::Pointer;

use crate::profile::headers::{self, Headers};
use crate::profile::keys::{RENEWAL, VENUE_REQUEST};
use crate::profile::lifespan::Lifespan;
use crate::profile::optional;
use crate::profile::placeholders::{Placeholder, TemplateSite};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection, did_you_mean, one_of};
use crate::profile::target::FeedUrl;
use crate::profile::template::Template;

const METHODS: [(&str, Method); 4] =
    [("GET", Method::GET), ("POST", Method::POST), ("PUT", Method::PUT), ("DELETE", Method::DELETE)];

/// A request that each connection begins with.
#[derive(Clone, Debug)]
pub(crate) struct VenueRequest {
    pub call: Call,
    /// How long its values count; none: as long as the connection.
    pub life: Option<Lifespan>,
    pub renewal: Renewal,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// For people.
    pub name: String,
    pub method: Method,
    pub url: Template<Placeholder>,
    pub headers: Headers,
    pub body: Option<Template<Placeholder>>,
    /// Names of values, and their places in the answer.
    pub take: Vec<(String, Pointer)>,
    /// Where a refusal has its reason.
    pub message: Option<Pointer>,
}

/// What is done before the life is over.
#[derive(Clone, Debug)]
pub(crate) enum Renewal {
    /// A new connection, with new values, takes over.
    Connection,
    /// The request is made again, and the login sent again, on the open connection.
    Login,
    /// This request prolongs the life.
    Call(Box<Call>),
}

/// Values of the answers, by name. They are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct TakenValues(pub BTreeMap<String, String>);

impl fmt::Debug for TakenValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Call {
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template<Placeholder>> + Clone {
        let headers = self.headers.iter().map(|(_, value)| value);
        std::iter::once(&self.url).chain(headers).chain(&self.body)
    }

    /// Whether the address names this machine.
    pub(crate) fn is_here(&self) -> bool {
        FeedUrl::of_http(self.url.source()).is_ok_and(|url| url.is_here())
    }

    /// Whether the address is one with TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.url.source().starts_with("https:")
    }
}

impl VenueRequest {
    /// The request, and the one that renews it.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> + Clone {
        let renewal = match &self.renewal {
            Renewal::Call(call) => Some(&**call),
            Renewal::Connection | Renewal::Login => None,
        };
        std::iter::once(&self.call).chain(renewal)
    }

    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template<Placeholder>> + Clone {
        self.calls().flat_map(Call::templates)
    }
}

/// Names of the values that requests take from their answers.
pub(crate) fn taken(requests: &[VenueRequest]) -> impl Iterator<Item = &str> {
    requests.iter().flat_map(|request| &request.call.take).map(|(name, _)| &**name)
}

/// Reads the tables `[request.NAME]`; each may use what those before it have taken.
pub(crate) fn read_requests(root: &ProfileSection<'_>) -> Result<Vec<VenueRequest>, ProfileError> {
    let sections = root.get("request").map(|entry| entry.named(VENUE_REQUEST, "name = \"token\"")).transpose()?;
    let mut taken = Vec::new();
    let mut requests = Vec::new();
    for (name, section) in sections.unwrap_or_default() {
        let call = read_call(&section, name, &taken, TemplateSite::Request)?;
        taken.extend(call.take.iter().map(|(name, _)| name.clone()));
        let life = Lifespan::read(&section)?;
        let renewal = optional(section.get("renew"), |entry| {
            if life.is_none() {
                return Err(entry.error("expected `life` or `expires` beside `renew`, found none; add one of them"));
            }
            if entry.text().is_ok() {
                return entry.choice(&[("connection", Renewal::Connection), ("login", Renewal::Login)]);
            }
            let renewal = entry.section(RENEWAL)?;
            read_call(&renewal, name, &taken, TemplateSite::Request).map(|call| Renewal::Call(Box::new(call)))
        })?;
        if let (Some(Renewal::Login), None) = (&renewal, root.get("login")) {
            return Err(section.error("renew", "expected `[login]` for `renew = \"login\"`, found none"));
        }
        requests.push(VenueRequest { call, life, renewal: renewal.unwrap_or(Renewal::Connection) });
    }
    Ok(requests)
}

/// Reads the keys of one request, whose templates may use what is known at this place.
pub(crate) fn read_call(
    section: &ProfileSection<'_>,
    name: &str,
    taken: &[String],
    site: TemplateSite,
) -> Result<Call, ProfileError> {
    let template = |entry: &ProfileEntry<'_>| {
        let template = Placeholder::template(entry.text()?, site);
        let template = template.map_err(|problem| entry.error(problem))?;
        check_taken(&template, taken).map_err(|problem| entry.error(problem))?;
        Ok(template)
    };
    let url = section.require("url", "url = \"https://api.example.com/token\"")?;
    let text = url.text()?;
    if !["https://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(url.error("expected a URL that begins with `https://` or `http://`, found another text"));
    }
    let headers = section.get("headers").map(|entry| entry.members()).transpose()?.unwrap_or_default();
    let header = |(name, entry): (&str, ProfileEntry<'_>)| {
        let name = headers::read_name(name).map_err(|problem| entry.error(problem))?;
        headers::read_value(entry.text()?).map_err(|problem| entry.error(problem))?;
        Ok((name, template(&entry)?))
    };
    let headers = headers.into_iter().map(header).collect::<Result<Headers, ProfileError>>()?;
    let pointer = |entry: &ProfileEntry<'_>| Pointer::parse(entry.text()?).map_err(|error| entry.error(error));
    let take = section.get("take").map(|entry| entry.members()).transpose()?.unwrap_or_default();
    Ok(Call {
        name: name.to_string(),
        method: optional(section.get("method"), |entry| entry.choice(&METHODS))?.unwrap_or(Method::GET),
        url: template(&url)?,
        headers: headers::together(headers, Headers::new()),
        body: optional(section.get("body"), template)?,
        take: take
            .into_iter()
            .map(|(name, entry)| Ok((name.to_string(), pointer(&entry)?)))
            .collect::<Result<_, ProfileError>>()?,
        message: optional(section.get("message"), pointer)?,
    })
}

/// Checks that everything that a template wants from answers is taken from one.
pub(crate) fn check_taken(template: &Template<Placeholder>, taken: &[String]) -> Result<(), String> {
    let missing = template.sources().find_map(|placeholder| match placeholder {
        Placeholder::Taken(name) if !taken.contains(name) => Some(name),
        _ => None,
    });
    let Some(name) = missing else { return Ok(()) };
    let known: Vec<&str> = taken.iter().map(String::as_str).collect();
    Err(match known.is_empty() {
        true => format!("expected a section `[request.NAME]` before it that takes `{name}`, found none; add it"),
        false => format!("expected {} after `taken.`, found `{name}`{}", one_of(&known), did_you_mean(name, &known)),
    })
}
