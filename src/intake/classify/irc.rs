//! IRC messages in the JSON form that rules look at.
//!
//! RFC 1459 section 2.3.1, with message tags of IRCv3: `@id=1;a :nick!user@host PRIVMSG #chan :text` becomes
//! `{"tags":{"id":"1","a":""},"prefix":"nick!user@host","command":"PRIVMSG","params":["#chan","text"]}`. Without a
//! prefix there is no member `prefix`.

use crate::json::put_string;

/// Writes the JSON form of a line without its CR LF. False: the line is not an IRC message, and nothing is written.
pub(super) fn write(line: &str, out: &mut String) -> bool {
    out.clear();
    let (tags, rest) = leading(line, '@');
    let (prefix, rest) = leading(rest, ':');
    let (command, mut rest) = word(rest);
    if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    out.push_str("{\"tags\":{");
    for (number, tag) in tags.unwrap_or_default().split(';').filter(|tag| !tag.is_empty()).enumerate() {
        let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
        out.push_str(if number > 0 { "," } else { "" });
        put_string(out, name);
        out.push(':');
        put_tag_value(out, value);
    }
    out.push('}');
    if let Some(prefix) = prefix {
        out.push_str(",\"prefix\":");
        put_string(out, prefix);
    }
    out.push_str(",\"command\":");
    put_string(out, command);
    out.push_str(",\"params\":[");
    let mut between = "";
    while !rest.is_empty() {
        let (param, after) = match rest.strip_prefix(':') {
            Some(last) => (last, ""),
            None => word(rest),
        };
        out.push_str(between);
        put_string(out, param);
        (between, rest) = (",", after);
    }
    out.push_str("]}");
    true
}

/// The first word without its mark, if it has the mark, and the rest.
fn leading(line: &str, mark: char) -> (Option<&str>, &str) {
    match line.strip_prefix(mark) {
        Some(marked) => {
            let (first, rest) = word(marked);
            (Some(first), rest)
        }
        None => (None, line),
    }
}

/// The first word and the rest; more than one space may lie between them.
fn word(line: &str) -> (&str, &str) {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    (first, rest.trim_start_matches(' '))
}

/// IRCv3, message tags, "escaping values".
fn put_tag_value(out: &mut String, value: &str) {
    if !value.contains('\\') {
        return put_string(out, value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.extend(letters.next().map(|escaped| match escaped {
                ':' => ';',
                's' => ' ',
                'r' => '\r',
                'n' => '\n',
                other => other,
            })),
            other => plain.push(other),
        }
    }
    put_string(out, &plain);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::is_json;

    #[test]
    fn lines_become_objects() {
        for (line, expected) in [
            ("PING :tmi.twitch.tv", r#"{"tags":{},"command":"PING","params":["tmi.twitch.tv"]}"#),
            ("RECONNECT", r#"{"tags":{},"command":"RECONNECT","params":[]}"#),
            (
                r"@id=a-b;empty=;flag;t=x\sy\:z\\w\q\ :n!u@h PRIVMSG #chan :hi, : {you} ",
                r##"{"tags":{"id":"a-b","empty":"","flag":"","t":"x y;z\\wq"},"prefix":"n!u@h","command":"PRIVMSG","params":["#chan","hi, : {you} "]}"##,
            ),
            (":server  001  nick :", r#"{"tags":{},"prefix":"server","command":"001","params":["nick",""]}"#),
            ("MODE #a +o \"x\"\t", r##"{"tags":{},"command":"MODE","params":["#a","+o","\"x\"\t"]}"##),
        ] {
            let mut out = String::from("old");
            assert!(write(line, &mut out), "{line}");
            assert_eq!(out, expected, "{line}");
            assert!(is_json(&out), "{out}");
        }
    }

    #[test]
    fn other_text_is_no_message() {
        for line in ["", " ", ":prefix", "@tags", "@tags :prefix ", "{\"a\":1}"] {
            assert!(!write(line, &mut String::new()), "{line}");
        }
    }
}
