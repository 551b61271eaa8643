//! Keys about the dialect that clients of a venue speak.

use crate::profile::keys::{Keys, key};

pub(crate) const DOWNSTREAM: Keys = Keys {
    section: "downstream",
    known: &[
        key(
            "paths",
            "table of tables",
            "required",
            "[where](#paths) a WebSocket speaks the dialect: `\"/stream\"`, or with `*` at the end `\"/ws/*\"`",
        ),
        key("subprotocols", "list of texts", "empty", "subprotocols that are accepted if the client offers them"),
        key("split", "`none`, `lines`", "`none`", "clients may say several messages in one, a line each, at most 16"),
        key("items_max", "number from 1", "1024", "items of one session"),
        key("ws_ping", "duration", "`ping.interval`, 20 s", "WebSocket pings to clients that say nothing"),
        key(
            "stale_close",
            "duration, `\"none\"`",
            "10 s",
            "how long the feed may be down before the sessions end with 1012; meanwhile upgrades are refused with 503. `\"none\"`: they go on",
        ),
        key("forms", "list of tables", "the message as received", "[how](#forms) messages go out"),
        key("items", "list of tables", "an item is a topic", "[the topics](#items) of items"),
        key("open", "list of templates", "none", "messages after the upgrade, in this order"),
        key("heartbeat", "table", "none", "a message that is repeated"),
        key(
            "goodbye",
            "table of templates",
            "none",
            "by name of a form: a message before the end of a session whose client may come back at once",
        ),
        key("group", "template", "none", "how the items in force of one channel stand in `${groups}`"),
        key(
            "on",
            "table of tables",
            "none",
            "[the rules](#rules) by name, as in `[on.NAME]`: what clients say, and the answers",
        ),
    ],
    later: &["number", "encode"],
};

pub(crate) const PATH: Keys = Keys {
    section: "downstream.paths",
    known: &[
        key("items", "template", "none", "the items that the path asks for"),
        key("by", "text", "one item", "what separates several"),
        key("unless", "regular expression", "none", "a text that asks for nothing, although it is there"),
        key("form", "name of a form", "the first", "how messages go out"),
    ],
    later: &[],
};

pub(crate) const FORM: Keys = Keys {
    section: "downstream.forms",
    known: &[
        key(
            "name",
            "text",
            "required",
            "the form. Several tables of one name are its cases, of which the first that fits counts; at most 4 names",
        ),
        key("topics", "pattern", "all topics", "the topics that this case is for"),
        key("at", "pointer", "the whole message", "the part of the message that goes out"),
        key("wrap", "template", "nothing", "what goes out around it"),
    ],
    later: &[],
};

pub(crate) const ITEMS: Keys = Keys {
    section: "downstream.items",
    known: &[
        key("like", "regular expression", "required", "the items; the first table that fits counts"),
        key(
            "topics",
            "list of templates",
            "required",
            "their topics, and patterns over them. With `upstream.demand` the feed is asked for those that are topics",
        ),
    ],
    later: &[],
};

pub(crate) const HEARTBEAT: Keys = Keys {
    section: "downstream.heartbeat",
    known: &[
        key("every", "duration", "required", "how often, to a tenth of a second"),
        key("send", "template", "required", "the message"),
        key(
            "topics",
            "pattern",
            "all clients",
            "only for clients that are subscribed to exactly this pattern, which has a wildcard",
        ),
        key("when", "`always`, `idle`", "`always`", "`idle`: only after so long without another message"),
    ],
    later: &[],
};

pub(crate) const SAID: Keys = Keys {
    section: "downstream.on",
    known: &[
        key("name", "text", "the NAME", "shown in errors; only in a list `[[downstream.on]]`, where it is required"),
        key("when", "list of tests", "none", "all must hold; `text` is the message as received"),
        key(
            "do",
            "`subscribe`, `unsubscribe`, `list`, `set`, `answer`, `ignore`, `refuse`, `close`",
            "required",
            "what the message is",
        ),
        key("each", "pointer with `*`", "the message", "where the items are, one for each element"),
        key("split", "pointer", "none", "instead of `each`: a text that holds the items"),
        key("by", "text", "`,`", "what separates them in it"),
        key("with", "pointer with `*`", "none", "what each of the items is combined with, `${with}`"),
        key("item", "template", "`${.}`", "the item"),
        key("form", "name of a form", "required with `set`", "how messages go out from now on"),
        key(
            "per",
            "`request`, `item`, `list`",
            "`request`",
            "what is answered: the request, which is granted as one or not at all; each item; or a list of them, in one answer",
        ),
        key("listed", "template", "`${item}`", "how an item stands in `${items}` and `${refused}`"),
        key("reply", "template", "none", "the answer"),
        key("refuse", "template", "the session ends with 1008", "the answer to what is not granted"),
        key(
            "keep",
            "table of templates",
            "nothing",
            "what the session keeps of the message, at most 256 bytes each: `{ nick = \"${/nick}\" }` gives `${kept.nick}` to later answers",
        ),
    ],
    later: &["require", "ids", "after", "check", "then"],
};
