//! What clients may send to the feed, and in which messages.
//!
//! Their messages go out in the server's name and with its login, over a connection that all clients share. So the
//! profile's template surrounds what a client sends, and a list can restrict what it requests.

use std::time::Duration;

use serde_json::Value;

use crate::json::{Pointer, find};

use crate::profile::connection::template;
use crate::profile::keys::{CLIENT, REQUEST};
use crate::profile::optional;
use crate::profile::placeholders::{Placeholder, TemplateSite};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection};
use crate::profile::template::Template;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of clients that the feed understands.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientRules {
    /// Template around a client's `data`; none: nothing is sent.
    pub send: Option<Template<Placeholder>>,
    pub request: Option<RequestRule>,
}

/// How an answer finds the client that asked.
#[derive(Clone, Debug)]
pub(crate) struct RequestRule {
    /// Where requests and answers hold their number.
    pub id: Pointer,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// At each pointer a request must hold one of these texts. Empty: anything.
    pub allow: Vec<(Pointer, Vec<String>)>,
}

/// A setting that the profile has no template for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `[client] send` in profile `{profile}` for `upstream.send`, found none; write a profile that defines how a \
     client's `data` is sent, such as `send = '{{\"say\":${{data}}}}'`, or leave `upstream.send` empty"
)]
pub struct NoSend {
    pub profile: String,
}

impl RequestRule {
    /// Pointer at which the request is not allowed; none if it may pass. Of members with the same name some servers
    /// take the first and some the last, so both count.
    pub(crate) fn forbids(&self, data: &str) -> Option<&Pointer> {
        let Ok(last) = serde_json::from_str::<Value>(data) else { return Some(&self.id) };
        let first = |pointer: &Pointer| find(data, pointer).and_then(|token| serde_json::from_str::<Value>(token).ok());
        if first(&self.id).as_ref() != last.pointer(self.id.as_str()) {
            return Some(&self.id);
        }
        let is_one_of = |value: Option<&Value>, texts: &[String]| {
            value.and_then(Value::as_str).is_some_and(|found| texts.iter().any(|text| text == found))
        };
        let holds = |pointer: &Pointer, texts: &[String]| {
            is_one_of(first(pointer).as_ref(), texts) && is_one_of(last.pointer(pointer.as_str()), texts)
        };
        self.allow.iter().find(|(pointer, texts)| !holds(pointer, texts)).map(|(pointer, _)| pointer)
    }
}

impl ClientRules {
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template<Placeholder>> + Clone {
        self.send.iter()
    }
}

pub(crate) fn read_client(root: &ProfileSection<'_>) -> Result<ClientRules, ProfileError> {
    let Some(section) = root.get("client").map(|entry| entry.section(CLIENT)).transpose()? else {
        return Ok(ClientRules::default());
    };
    let request = optional(section.get("request"), |entry| {
        let request = entry.section(REQUEST)?;
        let id = request.require("id", "id = \"/id\"")?;
        let pointer = Pointer::parse(id.text()?).map_err(|error| id.error(error))?;
        if pointer.as_str().matches('/').count() != 1 {
            return Err(id.error("expected a pointer to a member of the message itself, such as `/id`"));
        }
        let allow = request.get("allow").map(|entry| entry.members()).transpose()?.unwrap_or_default();
        let allowed = |(pointer, entry): (&str, ProfileEntry<'_>)| {
            let pointer = Pointer::parse(pointer).map_err(|error| entry.error(error))?;
            let texts = entry.list()?.iter().map(|text| text.text().map(str::to_string)).collect::<Result<_, _>>()?;
            Ok((pointer, texts))
        };
        Ok(RequestRule {
            id: pointer,
            timeout: optional(request.get("timeout"), ProfileEntry::duration)?.unwrap_or(TIMEOUT),
            allow: allow.into_iter().map(allowed).collect::<Result<_, ProfileError>>()?,
        })
    })?;
    Ok(ClientRules { send: optional(section.get("send"), |entry| template(entry, TemplateSite::Client))?, request })
}

#[cfg(test)]
mod tests {
    use crate::profile::check;

    #[test]
    fn a_request_is_held_to_the_list() {
        let rule = "[[on]]\nname = \"n\"\nas = \"ignore\"\n";
        let client = "[client]\nrequest = { id = \"/id\", allow = { \"/method\" = [\"book\", \"time\"] } }\n";
        let profile = check(&format!("profile = 1\nname = \"t\"\n{client}{rule}"), "t").expect("a good profile");
        let request = profile.client.request.expect("a request");
        let forbids = |data: &str| request.forbids(data).map(|pointer| pointer.as_str().to_string());
        assert_eq!(forbids(r#"{"method":"book","id":1}"#), None);
        assert_eq!(forbids(r#"{"method":"b\u006fok"}"#), None);
        for data in [
            r#"{"method":"order"}"#,
            r#"{"id":1}"#,
            r#"{"method":1}"#,
            r#"{"Method":"book"}"#,
            r#"{"method":"book","method":"order"}"#,
            r#"{"method":"order","method":"book"}"#,
        ] {
            assert_eq!(forbids(data).as_deref(), Some("/method"), "{data}");
        }
        assert_eq!(forbids(r#"{"method":"book","id":1,"id":2}"#).as_deref(), Some("/id"), "another one's number");
    }
}
