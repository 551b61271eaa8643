//! Keys about the feed and its connections.

use crate::profile::keys::{Keys, key};

pub(crate) const ROOT: Keys = Keys {
    section: "top level",
    known: &[
        key("profile", "`1`", "required", "version of this language"),
        key("name", "text", "required", "shown in the log and by `fanline probe`"),
        key(
            "hosts",
            "list of texts",
            "empty",
            "selects a built-in profile by the URL: a host name, which includes its subdomains, and optionally the beginning of a path, `ws.kraken.com/v2`. The longest match wins",
        ),
        key("connect", "table", "none", "where and how fanline connects"),
        key(
            "request",
            "table of tables",
            "none",
            "requests over HTTP by name, made in this order before each connection",
        ),
        key("snapshot", "table", "none", "snapshots over HTTP, for topics whose feed sends changes alone"),
        key("open", "list of templates", "none", "messages sent first on every connection, in this order"),
        key("login", "table", "none", "the login"),
        key("sign", "table of tables", "none", "signatures by name"),
        key("subscribe", "table", "none", "how to subscribe to items. Without it `--subscribe` is rejected"),
        key("send", "table", "none", "limits on what is sent on one connection"),
        key("keepalive", "table", "none", "heartbeats, and when a feed or topic counts as silent"),
        key("client", "table", "none", "what clients may send to the feed"),
        key("backoff", "table", "none", "when to reconnect"),
        key("resume", "table", "none", "how to continue after a reconnect"),
        key("decode", "table", "none", "how WebSocket messages become messages of the feed"),
        key("alias", "table of tables", "none", "tables for the filter `map:NAME`"),
        key("seq", "table", "none", "numbers that count all messages of a connection"),
        key("topic", "template", "none", "the topic of rules that name none"),
        key("on", "table of tables", "required", "[the rules](#onname) by name, at least one"),
        key(
            "bind_via",
            "template over the message",
            "none",
            "key for the connection's table of [bindings](#bindings), looked up before the rules are tried",
        ),
        key("downstream", "table", "none", "what clients of the venue may say to fanline, and what they hear"),
        key("unmatched", "`\"topic:NAME\"`", "count only", "publishes messages that no rule matches on this topic"),
    ],
    later: &[],
};

pub(crate) const CONNECT: Keys = Keys {
    section: "connect",
    known: &[
        key(
            "url",
            "template of a URL `ws://` or `wss://`",
            "none",
            "the feed, if the configuration names none. The configured URL may hold placeholders too",
        ),
        key(
            "branches",
            "table of URLs",
            "none",
            "further URLs of the feed, for the same messages: `{ linear = \"wss://…\" }`. Items that begin with `linear.` are subscribed to there, without this beginning, and topics of what comes from there begin so",
        ),
        key(
            "headers",
            "table of templates",
            "none",
            "further headers of the handshake: `{ \"X-Key\" = \"${env.ACME_KEY}\" }`. The setting `upstream.headers` overrides them. Without a `User-Agent`, fanline sends its own",
        ),
        key("subprotocol", "text", "none", "the WebSocket subprotocol"),
        key(
            "max_message",
            "size",
            "`upstream.message_bytes_max`, 16 MiB",
            "a longer message ends the connection, and fanline reconnects",
        ),
        key(
            "deflate",
            "`true`, `false`",
            "`upstream.deflate`, `false`",
            "offers permessage-deflate (RFC 7692), so that the feed may compress its messages. `max_message` then bounds the compressed and the inflated message",
        ),
        key(
            "open_timeout",
            "duration",
            "`upstream.connect_timeout`, 10 s",
            "limit for the connection and its handshakes",
        ),
        key(
            "max_conns",
            "number from 1",
            "256, the most",
            "simultaneous connections. With 1 there is no overlap when one is replaced, and items that do not fit on it are refused",
        ),
        key(
            "topics_per_conn",
            "number from 1",
            "no limit",
            "items on one connection; more items open more connections",
        ),
        key("dial_rate", "rate", "none", "attempts to connect"),
        key(
            "rotate_after",
            "duration",
            "never",
            "replaces a connection before the feed closes it: the new connection first, unless `max_conns = 1`. The setting `upstream.rotate_after` overrides it",
        ),
    ],
    later: &["rotate"],
};

pub(crate) const OPEN: Keys =
    Keys { section: "open", known: &[key("send", "template", "required", "the message")], later: &[] };

pub(crate) const LOGIN: Keys = Keys {
    section: "login",
    known: &[
        key("send", "template", "required", "the message"),
        key(
            "after",
            "name of a rule `greeting`, `auth_ok` or `info`",
            "at once",
            "sends it when this rule has matched",
        ),
        key("ok", "name of a rule `as = \"auth_ok\"`", "do not wait", "the rule that recognises the answer"),
        key("timeout", "duration", "10 s", "reconnects after this time without the answer"),
        key(
            "life",
            "duration, or pointer to seconds in the answer",
            "as long as the connection",
            "how long the login counts. At half of it, it is renewed",
        ),
        key(
            "expires",
            "pointer to a Unix time or a JSON Web Token in the answer",
            "none",
            "in place of `life`: when the login ends, for a token by its `exp`",
        ),
        key(
            "renew",
            "`login`, `connection`",
            "`login`",
            "how: the login is sent again on the open connection, or a new connection takes over before the old one is closed",
        ),
    ],
    later: &[],
};

pub(crate) const SIGN: Keys = Keys {
    section: "sign.NAME",
    known: &[
        key(
            "alg",
            "`hmac-sha256`, `hmac-sha384`, `hmac-sha512`, `jwt-hs256`, `jwt-es256`",
            "required",
            "the algorithm",
        ),
        key("key", "table", "required", "the key, below"),
        key("message", "template", "required with `hmac`", "what is signed"),
        key("header", "template of JSON", "required with `jwt`", "the header of the token"),
        key(
            "claims",
            "template of JSON",
            "required with `jwt`",
            "the claims of the token: `{\"exp\":${now.s|add:120}}` ends it in 2 minutes",
        ),
        key("encode", "`hex`, `base64`", "`hex`", "how the signature is written"),
        key(
            "optional",
            "`true`, `false`",
            "`false`",
            "without the variable, conditionals `${sign.NAME?…}` are left out; otherwise its absence is an error at the start",
        ),
    ],
    later: &[],
};

pub(crate) const SIGN_KEY: Keys = Keys {
    section: "sign.NAME.key",
    known: &[
        key("env", "name of a variable", "required", "the environment variable that holds the key"),
        key("decode", "`raw`, `base64`, `hex`, `pem`", "`raw`", "how the key is written there"),
    ],
    later: &[],
};

pub(crate) const KEEPALIVE: Keys = Keys {
    section: "keepalive",
    known: &[
        key(
            "idle_timeout",
            "duration, `none`",
            "30 s",
            "after this time without a message the feed is silent and clients receive `stale`; after twice this time fanline reconnects. The setting `upstream.idle_timeout` overrides it",
        ),
        key(
            "ws_ping",
            "duration, `none`",
            "`upstream.ping_interval`, 15 s",
            "time between WebSocket pings to the feed",
        ),
        key(
            "pong_timeout",
            "duration",
            "`upstream.pong_timeout`, 10 s",
            "reconnects when the feed has answered no WebSocket ping for this long",
        ),
        key("ping", "table", "none", "a heartbeat in the feed's own messages, below"),
        key(
            "stale_after",
            "duration, `auto`, `none`",
            "`auto`",
            "reports a single topic as stale after this time without a message; `auto`: after an unusually long time for this topic",
        ),
    ],
    later: &[],
};

pub(crate) const PING: Keys = Keys {
    section: "keepalive.ping",
    known: &[
        key(
            "every",
            "duration, or a template of one",
            "required",
            "time between two heartbeats; `${taken.NAME}ms` if an answer says it",
        ),
        key(
            "send",
            "template",
            "required",
            "the message, with `${req}`, `${uuid}`, `${now.s}`, `${now.ms}`, `${env.NAME}`, `${taken.NAME}`, `${sign.NAME}`",
        ),
        key("expect", "name of a rule `as = \"pong\"`", "none", "the rule that recognises the answer"),
        key("timeout", "duration", "10 s with `expect`", "reconnects after this time without the answer"),
        key("idle_only", "`true`, `false`", "`false`", "sends only when nothing has arrived for `every`"),
    ],
    later: &[],
};

pub(crate) const SEND: Keys = Keys {
    section: "send",
    known: &[
        key("rate", "rate", "none", "everything sent: subscriptions, replies, heartbeats and WebSocket pings"),
        key("budget", "rate", "none", "subscribing, unsubscribing and logging in only"),
        key("max_bytes", "size", "none", "longest message"),
    ],
    later: &[],
};

pub(crate) const BACKOFF: Keys = Keys {
    section: "backoff",
    known: &[
        key("min", "duration", "`upstream.backoff_min`", "bound of the first random wait before reconnecting"),
        key("max", "duration", "`upstream.backoff_max`", "bound of every wait"),
        key("reset_after", "duration", "`max`", "after data for this long the wait starts at `min` again"),
        key(
            "fatal_codes",
            "list of numbers",
            "none",
            "WebSocket close codes after which retrying never helps. A code that also means \"too many connections\" does not belong here",
        ),
    ],
    later: &[],
};

pub(crate) const RESUME: Keys = Keys {
    section: "resume",
    known: &[
        key(
            "cursor",
            "pointer",
            "required",
            "a number in each message. The newest is `${resume}` in `connect.url`, which has no value before the first message",
        ),
        key(
            "rewind",
            "number, in the cursor's unit",
            "0",
            "subtracted from the cursor: 5000000 is 5 s of microseconds",
        ),
    ],
    later: &[],
};

pub(crate) const CLIENT: Keys = Keys {
    section: "client",
    known: &[
        key(
            "send",
            "template",
            "nothing is sent, and `upstream.send` is rejected at the start",
            "the message for `{\"op\":\"send\",\"topic\":…,\"data\":…}`",
        ),
        key("request", "table", "requests are refused", "how an answer finds its request, below"),
    ],
    later: &[],
};

pub(crate) const REQUEST: Keys = Keys {
    section: "client.request",
    known: &[
        key(
            "id",
            "pointer to a member, such as `\"/id\"`",
            "required",
            "where requests and their answers hold a number. fanline writes its own number there, and restores the client's in the answer",
        ),
        key("timeout", "duration", "10 s", "longest wait for an answer; clients may set a shorter one"),
        key(
            "allow",
            "table of a pointer and a list of texts",
            "anything, with a warning at the start",
            "what a request must hold: `{ \"/method\" = [\"public/get_order_book\"] }`",
        ),
    ],
    later: &[],
};
