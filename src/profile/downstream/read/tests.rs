//! Mistakes are reported with their place and the remedy.

use crate::profile::check;

const PATHS: &str = "[downstream.paths]\n\"/ws\" = {}\n";
const RULE: &str = "[[downstream.on]]\nname = \"r\"\n";

fn error(section: &str) -> String {
    let all = "[[on]]\nname = \"all\"\nas = \"data\"\ntopic = \"${/s}\"\n";
    let text = format!("profile = 1\nname = \"x\"\n{section}{all}");
    check(&text, "my.toml").expect_err(section).to_string()
}

#[test]
fn wrong_dialects_are_refused_with_line_key_and_remedy() {
    for (section, place, part) in [
        ("[downstream]\n".to_string(), "my.toml:3: downstream.paths", "expected `paths"),
        ("[downstream]\npath = {}\n".to_string(), "my.toml:4: downstream.path:", "did you mean `paths`?"),
        ("[downstream]\nnumber = {}\n".to_string(), "my.toml:4: downstream.number", "reserved for a later"),
        (
            "[downstream.paths]\n\"ws\" = {}\n".to_string(),
            "my.toml:4: downstream.paths.ws",
            "expected a path such as `/ws`",
        ),
        (
            "[downstream.paths]\n\"/v1/ws\" = {}\n".to_string(),
            "my.toml:4: downstream.paths./v1/ws",
            "fanline's own protocol",
        ),
        (
            "[downstream.paths]\n\"/ws\" = { items = \"${path}\" }\n".to_string(),
            "my.toml:4: downstream.paths./ws.items",
            "`*` at the end of the path",
        ),
        (
            "[downstream.paths]\n\"/ws\" = { by = \"/\" }\n".to_string(),
            "my.toml:4: downstream.paths./ws.by",
            "expected `items` beside `by`",
        ),
        (
            "[downstream.paths]\n\"/ws\" = { form = \"rw\" }\n[[downstream.forms]]\nname = \"raw\"\n".to_string(),
            "my.toml:4: downstream.paths./ws.form",
            "did you mean `raw`?",
        ),
        (
            "[downstream.paths]\n\"/ws\" = { items = \"${qery.streams}\" }\n".to_string(),
            "my.toml:4: downstream.paths./ws.items",
            "expected one of `path`, `query.NAME`",
        ),
        (format!("{PATHS}{RULE}do = \"subscrib\"\n"), "my.toml:7: downstream.on.1.do", "did you mean `subscribe`?"),
        (format!("{PATHS}{RULE}"), "my.toml:5: downstream.on.1.do", "expected `do = \"subscribe\"`"),
        (format!("{PATHS}{RULE}do = \"set\"\n"), "downstream.on.1.form", "expected `form = \"combined\"`"),
        (format!("{PATHS}{RULE}do = \"refuse\"\n"), "downstream.on.1.refuse", "expected `refuse ="),
        (
            format!("{PATHS}{RULE}do = \"answer\"\neach = \"/a/*\"\n"),
            "my.toml:8: downstream.on.1.each",
            "only in rules that subscribe",
        ),
        (
            format!("{PATHS}{RULE}do = \"subscribe\"\nitem = \"${{./a}}\"\n"),
            "my.toml:8: downstream.on.1.item",
            "expected `each` beside `./a`",
        ),
        (
            format!("{PATHS}{RULE}do = \"answer\"\nreply = \"${{now}}\"\n"),
            "my.toml:8: downstream.on.1.reply",
            "`now.ms`",
        ),
        (
            format!("{PATHS}{RULE}do = \"answer\"\nreply = \"${{topic}}\"\n"),
            "my.toml:8: downstream.on.1.reply",
            "found `topic`",
        ),
        (
            format!("{PATHS}{RULE}do = \"subscribe\"\nby = \",\"\n"),
            "my.toml:8: downstream.on.1.by",
            "expected `split` beside `by`",
        ),
        (
            format!("{PATHS}{RULE}do = \"subscribe\"\nper = \"item\"\nreply = \"${{items}}\"\n"),
            "my.toml:9: downstream.on.1.reply",
            "use `per = \"list\"`",
        ),
        (
            format!("{PATHS}{RULE}when = ['/a ~~ 1']\ndo = \"answer\"\n"),
            "my.toml:7: downstream.on.1.when.1",
            "found `~~`",
        ),
        (
            format!("{PATHS}{RULE}do = \"answer\"\nwith = \"/a/*\"\n"),
            "my.toml:8: downstream.on.1.with",
            "only in rules that subscribe",
        ),
        (
            format!("{PATHS}{RULE}do = \"answer\"\nreply = \"${{kept.nick}}\"\n"),
            "my.toml:8: downstream.on.1.reply",
            "expected a `keep` that sets `nick`",
        ),
        (
            format!("{PATHS}{RULE}do = \"answer\"\nkeep = {{ nick = \"${{/n}}\" }}\nreply = \"${{kept.nik}}\"\n"),
            "my.toml:9: downstream.on.1.reply",
            "did you mean `nick`?",
        ),
        (
            format!("{PATHS}{RULE}do = \"answer\"\nkeep = {{ nick = \"${{item}}\" }}\n"),
            "my.toml:8: downstream.on.1.keep.nick",
            "found `item`",
        ),
        (
            format!("{PATHS}{RULE}do = \"list\"\nreply = \"[${{groups}}]\"\n"),
            "my.toml:8: downstream.on.1.reply",
            "expected `group` in `[downstream]`",
        ),
        (
            format!("[downstream]\nheartbeat = {{ every = \"1s\", send = \"x\", topics = \"beats\" }}\n{PATHS}"),
            "my.toml:4: downstream.heartbeat.topics",
            "expected a pattern with a wildcard",
        ),
        (
            format!("{PATHS}[[downstream.items]]\nlike = \"(\"\ntopics = []\n"),
            "my.toml:6: downstream.items.1.like",
            "unclosed group",
        ),
    ] {
        let error = error(&section);
        assert!(error.contains(place) && error.contains(part), "{section}\n{error}");
    }
    let forms: String = (0..5).map(|number| format!("[[downstream.forms]]\nname = \"f{number}\"\n")).collect();
    let error = error(&format!("{PATHS}{forms}"));
    assert!(error.contains("my.toml:14: downstream.forms.5.name: expected at most 4 forms"), "{error}");
}
