//! What clients may say to the upstream, and how it is put.

use std::time::Duration;

use crate::wire::json::Pointer;

use super::connection::template;
use super::optional;
use super::section::{Entry, Keys, ProfileError, Section};
use super::template::Template;
use super::words::{Place, Word};

const CLIENT: Keys = Keys { known: &["send", "request"], later: &[] };
const REQUEST: Keys = Keys { known: &["id", "timeout"], later: &[] };

const TIMEOUT: Duration = Duration::from_secs(10);

/// What of clients' messages the feed understands.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Around a client's `data`; none: it is sent as it is.
    pub send: Option<Template<Word>>,
    pub request: Option<Request>,
}

/// How an answer finds the one who asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where requests and answers hold their number.
    pub id: Pointer,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

impl Client {
    pub fn templates(&self) -> impl Iterator<Item = &Template<Word>> + Clone {
        self.send.iter()
    }
}

pub fn read_client(root: &Section<'_>) -> Result<Client, ProfileError> {
    let Some(section) = root.get("client").map(|entry| entry.section(CLIENT)).transpose()? else {
        return Ok(Client::default());
    };
    let request = optional(section.get("request"), |entry| {
        let request = entry.section(REQUEST)?;
        let id = request.require("id", "id = \"/id\"")?;
        let pointer = Pointer::parse(id.text()?).map_err(|error| id.error(error))?;
        if pointer.as_str().matches('/').count() != 1 {
            return Err(id.error("expected a pointer to a member of the message itself, such as `/id`"));
        }
        Ok(Request { id: pointer, timeout: optional(request.get("timeout"), Entry::duration)?.unwrap_or(TIMEOUT) })
    })?;
    Ok(Client { send: optional(section.get("send"), |entry| template(entry, Place::Client))?, request })
}
