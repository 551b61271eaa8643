//! Keys about the messages of the feed.

use crate::profile::keys::{Keys, key};

pub(crate) const DECODE: Keys = Keys {
    section: "`[decode]`",
    about: "How frames become messages.",
    known: &[
        key("binary", "`utf8`, `gzip`, `zlib`, `zstd`, `reject`", "`utf8`", "what binary frames hold"),
        key("split", "`none`, `lines`", "`none`", "each line of a frame is a message"),
        key("format", "`json`, `irc`", "`json`", "what a message is written in"),
    ],
    later: &[],
};

pub(crate) const CONNECTION_SEQ: Keys = Keys {
    section: "`[seq]`",
    about: "Numbers that count all messages of a connection. A message without one is not counted.",
    known: &[
        key("scope", "`connection`", "required", "what is counted"),
        key("rule", "`inc`, `range`, `prev`, `monotonic`", "required", "as in `seq` of a rule"),
        key("first", "pointer", "required with `range`", "the first number of the message"),
        key("prev", "pointer", "required with `prev`", "the number before it"),
        key("last", "pointer", "required", "the number, or the last one"),
        key("gap", "`mark`, `reconnect`, `ignore`", "`mark`", "what is done if some are missing"),
    ],
    later: &[],
};

pub(crate) const ON: Keys = Keys {
    section: "`[[on]]`",
    about: "The rules. The first whose tests all hold decides; a rule without `when` always holds.",
    known: &[
        key("name", "text", "required", "shown in the log"),
        key("as", "a class", "required", "what the message is, and so what is done with it"),
        key("when", "list of tests", "none", "all must hold"),
        key(
            "topic",
            "template, or `${guess}`",
            "required with `data`",
            "the topic; a template also with `stale`, `live` and `gap`",
        ),
        key("reply", "template", "required with `ping`", "the answer"),
        key("each", "pointer with `*`", "none", "a message holds several things, one at each place; only with `data`"),
        key("emit", "`message`, `element`", "`message`", "what is published: the whole message, or the element"),
        key("wrap", "`true`, `false`", "`false`", "publish `{\"topic\":…,\"data\":…}` around it"),
        key(
            "mode",
            "`replace`, `tail`, `merge`, `book`, `delta`, `none`",
            "`replace`",
            "what later clients need of the topic",
        ),
        key("tail", "number from 1 to 1000", "50", "messages that `mode = \"tail\"` keeps"),
        key("merge", "table", "required with `mode = \"merge\"`", "which object is folded"),
        key("book", "table", "required with `mode = \"book\"`", "which levels are folded"),
        key("delta_limit", "table", "none", "how many changes are kept after a snapshot"),
        key(
            "snapshot_when",
            "list of tests",
            "none",
            "all must hold for a message that is a whole value; also `./x`, seen from the element",
        ),
        key("seq", "table", "none", "sequence numbers of the topic"),
        key("bind", "table", "none", "what the key in an acknowledgement stands for; only with `ack`"),
        key("unbind", "template", "none", "the key whose binding ends; only with `ack`"),
        key("since", "pointer", "when the message came", "since when, in milliseconds since 1970; only with `stale`"),
        key("missed", "pointer", "none", "how many messages are missing; only with `gap`"),
        key(
            "until",
            "pointer",
            "none",
            "the number up to which data come after the gap; only with `gap` without `topic`",
        ),
        key("number", "pointer", "required with `until`", "where data have theirs"),
    ],
    later: &[],
};

pub(crate) const BIND: Keys = Keys {
    section: "`bind` of `[[on]]`",
    about: "Writes down what a number in later messages stands for.",
    known: &[
        key("key", "template", "required", "the number"),
        key(
            "set",
            "table of pointers",
            "required",
            "names, and where their values are; `${=name}` and `=name` are the values",
        ),
    ],
    later: &[],
};

pub(crate) const SEQ: Keys = Keys {
    section: "`seq` of `[[on]]`",
    about: "Sequence numbers of the topic. A snapshot starts the count anew.",
    known: &[
        key(
            "rule",
            "`inc`, `range`, `prev`, `monotonic`",
            "required",
            "`last` is one more than before; `first` is one more than `last` before; `prev` is `last` before; `last` is not less than before",
        ),
        key("first", "pointer", "required with `range`", "the first number of the message"),
        key("prev", "pointer", "required with `prev`", "the number before it"),
        key("last", "pointer", "required", "the number, or the last one"),
        key(
            "gap",
            "`mark`, `resubscribe`, `reconnect`, `ignore`, `drop_old`",
            "`mark`",
            "what is done if some are missing: report it; and ask for a new snapshot; and open the connection anew; nothing; drop what is older than the newest",
        ),
    ],
    later: &[],
};

pub(crate) const MERGE: Keys = Keys {
    section: "`merge` of `[[on]]`",
    about: "An object of which only the changed members are sent.",
    known: &[
        key(
            "at",
            "`./pointer`",
            "required",
            "the object; a member that comes replaces the member of that name, `null` removes it",
        ),
        key("carry", "list of pointers", "none", "further tokens that the newest message gives"),
    ],
    later: &[],
};

pub(crate) const BOOK: Keys = Keys {
    section: "`book` of `[[on]]`",
    about: "An order book whose levels are sent when they change.",
    known: &[
        key("sides", "two `./pointers`", "none", "the lists of bids and asks"),
        key("changes", "`./pointer`", "none", "one list for both sides, or one level alone"),
        key("side", "position or key", "none", "where a level of `changes` names its side"),
        key("bid", "text", "required with `side`", "the name of the bid side"),
        key("ask", "text", "required with `side`", "the name of the ask side"),
        key("sign", "position or key", "none", "a number that is positive for bids, instead of `side`"),
        key("price", "position or key", "required", "where a level has its price"),
        key("size", "position or key", "required", "where a level has its size"),
        key("count", "position or key", "none", "where a level has its number of orders"),
        key("remove", "`size == 0`, `count == 0`", "`size == 0`", "which level goes"),
        key("depth", "number from 1", "no limit", "levels of a side, the best ones"),
        key("carry", "list of pointers", "none", "further tokens that the newest message gives"),
    ],
    later: &[],
};

pub(crate) const DELTA_LIMIT: Keys = Keys {
    section: "`delta_limit` of `[[on]]`",
    about: "How many changes are kept after a snapshot.",
    known: &[
        key("count", "number from 1", "5000", "changes"),
        key("bytes", "size", "4MiB", "their bytes"),
        key(
            "over",
            "`resubscribe`, `mark`",
            "`resubscribe`",
            "beyond the limit: ask for a new snapshot, or report a gap to clients",
        ),
    ],
    later: &[],
};
