//! Every declared key has a reader: it is reported if its value is of a type that no key has.

use crate::profile::check;
use crate::profile::keys::ALL;

/// No reader takes a date.
const DATE: &str = "1979-05-27";

/// Where the keys of a section stand, and what has to stand beside them, key by key: the key in question replaces its
/// namesake. Several lists, where keys exclude each other.
struct Place {
    section: &'static str,
    around: [&'static str; 2],
    beside: &'static [&'static [(&'static str, &'static str)]],
}

const fn place(
    section: &'static str,
    before: &'static str,
    after: &'static str,
    beside: &'static [&'static [(&'static str, &'static str)]],
) -> Place {
    Place { section, around: [before, after], beside }
}

const NOTHING: &[&[(&str, &str)]] = &[&[]];
const DATA: [(&str, &str); 3] = [("name", "'r'"), ("as", "'data'"), ("topic", "'x'")];
const REQUEST: [(&str, &str); 2] = [("name", "'r'"), ("url", "'http://h'")];
const SEQUENCE: &[(&str, &str)] = &[("rule", "'inc'"), ("last", "'/u'"), ("scope", "'connection'")];

const PLACES: &[Place] = &[
    place("top level", "", "", NOTHING),
    place("connect", "connect = {", "}", NOTHING),
    place("open", "open = [{", "}]", NOTHING),
    place("login", "login = {", "}", &[&[("send", "'x'")], &[("send", "'x'"), ("life", "'1m'")]]),
    place("request", "request = [{", "}]", &[&REQUEST, &[REQUEST[0], REQUEST[1], ("life", "'1m'")]]),
    place(
        "snapshot",
        "on = [{ name = 'r', as = 'data', topic = 'x', mode = 'delta', seq = { rule = 'inc', last = '/u' } }]\nsnapshot = {",
        "}",
        &[&[("rule", "'r'"), ("url", "'http://h'"), ("wrap", "'{}'")]],
    ),
    place(
        "request.renew",
        "request = [{ name = 'r', url = 'http://h', life = '1m', renew = {",
        "} }]",
        &[&[REQUEST[1]]],
    ),
    place(
        "sign.NAME",
        "sign = { s = {",
        "} }",
        &[
            &[("alg", "'hmac-sha256'"), ("message", "'m'"), ("key", "{ env = 'E' }")],
            &[("alg", "'jwt-es256'"), ("header", "'{}'"), ("claims", "'{}'"), ("key", "{ env = 'E' }")],
        ],
    ),
    place("sign.NAME.key", "sign = { s = { alg = 'hmac-sha256', message = 'm', key = {", "} } }", &[&[("env", "'E'")]]),
    place("keepalive", "keepalive = {", "}", NOTHING),
    place("keepalive.ping", "keepalive = { ping = {", "} }", &[&[("every", "'1s'"), ("send", "'p'")]]),
    place("subscribe", "subscribe = {", "}", NOTHING),
    place("subscribe.channels.NAME", "subscribe = { channels = { c = {", "} } }", NOTHING),
    place("subscribe.ack", "subscribe = { ack = {", "} }", &[&[("per", "'none'")]]),
    place("send", "send = {", "}", NOTHING),
    place("backoff", "backoff = {", "}", NOTHING),
    place("resume", "resume = {", "}", &[&[("cursor", "'/t'")]]),
    place("client", "client = {", "}", NOTHING),
    place("client.request", "client = { request = {", "} }", &[&[("id", "'/id'")]]),
    place("decode", "decode = {", "}", NOTHING),
    place(
        "seq",
        "seq = {",
        "}",
        &[
            SEQUENCE,
            &[("rule", "'range'"), ("first", "'/f'"), ("last", "'/u'"), ("scope", "'connection'")],
            &[("rule", "'prev'"), ("prev", "'/p'"), ("last", "'/u'"), ("scope", "'connection'")],
        ],
    ),
    place(
        "on",
        "on = [{",
        "}]",
        &[
            &DATA,
            &[DATA[0], DATA[1], DATA[2], ("mode", "'tail'")],
            &[DATA[0], DATA[1], DATA[2], ("each", "'/d/*'")],
            &[DATA[0], DATA[1], DATA[2], ("mode", "'merge'")],
            &[DATA[0], DATA[1], DATA[2], ("mode", "'book'")],
            &[DATA[0], DATA[1], DATA[2], ("mode", "'delta'")],
            &[DATA[0], ("as", "'ack'")],
            &[DATA[0], ("as", "'ping'")],
            &[DATA[0], ("as", "'stale'")],
            &[DATA[0], ("as", "'gap'")],
            &[DATA[0], ("as", "'gap'"), ("until", "'/u'"), ("number", "'/n'")],
        ],
    ),
    place(
        "on.bind",
        "on = [{ name = 'r', as = 'ack', bind = {",
        "} }]",
        &[&[("key", "'${/id}'"), ("set", "{ a = '/a' }")]],
    ),
    place(
        "on.seq",
        "on = [{ name = 'r', as = 'data', topic = 'x', seq = {",
        "} }]",
        &[
            &[("rule", "'inc'"), ("last", "'/u'")],
            &[("rule", "'range'"), ("first", "'/f'"), ("last", "'/u'")],
            &[("rule", "'prev'"), ("prev", "'/p'"), ("last", "'/u'")],
        ],
    ),
    place(
        "on.time",
        "on = [{ name = 'r', as = 'data', topic = 'x', time = {",
        "} }]",
        &[&[("at", "'/t'"), ("unit", "'ms'")]],
    ),
    place(
        "on.merge",
        "on = [{ name = 'r', as = 'data', topic = 'x', mode = 'merge', snapshot_when = [], merge = {",
        "} }]",
        &[&[("at", "'./d'")], &[("at", "'./d'"), ("key", "'id'")]],
    ),
    place(
        "on.book",
        "on = [{ name = 'r', as = 'data', topic = 'x', mode = 'book', snapshot_when = [], book = {",
        "} }]",
        &[
            &[("price", "0"), ("size", "1"), ("sides", "['./b', './a']")],
            &[("price", "0"), ("size", "1"), ("changes", "'./c'"), ("side", "2"), ("bid", "'b'"), ("ask", "'a'")],
            &[("price", "0"), ("size", "1"), ("changes", "'./c'"), ("sign", "2")],
        ],
    ),
    place(
        "on.book.checksum",
        "on = [{ name = 'r', as = 'data', topic = 'x', mode = 'book', snapshot_when = [], book = { price = 0, size = 1, sides = ['./b', './a'], checksum = {",
        "} } }]",
        &[&[("at", "'./c'"), ("levels", "10"), ("order", "'alternating'")]],
    ),
    place(
        "on.delta_limit",
        "on = [{ name = 'r', as = 'data', topic = 'x', mode = 'delta', delta_limit = {",
        "} }]",
        NOTHING,
    ),
    place("downstream", "downstream = {", "}", &[&[("paths", "{ '/ws' = {} }")]]),
    place("downstream.paths", "downstream = { paths = { '/ws' = {", "} } }", &[&[("items", "'${query.streams}'")]]),
    place("downstream.forms", "downstream = { paths = {}, forms = [{", "}] }", &[&[("name", "'raw'")]]),
    place(
        "downstream.items",
        "downstream = { paths = {}, items = [{",
        "}] }",
        &[&[("like", "'^a'"), ("topics", "['${item}']")]],
    ),
    place(
        "downstream.heartbeat",
        "downstream = { paths = {}, heartbeat = {",
        "} }",
        &[&[("every", "'1s'"), ("send", "'x'")]],
    ),
    place(
        "downstream.on",
        "downstream = { paths = {}, on = [{",
        "}] }",
        &[
            &[("name", "'r'"), ("do", "'subscribe'")],
            &[("name", "'r'"), ("do", "'subscribe'"), ("split", "'/p'")],
            &[("name", "'r'"), ("do", "'set'")],
        ],
    ),
];

/// A profile with a date as the value of this key.
fn with_date(place: &Place, beside: &[(&str, &str)], key: &str) -> String {
    let (separator, required) = if place.section == "top level" {
        ("\n", [("profile", "1"), ("name", "'t'"), ("on", "[{ name = 'r', as = 'ignore' }]")].to_vec())
    } else {
        (", ", beside.to_vec())
    };
    let others = required.iter().filter(|(name, _)| *name != key).map(|(name, value)| format!("{name} = {value}"));
    let keys: Vec<String> = others.chain([format!("{key} = {DATE}")]).collect();
    let [before, after] = place.around;
    let mut text = format!("{before}{}{after}\n", keys.join(separator));
    if place.section != "top level" {
        text.push_str("profile = 1\nname = 't'\n");
        if !before.starts_with("on = [") {
            text.push_str("on = [{ name = 'r', as = 'ignore' }]\n");
        }
    }
    text
}

#[test]
fn every_declared_key_is_read() {
    for keys in ALL {
        let place = PLACES.iter().find(|place| place.section == keys.section);
        let place = place.unwrap_or_else(|| panic!("expected a place for the keys of `{}`, found none", keys.section));
        for key in keys.names() {
            let errors = place.beside.iter().map(|beside| check(&with_date(place, beside, key), "t").err());
            let errors: Vec<_> = errors.collect();
            let is_read = errors.iter().flatten().any(|error| {
                error.key.rsplit('.').next() == Some(key) && error.problem.ends_with("found a TOML datetime")
            });
            assert!(is_read, "nothing reads `{key}` of `{}`: {errors:?}", keys.section);
        }
    }
}
