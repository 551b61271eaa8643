//! Keys about the feed and its connections.

use crate::profile::keys::{Keys, key};

pub(crate) const ROOT: Keys = Keys {
    section: "Top level",
    about: "A profile says `profile = 1` before its first section.",
    known: &[
        key("profile", "`1`", "required", "version of this language"),
        key("name", "text", "required", "shown in the log and by `fanline probe`"),
        key(
            "hosts",
            "list of texts",
            "empty",
            "host names, each perhaps with the beginning of a path, by which a built-in profile is chosen; subdomains count, and of several the longest fits best",
        ),
        key("connect", "table", "none", "where and how a connection is opened"),
        key("open", "list of tables", "none", "messages that are sent first on every connection"),
        key("login", "table", "none", "the log-in"),
        key("sign", "table of tables", "none", "signatures, by their names"),
        key("keepalive", "table", "none", "how a connection is kept alive, and when it is silent"),
        key("subscribe", "table", "none", "how the feed is asked for items; without it `--subscribe` is refused"),
        key("send", "table", "none", "bounds of what is sent on one connection"),
        key("backoff", "table", "none", "when to connect again"),
        key("resume", "table", "none", "how a feed continues where it ended"),
        key("client", "table", "none", "what clients may say to the feed"),
        key(
            "bind_via",
            "template over the message",
            "none",
            "key of the connection's table of bindings, looked up before the rules are tried",
        ),
        key("decode", "table", "none", "how frames become messages"),
        key("seq", "table", "none", "numbers that count all messages of a connection"),
        key(
            "alias",
            "table of tables",
            "none",
            "tables for the filter `map:NAME`; a text that is not in it stays as it is",
        ),
        key(
            "unmatched",
            "`\"topic:NAME\"`",
            "only counted",
            "the topic on which messages that no rule knows are published",
        ),
        key("on", "list of tables", "required", "the rules, at least one; the first whose tests all hold decides"),
    ],
    later: &[],
};

pub(crate) const CONNECT: Keys = Keys {
    section: "`[connect]`",
    about: "Where and how a connection is opened.",
    known: &[
        key("url", "template of a URL `ws://` or `wss://`", "none", "the feed, if no URL is given to the server"),
        key(
            "headers",
            "table of templates",
            "none",
            "further headers of the handshake; the setting `upstream.headers` goes first",
        ),
        key("subprotocol", "text", "none", "the WebSocket subprotocol"),
        key("max_message", "size", "`upstream.message_bytes_max`", "longest message; a longer one ends the connection"),
        key("open_timeout", "duration", "`upstream.connect_timeout`", "for TCP, TLS and the handshake together"),
        key(
            "max_conns",
            "number from 1",
            "256",
            "connections at the same time; with 1 there is no overlap when one is replaced",
        ),
        key(
            "topics_per_conn",
            "number from 1",
            "no limit",
            "items on one connection; for more there are more connections",
        ),
        key("dial_rate", "rate", "none", "attempts to connect"),
        key("rotate_after", "duration", "never", "a connection is replaced by a new one after this"),
    ],
    later: &["http", "deflate", "rotate"],
};

pub(crate) const OPEN: Keys = Keys {
    section: "`[[open]]`",
    about: "Messages that are sent first on every connection, in their order.",
    known: &[key("send", "template", "required", "the message")],
    later: &[],
};

pub(crate) const LOGIN: Keys = Keys {
    section: "`[login]`",
    about: "Comes after `open` and before any item is asked for.",
    known: &[
        key("send", "template", "required", "the message"),
        key("after", "name of a rule", "at once", "it is sent when this rule has held, for instance a `greeting`"),
        key("ok", "name of a rule `as = \"auth_ok\"`", "none is awaited", "the rule that knows the answer"),
        key("timeout", "duration", "10s", "without the answer for this long the connection is opened anew"),
    ],
    later: &[],
};

pub(crate) const SIGN: Keys = Keys {
    section: "`[sign.NAME]`",
    about: "Makes `${sign.NAME}` for templates that are sent, anew for each message.",
    known: &[
        key("alg", "`hmac-sha256`, `hmac-sha384`, `hmac-sha512`, `jwt-es256`", "required", "the algorithm"),
        key("key", "table", "required", "where the key is"),
        key("message", "template", "required with `hmac`", "what is signed"),
        key("header", "template of JSON", "required with `jwt-es256`", "the header of the token"),
        key("claims", "template of JSON", "required with `jwt-es256`", "the claims of the token"),
        key("encode", "`hex`, `base64`", "`hex`", "how the signature is written"),
        key(
            "optional",
            "`true`, `false`",
            "`false`",
            "without the variable `${sign.NAME?…}` is left out; otherwise its absence is an error at the start",
        ),
    ],
    later: &[],
};

pub(crate) const SIGN_KEY: Keys = Keys {
    section: "`key` of `[sign.NAME]`",
    about: "Where the key is.",
    known: &[
        key("env", "name of a variable", "required", "the environment variable that holds it"),
        key("decode", "`raw`, `base64`, `hex`, `pem`", "`raw`", "how it is written there"),
    ],
    later: &[],
};

pub(crate) const KEEPALIVE: Keys = Keys {
    section: "`[keepalive]`",
    about: "`ws_ping` and `pong_timeout` go before the settings, because the feed has its rules; `idle_timeout` goes after the setting, because only the operator knows how quiet the topics are.",
    known: &[
        key(
            "idle_timeout",
            "duration or `none`",
            "30s",
            "without any message for this long the feed is silent and clients receive `stale`; after twice this time the connection is opened anew",
        ),
        key("ws_ping", "duration or `none`", "`upstream.ping_interval`", "time between WebSocket pings to the feed"),
        key(
            "pong_timeout",
            "duration",
            "`upstream.pong_timeout`",
            "without an answer to a WebSocket ping for this long the connection is opened anew",
        ),
        key("ping", "table", "none", "a heartbeat in the feed's own messages"),
        key(
            "stale_after",
            "duration, `auto` or `none`",
            "`auto`",
            "a topic without a message for this long is reported as stale; `auto`: four times its usual silence",
        ),
    ],
    later: &[],
};

pub(crate) const PING: Keys = Keys {
    section: "`ping` of `[keepalive]`",
    about: "A heartbeat in the feed's own messages.",
    known: &[
        key("every", "duration", "required", "time between two"),
        key("send", "template", "required", "the message"),
        key("expect", "name of a rule `as = \"pong\"`", "none", "the rule that knows the answer"),
        key(
            "timeout",
            "duration",
            "10s with `expect`",
            "without the answer for this long the connection is opened anew",
        ),
        key("idle_only", "`true`, `false`", "`false`", "only when nothing has come for `every`"),
    ],
    later: &[],
};

pub(crate) const SUBSCRIBE: Keys = Keys {
    section: "`[subscribe]`",
    about: "How the feed is asked for items. An item has the name of the topic that it gives: `ticker.BTC/USD`. `${channel}` is what stands before its first `.`, `${symbol}` what stands after it.",
    known: &[
        key("item", "template of `${item}`, `${channel}`, `${symbol}`", "the item", "what the feed calls it"),
        key("split", "text", "`.`", "another separator between channel and symbol"),
        key("symbol_first", "`true`, `false`", "`false`", "the symbol stands before the separator: `btcusdt@trade`"),
        key(
            "case",
            "`lower`, `upper`",
            "none",
            "how the feed writes symbols in its messages, if it grants them in any case",
        ),
        key("example", "item", "none", "an item that exists, for the message that nothing is asked for"),
        key("group_by", "`channel`", "none", "one message holds items of one channel only"),
        key("batch", "number from 1", "100; 1 with `${item}` or `${symbol}`", "items in one message"),
        key("max_bytes", "size", "`send.max_bytes`", "longest message; the smaller of the two counts"),
        key("send", "template", "the items are in the URL", "the message"),
        key("unsubscribe", "template", "none", "the message that ends it"),
        key("channels", "table of tables", "none", "what the feed calls a channel"),
        key("after", "name of a rule", "at once, or after the log-in", "the feed is asked when this rule has held"),
        key(
            "deadline",
            "duration",
            "none",
            "the feed closes connections that have not subscribed by then: without items no connection is opened",
        ),
        key(
            "change",
            "`live`, `reconnect`, `replace_all`",
            "`live` with `send`, else `reconnect`",
            "how items change on a connection: by messages for those that come and go; only with a new connection; by a message that names all of them",
        ),
        key("ack", "table", "no answer", "how the feed answers"),
    ],
    later: &["max_chars", "topics_from"],
};

pub(crate) const CHANNEL: Keys = Keys {
    section: "`channels.NAME` of `[subscribe]`",
    about: "For items of this channel.",
    known: &[
        key("name", "text", "the channel's name", "what `${channel}` becomes"),
        key("params", "table", "none", "the members of `${params}`"),
    ],
    later: &[],
};

pub(crate) const ACK: Keys = Keys {
    section: "`ack` of `[subscribe]`",
    about: "How the feed answers. Data of a topic is an answer too. A refused message of several items is sent again in halves, until the refused items stand alone.",
    known: &[
        key(
            "per",
            "`request`, `item`, `list`, `cumulative`, `none`",
            "required",
            "what an answer is about: one message, found by `id`; one item, found by `key`; the items it lists as granted and refused; everything that is subscribed; there is none",
        ),
        key("id", "pointer", "none", "where the answer has `${req}`"),
        key(
            "key",
            "one or two pointers",
            "required with `item`",
            "where it has the feed's name of the item, or channel and symbol",
        ),
        key("bad_key", "one or two pointers", "`key`", "the same in a refusal, where it differs"),
        key("item", "pointer", "none", "the same as `key` with one pointer"),
        key("ok", "pointer", "required with `list`", "where the granted items are"),
        key("bad", "one or more pointers", "none", "where the refused items are"),
        key("message", "pointer", "the beginning of the message", "where a refusal has its reason"),
        key("timeout", "duration", "10s", "without an answer for this long the item is reported as missing"),
    ],
    later: &[],
};

pub(crate) const SEND: Keys = Keys {
    section: "`[send]`",
    about: "Bounds of what is sent on one connection.",
    known: &[
        key("rate", "rate", "none", "everything that is sent: requests, answers, heartbeats and WebSocket pings"),
        key("budget", "rate", "none", "log-ins and subscriptions only"),
        key("max_bytes", "size", "none", "longest message"),
    ],
    later: &[],
};

pub(crate) const BACKOFF: Keys = Keys {
    section: "`[backoff]`",
    about: "When to connect again. The wait is random, below a bound that doubles with each attempt.",
    known: &[
        key("min", "duration", "`upstream.backoff_min`", "the bound of the first wait"),
        key("max", "duration", "`upstream.backoff_max`", "the bound of every wait"),
        key("reset_after", "duration", "`max`", "after data for this long the waits begin with `min` again"),
        key("fatal_codes", "list of numbers", "none", "WebSocket close codes after which trying again never helps"),
    ],
    later: &[],
};

pub(crate) const RESUME: Keys = Keys {
    section: "`[resume]`",
    about: "How a feed continues where it ended.",
    known: &[
        key(
            "cursor",
            "pointer",
            "required",
            "a number in each message; the newest one is `${resume}` in `connect.url`",
        ),
        key("rewind", "number", "0", "subtracted from the cursor"),
    ],
    later: &[],
};

pub(crate) const CLIENT: Keys = Keys {
    section: "`[client]`",
    about: "What clients may say to the feed, where the configuration lets them (`upstream.send`, `upstream.request`).",
    known: &[
        key(
            "send",
            "template",
            "nothing is sent",
            "what goes out for `{\"op\":\"send\",\"topic\":…,\"data\":…}`; `${data}` is JSON",
        ),
        key("request", "table", "requests are refused", "how an answer finds the client that asked"),
    ],
    later: &[],
};

pub(crate) const REQUEST: Keys = Keys {
    section: "`request` of `[client]`",
    about: "How an answer finds the client that asked.",
    known: &[
        key("id", "pointer to a member", "required", "where requests and their answers hold a number"),
        key("timeout", "duration", "10s", "longest wait for an answer"),
        key(
            "allow",
            "table of a pointer and a list of texts",
            "anything",
            "what a request must hold: `{ \"/method\" = [\"public/get_order_book\"] }`",
        ),
    ],
    later: &[],
};
