//! A hint that the first messages of a feed are changes rather than whole values, and the keys of a rule that fold
//! them.
//!
//! A client that joins receives the newest message of a topic. Of a book, of rows or of an object that comes in parts,
//! that is a small part of the value. Messages look like changes
//!  1. to a book, if they have lists of two sides, or one of both, and a level is removed or the message says so;
//!  2. to rows, if they say that they insert, update or delete, and their rows have an id and not always all members;
//!  3. to an object, if they say so, and it does not always have all members.
//!
//! It is a hint, because words and numbers are all there is to see.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

/// Members that say what a message is.
const MARKS: [&str; 8] = ["type", "action", "event", "e", "msg_type", "update_type", "updateType", "kind"];
/// Parts of their values, in lower case.
pub(crate) const WHOLE: [&str; 4] = ["snapshot", "partial", "image", "initial"];
pub(crate) const CHANGE: [&str; 7] = ["update", "delta", "change", "diff", "insert", "delete", "increment"];
const GONE: [&str; 2] = ["delete", "remove"];
/// Lists of bids and of asks.
const SIDES: [[&str; 2]; 4] = [["bids", "asks"], ["b", "a"], ["bid", "ask"], ["buy", "sell"]];
/// Members of levels.
const PRICES: [&str; 6] = ["price", "px", "p", "rate", "price_level", "limit_price"];
const SIZES: [&str; 8] = ["size", "qty", "quantity", "amount", "sz", "q", "s", "new_quantity"];
/// Words for bids and for asks.
const WORDS: [[&str; 2]; 7] =
    [["buy", "sell"], ["bid", "ask"], ["bid", "offer"], ["Buy", "Sell"], ["BUY", "SELL"], ["b", "a"], ["b", "s"]];
/// Members that are the key of a row.
const IDS: [&str; 6] = ["id", "orderId", "order_id", "oid", "symbol", "product_id"];
const DEPTH_MAX: usize = 3;

/// What the messages look like, and the keys of a rule for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHint {
    what: &'static str,
    /// Messages that look so, of those that were examined.
    changes: usize,
    messages: usize,
    /// A test for snapshots, if one of the messages is a snapshot.
    snapshot: Option<String>,
    /// `mode`, and the key that goes with it.
    keys: [String; 2],
}

/// An object of a message, and the pointer to it.
type Site<'v> = (String, &'v Map<String, Value>);

impl ChangeHint {
    /// None: they look like whole values.
    pub(crate) fn of(messages: &[Value]) -> Option<ChangeHint> {
        let sites: Vec<Vec<Site<'_>>> = messages.iter().map(sites).collect();
        let mark = KindMark::of(&sites);
        let (what, changes, keys) = (book_of_sides(&sites, mark.as_ref()).or_else(|| book_of_one_list(&sites)))
            .or_else(|| parts(&sites, mark.as_ref()?))?;
        Some(ChangeHint {
            what,
            changes,
            messages: messages.len(),
            snapshot: mark.and_then(|mark| mark.snapshot),
            keys,
        })
    }

    /// Whether one of the messages is a snapshot.
    pub(crate) fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The keys of a rule, a line each.
    pub fn lines(&self) -> String {
        let snapshot = self.snapshot.as_deref().unwrap_or("/snapshot exists");
        let [mode, key] = &self.keys;
        format!("{mode}\nsnapshot_when = ['{snapshot}']\n{key}\n")
    }
}

impl fmt::Display for ChangeHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangeHint { what, changes, messages, snapshot, .. } = self;
        let keys = self.lines().trim_end().replace('\n', "`, `");
        write!(
            f,
            "{changes} of the first {messages} messages look like changes to {what}, and a client that joins gets the \
             newest alone; fold them with a profile: copy `generic`, and add to its rule `{keys}`"
        )?;
        match snapshot {
            Some(_) => Ok(()),
            None => write!(f, "; none of them looks like a snapshot: if the feed sends none, `[snapshot]` asks for it"),
        }
    }
}

/// Where messages say what they are.
struct KindMark {
    at: String,
    snapshot: Option<String>,
}

impl KindMark {
    /// The first place at which some message says that it is a change.
    fn of(sites: &[Vec<Site<'_>>]) -> Option<KindMark> {
        let mut words: BTreeMap<(usize, String), BTreeSet<&str>> = BTreeMap::new();
        for (at, object) in sites.iter().flatten() {
            for (rank, name) in MARKS.iter().enumerate() {
                if let Some(word) = object.get(*name).and_then(Value::as_str) {
                    words.entry((rank, format!("{at}/{name}"))).or_default().insert(word);
                }
            }
        }
        let is = |word: &&&str, family: &[&str]| family.iter().any(|part| word.to_ascii_lowercase().contains(part));
        let ((_, at), words) = words.into_iter().find(|(_, words)| words.iter().any(|word| is(&word, &CHANGE)))?;
        let whole = words.iter().find(|word| is(word, &WHOLE));
        let snapshot = whole.map(|word| format!("{at} == {}", Value::from(*word)));
        Some(KindMark { at, snapshot })
    }

    fn word<'v>(&self, sites: &[Site<'v>]) -> Option<&'v str> {
        let (object, name) = self.at.rsplit_once('/')?;
        sites.iter().find(|(at, _)| at == object)?.1.get(name)?.as_str()
    }

    fn says(&self, sites: &[Site<'_>], family: &[&str]) -> bool {
        let says = |word: &str| family.iter().any(|part| word.to_ascii_lowercase().contains(part));
        self.word(sites).is_some_and(says)
    }
}

/// What changes, in how many messages, and the keys.
type HintedFold = (&'static str, usize, [String; 2]);

/// The object that has a list of each side in some message, and the names of these.
fn two_sides<'a>(sites: &'a [Vec<Site<'_>>]) -> Option<(&'a str, &'static [&'static str; 2])> {
    SIDES.iter().find_map(|sides| {
        let has_both =
            |(_, object): &&Site<'_>| sides.iter().all(|name| object.get(*name).is_some_and(Value::is_array));
        Some((sites.iter().flatten().find(has_both)?.0.as_str(), sides))
    })
}

/// The key that says where they are.
fn in_words((at, [bids, asks]): (&str, &[&str; 2])) -> String {
    format!("sides = [\"{at}/{bids}\", \"{at}/{asks}\"]")
}

/// A book whose sides are lists of their own.
fn book_of_sides(sites: &[Vec<Site<'_>>], mark: Option<&KindMark>) -> Option<HintedFold> {
    let (at, sides) = two_sides(sites)?;
    let mut level = None;
    let is_change = |message: &&Vec<Site<'_>>| {
        let Some((_, object)) = message.iter().find(|(place, _)| place == at) else { return false };
        let lists: Vec<&Vec<Value>> = sides.iter().filter_map(|name| object.get(*name)?.as_array()).collect();
        if lists.is_empty() {
            return false;
        }
        let levels = lists.into_iter().flatten();
        let forms: Vec<(SeenLevel, bool)> = levels.filter_map(SeenLevel::read).collect();
        level = level.take().or_else(|| forms.first().map(|(form, _)| form.clone()));
        mark.map_or_else(|| forms.iter().any(|(_, gone)| *gone), |mark| mark.says(message, &CHANGE))
    };
    let changes = sites.iter().filter(is_change).count();
    let SeenLevel { price, size, .. } = level.filter(|_| changes > 0)?;
    let book = format!("book = {{ {}, price = {price}, size = {size} }}", in_words((at, sides)));
    Some(("a book", changes, ["mode = \"book\"".to_string(), book]))
}

/// A book in one list, whose levels name their side. Trades look the same but for sizes of 0.
fn book_of_one_list(sites: &[Vec<Site<'_>>]) -> Option<HintedFold> {
    let mut changes: BTreeMap<String, (usize, SeenLevel, [&str; 2])> = BTreeMap::new();
    for message in sites {
        for (at, object) in message {
            for (name, list) in object.iter().filter_map(|(name, value)| Some((name, value.as_array()?))) {
                let levels: Vec<(SeenLevel, bool)> = list.iter().filter_map(SeenLevel::read).collect();
                let gone = levels.iter().find(|(_, gone)| *gone).map(|(form, _)| form.clone());
                let Some(form) = gone else { continue };
                let Some(words) =
                    form.side.as_ref().and_then(|(_, word)| WORDS.iter().find(|it| it.contains(&&**word)))
                else {
                    continue;
                };
                changes.entry(format!("{at}/{name}")).or_insert((0, form, *words)).0 += 1;
            }
        }
    }
    let (at, (count, form, [bid, ask])) = changes.into_iter().max_by_key(|(_, (count, ..))| *count)?;
    let (SeenLevel { price, size, .. }, (side, _)) = (&form, form.side.as_ref()?);
    let whole = two_sides(sites).map_or(String::new(), |sides| in_words(sides) + ", ");
    let book = format!(
        "book = {{ {whole}changes = \"{at}\", side = {side}, bid = \"{bid}\", ask = \"{ask}\", price = {price}, \
         size = {size} }}"
    );
    Some(("a book", count, ["mode = \"book\"".to_string(), book]))
}

/// Rows, or an object, of which messages have a part.
fn parts(sites: &[Vec<Site<'_>>], mark: &KindMark) -> Option<HintedFold> {
    let said = sites.iter().filter(|message| mark.says(message, &CHANGE));
    let changes = said.clone().count();
    let has_gone = said.clone().any(|message| mark.says(message, &GONE));
    // The places of objects below the message itself, with the members of each.
    let mut members: BTreeMap<&str, Vec<BTreeSet<&str>>> = BTreeMap::new();
    for (at, object) in sites.iter().flatten().filter(|(at, _)| !at.is_empty()) {
        members.entry(at).or_default().push(object.keys().map(String::as_str).collect());
    }
    let (at, sets) = members.into_iter().max_by_key(|(at, sets)| (sets.len(), std::cmp::Reverse(at.len())))?;
    let all: BTreeSet<&str> = sets.iter().flatten().copied().collect();
    let is_partial = sets.iter().any(|set| set.len() < all.len());
    let merge = "mode = \"merge\"".to_string();
    match at.strip_suffix("/0") {
        Some(list) if is_partial || has_gone => {
            let key = IDS.iter().find(|id| sets.iter().all(|set| set.contains(*id)))?;
            let word = said.filter(|message| mark.says(message, &GONE)).find_map(|message| mark.word(message));
            let remove =
                word.map_or(String::new(), |word| format!(", remove = '{} == {}'", mark.at, Value::from(word)));
            Some(("rows", changes, [merge, format!("merge = {{ at = \"{list}\", key = \"{key}\"{remove} }}")]))
        }
        None if is_partial => Some(("an object", changes, [merge, format!("merge = {{ at = \"{at}\" }}")])),
        _ => None,
    }
}

/// The objects of a message: itself, its members and theirs, and the first elements of lists.
fn sites(message: &Value) -> Vec<Site<'_>> {
    let mut found = Vec::new();
    collect(message, String::new(), 0, &mut found);
    found
}

fn collect<'v>(value: &'v Value, at: String, depth: usize, found: &mut Vec<Site<'v>>) {
    match value {
        Value::Object(members) => {
            found.push((at.clone(), members));
            let below = members.iter().filter(|(name, _)| depth < DEPTH_MAX && is_plain(name));
            below.for_each(|(name, member)| collect(member, format!("{at}/{name}"), depth + 1, found));
        }
        // A list is the message itself, or has objects of one kind.
        Value::Array(elements) if depth == 0 => {
            let below = elements.iter().enumerate().take(DEPTH_MAX);
            below.for_each(|(index, element)| collect(element, format!("/{index}"), 1, found));
        }
        Value::Array(elements) if elements.first().is_some_and(Value::is_object) => {
            collect(&elements[0], format!("{at}/0"), depth + 1, found);
        }
        _ => {}
    }
}

/// A pointer in a profile can hold the name as it is.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Where a level has its parts, as a profile says it.
#[derive(Clone, Debug)]
struct SeenLevel {
    price: String,
    size: String,
    /// The place of a word that could be its side, and the word.
    side: Option<(String, String)>,
}

impl SeenLevel {
    /// The form of a level, and whether it has the size 0.
    fn read(level: &Value) -> Option<(SeenLevel, bool)> {
        match level {
            Value::Array(fields) => {
                let mut numbers = fields.iter().enumerate().filter(|(_, field)| number(field).is_some());
                let (price, _) = numbers.next()?;
                let (size, field) = numbers.next()?;
                let word = fields.iter().enumerate().find(|(_, field)| field.is_string() && number(field).is_none());
                let side = word.map(|(place, word)| (place.to_string(), word.as_str().unwrap_or_default().to_string()));
                let form = SeenLevel { price: price.to_string(), size: size.to_string(), side };
                Some((form, number(field) == Some(0.0)))
            }
            Value::Object(members) => {
                let named =
                    |names: &[&'static str]| names.iter().find_map(|name| Some((*name, number(members.get(*name)?)?)));
                let ((price, _), (size, value)) = (named(&PRICES)?, named(&SIZES)?);
                let side = members.get("side").and_then(Value::as_str);
                let side = side.map(|word| ("\"side\"".to_string(), word.to_string()));
                Some((SeenLevel { price: format!("\"{price}\""), size: format!("\"{size}\""), side }, value == 0.0))
            }
            _ => None,
        }
    }
}

/// A number, which many feeds write as a string.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::check;

    fn hint(messages: &[&str]) -> Option<ChangeHint> {
        let values: Vec<Value> = messages.iter().map(|text| serde_json::from_str(text).expect(text)).collect();
        ChangeHint::of(&values)
    }

    /// The messages fit a rule with these keys.
    fn fold(messages: &[&str], keys: &str) {
        let profile = check(&format!("profile = 1\nname = \"x\"\n[on.data]\ntopic = \"t\"\n{keys}"), "x");
        let step = |text: &&str| {
            let is_snapshot = text.contains("\"snapshot\"") || text.contains("\"partial\"");
            let snapshots = if is_snapshot { "[\"t\"]" } else { "[]" };
            format!(r#"{{"gets":{text},"class":"data","topics":["t"],"snapshots":{snapshots}}}"#)
        };
        let steps: Vec<String> = messages.iter().map(step).collect();
        let played = profile.and_then(|profile| profile.check_messages(&steps.join("\n"), "x"));
        assert_eq!(played, Ok(messages.len()), "{keys}");
    }

    #[test]
    fn changes_are_recognised_and_the_rule_is_written() {
        for (messages, what, expected) in [
            (
                vec![
                    r#"{"type":"snapshot","s":"A","bids":[["1","2"]],"asks":[]}"#,
                    r#"{"type":"delta","s":"A","bids":[["1","0"]],"asks":[]}"#,
                ],
                "1 of the first 2 messages look like changes to a book",
                "mode = \"book\"\nsnapshot_when = ['/type == \"snapshot\"']\nbook = { sides = [\"/bids\", \"/asks\"], price = 0, size = 1 }\n",
            ),
            (
                vec![
                    r#"{"channel":"book","type":"update","data":[{"symbol":"A","bids":[{"price":1.5,"qty":2}],"asks":[]}]}"#,
                ],
                "1 of the first 1 messages look like changes to a book",
                "mode = \"book\"\nsnapshot_when = ['/snapshot exists']\nbook = { sides = [\"/data/0/bids\", \"/data/0/asks\"], price = \"price\", size = \"qty\" }\n",
            ),
            (
                vec![r#"{"params":{"data":{"type":"change","bids":[["new",1.5,2]],"asks":[["delete",2,0]]}}}"#],
                "to a book",
                "mode = \"book\"\nsnapshot_when = ['/snapshot exists']\nbook = { sides = [\"/params/data/bids\", \"/params/data/asks\"], price = 1, size = 2 }\n",
            ),
            // Without a word that says so, a level of size 0 does.
            (
                vec![r#"{"s":"A","U":1,"u":2,"b":[["1","0.000"]],"a":[]}"#],
                "to a book",
                "mode = \"book\"\nsnapshot_when = ['/snapshot exists']\nbook = { sides = [\"/b\", \"/a\"], price = 0, size = 1 }\n",
            ),
            (
                vec![
                    r#"{"type":"snapshot","bids":[["1","2"]],"asks":[]}"#,
                    r#"{"type":"l2update","changes":[["buy","1","3"],["sell","2","0.00"]]}"#,
                ],
                "1 of the first 2 messages look like changes to a book",
                "mode = \"book\"\nsnapshot_when = ['/type == \"snapshot\"']\nbook = { sides = [\"/bids\", \"/asks\"], changes = \"/changes\", side = 0, bid = \"buy\", ask = \"sell\", price = 1, size = 2 }\n",
            ),
            (
                vec![
                    r#"{"action":"partial","data":[{"id":1,"size":5}]}"#,
                    r#"{"action":"update","data":[{"id":1,"size":6}]}"#,
                    r#"{"action":"delete","data":[{"id":1}]}"#,
                ],
                "2 of the first 3 messages look like changes to rows",
                "mode = \"merge\"\nsnapshot_when = ['/action == \"partial\"']\nmerge = { at = \"/data\", key = \"id\", remove = '/action == \"delete\"' }\n",
            ),
            (
                vec![
                    r#"{"topic":"t.A","type":"snapshot","data":{"bid":1,"ask":2}}"#,
                    r#"{"topic":"t.A","type":"delta","data":{"bid":3}}"#,
                ],
                "1 of the first 2 messages look like changes to an object",
                "mode = \"merge\"\nsnapshot_when = ['/type == \"snapshot\"']\nmerge = { at = \"/data\" }\n",
            ),
        ] {
            let found = hint(&messages).unwrap_or_else(|| panic!("no hint: {messages:?}"));
            assert_eq!(found.lines(), expected);
            assert!(found.to_string().contains(what), "{found}");
            let is_whole = found.to_string().contains("none of them looks like a snapshot");
            assert_eq!(is_whole, expected.contains("/snapshot exists"), "{found}");
            fold(&messages, &found.lines());
        }
    }

    #[test]
    fn whole_values_are_none() {
        for messages in [
            vec![],
            vec![r#"{"s":"A","bid":1,"ask":2}"#, r#"{"s":"B","bid":1}"#],
            vec![r#"{"lastUpdateId":1,"bids":[["1","2"]],"asks":[["2","3"]]}"#; 2],
            vec![r#"{"event":"data","data":{"bids":[["1","2"]],"asks":[["2","3"]]}}"#; 2],
            // Trades of both sides.
            vec![r#"{"channel":"trade","type":"update","data":[{"side":"buy","price":1,"qty":2}]}"#; 3],
            vec![r#"{"type":"ticker.update","data":{"s":"A","p":1}}"#; 3],
            vec!["[1,[2,0]]", "17"],
        ] {
            assert_eq!(hint(&messages), None, "{messages:?}");
        }
    }
}
