//! Drafts of small feeds, and of recorded ones.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::*;
use crate::intake::recorded::capture;

const BOUNDS: KeepBounds = KeepBounds { of_a_kind: 4, messages: 256, bytes: 1 << 20 };

fn seen(contents: impl IntoIterator<Item = Result<String, Vec<u8>>>) -> Vec<KeptMessage> {
    contents.into_iter().map(|content| KeptMessage { content, received: Stamp::default() }).collect()
}

/// The draft, which a check of it and of the file beside it accepts.
fn drafted(messages: &[KeptMessage]) -> ProfileDraft {
    let url = url::Url::parse("wss://user:secret@stream.acme.example/v3?key=secret").expect("a URL");
    let draft = draft(&url, &[], messages, BOUNDS).unwrap_or_else(|error| panic!("{error}"));
    let profile = check(&draft.text, "acme.toml").expect("checked before");
    let (file, count) = &draft.messages;
    assert_eq!(profile.check_messages(file, "acme.messages.jsonl"), Ok(*count), "{}\n{file}", draft.text);
    assert!(!draft.text.contains("secret"), "{}", draft.text);
    draft
}

#[test]
fn drafts_name_the_topics_of_small_feeds() {
    for (feed, messages, topics, parts) in [
        (
            "quotes",
            vec![
                r#"{"type":"hello"}"#,
                r#"{"type":"quote","symbol":"X1","bid":1,"ask":2,"ts":1767225600000}"#,
                r#"{"type":"quote","symbol":"X2","bid":1,"ask":2,"ts":1767225600001}"#,
                r#"{"ping":7}"#,
                r#"{"type":"heartbeat"}"#,
                r#"{"type":"trade","symbol":"X1","price":1,"ts":1767225600002}"#,
                "ping",
            ],
            vec!["quote.X1", "quote.X2", "trade.X1"],
            vec![
                "hello = { as = \"info\"",
                "reply = '{\"pong\":${/ping}}'",
                "ping_2 = { as = \"ping\", when = ['text == \"ping\"'], reply = 'pong' }",
                "heartbeat = { as = \"heartbeat\"",
                "[on.trade]\nwhen  = ['/type == \"trade\"']\ntopic = \"${/type}.${/symbol}\"\nmode  = \"tail\"",
                "time  = { at = \"/ts\", unit = \"ms\" }",
            ],
        ),
        (
            "lists of trades",
            vec![
                r#"{"type":"trade","data":[{"s":"A","p":1,"t":1767225600},{"s":"B","p":1,"t":1767225600}]}"#,
                r#"{"type":"trade","data":[{"s":"C","p":1,"t":1767225600}]}"#,
            ],
            vec!["trade.A", "trade.B", "trade.C"],
            vec!["each  = \"/data/*\"", "emit  = \"element\"", "time  = { at = \"./t\", unit = \"s\" }"],
        ),
        (
            "combined streams",
            vec![
                r#"{"stream":"a@trade","data":{"e":"trade","p":1}}"#,
                r#"{"stream":"b@trade","data":{"e":"trade","p":2}}"#,
                r#"{"stream":"a@depth@100ms","data":{"U":1,"u":2,"b":[["1","0"]],"a":[]}}"#,
                r#"{"stream":"a@depth@100ms","data":{"U":3,"u":3,"b":[["1","0"]],"a":[]}}"#,
                r#"{"stream":"a@depth@100ms","data":{"U":4,"u":9,"b":[["1","0"]],"a":[]}}"#,
                r#"{"result":null,"id":1}"#,
            ],
            vec!["a@depth@100ms", "a@trade", "b@trade"],
            vec![
                "when  = ['/stream ~= \"^([^@]*@){1}trade(@|$)\"']",
                "mode  = \"none\"",
                "seq   = { rule = \"range\", first = \"/data/U\", last = \"/data/u\" }",
                "answer = { as = \"ack\"",
            ],
        ),
        (
            "a book with deltas",
            vec![
                r#"{"type":"snapshot","product_id":"X1","bids":[["1","2"]],"asks":[["2","2"]]}"#,
                r#"{"type":"l2update","product_id":"X1","changes":[["buy","1","0"]],"time":"2026-01-01T00:00:00Z"}"#,
                r#"{"type":"l2update","product_id":"X1","changes":[["sell","2","0"]],"time":"2026-01-01T00:00:00Z"}"#,
                r#"{"type":"ticker","product_id":"X2","price":"1","sequence":7}"#,
                r#"{"type":"ticker","product_id":"X2","price":"1","sequence":9}"#,
                r#"{"type":"ticker","product_id":"X2","price":"1","sequence":12}"#,
            ],
            vec!["book.X1", "ticker.X2"],
            vec![
                "mode = \"book\"\nsnapshot_when = ['/type == \"snapshot\"']",
                "changes = \"/changes\"",
                "seq   = { rule = \"monotonic\", last = \"/sequence\" }",
            ],
        ),
        (
            "IRC",
            vec![
                ":tmi.twitch.tv 001 x :Welcome\r\n:tmi.twitch.tv 002 x :Host\r\n",
                "PING :tmi.twitch.tv\r\n",
                ":a!a@a PRIVMSG #rust :hello\r\n:a!a@a PRIVMSG #go :bye\r\n",
            ],
            vec!["chat.go", "chat.rust"],
            vec!["format = \"irc\"", "split  = \"lines\"", "reply = \"PONG :${/params/0|text}\""],
        ),
        (
            "a line each",
            vec!["{\"s\":\"A\",\"p\":1}\n{\"s\":\"B\",\"p\":1}\n", "{\"s\":\"A\",\"p\":2}\n{\"s\":\"B\",\"p\":1}"],
            vec!["A", "B"],
            vec!["split = \"lines\""],
        ),
        ("arrays", vec![r#"[1,{"a":1},"book-10","XBT/USD"]"#; 3], vec!["book-10.XBT/USD"], vec!["[on."]),
        ("nothing", vec![], vec![], vec!["# No data came"]),
        ("numbers", vec![r#"{"p":1}"#; 3], vec!["data"], vec!["# No member names an instrument"]),
    ] {
        let draft = drafted(&seen(messages.iter().map(|text| Ok((*text).to_string()))));
        assert_eq!(draft.topics, topics, "{feed}:\n{}", draft.text);
        for part in parts {
            assert!(draft.text.contains(part), "{feed}: {part} in\n{}", draft.text);
        }
    }
}

#[test]
fn recorded_feeds_get_a_draft_that_names_their_data() {
    let mut shares = BTreeMap::new();
    for feed in ["binance-spot", "coinbase-exchange", "deribit", "gemini-v2", "htx", "kraken-v2", "okx-v5", "bitstamp"]
    {
        let Some(lines) = capture(feed) else { return };
        let inbound = lines.iter().filter(|line| line["dir"] == "in").take(2000);
        let content = |line: &Value| match line["data"].as_str() {
            Some(text) => Ok(text.to_string()),
            None => Err(BASE64_STANDARD.decode(line["b64"].as_str().expect("one of both")).expect("base64")),
        };
        let draft = drafted(&seen(inbound.map(content)));
        shares.insert(feed, (draft.named, draft.data));
    }
    let enough = |(named, data): &(usize, usize)| *data > 0 && named * 100 >= data * 95;
    assert!(shares.values().all(enough), "{shares:?}");
}
