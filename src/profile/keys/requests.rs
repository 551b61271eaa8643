//! Keys about requests over HTTP: those before a connection, and those for snapshots.

use crate::profile::keys::{Keys, key};

pub(crate) const VENUE_REQUEST: Keys = Keys {
    section: "request",
    known: &[
        key("name", "text", "the NAME", "shown in the log; only in a list `[[request]]`, where it is required"),
        key("url", "template of a URL `https://` or `http://`", "required", "what is asked"),
        key("method", "`GET`, `POST`, `PUT`, `DELETE`", "`GET`", "the method"),
        key("headers", "table of templates", "none", "headers of the request"),
        key("body", "template", "empty", "the body; a `Content-Type` is a header"),
        key(
            "take",
            "table of pointers",
            "nothing",
            "values of the answer, texts or numbers, by name: `take = { token = \"/data/token\" }` gives `${taken.token}` to the requests after it and to the connection. They are secrets: the log does not show them",
        ),
        key("message", "pointer", "the beginning of the answer", "where a refusal has its reason"),
        key(
            "life",
            "duration, or pointer to seconds in the answer",
            "as long as the connection",
            "how long the values count. At half of it they are renewed",
        ),
        key(
            "expires",
            "pointer to a Unix time or a JSON Web Token in the answer",
            "none",
            "in place of `life`: when the values end, for a token by its `exp`",
        ),
        key(
            "renew",
            "`connection`, `login`, a table",
            "`connection`",
            "how: a new connection with new values takes over before the old one is closed; the request and the login are repeated on the open connection; or the request of this table prolongs the life",
        ),
    ],
    later: &[],
};

pub(crate) const RENEWAL: Keys = Keys {
    section: "request.renew",
    known: &[
        key(
            "url",
            "template of a URL `https://` or `http://`",
            "required",
            "what is asked. `${taken.NAME}` may be of the request itself",
        ),
        key("method", "`GET`, `POST`, `PUT`, `DELETE`", "`GET`", "the method"),
        key("headers", "table of templates", "none", "headers of the request"),
        key("body", "template", "empty", "the body"),
        key("take", "table of pointers", "nothing", "values of the answer that replace those of these names"),
        key("message", "pointer", "the beginning of the answer", "where a refusal has its reason"),
    ],
    later: &[],
};

pub(crate) const SNAPSHOT: Keys = Keys {
    section: "snapshot",
    known: &[
        key(
            "rule",
            "name of a rule",
            "required",
            "the rule of the changes: of mode `delta`, `merge` or `book`, with `seq` and without `each`",
        ),
        key(
            "url",
            "template of a URL `https://` or `http://`",
            "required",
            "what is asked, with `${item}`, `${channel}` and `${symbol}` of the topic",
        ),
        key("method", "`GET`, `POST`, `PUT`, `DELETE`", "`GET`", "the method"),
        key("headers", "table of templates", "none", "headers of the request"),
        key("body", "template", "empty", "the body"),
        key("message", "pointer", "the beginning of the answer", "where a refusal has its reason"),
        key(
            "wrap",
            "template of JSON",
            "required",
            "the message that the rules see, with the answer as `${answer}`. One of them must make it a snapshot of the topic, with a number",
        ),
        key("rate", "rate", "none", "requests of all topics"),
    ],
    later: &[],
};
