//! Keys about the messages of the feed.

use crate::profile::keys::{Keys, key};

pub(crate) const DECODE: Keys = Keys {
    section: "decode",
    known: &[
        key(
            "binary",
            "`utf8`, `gzip`, `zlib`, `zstd`, `reject`",
            "`utf8`",
            "the encoding of binary messages. One that unpacks to more than `max_message` is `garbled`",
        ),
        key("split", "`none`, `lines`", "`none`", "several messages in one, a line each (LF or CRLF)"),
        key(
            "format",
            "`json`, `irc`",
            "`json`",
            "`irc`: rules see `{\"tags\":{…},\"prefix\":\"…\",\"command\":\"PRIVMSG\",\"params\":[\"#chan\",\"text\"]}`; the line itself is published",
        ),
    ],
    later: &[],
};

pub(crate) const CONNECTION_SEQ: Keys = Keys {
    section: "seq",
    known: &[
        key("scope", "`connection`", "`connection`", "what is counted"),
        key("rule", "`inc`, `range`, `prev`, `monotonic`", "required", "which number follows which"),
        key("first", "pointer", "required with `range`", "the first number of the message"),
        key("prev", "pointer", "required with `prev`", "the number before it"),
        key("last", "pointer", "required", "the number, or the last one"),
        key("gap", "`mark`, `reconnect`, `ignore`", "`mark`", "what to do when some are missing"),
    ],
    later: &[],
};

pub(crate) const ON: Keys = Keys {
    section: "on",
    known: &[
        key("name", "text", "the NAME", "shown in the log; only in a list `[[on]]`, where it is required"),
        key("as", "a class, below", "`data`", "what the message is"),
        key("when", "list of tests", "none", "all must hold"),
        key(
            "topic",
            "template, or `\"${guess}\"`",
            "the profile's `topic`",
            "the topic. Only with `data`; a template also with `stale`, `live` and `gap`",
        ),
        key(
            "each",
            "pointer with `*`, one or more",
            "none",
            "one message holds several updates, one frame each. Only with `data`. `/*`: the message itself is the list",
        ),
        key(
            "order",
            "`newest_last`, `newest_first`",
            "`newest_last`",
            "with `each`: the order of the elements in the message. They are published oldest first",
        ),
        key(
            "emit",
            "`message`, `element`",
            "`message`",
            "with `each`: publishes the whole message, or the element's slice",
        ),
        key(
            "wrap",
            "`true`, `false`",
            "`false`",
            "publishes `{\"topic\":\"…\",\"data\":…}` around the payload, where a client could not know the topic otherwise",
        ),
        key(
            "mode",
            "`replace`, `tail`, `merge`, `book`, `delta`, `none`",
            "`replace`",
            "what a client that joins needs, [below](#modes)",
        ),
        key("tail", "number from 1 to 1000", "50", "messages that `mode = \"tail\"` keeps"),
        key(
            "merge",
            "table",
            "required with `mode = \"merge\"`",
            "the object, or the list of objects, that is folded, [below](#modes)",
        ),
        key("book", "table", "required with `mode = \"book\"`", "the order book that is folded, [below](#modes)"),
        key("delta_limit", "table", "none", "deltas kept since a snapshot, [below](#modes)"),
        key(
            "snapshot_when",
            "list of tests",
            "none",
            "all must hold for a message that is a whole value; `./x` tests the element",
        ),
        key("seq", "table", "none", "[sequence numbers](#sequence-numbers) of the topic"),
        key("time", "table", "none", "where a message has the [venue's own time](#the-venues-time)"),
        key(
            "continue",
            "`true`, `false`",
            "`false`",
            "later rules of class `data` are tried as well: a message may be of several kinds, each with its own topic and mode",
        ),
        key("bind", "table", "none", "a [binding](#bindings) that begins; only with `ack`"),
        key("unbind", "template", "none", "the key of a [binding](#bindings) that ends; only with `ack`"),
        key("reply", "template", "required with `ping`", "the answer; only with `ping`"),
        key(
            "since",
            "pointer",
            "the arrival of the message",
            "only with `stale`: since when, in milliseconds since 1970",
        ),
        key("missed", "pointer", "none", "only with `gap`: how many messages are missing"),
        key("until", "pointer", "none", "only with `gap` without `topic`: the number up to which data follow the gap"),
        key("number", "pointer", "required with `until`", "where data have their number"),
    ],
    later: &[],
};

pub(crate) const BIND: Keys = Keys {
    section: "on.bind",
    known: &[
        key("key", "template", "required", "the key: the number of the stream"),
        key("set", "table of pointers", "required", "names and where their values are"),
    ],
    later: &[],
};

pub(crate) const SEQ: Keys = Keys {
    section: "on.seq",
    known: &[
        key("rule", "`inc`, `range`, `prev`, `monotonic`", "required", "which number follows which"),
        key("first", "pointer", "required with `range`", "the first number of the message"),
        key("prev", "pointer", "required with `prev`", "the number before it"),
        key(
            "last",
            "pointer, or two of them",
            "required",
            "the number, or the last one; of two the first that finds something, where a snapshot has it elsewhere",
        ),
        key(
            "gap",
            "`mark`, `resubscribe`, `reconnect`, `ignore`, `drop_old`",
            "`mark`",
            "what to do when some are missing",
        ),
    ],
    later: &[],
};

pub(crate) const TIME: Keys = Keys {
    section: "on.time",
    known: &[
        key("at", "pointer", "required", "where the time is; `./x` is seen from the element"),
        key(
            "unit",
            "`s`, `ms`, `us`, `ns`, `rfc3339`",
            "required",
            "how it is written: a number, or digits in a string, of seconds to nanoseconds since 1970; or a text such as `2026-08-01T02:53:53.398Z`",
        ),
    ],
    later: &[],
};

pub(crate) const MERGE: Keys = Keys {
    section: "on.merge",
    known: &[
        key(
            "at",
            "`./pointer`",
            "required",
            "the object. A new member replaces the member of that name as a whole; `null` removes it",
        ),
        key(
            "key",
            "a member, or a list of them",
            "none",
            "`at` is a list of objects that are known by these members: levels and orders with an id, rows of a table. A known one is merged, another one added",
        ),
        key(
            "remove",
            "`/pointer == VALUE`, `member == VALUE`",
            "nothing is removed",
            "with `key`: which messages remove their objects, `/action == \"delete\"`, or which objects are removed, `size == 0`",
        ),
        key("carry", "list of pointers", "none", "further values that the kept object takes from the newest message"),
    ],
    later: &[],
};

pub(crate) const BOOK: Keys = Keys {
    section: "on.book",
    known: &[
        key(
            "sides",
            "two `./pointers`",
            "none",
            "the lists of bids and asks. Each may be a list of pointers, of which the first that finds something counts",
        ),
        key(
            "changes",
            "`./pointer`",
            "none",
            "one list for both sides, or one level alone, instead of `sides` or beside it; then `sides` is for snapshots. `.`: the message itself is the level",
        ),
        key(
            "side",
            "position or key",
            "none",
            "which side a level of `changes` is on: `side = 0, bid = \"buy\", ask = \"sell\"`",
        ),
        key("bid", "text", "required with `side`", "the name of the bid side"),
        key("ask", "text", "required with `side`", "the name of the ask side"),
        key("sign", "position or key", "none", "instead of `side`: a number that is positive for bids"),
        key(
            "price",
            "position or key",
            "required",
            "where a level has its price: `price = 0` in `[\"61837.5\",\"0.02\"]`, `price = \"px\"` in `{\"px\":61837.5}`; `price = [\"px\", 0]` if levels have several forms",
        ),
        key("size", "position or key", "required", "where a level has its size; a list as with `price`"),
        key(
            "level",
            "JSON with `${price}` and `${size}`",
            "as received",
            "how levels are kept, where a snapshot's have another form than those of changes: `[${price},${size}]`. Clients that join receive them so. With `changes = \".\"` it is nearly always needed",
        ),
        key("count", "position or key", "none", "where a level has its number of orders"),
        key("remove", "`size == 0`, `count == 0`", "`size == 0`", "which level is removed; `0.00000000` is 0"),
        key(
            "depth",
            "number from 1, or pointer",
            "no limit",
            "levels per side, the best ones; where the feed does not say which fall out. A pointer leads to a number in the snapshot, or to a text that ends with one: `book-25`",
        ),
        key("checksum", "table", "none", "the feed's checksum of the book, [below](#checksums)"),
        key(
            "carry",
            "list of pointers",
            "none",
            "further values that the kept snapshot takes from the newest message: a checksum, a number, a time; without it they stay those of the first snapshot",
        ),
    ],
    later: &[],
};

pub(crate) const CHECKSUM: Keys = Keys {
    section: "on.book.checksum",
    known: &[
        key(
            "at",
            "pointer",
            "required",
            "where a message has it, a number or a string of digits. Of a list of pointers the first that finds something counts. A message without one, or with 0, is not checked",
        ),
        key("levels", "number from 1", "required", "levels per side that it covers, the best ones"),
        key(
            "order",
            "`alternating`, `asks_first`, `bids_first`",
            "required",
            "the order of the levels: bid, ask, bid, ask; or one side after the other",
        ),
        key(
            "digits",
            "`as_sent`, `significant`",
            "`as_sent`",
            "how price and size are written: as received; or without the point and the zeros at the beginning",
        ),
        key("join", "text", "empty", "what stands between two numbers"),
    ],
    later: &[],
};

pub(crate) const DELTA_LIMIT: Keys = Keys {
    section: "on.delta_limit",
    known: &[
        key("count", "number from 1", "5000", "deltas"),
        key("bytes", "size", "4 MiB", "their bytes"),
        key(
            "over",
            "`resubscribe`, `mark`",
            "`resubscribe`",
            "beyond the limit: requests a new snapshot, or reports a gap",
        ),
    ],
    later: &[],
};
