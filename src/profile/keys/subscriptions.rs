//! Keys about items and how to subscribe to them.

use crate::profile::keys::{Keys, key};

pub(crate) const SUBSCRIBE: Keys = Keys {
    section: "subscribe",
    known: &[
        key(
            "send",
            "template, or list of templates",
            "none: the items are in the URL",
            "the message that subscribes; of a list all are sent for each batch, in this order",
        ),
        key(
            "unsubscribe",
            "template, or list of templates",
            "none",
            "the message that unsubscribes; a list as with `send`. Not needed if `send` has `${un}`",
        ),
        key(
            "item",
            "template of `${item}`, `${channel}`, `${symbol}`",
            "the item as given",
            "the feed's name of the item",
        ),
        key("split", "text", "`.`", "another separator between channel and symbol"),
        key("symbol_first", "`true`, `false`", "`false`", "the symbol stands before the separator: `btcusdt@trade`"),
        key(
            "case",
            "`lower`, `upper`",
            "none",
            "the case of symbols in the feed's messages, if the feed accepts any case. A client that subscribes to `chat.xQc` receives `refused` with the right name, `chat.xqc`; items of `--subscribe` are corrected, and the log says so. A symbol that begins with a sign is left as it is",
        ),
        key("example", "item", "none", "an existing item, for the log line that nothing is subscribed"),
        key(
            "channel",
            "template of `${channel}`",
            "the channel as given",
            "the feed's name of channels to which `channels` gives none: `/market/${channel}`",
        ),
        key("channels", "table of tables", "none", "names and parameters of channels, below"),
        key("group_by", "`channel`", "none", "one message holds items of one channel only"),
        key("batch", "number from 1", "100; 1 with `${item}` or `${symbol}` in `send`", "items per message at most"),
        key(
            "max_bytes",
            "size",
            "`send.max_bytes`",
            "longest message; the smaller of the two counts. A batch shrinks to fit; an item that is too long by itself is refused",
        ),
        key(
            "after",
            "name of a rule `greeting`, `auth_ok` or `info`",
            "at once, or after login",
            "subscribes when this rule has matched",
        ),
        key(
            "deadline",
            "duration",
            "none",
            "the feed closes connections that have not subscribed by then: without items, fanline does not connect",
        ),
        key(
            "change",
            "`live`, `reconnect`, `replace_all`",
            "`live` with `send`, else `reconnect`",
            "how items change on a connection: by messages for the difference; not at all, so that the connection is replaced; by a message with all items",
        ),
        key("ack", "table", "no answer", "how the feed answers, below"),
    ],
    later: &["max_chars", "topics_from"],
};

pub(crate) const CHANNEL: Keys = Keys {
    section: "subscribe.channels.NAME",
    known: &[
        key("name", "text", "the section's `channel`", "the feed's name of the channel, the value of `${channel}`"),
        key("params", "table", "none", "the members of `${params}`"),
        key(
            "item",
            "template of `${item}`, `${channel}`, `${symbol}`",
            "the section's",
            "the feed's name of such an item",
        ),
        key("batch", "number from 1", "the section's", "such items per message at most; it then holds no others"),
        key("send", "template, or list of templates", "the section's", "the messages that subscribe to such items"),
        key(
            "unsubscribe",
            "template, or list of templates",
            "the section's",
            "the messages that unsubscribe from them; not needed if their `send` has `${un}`",
        ),
    ],
    later: &[],
};

pub(crate) const ACK: Keys = Keys {
    section: "subscribe.ack",
    known: &[
        key("per", "`request`, `item`, `list`, `cumulative`, `none`", "required", "what an answer is about, below"),
        key("id", "pointer", "none", "where the answer has `${req}`"),
        key(
            "key",
            "one or more pointers",
            "required with `item`",
            "where it has the feed's name of the item, or the object that the item was requested with; with several pointers, channel and parts of the symbol. `*` stands for every element, `#` for the key of a member: `/channels/*/name` with `/channels/*/product_ids/*`",
        ),
        key("item", "pointer", "none", "the same as `key` with one pointer"),
        key(
            "bad_key",
            "one or more pointers",
            "`key`",
            "the same in a refusal, where it differs. Only if the refusal names the refused items alone: if it repeats the whole request, leave it out. A single pointer may also name the symbol",
        ),
        key(
            "ok",
            "pointer",
            "required with `list`",
            "where the granted items are; `/success/*/symbol` in a list of objects",
        ),
        key("bad", "one or more pointers", "none", "where the refused items are"),
        key("message", "pointer", "the beginning of the message", "where a refusal has its reason"),
        key("timeout", "duration", "10 s", "reports the item as missing after this time without an answer"),
    ],
    later: &[],
};
